//! gc of the users' archives: by the server's clock, every day or when an operator says so. Nobody else can delete anything.
//!
//! One run at a time, one archive after the other. What a run does in an archive, and what is left if we die, stands in
//! `holdfast_backend::gc`. The moment of the last whole run is in the barrier, as `server/gc`: if we die before that, the next one begins
//! sooner than it must.

use std::sync::Arc;
use std::time::Duration;

use holdfast_backend::gc::{DEFAULT_CLOCK_TOLERANCE, DEFAULT_SAFETY_AGE, GcReport, Rules, Run};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::api::error::ApiError;
use crate::audit::{Actor, Event};
use crate::names::{Id, PersonName};
use crate::server::{Phase, Server};
use crate::vault::Vault;

/// How often is looked whether a run is due, and counts of bytes are written.
const EVERY: Duration = Duration::from_secs(30);
const LAST: &str = "server/gc";

/// What came of one archive.
pub struct Collected {
    /// Whose.
    pub user: PersonName,
    /// Its report, or why nothing was deleted.
    pub outcome: Result<GcReport, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LastRun {
    at: Timestamp,
}

/// Runs until `ended` says so, also in the middle of a run.
pub async fn run(server: Arc<Server>, mut ended: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let rounds = async {
        loop {
            ticks.tick().await;
            round(&server).await;
        }
    };
    tokio::select! {
        () = rounds => {}
        _ = ended.wait_for(|ended| *ended) => {}
    }
}

async fn round(server: &Arc<Server>) {
    server.stores.probe().await;
    let done = async {
        server.blocking(Server::remember_usage).await?;
        collect_if_due(server).await
    };
    if let Err(error) = done.await {
        tracing::warn!(sentence = error.body().sentence, "gc is put off");
    }
}

async fn collect_if_due(server: &Arc<Server>) -> Result<(), ApiError> {
    let hours = server.config.store.gc_every_hours;
    if hours == 0 || server.phase() != Phase::Unsealed {
        return Ok(());
    }
    let every = SignedDuration::from_hours(i64::try_from(hours).unwrap_or(i64::MAX / 3_600));
    let now = server.clock.now();
    let last = server.blocking(|server| last_run(&server.vault.read()));
    if let Some(last) = last.await? {
        if now.duration_since(last) < every {
            return Ok(());
        }
        let started = Event::CollectionStarted;
        server.record(Actor::SERVER, started).await?;
        // Another run is as good.
        let Ok(_held) = server.collecting.try_lock() else {
            return Ok(());
        };
        collect(server, None, Run::Real, &Actor::SERVER).await?;
    }
    let set = move |server: &Server| set_last_run(&mut server.vault.write(), now);
    server.blocking(set).await
}

/// Runs gc in everybody's archive, or in one user's. The caller holds `server.collecting`.
pub async fn collect(
    server: &Arc<Server>,
    user: Option<PersonName>,
    run: Run,
    actor: &Actor,
) -> Result<Vec<Collected>, ApiError> {
    let list = move |server: &Server| archives(&server.vault.read(), user);
    let archives = server.blocking(list).await?;
    let mut collected = Vec::with_capacity(archives.len());
    for (user, id) in archives {
        // An open keystore only: sealed in between, the run is over.
        if server.phase() != Phase::Unsealed {
            return Err(ApiError::sealed());
        }
        let outcome = collect_one(server, &id, run).await;
        let event = match &outcome {
            Ok(report)
                if run == Run::Real && (report.deleted.objects + report.condemned.objects) > 0 =>
            {
                Some(Event::ArchiveCollected {
                    user: user.clone(),
                    condemned_objects: report.condemned.objects,
                    deleted_objects: report.deleted.objects,
                    deleted_bytes: report.deleted.bytes,
                })
            }
            Ok(_) => None,
            Err(sentence) => {
                tracing::error!(%user, sentence, "gc has stopped in an archive");
                Some(Event::CollectionFailed { user: user.clone() })
            }
        };
        if let Some(event) = event {
            server.record(actor.clone(), event).await?;
        }
        collected.push(Collected { user, outcome });
    }
    Ok(collected)
}

async fn collect_one(server: &Arc<Server>, id: &Id, run: Run) -> Result<GcReport, String> {
    let archive = server
        .stores
        .archive(id)
        .map_err(|error| error.to_string())?;
    let rules = Rules {
        now: server.clock.now().as_second(),
        grace: Duration::from_secs(86_400 * u64::from(server.stores.grace_days)),
        safety_age: DEFAULT_SAFETY_AGE,
        clock_tolerance: DEFAULT_CLOCK_TOLERANCE,
    };
    let report = holdfast_backend::gc::collect(archive.store(), &rules, run).await;
    let report = report.map_err(|error| error.to_string())?;
    archive.count().await.map_err(|error| error.to_string())?;
    Ok(report)
}

fn archives(vault: &Vault, user: Option<PersonName>) -> Result<Vec<(PersonName, Id)>, ApiError> {
    let users = match user {
        Some(user) => vec![vault.known_account(&user)?.name],
        None => vault.users()?,
    };
    let mut archives = Vec::with_capacity(users.len());
    for user in users {
        let enrolled = vault.known_account(&user)?.enrolled;
        archives.extend(enrolled.map(|enrolled| (user, enrolled.archive)));
    }
    Ok(archives)
}

fn last_run(vault: &Vault) -> Result<Option<Timestamp>, ApiError> {
    let path = LAST.parse().expect("a path in the program is a good one");
    let last: Option<LastRun> = vault.get(&path)?;
    Ok(last.map(|last| last.at))
}

fn set_last_run(vault: &mut Vault, at: Timestamp) -> Result<(), ApiError> {
    let path = LAST.parse().expect("a path in the program is a good one");
    vault.put(&path, &LastRun { at })
}

impl Server {
    /// Writes what has changed of the counts of bytes.
    fn remember_usage(&self) -> Result<(), ApiError> {
        if self.phase() != Phase::Unsealed {
            return Ok(());
        }
        for (id, archive) in self.stores.in_use() {
            if let Some(bytes) = archive.to_remember() {
                self.vault.write().put_usage(&id, bytes)?;
            }
        }
        Ok(())
    }
}
