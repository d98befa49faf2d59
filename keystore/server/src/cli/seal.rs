//! `seal`: the server forgets the keys at once.

use reqwest::Method;
use serde_json::json;

use super::answer::Answer;
use super::connection::Connection;
use crate::api::unseal::Nothing;

pub(super) async fn run(connection: &Connection) -> anyhow::Result<Answer> {
    let session = connection.open()?;
    let () = session
        .client
        .call(Method::POST, "/v1/seal", Some(&Nothing {}))
        .await?;
    let text = "The keystore is sealed. Its holders open it with: holdfast-keystore unseal";
    Answer::new(text, &json!({ "phase": "sealed" }))
}
