//! What came of the suite.

use std::path::Path;
use std::{fmt, fs};

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

    /// Ends a test whose outcome is another than the one that is on record, which `docs/platforms.md` is made of. `against`
    /// says what it was played on. With `GREENROOM_TEST_RECORD=1` this outcome is put on record, unless a case failed.
    ///
    /// # Panics
    /// When a case failed, when the record is another, or when it cannot be read or written.
    pub fn assert_on_record(&self, path: impl AsRef<Path>, kind: &str, against: &str) {
        self.assert_passed();
        let path = path.as_ref();
        let cases = self.0.iter().map(|(case, outcome)| {
            let outcome = if *outcome == Outcome::Passed { "passed" } else { "not capable" };
            serde_json::json!([case, outcome])
        });
        let cases: Vec<_> = cases.collect();
        let record = serde_json::json!({ "kind": kind, "against": against, "cases": cases });
        let text = format!("{record:#}\n");
        if std::env::var_os("GREENROOM_TEST_RECORD").is_some() {
            fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            return;
        }
        let there = fs::read_to_string(path).unwrap_or_default();
        assert_eq!(
            there,
            text,
            "{} is out of date: run this test with GREENROOM_TEST_RECORD=1, then ./dev docs",
            path.display()
        );
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
