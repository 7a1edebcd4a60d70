//! Which spans go into traces: ours, whatever the log level is, and no log lines.
//!
//! Filters of single layers leave their answer with the thread until a span or line picks it up. sqlx's pool asks whether a
//! warning would be logged and then says nothing: our "no" stays, and a span of which every filter said "always", so that
//! nobody is asked again, picks it up and is lost. So we never say "always".

use tracing::Metadata;
use tracing::subscriber::Interest;
use tracing_subscriber::layer::{Context, Filter};

/// The filter.
pub(super) struct OurSpans;

impl<S> Filter<S> for OurSpans {
    fn enabled(&self, meta: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        meta.is_span() && meta.target().starts_with("greenroom")
    }

    fn callsite_enabled(&self, meta: &'static Metadata<'static>) -> Interest {
        if meta.is_span() && meta.target().starts_with("greenroom") { Interest::sometimes() } else { Interest::never() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tracing::span::{Attributes, Id};
    use tracing::{Level, Subscriber};
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::{EnvFilter, Layer};

    use super::*;

    /// Counts spans that get through.
    struct Count(Arc<AtomicU32>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_new_span(&self, _: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn abandoned_requests_leave_no_span() {
        let spans = Arc::new(AtomicU32::new(0));
        let logs = tracing_subscriber::fmt::layer().with_writer(std::io::sink).with_filter(EnvFilter::new("info"));
        let traces = Count(spans.clone()).with_filter(OurSpans);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(logs).with(traces), || {
            for _ in 0..3 {
                let _ = tracing::enabled!(target: "sqlx::pool", Level::WARN);
                let _span = tracing::info_span!("a span");
            }
        });
        assert_eq!(spans.load(Ordering::Relaxed), 3);
    }
}
