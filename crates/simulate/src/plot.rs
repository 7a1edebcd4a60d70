//! A picture of a day: four panels over one time axis.

mod panels;

use std::time::Duration;

use greenroom_domain::Timestamp;
use jiff::tz::TimeZone;
use plotters::prelude::*;

use crate::day::Played;
use crate::scenario::Scenario;
use panels::Panels;

/// In pixels; the picture can be scaled.
const SIZE: (u32, u32) = (1200, 1120);
/// Where the title ends, and then each of the first three panels.
const BREAKS: [i32; 4] = [44, 344, 564, 784];
/// About so many points for each curve.
const POINTS: usize = 800;
/// Lateness is shown for so long together.
const TOGETHER: Duration = Duration::from_secs(300);

/// A picture that could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the plot cannot be drawn: {0}")]
pub struct PlotError(String);

fn wrong(error: impl std::fmt::Display) -> PlotError {
    PlotError(error.to_string())
}

/// Draws a day as SVG, with times as they are in a time zone.
///
/// # Errors
/// When it cannot be drawn.
pub fn plot(played: &Played, scenario: &Scenario, zone: &TimeZone, title: &str) -> Result<String, PlotError> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(wrong)?;
        let style = ("sans-serif", 20).into_font().color(&panels::INK);
        root.draw(&Text::new(title.to_owned(), (20, 14), style)).map_err(wrong)?;
        let areas = root.split_by_breakpoints::<i32, i32, _, _>([], BREAKS);
        let [_, bots, waiting, starts, lateness] = &areas[..] else { return Err(wrong("panels")) };
        let panels = Panels::new(played, scenario, zone);
        panels.bots(bots)?;
        panels.waiting(waiting)?;
        panels.starts(starts)?;
        panels.lateness(lateness)?;
        root.present().map_err(wrong)?;
    }
    Ok(svg)
}

/// Hours of the local clock, so that whole ones are whole numbers: from midnight before the first step.
fn hours(at: Timestamp, midnight: Timestamp) -> f64 {
    at.duration_since(midnight).as_secs_f64() / 3_600.0
}
