//! An open loop's clock: says when the next request is due, whether the last one is answered or not.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Says `count` times, `rate` times a second, that something is due, and when it was due. From a thread of its own: the
/// runtime's timer counts whole milliseconds, which is more than half of what is to be measured.
pub fn due(rate: u32, count: usize) -> mpsc::UnboundedReceiver<Instant> {
    let (say, due) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let began = Instant::now() + Duration::from_millis(10);
        for index in 0..count {
            let at = began + Duration::from_secs(1) * u32::try_from(index).unwrap_or(u32::MAX) / rate;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if say.send(at).is_err() {
                return;
            }
        }
    });
    due
}
