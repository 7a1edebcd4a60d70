//! Log lines on standard error, with the fields every part of Greenroom uses; and, where a collector is named, the runner's
//! part of its bot's trace.

mod json;
mod panics;
mod traces;

use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, reload};

use crate::config::{LogFormat, Settings};
use traces::Traces;
pub(crate) use traces::traceparent;

/// The log level, which a beat's answer may change while the runner runs. Cheap to clone.
#[derive(Clone)]
pub struct Level(Arc<dyn Fn(&str) + Send + Sync>);

impl Level {
    /// One that changes nothing: for tests, and where somebody else owns the log.
    #[must_use]
    pub fn fixed() -> Self {
        Self(Arc::new(|_| {}))
    }

    /// Changes it; a word that is no level changes nothing.
    pub fn set(&self, level: &str) {
        (self.0)(level);
    }
}

/// What is set up.
pub struct Telemetry {
    /// The log level.
    pub level: Level,
    traces: Option<Traces>,
}

/// Starts the log and the traces; nothing is connected to yet. Once in a process, within its runtime.
#[must_use]
pub fn start(settings: &Settings) -> Telemetry {
    let (filter, handle) = reload::Layer::new(up_to(&settings.log_level));
    let log = match settings.log_format {
        LogFormat::Json => json::Json::new(settings.bot, settings.attempt).boxed(),
        LogFormat::Pretty => fmt::layer().with_writer(std::io::stderr).boxed(),
    };
    let traces = settings.otlp.as_deref().map(Traces::to).transpose();
    let (traces, problem) = match traces {
        Ok(traces) => (traces, None),
        Err(problem) => (None, Some(problem)),
    };
    let spans = traces.as_ref().map(Traces::layer);
    tracing_subscriber::registry().with(log.with_filter(filter)).with(spans).init();
    panics::log_them();
    if let Some(problem) = problem {
        // No reason to stay away from a meeting.
        tracing::warn!(event = "traces.none", error = problem, "trace export disabled");
    }
    let level = Level(Arc::new(move |level| {
        if matches!(level, "error" | "warn" | "info" | "debug" | "trace") {
            let _ = handle.reload(up_to(level));
        }
    }));
    Telemetry { level, traces }
}

impl Telemetry {
    /// The span of the runner's whole life, in the trace that its environment names.
    #[must_use]
    pub fn runner(&self, settings: &Settings) -> tracing::Span {
        let span = tracing::info_span!(
            "runner",
            bot.id = %settings.bot,
            attempt = settings.attempt,
            reason = tracing::field::Empty,
            outcome = tracing::field::Empty,
        );
        traces::continue_from(&span, settings.traceparent.as_deref());
        span
    }

    /// Ends the runner's span, whoever still holds it, and sends what has gathered, for as long as that is worth.
    pub async fn end(self, runner: tracing::Span) {
        if let Some(traces) = self.traces {
            traces.end(runner).await;
        }
    }
}

/// What is logged at a level. Nothing of the browser's protocol at any level: its messages hold addresses and pages.
fn up_to(level: &str) -> EnvFilter {
    EnvFilter::new(format!(
        "warn,greenroom_bot={level},chromiumoxide=off,tungstenite=off,async_tungstenite=off,hyper=off,h2=off,reqwest=off,\
         opentelemetry=off,opentelemetry_sdk=off,opentelemetry-otlp=off"
    ))
}
