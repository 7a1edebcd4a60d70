//! Settings: read, checked and documented in one go.
//!
//! A service's `config.rs` asks for each of its settings by name, with a default and a line of documentation. The same pass
//! that parses them fills `greenroom config check` and `docs/configuration.md`, finds every bad value, and knows which names
//! nobody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use greenroom_domain::network::{AllowedNetwork, AllowedNetworks};
use secrecy::SecretString;

/// Longest duration that a setting may say: with more, times would reach beyond what can be written down.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Nobody said anything.
    Default,
    /// The settings file.
    File,
    /// The environment.
    Environment,
}

impl Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
        })
    }
}

/// A setting that was asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which part of Greenroom it is for.
    pub section: &'static str,
    /// Its name.
    pub name: String,
    /// What it is without anybody saying anything; empty: nothing.
    pub default: String,
    /// What it is now; hidden where it is a secret.
    pub value: String,
    /// Where from.
    pub from: From,
    /// What it does.
    pub about: &'static str,
}

/// What is wrong with the settings, all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the settings cannot be used:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// Names that begin so are ours: one that nobody asked for is a mistake.
const OURS: &[&str] = &["GREENROOM_"];
/// Names of ours that other programs of the house read.
const NOT_HERE: &[&str] = &[
    "GREENROOM_URL",
    "GREENROOM_API_KEY",
    "GREENROOM_TOKEN",
    "GREENROOM_TOOLS",
    "GREENROOM_CONFIG",
    "GREENROOM_SANDBOX",
];

/// The settings, as they are being read.
#[derive(Debug)]
pub struct Settings {
    environment: BTreeMap<String, String>,
    file: BTreeMap<String, String>,
    section: &'static str,
    asked: Vec<Asked>,
    problems: Vec<String>,
    /// Names that begin with the first may be said with the second, which wins: `K8S_` and `K8S_EU_`.
    own: Option<(String, String)>,
}

