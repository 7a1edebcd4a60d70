//! One Chromium: found, started, watched and taken down again. It cannot outlive this process, not even when this
//! process is SIGKILLed: see `browser/watchdog.sh`.

mod devtools;
mod dialogs;
mod ends;
mod flags;
pub mod proxy;
mod scratch;
mod tab;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use chromiumoxide::auth::Credentials;
use chromiumoxide::cdp::browser_protocol::browser::CloseParams;
use chromiumoxide::cdp::browser_protocol::fetch::{EnableParams, RequestPattern};
use chromiumoxide::error::CdpError;
use chromiumoxide::handler::HandlerConfig;
use futures::StreamExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::BrowserSettings;
use crate::policy::{BROWSER_LOST, Failure, PAGE_LOST};
use devtools::DevTools;
use ends::Ends;
pub(crate) use flags::NOT_FOR_OPERATORS;
pub use greenroom_domain::network::{AllowedNetwork, AllowedNetworks};
use proxy::Proxy;
pub use scratch::Scratch;
pub use tab::{Called, Tab, World};

/// Why the browser did not do what it was told. Never holds an address, a page's text or an expression: what the
/// browser itself says may contain all of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No browser is installed where we look.
    #[error("no browser found: install chromium, or name one in CHROMIUM")]
    NotFound,
    /// The directory for its profile could not be made.
    #[error("no room for the browser's profile")]
    Profile(#[source] std::io::Error),
    /// Its proxy could not be started.
    #[error("the browser's proxy could not listen")]
    Proxy(#[source] std::io::Error),
    /// Its process could not be started.
    #[error("the browser could not be started")]
    Spawn(#[source] std::io::Error),
    /// It ended, or did not answer in time.
    #[error("the browser did not come up: {0}")]
    Launch(&'static str),
    /// It was started and is gone.
    #[error("the browser is gone")]
    Gone,
    /// The process of the page ended.
    #[error("the page's process ended")]
    Crashed,
    /// The page closed itself.
    #[error("the page closed itself")]
    Closed,
    /// A command failed.
    #[error("the browser could not {doing}: {why}")]
    Command {
        /// What was asked of it, in our words.
        doing: &'static str,
        /// The kind of error, in our words.
        why: &'static str,
    },
}

/// What it says of a machine that lets it make no sandbox.
const NO_SANDBOX: &str = "its sandbox is not available here; GREENROOM_SANDBOX=off starts it without";

impl Error {
    /// Whether it would have come up without its sandbox.
    #[must_use]
    pub fn lacks_sandbox(&self) -> bool {
        matches!(self, Self::Launch(NO_SANDBOX))
    }

    /// Whether nothing that is asked of this tab will be answered any more.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Gone | Self::Crashed | Self::Closed)
    }

    /// What it means for an attempt. Logs it.
    #[must_use]
    pub fn failure(&self) -> Failure {
        use std::error::Error as _;
        let source = self.source().map(ToString::to_string).unwrap_or_default();
        tracing::error!(event = "browser.failed", error = %self, source, "the browser failed");
        match self {
            Self::NotFound => Failure::lasting("browser_failed", "no browser is installed where the runner runs"),
            Self::Launch(why) => Failure::passing("browser_failed", why),
            Self::Profile(_) => Failure::passing("runner_failed", "no room for the browser's profile"),
            Self::Proxy(_) => Failure::passing("runner_failed", "no port for the browser's proxy"),
            Self::Spawn(_) => Failure::passing("browser_failed", "the browser could not be started"),
            Self::Crashed => Failure::passing("browser_failed", "the browser's process for the page ended"),
            Self::Closed => Failure { detail: "the meeting page closed itself", ..PAGE_LOST },
            Self::Gone | Self::Command { .. } => BROWSER_LOST,
        }
    }
}

/// How long Chromium may take to answer first: a cold start on a busy machine with a slow disk.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(45);
/// A directory with a longer path has no room for Chromium's socket (`/org.chromium.Chromium.XXXXXX/SingletonSocket`),
/// whose path ends at 107 bytes.
const SOCKET_ROOM: usize = 60;
/// Names of the runner's environment that the browser gets: where programs, libraries and fonts are, and which language and time
/// pages see. The rest is the runner's own, its token and its gateway's address among it.
const PASSED_ON: [&str; 9] = [
    "PATH",
    "LD_LIBRARY_PATH",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "TZ",
    "FONTCONFIG_FILE",
    "FONTCONFIG_PATH",
    // A sandbox that is installed elsewhere than beside the browser.
    "CHROME_DEVEL_SANDBOX",
];
/// How many times the browser is asked to show its proxy the password.
const SIGN_INS: u32 = 5;
/// How long one command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);

/// A running browser. Dropping it kills it.
pub struct Browser {
    cdp: Arc<chromiumoxide::Browser>,
    tabs: dialogs::Tabs,
    watchdog: Child,
    gone: CancellationToken,
    proxy: Arc<Proxy>,
    scratch: Scratch,
}

impl Browser {
    /// Starts a browser with a fresh profile below `scratch`, which is removed with it. Its pages reach public addresses,
    /// and those that are `allowed`.
    ///
    /// # Errors
    /// When none is installed, or it does not come up.
    #[tracing::instrument(name = "launch_browser", skip_all)]
    pub async fn launch(
        settings: &BrowserSettings,
        scratch: Scratch,
        allowed: &AllowedNetworks,
    ) -> Result<Self, Error> {
        let executable = find(settings)?;
        let root = nix::unistd::geteuid().is_root();
        let proxy = Proxy::start(allowed.clone(), proxy::System).await.map_err(Error::Proxy)?;
        let public_only = *allowed == AllowedNetworks::default();
        let mut arguments = flags::all(settings, scratch.path(), root).map_err(Error::Profile)?;
        arguments.splice(0..0, public_only.then(|| flags::PUBLIC_ONLY.to_owned()));
        // The last of a kind counts: these come after an operator's.
        arguments.extend(flags::through(proxy.address()));
        arguments.push("about:blank".to_owned());
        if root && !settings.sandbox_off {
            tracing::warn!(event = "browser.sandbox_off", "running as root: chromium started without its sandbox");
        }
        let (mut devtools, browsers) = DevTools::pair().map_err(Error::Spawn)?;
        let watchdog = Command::new("sh")
            .arg("-c")
            .arg(include_str!("browser/watchdog.sh"))
            .arg("greenroom-watchdog")
            .arg(scratch.path())
            .arg(&executable)
            .args(&arguments)
            .env_clear()
            .envs(PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))))
            // Chromium and its launcher look for these, and must neither find nor change a person's own.
            .env("HOME", scratch.path())
            .env("XDG_CONFIG_HOME", scratch.path())
            .env("XDG_CACHE_HOME", scratch.path())
            .env(
                "TMPDIR",
                if scratch.path().as_os_str().len() <= SOCKET_ROOM { scratch.path() } else { Path::new("/tmp") },
            )
            .process_group(0)
            .stdin(Stdio::piped())
            // The shell passes it on to the browser.
            .stdout(Stdio::from(browsers))
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::Spawn)?;

        match timeout(LAUNCH_TIMEOUT, devtools.answers()).await {
            Ok(true) => {}
            Ok(false) => return Err(Error::Launch(complaint(scratch.path()).await.unwrap_or("it ended at once"))),
            Err(_) => {
                return Err(Error::Launch(complaint(scratch.path()).await.unwrap_or("it did not answer in time")));
            }
        }
        let config = HandlerConfig { viewport: None, request_timeout: COMMAND_TIMEOUT, ..HandlerConfig::default() };
        let connected = timeout(COMMAND_TIMEOUT, devtools.connect(config)).await.unwrap_or(Err(CdpError::Timeout));
        let (cdp, mut handler) =
            connected.map_err(|error| Error::Command { doing: "be connected to", why: kind(&error) })?;
        let gone = CancellationToken::new();
        let ended = gone.clone().drop_guard();
        // In no span: it would be part of the launch for as long as the browser lives.
        let handling = async move {
            let _ended = ended;
            // Polled all the time, or nothing moves. Only a broken connection is an end.
            while let Some(event) = handler.next().await {
                if matches!(event, Err(CdpError::Ws(_) | CdpError::Io(_))) {
                    break;
                }
            }
        };
        drop(greenroom_tasks::spawn("runner browser connection", handling));
        let browser = Self {
            cdp: Arc::new(cdp),
            tabs: dialogs::Tabs::default(),
            watchdog,
            gone,
            proxy: Arc::new(proxy),
            scratch,
        };
        browser.sign_in().await?;
        Ok(browser)
    }

    /// Has the browser learn its proxy's password, which it then sends with every request by itself. A flag could not
    /// hold it: other users read those.
    async fn sign_in(&self) -> Result<(), Error> {
        let page = self.within("open a tab", self.cdp.new_page("about:blank")).await?;
        let (username, password) = self.proxy.credentials();
        let credentials = Credentials { username: username.to_owned(), password: password.to_owned() };
        self.within("take a password", page.authenticate(credentials)).await?;
        // The library asks for it as well, and does not wait: a request that is sent before would wait for a person.
        let every = RequestPattern::builder().url_pattern("*").build();
        let asked = EnableParams::builder().handle_auth_requests(true).pattern(every).build();
        self.within("take a password", page.execute(asked)).await?;
        for _ in 0..SIGN_INS {
            let request = format!("fetch('{}', {{ mode: 'no-cors' }}).then(() => true, () => false)", proxy::SIGN_IN);
            let _ = self.within("find its proxy", page.evaluate(request)).await?;
            if self.proxy.signed_in() {
                let _ = self.within("close a tab", page.close()).await;
                return Ok(());
            }
        }
        Err(Error::Launch("it does not use its proxy"))
    }

    /// Opens an empty tab. From then on, dialogs that its page opens are accepted and windows are closed.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn tab(&self) -> Result<Tab, Error> {
        let mut tabs = self.tabs.lock().await;
        let page = self.within("open a tab", self.cdp.new_page("about:blank")).await?;
        let first = tabs.is_empty();
        tabs.insert(page.target_id().clone());
        drop(tabs);
        self.within("listen to dialogs", dialogs::accept(page.clone())).await?;
        if first {
            self.within("listen to windows", dialogs::close_windows(self.cdp.clone(), self.tabs.clone())).await?;
        }
        let ends = Ends::new(self.gone.clone());
        self.within("listen to crashes", ends.watch(&self.cdp, page.target_id().clone())).await?;
        Ok(Tab::new(page, ends, self.proxy.clone()))
    }

    /// What it is called and which version it is, as it says itself: `Chrome/142.0.0.0`.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub async fn version(&self) -> Result<String, Error> {
        self.within("say its version", self.cdp.version()).await.map(|version| version.product)
    }

    /// Ends when the browser is gone, for whatever reason.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// The directory that lives as long as the browser.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Closes the browser: asks it first, then kills what is left, and waits until nothing is.
    pub async fn close(mut self) {
        let _ = timeout(Duration::from_secs(2), self.cdp.execute(CloseParams::default())).await;
        drop(self.watchdog.stdin.take());
        if timeout(Duration::from_secs(5), self.watchdog.wait()).await.is_err() {
            tracing::warn!(event = "browser.watchdog_stuck", "the browser's watchdog did not end");
        }
    }

    async fn within<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, CdpError>>,
    ) -> Result<T, Error> {
        tab::bounded(&Ends::new(self.gone.clone()), doing, work).await
    }
}

