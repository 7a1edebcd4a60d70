//! What the recordings service tells everybody. Public.

use greenroom_domain::BotId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Message, shard};
use crate::subjects::Address;

/// A bot's recording is one file now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingReady {
    /// Whose.
    pub bot: BotId,
    /// How long it is.
    pub duration_ms: u64,
    /// How large it is.
    pub size_bytes: u64,
    /// `audio/webm`.
    pub media_type: String,
    /// Loudness, as ffmpeg's volumedetect measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_volume_db: Option<f64>,
}

/// A bot's parts could not be made one file; they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingFailed {
    /// Whose.
    pub bot: BotId,
    /// For a person.
    pub detail: String,
}

macro_rules! about_recording {
    ($type:ty, $name:literal, $event:literal, $about:literal) => {
        impl Message for $type {
            const TYPE: &'static str = $name;
            const ABOUT: &'static str = $about;
            const FROM: &'static str = "recordings";

            fn address(&self) -> Address {
                Address::Event { noun: "recording", event: $event, shard: shard(self.key()) }
            }

            fn key(&self) -> Uuid {
                self.bot.uuid()
            }
        }
    };
}

about_recording!(RecordingReady, "dev.greenroom.recording.ready.v1", "ready", "A bot's recording is one file now.");
about_recording!(
    RecordingFailed,
    "dev.greenroom.recording.failed.v1",
    "failed",
    "A bot's parts could not be made one file; they are kept."
);
