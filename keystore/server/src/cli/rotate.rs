//! `rotate`: another key for what is written from now on.

use clap::Subcommand;

use super::answer::Answer;
use super::connection::Connection;
use crate::api::status::DataKeyStatus;
use crate::api::unseal::Nothing;

/// The keys that can be changed.
#[derive(Subcommand)]
pub enum Rotate {
    /// A new data key; what was written under older ones stays readable
    DataKey,
}

impl Rotate {
    pub(super) async fn run(self, connection: &Connection) -> anyhow::Result<Answer> {
        let Rotate::DataKey = self;
        let session = connection.open()?;
        let key: DataKeyStatus = session
            .client
            .post("/v1/rotate/data-key", &Nothing {})
            .await?;
        let text = format!(
            "What is written from now on is under data key {}.",
            key.term
        );
        Answer::new(text, &key)
    }
}
