//! Panics in one piece of work: caught, so that the loop around it goes on, and described without what they quote.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::task::JoinError;

/// Longest description of a panic, in characters.
const LONGEST: usize = 300;

/// A piece of work panicked. The message is [redacted](panic_message).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {0}")]
pub struct Panicked(pub String);

impl From<JoinError> for Panicked {
    /// Of a task that was aborted, which happens when the runtime shuts down, it says that.
    fn from(error: JoinError) -> Self {
        Self(error.try_into_panic().map_or_else(|error| error.to_string(), |payload| panic_message(payload.as_ref())))
    }
}

/// Runs a piece of work and turns a panic in it into an error.
///
/// Use it around work on one message, one batch or one turn of a sweep: whatever spoils it would spoil it again after a
/// restart, so ending the process would take everything else down with it, again and again. The panic hook has logged where
/// it happened.
///
/// # Errors
/// When the work panicked. What it held is dropped by then: transactions are rolled back.
pub fn catch_panic<F: Future>(work: F) -> impl Future<Output = Result<F::Output, Panicked>> {
    // On the heap: it is awaited deep in other work, and in a debug build each level would have a copy of all of it on a
    // worker's stack.
    let work = AssertUnwindSafe(Box::pin(work)).catch_unwind();
    work.map(|done| done.map_err(|payload| Panicked(panic_message(payload.as_ref()))))
}

/// Describes a panic by its payload. Quoted text is left out: it is what a caller, a page or a peer sent, and may hold
/// addresses or tokens.
#[must_use]
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    redacted(message.unwrap_or("a panic without a message"))
}

/// Replaces what stands in quotation marks, and in backticks unless it is a path or name in code.
fn redacted(message: &str) -> String {
    let mut text = String::new();
    let mut rest = message;
    while let Some(open) = rest.find(['"', '`']) {
        let quote = if rest[open..].starts_with('"') { '"' } else { '`' };
        let inner = &rest[open + 1..];
        // Debug escapes quotation marks inside. What is never closed is quoted to its end.
        let close = closing(inner, quote).unwrap_or(inner.len());
        let quoted = &inner[..close];
        let code = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '(' | ')' | '<' | '>');
        text.push_str(&rest[..=open]);
        text.push_str(if quote == '`' && quoted.len() <= 40 && quoted.chars().all(code) { quoted } else { "…" });
        text.push(quote);
        rest = inner.get(close + 1..).unwrap_or_default();
    }
    text.push_str(rest);
    if text.chars().count() > LONGEST {
        text = text.chars().take(LONGEST).collect::<String>() + "…";
    }
    text
}

fn closing(inner: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    inner.char_indices().find_map(|(index, c)| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error_and_everything_else_comes_through() {
        assert_eq!(catch_panic(async { 7 }).await, Ok(7));
        let panicked = catch_panic(async { panic!("{} is odd", 7) }).await;
        assert_eq!(panicked, Err::<(), _>(Panicked("7 is odd".to_owned())));
    }

    #[test]
    fn quoted_text_is_left_out_of_a_message() {
        for (message, logged) in [
            (
                "index out of bounds: the len is 3 but the index is 7",
                "index out of bounds: the len is 3 but the index is 7",
            ),
            (
                "called `Result::unwrap()` on an `Err` value: BadUrl(\"https://meet.example/a?pwd=\\\"x\\\"\")",
                "called `Result::unwrap()` on an `Err` value: BadUrl(\"…\")",
            ),
            (
                "byte index 1 is not a char boundary of `https://meet.example/é`",
                "byte index 1 is not a char boundary of `…`",
            ),
            ("never closed: \"grk_secret", "never closed: \"…\""),
        ] {
            assert_eq!(redacted(message), logged);
        }
        assert_eq!(redacted(&"x".repeat(1_000)).chars().count(), LONGEST + 1);
    }
}
