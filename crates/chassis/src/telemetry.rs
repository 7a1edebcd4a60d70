//! Logs, traces and metrics.

mod our_spans;
mod panics;

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::{Registry, TextEncoder};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

use crate::Settings;
use our_spans::OurSpans;

/// How to tell.
#[derive(Debug, Clone)]
pub struct Config {
    /// `info`, or directives as `info,greenroom_queue=debug`.
    pub level: String,
    /// Lines of JSON, or for people.
    pub json: bool,
    /// Where log lines go; default: stderr.
    pub file: Option<std::path::PathBuf>,
    /// Where to send traces: an OTLP/gRPC collector.
    pub otlp: Option<String>,
}

impl Config {
    /// Reads `LOG_LEVEL`, `LOG_FORMAT` and `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn parse(settings: &mut Settings) -> Self {
        settings.section("telemetry");
        let level: String = settings.get(
            "LOG_LEVEL",
            "info",
            "error, warn, info, debug or trace, or directives such as info,greenroom_queue=debug. Can be changed while running: PUT /log-level.",
        );
        if let Err(error) = level.parse::<EnvFilter>() {
            settings.problem("LOG_LEVEL", format!("{level:?}: {error}"));
        }
        let format: String = settings.get("LOG_FORMAT", "json", "json: one object a line; pretty: for people.");
        if format != "json" && format != "pretty" {
            settings.problem("LOG_FORMAT", format!("{format:?}: expected json or pretty"));
        }
        let otlp = otlp(settings);
        let file = settings.optional("LOG_FILE", "A file that log lines are added to; default: stderr.");
        Self { level, json: format == "json", file, otlp }
    }
}

/// Where this process sends its traces.
pub fn otlp(settings: &mut Settings) -> Option<String> {
    settings.optional(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "Where to send traces by OTLP over gRPC, as http://HOST:4317; default: nowhere.",
    )
}

/// What is set up. Cheap to clone.
#[derive(Clone)]
pub struct Telemetry {
    filter: Arc<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
    level: Arc<Mutex<String>>,
    registry: Registry,
    traces: Option<SdkTracerProvider>,
    meters: SdkMeterProvider,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

/// The libraries below us speak up only when something is wrong; h2 and hyper at debug would drown everything else, and
/// bollard tells whole requests, with the environment of runners in them. What kube and AWS cannot do is said by who asked them, and
/// why there is no connection to NATS by our bus, once: the library would say it at every try.
const QUIET: &str = "async_nats=warn,async_nats::connector=off,aws_config=warn,aws_runtime=warn,aws_smithy_runtime=warn,bollard=warn,kube=warn,kube_client=off,sqlx=warn,h2=warn,hyper=warn,hyper_util=warn,tower=warn,tonic=warn,chromiumoxide=off,opentelemetry=warn,opentelemetry_sdk=error,opentelemetry-otlp=error";

/// Opens the log for appending. It tells of every tenant, so other users of the machine do not read it.
fn open_log(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let metadata = file.metadata()?;
    // An earlier version made it readable. A device, such as /dev/stderr, keeps its mode.
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    format!("{QUIET},{level}").parse::<EnvFilter>().map_err(|error| error.to_string())
}

impl Telemetry {
    /// Sets up logs to stderr (panics among them), traces and metrics for the whole process. Once per process.
    ///
    /// # Errors
    /// When the level or the collector's address cannot be understood, or it was called before.
    pub fn install(config: &Config, service: &str) -> Result<Self, String> {
        let (filter_layer, handle) = reload::Layer::new(filter(&config.level)?);
        let resource = Resource::builder()
            .with_service_name(format!("greenroom-{service}"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let writer = match &config.file {
            Some(path) => {
                let file = open_log(path);
                let file = file.map_err(|error| format!("LOG_FILE: {}: {error}", path.display()))?;
                BoxMakeWriter::new(Arc::new(file))
            }
            None => BoxMakeWriter::new(std::io::stderr),
        };
        let logs = tracing_subscriber::fmt::layer().with_ansi(config.file.is_none()).with_writer(writer);
        let logs = if config.json {
            logs.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        } else {
            logs.with_target(false).compact().boxed()
        };
        let traces = match &config.otlp {
            Some(endpoint) => {
                let exporter = SpanExporter::builder()
                    .with_tonic()
                    .with_endpoint(endpoint)
                    .build()
                    .map_err(|error| format!("OTEL_EXPORTER_OTLP_ENDPOINT: {error}"))?;
                Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.clone()).build())
            }
            None => None,
        };
        let spans = traces.as_ref().map(|traces| {
            tracing_opentelemetry::layer()
                .with_tracer(traces.tracer("greenroom"))
                .with_location(false)
                .with_threads(false)
                .with_filter(OurSpans)
        });
        tracing_subscriber::registry()
            .with(logs.with_filter(filter_layer))
            .with(spans)
            .try_init()
            .map_err(|error| error.to_string())?;
        panics::log_them();

        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_target_info()
            .build()
            .map_err(|error| error.to_string())?;
        let meters = SdkMeterProvider::builder().with_reader(exporter).with_resource(resource).build();
        opentelemetry::global::set_meter_provider(meters.clone());
        Ok(Self {
            filter: Arc::new(move |filter| handle.reload(filter).map_err(|error| error.to_string())),
            level: Arc::new(Mutex::new(config.level.clone())),
            registry,
            traces,
            meters,
        })
    }

    /// Changes what is logged from now on.
    ///
    /// # Errors
    /// When the level cannot be understood.
    pub fn set_log_level(&self, level: &str) -> Result<(), String> {
        (self.filter)(filter(level)?)?;
        *self.level.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = level.to_owned();
        tracing::info!(level, "log level changed");
        Ok(())
    }

    /// What is logged now.
    #[must_use]
    pub fn log_level(&self) -> String {
        self.level.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Every metric in Prometheus' text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// Sends out what has gathered. Takes as long as the collector makes it, a few seconds at most.
    pub async fn flush(&self) {
        let (traces, meters) = (self.traces.clone(), self.meters.clone());
        // It blocks, and what sends may need this very thread.
        let flushed = greenroom_tasks::blocking("telemetry flush", move || {
            if let Some(traces) = traces {
                let _ = traces.force_flush();
            }
            let _ = meters.force_flush();
        });
        let _ = flushed.await;
    }
}
