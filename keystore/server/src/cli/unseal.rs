//! `unseal`: starts the ceremony, enters shares, or gives it up.
//!
//! Who holds one share enters one. Who holds several, which only a trial has, is asked for one after the other until the
//! keystore is open or an empty line ends it.

use anyhow::bail;
use clap::Args;
use reqwest::Method;
use serde_json::json;

use super::answer::Answer;
use super::connection::{Connection, Session};
use super::typed_share::ShareSource;
use crate::api::error::ErrorCode;
use crate::api::json::ShareText;
use crate::api::status::{CeremonyStatus, Status};
use crate::api::unseal::{CancelCeremony, Nothing, Outcome, SubmitShare, Submitted};
use crate::audit::Ceremony;
use crate::client::ClientError;
use crate::server::Phase;

/// Arguments of `unseal`.
#[derive(Args)]
pub struct Unseal {
    #[command(flatten)]
    source: ShareSource,
    /// Only start the ceremony, as an operator who holds no share
    #[arg(long, conflicts_with_all = ["share_file", "cancel"])]
    start: bool,
    /// Give the ceremony up: shares that have counted are forgotten
    #[arg(long, conflicts_with = "share_file")]
    cancel: bool,
}

impl Unseal {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<Answer> {
        let session = connection.open()?;
        let status = status(&session).await?;
        match status.phase {
            Phase::Unsealed => {
                return Answer::new(
                    "The keystore is open already.",
                    &json!({ "phase": "unsealed" }),
                );
            }
            Phase::Uninitialised => {
                bail!(
                    "the keystore has no shares yet; run: holdfast-keystore init --holder NAME ..."
                )
            }
            Phase::Sealed => {}
        }
        if self.cancel {
            return cancel(&session, status.ceremony.as_ref(), Ceremony::Unseal).await;
        }
        if self.start {
            return started(&session, status.ceremony).await;
        }
        let held = held(&session, &status);
        if held == 0 {
            bail!(
                "you hold no share of this keystore; an operator who holds none starts with: holdfast-keystore unseal --start"
            );
        }
        // Before anything is sent, so that a mistyped share leaves nothing started.
        let first = self.source.read("Share (not shown): ")?;
        let ceremony = match status.ceremony {
            Some(ceremony) => ceremony,
            None => start(&session).await?,
        };
        let asked_again = self.source.asks() && held > 1;
        let entry = Entry {
            session: &session,
            ceremony: &ceremony,
            path: "/v1/unseal/submit",
        };
        let last = entry
            .submit_all(first, asked_again.then_some(&self.source), held)
            .await?;
        Answer::new(told(&last), &last)
    }
}

/// Shares on their way into one ceremony.
pub(super) struct Entry<'a> {
    pub(super) session: &'a Session,
    pub(super) ceremony: &'a CeremonyStatus,
    pub(super) path: &'static str,
}

impl Entry<'_> {
    /// Submits these, then asks for more as long as the holder has some. The last answer is told.
    pub(super) async fn submit_all(
        &self,
        shares: Vec<ShareText>,
        ask: Option<&ShareSource>,
        held: usize,
    ) -> anyhow::Result<Submitted> {
        let mut entered = 0;
        let mut shares = shares.into_iter();
        let mut last: Option<Submitted> = None;
        loop {
            let share = match (shares.next(), ask) {
                (Some(share), _) => share,
                (None, Some(ask)) if entered < held && !is_over(last.as_ref()) => {
                    if let Some(last) = &last {
                        eprintln!("{}", told(last));
                    }
                    let Some(share) = ask.ask_again()? else {
                        break;
                    };
                    share
                }
                (None, _) => break,
            };
            if is_over(last.as_ref()) {
                break;
            }
            last = Some(self.submit(share).await?);
            entered += 1;
        }
        last.ok_or_else(|| anyhow::anyhow!("no share was entered; run the command again"))
    }

    async fn submit(&self, share: ShareText) -> anyhow::Result<Submitted> {
        let body = SubmitShare {
            ceremony: self.ceremony.ceremony,
            digest: self.ceremony.digest,
            share,
        };
        Ok(self.session.client.post(self.path, &body).await?)
    }
}

fn is_over(last: Option<&Submitted>) -> bool {
    last.is_some_and(|last| last.outcome != Outcome::Waiting)
}

pub(super) async fn status(session: &Session) -> anyhow::Result<Status> {
    Ok(session.client.get("/v1/status").await?)
}

/// How many shares the caller holds.
fn held(session: &Session, status: &Status) -> usize {
    let holders = status.seal.iter().flat_map(|seal| &seal.holders);
    holders
        .filter(|held| Some(held.holder.as_str()) == session.name.as_deref())
        .count()
}

async fn start(session: &Session) -> anyhow::Result<CeremonyStatus> {
    let started = session.client.post("/v1/unseal/start", &Nothing {}).await;
    match started {
        Err(ClientError::Refused(body)) if body.code == ErrorCode::Role => bail!(
            "nobody has started to open the keystore; an operator runs: holdfast-keystore unseal --start"
        ),
        started => Ok(started?),
    }
}

async fn started(session: &Session, running: Option<CeremonyStatus>) -> anyhow::Result<Answer> {
    let ceremony = match running {
        Some(ceremony) => ceremony,
        None => start(session).await?,
    };
    let text = format!(
        "Ceremony {} waits for {} shares, {} entered; each holder runs: holdfast-keystore unseal",
        ceremony.ceremony,
        ceremony.need,
        ceremony.have.len()
    );
    Answer::new(text, &ceremony)
}

/// Gives the ceremony that is under way up, if it is one of that kind.
pub(super) async fn cancel(
    session: &Session,
    ceremony: Option<&CeremonyStatus>,
    kind: Ceremony,
) -> anyhow::Result<Answer> {
    let Some(running) = ceremony.filter(|running| running.kind == kind) else {
        bail!("there is no such ceremony under way; holdfast-keystore status tells what is");
    };
    let path = match kind {
        Ceremony::Unseal => "/v1/unseal/cancel",
        Ceremony::Reshare => "/v1/reshare/cancel",
    };
    let body = CancelCeremony {
        ceremony: running.ceremony,
    };
    let () = session.client.call(Method::POST, path, Some(&body)).await?;
    let text = format!("Ceremony {} is given up.", running.ceremony);
    Answer::new(text, &json!({ "cancelled": running.ceremony }))
}

pub(super) fn told(submitted: &Submitted) -> String {
    let Submitted {
        outcome,
        share,
        have,
        need,
    } = submitted;
    match outcome {
        Outcome::Waiting => format!(
            "Share {share} counts: {have} of {need}. The next holder runs the same command."
        ),
        Outcome::Unsealed => {
            format!("Share {share} was the last one needed: the keystore is open.")
        }
        Outcome::Reshared => {
            format!(
                "Share {share} was the last one: the new shares hold, the old ones open nothing any more."
            )
        }
    }
}
