//! Counters and gauges for `/metrics` (OpenMetrics). No name of a person, no address and no id is a label.

use std::sync::atomic::AtomicI64;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Everything that is counted.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Answered requests.
    pub requests: Family<RequestLabels, Counter>,
    /// Time to answer, in seconds.
    pub seconds: Family<CallLabel, Histogram, fn() -> Histogram>,
    /// Alerts by what came of them.
    pub alerts: Family<AlertLabels, Counter>,
    /// Lines on disk.
    pub audit_lines: Counter,
    /// Lines that could not be written.
    pub audit_failures: Counter,
    /// 0 uninitialised, 1 sealed, 2 unsealed.
    pub seal_state: Gauge,
    /// 1 while no audit line can be written.
    pub audit_trouble: Gauge,
    /// When the newest snapshot was taken, in seconds since 1970; 0 if there is none.
    pub newest_snapshot: Gauge<i64, AtomicI64>,
    /// 1 if pages are locked in memory.
    pub memory_locked: Gauge,
}

/// Labels of a request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    /// Name of the call, or `unknown`.
    pub call: &'static str,
    /// HTTP status.
    pub status: u16,
}

/// Label of a call.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CallLabel {
    /// Name of the call, or `unknown`.
    pub call: &'static str,
}

/// Labels of an alert.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct AlertLabels {
    /// Which way.
    pub sink: SinkKind,
    /// What came of it.
    pub outcome: AlertOutcome,
}

/// Which way something is told.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
pub enum SinkKind {
    /// HTTPS.
    Webhook,
    /// SMTP.
    Mail,
    /// A copy of the audit log.
    AuditWebhook,
    /// The local syslog.
    Syslog,
}

/// What came of an alert.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
pub enum AlertOutcome {
    /// Delivered.
    Sent,
    /// Given up after all tries.
    Failed,
    /// Not tried: too many were waiting.
    Dropped,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All of them at zero.
    pub fn new() -> Metrics {
        let metrics = Metrics {
            registry: Mutex::new(Registry::with_prefix("holdfast_keystore")),
            requests: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            alerts: Family::default(),
            audit_lines: Counter::default(),
            audit_failures: Counter::default(),
            seal_state: Gauge::default(),
            audit_trouble: Gauge::default(),
            newest_snapshot: Gauge::default(),
            memory_locked: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    /// The text that a Prometheus server reads.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock()).expect("a string takes everything");
        text
    }

    fn register(&self) {
        let mut registry = self.registry.lock();
        registry.register("requests", "Answered requests", self.requests.clone());
        registry.register("request_seconds", "Time to answer", self.seconds.clone());
        registry.register(
            "alerts",
            "Alerts and copies of audit lines by what came of them",
            self.alerts.clone(),
        );
        registry.register(
            "audit_lines",
            "Audit lines on disk",
            self.audit_lines.clone(),
        );
        registry.register(
            "audit_failures",
            "Audit lines that could not be written",
            self.audit_failures.clone(),
        );
        registry.register(
            "seal_state",
            "0 uninitialised, 1 sealed, 2 unsealed",
            self.seal_state.clone(),
        );
        registry.register(
            "audit_trouble",
            "1 while no audit line can be written",
            self.audit_trouble.clone(),
        );
        registry.register(
            "newest_snapshot_timestamp_seconds",
            "When the newest snapshot was taken; 0 if there is none",
            self.newest_snapshot.clone(),
        );
        registry.register(
            "memory_locked",
            "1 if pages are locked in memory",
            self.memory_locked.clone(),
        );
    }
}

fn histogram() -> Histogram {
    Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0])
}
