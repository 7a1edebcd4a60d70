//! What came of the suite.

use std::fmt;

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// What was otherwise.
    Failed(String),
    /// The driver says that it cannot do this.
    NotCapable,
}

/// Every case and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report(Vec<(&'static str, Outcome)>);

impl Report {
    pub(super) fn add(&mut self, case: &'static str, outcome: Outcome) {
        self.0.push((case, outcome));
    }

    /// The cases, in order.
    #[must_use]
    pub fn cases(&self) -> &[(&'static str, Outcome)] {
        &self.0
    }

    /// Ends a test that found a flaw.
    ///
    /// # Panics
    /// When a case failed; it shows the whole report.
    pub fn assert_passed(&self) {
        let failed = self.0.iter().any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
        assert!(!failed && !self.0.is_empty(), "the driver does not conform:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(case, outcome)| match outcome {
            Outcome::Passed => writeln!(f, "passed       {case}"),
            Outcome::NotCapable => writeln!(f, "not capable  {case}"),
            Outcome::Failed(why) => writeln!(f, "FAILED       {case}: {why}"),
        })
    }
}
