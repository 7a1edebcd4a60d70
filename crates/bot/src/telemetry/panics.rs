//! Panics as log lines like all others, instead of text that no collector reads.

use std::panic::PanicHookInfo;

/// Logs every panic of the process. A message that was put together may quote a page or an address, so only those that are
/// written in the code are logged; the place is always.
pub fn log_them() {
    std::panic::set_hook(Box::new(log));
}

fn log(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let error =
        panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(not logged, it may quote something)");
    let task = greenroom_tasks::current();
    tracing::error!(event = "panic", error, location, task = task.as_deref(), "a panic");
}
