//! What this store honours, found by trying. The objects go to `probe/` under the archive's prefix,
//! where nothing else is, and have random names, so that two probes do not meet.

use bytes::Bytes;
use holdfast_crypto::Digest;

use super::{Failure, S3Store, Signed};
use crate::store::{Capabilities, Stored};

pub(super) async fn probe(store: &S3Store) -> Result<Capabilities, Failure> {
    let key = |part| {
        format!(
            "{}probe/{:032x}-{part}",
            store.prefix,
            rand::random::<u128>()
        )
    };
    let (first, second) = (key("a"), key("b"));
    let result = try_all(store, &first, &second).await;
    for key in [first, second] {
        if let Err(failure) = store.remove(key.clone()).await {
            tracing::warn!(key, ?failure, "cannot delete a probe");
        }
    }
    result
}

async fn try_all(store: &S3Store, first: &str, second: &str) -> Result<Capabilities, Failure> {
    let bytes = Bytes::from_static(b"holdfast probe");
    let others = Bytes::from_static(b"HOLDFAST PROBE");
    let digest = |bytes: &[u8]| Digest::of(bytes).0;

    store
        .put(
            first.to_owned(),
            bytes.clone(),
            &digest(&bytes),
            Signed::Announced,
        )
        .await?;
    let again = store
        .put(
            first.to_owned(),
            others.clone(),
            &digest(&others),
            Signed::Announced,
        )
        .await;
    let conditional_put = match again {
        Ok(stored) => stored == Stored::AlreadyThere,
        Err(failure) if failure.is_not_implemented() => false,
        Err(failure) => return Err(failure),
    };
    let wrong = store
        .put(
            second.to_owned(),
            others.clone(),
            &digest(&bytes),
            Signed::Bytes,
        )
        .await;
    let checksum_enforced = match wrong {
        Ok(_) => false,
        Err(failure) if failure.is_refused_checksum() => true,
        Err(failure) => return Err(failure),
    };
    let held = if conditional_put { bytes } else { others };
    let ranges = match store.load(first.to_owned(), Some(&(3..7))).await {
        Ok(part) => part == held.slice(3..7),
        Err(Failure::NoRanges) => false,
        Err(failure) => return Err(failure),
    };
    Ok(Capabilities {
        conditional_put,
        checksum_enforced,
        ranges,
    })
}
