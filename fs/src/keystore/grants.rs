//! Grants from the keystore, for the store.

use std::sync::Arc;

use async_trait::async_trait;
use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_backend::store::granted::{
    Description, Grant, GrantSource, ListPage, SourceError, Wish, WishAct, open_granted,
};
use holdfast_backend::store::{Capabilities, Listed, ObjectStore, StoreErrorKind};
use holdfast_keystore_client::messages::{self, GrantAct, Granted, Refused, Wishes};
use holdfast_keystore_client::{Client, ClientError};

use crate::home::Settings;

/// The store behind a keystore, with the settings' limits and with retries. Nothing is asked of it yet.
pub fn granted_store(client: &Client, settings: &Settings) -> Arc<dyn ObjectStore> {
    let source = Arc::new(KeystoreGrants {
        client: client.clone(),
    });
    open_granted(source, &settings.open_options()).store
}

struct KeystoreGrants {
    client: Client,
}

#[async_trait]
impl GrantSource for KeystoreGrants {
    async fn grants(
        &self,
        wishes: &[Wish],
    ) -> Result<Vec<Result<Grant, SourceError>>, SourceError> {
        let wished = |wish: &Wish| messages::Wish {
            act: match wish.act {
                WishAct::Put { bytes } => GrantAct::Put { bytes },
                WishAct::Get => GrantAct::Get,
            },
            name: wish.name.to_string(),
        };
        let wishes = wishes.iter().map(wished).collect();
        let answer = self.client.grants(&Wishes { wishes }).await;
        let answer = answer.map_err(|error| source_error(&error))?;
        Ok(answer.grants.into_iter().map(granted).collect())
    }

    async fn list(&self, folder: Folder, after: Option<&str>) -> Result<ListPage, SourceError> {
        let prefix = folder.prefix();
        let page = self
            .client
            .objects(prefix.trim_end_matches('/'), after)
            .await;
        let page = page.map_err(|error| source_error(&error))?;
        // What is there but no object is skipped, as in every store.
        let objects = page.objects.into_iter().filter_map(|object| {
            let name: ObjectName = object.name.parse().ok()?;
            folder.contains(&name).then(|| Listed {
                name,
                size: object.bytes,
                stored_at: object.stored_at.map(Into::into),
            })
        });
        Ok(ListPage {
            objects: objects.collect(),
            after: page.after,
        })
    }

    async fn describe(&self) -> Result<Description, SourceError> {
        let store = self.client.store().await;
        let store = store.map_err(|error| source_error(&error))?;
        Ok(Description {
            capabilities: Capabilities {
                conditional_put: store.conditional_put,
                checksum_enforced: store.checksum_enforced,
                ranges: store.ranges,
            },
            authorities: store.authorities,
        })
    }

    fn location(&self) -> String {
        self.client.address().to_string()
    }
}

fn granted(granted: Granted) -> Result<Grant, SourceError> {
    match granted {
        Granted::Granted(grant) => Ok(Grant {
            url: grant.url,
            headers: grant.headers,
            expires: grant.expires.into(),
        }),
        Granted::Refused(refused) => Err(refusal(&refused)),
    }
}

fn source_error(error: &ClientError) -> SourceError {
    match error {
        ClientError::Refused(refused) => refusal(refused),
        ClientError::Sealed(_) | ClientError::Unreachable { .. } => SourceError {
            kind: StoreErrorKind::Transient,
            sentence: error.to_string(),
        },
        ClientError::Untrusted { .. } | ClientError::Strange { .. } => SourceError {
            kind: StoreErrorKind::NotConfigured,
            sentence: error.to_string(),
        },
    }
}

fn refusal(refused: &Refused) -> SourceError {
    let kind = match refused.code.as_str() {
        "quota" => StoreErrorKind::NoSpace,
        "not_found" => StoreErrorKind::NotFound,
        "forbidden"
        | "deauthorised"
        | "device_state"
        | "no_certificate"
        | "unknown_certificate"
        | "role" => StoreErrorKind::Denied,
        "sealed" | "uninitialised" | "audit_failed" | "storage_failed" | "store_failed"
        | "too_often" => StoreErrorKind::Transient,
        _ => StoreErrorKind::Refused,
    };
    SourceError {
        kind,
        sentence: format!("{}; {}", refused.sentence, refused.next_step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What to do next follows from the code: only what passes by itself is tried again.
    #[test]
    fn each_refusal_has_its_kind() {
        let kind = |code: &str| {
            let (sentence, next_step) = ("sentence".to_owned(), "next step".to_owned());
            let code = code.to_owned();
            let refused = Refused {
                code,
                sentence,
                next_step,
            };
            refusal(&refused).kind
        };
        assert_eq!(kind("quota"), StoreErrorKind::NoSpace);
        assert_eq!(kind("deauthorised"), StoreErrorKind::Denied);
        assert_eq!(kind("conflict"), StoreErrorKind::Refused);
        assert_eq!(kind("sealed"), StoreErrorKind::Transient);
        assert_eq!(kind("a code of tomorrow"), StoreErrorKind::Refused);
    }
}
