use aes_gcm::aes::cipher::BlockCipherEncrypt;
use proptest::prelude::*;
use shake::{ExtendableOutput, Shake128, Update, XofReader};

use super::*;

fn cipher(key: [u8; 32]) -> Xaes {
    Xaes::new(&SecretBytes::copy_of(&key))
}

fn bulk(key: [u8; 32]) -> Xaes<Bulk> {
    Xaes::new(&SecretBytes::copy_of(&key))
}

/// What both libraries make of it.
fn encrypt(key: [u8; 32], nonce: &[u8; 24], associated: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let (mut stored, mut by_bulk) = (Vec::new(), Vec::new());
    cipher(key).encrypt_with_nonce(nonce, associated, plaintext, &mut stored);
    bulk(key).encrypt_with_nonce(nonce, associated, plaintext, &mut by_bulk);
    assert_eq!(stored, by_bulk);
    stored[NONCE_BYTES..].to_vec()
}

/// What both libraries make of it, in a new vector and in place.
fn decrypt(key: [u8; 32], associated: &[u8], stored: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let opened = cipher(key).decrypt("test", associated, stored);
    assert_eq!(bulk(key).decrypt("test", associated, stored), opened);
    let (mut one, mut two) = (stored.to_vec(), stored.to_vec());
    let place = cipher(key).decrypt_in_place("test", associated, &mut one);
    let in_place = place.map(|place| one[place].to_vec());
    assert_eq!(in_place, opened);
    let place = bulk(key).decrypt_in_place("test", associated, &mut two);
    let in_place = place.map(|place| two[place].to_vec());
    assert_eq!(in_place, opened);
    opened
}

const NONCE: &[u8; 24] = b"ABCDEFGHIJKLMNOPQRSTUVWX";

/// First vector of the specification (the most significant bit of L is 0).
#[test]
fn published_vector_one() {
    assert_eq!(
        hex::encode(cipher([1; 32]).0.k1),
        "e531954aca063d5b8d9c47a47d4cc6f0"
    );
    assert_eq!(
        hex::encode(cipher([1; 32]).message_key(NONCE).expose()),
        "c8612c9ed53fe43e8e005b828a1631a0bbcb6ab2f46514ec4f439fcfd0fa969b"
    );
    assert_eq!(
        hex::encode(encrypt([1; 32], NONCE, b"", b"XAES-256-GCM")),
        "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"
    );
}

/// Second vector of the specification (the most significant bit of L is 1).
#[test]
fn published_vector_two() {
    assert_eq!(
        hex::encode(cipher([3; 32]).0.k1),
        "23810ec50edb99f374409466ed1f4b7b"
    );
    assert_eq!(
        hex::encode(cipher([3; 32]).message_key(NONCE).expose()),
        "e9c621d4cdd9b11b00a6427ad7e559aeedd66b3857646677748f8ca796cb3fd8"
    );
    assert_eq!(
        hex::encode(encrypt(
            [3; 32],
            NONCE,
            b"c2sp.org/XAES-256-GCM",
            b"XAES-256-GCM"
        )),
        "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"
    );
}

/// The specification's accumulated test: ten thousand random messages in one hash.
#[test]
fn published_accumulated_vector() {
    let mut random = Shake128::default().finalize_xof();
    let mut accumulated = Shake128::default();
    for _ in 0..10_000 {
        let (mut key, mut nonce) = ([0; 32], [0; 24]);
        random.read(&mut key);
        random.read(&mut nonce);
        let plaintext = read_vector(&mut random);
        let associated = read_vector(&mut random);
        let stored = encrypt(key, &nonce, &associated, &plaintext);
        accumulated.update(&stored);
        let whole = [nonce.as_slice(), &stored].concat();
        assert_eq!(decrypt(key, &associated, &whole), Ok(plaintext));
    }
    let mut hash = [0; 32];
    accumulated.finalize_xof().read(&mut hash);
    assert_eq!(
        hex::encode(hash),
        "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
    );
}

fn read_vector(random: &mut impl XofReader) -> Vec<u8> {
    let mut length = [0];
    random.read(&mut length);
    let mut bytes = vec![0; usize::from(length[0])];
    random.read(&mut bytes);
    bytes
}

#[test]
fn encryption_makes_one_allocation_of_the_exact_size() {
    let stored = cipher([7; 32]).encrypt(b"", &[0; 1000]).into_bytes();
    assert_eq!(stored.len(), 1040);
    assert_eq!(stored.capacity(), 1040);
}

#[test]
fn every_message_has_its_own_nonce() {
    let cipher = cipher([7; 32]);
    let nonces: std::collections::HashSet<Vec<u8>> = (0..1000)
        .map(|_| cipher.encrypt(b"", b"").as_bytes()[..NONCE_BYTES].to_vec())
        .collect();
    assert_eq!(nonces.len(), 1000);
}

#[test]
fn too_short_is_malformed() {
    for length in 0..40 {
        assert_eq!(
            decrypt([7; 32], b"", &vec![0; length]),
            Err(CryptoError::Malformed { what: "test" })
        );
    }
}

