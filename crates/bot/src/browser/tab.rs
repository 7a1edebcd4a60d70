//! One tab: the few things the runner asks of it, each within a bound, no error with a page's words in it.

use std::sync::Arc;
use std::time::Duration;

use chromiumoxide::Page;
use chromiumoxide::cdp::browser_protocol::browser::GetVersionParams;
use chromiumoxide::cdp::browser_protocol::page::{
    AddScriptToEvaluateOnNewDocumentParams, CaptureScreenshotFormat, CaptureScreenshotParams,
    CreateIsolatedWorldParams, FrameId, GetFrameTreeParams, NavigateParams,
};
use chromiumoxide::cdp::js_protocol::runtime::{AddBindingParams, EvaluateParams, EventBindingCalled};
use chromiumoxide::error::CdpError;
use futures::{Stream, StreamExt as _};
use serde::de::DeserializeOwned;
use serde_json::Value;
use uuid::Uuid;

use super::proxy::{Proxy, Trouble};
use super::{Ends, Error, kind};

/// Where a script runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// Among the page's own objects, where the page can change everything.
    Page,
    /// In the runner's own, which the page does not reach.
    Runner,
}

/// A call of a bound function.
#[derive(Debug)]
pub struct Called(pub String);

/// A tab. What the runner asks of a page is evaluated in a JavaScript world of its own: it sees the page's elements and none
/// of its objects, so that a page which replaces `JSON.stringify` or a prototype neither hears the question nor changes the
/// answer.
#[derive(Clone)]
pub struct Tab {
    page: Page,
    ends: Ends,
    proxy: Arc<Proxy>,
    /// The name of that world.
    world: Arc<str>,
}

/// How long the browser may take for one answer.
const ANSWER: Duration = Duration::from_secs(20);
/// How long a browser that is asked whether it is well may take.
const WELL: Duration = Duration::from_secs(5);

impl Tab {
    pub(super) fn new(page: Page, ends: Ends, proxy: Arc<Proxy>) -> Self {
        Self { page, ends, proxy, world: format!("greenroom-{}", Uuid::new_v4().simple()).into() }
    }

