//! The panels.

use std::collections::BTreeMap;

use greenroom_domain::Timestamp;
use jiff::tz::TimeZone;
use plotters::chart::{ChartContext, SeriesLabelPosition};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::{POINTS, PlotError, TOGETHER, hours, wrong};
use crate::day::{Fared, Played};
use crate::outcome::Percentiles;
use crate::record::Curve;
use crate::scenario::{Platform, Scenario};

pub const INK: RGBColor = RGBColor(40, 44, 52);
const FAINT: RGBColor = RGBColor(228, 231, 235);
const LIMIT: RGBColor = RGBColor(190, 30, 45);
const QUEUE: RGBColor = RGBColor(120, 94, 160);
const MEDIAN: RGBColor = RGBColor(38, 84, 124);
const LATEST: RGBColor = RGBColor(224, 122, 36);
/// One for each platform, and then again.
const PLATFORMS: &[RGBColor] = &[
    RGBColor(42, 157, 143),
    RGBColor(233, 180, 76),
    RGBColor(69, 123, 157),
    RGBColor(214, 106, 90),
    RGBColor(138, 177, 125),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// What all panels share.
pub struct Panels<'a> {
    played: &'a Played,
    scenario: &'a Scenario,
    zone: TimeZone,
    midnight: Timestamp,
    from: f64,
    to: f64,
    /// Steps of the day's curves that are drawn as one point, and how many such points there are.
    together: usize,
    points: usize,
}

/// What a panel with platforms one on the other shows.
struct Stack {
    title: &'static str,
    /// What each is allowed.
    word: &'static str,
    /// What all are allowed together.
    cap: Option<u32>,
    /// What there is in all, beside what is taken.
    line: Option<Vec<(f64, f64)>>,
}

impl<'a> Panels<'a> {
    pub fn new(played: &'a Played, scenario: &'a Scenario, zone: &TimeZone) -> Self {
        let origin = played.axis.origin;
        let start = origin.to_zoned(zone.clone());
        let midnight = start.start_of_day().map_or(origin, |midnight| midnight.timestamp());
        let steps = played.axis.index(played.end) + 1;
        let together = steps.div_ceil(POINTS).max(1);
        let from = hours(origin, midnight);
        let to = hours(played.end, midnight).max(from + 0.1);
        let points = steps.div_ceil(together);
        Self { played, scenario, zone: zone.clone(), midnight, from, to, together, points }
    }

    fn chart<'b, 'c>(
        &self,
        area: &'c Area<'b>,
        title: &str,
        y: (f64, f64),
        last: bool,
    ) -> Result<Chart<'c, 'b>, PlotError> {
        let caption = ("sans-serif", 15).into_font().color(&INK);
        let mut chart = ChartBuilder::on(area)
            .margin_left(12)
            .margin_right(28)
            .margin_top(10)
            .margin_bottom(if last { 8 } else { 2 })
            .caption(title, caption)
            .y_label_area_size(56)
            .x_label_area_size(30)
            .build_cartesian_2d(self.from..self.to, y.0..y.1)
            .map_err(wrong)?;
        let clock = |hour: &f64| {
            let at = self.midnight + std::time::Duration::from_secs_f64(hour.max(0.0) * 3_600.0);
            let format = if self.to - self.from > 36.0 { "%a %H:%M" } else { "%H:%M" };
            at.to_zoned(self.zone.clone()).strftime(format).to_string()
        };
        let number = |value: &f64| {
            if value.abs() >= 10.0 {
                format!("{value:.0}")
            } else {
                format!("{value:.1}").trim_end_matches(".0").to_owned()
            }
        };
        chart
            .configure_mesh()
            .bold_line_style(FAINT)
            .light_line_style(TRANSPARENT)
            .axis_style(INK.mix(0.5))
            .label_style(("sans-serif", 13).into_font().color(&INK))
            .x_labels(16)
            .y_labels(6)
            .x_label_formatter(&clock)
            .y_label_formatter(&number)
            .draw()
            .map_err(wrong)?;
        Ok(chart)
    }

    fn x(&self, point: usize) -> f64 {
        hours(self.played.axis.at(point * self.together), self.midnight)
    }

    /// What pooled platforms have standing, in all; none: no platform is pooled.
    fn standing(&self) -> Option<Vec<(f64, f64)>> {
        self.scenario.platforms.iter().find(|platform| platform.pooled)?;
        let all = |point| self.played.platforms.iter().map(|went| self.y(&went.standing, point)).sum();
        Some((0..self.points).map(|point| (self.x(point), all(point))).collect())
    }

    fn y(&self, curve: &Curve, point: usize) -> f64 {
        f64::from(curve.most_in(point * self.together..(point + 1) * self.together))
    }

