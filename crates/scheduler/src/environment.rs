//! What stands in a runner's environment: ours, and where an image of others is run, what that one expects. Pure.
//!
//! Ours holds no meeting: a runner of ours gets that when it is admitted, and so nobody who is not. Images of others cannot be
//! admitted; theirs gets the meeting's address, which whoever can look at the container can read. So it has to be asked for, by
//! provider.
//!
//! Asking for it is refused until Greenroom serves the interfaces that such images call
//! (docs/adr/0028-images-that-never-ask-are-refused.md).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use greenroom_chassis::Settings;
use greenroom_domain::{Attempt, BotId, Provider, TenantId};

/// Whose bots an image was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// `MILO_URL`, `MILO_AUTH_TOKEN`, `NODE_ENV`.
    Meeboter,
    /// `MEETING_URL`, `SESSION_ID`.
    Clerk,
    /// `MEETING_URL`, `RECORDING_SESSION_ID`, `USER_ID`, `RECORDING_PATH`.
    Newar,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Meeboter => "meeboter",
            Self::Clerk => "clerk",
            Self::Newar => "newar",
        })
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "meeboter" => Ok(Self::Meeboter),
            "clerk" => Ok(Self::Clerk),
            "newar" => Ok(Self::Newar),
            _ => Err(format!("{word:?}: expected meeboter, clerk or newar")),
        }
    }
}

/// Which dialects a provider's image wants beside ours.
#[derive(Debug, Clone, Default)]
pub struct Dialects {
    all: Vec<Dialect>,
    providers: BTreeMap<Provider, Vec<Dialect>>,
}

const PROVIDERS: [&str; 4] = ["web", "google-meet", "microsoft-teams", "zoom"];

impl Dialects {
    pub fn parse(settings: &mut Settings) -> Self {
        let all = settings.list(
            "RUNNER_ENVIRONMENT",
            "",
            "What runners find in their environment beside ours, for images of others: meeboter, clerk, newar. Not supported yet, and refused: such an image never asks to be admitted.",
        );
        refuse(settings, "RUNNER_ENVIRONMENT", &all);
        let mut providers = BTreeMap::new();
        for provider in PROVIDERS {
            let name = format!("RUNNER_ENVIRONMENT_{}", super::config::prefix(provider));
            let own = settings.list(&name, "", "Instead of RUNNER_ENVIRONMENT, for that provider's bots.");
            refuse(settings, &name, &own);
            if !own.is_empty() {
                providers.insert(Provider::new(provider).expect("a name"), own);
            }
        }
        Self { all, providers }
    }

    /// What these say, without a look at whether it is supported.
    #[cfg(test)]
    fn new(all: &[Dialect], providers: &[(&str, &[Dialect])]) -> Self {
        let own = |(name, own): &(&str, &[Dialect])| (Provider::new(*name).expect("valid"), own.to_vec());
        Self { all: all.to_vec(), providers: providers.iter().map(own).collect() }
    }

    fn of(&self, provider: &Provider) -> &[Dialect] {
        self.providers.get(provider).unwrap_or(&self.all)
    }
}

/// An image that never asks to be admitted is given up as not started while it is in its meeting, and the next attempt
/// enters beside it, because nothing keeps that one out.
fn refuse(settings: &mut Settings, name: &str, dialects: &[Dialect]) {
    if let Some(dialect) = dialects.first() {
        settings.problem(
            name,
            format!(
                "{dialect} is not supported yet: an image made for it never asks Greenroom to be admitted, so it would be stopped in the middle of its meeting and started again beside itself; leave this empty, and run images that ask (greenroom-bot does)"
            ),
        );
    }
}

/// What an environment is made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub bot: BotId,
    pub attempt: Attempt,
    pub tenant: TenantId,
    pub provider: &'a Provider,
    /// Where runners find the gateway.
    pub gateway: &'a str,
    /// Good for this attempt alone.
    pub token: &'a str,
    pub meeting_url: &'a str,
}

