//! `serve`: runs the server until it is told to end.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::connection::data_folder;
use crate::config::Config;
use crate::hygiene;
use crate::serve::Running;

/// Where the server takes its configuration from.
#[derive(Args)]
#[group(required = false, multiple = false, id = "source")]
pub struct Source {
    /// The configuration, TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A data folder, with nothing configured; by default /var/lib/holdfast-keystore for root, and holdfast-keystore in the
    /// user's own data folder for others
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Arguments of `serve`.
#[derive(Args)]
pub struct Serve {
    #[command(flatten)]
    source: Source,
    /// Address and port to listen on, instead of the configured one
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

impl Serve {
    pub(super) fn run(self, json: bool, log_level: Option<&str>) -> anyhow::Result<()> {
        log_to_standard_error(log_level)?;
        let mut config = match (&self.source.config, &self.source.data) {
            (Some(file), _) => Config::read(file)?,
            (None, Some(data)) => Config::for_data(data),
            (None, None) => Config::for_data(
                &data_folder().context("there is no HOME; name a data folder with --data DIR")?,
            ),
        };
        config.listen = self.listen.unwrap_or(config.listen);
        // Before any other thread, and before any key.
        let memory = hygiene::protect(config.lock_memory)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("no threads can be started")?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let running = Running::start(config, memory).await?;
            say(&running, json);
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            running.end().await;
            Ok(())
        })
    }
}

fn say(running: &Running, json: bool) {
    let address = running.address;
    let fingerprint = running.fingerprint;
    let credential = running.server.folder.first_operator();
    let credential = credential.exists().then_some(credential);
    if json {
        let told = json!({
            "listen": address,
            "certificate_sha256": fingerprint,
            "first_operator": credential,
        });
        println!("{told}");
        return;
    }
    println!("listening on https://{address}");
    println!("certificate SHA-256 {fingerprint}");
    if let Some(credential) = credential {
        println!(
            "first operator's credential: {} (take it away from the server)",
            credential.display()
        );
    }
}

fn log_to_standard_error(level: Option<&str>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(level.unwrap_or("info"))
        .context("the log level is not understood; write error, warn, info, debug or trace")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    Ok(())
}
