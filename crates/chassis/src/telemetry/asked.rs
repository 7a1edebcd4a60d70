//! A filter that is asked every time.
//!
//! Filters of single layers leave their last answer with the thread, where the span or line that was asked about picks it
//! up. sqlx asks whether it should log and then does not: its answer stays, and a span or line whose filters said "always"
//! beforehand, so that nobody asks again, picks up the wrong one and is lost. Whoever says "always" here is asked again.

use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter};

/// Another filter, asked every time.
pub(super) struct Asked<F>(pub F);

impl<S, F: Filter<S>> Filter<S> for Asked<F> {
    fn enabled(&self, meta: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        self.0.enabled(meta, context)
    }

    fn callsite_enabled(&self, meta: &'static Metadata<'static>) -> Interest {
        let interest = self.0.callsite_enabled(meta);
        if interest.is_always() { Interest::sometimes() } else { interest }
    }

    fn event_enabled(&self, event: &Event<'_>, context: &Context<'_, S>) -> bool {
        self.0.event_enabled(event, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.0.max_level_hint()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.0.on_close(id, context);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tracing::{Level, Subscriber};
    use tracing_subscriber::Layer;
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Counts what gets through.
    struct Count(Arc<AtomicU32>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn on_new_span(&self, _: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_asks_and_then_says_nothing_costs_nobody_a_line_or_a_span() {
        let (lines, spans) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let ours = |target: &str| target.starts_with("greenroom");
        // Both say "always" of a span of ours, and nobody would be asked again.
        let subscriber = tracing_subscriber::registry()
            .with(Count(lines.clone()).with_filter(Asked(filter_fn(move |meta| ours(meta.target())))))
            .with(
                Count(spans.clone()).with_filter(Asked(filter_fn(move |meta| meta.is_span() && ours(meta.target())))),
            );
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..3 {
                let _ = tracing::enabled!(target: "sqlx::query", Level::INFO);
                let _span = tracing::info_span!("a span");
                let _ = tracing::enabled!(target: "sqlx::query", Level::INFO);
                tracing::info!("a line");
            }
        });
        // The first hears of spans as well.
        assert_eq!((lines.load(Ordering::Relaxed), spans.load(Ordering::Relaxed)), (6, 3));
    }
}
