//! `share verify`: whether a share is good, without unsealing anything.

use clap::Subcommand;

use super::answer::Answer;
use super::connection::Connection;
use super::typed_share::ShareSource;
use crate::api::share::{GoodShare, VerifyShare};

/// What can be done with a share.
#[derive(Subcommand)]
pub enum Share {
    /// Tell whether your share is good; nothing is unsealed, and nothing counts
    Verify {
        #[command(flatten)]
        source: ShareSource,
    },
}

impl Share {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<Answer> {
        let Share::Verify { source } = self;
        let session = connection.open()?;
        let mut good = Vec::new();
        for share in source.read("Share (not shown): ")? {
            let verified: GoodShare = session
                .client
                .post("/v1/share/verify", &VerifyShare { share })
                .await?;
            good.push(verified);
        }
        let told = |share: &GoodShare| {
            format!(
                "Share {} of {} is good (epoch {}).",
                share.number, share.holder, share.epoch
            )
        };
        let lines: Vec<String> = good.iter().map(told).collect();
        Answer::new(lines.join("\n"), &serde_json::json!({ "good": good }))
    }
}
