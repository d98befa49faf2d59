//! The organisation's keys as one line of text: what lies in a key file, and what a recovery admin hands to whoever signs the policy.
//!
//! ```text
//! hf-policy-root-1 CODED   the policy root, secret: a seed of 32 bytes
//! hf-admin-1 CODED         a recovery admin's key pair, secret: a seed of 32 bytes
//! hfa1-CODED               a recovery admin's public key: 1216 bytes
//! ```
//!
//! CODED is base64url without padding of the bytes and a checksum of four: the beginning of the SHA-256 of prefix and bytes. A line
//! that was cut off, mistyped, or is another kind's is told before anything is done with it. White space at the ends is what an editor
//! leaves; any other change makes it no key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_crypto::{AdminKeyPair, AdminPublicKey, Digest, PUBLIC_KEY_BYTES, PolicyRootKey};
use zeroize::Zeroizing;

const CHECKSUM_BYTES: usize = 4;
const SEED_BYTES: usize = 32;

/// A key that is kept or handed over as one line of text.
pub trait KeyText: Sized {
    /// What the line begins with.
    const PREFIX: &'static str;
    /// What it is, for persons.
    const WHAT: &'static str;
    /// Length of its bytes.
    const BYTES: usize;

    /// The bytes.
    fn to_key_bytes(&self) -> Zeroizing<Vec<u8>>;

    /// `None` unless these [`Self::BYTES`] bytes can be one.
    fn from_key_bytes(bytes: &[u8]) -> Option<Self>;

    /// The line, without a line end.
    fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = self.to_key_bytes();
        // Made large enough at once, so that growing leaves no copy of a secret behind.
        let mut whole = Zeroizing::new(Vec::with_capacity(bytes.len() + CHECKSUM_BYTES));
        whole.append(&mut bytes);
        let checksum = checksum::<Self>(&whole);
        whole.extend_from_slice(&checksum);
        let mut text = Zeroizing::new(String::with_capacity(text_characters::<Self>()));
        text.push_str(Self::PREFIX);
        URL_SAFE_NO_PAD.encode_string(whole.as_slice(), &mut text);
        text
    }

    /// Reads the line.
    fn from_text(text: &str) -> Result<Self, KeyTextError> {
        let text = text.trim_ascii();
        let coded = text
            .strip_prefix(Self::PREFIX)
            .ok_or(KeyTextError::Prefix {
                what: Self::WHAT,
                prefix: Self::PREFIX,
            })?;
        let damaged = KeyTextError::Damaged { what: Self::WHAT };
        if text.len() != text_characters::<Self>() {
            return Err(damaged);
        }
        let whole = URL_SAFE_NO_PAD.decode(coded).map(Zeroizing::new);
        let whole = whole.map_err(|_| damaged)?;
        match whole.split_last_chunk::<CHECKSUM_BYTES>() {
            Some((bytes, found)) if checksum::<Self>(bytes) == *found => {
                Self::from_key_bytes(bytes).ok_or(damaged)
            }
            _ => Err(damaged),
        }
    }
}

/// Not that key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// Something else.
    #[error("it is not {what}, which begins with \"{}\"", .prefix.trim_ascii_end())]
    Prefix {
        /// What was looked for.
        what: &'static str,
        /// How that begins.
        prefix: &'static str,
    },
    /// Not all of it, or not it alone.
    #[error("it is not the whole of {what}: characters are missing, wrong or too many")]
    Damaged {
        /// What was looked for.
        what: &'static str,
    },
}

impl KeyText for PolicyRootKey {
    const PREFIX: &'static str = "hf-policy-root-1 ";
    const WHAT: &'static str = "a policy root key";
    const BYTES: usize = SEED_BYTES;

    fn to_key_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.expose_secret().to_vec())
    }

    fn from_key_bytes(bytes: &[u8]) -> Option<PolicyRootKey> {
        seed(bytes).map(PolicyRootKey::from_bytes)
    }
}

impl KeyText for AdminKeyPair {
    const PREFIX: &'static str = "hf-admin-1 ";
    const WHAT: &'static str = "a recovery admin's secret key";
    const BYTES: usize = SEED_BYTES;

    fn to_key_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.expose_secret().to_vec())
    }

    fn from_key_bytes(bytes: &[u8]) -> Option<AdminKeyPair> {
        seed(bytes).map(AdminKeyPair::from_bytes)
    }
}

impl KeyText for AdminPublicKey {
    const PREFIX: &'static str = "hfa1-";
    const WHAT: &'static str = "a recovery admin's public key";
    const BYTES: usize = PUBLIC_KEY_BYTES;

