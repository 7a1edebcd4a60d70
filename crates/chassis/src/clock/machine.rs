//! The machine's clocks.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use greenroom_domain::Timestamp;
use jiff::SignedDuration;
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};

use super::micros;
use super::steady::{Limits, Look, Notice, Steady};

/// A file that says by how many milliseconds the wall clock is off: for tests that have it jump in a running process. Without
/// the file, or a number in it, the clock is right.
#[derive(Debug, Clone)]
pub struct Offset(pub PathBuf);

impl Offset {
    fn read(&self) -> SignedDuration {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        SignedDuration::from_millis(text.trim().parse().unwrap_or(0))
    }
}

/// The wall clock and the clock since boot, and the time that follows from them.
pub(super) struct Machine {
    steady: Mutex<Steady>,
    limits: Limits,
    offset: Option<Offset>,
    jumps: Counter<u64>,
}

impl Machine {
    pub fn new(limits: Limits, offset: Option<Offset>) -> Self {
        let jumps = global::meter("greenroom")
            .u64_counter("greenroom_clock_jumps")
            .with_description("Jumps of the wall clock, by outcome: jumped, came_back (nothing has changed), followed")
            .build();
        Self { steady: Mutex::new(Steady::new(look(offset.as_ref()))), limits, offset, jumps }
    }

    pub fn now(&self) -> Timestamp {
        let (now, notice) = {
            // Looked at under the lock, so that looks come in their order.
            let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
            steady.look(look(self.offset.as_ref()), &self.limits)
        };
        if let Some(notice) = notice {
            self.log(notice);
        }
        micros(now)
    }

    fn log(&self, notice: Notice) {
        let seconds = |duration: SignedDuration| duration.as_secs_f64();
        let outcome = match notice {
            Notice::Jumped(by) => {
                tracing::warn!(
                    jump_s = seconds(by),
                    settle_s = self.limits.settle.as_secs_f64(),
                    "the wall clock jumped; it is not followed until it has stayed there"
                );
                "jumped"
            }
            Notice::CameBack { jump, lasted } => {
                tracing::warn!(
                    jump_s = seconds(jump),
                    lasted_s = lasted.as_secs_f64(),
                    "the wall clock came back; nothing has changed"
                );
                "came_back"
            }
            Notice::Followed(by) => {
                // A person must see to the clock, and to what has passed its deadline at once.
                tracing::error!(jump_s = seconds(by), "following the wall clock after a jump");
                "followed"
            }
        };
        self.jumps.add(1, &[KeyValue::new("outcome", outcome)]);
    }
}

fn look(offset: Option<&Offset>) -> Look {
    let before = uptime();
    let wall = Timestamp::now();
    let wall = offset.map_or(wall, |offset| wall.saturating_add(offset.read()).unwrap_or(wall));
    Look { wall, uptime: (before, uptime()) }
}

/// The time since boot. On Linux it counts sleep, as the wall clock does.
fn uptime() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = nix::time::ClockId::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    let clock = nix::time::ClockId::CLOCK_MONOTONIC;
    // It fails for clocks that the kernel does not know, and every kernel of the last ten years knows these.
    clock.now().map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_machines_clock_is_not_followed_until_it_has_stayed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("offset");
        let off_by = |millis: i64| std::fs::write(&file, millis.to_string()).expect("written");
        let limits = Limits { settle: Duration::from_secs(3600), ..Limits::default() };
        let machine = Machine::new(limits, Some(Offset(file.clone())));
        let hour = SignedDuration::from_hours(1);
        let is_right = |now: Timestamp| now.duration_since(Timestamp::now()).abs() < hour;
        assert!(is_right(machine.now()));
        for millis in [5 * 3_600_000, -3 * 24 * 3_600_000, 0] {
            off_by(millis);
            assert!(is_right(machine.now()), "{millis}");
        }
        let machine = Machine { limits: Limits { settle: Duration::ZERO, ..Limits::default() }, ..machine };
        off_by(-3 * 24 * 3_600_000);
        assert!(is_right(machine.now()), "noticed");
        assert!(!is_right(machine.now()), "followed");
    }
}
