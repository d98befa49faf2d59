//! `reshare`: new shares in place of the old ones, in two phases.
//!
//! `start` hands the new ones out, each holder enters its own once, as many old holders as open the keystore enter theirs and so agree,
//! and with the last of them the old ones die. Until then, and after `cancel`, the old ones hold.

use anyhow::bail;
use clap::Subcommand;
use serde_json::json;

use super::answer::Answer;
use super::connection::Connection;
use super::hand_out::{HandOut, Opens};
use super::init::shares_answer;
use super::typed_share::ShareSource;
use super::unseal::{Entry, cancel, status, told};
use crate::api::reshare::ReshareStarted;
use crate::audit::Ceremony;

/// The steps of giving out new shares.
#[derive(Subcommand)]
pub enum Reshare {
    /// Make new shares and hand them out; the old ones still hold
    Start(HandOut),
    /// Enter a new share, so that everybody knows that its holder has it; or an old one, to agree
    Enter {
        #[command(flatten)]
        source: ShareSource,
    },
    /// Give it up: the old shares hold, the new ones are worth nothing
    Cancel,
}

impl Reshare {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<Answer> {
        match self {
            Reshare::Start(hand_out) => start(hand_out, connection).await,
            Reshare::Enter { source } => enter(source, connection).await,
            Reshare::Cancel => {
                let session = connection.open()?;
                let status = status(&session).await?;
                cancel(&session, status.ceremony.as_ref(), Ceremony::Reshare).await
            }
        }
    }
}

async fn start(hand_out: HandOut, connection: &Connection) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let prepared = hand_out.prepare()?;
    let request = hand_out.request();
    let made: ReshareStarted = session.client.post("/v1/reshare/start", &request).await?;
    let cluster = status(&session).await?.seal.map(|seal| seal.cluster);
    let opens = Opens {
        cluster: cluster.map(|id| id.to_string()).unwrap_or_default(),
        epoch: made.epoch,
        threshold: request.threshold,
    };
    let (mut text, shares) = prepared.deliver(made.shares, &opens)?;
    text.push_str(&format!(
        "The old shares still hold. Each holder enters its new share once, and {} holders of old ones enter theirs \
         and so agree: holdfast-keystore reshare enter. With the last of {} the old ones die.",
        made.ceremony.approvals_needed,
        shares.len() + usize::from(made.ceremony.approvals_needed)
    ));
    let json =
        json!({ "ceremony": made.ceremony, "epoch": made.epoch, "threshold": opens.threshold });
    shares_answer(&text, json, shares)
}

async fn enter(source: ShareSource, connection: &Connection) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let running = status(&session).await?.ceremony;
    let Some(ceremony) = running.filter(|running| running.kind == Ceremony::Reshare) else {
        bail!(
            "nobody is giving out new shares; an operator starts with: holdfast-keystore reshare start"
        );
    };
    let shares = source.read("New share, or an old one to agree (not shown): ")?;
    let entry = Entry {
        session: &session,
        ceremony: &ceremony,
        path: "/v1/reshare/submit",
    };
    let last = entry.submit_all(shares, None, 0).await?;
    Answer::new(told(&last), &last)
}
