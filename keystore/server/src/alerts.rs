//! Telling people: webhooks and mail, sealed or not.
//!
//! Each sink has a queue of its own and a worker, so that a mail server that hangs delays no webhook. Nothing that an
//! operator does waits for them: an alert that finds the queue full is dropped, counted and logged. A delivery is tried
//! several times with growing pauses, each try in a time box; given up, it is logged and counted. An alert is not the record
//! of what happened, the audit log is: an alert that is lost leaves its line there.
//!
//! At the end of the server the queues are drained for as long as one try may take.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

mod mail;
mod syslog;
mod webhook;
mod wording;

use crate::audit::{Line, line};
use crate::config;
use crate::metrics::{AlertLabels, AlertOutcome, Metrics, SinkKind};
use crate::names::LineHash;
use mail::MailSink;
use syslog::SyslogSink;
use webhook::WebhookSink;

/// First pause between two tries; each next one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// What a sink gets.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// When.
    #[serde(serialize_with = "as_text")]
    pub time: Timestamp,
    /// Host name of the server, so that one mailbox can serve several.
    pub host: String,
    /// For a person.
    pub sentence: String,
    /// The line of the audit log, if there is one.
    pub line: Option<Line>,
    /// Its hash.
    pub hash: Option<LineHash>,
}

fn as_text<S: serde::Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(time)
}

/// A sink that cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {sentence}")]
pub struct SinkError {
    key: &'static str,
    sentence: String,
}

/// A delivery that failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct DeliveryError(String);

enum Sink {
    Webhook(WebhookSink),
    Mail(MailSink),
    Syslog(SyslogSink),
}

struct Queue {
    kind: SinkKind,
    what: What,
    sender: mpsc::Sender<Arc<Message>>,
}

/// What goes to a sink.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Alerts,
    EveryLine,
}

/// The running sinks.
pub struct Alerts {
    host: String,
    queues: Vec<Queue>,
    workers: Vec<JoinHandle<()>>,
    metrics: Arc<Metrics>,
    timeout: Duration,
}

impl Alerts {
    /// Starts all sinks of a configuration, on the current runtime.
    pub fn start(
        alerts: &config::Alerts,
        audit: &config::Audit,
        metrics: Arc<Metrics>,
    ) -> Result<Alerts, SinkError> {
        let timeout = Duration::from_secs(alerts.timeout_seconds);
        let mut started = Alerts {
            host: host(),
            queues: Vec::new(),
            workers: Vec::new(),
            metrics,
            timeout,
        };
        for webhook in &alerts.webhook {
            let sink = Sink::Webhook(WebhookSink::new(webhook, timeout)?);
            started.add(SinkKind::Webhook, What::Alerts, sink, alerts);
        }
        for mail in &alerts.mail {
            let sink = Sink::Mail(MailSink::new(mail, timeout)?);
            started.add(SinkKind::Mail, What::Alerts, sink, alerts);
        }
        if let Some(webhook) = &audit.webhook {
            let sink = Sink::Webhook(WebhookSink::new(webhook, timeout)?);
            started.add(SinkKind::AuditWebhook, What::EveryLine, sink, alerts);
        }
        if audit.syslog {
            started.add(
                SinkKind::Syslog,
                What::EveryLine,
                Sink::Syslog(SyslogSink),
                alerts,
            );
        }
        Ok(started)
    }

    /// Tells of a line that is on disk.
    pub fn line(&self, line: &Line) {
        let sentence = wording::sentence(line);
        let is_alert = sentence.is_some();
        let message = Arc::new(Message {
            time: line.time,
            host: self.host.clone(),
            sentence: sentence.unwrap_or_default(),
            line: Some(line.clone()),
            hash: Some(line::hash(&line.to_bytes())),
        });
        self.send(&message, |what| is_alert || what == What::EveryLine);
    }

    /// Tells of what has no line, because none can be written.
    pub fn raise(&self, sentence: String) {
        let message = Arc::new(Message {
            time: Timestamp::now(),
            host: self.host.clone(),
            sentence,
            line: None,
            hash: None,
        });
        self.send(&message, |what| what == What::Alerts);
    }

    /// Takes nothing more, and waits a while for what is queued.
    pub async fn drain(mut self) {
        self.queues.clear();
        let all = async {
            for worker in self.workers {
                // A worker that has panicked has nothing more to send.
                let _ = worker.await;
            }
        };
        if tokio::time::timeout(self.timeout, all).await.is_err() {
            tracing::warn!("alerts are left that could not be delivered before the end");
        }
    }

    fn send(&self, message: &Arc<Message>, goes_to: impl Fn(What) -> bool) {
        for queue in self.queues.iter().filter(|queue| goes_to(queue.what)) {
            if queue.sender.try_send(Arc::clone(message)).is_err() {
                tracing::error!(sink = ?queue.kind, "an alert was dropped: too many are waiting");
                count(&self.metrics, queue.kind, AlertOutcome::Dropped);
            }
        }
    }

    fn add(&mut self, kind: SinkKind, what: What, sink: Sink, config: &config::Alerts) {
        let (sender, receiver) = mpsc::channel(config.queue);
        self.queues.push(Queue { kind, what, sender });
        let worker = Worker {
            kind,
            sink,
            tries: config.tries,
            timeout: self.timeout,
            metrics: Arc::clone(&self.metrics),
        };
        self.workers.push(tokio::spawn(worker.run(receiver)));
    }
}

struct Worker {
    kind: SinkKind,
    sink: Sink,
    tries: u32,
    timeout: Duration,
    metrics: Arc<Metrics>,
}

impl Worker {
    async fn run(self, mut messages: mpsc::Receiver<Arc<Message>>) {
        while let Some(message) = messages.recv().await {
            let outcome = match self.deliver(&message).await {
                Ok(()) => AlertOutcome::Sent,
                Err(error) => {
                    tracing::error!(sink = ?self.kind, %error, "an alert could not be delivered");
                    AlertOutcome::Failed
                }
            };
            count(&self.metrics, self.kind, outcome);
        }
    }

    async fn deliver(&self, message: &Message) -> Result<(), DeliveryError> {
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            let late = |_| DeliveryError("no answer in time".to_owned());
            let tried = tokio::time::timeout(self.timeout, self.sink.deliver(message)).await;
            match tried.map_err(late).flatten() {
                Err(error) if tries < self.tries => {
                    tracing::warn!(sink = ?self.kind, %error, tries, "an alert is tried again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    tries += 1;
                }
                result => return result,
            }
        }
    }
}

impl Sink {
    async fn deliver(&self, message: &Message) -> Result<(), DeliveryError> {
        match self {
            Sink::Webhook(sink) => sink.deliver(message).await,
            Sink::Mail(sink) => sink.deliver(message).await,
            Sink::Syslog(sink) => sink.deliver(message).await,
        }
    }
}

fn count(metrics: &Metrics, sink: SinkKind, outcome: AlertOutcome) {
    metrics
        .alerts
        .get_or_create(&AlertLabels { sink, outcome })
        .inc();
}

fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// A token or password in a file, without the line end.
fn secret_file(
    key: &'static str,
    path: &std::path::Path,
) -> Result<zeroize::Zeroizing<String>, SinkError> {
    let text = std::fs::read_to_string(path).map_err(|error| SinkError {
        key,
        sentence: format!("{} cannot be read: {error}; check the path", path.display()),
    })?;
    let text = zeroize::Zeroizing::new(text);
    Ok(zeroize::Zeroizing::new(text.trim_end().to_owned()))
}
