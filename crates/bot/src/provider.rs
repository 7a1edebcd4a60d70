//! Where meetings are: one adapter per provider. An adapter knows a provider's pages and nothing else: what to do about
//! what it sees, the [`policy`](crate::policy) decides. How to write one: `docs/adding-a-provider.md`.

pub mod web;

use crate::browser::{Error, Tab};
use crate::contract::Meeting;
use crate::policy::{Failure, Sight};

/// A provider's pages.
pub trait Provider: Sync {
    /// Opens the meeting and asks to be let in. Returns once it has asked; being let in, or not, is seen later.
    fn enter(&self, tab: &Tab, meeting: &Meeting, name: &str) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Asks to be let in by the page that is open: it was loaded anew, or put the bot out of its meeting.
    fn ask(&self, tab: &Tab, meeting: &Meeting, name: &str) -> impl Future<Output = Result<(), Failure>> + Send;

    /// What the page shows now.
    fn look(&self, tab: &Tab) -> impl Future<Output = Result<Sight, Error>> + Send;

    /// Leaves the meeting the polite way. Returns once the page has let go, or after a bound of its own.
    fn leave(&self, tab: &Tab) -> impl Future<Output = Result<(), Error>> + Send;
}

/// We have no adapter for the meeting's provider.
pub const UNSUPPORTED: Failure =
    Failure::lasting("provider_unsupported", "this runner has no adapter for the provider");
