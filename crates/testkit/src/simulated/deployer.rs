//! The driver of a simulated platform.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use greenroom_deployer::{
    Capabilities, Deployer, Error, Launch, Listed, LogStream, Observed, Preparation, Progress, Pulls,
};
use greenroom_domain::{RunnerId, Standing};
use reqwest::{Client, Method, Response, StatusCode};
use serde::Serialize;

use super::images::Image;
use super::server::{
    ChangesBody, DescribeBody, EnsureBody, EnsuredBody, ErrorBody, ListedBody, ObservedBody, PrepareBody, PullBody,
    StopBody,
};

/// After this long there is no answer, unless somebody says otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

/// Speaks to a [`SimulatedPlatform`](super::SimulatedPlatform).
#[derive(Debug, Clone)]
pub struct SimulatedDeployer {
    url: String,
    client: Client,
    pulls: Pulls<Image>,
    pooled: bool,
}

/// A node that has just pulled takes so many starts at a time of those who waited.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(4).expect("more than none");

impl SimulatedDeployer {
    /// A driver for what [`SimulatedPlatform::url`](super::SimulatedPlatform::url) says.
    ///
    /// # Panics
    /// When the HTTP client cannot be set up, which no input can cause.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self::with_patience(url, PATIENCE)
    }

    /// A driver that waits so long for an answer.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    #[must_use]
    pub fn with_patience(url: impl Into<String>, patience: Duration) -> Self {
        // The client wants one, though nothing here is encrypted; whoever was first has set it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().timeout(patience).build().expect("a client");
        Self { url: url.into(), client, pulls: Pulls::at_once(Some(AT_ONCE)), pooled: false }
    }

    /// The same, with standing slots.
    #[must_use]
    pub fn pooled(self, pooled: bool) -> Self {
        Self { pooled, ..self }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> Result<Response, Error> {
        let unanswered = |error: reqwest::Error| Error::Transient(error.without_url().to_string());
        let request = self.client.request(method, format!("{}{path}", self.url));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.map_err(unanswered)?;
        if answer.status().is_success() || answer.status() == StatusCode::NOT_FOUND {
            return Ok(answer);
        }
        let status = answer.status();
        Err(answer.json::<ErrorBody>().await.map_or_else(|_| Error::Transient(status.to_string()), Error::from))
    }

    async fn read<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        read(self.ask(Method::GET, path, None::<&()>).await?).await
    }
}

async fn read<T: serde::de::DeserializeOwned>(answer: Response) -> Result<T, Error> {
    answer.json().await.map_err(|error| Error::Transient(error.without_url().to_string()))
}

impl Deployer for SimulatedDeployer {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: "simulated",
            isolation: "none",
            logs: true,
            out_of_memory: false,
            signals: true,
            max_lifetime: true,
            pooled: self.pooled,
        }
    }

    async fn ensure(&self, launch: &Launch, progress: &Progress) -> Result<(), Error> {
        let body = EnsureBody {
            spec: launch.spec.clone(),
            environment: launch.environment.clone(),
            start_by: launch.start_by,
            standing: launch.standing,
        };
        let mut pulled = None;
        // An image that is gone again before it was of use is bad luck, and no reason to go on for ever.
        for _ in 0..2 {
            let answer = self.ask(Method::POST, "/runners", Some(&body)).await?;
            let EnsuredBody::Missing(image) = read(answer).await? else { return Ok(()) };
            let pull = PullBody { runner: launch.spec.runner, image: image.clone() };
            let pull = async |progress: Progress| {
                progress.say("pulling");
                self.ask(Method::POST, "/pulls", Some(&pull)).await.map(drop)
            };
            // Kept until the start is accepted, or until this one has to be pulled again.
            drop(pulled.take());
            pulled = Some(self.pulls.pull(image, progress, pull).await?);
        }
        Err(Error::Transient("the image is gone again".to_owned()))
    }

    async fn inspect(&self, runner: RunnerId) -> Result<Observed, Error> {
        Ok(match self.read(&format!("/runners/{runner}")).await? {
            ObservedBody::Running => Observed::Running,
            ObservedBody::Exited(exit) => Observed::Exited(exit),
            ObservedBody::Gone => Observed::Gone,
        })
    }

    async fn stop(&self, runner: RunnerId, grace: Duration) -> Result<(), Error> {
        let body = StopBody { grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) };
        self.ask(Method::POST, &format!("/runners/{runner}/stop"), Some(&body)).await.map(|_| ())
    }

    async fn remove(&self, runner: RunnerId) -> Result<(), Error> {
        self.ask(Method::DELETE, &format!("/runners/{runner}"), None::<&()>).await.map(|_| ())
    }

    fn list(&self) -> BoxStream<'_, Result<Vec<Listed>, Error>> {
        let list = async {
            let listed: Vec<ListedBody> = self.read("/runners").await?;
            Ok(listed.into_iter().map(|listed| Listed { runner: listed.runner, running: listed.running }).collect())
        };
        stream::once(list).boxed()
    }

    /// Ends when the platform does not answer, or tells nothing.
    fn watch(&self) -> Option<BoxStream<'_, RunnerId>> {
        let changes = stream::unfold(None, move |after: Option<usize>| async move {
            let query = after.map(|after| format!("?after={after}")).unwrap_or_default();
            let changes: ChangesBody = self.read(&format!("/changes{query}")).await.ok()?;
            changes.watch.then(|| (stream::iter(changes.ended), Some(changes.next)))
        });
        Some(changes.flatten().boxed())
    }

    async fn logs(&self, runner: RunnerId, _: bool, tail_lines: Option<u32>) -> Result<Option<LogStream>, Error> {
        let answer = self.ask(Method::GET, &format!("/runners/{runner}/logs"), None::<&()>).await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let text = answer.text().await.map_err(|error| Error::Transient(error.without_url().to_string()))?;
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let from = tail_lines.map_or(0, |tail| lines.len().saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX)));
        let bytes = Bytes::from(lines[from..].concat());
        Ok(Some(stream::once(async move { Ok(bytes) }).boxed()))
    }

    async fn prepare(&self, preparation: &Preparation, _: &Progress) -> Result<(), Error> {
        let body = PrepareBody {
            name: preparation.name.clone(),
            provider: preparation.provider.clone(),
            image: preparation.image.clone(),
            resources: preparation.resources,
            prepare_by: preparation.prepare_by,
        };
        self.ask(Method::PUT, &format!("/slots/{}", preparation.standing), Some(&body)).await.map(drop)
    }

    async fn reset(&self, standing: Standing) -> Result<(), Error> {
        self.ask(Method::POST, &format!("/slots/{standing}/reset"), None::<&()>).await.map(drop)
    }

    async fn retire(&self, standing: Standing) -> Result<(), Error> {
        self.ask(Method::DELETE, &format!("/slots/{standing}"), None::<&()>).await.map(drop)
    }

    async fn describe(&self, standing: Standing, description: &str) -> Result<(), Error> {
        let body = DescribeBody { description: description.to_owned() };
        self.ask(Method::PUT, &format!("/slots/{standing}/description"), Some(&body)).await.map(drop)
    }

    fn list_standing(&self) -> BoxStream<'_, Result<Vec<Standing>, Error>> {
        stream::once(self.read("/slots")).boxed()
    }
}
