//! Panics as log lines like all others, instead of text on stderr that no collector reads.

use std::panic::PanicHookInfo;

use greenroom_tasks::{current, panic_message};

/// Logs every panic of the process at ERROR, with its place and the task's name. A release build aborts after it; in others
/// what goes on is the business of whoever catches it.
pub(super) fn log_them() {
    std::panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    tracing::error!(
        error = panic_message(panic.payload()),
        location,
        thread = thread.name().unwrap_or_default(),
        task = current().as_deref(),
        "a panic"
    );
}
