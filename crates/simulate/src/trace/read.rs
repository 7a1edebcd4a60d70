//! Reading a trace from CSV.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Read;
use std::str::FromStr;
use std::time::Duration;

use csv::{ReaderBuilder, StringRecord, Trim};
use greenroom_accounts::plan::Plan;
use greenroom_domain::{Provider, Timestamp};

use super::{Meeting, Problem, Trace, TraceError};

const COLUMNS: &[&str] =
    &["start", "duration_minutes", "end", "provider", "tenant", "plan", "priority", "created", "no_show"];

/// More than so many mistakes are of one kind, and the list of them helps nobody.
const MOST_PROBLEMS: usize = 20;

/// No meeting takes longer, in minutes: a week.
const LONGEST: f64 = 10_080.0;

impl Trace {
    /// Reads a trace: CSV with names of columns in the first line.
    ///
    /// # Errors
    /// What is no CSV, unknown or missing columns, and every value that cannot be used (the first twenty) with its line
    /// and column.
    pub fn read(csv: impl Read) -> Result<Self, TraceError> {
        let mut reader = ReaderBuilder::new().trim(Trim::All).comment(Some(b'#')).from_reader(csv);
        let columns = columns(reader.headers()?)?;
        let mut trace = Self::default();
        let mut tenants = BTreeMap::new();
        let mut problems = Vec::new();
        for record in reader.records() {
            let record = record?;
            let line = record.position().map_or(0, csv::Position::line);
            let mut row = Row { line, record: &record, columns: &columns, problems: &mut problems };
            if let Some((tenant, meeting)) = row.meeting() {
                let next = trace.tenants.len();
                let tenant = *tenants.entry(tenant).or_insert_with_key(|name: &String| {
                    trace.tenants.push(name.clone());
                    next
                });
                trace.meetings.push(Meeting { tenant, ..meeting });
            }
            if problems.len() >= MOST_PROBLEMS {
                break;
            }
        }
        if problems.is_empty() { Ok(trace.sorted()) } else { Err(TraceError::Lines(problems)) }
    }
}

/// Where each column stands.
fn columns(names: &StringRecord) -> Result<BTreeMap<&'static str, usize>, TraceError> {
    let wrong = |what: String| Err(TraceError::Columns(what));
    let mut columns = BTreeMap::new();
    for (place, name) in names.iter().enumerate() {
        let Some(known) = COLUMNS.iter().find(|known| **known == name) else {
            return wrong(format!("{name:?} is none of {}", COLUMNS.join(", ")));
        };
        if columns.insert(*known, place).is_some() {
            return wrong(format!("{name} stands there twice"));
        }
    }
    let has = |name| columns.contains_key(name);
    if !has("start") {
        return wrong("start is missing".to_owned());
    }
    if has("duration_minutes") == has("end") {
        return wrong("either duration_minutes or end has to be there".to_owned());
    }
    Ok(columns)
}

/// A line that is being read.
struct Row<'a> {
    line: u64,
    record: &'a StringRecord,
    columns: &'a BTreeMap<&'static str, usize>,
    problems: &'a mut Vec<Problem>,
}

impl Row<'_> {
    /// The meeting and its tenant's name; none: something is wrong, and has been noted.
    fn meeting(&mut self) -> Option<(String, Meeting)> {
        let before = self.problems.len();
        let start = self.required::<Timestamp>("start");
        let end = self.end(start);
        let provider = self.value::<Provider>("provider");
        let provider = provider.unwrap_or_else(|| Provider::new("web").expect("a name"));
        let tenant = self.text("tenant").unwrap_or("default").to_owned();
        let plan = self.value::<Plan>("plan").unwrap_or(Plan::Standard);
        let priority = self.value::<u32>("priority");
        let created = self.value::<Timestamp>("created");
        let no_show = match self.text("no_show") {
            None | Some("false" | "no" | "0") => false,
            Some("true" | "yes" | "1") => true,
            Some(other) => {
                self.problem("no_show", format!("{other:?}: expected true or false"));
                false
            }
        };
        if self.problems.len() > before {
            return None;
        }
        Some((tenant, Meeting { start: start?, end: end?, provider, tenant: 0, plan, priority, created, no_show }))
    }

    fn end(&mut self, start: Option<Timestamp>) -> Option<Timestamp> {
        if self.columns.contains_key("end") {
            let (start, end) = (start?, self.required::<Timestamp>("end")?);
            if end <= start {
                self.problem("end", "is not after start");
            }
            return Some(end);
        }
        let minutes = self.required::<f64>("duration_minutes")?;
        if !(minutes > 0.0 && minutes <= LONGEST) {
            self.problem("duration_minutes", format!("{minutes}: expected more than 0 and at most {LONGEST}"));
            return None;
        }
        Some(start? + Duration::from_secs_f64(minutes * 60.0))
    }

    fn text(&self, column: &'static str) -> Option<&str> {
        self.columns.get(column).and_then(|place| self.record.get(*place)).filter(|text| !text.is_empty())
    }

    fn value<T: FromStr<Err: Display>>(&mut self, column: &'static str) -> Option<T> {
        let text = self.text(column)?;
        let parsed = text.parse().map_err(|error| format!("{text:?}: {error}"));
        parsed.map_err(|what| self.problem(column, what)).ok()
    }

    fn required<T: FromStr<Err: Display>>(&mut self, column: &'static str) -> Option<T> {
        if self.text(column).is_none() {
            self.problem(column, "is empty");
        }
        self.value(column)
    }

    fn problem(&mut self, column: &'static str, what: impl Into<String>) {
        self.problems.push(Problem { line: self.line, column, what: what.into() });
    }
}
