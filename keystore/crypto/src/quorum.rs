//! Slot 3: several recovery admins and the server, together, can open the user key; no one of them alone.
//!
//! A random recovery secret is split among the admins, each piece wrapped (X-Wing) to one admin's public key. The user key is
//! wrapped under `HKDF(recovery secret || server's half)`. So a threshold of admins without the server has a secret that opens nothing,
//! and the server without them has half a key. All of it is made on the user's device, which forgets the secret and the half.

use blahaj::Sharks;
use zeroize::Zeroizing;

use crate::commitment::Committed;
use crate::derive::derive;
use crate::error::CryptoError;
use crate::hpke_wrap::{KeyPair, PublicKey, Purpose, WRAPPED_BYTES};
use crate::ids::Digest;
use crate::secret::SecretBytes;
use crate::unseal_key::associated;
use crate::user_key::UserKey;
use crate::wrapped::{WRAPPED_KEY_BYTES, unwrap_key, wrap_key};
use crate::xaes::Xaes;

/// Most admins in one policy.
pub const MOST_ADMINS: u8 = 16;
/// Length of one admin's piece, wrapped.
pub const WRAPPED_PIECE_BYTES: usize = WRAPPED_BYTES;
/// Length of the user key in slot 3.
pub const QUORUM_KEY_BYTES: usize = WRAPPED_KEY_BYTES;

const PIECE: &str = "an admin's piece of the recovery secret";
const SLOT: &str = "the admins' slot";

/// What a recovery admin keeps.
pub struct AdminKeyPair {
    seed: SecretBytes,
    pair: KeyPair,
}

/// What pieces are wrapped to.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminPublicKey(PublicKey);

/// The server's half of slot 3. Made by the server, one for each user, kept in the barrier.
pub struct RecoveryHalf(SecretBytes);

/// One admin's piece of the recovery secret.
pub struct RecoveryPiece {
    number: u8,
    secret: SecretBytes,
}

/// Slot 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumSlot {
    /// How many admins open it.
    pub threshold: u8,
    /// One wrapped piece for each admin, in the policy's order: [`WRAPPED_PIECE_BYTES`] each.
    pub pieces: Vec<Vec<u8>>,
    /// The user key: [`QUORUM_KEY_BYTES`] bytes.
    pub key: Vec<u8>,
}

impl AdminKeyPair {
    /// A new random key pair.
    pub fn generate() -> AdminKeyPair {
        Self::from_secret(SecretBytes::generate())
    }

    /// The pair with this 32-byte seed.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> AdminKeyPair {
        Self::from_secret(SecretBytes::copy_of(&bytes))
    }

    fn from_secret(seed: SecretBytes) -> AdminKeyPair {
        let pair = KeyPair::from_seed(&derive(seed.expose(), "admin-key-pair"));
        AdminKeyPair { seed, pair }
    }

    /// The seed.
    pub fn expose_secret(&self) -> &[u8; 32] {
        self.seed.expose()
    }

    /// The half that the policy lists.
    pub fn public(&self) -> AdminPublicKey {
        AdminPublicKey(self.pair.public().clone())
    }

    /// Opens the piece of a slot that is this admin's: `number` counts from one in the policy's order.
    pub fn open(
        &self,
        place: &[u8],
        number: u8,
        wrapped: &[u8],
    ) -> Result<RecoveryPiece, CryptoError> {
        let associated = piece_place(place, number);
        let secret = self.pair.unwrap(&purpose(&associated), wrapped)?;
        Ok(RecoveryPiece { number, secret })
    }
}

impl AdminPublicKey {
    /// The key with these [`crate::PUBLIC_KEY_BYTES`] bytes; an error unless they are a valid key.
    pub fn from_bytes(bytes: &[u8]) -> Result<AdminPublicKey, CryptoError> {
        PublicKey::from_bytes("a recovery admin's public key", bytes).map(AdminPublicKey)
    }

    /// [`crate::PUBLIC_KEY_BYTES`] bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// What people compare: SHA-256 of the public key.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}

impl RecoveryHalf {
    /// A new random half.
    pub fn generate() -> RecoveryHalf {
        RecoveryHalf(SecretBytes::generate())
    }

    /// The half with these bytes.
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> RecoveryHalf {
        RecoveryHalf(SecretBytes::copy_of(&bytes))
    }

