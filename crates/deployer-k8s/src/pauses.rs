//! Pauses between two looks at what has not begun.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(2);

/// Short at first, as most runners begin at once; then longer and longer, as whoever waits for one that does not begin asks in
/// turn with everybody else.
#[derive(Debug)]
pub struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pauses {
    /// The next one.
    pub fn longer(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poll_pauses_grow() {
        let mut pauses = Pauses::default();
        let waited = std::array::from_fn(|_| pauses.longer().as_millis());
        assert_eq!(waited, [250, 500, 1000, 2000, 2000, 2000]);
    }
}
