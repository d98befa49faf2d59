//! The barrier: the keys under which every record of the keystore is stored.
//!
//! A keyring holds one key per term; the newest one encrypts, all of them decrypt. A stored record is
//!
//! ```text
//! term u32 | version u64 | nonce 24 | ciphertext | tag 16
//! ```
//!
//! and authenticates cluster, path, version and term, so that no record can be passed off as another one, as another version of
//! itself, or as one of another keystore. That the newest version is the one that is read is kept by the manifest
//! (`holdfast-protocol`).

use zeroize::Zeroizing;

use crate::error::CryptoError;
use crate::secret::SecretBytes;
use crate::unseal_key::{RootKey, associated};
use crate::xaes::Xaes;

const HEAD_BYTES: usize = 12;
/// number u32 | created i64 | key 32
const TERM_BYTES: usize = 4 + 8 + 32;
const MOST_TERMS: usize = 10_000;
const RECORD: &str = "a record";
const KEYRING: &str = "the keyring";

/// The keys of all terms, oldest first. Never empty.
pub struct Keyring(Vec<Term>);

struct Term {
    number: u32,
    created: i64,
    secret: SecretBytes,
    cipher: Xaes,
}

/// Which record, in which version.
#[derive(Clone, Copy)]
pub struct RecordPlace<'a> {
    /// The keystore.
    pub cluster: &'a [u8; 16],
    /// The record.
    pub path: &'a str,
    /// From 1 on, one more with each write.
    pub version: u64,
}

impl Keyring {
    /// A keyring of one random key; `now` in seconds since 1970.
    pub fn generate(now: i64) -> Keyring {
        Keyring(vec![Term::new(1, now, SecretBytes::generate())])
    }

    /// Number of the term that encrypts.
    pub fn term(&self) -> u32 {
        self.newest().number
    }

    /// When it was made, in seconds since 1970.
    pub fn created(&self) -> i64 {
        self.newest().created
    }

    /// Another random key that encrypts from now on. `false`, and nothing is changed, when there are as many as can ever be read
    /// again.
    #[must_use]
    pub fn rotate(&mut self, now: i64) -> bool {
        let number = self.term().checked_add(1);
        let Some(number) = number.filter(|_| self.0.len() < MOST_TERMS) else {
            return false;
        };
        self.0.push(Term::new(number, now, SecretBytes::generate()));
        true
    }

    /// Wraps all of it; `place` says for which keystore and epoch.
    pub fn wrap(&self, root: &RootKey, place: &[u8]) -> Vec<u8> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.0.len() * TERM_BYTES));
        for term in &self.0 {
            bytes.extend_from_slice(&term.number.to_le_bytes());
            bytes.extend_from_slice(&term.created.to_le_bytes());
            bytes.extend_from_slice(term.secret.expose());
        }
        root.encrypt_keyring(place, &bytes)
    }

    /// Opens what [`Keyring::wrap`] made for the same place.
    pub fn unwrap(root: &RootKey, place: &[u8], stored: &[u8]) -> Result<Keyring, CryptoError> {
        let malformed = || CryptoError::Malformed { what: KEYRING };
        let bytes = root.decrypt_keyring(place, stored)?;
        let count = bytes.len() / TERM_BYTES;
        if bytes.is_empty() || bytes.len() % TERM_BYTES != 0 || count > MOST_TERMS {
            return Err(malformed());
        }
        let mut terms: Vec<Term> = Vec::with_capacity(count);
        for part in bytes.chunks_exact(TERM_BYTES) {
            let number = u32::from_le_bytes(*part.first_chunk().expect("44 bytes"));
            let created = i64::from_le_bytes(*part[4..].first_chunk().expect("40 bytes"));
            let secret = SecretBytes::from_slice(&part[12..]).expect("32 bytes");
            if terms.last().is_some_and(|last| last.number >= number) {
                return Err(malformed());
            }
            terms.push(Term::new(number, created, secret));
        }
        Ok(Keyring(terms))
    }

    /// Encrypts a record.
    pub fn encrypt(&self, place: &RecordPlace<'_>, plaintext: &[u8]) -> Vec<u8> {
        let term = self.newest();
        let mut stored = Vec::with_capacity(HEAD_BYTES + 40 + plaintext.len());
        stored.extend_from_slice(&term.number.to_le_bytes());
        stored.extend_from_slice(&place.version.to_le_bytes());
        term.cipher
            .encrypt_into(&place.associated(term.number), plaintext, &mut stored);
        stored
    }

    /// Opens what [`Keyring::encrypt`] made for the same place.
    pub fn decrypt(
        &self,
        place: &RecordPlace<'_>,
        stored: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let malformed = CryptoError::Malformed { what: RECORD };
        let (head, body) = stored
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or(malformed.clone())?;
        let number = u32::from_le_bytes(*head.first_chunk().expect("12 bytes"));
        let version = u64::from_le_bytes(*head.last_chunk().expect("12 bytes"));
        // Newest first: that is where nearly all records are.
        let term = self.0.iter().rev().find(|term| term.number == number);
        let term = term
            .filter(|_| version == place.version)
            .ok_or(CryptoError::Authentication { what: RECORD })?;
        term.cipher
            .decrypt(RECORD, &place.associated(number), body)
            .map(Zeroizing::new)
    }

    fn newest(&self) -> &Term {
        self.0.last().expect("a keyring is never empty")
    }
}