/// The environment of one attempt's runner.
pub fn environment(facts: Facts<'_>, dialects: &Dialects) -> BTreeMap<&'static str, String> {
    let mut variables = BTreeMap::from([
        ("GREENROOM_URL", facts.gateway.to_owned()),
        ("BOT_ID", facts.bot.to_string()),
        ("ATTEMPT", facts.attempt.to_string()),
        ("GREENROOM_TOKEN", facts.token.to_owned()),
    ]);
    for dialect in dialects.of(facts.provider) {
        match dialect {
            Dialect::Meeboter => variables.extend([
                ("MILO_URL", facts.gateway.to_owned()),
                ("MILO_AUTH_TOKEN", facts.token.to_owned()),
                ("NODE_ENV", "production".to_owned()),
            ]),
            Dialect::Clerk => {
                variables.extend([("MEETING_URL", facts.meeting_url.to_owned()), ("SESSION_ID", facts.bot.to_string())])
            }
            Dialect::Newar => variables.extend([
                ("MEETING_URL", facts.meeting_url.to_owned()),
                ("RECORDING_SESSION_ID", facts.bot.to_string()),
                ("USER_ID", facts.tenant.to_string()),
                ("RECORDING_PATH", format!("temp/user_{}/", facts.tenant)),
            ]),
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    use Dialect::{Clerk, Meeboter, Newar};

    fn names(dialects: &Dialects, provider: &str) -> Vec<&'static str> {
        let facts = Facts {
            bot: BotId::generate(),
            attempt: Attempt::FIRST,
            tenant: TenantId::generate(),
            provider: &Provider::new(provider).expect("valid"),
            gateway: "http://gateway",
            token: "gr1_x",
            meeting_url: "https://meeting.example/hush",
        };
        let environment = environment(facts, dialects);
        let meeting = environment.values().any(|value| value.contains("hush"));
        assert_eq!(meeting, environment.contains_key("MEETING_URL"));
        environment.into_keys().collect()
    }

    const OURS: [&str; 4] = ["ATTEMPT", "BOT_ID", "GREENROOM_TOKEN", "GREENROOM_URL"];

    #[test]
    fn the_launch_environment_has_no_meeting() {
        assert_eq!(names(&Dialects::default(), "zoom"), OURS);
        assert_eq!(names(&Dialects::new(&[], &[("web", &[Clerk])]), "zoom"), OURS, "another provider");
        assert!(!names(&Dialects::new(&[Meeboter], &[]), "zoom").contains(&"MEETING_URL"));
    }

    #[test]
    fn others_find_what_they_expect() {
        let meeboter = names(&Dialects::new(&[Meeboter, Newar], &[("zoom", &[Clerk])]), "web");
        for name in ["MILO_URL", "MILO_AUTH_TOKEN", "NODE_ENV", "MEETING_URL", "RECORDING_SESSION_ID", "RECORDING_PATH"]
        {
            assert!(meeboter.contains(&name), "{name}: {meeboter:?}");
        }
        let clerk = names(&Dialects::new(&[Meeboter], &[("zoom", &[Clerk])]), "zoom");
        assert_eq!(clerk, ["ATTEMPT", "BOT_ID", "GREENROOM_TOKEN", "GREENROOM_URL", "MEETING_URL", "SESSION_ID"]);
    }

    #[test]
    fn an_image_that_never_asks_to_be_admitted_is_refused_by_the_settings() {
        let problems = |name: &str, value: &str| {
            let mut settings = Settings::new([(name.to_owned(), value.to_owned())], "");
            Dialects::parse(&mut settings);
            settings.finish().map_err(|problems| problems.to_string())
        };
        for dialect in ["meeboter", "clerk", "newar"] {
            for name in ["RUNNER_ENVIRONMENT", "RUNNER_ENVIRONMENT_ZOOM"] {
                let said = problems(name, dialect).expect_err("refused");
                assert!(said.contains(&format!("{name}: {dialect} is not supported yet")), "{said}");
            }
        }
        assert!(problems("RUNNER_ENVIRONMENT", "").is_ok());
    }

    #[test]
    fn a_word_that_is_no_dialect_is_named() {
        let mut settings = Settings::new([("RUNNER_ENVIRONMENT".to_owned(), "klingon".to_owned())], "");
        Dialects::parse(&mut settings);
        let said = settings.finish().expect_err("no dialect").to_string();
        assert!(said.contains("RUNNER_ENVIRONMENT: \"klingon\": expected meeboter, clerk or newar"), "{said}");
    }
}
