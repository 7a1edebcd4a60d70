//! Typed ids, all in one registry, so that a bot's id can never be handed over as a tenant's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id (UUIDv7: ids sort by the time they were made).
            #[must_use]
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// Takes any UUID as such an id.
            #[must_use]
            pub const fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }

            /// The bare UUID, for SQL and the wire.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Uuid {
                id.0
            }
        }
    )*};
}

ids! {
    /// A bot: a tenant's intent that somebody attends a meeting; it lives across attempts.
    BotId
    /// Whoever pays: every query made for a caller names one.
    TenantId
    /// An API key (its id, not its secret).
    ApiKeyId
    /// A slot: the right to run one runner on one platform.
    SlotId
    /// This runner has this slot.
    AssignmentId
    /// One process that was started for an attempt; it makes the id up itself.
    InstanceId
    /// A message on the bus, and the key that its repeats share.
    MessageId
}

impl MessageId {
    /// The same id for the same words: for services without a store, whose repeats must be recognised.
    #[must_use]
    pub fn deterministic(words: &str) -> Self {
        // A namespace of our own (made up once), so that no other v5 id can be equal by accident.
        const NAMESPACE: Uuid = Uuid::from_u128(0x6d3e_51a0_77d4_4c0b_9d0a_1f5e_8c2b_4a77);
        Self(Uuid::new_v5(&NAMESPACE, words.as_bytes()))
    }
}
