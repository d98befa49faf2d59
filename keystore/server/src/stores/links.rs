//! Links to objects in the server's own folder: what a presigned request is to a bucket.
//!
//! `/v1/objects/<archive>/<name>?act=put&bytes=N&expires=T&signature=S`: the signature is a keyed BLAKE3 over all of it. Its key is
//! made anew at each start and never leaves memory, so no link outlives the server; a client asks for another one then.

use holdfast_backend::layout::ObjectName;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::names::{HexBytes, Id};

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// To store exactly so many bytes.
    Put {
        /// How many.
        bytes: u64,
    },
    /// To load the object or ranges of it.
    Get,
}

/// One link, as it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// What for.
    pub act: Act,
    /// Whose.
    pub archive: Id,
    /// Which object.
    pub name: ObjectName,
    /// When it is over, in seconds since 1970.
    pub expires: i64,
}

/// What stands behind the `?`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkQuery {
    act: ActName,
    /// Of a put only.
    bytes: Option<u64>,
    expires: i64,
    signature: HexBytes<32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ActName {
    Put,
    Get,
}

/// Why a link is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Not ours, not of this start of the server, or changed.
    #[error("this link was not made by the keystore as it runs now")]
    Signature,
    /// Its time is over.
    #[error("this link's time is over")]
    Expired,
}

/// Signs and checks links.
pub struct LinkKey(Zeroizing<[u8; 32]>);

impl LinkKey {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "each one is another one")]
    pub fn new() -> LinkKey {
        LinkKey(Zeroizing::new(rand::random()))
    }

    /// Path and query.
    pub fn sign(&self, link: &Link) -> String {
        let (archive, expires) = (link.archive, link.expires);
        let name = link.name.to_string().replace('/', "%2F");
        let act = match link.act {
            Act::Put { bytes } => format!("act=put&bytes={bytes}"),
            Act::Get => "act=get".to_owned(),
        };
        let signature = HexBytes(*self.tag(link).as_bytes());
        format!("/v1/objects/{archive}/{name}?{act}&expires={expires}&signature={signature}")
    }

    /// The link that a request was made with, if it is one of ours and not over.
    pub fn check(
        &self,
        archive: Id,
        name: ObjectName,
        query: &LinkQuery,
        now: i64,
    ) -> Result<Act, LinkError> {
        let act = match (query.act, query.bytes) {
            (ActName::Put, Some(bytes)) => Act::Put { bytes },
            (ActName::Get, None) => Act::Get,
            _ => return Err(LinkError::Signature),
        };
        let link = Link {
            act,
            archive,
            name,
            expires: query.expires,
        };
        // Compared in constant time: that is what this type's equality is.
        if self.tag(&link) != blake3::Hash::from_bytes(query.signature.0) {
            return Err(LinkError::Signature);
        }
        match now <= query.expires {
            true => Ok(act),
            false => Err(LinkError::Expired),
        }
    }

    /// Each part has a length of its own or stands behind the last `/`, so no two links have the same text.
    fn tag(&self, link: &Link) -> blake3::Hash {
        let act = match link.act {
            Act::Put { bytes } => format!("put {bytes}"),
            Act::Get => "get".to_owned(),
        };
        let text = format!("{act}\n{}\n{}\n{}", link.archive, link.expires, link.name);
        blake3::keyed_hash(&self.0, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHIVE: Id = HexBytes([7; 16]);
    const PUT: Act = Act::Put { bytes: 1000 };

    fn name(end: char) -> ObjectName {
        let digest = "0".repeat(63);
        format!("packs/{digest}{end}").parse().unwrap()
    }

    fn query(signed: &str) -> LinkQuery {
        let (_, query) = signed.split_once('?').unwrap();
        let url = format!("https://localhost/?{query}").parse().unwrap();
        axum::extract::Query::try_from_uri(&url).unwrap().0
    }

    #[test]
    fn a_link_is_good_for_what_it_says_until_it_ends() {
        let key = LinkKey::new();
        for act in [PUT, Act::Get] {
            let link = Link {
                act,
                archive: ARCHIVE,
                name: name('1'),
                expires: 100,
            };
            let query = query(&key.sign(&link));
            assert_eq!(key.check(ARCHIVE, name('1'), &query, 100), Ok(act));
            let late = key.check(ARCHIVE, name('1'), &query, 101);
            assert_eq!(late, Err(LinkError::Expired));
        }
    }

    #[test]
    fn nothing_of_a_link_can_be_changed() {
        let key = LinkKey::new();
        let link = Link {
            act: PUT,
            archive: ARCHIVE,
            name: name('1'),
            expires: 100,
        };
        let good = query(&key.sign(&link));
        let wrong = |archive, name, query: LinkQuery| {
            let checked = key.check(archive, name, &query, 50);
            assert_eq!(checked, Err(LinkError::Signature));
        };
        wrong(HexBytes([8; 16]), name('1'), good);
        wrong(ARCHIVE, name('2'), good);
        for changed in [
            LinkQuery {
                act: ActName::Get,
                bytes: None,
                ..good
            },
            LinkQuery {
                act: ActName::Get,
                ..good
            },
            LinkQuery {
                bytes: Some(1001),
                ..good
            },
            LinkQuery {
                bytes: None,
                ..good
            },
            LinkQuery {
                expires: 101,
                ..good
            },
            LinkQuery {
                signature: HexBytes([0; 32]),
                ..good
            },
        ] {
            wrong(ARCHIVE, name('1'), changed);
        }
        // Another start of the server.
        let other = LinkKey::new().check(ARCHIVE, name('1'), &good, 50);
        assert_eq!(other, Err(LinkError::Signature));
    }
}