    /// Areas of platforms, one on the other, the highest drawn first; and a line at what is allowed.
    fn stacked(
        &self,
        area: &Area<'_>,
        stack: Stack,
        curve: impl Fn(usize) -> &'a Curve,
        allowed: impl Fn(&Platform) -> u32,
    ) -> Result<(), PlotError> {
        let Stack { title, word, cap, line } = stack;
        let platforms = &self.scenario.platforms;
        let mut sums = vec![vec![0.0; self.points]];
        for place in 0..platforms.len() {
            let below = &sums[place];
            sums.push((0..self.points).map(|point| below[point] + self.y(curve(place), point)).collect());
        }
        let peak = sums.last().into_iter().flatten().copied().fold(1.0, f64::max);
        // What all may have together; where that is far away, a line would flatten everything below it.
        let all = platforms.iter().map(|platform| u64::from(allowed(platform))).sum::<u64>();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let all = cap.map_or(all, |cap| all.min(u64::from(cap))) as f64;
        let peak = line.iter().flatten().map(|(_, y)| *y).fold(peak, f64::max);
        let near = all <= peak * 1.6;
        let mut chart = self.chart(area, title, (0.0, if near { all.max(peak) } else { peak } * 1.12), false)?;
        for (place, platform) in platforms.iter().enumerate().rev() {
            let color = PLATFORMS[place % PLATFORMS.len()];
            let line = (0..self.points).map(|point| (self.x(point), sums[place + 1][point]));
            let label = format!("{} ({word} {})", platform.name, allowed(platform));
            // Opaque: what is below was drawn before, in another color.
            let series = AreaSeries::new(line, 0.0, color);
            chart
                .draw_series(series)
                .map_err(wrong)?
                .label(label)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 16, y + 5)], color.filled()));
        }
        if let Some(line) = line {
            chart
                .draw_series(LineSeries::new(line, INK.stroke_width(1)))
                .map_err(wrong)?
                .label("standing")
                .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], INK));
        }
        if near {
            let line = [(self.from, all), (self.to, all)];
            chart
                .draw_series(DashedLineSeries::new(line, 6, 4, LIMIT.stroke_width(1)))
                .map_err(wrong)?
                .label(format!("{all:.0} {word}"))
                .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], LIMIT));
        }
        legend(&mut chart)
    }

    pub fn bots(&self, area: &Area<'_>) -> Result<(), PlotError> {
        let (cap, line) = (self.scenario.max_bots, self.standing());
        let stack = Stack { title: "Slots taken, by platform", word: "slots", cap, line };
        self.stacked(area, stack, |place| &self.played.platforms[place].taken, |platform| platform.limit)
    }

    pub fn starts(&self, area: &Area<'_>) -> Result<(), PlotError> {
        let cap = self.scenario.max_starts;
        let stack = Stack { title: "Starts in flight, by platform", word: "permits", cap, line: None };
        self.stacked(area, stack, |place| &self.played.platforms[place].starting, |platform| platform.permits)
    }

    pub fn waiting(&self, area: &Area<'_>) -> Result<(), PlotError> {
        let waiting = &self.played.waiting;
        let peak = f64::from(waiting.peak.max(1));
        let mut chart = self.chart(area, "Bots that wait for a slot", (0.0, peak * 1.12), false)?;
        let line = (0..self.points).map(|point| (self.x(point), self.y(waiting, point)));
        chart
            .draw_series(AreaSeries::new(line, 0.0, QUEUE.mix(0.5)).border_style(QUEUE))
            .map_err(wrong)?
            .label(format!("waiting (most: {})", waiting.peak))
            .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 16, y + 5)], QUEUE.mix(0.6).filled()));
        legend(&mut chart)
    }

    /// Of meetings that start within five minutes: a point for the middle, one for the latest of a hundred, a line between.
    pub fn lateness(&self, area: &Area<'_>) -> Result<(), PlotError> {
        let mut starting: BTreeMap<i64, Vec<&Fared>> = BTreeMap::new();
        let width = i64::try_from(TOGETHER.as_secs()).unwrap_or(300);
        for bot in &self.played.bots {
            starting.entry(bot.start.as_second().div_euclid(width)).or_default().push(bot);
        }
        let (mut points, mut never) = (Vec::new(), Vec::new());
        for (window, bots) in starting {
            let x = hours(Timestamp::from_second(window * width).unwrap_or(self.midnight), self.midnight);
            let joined: Vec<_> = bots.iter().map(|bot| bot.lateness()).filter(Option::is_some).collect();
            if joined.len() < bots.len() {
                never.push(x);
            }
            if let Percentiles { p50: Some(middle), p99: Some(late), .. } = Percentiles::of(joined) {
                points.push((x, middle, late));
            }
        }
        let least = points.iter().map(|(_, middle, _)| *middle).fold(0.0, f64::min);
        let most = points.iter().map(|(.., late)| *late).fold(1.0, f64::max);
        let room = (most - least) * 0.12;
        let title = "Lateness in seconds: joined minus start, for meetings that start within five minutes";
        let top = most + room * 2.0;
        let mut chart = self.chart(area, title, (least - room, top), true)?;
        chart.draw_series(LineSeries::new([(self.from, 0.0), (self.to, 0.0)], INK.mix(0.6))).map_err(wrong)?;
        let between = points
            .iter()
            .map(|(x, middle, late)| PathElement::new([(*x, *middle), (*x, *late)], FAINT.mix(0.9).stroke_width(2)));
        chart.draw_series(between).map_err(wrong)?;
        let dots = |of: fn(&(f64, f64, f64)) -> f64, color: RGBColor| {
            points.iter().map(move |point| Circle::new((point.0, of(point)), 3, color.filled())).collect::<Vec<_>>()
        };
        for (color, word, of) in
            [(LATEST, "p99", (|point| point.2) as fn(&(f64, f64, f64)) -> f64), (MEDIAN, "p50", |point| point.1)]
        {
            chart
                .draw_series(dots(of, color))
                .map_err(wrong)?
                .label(word)
                .legend(move |(x, y)| Circle::new((x + 8, y), 3, color.filled()));
        }
        if !never.is_empty() {
            let at = top - room * 0.5;
            let marks = never.into_iter().map(|x| Cross::new((x, at), 4, LIMIT.stroke_width(2)));
            chart
                .draw_series(marks)
                .map_err(wrong)?
                .label("some never joined")
                .legend(|(x, y)| Cross::new((x + 8, y), 4, LIMIT.stroke_width(2)));
        }
        legend(&mut chart)
    }
}

fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>) -> Result<(), PlotError> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .margin(6)
        .legend_area_size(22)
        .label_font(("sans-serif", 13).into_font().color(&INK))
        .background_style(WHITE.mix(0.85))
        .border_style(FAINT)
        .draw()
        .map_err(wrong)
}