impl Term {
    fn new(number: u32, created: i64, secret: SecretBytes) -> Term {
        let cipher = Xaes::new(&secret);
        Term {
            number,
            created,
            secret,
            cipher,
        }
    }
}

impl RecordPlace<'_> {
    fn associated(&self, term: u32) -> Vec<u8> {
        let place = [
            self.cluster.as_slice(),
            &term.to_le_bytes(),
            &self.version.to_le_bytes(),
            self.path.as_bytes(),
        ]
        .concat();
        associated("record", &place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: [u8; 16] = [5; 16];

    fn place(path: &str, version: u64) -> RecordPlace<'_> {
        RecordPlace {
            cluster: &CLUSTER,
            path,
            version,
        }
    }

    #[test]
    fn a_record_opens_at_its_own_place_only() {
        let mut keyring = Keyring::generate(0);
        let stored = keyring.encrypt(&place("a/b", 3), b"content");
        assert!(keyring.rotate(1));
        let newer = keyring.encrypt(&place("a/b", 3), b"content");
        assert_eq!(
            keyring
                .decrypt(&place("a/b", 3), &stored)
                .unwrap()
                .as_slice(),
            b"content"
        );
        for (path, version) in [("a/c", 3), ("a/b", 2), ("a/b", 4)] {
            assert!(keyring.decrypt(&place(path, version), &stored).is_err());
        }
        let other = RecordPlace {
            cluster: &[6; 16],
            ..place("a/b", 3)
        };
        assert!(keyring.decrypt(&other, &stored).is_err());
        for byte in 0..stored.len() {
            let mut changed = stored.clone();
            changed[byte] ^= 1;
            assert!(
                keyring.decrypt(&place("a/b", 3), &changed).is_err(),
                "byte {byte}"
            );
            assert!(keyring.decrypt(&place("a/b", 3), &stored[..byte]).is_err());
        }
        let mut old_term = newer.clone();
        old_term[..4].copy_from_slice(&1_u32.to_le_bytes());
        assert!(keyring.decrypt(&place("a/b", 3), &old_term).is_err());
    }

    #[test]
    fn a_keyring_opens_with_its_root_key_at_its_place() {
        let root = RootKey::generate();
        let mut keyring = Keyring::generate(7);
        let stored = keyring.encrypt(&place("a", 1), b"x");
        assert!(keyring.rotate(8));
        let wrapped = keyring.wrap(&root, b"here");
        let opened = Keyring::unwrap(&root, b"here", &wrapped).unwrap();
        assert_eq!((opened.term(), opened.created()), (2, 8));
        assert!(opened.decrypt(&place("a", 1), &stored).is_ok());
        assert!(Keyring::unwrap(&root, b"there", &wrapped).is_err());
        assert!(Keyring::unwrap(&RootKey::generate(), b"here", &wrapped).is_err());
    }

    /// What is refused here would be a keyring that never opens again.
    #[test]
    fn a_keyring_takes_no_more_terms_than_it_can_read() {
        let root = RootKey::generate();
        let mut keyring = Keyring::generate(0);
        let stored = keyring.encrypt(&place("a", 1), b"x");
        while keyring.rotate(1) {}
        assert_eq!(keyring.0.len(), MOST_TERMS);
        let opened = Keyring::unwrap(&root, b"here", &keyring.wrap(&root, b"here")).unwrap();
        assert_eq!(opened.term(), keyring.term());
        assert!(opened.decrypt(&place("a", 1), &stored).is_ok());
    }
}
