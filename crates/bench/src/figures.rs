//! Percentiles, and the table at the end.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

/// What is being measured now.
pub fn say(what: impl AsRef<str>) {
    eprintln!("  {}", what.as_ref());
}

/// Times that were taken.
#[derive(Debug, Clone, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Nearest rank; nothing when nothing was taken.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied()
    }

    pub fn p50(&self) -> Option<Duration> {
        self.percentile(50)
    }

    pub fn p99(&self) -> Option<Duration> {
        self.percentile(99)
    }
}

/// `0.43 ms`, or a dash.
pub fn millis(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.2} ms", time.as_secs_f64() * 1e3))
}

/// `12,345`.
pub fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What is printed at the end. Its tables are Markdown, so that they can be copied into `docs/benchmarks.md`.
#[derive(Debug, Default)]
pub struct Report {
    facts: Vec<(String, String)>,
    times: Vec<[String; 4]>,
    rates: Vec<[String; 3]>,
    aims: Vec<[String; 3]>,
    /// What one commit and one hop cost, one after the other.
    pub floor: Option<Floor>,
    /// The same at the pace of the creates that are compared with it.
    pub floor_paced: Option<Floor>,
    /// Callers, asks a call, and assignments a second.
    pub assigned: Vec<(usize, usize, f64)>,
    /// create → start at the pace that peers are compared at.
    pub start_p99: Option<Duration>,
    /// The burst's starts a second.
    pub burst_rate: Option<f64>,
}

/// The floor's medians.
#[derive(Debug, Clone, Copy)]
pub struct Floor {
    pub insert: Duration,
    pub hop: Duration,
}

impl Floor {
    /// Two commits and two hops.
    pub fn two(self) -> Duration {
        2 * (self.insert + self.hop)
    }
}

impl Report {
    pub fn facts(&mut self, facts: Vec<(String, String)>) {
        self.facts.extend(facts);
    }

    pub fn times(&mut self, what: impl Into<String>, times: &Times) {
        let what = what.into();
        say(format!("{what}: p50 {}, p99 {}", millis(times.p50()), millis(times.p99())));
        self.times.push([what, millis(times.p50()), millis(times.p99()), thousands(times.count() as f64)]);
    }

    pub fn rate(&mut self, what: impl Into<String>, per_second: f64, note: impl Into<String>) {
        let (what, note) = (what.into(), note.into());
        say(format!("{what}: {}/s {note}", thousands(per_second)));
        self.rates.push([what, thousands(per_second), note]);
    }

    pub fn aim(&mut self, what: impl Into<String>, aim: impl Into<String>, measured: impl Into<String>) {
        self.aims.push([what.into(), aim.into(), measured.into()]);
    }

    pub fn print(&self, took: Duration) {
        println!();
        for (name, value) in &self.facts {
            println!("{name}: {value}");
        }
        print_table(["", "p50", "p99", "samples"], &self.times);
        print_table(["", "per second", ""], &self.rates);
        print_table(["aim", "wanted", "measured"], &self.aims);
        println!("\nThe whole run took {:.0} s.", took.as_secs_f64());
    }
}

fn print_table<const N: usize>(header: [&str; N], rows: &[[String; N]]) {
    if rows.is_empty() {
        return;
    }
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    table.add_rows(rows.iter().map(|row| row.to_vec()));
    for (index, name) in header.iter().enumerate().skip(1) {
        if let Some(column) = table.column_mut(index) {
            // A column without a name holds notes.
            column.set_cell_alignment(if name.is_empty() { CellAlignment::Left } else { CellAlignment::Right });
        }
    }
    println!("\n{table}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_taken() {
        let times = Times::new((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!(times.p50(), Some(Duration::from_millis(100)));
        assert_eq!(times.p99(), Some(Duration::from_millis(198)));
        assert_eq!(Times::new(vec![Duration::from_millis(7)]).p99(), Some(Duration::from_millis(7)));
        assert_eq!(Times::default().p50(), None);
    }

    #[test]
    fn numbers_are_readable() {
        for (number, text) in [(7.0, "7"), (999.6, "1,000"), (123_456.0, "123,456"), (1_234_567.2, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
        assert_eq!(millis(Some(Duration::from_micros(1_234))), "1.23 ms");
    }
}
