//! `greenroom-bot check`: whether a runner would work here, before a bot needs it. No meeting, no gateway, no network.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::browser::{AllowedNetworks, Browser, Error, Scratch};
use crate::config::BrowserSettings;

/// What was found, as `check` prints it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of the runner.
    pub version: &'static str,
    /// Name and version of the browser that came up, as it says itself.
    pub browser: String,
    /// The browser has its own sandbox around its pages. Root never has it.
    pub sandbox: bool,
    /// It can record what it hears: WebM with Opus.
    pub records: bool,
    /// It can attend a call: WebRTC.
    pub calls: bool,
    /// Who runs us, by number.
    pub user: u32,
    /// Linux capabilities that we have (`CapEff`, hexadecimal); none where there is no `/proc`.
    pub capabilities: Option<String>,
    /// Nothing that is started here gains rights (`NoNewPrivs`).
    pub no_new_privileges: Option<bool>,
    /// Whether the root of the file system can be written to.
    pub writable_root: bool,
    /// Where the browser's profile goes.
    pub temporary: PathBuf,
    /// From nothing to a page, in seconds.
    pub seconds: f64,
}

/// Starts a browser as a bot would, asks it what it can do, and ends it.
///
/// # Errors
/// When no browser is there, or it does not come up: the reason is in our words.
pub async fn check(settings: &BrowserSettings) -> Result<Report, Error> {
    let began = Instant::now();
    let scratch = Scratch::new("check").map_err(Error::Profile)?;
    let browser = Browser::launch(settings, scratch, &AllowedNetworks::default()).await?;
    let found = look(&browser, settings, began).await;
    browser.close().await;
    found
}

async fn look(browser: &Browser, settings: &BrowserSettings, began: Instant) -> Result<Report, Error> {
    let tab = browser.tab().await?;
    let (records, calls) = tab
        .ask(
            "say what it can do",
            "[MediaRecorder.isTypeSupported('audio/webm;codecs=opus'), typeof RTCPeerConnection === 'function']",
        )
        .await?;
    let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    let user = nix::unistd::geteuid();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        browser: browser.version().await?,
        sandbox: !(user.is_root() || settings.sandbox_off),
        records,
        calls,
        user: user.as_raw(),
        capabilities: field(&status, "CapEff").map(str::to_owned),
        no_new_privileges: field(&status, "NoNewPrivs").map(|value| value == "1"),
        writable_root: nix::unistd::access(Path::new("/"), nix::unistd::AccessFlags::W_OK).is_ok(),
        temporary: std::env::temp_dir(),
        seconds,
    })
}

/// A line of `/proc/self/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let status = "Name:\tx\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n";
        assert_eq!(field(status, "CapEff"), Some("0000000000000000"));
        assert_eq!(field(status, "NoNewPrivs"), Some("1"));
        assert_eq!(field(status, "NoNew"), None);
    }

    #[tokio::test]
    async fn a_browser_that_is_not_there_is_said_so() {
        let settings = BrowserSettings { executable: Some("/nowhere/chromium".into()), ..BrowserSettings::default() };
        assert!(matches!(check(&settings).await, Err(Error::NotFound)));
    }

    #[tokio::test]
    async fn the_browser_of_this_machine_records_and_calls() {
        let report = check(&BrowserSettings::default()).await.unwrap();
        assert!(report.records && report.calls, "{report:?}");
        assert!(report.browser.contains("Chrom"), "{report:?}");
        assert_eq!(report.sandbox, !nix::unistd::geteuid().is_root());
    }
}
