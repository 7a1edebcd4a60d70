//! An application's name: where it stands written which slot it is, and who is in it.
//!
//! Coolify has no labels that could be read back in a list, and shows the values of variables only to tokens that may see
//! secrets. The name it shows to everybody, for all applications in one request, and it changes in one request. So the name
//! is the truth:
//!
//! ```text
//! pool-google-meet-001 greenroom-slot-0198…-1 @coolify
//! pool-google-meet-001 greenroom-slot-0198…-1 @coolify bot-0199…-2 after cm37r6cqj000008jm0veg5tkm
//! ```
//!
//! Whoever renames one by hand takes it away from us. The last word is the last deployment that the application had before the runner got it (or `none`): the runner has been
//! started if, and only if, there is a later one.

use greenroom_deployer::Names;
use greenroom_domain::{PlatformName, RunnerId, Standing};

/// Of a slot that has never been deployed.
const NEVER: &str = "none";

/// Who is in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inside {
    pub runner: RunnerId,
    /// The last deployment before it; none: there was none.
    pub after: Option<String>,
}

/// What the name of one of our applications says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Title {
    /// For people: `pool-google-meet-001`.
    pub pool: String,
    pub standing: Standing,
    pub inside: Option<Inside>,
}

/// Writes and reads names of one platform of one installation.
#[derive(Debug, Clone)]
pub(crate) struct Titles {
    names: Names,
    platform: String,
}

impl Titles {
    pub fn new(names: Names, platform: &PlatformName) -> Self {
        Self { names, platform: format!("@{platform}") }
    }

    /// The name.
    pub fn write(&self, title: &Title) -> String {
        let pool: String =
            title.pool.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
        let idle = format!("{pool} {} {}", self.names.slot(title.standing), self.platform);
        match &title.inside {
            None => idle,
            Some(Inside { runner, after }) => {
                format!("{idle} {runner} after {}", after.as_deref().unwrap_or(NEVER))
            }
        }
    }

    /// What it says; none: it is not ours.
    pub fn read(&self, name: &str) -> Option<Title> {
        let words: Vec<&str> = name.split(' ').collect();
        let (pool, slot, platform, inside) = match words[..] {
            [pool, slot, platform] => (pool, slot, platform, None),
            [pool, slot, platform, runner, "after", after] => {
                let after = (after != NEVER).then(|| after.to_owned());
                (pool, slot, platform, Some(Inside { runner: runner.parse().ok()?, after }))
            }
            _ => return None,
        };
        let standing = (platform == self.platform).then(|| self.names.slot_of(slot)).flatten()?;
        Some(Title { pool: pool.to_owned(), standing, inside })
    }
}

#[cfg(test)]
mod tests {
    use greenroom_domain::{Attempt, BotId, Installation, SlotId};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn titles(installation: &str, platform: &str) -> Titles {
        let platform = PlatformName::new(platform).expect("valid");
        Titles::new(Names::new(Installation::new(installation).expect("valid"), platform.clone()), &platform)
    }

    proptest! {
        #[test]
        fn titles_round_trip(slot: u128, generation in 1u32.., bot: u128, attempt in 1u32.., after in "[a-z0-9]{24}", case in 0..3) {
            let title = Title {
                pool: "pool-google-meet-001".to_owned(),
                standing: Standing { slot: SlotId::from_uuid(Uuid::from_u128(slot)), generation },
                inside: (case > 0).then(|| Inside {
                    runner: RunnerId::of_bot(BotId::from_uuid(Uuid::from_u128(bot)), Attempt(attempt)),
                    after: (case > 1).then_some(after),
                }),
            };
            let ours = titles("greenroom", "coolify");
            let name = ours.write(&title);
            prop_assert_eq!(ours.read(&name), Some(title));
            prop_assert!(name.len() <= 255, "Coolify takes no longer names: {}", name);
            // As Coolify's own pattern for names has it.
            prop_assert!(name.chars().all(|c| c.is_alphanumeric() || " -_.@/&()#,:+".contains(c)), "{}", name);
            for (installation, platform) in [("greenroom", "coolify-eu"), ("green", "coolify"), ("room", "coolify")] {
                prop_assert_eq!(titles(installation, platform).read(&name), None);
            }
        }

        #[test]
        fn other_names_are_nobodys(name in "\\PC{0,120}") {
            prop_assert_eq!(titles("greenroom", "coolify").read(&name), None);
        }
    }

    #[test]
    fn a_pools_name_is_made_to_fit() {
        let ours = titles("greenroom", "coolify");
        let standing = Standing { slot: SlotId::generate(), generation: 1 };
        let name = ours.write(&Title { pool: "pool web | 1".to_owned(), standing, inside: None });
        assert!(name.starts_with("pool-web---1 greenroom-slot-"), "{name}");
        assert_eq!(ours.read(&name).map(|title| title.standing), Some(standing));
    }
}
