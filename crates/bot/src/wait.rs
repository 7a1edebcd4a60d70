//! `greenroom-bot wait`: started ahead of its bot, in a container that is warm by the time somebody wants one.
//!
//! One line of JSON comes in over standard input, `{"environment": {…}, "lifetimeMs": 7200000}`, and the process begins anew
//! with that environment, as if it had been started with it. Nothing after that line is ever read: whoever does not know whether
//! it arrived says it again.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::unistd::alarm;
use serde::Deserialize;

/// No environment is as long.
const LONGEST: u64 = 1 << 20;

/// What a runner is told that waited.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// Beside what is in its environment already.
    pub environment: BTreeMap<String, String>,
    /// How long it may live from now on, whatever happens: then SIGALRM ends it.
    pub lifetime_ms: Option<u64>,
}

/// Waits for the line; none: nobody will ever say it.
///
/// # Errors
/// When it cannot be read, or says something else.
pub fn listen(input: impl BufRead) -> io::Result<Option<Told>> {
    let mut line = String::new();
    input.take(LONGEST).read_line(&mut line)?;
    match line.trim() {
        "" => Ok(None),
        // Not what it says: there are secrets in it.
        line => serde_json::from_str(line).map(Some).map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("column {}: it is not understood", error.column()))
        }),
    }
}

/// Becomes the runner that it was told to be; comes back only to say why it cannot.
#[must_use]
pub fn begin(told: Told) -> io::Error {
    if let Some(lifetime) = told.lifetime_ms {
        // A timer that stays when a process begins anew.
        alarm::set(u32::try_from(lifetime.div_ceil(1000)).unwrap_or(u32::MAX).max(1));
    }
    match std::env::current_exe() {
        Ok(program) => Command::new(program).envs(told.environment).stdin(Stdio::null()).exec(),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_read_and_no_other() {
        let said = b"{\"environment\":{\"BOT_ID\":\"7\"},\"lifetimeMs\":1500,\"more\":1}\n{\"environment\":{}}\n";
        let told = listen(&said[..]).expect("understood").expect("said");
        assert_eq!(told.environment["BOT_ID"], "7");
        assert_eq!(told.lifetime_ms, Some(1500));
        assert_eq!(listen(&b""[..]).expect("the end"), None);
    }

    #[test]
    fn unknown_input_is_not_logged() {
        let error = listen(&b"{\"environment\":{\"TOKEN\":\"hush\"\n"[..]).expect_err("cut off");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
