//! Grants: short-lived permissions for single objects of the user's archive.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Refused;

/// What a grant is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GrantAct {
    /// Storing an object of exactly so many bytes, whose SHA-256 is the one in its name.
    Put {
        /// Its length.
        #[serde(deserialize_with = "crate::whole::number")]
        bytes: u64,
    },
    /// Loading an object or a range of it.
    Get,
}

/// One wish.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// What for.
    pub act: GrantAct,
    /// The object's name in the archive (`docs/format/objects.md`).
    #[cfg_attr(feature = "schema", schema(max_length = 160))]
    pub name: String,
}

/// `POST /v1/grants`: 1 to 256 of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Wishes {
    /// The wishes.
    #[cfg_attr(feature = "schema", schema(min_items = 1, max_items = 256))]
    pub wishes: Vec<Wish>,
}

/// The answers, in the order of the wishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// One for each wish.
    pub grants: Vec<Granted>,
}

/// Yes or no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Granted {
    /// Here it is.
    Granted(Grant),
    /// No, and why: codes `forbidden`, `quota`, `conflict`, `bad_request`.
    #[cfg_attr(feature = "schema", schema(value_type = Object))]
    Refused(Refused),
}

/// A request that may be made as it stands, with these headers and no others that count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// `PUT` or `GET`.
    pub method: String,
    /// Where, with the signature in it.
    pub url: String,
    /// Headers to send.
    pub headers: Vec<(String, String)>,
    /// When it ends.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub expires: Timestamp,
}

/// `GET /v1/objects?folder=F&after=NAME`: one page, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Listing {
    /// Objects.
    pub objects: Vec<ListedObject>,
    /// The name to go on after; nothing = this was the last page.
    pub after: Option<String>,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ListedObject {
    /// Its name in the archive.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// When the store received it.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub stored_at: Option<Timestamp>,
}
