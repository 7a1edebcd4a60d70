//! W3C trace context: one bot's story is one trace, through HTTP, gRPC, NATS and the runner.

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The current span's trace context, if it is part of a trace.
#[must_use]
pub fn current() -> Option<String> {
    of(&Span::current())
}

/// A span's trace context, if it is part of a trace.
#[must_use]
pub fn of(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    context
        .is_valid()
        .then(|| format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8()))
}

/// Makes a span the child of the trace that `traceparent` names. Anything else is no parent, and no error.
pub fn continue_from(span: &Span, traceparent: Option<&str>) {
    if let Some(context) = traceparent.and_then(parse) {
        // Fails where no OpenTelemetry layer is installed; then there are no traces to continue.
        let _ = span.set_parent(Context::new().with_remote_span_context(context));
    }
}

/// Makes a span point to another one that stands in a trace of its own.
pub fn link(span: &Span, other: &Span) {
    let context = other.context();
    let context = context.span().span_context().clone();
    if context.is_valid() {
        span.add_link(context);
    }
}

fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || parts.next().is_some() {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        flags,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_contexts_are_parents() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(parse(good).is_some_and(|context| context.is_sampled() && context.is_remote()));
        for bad in
            ["", "00", "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-0-0-01", &format!("{good}-00")]
        {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}
