//! Panics as log lines like all others, instead of text on stderr that no collector reads.

use std::panic::PanicHookInfo;

use greenroom_bus::panic_message;

/// Logs every panic of the process at ERROR. What goes on after it is the business of whoever catches it.
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
        task = tokio::task::try_id().map(tracing::field::display),
        "a panic"
    );
}