    fn to_key_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.to_bytes())
    }

    fn from_key_bytes(bytes: &[u8]) -> Option<AdminPublicKey> {
        AdminPublicKey::from_bytes(bytes).ok()
    }
}

fn seed(bytes: &[u8]) -> Option<Zeroizing<[u8; SEED_BYTES]>> {
    bytes.try_into().ok().map(Zeroizing::new)
}

/// There is one length for each kind, so nothing longer is decoded.
const fn text_characters<K: KeyText>() -> usize {
    K::PREFIX.len() + ((K::BYTES + CHECKSUM_BYTES) * 8).div_ceil(6)
}

fn checksum<K: KeyText>(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut whole = Zeroizing::new(Vec::with_capacity(K::PREFIX.len() + bytes.len()));
    whole.extend_from_slice(K::PREFIX.as_bytes());
    whole.extend_from_slice(bytes);
    let digest = Digest::of(&whole).0;
    *digest
        .first_chunk()
        .expect("a SHA-256 is longer than a checksum")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error<K: KeyText>(text: &str) -> KeyTextError {
        match K::from_text(text) {
            Err(error) => error,
            Ok(_) => panic!("it was read"),
        }
    }

    /// Cut off anywhere, longer, with one character changed, of another kind: refused, and read back otherwise.
    fn is_read_strictly<K: KeyText>(key: &K) {
        let text = key.to_text();
        let damaged = KeyTextError::Damaged { what: K::WHAT };
        let read = K::from_text(&format!("{}\r\n", *text)).ok().unwrap();
        assert_eq!(*read.to_key_bytes(), *key.to_key_bytes());
        assert_eq!(*read.to_text(), *text);
        for cut in K::PREFIX.len() + 1..text.len() {
            assert_eq!(error::<K>(&text[..cut]), damaged, "{cut}");
        }
        for place in (K::PREFIX.len()..text.len()).step_by(5) {
            let other = if text.as_bytes()[place] == b'A' {
                "B"
            } else {
                "A"
            };
            let mut changed = text.to_string();
            changed.replace_range(place..=place, other);
            assert_eq!(error::<K>(&changed), damaged, "{place}");
        }
        for longer in [
            format!("{}A", *text),
            format!("{}=", *text),
            format!("{}\n{}", *text, *text),
            text.repeat(1000),
        ] {
            assert_eq!(error::<K>(&longer), damaged);
        }
        for other in ["", "hfe1-", &text[1..], &text.to_uppercase()] {
            assert!(matches!(error::<K>(other), KeyTextError::Prefix { .. }));
        }
    }

    #[test]
    fn every_kind_is_read_as_it_was_printed_or_not_at_all() {
        is_read_strictly(&PolicyRootKey::generate());
        is_read_strictly(&AdminKeyPair::generate());
        is_read_strictly(&AdminKeyPair::generate().public());
    }

    /// Renaming the line does not make a policy root of an admin.
    #[test]
    fn one_kind_is_not_taken_for_another() {
        let admin = AdminKeyPair::generate();
        let coded = admin.to_text();
        let coded = coded.strip_prefix("hf-admin-1 ").unwrap();
        let renamed = format!("hf-policy-root-1 {coded}");
        let damaged = KeyTextError::Damaged {
            what: "a policy root key",
        };
        assert_eq!(error::<PolicyRootKey>(&renamed), damaged);
        let said = error::<AdminPublicKey>(&admin.to_text()).to_string();
        assert_eq!(
            said,
            "it is not a recovery admin's public key, which begins with \"hfa1-\""
        );
    }

    /// A checksum that fits does not make a key of bytes that are none.
    #[test]
    fn bytes_that_are_no_public_key_are_refused() {
        let bytes = [0xff; PUBLIC_KEY_BYTES];
        let whole = [&bytes[..], &checksum::<AdminPublicKey>(&bytes)].concat();
        let text = format!("hfa1-{}", URL_SAFE_NO_PAD.encode(whole));
        assert!(matches!(
            error::<AdminPublicKey>(&text),
            KeyTextError::Damaged { .. }
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,80}", tail in "[A-Za-z0-9_-]{48}") {
            prop_assert!(PolicyRootKey::from_text(&text).is_err());
            prop_assert!(AdminPublicKey::from_text(&text).is_err());
            let root = format!("hf-policy-root-1 {tail}");
            prop_assert!(PolicyRootKey::from_text(&root).is_err());
            let admin = format!("hf-admin-1 {tail}");
            prop_assert!(AdminKeyPair::from_text(&admin).is_err());
        }
    }
}