impl Settings {
    /// Settings from an environment and a file (`NAME=value` lines); the environment wins.
    #[must_use]
    pub fn new(environment: impl IntoIterator<Item = (String, String)>, file: &str) -> Self {
        let mut problems = Vec::new();
        let mut from_file = BTreeMap::new();
        for (number, line) in file.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once('=') {
                Some((name, value)) => {
                    let value = value.trim().trim_matches('"');
                    from_file.insert(name.trim().to_owned(), value.to_owned());
                }
                None => problems.push(format!("settings file, line {}: expected NAME=value", number + 1)),
            }
        }
        Self {
            environment: environment.into_iter().collect(),
            file: from_file,
            section: "",
            asked: Vec::new(),
            problems,
            own: None,
        }
    }

    /// Reads the settings of one of several things of a kind: those of the kind, names that begin with `kinds`, hold for all
    /// of them, and one that begins with `own` instead, where it is set, for this one alone. `K8S_EU_NAMESPACE` wins over
    /// `K8S_NAMESPACE`.
    pub fn owned<T>(&mut self, kinds: &str, own: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.own = (kinds != own).then(|| (kinds.to_owned(), own.to_owned()));
        let read = read(self);
        self.own = None;
        read
    }

    /// Reads settings that nobody needs here, so that they are known and shown: nothing about them is a problem, and nothing
    /// is missing.
    pub fn unneeded<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.problems.len();
        let read = read(self);
        self.problems.truncate(before);
        read
    }

    /// What follows is for this part of Greenroom.
    pub fn section(&mut self, section: &'static str) -> &mut Self {
        self.section = section;
        self
    }

    /// A problem that only whoever reads the settings can see.
    pub fn problem(&mut self, name: &str, problem: impl Display) {
        self.problems.push(format!("{name}: {problem}"));
    }

    /// The name under which a setting is said: its own, where it has one that is set.
    fn said(&self, name: &str) -> String {
        let own =
            self.own.as_ref().and_then(|(kinds, own)| Some(format!("{own}{}", name.strip_prefix(kinds.as_str())?)));
        own.filter(|own| self.environment.contains_key(own) || self.file.contains_key(own))
            .unwrap_or_else(|| name.to_owned())
    }

    fn raw(&mut self, name: &str, default: &str, about: &'static str, secret: bool) -> String {
        let name = &self.said(name);
        let (value, from) = match (self.environment.get(name), self.file.get(name)) {
            (Some(value), _) => (value.clone(), From::Environment),
            (None, Some(value)) => (value.clone(), From::File),
            (None, None) => (default.to_owned(), From::Default),
        };
        if !self.asked.iter().any(|asked| asked.name == *name) {
            let shown = match (secret, value.is_empty()) {
                (true, false) => "(hidden)".to_owned(),
                _ => value.clone(),
            };
            self.asked.push(Asked {
                section: self.section,
                name: name.clone(),
                default: default.to_owned(),
                value: shown,
                from,
                about,
            });
        }
        value
    }

    /// A setting with a default. A bad value is a problem, and the default is returned so that reading can go on.
    ///
    /// # Panics
    /// When the default itself cannot be parsed: a mistake in the code, which any start shows.
    pub fn get<T>(&mut self, name: &str, default: &str, about: &'static str) -> T
    where
        T: FromStr,
        T::Err: Display,
    {
        let raw = self.raw(name, default, about, false);
        raw.parse().unwrap_or_else(|error| {
            self.problem(name, format!("{raw:?}: {error}"));
            default.parse().unwrap_or_else(|error| panic!("default of {name}: {error}"))
        })
    }

    /// A setting that need not be there.
    pub fn optional<T>(&mut self, name: &str, about: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let raw = self.raw(name, "", about, false);
        if raw.is_empty() {
            return None;
        }
        raw.parse().map_err(|error| self.problem(name, format!("{raw:?}: {error}"))).ok()
    }

    /// A setting that must be there: without it nothing works, and there is no default that would be right for anybody.
    pub fn required<T>(&mut self, name: &str, about: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let (value, problems) = (self.optional(name, about), self.problems.len());
        if value.is_none() && !self.problems[..problems].iter().any(|problem| problem.starts_with(&format!("{name}: ")))
        {
            self.problem(name, format!("is required: {about}"));
        }
        value
    }

    /// A secret that must be there.
    pub fn required_secret(&mut self, name: &str, about: &'static str) -> Option<SecretString> {
        let value = self.secret(name, about);
        if value.is_none() {
            self.problem(name, format!("is required: {about}"));
        }
        value
    }

    /// A duration, given in whole milliseconds: its name ends in `_MS`. At most ten years.
    pub fn millis(&mut self, name: &str, default: Duration, about: &'static str) -> Duration {
        debug_assert!(name.ends_with("_MS"), "{name}: units are in the name");
        let duration = Duration::from_millis(self.get(name, &default.as_millis().to_string(), about));
        if duration <= LONGEST {
            return duration;
        }
        self.problem(name, format!("must not be more than {} (ten years)", LONGEST.as_millis()));
        default
    }

    /// Words with commas between them.
    pub fn list<T>(&mut self, name: &str, default: &str, about: &'static str) -> Vec<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let raw = self.raw(name, default, about, false);
        let mut items = Vec::new();
        for word in raw.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word.parse() {
                Ok(item) => items.push(item),
                Err(error) => self.problem(name, error),
            }
        }
        items
    }

    /// `MEETING_ADDRESSES_ALLOWED`: the gateway reads it for new bots, the scheduler for what it tells runners.
    pub fn meeting_addresses_allowed(&mut self) -> AllowedNetworks {
        let networks = self.list::<AllowedNetwork>(
            "MEETING_ADDRESSES_ALLOWED",
            "",
            "Networks that meeting pages may be in, and connect to, although their addresses are not public: loopback, private, addresses and networks (10.1.0.0/16), with commas between them. A bot's page can show what it finds there; `greenroom up` allows loopback unless this is set.",
        );
        networks.into_iter().collect()
    }

    /// Sets a setting that neither the environment nor the file has.
    pub fn set_unless_given(&mut self, name: &str, value: &str) {
        if !self.environment.contains_key(name) {
            self.file.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }

    /// Something that must not be shown.
    pub fn secret(&mut self, name: &str, about: &'static str) -> Option<SecretString> {
        let raw = self.raw(name, "", about, true);
        (!raw.is_empty()).then(|| raw.into())
    }

    /// An address with a password in it: shown without.
    pub fn url(&mut self, name: &str, default: &str, about: &'static str) -> String {
        let raw = self.raw(name, default, about, false);
        // `me:hush` is an address of the scheme `me` to the parser: without a host nothing of it is shown.
        let name = &self.said(name);
        let shown = url::Url::parse(&raw).ok().filter(url::Url::has_host).map(|mut url| {
            if url.password().is_some() {
                let _ = url.set_password(Some("hidden"));
            }
            url.to_string()
        });
        match shown {
            Some(shown) => {
                if let Some(asked) = self.asked.iter_mut().find(|asked| asked.name == *name) {
                    asked.value = shown;
                }
            }
            None if raw.is_empty() => {}
            None => {
                // Not shown: who knows what it is.
                if let Some(asked) = self.asked.iter_mut().find(|asked| asked.name == *name) {
                    asked.value = "(hidden)".to_owned();
                }
                self.problem(name, "is no address");
            }
        }
        raw
    }

    /// All that was asked for, unless something is wrong.
    ///
    /// # Errors
    /// Every bad value, and every name of ours or in the file that nobody asked for.
    pub fn finish(self) -> Result<Vec<Asked>, Problems> {
        let mut problems = self.problems;
        let known: BTreeSet<&str> =
            self.asked.iter().map(|asked| asked.name.as_str()).chain(NOT_HERE.iter().copied()).collect();
        let ours = self.environment.keys().filter(|name| OURS.iter().any(|prefix| name.starts_with(prefix)));
        for (name, place) in ours.map(|name| (name, "environment")).chain(self.file.keys().map(|name| (name, "file"))) {
            if !known.contains(name.as_str()) && !name.starts_with("GREENROOM_TEST_") {
                let nearest =
                    known.iter().min_by_key(|known| distance(known, name)).filter(|known| distance(known, name) <= 4);
                let hint = nearest.map(|known| format!("; is {known} meant?")).unwrap_or_default();
                problems.push(format!("{name} ({place}): there is no such setting{hint}"));
            }
        }
        if problems.is_empty() { Ok(self.asked) } else { Err(Problems(problems)) }
    }
}

