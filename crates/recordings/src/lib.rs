//! Recordings and their parts.
//!
//! **Owns** the schema `recordings` and the objects below `RECORDINGS_DIR`: parts as runners uploaded them
//! (`<tenant>/<bot>/parts/<attempt>/<index>.webm`), screenshots, and the file that the parts are joined into when the bot is
//! over (`<tenant>/<bot>/recording.webm`).
//!
//! **Hears** gRPC at the inner door (`RecordingService`): the gateway brings what runners upload and fetches what clients
//! ask for; `bot.state_changed` (the bot is over) and `runner.gone` (no more parts will come). When
//! nothing comes for ten minutes it asks the scheduler (`BotService.GetBot`).
//!
//! **Says** `recording.ready` and `recording.failed`, both public.
//!
//! It **never** removes a part, not after joining and not when joining failed, and never knows a meeting. A runner that was
//! killed loses what it had not uploaded and nothing else: a truncated last part is no failure. A part that comes late opens
//! the recording again, and `recording.ready` is said again.

mod across;
mod config;
mod consumers;
mod error;
mod ffmpeg;
mod gap;
mod join;
mod media;
mod missed;
mod missing;
mod policy;
mod rpc;
mod service;
mod store;
mod sweep;
mod vault;

pub use config::Config;
pub use error::Error;
pub use service::{SCHEMA, Service, store};
