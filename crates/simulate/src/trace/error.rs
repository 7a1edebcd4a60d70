//! What is wrong with a trace, for whoever has to mend it.

use std::fmt;

/// A trace that cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It is no CSV, or cannot be read.
    #[error("the trace cannot be read: {0}")]
    Csv(#[from] csv::Error),
    /// Its columns are not those of a trace.
    #[error("the trace's columns: {0}")]
    Columns(String),
    /// What is wrong in its lines, the first of it.
    #[error("{}", Listed(.0))]
    Lines(Vec<Problem>),
}

/// One thing that is wrong in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// From 1, the names of the columns included.
    pub line: u64,
    /// Which column.
    pub column: &'static str,
    /// What is wrong there.
    pub what: String,
}

struct Listed<'a>(&'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the trace cannot be played:")?;
        self.0
            .iter()
            .try_for_each(|Problem { line, column, what }| write!(f, "\n  line {line}, column {column}: {what}"))
    }
}