proptest! {
    #[test]
    fn any_flipped_bit_is_refused(
        plaintext in proptest::collection::vec(any::<u8>(), 0..300),
        associated in proptest::collection::vec(any::<u8>(), 1..60),
        place in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let refused = Err(CryptoError::Authentication { what: "test" });
        let key = [7; 32];
        let stored = bulk(key).encrypt(&associated, &plaintext).into_bytes();
        prop_assert_eq!(decrypt(key, &associated, &stored), Ok(plaintext));

        let mut damaged = stored.clone();
        damaged[place.index(stored.len())] ^= 1_u8 << bit;
        prop_assert_eq!(decrypt(key, &associated, &damaged), refused.clone());

        let mut other = associated.clone();
        other[place.index(associated.len())] ^= 1_u8 << bit;
        prop_assert_eq!(decrypt(key, &other, &stored), refused.clone());

        prop_assert_eq!(decrypt([8; 32], &associated, &stored), refused.clone());
        prop_assert!(decrypt(key, &associated, &stored[..stored.len() - 1]).is_err());
    }

    /// Long enough for the ways that the libraries take with many blocks at once, on this processor.
    #[test]
    fn both_libraries_make_the_same_of_long_messages(
        length in 0..40_000_usize,
        seed in any::<u8>(),
        nonce in any::<[u8; 24]>(),
        place in any::<prop::sample::Index>(),
    ) {
        let key = [seed; 32];
        let plaintext: Vec<u8> = (0..length).map(|at| ((at * 31) >> 3) as u8 ^ seed).collect();
        let mut stored = [nonce.as_slice(), &encrypt(key, &nonce, b"long", &plaintext)].concat();
        prop_assert_eq!(decrypt(key, b"long", &stored), Ok(plaintext));
        let at = place.index(stored.len());
        stored[at] ^= 1;
        prop_assert!(decrypt(key, b"long", &stored).is_err());
    }
}

/// The attack that commitments answer: 32 bytes, encrypted once, that open under both keys.
///
/// GHASH is linear in the ciphertext, so equal tags under two keys are one linear equation over
/// GF(2¹²⁸), and the first ciphertext block is free to solve it.
pub(crate) fn opens_under_both(one: &Xaes, two: &Xaes, associated: &[u8; 20]) -> Vec<u8> {
    let nonce = NONCE;
    let blocks = |c1: u128| {
        let mut padded = [0; 32];
        padded[..20].copy_from_slice(associated);
        let [a1, a2] = [0, 16].map(|at| block(&padded[at..at + 16]));
        [a1, a2, c1, 0, (20 * 8) << 64 | (32 * 8)]
    };
    let tag = |cipher: &Xaes, c1: u128| {
        let aes = Aes256::new(cipher.message_key(nonce).expose().into());
        let hash_key = encrypt_block(&aes, 0);
        let mask = encrypt_block(&aes, block(&[&nonce[12..], &[0, 0, 0, 1]].concat()));
        (
            blocks(c1)
                .iter()
                .fold(0, |sum, block| multiply(sum ^ block, hash_key))
                ^ mask,
            hash_key,
        )
    };
    let cube = |h: u128| multiply(h, multiply(h, h));
    let ((tag_one, h_one), (tag_two, h_two)) = (tag(one, 0), tag(two, 0));
    let c1 = multiply(tag_one ^ tag_two, inverse(cube(h_one) ^ cube(h_two)));
    let tag = tag(one, c1).0;
    [
        nonce.as_slice(),
        &c1.to_be_bytes(),
        &[0; 16],
        &tag.to_be_bytes(),
    ]
    .concat()
}

#[test]
fn the_cipher_alone_does_not_commit_to_its_key() {
    let (one, two) = (cipher([1; 32]), cipher([2; 32]));
    let stored = opens_under_both(&one, &two, &[9; 20]);
    let opened = [&one, &two].map(|cipher| cipher.decrypt("test", &[9; 20], &stored));
    assert!(opened.iter().all(Result::is_ok));
    assert_ne!(opened[0], opened[1]);
}

fn block(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(bytes.try_into().unwrap())
}

fn encrypt_block(aes: &Aes256, input: u128) -> u128 {
    let mut bytes = input.to_be_bytes().into();
    aes.encrypt_block(&mut bytes);
    u128::from_be_bytes(bytes.into())
}

/// Multiplication of GHASH (NIST SP 800-38D, 6.3): the first bit is the constant term.
fn multiply(x: u128, mut y: u128) -> u128 {
    let mut product = 0;
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            product ^= y;
        }
        y = (y >> 1) ^ ((0xe1 << 120) * (y & 1));
    }
    product
}

/// x to the power of 2¹²⁸ - 2.
fn inverse(x: u128) -> u128 {
    let mut power = x;
    (0..127).fold(1 << 127, |inverse, _| {
        power = multiply(power, power);
        multiply(inverse, power)
    })
}