/// How many letters differ (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(environment: &[(&str, &str)], file: &str) -> Settings {
        Settings::new(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())), file)
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
        let mut settings = settings(&[("A", "1")], "A=2\nB = 3\n# a comment\n");
        let values: [u32; 3] = ["A", "B", "C"].map(|name| settings.get(name, "4", ""));
        assert_eq!(values, [1, 3, 4]);
        let from: Vec<_> = settings.finish().expect("fine").into_iter().map(|asked| asked.from).collect();
        assert_eq!(from, [From::Environment, From::File, From::Default]);
    }

    #[test]
    fn everything_wrong_is_said_at_once_and_by_name() {
        let mut settings = settings(
            &[("WAIT_MS", "soon"), ("PAUSE_MS", "18446744073709551615"), ("GREENROOM_SECRTE", "x"), ("PATH", "/bin")],
            "COLOUR=red\nnonsense",
        );
        settings.millis("WAIT_MS", Duration::from_secs(1), "");
        assert_eq!(settings.millis("PAUSE_MS", Duration::from_secs(1), ""), Duration::from_secs(1));
        let _ = settings.secret("GREENROOM_SECRET", "");
        let problems = settings.finish().expect_err("problems").0;
        assert_eq!(
            problems,
            [
                "settings file, line 2: expected NAME=value",
                r#"WAIT_MS: "soon": invalid digit found in string"#,
                "PAUSE_MS: must not be more than 316224000000 (ten years)",
                "GREENROOM_SECRTE (environment): there is no such setting; is GREENROOM_SECRET meant?",
                "COLOUR (file): there is no such setting",
            ]
        );
    }

    #[test]
    fn one_of_a_kind_has_settings_of_its_own() {
        let mut settings =
            settings(&[("K8S_NAMESPACE", "bots"), ("K8S_EU_NAMESPACE", "eu")], "K8S_EU_TAG=2\nK8S_US_TAG=3");
        let read = |settings: &mut Settings| {
            (settings.get::<String>("K8S_NAMESPACE", "", ""), settings.get::<u32>("K8S_TAG", "1", ""))
        };
        assert_eq!(settings.owned("K8S_", "K8S_EU_", read), ("eu".to_owned(), 2));
        assert_eq!(settings.owned("K8S_", "K8S_", read), ("bots".to_owned(), 1));
        let problems = settings.finish().expect_err("nobody is called us").0;
        assert_eq!(problems, ["K8S_US_TAG (file): there is no such setting; is K8S_EU_TAG meant?"]);
    }

    #[test]
    fn everything_that_is_missing_is_said_and_what_is_not_needed_is_not() {
        let mut settings = settings(&[("C", "x")], "");
        settings.unneeded(|settings| settings.required::<u32>("A", "an A"));
        let read: [Option<u32>; 2] = ["B", "C"].map(|name| settings.required(name, "one of them"));
        assert_eq!(read, [None, None]);
        let _ = settings.required_secret("D", "a D");
        let problems = settings.finish().expect_err("three problems").0;
        assert_eq!(
            problems,
            ["B: is required: one of them", r#"C: "x": invalid digit found in string"#, "D: is required: a D"]
        );
    }

    #[test]
    fn defaults_yield_to_environment_and_file() {
        let mut settings = settings(&[("A", "1")], "B=");
        for name in ["A", "B", "C"] {
            settings.set_unless_given(name, "ours");
        }
        let values: [String; 3] = ["A", "B", "C"].map(|name| settings.get(name, "default", ""));
        assert_eq!(values, ["1", "", "ours"]);
    }

    #[test]
    fn networks_are_read_and_a_word_that_names_none_is_a_problem() {
        let mut good = settings(&[("MEETING_ADDRESSES_ALLOWED", "loopback, 10.1.0.0/16")], "");
        assert_eq!(good.meeting_addresses_allowed().to_words(), ["loopback", "10.1.0.0/16"]);
        let mut bad = settings(&[("MEETING_ADDRESSES_ALLOWED", "loopback,localhost")], "");
        assert_eq!(bad.meeting_addresses_allowed().to_words(), ["loopback"]);
        assert_eq!(
            bad.finish().expect_err("one problem").0,
            [
                r#"MEETING_ADDRESSES_ALLOWED: "localhost" is not a network: give loopback, private, an address or a network such as 10.1.0.0/16"#
            ]
        );
    }

    #[test]
    fn secrets_are_hidden() {
        let mut settings = settings(&[("S", "hush"), ("U", "postgres://me:hush@host/db"), ("V", "me:hush")], "");
        let _ = settings.secret("S", "");
        let _ = settings.url("U", "", "");
        let _ = settings.url("V", "", "");
        assert!(settings.asked.iter().all(|asked| !asked.value.contains("hush")), "{:?}", settings.asked);
    }
}