/// The browser to start.
fn find(settings: &BrowserSettings) -> Result<PathBuf, Error> {
    if let Some(path) = &settings.executable {
        return if path.is_file() { Ok(path.clone()) } else { Err(Error::NotFound) };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .flat_map(|name| std::env::split_paths(&path).map(move |dir| dir.join(name)))
        .find(|candidate| candidate.is_file())
        .ok_or(Error::NotFound)
}

/// What the browser complained about, in our words: its log may hold addresses and is never repeated.
async fn complaint(directory: &Path) -> Option<&'static str> {
    let log = tokio::fs::read(directory.join("browser.log")).await.ok()?;
    let log = String::from_utf8_lossy(&log);
    [
        ("No usable sandbox", NO_SANDBOX),
        ("Running as root without --no-sandbox", "it refuses to run as root with its sandbox; GREENROOM_SANDBOX=off"),
        ("error while loading shared libraries", "a shared library is missing"),
        ("setsid: not found", "setsid is needed"),
        ("setsid: ", "it could not be executed"),
        ("setpriv: ", "it could not be executed"),
    ]
    .iter()
    .find_map(|(sign, why)| log.contains(sign).then_some(*why))
}

/// The kind of a CDP error: its text is never shown, because it may contain addresses and expressions.
fn kind(error: &CdpError) -> &'static str {
    match error {
        CdpError::Ws(_) | CdpError::Io(_) | CdpError::NoResponse | CdpError::ChannelSendError(_) => {
            "the connection broke"
        }
        CdpError::Timeout => "no answer in time",
        CdpError::JavascriptException(_) => "the page threw an error",
        CdpError::Serde(_) | CdpError::InvalidMessage(..) | CdpError::DecodeError(_) => "the answer could not be read",
        CdpError::NotFound | CdpError::FrameNotFound(_) => "not found",
        _ => "it was refused",
    }
}
