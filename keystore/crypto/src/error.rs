//! What can be wrong with bytes that were to be opened.

/// Bytes from a store, a disk or the network did not open. Retrying does not help; another copy of
/// the bytes or another key may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CryptoError {
    /// Damaged, forged, of another place than it claims, or made with another key.
    #[error("{what} does not open: it is damaged, or was made with another key")]
    Authentication {
        /// What was to be opened.
        what: &'static str,
    },
    /// Not even the shape fits: cut short, or something else altogether.
    #[error("this is not {what}: wrong length or impossible content")]
    Malformed {
        /// What was expected.
        what: &'static str,
    },
    /// The wrapping opened, but to another key than the one it was made for. This does not happen
    /// by accident: somebody built a wrapping that opens to two keys.
    #[error("{what} opened to another key than the one it was made for")]
    Commitment {
        /// What was to be opened.
        what: &'static str,
    },
}
