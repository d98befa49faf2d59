use super::*;
use crate::chunk::tests::random_bytes;
use proptest::prelude::*;

/// Behind what stands there already.
fn compress(plaintext: &[u8]) -> Vec<u8> {
    let mut out = b"a nonce".to_vec();
    compress_into(plaintext, &mut out);
    assert!(out.starts_with(b"a nonce"));
    out.split_off(7)
}

fn unpack(stored: &[u8], raw_length: usize) -> Result<Vec<u8>, DecompressError> {
    decompress(Bytes::copy_from_slice(stored), raw_length).map(Vec::from)
}

#[test]
fn text_shrinks_and_random_bytes_stay_raw() {
    let text = b"the quick brown fox ".repeat(50_000);
    let stored = compress(&text);
    assert_eq!(stored[0], ZSTD);
    assert!(stored.len() < text.len() / 100);
    assert_eq!(unpack(&stored, text.len()).unwrap(), text);

    for length in [0, 1, 100, 5000, 1 << 20] {
        let random = random_bytes(1, length);
        let stored = compress(&random);
        assert_eq!((stored[0], stored.len()), (RAW, length + 1));
        assert_eq!(unpack(&stored, length).unwrap(), random);
    }
}

#[test]
fn a_chunk_that_is_random_only_in_part_is_compressed() {
    let mut bytes = random_bytes(2, 1 << 20);
    bytes[..200 << 10].fill(b' ');
    assert_eq!(compress(&bytes)[0], ZSTD);
}

#[test]
fn stored_forms_that_lie_are_refused() {
    let text = b"abc".repeat(1000);
    let stored = compress(&text);
    for wrong in [0, 1, 2999, 3001, MAX_RAW_BYTES] {
        assert_eq!(
            unpack(&stored, wrong),
            Err(DecompressError::WrongLength { raw_length: wrong })
        );
    }
    let raw_length = MAX_RAW_BYTES + 1;
    assert_eq!(
        unpack(&stored, raw_length),
        Err(DecompressError::TooLong { raw_length })
    );
    assert_eq!(unpack(&[], 0), Err(DecompressError::Empty));
    assert_eq!(
        unpack(&[2, 0], 1),
        Err(DecompressError::UnknownForm { form: 2 })
    );
    assert_eq!(
        unpack(&[RAW, 0], 2),
        Err(DecompressError::WrongLength { raw_length: 2 })
    );
    assert_eq!(
        unpack(&stored[..20], 3000),
        Err(DecompressError::WrongLength { raw_length: 3000 })
    );
}

proptest! {
    #[test]
    fn what_was_compressed_comes_back(bytes in proptest::collection::vec(0u8..4, 0..20_000)) {
        let stored = compress(&bytes);
        prop_assert!(stored.len() <= bytes.len() + 1);
        prop_assert_eq!(unpack(&stored, bytes.len()).unwrap(), bytes);
    }

    #[test]
    fn hostile_bytes_are_an_error_or_the_length_asked_for(
        stored in proptest::collection::vec(any::<u8>(), 0..300),
        raw_length in 0usize..5000,
    ) {
        if let Ok(raw) = unpack(&stored, raw_length) {
            prop_assert_eq!(raw.len(), raw_length);
        }
    }
}