    /// Why there was no connection for the page that the tab was to show; `None`: it shows a page, or something else went
    /// wrong.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn trouble(&self) -> Result<Option<Trouble>, Error> {
        let doing = "say what it shows";
        let tree = bounded(&self.ends, doing, self.page.execute(GetFrameTreeParams::default())).await?.result;
        let unreachable = tree.frame_tree.frame.unreachable_url.and_then(|url| url::Url::parse(&url).ok());
        Ok(unreachable.and_then(|url| self.proxy.trouble(url.host_str()?, url.port_or_known_default()?)))
    }

    /// Goes to an address, and waits until its server begins to answer. `Ok(Some(code))` is the network error
    /// (`net::ERR_…`) that came instead of a page.
    ///
    /// # Errors
    /// When the browser does not answer; because the page's server does not, as a rule: see [`Tab::browser_answers`].
    pub async fn navigate(&self, url: &str) -> Result<Option<String>, Error> {
        let params = NavigateParams::builder()
            .url(url)
            .build()
            .map_err(|_| Error::Command { doing: "go", why: "no address" })?;
        let answer = bounded(&self.ends, "go to the page", self.page.execute(params)).await?;
        Ok(answer.result.error_text.filter(|text| !text.is_empty()).map(|text| {
            // Only the code: the text goes on with the address.
            text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
                .find(|word| word.starts_with("ERR_"))
                .unwrap_or("ERR_UNKNOWN")
                .to_owned()
        }))
    }

    /// Whether the browser itself answers, whatever its page does.
    pub async fn browser_answers(&self) -> bool {
        let asked = bounded(&self.ends, "say its version", self.page.execute(GetVersionParams::default()));
        matches!(tokio::time::timeout(WELL, asked).await, Ok(Ok(_)))
    }

    /// Evaluates an expression in the runner's world of the page, waits for it where it is a promise, and reads its value.
    ///
    /// # Errors
    /// When the page throws, does not answer, or answers something else.
    pub async fn ask<T: DeserializeOwned>(&self, doing: &'static str, expression: &str) -> Result<T, Error> {
        // Asked for each time: the world ends with its document, and its number may then belong to the page's own.
        let world = CreateIsolatedWorldParams::builder()
            .frame_id(FrameId::new(self.page.target_id().as_ref()))
            .world_name(&*self.world)
            .build()
            .map_err(|_| Error::Command { doing, why: "no frame" })?;
        let world = bounded(&self.ends, doing, self.page.execute(world)).await?.result.execution_context_id;
        let params = EvaluateParams::builder()
            .expression(expression)
            .context_id(world)
            .return_by_value(true)
            .await_promise(true)
            .user_gesture(true)
            .build()
            .map_err(|_| Error::Command { doing, why: "nothing to ask" })?;
        let answer = bounded(&self.ends, doing, self.page.execute(params)).await?.result;
        if answer.exception_details.is_some() {
            return Err(Error::Command { doing, why: "the page threw an error" });
        }
        serde_json::from_value(answer.result.value.unwrap_or(Value::Null))
            .map_err(|_| Error::Command { doing, why: "the answer could not be read" })
    }

    /// Runs a script in a world before any script of any page that this tab opens from now on, in each of its frames.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn before_pages(&self, world: World, script: String) -> Result<(), Error> {
        let mut params = AddScriptToEvaluateOnNewDocumentParams::builder().source(script);
        if world == World::Runner {
            params = params.world_name(&*self.world);
        }
        let params = params.build().map_err(|_| Error::Command { doing: "take a script", why: "it is empty" })?;
        bounded(&self.ends, "take a script", self.page.execute(params)).await.map(drop)
    }

    /// Gives the runner's world a function `name(text)`; what it is called with comes out of the stream.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn bind(&self, name: &str) -> Result<impl Stream<Item = Called> + Send + Unpin + 'static, Error> {
        let calls = bounded(&self.ends, "listen", self.page.event_listener::<EventBindingCalled>()).await?;
        let mut binding = AddBindingParams::new(name);
        binding.execution_context_name = Some(self.world.to_string());
        bounded(&self.ends, "bind a function", self.page.execute(binding)).await?;
        let name = name.to_owned();
        Ok(calls
            .filter_map(move |call| std::future::ready((call.name == name).then(|| Called(call.payload.clone()))))
            .boxed())
    }

    /// A picture of what is visible, as JPEG.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn screenshot(&self) -> Result<Vec<u8>, Error> {
        self.picture(CaptureScreenshotFormat::Jpeg).await
    }

    /// A picture of what is visible, as PNG.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn screenshot_png(&self) -> Result<Vec<u8>, Error> {
        self.picture(CaptureScreenshotFormat::Png).await
    }

    async fn picture(&self, format: CaptureScreenshotFormat) -> Result<Vec<u8>, Error> {
        use base64::Engine as _;
        let mut params = CaptureScreenshotParams::builder().format(format.clone());
        if format == CaptureScreenshotFormat::Jpeg {
            params = params.quality(75);
        }
        let answer = bounded(&self.ends, "take a picture", self.page.execute(params.build())).await?;
        base64::engine::general_purpose::STANDARD
            .decode(AsRef::<[u8]>::as_ref(&answer.result.data))
            .map_err(|_| Error::Command { doing: "take a picture", why: "the answer could not be read" })
    }
}

/// Waits for an answer, but neither for ever nor for a browser that is gone.
pub(super) async fn bounded<T>(
    ends: &Ends,
    doing: &'static str,
    work: impl Future<Output = Result<T, CdpError>>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        end = ends.end() => Err(end),
        answer = tokio::time::timeout(ANSWER, work) => match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Error::Command { doing, why: kind(&error) }),
            Err(_) => Err(Error::Command { doing, why: "no answer in time" }),
        },
    }
}
