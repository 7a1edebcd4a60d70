//! A bot's life: its states, what can happen to it, and what follows.

mod decide;
mod edit;
mod event;
mod state;
mod timing;

pub use decide::{Decision, Effect, Ignored, Rejected, Room, decide, decide_within};
pub use edit::{Beyond, Edit, START_LATE, latest_end, latest_start};
pub use event::{Event, Observed, Refusal, Report};
pub use state::{Admission, AttemptState, Bot, BotState, Policy, UnknownState};
pub use timing::Timing;
