//! Log lines on standard error, with the fields every part of Greenroom uses.

mod json;

use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, reload};

use crate::config::{LogFormat, Settings};

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

/// Starts the log. Once in a process.
#[must_use]
pub fn start(settings: &Settings) -> Level {
    let (filter, handle) = reload::Layer::new(up_to(&settings.log_level));
    let registry = tracing_subscriber::registry().with(filter);
    match settings.log_format {
        LogFormat::Json => registry.with(json::Json::new(settings.bot, settings.attempt)).init(),
        LogFormat::Pretty => registry.with(fmt::layer().with_writer(std::io::stderr)).init(),
    }
    Level(Arc::new(move |level| {
        if matches!(level, "error" | "warn" | "info" | "debug" | "trace") {
            let _ = handle.reload(up_to(level));
        }
    }))
}

/// What is logged at a level. Nothing of the browser's protocol at any level: its messages hold addresses and pages.
fn up_to(level: &str) -> EnvFilter {
    EnvFilter::new(format!(
        "warn,greenroom_bot={level},chromiumoxide=off,tungstenite=off,async_tungstenite=off,hyper=off,h2=off,reqwest=off"
    ))
}
