//! `init`: makes the keys, and hands out their shares.

use clap::Args;
use serde_json::json;

use super::answer::Answer;
use super::connection::Connection;
use super::hand_out::{HandOut, Opens};
use crate::api::init::InitResponse;

/// Arguments of `init`.
#[derive(Args)]
pub struct Init {
    #[command(flatten)]
    hand_out: HandOut,
}

impl Init {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<Answer> {
        let session = connection.open()?;
        let prepared = self.hand_out.prepare()?;
        let request = self.hand_out.request();
        let made: InitResponse = session.client.post("/v1/init", &request).await?;
        let opens = Opens {
            cluster: made.cluster.to_string(),
            epoch: made.epoch,
            threshold: made.threshold,
        };
        let (mut text, shares) = prepared.deliver(made.shares, &opens)?;
        text.push_str(&format!(
            "The keystore is initialised and sealed. {} of {} shares open it: an operator runs holdfast-keystore unseal --start, \
             then each holder holdfast-keystore unseal. Until it was opened once, init can be run again.",
            opens.threshold,
            shares.len()
        ));
        let json =
            json!({ "cluster": opens.cluster, "epoch": opens.epoch, "threshold": opens.threshold });
        shares_answer(&text, json, shares)
    }
}

/// The shares are put beside the rest without going through a `Value`, which is not zeroed.
pub(super) fn shares_answer(
    text: &str,
    told: serde_json::Value,
    shares: Vec<super::hand_out::Delivered>,
) -> anyhow::Result<Answer> {
    #[derive(serde::Serialize)]
    struct Told {
        #[serde(flatten)]
        told: serde_json::Value,
        shares: Vec<super::hand_out::Delivered>,
    }
    Answer::new(text, &Told { told, shares })
}
