//! What crosses a boundary between services.
//!
//! - [`messages`]: everything that is said on the bus, one type a message, add-only, versioned in its type name;
//! - [`Envelope`]: the CloudEvent around it;
//! - [`subjects`] and [`streams`]: where it is said, all of it, nowhere else;
//! - [`probe`]: what a runner tells that looks at its platform from inside;
//! - [`webm`]: how a part of a recording begins;
//! - [`beat`]: the one thing on the bus that is no message;
//! - [`json`]: what is wrong with JSON of callers;
//! - [`text`]: what may stand in a text that people read, and how foreign text is shown;
//! - [`proto`]: the gRPC contracts of `proto/greenroom`, public and internal, and what turns domain words into them and back.
//!
//! No framework and no I/O: whoever speaks to Greenroom in Rust needs this crate alone.

pub mod beat;
mod caller;
mod convert;
mod envelope;
pub mod json;
pub mod messages;
pub mod probe;
pub mod proto;
pub mod refusal;
pub mod streams;
pub mod subjects;
pub mod text;
pub mod webm;

pub use caller::{caller, on_behalf_of, operator, set_caller};
pub use convert::{BadField, bad_fields, bot_state, proto_timestamp, runner_of, timestamp};
pub use envelope::{Envelope, Header, Origin};
pub use messages::Message;
