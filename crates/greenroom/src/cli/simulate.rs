//! `greenroom simulate …`: plays a day of meetings, to plan capacity. Nothing of a Greenroom has to run.

mod tables;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use greenroom_chassis::Settings;
use greenroom_domain::PlatformName;
use greenroom_simulate::{Changes, Day, Found, Kind, Outcome, Scenario, Trace, Wanted, play, plot};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::configuration::{Configuration, Role};
use crate::{Error, Platforms};

#[derive(Debug, Args)]
pub struct Simulate {
    /// A CSV of meetings: start, duration_minutes or end, and if known provider, tenant, plan, priority, created, no_show.
    /// `-` reads it from standard input.
    #[arg(required_unless_present = "generate", conflicts_with = "generate")]
    trace: Option<PathBuf>,
    /// Makes a day up instead: office-day.
    #[arg(long, value_name = "KIND")]
    generate: Option<Kind>,
    /// How many meetings a made-up day has.
    #[arg(long, default_value_t = 10_000, value_name = "NUMBER")]
    meetings: usize,
    /// Which day it is.
    #[arg(long, default_value = "2026-03-03")]
    date: Date,
    /// Where it is, and how times are shown: an IANA name, as Europe/Berlin.
    #[arg(long, default_value = "UTC", value_parser = time_zone)]
    time_zone: TimeZone,
    /// How many tenants share it.
    #[arg(long, default_value_t = 20, value_name = "NUMBER")]
    tenants: usize,
    /// What chance brings: the same number, the same day.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes the day as CSV.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// A platform that is otherwise than the settings say, or one more: docker:limit=50,permits=16,start=8s,start_p95=20s,price=0.04
    #[arg(long, value_name = "NAME:PROPERTY=VALUE,…", value_parser = Changes::of_platform)]
    platform: Vec<(PlatformName, Changes)>,
    /// The same day again with a change, side by side: limit=docker:80, permits=docker:32, lead=90s; several with commas.
    #[arg(long, value_name = "WHAT=VALUE,…")]
    what_if: Vec<Changes>,
    /// The smallest limit with which lateness stays that low: p99=10s, or p99=10s:docker for another than the first platform.
    #[arg(long, value_name = "PERCENTILE=DURATION")]
    find_limit: Option<Wanted>,
    /// Draws the day as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Prints JSON instead of tables.
    #[arg(long)]
    json: bool,
}

fn time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|error| error.to_string())
}

/// A day that was played, and what was different.
struct Run {
    what_if: Option<String>,
    scenario: Scenario,
    outcome: Outcome,
}

impl Simulate {
    pub fn run(self, environment: BTreeMap<String, String>, file: &str, platforms: &Platforms) -> Result<(), Error> {
        let scenario = self.scenario(environment, file, platforms)?;
        let trace = self.trace()?;
        if let Some(path) = &self.write {
            write(path, |file| trace.write(file, &self.time_zone).map_err(plain))?;
        }
        let played = play(&trace, &scenario, self.seed);
        if let Some(path) = &self.plot {
            let title = self.title(&trace);
            let svg = plot(&played, &scenario, &self.time_zone, &title).map_err(plain)?;
            write(path, |file| file.write_all(svg.as_bytes()).map_err(plain))?;
        }
        let outcome = Outcome::of(&played, &scenario, &self.time_zone);
        let mut runs = vec![Run { what_if: None, scenario, outcome }];
        for changes in &self.what_if {
            let mut scenario = runs[0].scenario.clone();
            changes
                .apply(&mut scenario)
                .map_err(|error| Error::Plain(format!("--what-if {}: {error}", changes.said)))?;
            let outcome = Outcome::of(&play(&trace, &scenario, self.seed), &scenario, &self.time_zone);
            runs.push(Run { what_if: Some(changes.said.clone()), scenario, outcome });
        }
        let found = self.find_limit.as_ref().map(|wanted| wanted.find(&trace, &runs[0].scenario, self.seed));
        let found = found.transpose().map_err(|error| Error::Plain(format!("--find-limit: {error}")))?;
        self.print(&trace, &runs, found.as_ref())
    }

