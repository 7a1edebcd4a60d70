//! What a runner says that was started to look at its platform from inside: `greenroom platforms check --inside`.

use serde::{Deserialize, Serialize};

/// The variable that makes a runner look around instead of attending a meeting; its value does not matter.
pub const ASKED: &str = "GREENROOM_PROBE";
/// How the line begins in which it tells; a JSON array of [`Seen`] follows.
pub const TELLS: &str = "greenroom-probe: ";

/// One thing that it looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// `dns`, `gateway`, `storage`, …
    pub subject: String,
    /// Whether it is as it should be.
    pub fine: bool,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Seen {
    /// It is as it should be.
    pub fn fine(subject: &str, detail: impl Into<String>) -> Self {
        Self { subject: subject.to_owned(), fine: true, detail: detail.into(), advice: String::new() }
    }

    /// It is not.
    pub fn wrong(subject: &str, detail: impl Into<String>, advice: &str) -> Self {
        Self { subject: subject.to_owned(), fine: false, detail: detail.into(), advice: advice.to_owned() }
    }
}

/// What a runner told, found in what it printed; none: it told nothing.
#[must_use]
pub fn read(printed: &str) -> Option<Vec<Seen>> {
    printed.lines().rev().find_map(|line| serde_json::from_str(line.split_once(TELLS)?.1).ok())
}

/// The line that [`read`] finds.
#[must_use]
pub fn line(seen: &[Seen]) -> String {
    format!("{TELLS}{}", serde_json::to_string(seen).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_among_others() {
        let seen = vec![Seen::fine("dns", "10.0.0.1"), Seen::wrong("gateway", "no answer", "open the door")];
        // Some platforms put the time before each line.
        let printed = format!("started\n2026-11-21T10:00:00Z {}\ndone\n", line(&seen));
        assert_eq!(read(&printed), Some(seen));
        assert_eq!(read("started\ngreenroom-probe: [oops\n"), None);
    }
}
