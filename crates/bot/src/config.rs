//! What a runner is told by its environment.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;
use uuid::Uuid;

use crate::browser::NOT_FOR_OPERATORS;

/// A setting that is missing or makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A required variable is not there, or is empty.
    #[error("the environment variable {0} is required: {1}")]
    Missing(&'static str, &'static str),
    /// A variable has a value that cannot be used. The value is not repeated: it may be a secret put in the wrong place.
    #[error("the environment variable {0} has a value that cannot be used: {1}")]
    Invalid(&'static str, &'static str),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a person.
    Pretty,
}

/// Everything the environment says. Only [`Settings::from_map`] makes one, so that one that exists is complete.
pub struct Settings {
    /// Address of the gateway, `http://host:port` (`GREENROOM_URL`).
    pub gateway: String,
    /// The bot whose attempt this process is (`BOT_ID`).
    pub bot: Uuid,
    /// 1, 2, 3… (`ATTEMPT`).
    pub attempt: u32,
    /// Good for this attempt alone (`GREENROOM_TOKEN`).
    pub token: SecretString,
    /// `LOG_LEVEL`, default `info`.
    pub log_level: String,
    /// `LOG_FORMAT`, default `json`.
    pub log_format: LogFormat,
    /// The W3C trace context this attempt belongs to (`TRACEPARENT`).
    pub traceparent: Option<String>,
    /// Where traces go, an OTLP/gRPC collector (`OTEL_EXPORTER_OTLP_ENDPOINT`); default: nowhere.
    pub otlp: Option<String>,
    /// How to start the browser.
    pub browser: BrowserSettings,
}

/// Which browser, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrowserSettings {
    /// `CHROMIUM`: path of the browser; without it `chromium`, `chromium-browser` and `google-chrome` are searched on `PATH`.
    pub executable: Option<PathBuf>,
    /// `CHROME_FLAGS`: further flags, separated by white space. None about proxies, debugging or the profile: the
    /// runner has its own.
    pub flags: Vec<String>,
    /// `GREENROOM_SANDBOX=off`: start it without its sandbox.
    pub sandbox_off: bool,
}

impl BrowserSettings {
    /// The browser part of an environment.
    pub fn from_map(map: &HashMap<String, String>) -> Result<Self, Error> {
        let get = |name: &str| map.get(name).map(|v| v.trim()).filter(|v| !v.is_empty());
        let sandbox_off = match get("GREENROOM_SANDBOX") {
            None | Some("on") => false,
            Some("off") => true,
            Some(_) => return Err(Error::Invalid("GREENROOM_SANDBOX", "on or off")),
        };
        let flags: Vec<_> = get("CHROME_FLAGS").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        if flags.iter().any(|flag| NOT_FOR_OPERATORS.contains(&flag.split('=').next().unwrap_or(flag))) {
            let what = "no flag that sets a proxy, a debugging port or pipe, or the profile: the runner has its own";
            return Err(Error::Invalid("CHROME_FLAGS", what));
        }
        Ok(Self { executable: get("CHROMIUM").map(PathBuf::from), flags, sandbox_off })
    }
}

impl Settings {
    /// Reads the settings from variables, usually those of the process.
    pub fn from_map(map: &HashMap<String, String>) -> Result<Self, Error> {
        let get = |name: &str| map.get(name).map(|v| v.trim()).filter(|v| !v.is_empty());
        let need = |name, what| get(name).ok_or(Error::Missing(name, what));

        let gateway = need("GREENROOM_URL", "the address of the gateway")?;
        if !(gateway.starts_with("http://") || gateway.starts_with("https://")) {
            return Err(Error::Invalid("GREENROOM_URL", "it starts with http:// or https://"));
        }
        let bot = need("BOT_ID", "the id of the bot")?.parse().map_err(|_| Error::Invalid("BOT_ID", "a UUID"))?;
        let attempt = need("ATTEMPT", "the number of the attempt")?
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .ok_or(Error::Invalid("ATTEMPT", "a number from 1"))?;
        let token = need("GREENROOM_TOKEN", "the token of this attempt")?;
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::Invalid("GREENROOM_TOKEN", "printable ASCII without blanks"));
        }
        let log_level = match get("LOG_LEVEL") {
            None => "info",
            Some(level @ ("error" | "warn" | "info" | "debug" | "trace")) => level,
            Some(_) => return Err(Error::Invalid("LOG_LEVEL", "error, warn, info, debug or trace")),
        };
        let log_format = match get("LOG_FORMAT") {
            None | Some("json") => LogFormat::Json,
            Some("pretty") => LogFormat::Pretty,
            Some(_) => return Err(Error::Invalid("LOG_FORMAT", "json or pretty")),
        };
        Ok(Self {
            gateway: gateway.to_owned(),
            bot,
            attempt,
            token: SecretString::from(token),
            log_level: log_level.to_owned(),
            log_format,
            traceparent: get("TRACEPARENT").filter(|v| v.bytes().all(|b| b.is_ascii_graphic())).map(str::to_owned),
            otlp: get("OTEL_EXPORTER_OTLP_ENDPOINT").map(str::to_owned),
            browser: BrowserSettings::from_map(map)?,
        })
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("bot", &self.bot)
            .field("attempt", &self.attempt)
            .field("browser", &self.browser)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(changes: &[(&str, &str)]) -> HashMap<String, String> {
        let mut map: HashMap<String, String> = [
            ("GREENROOM_URL", "http://127.0.0.1:1"),
            ("BOT_ID", "01890a5d-ac96-774b-bcce-b302099a8057"),
            ("ATTEMPT", "2"),
            ("GREENROOM_TOKEN", "secret-token"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        for (name, value) in changes {
            map.insert((*name).to_owned(), (*value).to_owned());
        }
        map
    }

    #[test]
    fn a_full_environment_is_read() {
        let settings =
            Settings::from_map(&map(&[("CHROME_FLAGS", " --a  --b=1 "), ("GREENROOM_SANDBOX", "off")])).unwrap();
        assert_eq!(settings.attempt, 2);
        assert_eq!(settings.browser.flags, ["--a", "--b=1"]);
        assert!(settings.browser.sandbox_off);
        assert_eq!(settings.log_format, LogFormat::Json);
    }

    #[test]
    fn problems_name_the_setting_and_not_its_value() {
        for (name, value) in [
            ("GREENROOM_URL", ""),
            ("GREENROOM_URL", "s3cret"),
            ("BOT_ID", ""),
            ("BOT_ID", "s3cret"),
            ("ATTEMPT", ""),
            ("ATTEMPT", "0"),
            ("GREENROOM_TOKEN", " "),
            ("GREENROOM_TOKEN", "s3cret with blanks"),
            ("LOG_LEVEL", "s3cret"),
            ("LOG_FORMAT", "s3cret"),
            ("GREENROOM_SANDBOX", "s3cret"),
            ("CHROME_FLAGS", "--mute-audio --proxy-server=s3cret:1"),
            ("CHROME_FLAGS", "--no-proxy-server"),
            ("CHROME_FLAGS", "--remote-debugging-port=9222"),
            ("CHROME_FLAGS", "--user-data-dir=/s3cret"),
        ] {
            let message = Settings::from_map(&map(&[(name, value)])).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
            assert!(!message.contains("s3cret"), "{message}");
        }
    }

    #[test]
    fn debug_shows_no_token() {
        assert!(!format!("{:?}", Settings::from_map(&map(&[])).unwrap()).contains("secret-token"));
    }
}
