//! What a day came to, for a person at a terminal.

use comfy_table::{CellAlignment, Table, presets};
use greenroom_simulate::{Found, Outcome, Percentiles};
use jiff::tz::TimeZone;

use super::Run;

/// Everything: the figures side by side, the platforms, the hours of the day as it is, and the limit that was looked for.
pub fn all(title: &str, runs: &[Run], found: Option<&Found>, zone: &TimeZone) -> String {
    let mut parts = vec![title.to_owned(), figures(runs), platforms(runs)];
    parts.extend(runs.first().filter(|run| !run.outcome.hours.is_empty()).map(|run| hours(&run.outcome, zone)));
    parts.extend(found.map(limit));
    parts.join("\n\n")
}

fn table(header: Vec<String>, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// A figure of an outcome, what it is called and how it is written.
struct Figure {
    name: String,
    of: Box<dyn Fn(&Outcome) -> Value>,
}

/// A part of something.
type Of<T, Part> = fn(&T) -> Part;

#[derive(Clone, Copy)]
enum Value {
    Count(f64),
    Part(f64),
    Seconds(Option<f64>),
    Money(f64),
    /// There is nobody of whom anything could be said.
    Nothing,
}

impl Value {
    fn show(self) -> String {
        match self {
            Self::Count(count) => decimal(count, 0),
            Self::Part(part) => format!("{:.1} %", part * 100.0),
            Self::Seconds(seconds) => self::seconds(seconds),
            Self::Money(money) => decimal(money, 2),
            Self::Nothing => "-".to_owned(),
        }
    }

    /// With what is more or less than there.
    fn beside(self, before: Self) -> String {
        let more = match (self, before) {
            (Self::Count(now), Self::Count(before)) | (Self::Money(now), Self::Money(before)) => now - before,
            (Self::Part(now), Self::Part(before)) => now - before,
            (Self::Seconds(Some(now)), Self::Seconds(Some(before))) => now - before,
            _ => return self.show(),
        };
        let difference = match self {
            Self::Seconds(_) => Self::Seconds(Some(more.abs())),
            Self::Count(_) => Self::Count(more.abs()),
            Self::Part(_) => Self::Part(more.abs()),
            Self::Money(_) => Self::Money(more.abs()),
            Self::Nothing => Self::Nothing,
        };
        let (shown, nothing) = (difference.show(), Self::zero(difference).show());
        if shown == nothing {
            return format!("{}  (same)", self.show());
        }
        format!("{}  ({}{shown})", self.show(), if more < 0.0 { "-" } else { "+" })
    }

    fn zero(self) -> Self {
        match self {
            Self::Count(_) => Self::Count(0.0),
            Self::Part(_) => Self::Part(0.0),
            Self::Seconds(_) => Self::Seconds(Some(0.0)),
            Self::Money(_) => Self::Money(0.0),
            Self::Nothing => Self::Nothing,
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn count(number: usize) -> Value {
    Value::Count(number as f64)
}

fn list(runs: &[Run]) -> Vec<Figure> {
    let mut list: Vec<Figure> = Vec::new();
    let mut add = |name: &str, of: Box<dyn Fn(&Outcome) -> Value>| list.push(Figure { name: name.to_owned(), of });
    add("joined", Box::new(|day| count(day.joined)));
    add("never joined", Box::new(|day| count(day.bots - day.joined)));
    let mut reasons: Vec<&String> = runs.iter().flat_map(|run| run.outcome.never_joined.keys()).collect();
    reasons.sort();
    reasons.dedup();
    for reason in reasons {
        let of = reason.clone();
        add(&format!("  {reason}"), Box::new(move |day| count(day.never_joined.get(&of).copied().unwrap_or(0))));
    }
    #[allow(clippy::cast_precision_loss)]
    add("in the meeting at its start", Box::new(|day| Value::Part(day.on_time as f64 / day.bots.max(1) as f64)));
    let percentiles: [(&str, Of<Outcome, Percentiles>); 2] =
        [("lateness", |day| day.lateness_seconds), ("wait for a slot", |day| day.queue_wait_seconds)];
    let each: [(&str, Of<Percentiles, Option<f64>>); 4] =
        [("p50", |of| of.p50), ("p95", |of| of.p95), ("p99", |of| of.p99), ("max", |of| of.max)];
    for (name, of) in percentiles {
        for (percentile, get) in each {
            add(
                &format!("{name} {percentile}"),
                Box::new(move |day| if day.bots == 0 { Value::Nothing } else { Value::Seconds(get(&of(day))) }),
            );
        }
    }
    add("most waiting", Box::new(|day| Value::Count(day.most_waiting.into())));
    add("most slots taken", Box::new(|day| Value::Count(day.most_slots.into())));
    add("starts", Box::new(|day| Value::Count(day.starts.into())));
    if runs.iter().any(|run| run.outcome.cost > 0.0) {
        add("cost", Box::new(|day| Value::Money(day.cost)));
    }
    list
}

fn figures(runs: &[Run]) -> String {
    let Some((first, others)) = runs.split_first() else { return String::new() };
    let mut header = words(["", "AS IT IS"]);
    header.extend(others.iter().map(|run| run.what_if.clone().unwrap_or_default()));
    let rows = list(runs).into_iter().map(|figure| {
        let before = (figure.of)(&first.outcome);
        let mut row = vec![figure.name.clone(), before.show()];
        row.extend(others.iter().map(|run| (figure.of)(&run.outcome).beside(before)));
        row
    });
    table(header, rows)
}

/// A table for each day, with what was different above it where there are several.
fn platforms(runs: &[Run]) -> String {
    let of = |run: &Run| {
        let heading = match &run.what_if {
            Some(changes) => format!("What if {changes}\n"),
            None if runs.len() > 1 => "As it is\n".to_owned(),
            None => String::new(),
        };
        heading + &platforms_of(&run.outcome)
    };
    runs.iter().map(of).collect::<Vec<_>>().join("\n\n")
}

fn platforms_of(day: &Outcome) -> String {
    // Columns of their own only where there is something to say.
    let pooled = day.platforms.iter().any(|platform| platform.most_standing.is_some());
    let mut header = words([
        "PLATFORM",
        "SLOTS",
        "MOST TAKEN",
        "IN USE",
        "PERMITS",
        "MOST STARTING",
        "STARTS",
        "FAILED",
        "SLOT HOURS",
        "COST",
    ]);
    if pooled {
        header.extend(words(["MOST STANDING", "STANDING HOURS"]));
    }
    let whole = |number: u32| decimal(number.into(), 0);
    let dash = || "-".to_owned();
    let rows = day.platforms.iter().map(|platform| {
        let mut row = vec![
            platform.name.clone(),
            whole(platform.limit),
            whole(platform.most_slots),
            format!("{:.0} %", platform.utilisation * 100.0),
            whole(platform.permits),
            whole(platform.most_starting),
            whole(platform.starts),
            whole(platform.failures),
            decimal(platform.slot_hours, 0),
            if platform.cost > 0.0 { decimal(platform.cost, 2) } else { dash() },
        ];
        if pooled {
            row.push(platform.most_standing.map_or_else(dash, whole));
            row.push(platform.standing_hours.map_or_else(dash, |hours| decimal(hours, 0)));
        }
        row
    });
    table(header, rows)
}

fn hours(day: &Outcome, zone: &TimeZone) -> String {
    let header =
        words(["HOUR", "BOTS", "NEVER JOINED", "LATENESS P50", "P99", "MOST WAITING", "MOST SLOTS", "MOST STARTING"]);
    let days: std::collections::BTreeSet<_> =
        day.hours.iter().map(|hour| hour.from.to_zoned(zone.clone()).date()).collect();
    let format = if days.len() > 1 { "%Y-%m-%d %H:%M" } else { "%H:%M" };
    let rows = day.hours.iter().map(|hour| {
        vec![
            hour.from.to_zoned(zone.clone()).strftime(format).to_string(),
            thousands(hour.bots),
            thousands(hour.never_joined),
            seconds(hour.lateness_seconds.p50),
            seconds(hour.lateness_seconds.p99),
            decimal(hour.most_waiting.into(), 0),
            decimal(hour.most_slots.into(), 0),
            decimal(hour.most_starting.into(), 0),
        ]
    });
    table(header, rows)
}

fn limit(found: &Found) -> String {
    let Found { platform, wanted, limit, lateness_seconds, days } = found;
    match limit {
        Some(limit) => format!(
            "{wanted}: {platform} needs {} slots, and then it is {} ({days} days were played).",
            decimal((*limit).into(), 0),
            seconds(*lateness_seconds)
        ),
        None => format!(
            "{wanted}: no limit of {platform} is enough; with a slot for every bot it is {}. Permits, starts and the lead decide.",
            seconds(*lateness_seconds)
        ),
    }
}

/// `-46.2 s`, `2 m 11 s`; what never came is no number.
fn seconds(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "never".to_owned() };
    if seconds.abs() < 99.95 {
        // No minus before a zero.
        return format!("{:.1} s", (seconds * 10.0).round() / 10.0 + 0.0);
    }
    #[allow(clippy::cast_possible_truncation)]
    let whole = seconds.round() as i64;
    let sign = if whole < 0 { "-" } else { "" };
    format!("{sign}{} m {:02} s", whole.abs() / 60, whole.abs() % 60)
}

/// A number with commas between its thousands.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn decimal(number: f64, places: usize) -> String {
    let text = format!("{number:.places$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), thousands);
    rest.map_or_else(|| whole.clone(), |rest| format!("{whole}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let shown = [0.0, -0.01, -46.24, 99.9, 99.96, 131.0, -3_725.4].map(|number| seconds(Some(number)));
        assert_eq!(shown, ["0.0 s", "0.0 s", "-46.2 s", "99.9 s", "1 m 40 s", "2 m 11 s", "-62 m 05 s"]);
        assert_eq!(seconds(None), "never");
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((decimal(12_345.678, 2), decimal(9.5, 0)), ("12,345.68".to_owned(), "10".to_owned()));
    }

    #[test]
    fn differences_stand_beside() {
        assert_eq!(Value::Count(12.0).beside(Value::Count(20.0)), "12  (-8)");
        assert_eq!(Value::Seconds(Some(3.0)).beside(Value::Seconds(Some(-2.0))), "3.0 s  (+5.0 s)");
        assert_eq!(Value::Seconds(None).beside(Value::Seconds(Some(2.0))), "never");
        assert_eq!(Value::Part(0.5).beside(Value::Part(0.5)), "50.0 %  (same)");
    }
}