    /// The bytes themselves.
    pub fn expose_secret(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

impl QuorumSlot {
    /// Makes the slot; `place` says whose, of which archive, under which policy. `None` unless
    /// 2 <= threshold <= admins <= 16.
    pub fn make(
        place: &[u8],
        user_key: &UserKey,
        half: &RecoveryHalf,
        threshold: u8,
        admins: &[AdminPublicKey],
    ) -> Option<QuorumSlot> {
        let count = u8::try_from(admins.len()).ok()?;
        if threshold < 2 || threshold > count || count > MOST_ADMINS {
            return None;
        }
        let secret = SecretBytes::generate();
        let mut pieces = Vec::with_capacity(admins.len());
        let dealt = Sharks(threshold).dealer(secret.expose());
        for (admin, dealt) in admins.iter().zip(dealt) {
            let bytes = Zeroizing::new(Vec::from(&dealt));
            let piece = SecretBytes::from_slice(&bytes[1..]).expect("as long as the secret");
            let associated = piece_place(place, bytes[0]);
            pieces.push(admin.0.wrap(&purpose(&associated), &piece));
        }
        let cipher = slot_cipher(&secret, half);
        let key = wrap_key(
            &cipher,
            "admin-slot",
            place,
            user_key.secret(),
            Committed::User,
        );
        Some(QuorumSlot {
            threshold,
            pieces,
            key,
        })
    }

    /// Opens the slot with the pieces of enough different admins and the server's half.
    pub fn open(
        &self,
        place: &[u8],
        half: &RecoveryHalf,
        pieces: &[RecoveryPiece],
    ) -> Result<UserKey, CryptoError> {
        let malformed = || CryptoError::Malformed {
            what: "a set of admins' pieces",
        };
        // The library would interpolate over a piece that is there twice, and give garbage.
        let numbers: std::collections::BTreeSet<u8> =
            pieces.iter().map(|piece| piece.number).collect();
        if numbers.len() != pieces.len() {
            return Err(malformed());
        }
        let dealt = pieces
            .iter()
            .map(|piece| {
                let mut bytes = Zeroizing::new(Vec::with_capacity(33));
                bytes.push(piece.number);
                bytes.extend_from_slice(piece.secret.expose());
                blahaj::Share::try_from(bytes.as_slice()).map_err(|_| malformed())
            })
            .collect::<Result<Vec<_>, _>>()?;
        let combined = Sharks(self.threshold)
            .recover(&dealt)
            .map(Zeroizing::new)
            .map_err(|_| malformed())?;
        let secret = SecretBytes::from_slice(&combined).ok_or_else(malformed)?;
        let cipher = slot_cipher(&secret, half);
        unwrap_key(
            &cipher,
            SLOT,
            "admin-slot",
            place,
            &self.key,
            Committed::User,
        )
        .map(UserKey::from_secret)
    }
}

fn slot_cipher(secret: &SecretBytes, half: &RecoveryHalf) -> Xaes {
    let mut both = Zeroizing::new([0; 64]);
    both[..32].copy_from_slice(secret.expose());
    both[32..].copy_from_slice(half.0.expose());
    Xaes::new(&derive(both.as_slice(), "admin-slot"))
}

fn piece_place(place: &[u8], number: u8) -> Vec<u8> {
    let mut associated = associated("admin-piece", place);
    associated.push(number);
    associated
}

fn purpose(associated: &[u8]) -> Purpose<'_> {
    Purpose {
        what: PIECE,
        info: "holdfast/1/admin-piece",
        associated,
        committed: Committed::Piece,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Made {
        user_key: UserKey,
        half: RecoveryHalf,
        admins: Vec<AdminKeyPair>,
        slot: QuorumSlot,
    }

    fn made(threshold: u8, count: usize) -> Made {
        let admins: Vec<_> = (0..count).map(|_| AdminKeyPair::generate()).collect();
        let public: Vec<_> = admins.iter().map(AdminKeyPair::public).collect();
        let (user_key, half) = (UserKey::generate(), RecoveryHalf::generate());
        let slot = QuorumSlot::make(b"place", &user_key, &half, threshold, &public).unwrap();
        Made {
            user_key,
            half,
            admins,
            slot,
        }
    }

    impl Made {
        fn piece(&self, admin: usize) -> RecoveryPiece {
            let number = admin as u8 + 1;
            self.admins[admin]
                .open(b"place", number, &self.slot.pieces[admin])
                .unwrap()
        }
    }

    #[test]
    fn enough_admins_and_the_server_open_it_and_no_one_less() {
        let made = made(2, 3);
        for (a, b) in [(0, 1), (2, 0), (1, 2)] {
            let pieces = [made.piece(a), made.piece(b)];
            let opened = made.slot.open(b"place", &made.half, &pieces).unwrap();
            assert_eq!(opened.expose_secret(), made.user_key.expose_secret());
            // Without the server: any half that is not its own.
            let other = RecoveryHalf::generate();
            assert!(made.slot.open(b"place", &other, &pieces).is_err());
            assert!(made.slot.open(b"elsewhere", &made.half, &pieces).is_err());
        }
        assert!(
            made.slot
                .open(b"place", &made.half, &[made.piece(0)])
                .is_err()
        );
        assert!(made.slot.open(b"place", &made.half, &[]).is_err());
        let twice = [made.piece(0), made.piece(0)];
        assert!(made.slot.open(b"place", &made.half, &twice).is_err());
        // A server that says one is enough: what one admin has is no key.
        let lowered = QuorumSlot {
            threshold: 1,
            ..made.slot.clone()
        };
        assert!(
            lowered
                .open(b"place", &made.half, &[made.piece(0)])
                .is_err()
        );
    }

    #[test]
    fn a_piece_opens_for_its_admin_in_its_place_alone() {
        let made = made(2, 2);
        let pieces = &made.slot.pieces;
        assert_eq!(pieces[0].len(), WRAPPED_PIECE_BYTES);
        assert_eq!(made.slot.key.len(), QUORUM_KEY_BYTES);
        let first = &made.admins[0];
        assert!(first.open(b"place", 2, &pieces[0]).is_err());
        assert!(first.open(b"elsewhere", 1, &pieces[0]).is_err());
        assert!(first.open(b"place", 2, &pieces[1]).is_err());
        assert!(first.open(b"place", 1, &pieces[0][1..]).is_err());
        let again = AdminKeyPair::from_bytes(Zeroizing::new(*first.expose_secret()));
        assert!(again.open(b"place", 1, &pieces[0]).is_ok());
        let public = AdminPublicKey::from_bytes(&first.public().to_bytes()).unwrap();
        assert!(public == first.public());
        assert!(AdminPublicKey::from_bytes(&[0; 3]).is_err());
    }

    #[test]
    fn only_thresholds_that_make_sense_are_made() {
        let public = AdminKeyPair::generate().public();
        let (key, half) = (UserKey::generate(), RecoveryHalf::generate());
        for (threshold, count) in [(0, 3), (1, 3), (3, 2), (2, 1), (2, 17), (2, 300)] {
            let admins = vec![public.clone(); count];
            assert!(QuorumSlot::make(b"", &key, &half, threshold, &admins).is_none());
        }
    }
}
