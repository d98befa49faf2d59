//! Whom grants are asked of.

use std::time::SystemTime;

use async_trait::async_trait;

use super::super::{Capabilities, Listed, StoreErrorKind};
use crate::layout::{Folder, ObjectName};

/// Has the credentials of a store, or asks who has them.
#[async_trait]
pub trait GrantSource: Send + Sync + 'static {
    /// One answer for each wish, in their order; at most [`MOST_WISHES`] at once.
    async fn grants(&self, wishes: &[Wish])
    -> Result<Vec<Result<Grant, SourceError>>, SourceError>;

    /// A page of a folder, by name, behind the name that the page before ended with.
    async fn list(&self, folder: Folder, after: Option<&str>) -> Result<ListPage, SourceError>;

    /// What the store honours, and whom to trust for it.
    async fn describe(&self) -> Result<Description, SourceError>;

    /// Where this is, for messages. Contains no credentials.
    fn location(&self) -> String;
}

/// Most wishes in one call.
pub(super) const MOST_WISHES: usize = 256;

/// What is wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WishAct {
    /// To store an object of so many bytes.
    Put {
        /// Its length.
        bytes: u64,
    },
    /// To load an object, or ranges of it.
    Get,
}

/// One wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wish {
    /// The object.
    pub name: ObjectName,
    /// What for.
    pub act: WishAct,
}

/// A request that may be made as it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    /// Where, with what allows it.
    pub url: String,
    /// Headers to send.
    pub headers: Vec<(String, String)>,
    /// When it ends.
    pub expires: SystemTime,
}

/// A part of a listing.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Objects.
    pub objects: Vec<Listed>,
    /// The name to go on behind; nothing = this was the last page.
    pub after: Option<String>,
}

/// What is to be known of the store.
#[derive(Clone, Debug)]
pub struct Description {
    /// What it honours.
    pub capabilities: Capabilities,
    /// Certificates in PEM to trust besides the system's.
    pub authorities: Option<String>,
}

/// No grant, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct SourceError {
    /// What to do next.
    pub kind: StoreErrorKind,
    /// For a person, with the next step.
    pub sentence: String,
}
