//! What deployers say about the standing slots of pooled platforms. Internal and unsequenced, as what they say about runners.

use greenroom_domain::{PlatformName, Standing, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{about_platform, about_slot};

/// A standing slot is there, fresh, and can be given a runner: the answer to `prepare` and to `reset`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotPrepared {
    /// Which, and its generation.
    pub standing: Standing,
    /// Where.
    pub platform: PlatformName,
}

/// Why a standing slot could not be prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrepareError {
    /// The platform has no room.
    NoCapacity,
    /// The platform does not want it so: no such image, no such server.
    Rejected,
    /// The platform does not let us.
    Unauthorized,
    /// The command came too late, or the platform did not get done in time.
    Expired,
    /// A word that came later than this version.
    #[serde(other)]
    Other,
}

impl PrepareError {
    /// As it stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoCapacity => "no_capacity",
            Self::Rejected => "rejected",
            Self::Unauthorized => "unauthorized",
            Self::Expired => "expired",
            Self::Other => "other",
        }
    }
}

/// A standing slot could not be prepared, or brought back to fresh. What there is of it is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotPrepareFailed {
    /// Which, and its generation.
    pub standing: Standing,
    /// Where.
    pub platform: PlatformName,
    /// One word.
    pub error: PrepareError,
    /// The platform's words.
    pub detail: String,
}

/// A standing slot is not there any more, and nothing of it: the answer to `retire`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotRetired {
    /// Which, and its generation.
    pub standing: Standing,
    /// Where.
    pub platform: PlatformName,
}

/// A page of the standing slots that a pooled platform shows: the deployer's sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotsListed {
    /// Where.
    pub platform: PlatformName,
    /// Which list it is a page of.
    pub list: Uuid,
    /// From 0.
    pub page: u32,
    /// Whether it is the last page.
    pub last: bool,
    /// When the listing began.
    pub began_at: Timestamp,
    /// When the listing was complete.
    pub ended_at: Timestamp,
    /// What is there, whatever its state.
    pub standing: Vec<Standing>,
}

about_slot!(SlotPrepared, "dev.greenroom.slot.prepared.v1", event "slot"."prepared", "A standing slot is there, fresh, and can be given a runner.");
about_slot!(SlotPrepareFailed, "dev.greenroom.slot.prepare_failed.v1", event "slot"."prepare_failed", "A standing slot could not be prepared, or brought back to fresh.");
about_slot!(SlotRetired, "dev.greenroom.slot.retired.v1", event "slot"."retired", "A standing slot is not there any more.");

about_platform!(SlotsListed, "dev.greenroom.slot.listed.v1", from "deployer", event "slot"."listed", "A page of the standing slots that a pooled platform shows: the deployer's sweep.");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_later_version_are_tolerated() {
        for error in
            [PrepareError::NoCapacity, PrepareError::Rejected, PrepareError::Unauthorized, PrepareError::Expired]
        {
            assert_eq!(serde_json::to_value(error).expect("plain data"), error.as_str());
            assert_eq!(serde_json::from_value::<PrepareError>(error.as_str().into()).expect("known"), error);
        }
        let later = serde_json::from_value::<PrepareError>("on_strike".into());
        assert_eq!(later.expect("tolerated"), PrepareError::Other);
    }
}
