//! What the scheduler tells everybody about a bot. These are public: webhooks, the event stream and `greenroom tail` show
//! the same bytes. They never hold a meeting's address.

use greenroom_domain::bot::BotState;
use greenroom_domain::{BotId, PlatformName, Provider, Reason};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Message, shard};
use crate::subjects::Address;

/// A bot was made; the first of its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BotCreated {
    /// Its id.
    pub bot: BotId,
    /// Its number within the installation.
    pub number: i64,
    /// Its first state.
    pub state: BotState,
    /// Where the meeting is.
    pub provider: Provider,
}

/// A bot moved on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BotStateChanged {
    /// Its id.
    pub bot: BotId,
    /// Its number within the installation.
    pub number: i64,
    /// Where it is now.
    pub state: BotState,
    /// Where it was.
    pub previous: BotState,
    /// Where the meeting is.
    pub provider: Provider,
    /// Which attempt this is; 0 before the first.
    pub attempt: u32,
    /// Where the attempt has its slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformName>,
    /// Why, where there is a why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What a user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Something happened to a bot that did not change its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BotProgressed {
    /// Its id.
    pub bot: BotId,
    /// Its number within the installation.
    pub number: i64,
    /// Where it is.
    pub state: BotState,
    /// Which attempt this is; 0 before the first.
    pub attempt: u32,
    /// One word: `started`, `note`, `gone`, …
    pub what: String,
    /// For a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

macro_rules! about_bot {
    ($type:ty, $name:literal, $event:literal, $about:literal) => {
        impl Message for $type {
            const TYPE: &'static str = $name;
            const ABOUT: &'static str = $about;
            const FROM: &'static str = "scheduler";

            fn address(&self) -> Address {
                Address::Event { noun: "bot", event: $event, shard: shard(self.key()) }
            }

            fn key(&self) -> Uuid {
                self.bot.uuid()
            }
        }
    };
}

about_bot!(BotCreated, "dev.greenroom.bot.created.v1", "created", "A bot was made.");
about_bot!(BotStateChanged, "dev.greenroom.bot.state_changed.v1", "state_changed", "A bot moved on.");
about_bot!(
    BotProgressed,
    "dev.greenroom.bot.progressed.v1",
    "progressed",
    "Something happened to a bot that did not change its state."
);