    /// What the settings say, and the options. A platform that no setting names is one more, after the others; when no setting
    /// names any, they are all there is.
    fn scenario(
        &self,
        mut environment: BTreeMap<String, String>,
        file: &str,
        platforms: &Platforms,
    ) -> Result<Scenario, Error> {
        const PRIORITY: &str = "PLATFORM_PRIORITY";
        if !self.platform.is_empty() {
            let said = environment.get(PRIORITY).cloned().or_else(|| {
                let lines = file.lines().filter_map(|line| line.split_once('='));
                let mut said = lines.filter(|(name, _)| name.trim() == PRIORITY);
                said.next_back().map(|(_, value)| value.trim().trim_matches('"').to_owned())
            });
            let mut names: Vec<String> =
                said.iter().flat_map(|said| said.split(',')).map(|name| name.trim().to_owned()).collect();
            for (name, _) in &self.platform {
                if !names.iter().any(|known| known == name.as_str()) {
                    names.push(name.to_string());
                }
            }
            environment.insert(PRIORITY.to_owned(), names.join(","));
        }
        let (configuration, _, _) = Configuration::read(Settings::new(environment, file), platforms, Role::default())?;
        let mut scenario = Scenario::of(&configuration.scheduler, &configuration.queue, &configuration.pool_manager);
        for (_, changes) in &self.platform {
            changes
                .apply(&mut scenario)
                .map_err(|error| Error::Plain(format!("--platform {}: {error}", changes.said)))?;
        }
        Ok(scenario)
    }

    fn trace(&self) -> Result<Trace, Error> {
        match (&self.trace, self.generate) {
            (Some(path), _) if path == Path::new("-") => Trace::read(io::stdin().lock()).map_err(plain),
            (Some(path), _) => {
                let file = File::open(path).map_err(Error::machine(format!("read {}", path.display())))?;
                Trace::read(file).map_err(|error| Error::Plain(format!("{}: {error}", path.display())))
            }
            (None, kind) => {
                let (kind, zone) = (kind.unwrap_or(Kind::OfficeDay), self.time_zone.clone());
                let (meetings, date, tenants) = (self.meetings, self.date, self.tenants);
                Ok(Day { kind, meetings, date, zone, tenants }.make(self.seed))
            }
        }
    }

    fn title(&self, trace: &Trace) -> String {
        let bots = match trace.meetings.len() {
            1 => "one bot".to_owned(),
            bots => format!("{} bots", tables::thousands(bots)),
        };
        let Some((from, to)) = trace.span() else { return "no meetings".to_owned() };
        let (from, to) = (from.to_zoned(self.time_zone.clone()), to.to_zoned(self.time_zone.clone()));
        let to = if from.date() == to.date() { to.strftime("%H:%M") } else { to.strftime("%Y-%m-%d %H:%M") };
        let tenants = match trace.tenants.len() {
            1 => "one tenant".to_owned(),
            tenants => format!("{tenants} tenants"),
        };
        format!(
            "{bots} of {tenants}, {} to {to} {}, seed {}",
            from.strftime("%Y-%m-%d %H:%M"),
            from.strftime("%Q"),
            self.seed
        )
    }

    fn print(&self, trace: &Trace, runs: &[Run], found: Option<&Found>) -> Result<(), Error> {
        let text = if self.json {
            let days = runs.iter().map(|run| json!({ "what_if": run.what_if, "outcome": run.outcome }));
            let days: Vec<_> = days.collect();
            serde_json::to_string_pretty(&json!({ "seed": self.seed, "days": days, "limit": found })).map_err(plain)?
        } else {
            tables::all(&self.title(trace), runs, found, &self.time_zone)
        };
        // Whoever reads only the first lines is no error.
        match writeln!(io::stdout().lock(), "{text}") {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::machine("print")(error)),
            _ => Ok(()),
        }
    }
}

fn plain(error: impl std::fmt::Display) -> Error {
    Error::Plain(error.to_string())
}

fn write(path: &Path, fill: impl FnOnce(&mut File) -> Result<(), Error>) -> Result<(), Error> {
    let mut file = File::create(path).map_err(Error::machine(format!("write {}", path.display())))?;
    fill(&mut file)
}
