//! The flags Chromium is started with.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::BrowserSettings;

/// Each with its reason.
const FLAGS: &[&str] = &[
    "--headless=new",
    // Not a port, which every user and page of the machine could reach: see `devtools.rs`.
    "--remote-debugging-pipe",
    "--window-size=1280,800",
    "--hide-scrollbars",
    // A container's /dev/shm is 64 MB, which a call with video outgrows.
    "--disable-dev-shm-usage",
    // Nothing that is not the meeting: no updates, reports, sync or first-run pages.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-domain-reliability",
    "--metrics-recording-only",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--password-store=basic",
    "--use-mock-keychain",
    // A page that nobody looks at must work at full speed.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-hang-monitor",
    "--disable-prompt-on-repost",
    "--disable-popup-blocking",
    // Camera and microphone are asked for by nearly every provider; ours are fakes and need no click.
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    // Nobody is there to answer any other request: it is denied at once.
    "--deny-permission-prompts",
    "--autoplay-policy=no-user-gesture-required",
    // It would go past the proxy.
    "--disable-quic",
    // A network service of its own that dies comes back without the proxy's password, and the page has lost its meeting without a
    // word. In the browser's process it dies with the browser, which is noticed.
    "--enable-features=NetworkServiceInProcess2",
    // Candidates hidden behind mDNS names cannot be resolved in a container.
    "--disable-features=Translate,MediaRouter,OptimizationHints,WebRtcHideLocalIpsWithMdns",
];

/// Where only public addresses may be reached, pages do not learn the runner's own: WebRTC uses the way to the internet, and
/// offers none of the machine's addresses. It does not go through the proxy, or calls would break that need UDP.
pub(super) const PUBLIC_ONLY: &str = "--webrtc-ip-handling-policy=default_public_interface_only";

/// Everything goes through the proxy, this machine's own names and addresses too.
pub(super) fn through(proxy: SocketAddr) -> [String; 2] {
    [format!("--proxy-server=http://{proxy}"), "--proxy-bypass-list=<-loopback>".to_owned()]
}

/// Flags that would lead past the proxy or to another, open the browser to other users of the machine, or have it share its
/// profile with other bots.
pub(crate) const NOT_FOR_OPERATORS: [&str; 11] = [
    "--proxy-server",
    "--proxy-pac-url",
    "--proxy-bypass-list",
    "--proxy-auto-detect",
    "--no-proxy-server",
    "--remote-debugging-port",
    "--remote-debugging-address",
    "--remote-debugging-pipe",
    "--remote-debugging-io-pipes",
    "--remote-debugging-socket-name",
    "--user-data-dir",
];

/// The state that the browser finds of earlier runs: how it may authenticate. Its proxy asks for Basic. A browser whose network service is
/// in its own process ends when a server or a proxy asks for Negotiate (Kerberos), whatever flags it has (Chromium 148), and no
/// bot has an account there.
const LOCAL_STATE: &str = r#"{"auth": {"schemes": "basic"}}"#;

/// All arguments but those of the proxy; makes the profile's directory and the silent microphone.
pub(super) fn all(settings: &BrowserSettings, directory: &Path, root: bool) -> io::Result<Vec<String>> {
    let profile = directory.join("profile");
    std::fs::create_dir(&profile)?;
    std::fs::write(profile.join("Local State"), LOCAL_STATE)?;
    let microphone = directory.join("silence.wav");
    std::fs::write(&microphone, silence())?;

    let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
    flags.push(format!("--user-data-dir={}", profile.display()));
    // Without a file the fake microphone beeps once a second, into the meeting.
    flags.push(format!("--use-file-for-fake-audio-capture={}", microphone.display()));
    if root || settings.sandbox_off {
        flags.push("--no-sandbox".to_owned());
    }
    flags.extend(settings.flags.iter().cloned());
    Ok(flags)
}

/// One second of silence: WAV, 48 kHz, mono, 16 bit.
fn silence() -> Vec<u8> {
    const RATE: u32 = 48_000;
    const BYTES: u32 = RATE * 2;
    let mut wav = Vec::with_capacity(44 + BYTES as usize);
    wav.extend(b"RIFF");
    wav.extend((36 + BYTES).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    wav.extend(1_u16.to_le_bytes());
    wav.extend(1_u16.to_le_bytes());
    wav.extend(RATE.to_le_bytes());
    wav.extend(BYTES.to_le_bytes());
    wav.extend(2_u16.to_le_bytes());
    wav.extend(16_u16.to_le_bytes());
    wav.extend(b"data");
    wav.extend(BYTES.to_le_bytes());
    wav.resize(44 + BYTES as usize, 0);
    wav
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::browser::Scratch;

    #[test]
    fn the_sandbox_is_off_for_root_and_on_request_only() {
        for (root, sandbox_off, expected) in [(false, false, false), (true, false, true), (false, true, true)] {
            let scratch = Scratch::new("flags").unwrap();
            let settings = BrowserSettings { sandbox_off, ..BrowserSettings::default() };
            let flags = all(&settings, scratch.path(), root).unwrap();
            assert_eq!(flags.iter().any(|flag| flag == "--no-sandbox"), expected);
        }
    }

    #[test]
    fn the_silent_microphone_is_a_whole_wav() {
        let wav = silence();
        assert_eq!(wav.len(), 44 + 96_000);
        assert_eq!(&wav[..4], b"RIFF");
        assert_eq!(&wav[36..40], b"data");
    }
}
