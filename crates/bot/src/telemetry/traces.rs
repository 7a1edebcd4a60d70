//! Spans on their way to a collector, by OTLP over gRPC.

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// How long the last spans may take: a collector that does not answer holds no slot.
const LAST: Duration = Duration::from_secs(2);
const TRACEPARENT: &str = "traceparent";

/// What sends them.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// To a collector. It is connected to when there is something to send.
    pub fn to(endpoint: &str) -> Result<Self, String> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(LAST).build();
        let exporter = exporter.map_err(|error| error.to_string())?;
        let resource = Resource::builder()
            .with_service_name("greenroom-bot")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// What makes traces of spans: of our own alone, and never of log lines.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("greenroom"))
            .with_location(false)
            .with_threads(false)
            .with_filter(filter_fn(|meta| meta.is_span() && meta.target().starts_with("greenroom")))
    }

    /// Ends a span that others may still hold, and sends what has gathered.
    pub async fn end(self, last: Span) {
        last.context().span().end();
        drop(last);
        // It blocks, and what sends may need this very thread.
        let _ = greenroom_tasks::blocking("runner traces", move || self.0.shutdown_with_timeout(LAST)).await;
    }
}

/// Makes a span part of a trace. What names none is no error.
pub fn continue_from(span: &Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent else { return };
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    if parent.span().span_context().is_valid() {
        // Fails where there are no traces; then there is nothing to continue.
        let _ = span.set_parent(parent);
    }
}

/// The current span's trace context, if it is part of a trace.
pub(crate) fn traceparent() -> Option<String> {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut carrier);
    carrier.remove(TRACEPARENT)
}
