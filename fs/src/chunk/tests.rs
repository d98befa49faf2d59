use super::*;
use fastcdc::v2020::{Normalization, select_masks};
use rand::{RngCore, SeedableRng, rngs::StdRng};

/// A chunker with a table of its own, the same in every test.
pub(crate) fn test_chunker() -> Chunker {
    let mut random = StdRng::seed_from_u64(7);
    Chunker::from_gear_table(Box::new(std::array::from_fn(|_| random.next_u64())))
}

/// Random bytes, the same for the same seed.
pub(crate) fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// The cuts of a whole run.
pub(crate) fn lengths(chunker: &Chunker, mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some(length) = chunker.cut(bytes, Following::End) {
        lengths.push(length);
        bytes = &bytes[length..];
    }
    lengths
}

/// The algorithm as the module documentation writes it down.
fn cut_by_the_document(gear: &[u64; 256], bytes: &[u8]) -> usize {
    let end = bytes.len().min(MAX_CHUNK_BYTES);
    let mut hash = 0u64;
    for at in MIN_CHUNK_BYTES.min(end)..end & !1 {
        hash = hash
            .wrapping_mul(2)
            .wrapping_add(gear[usize::from(bytes[at])]);
        let mask = if at < AVERAGE_CHUNK_BYTES {
            STRICT_MASK
        } else {
            LOOSE_MASK
        };
        if hash & mask == 0 {
            return at;
        }
    }
    end
}

#[test]
fn masks_are_those_of_the_library() {
    assert_eq!(
        (STRICT_MASK, LOOSE_MASK),
        select_masks(AVERAGE_CHUNK_BYTES, Normalization::Level1)
    );
}

#[test]
fn cuts_are_what_the_document_says() {
    let chunker = test_chunker();
    for length in [
        0,
        1,
        MIN_CHUNK_BYTES,
        MIN_CHUNK_BYTES + 1,
        999_999,
        24_000_001,
    ] {
        let bytes = random_bytes(length as u64, length);
        let mut rest = &bytes[..];
        while let Some(cut) = chunker.cut(rest, Following::End) {
            assert_eq!(cut, cut_by_the_document(&chunker.gear, rest));
            rest = &rest[cut..];
        }
        assert!(rest.is_empty());
    }
}

#[test]
fn lengths_stay_within_the_limits() {
    let found = lengths(&test_chunker(), &random_bytes(1, 64 << 20));
    let (_, all_but_last) = found.split_last().unwrap();
    assert!(
        all_but_last
            .iter()
            .all(|length| (MIN_CHUNK_BYTES..=MAX_CHUNK_BYTES).contains(length))
    );
    assert!(
        (40..120).contains(&found.len()),
        "{} chunks of 64 MiB",
        found.len()
    );
}

#[test]
fn constant_bytes_make_chunks_of_the_greatest_length() {
    let found = lengths(&test_chunker(), &vec![0; 9 << 20]);
    assert_eq!(found, [MAX_CHUNK_BYTES, MAX_CHUNK_BYTES, 1 << 20]);
}

#[test]
fn a_cut_that_is_certain_does_not_depend_on_what_follows() {
    let chunker = test_chunker();
    let bytes = random_bytes(3, 8 << 20);
    let whole = chunker.cut(&bytes, Following::End).unwrap();
    for seen in (0..MAX_CHUNK_BYTES + 4096).step_by(65_521) {
        match chunker.cut(&bytes[..seen], Following::More) {
            Some(cut) => assert_eq!(cut, whole),
            None => assert!(seen <= whole + 1),
        }
    }
}

#[test]
fn a_buffer_cuts_as_the_whole_run_is_cut() {
    let chunker = test_chunker();
    let bytes = random_bytes(4, 30_000_000);
    for step in [4096, 131_072, 1 << 20, 5_000_011] {
        let mut buffer = CutBuffer::new();
        let mut found = Vec::new();
        for piece in bytes.chunks(step) {
            buffer.push(piece);
            while buffer.is_full() {
                found.push(buffer.cut(&chunker, Following::More).unwrap().len());
            }
        }
        while let Some(chunk) = buffer.cut(&chunker, Following::End) {
            found.push(chunk.len());
        }
        assert_eq!(found, lengths(&chunker, &bytes), "pieces of {step}");
    }
}

#[test]
fn nothing_has_no_chunk() {
    assert_eq!(test_chunker().cut(&[], Following::End), None);
}

#[test]
fn a_buffer_that_begins_again_stays_where_it_is_unless_chunks_of_it_are_held() {
    let chunker = test_chunker();
    let bytes = random_bytes(3, 2 * MAX_CHUNK_BYTES);
    let mut buffer = CutBuffer::new();
    buffer.restart(bytes.len());
    let at = buffer.bytes.as_ptr();
    buffer.push(&bytes);
    drop(buffer.cut(&chunker, Following::More));
    buffer.restart(bytes.len());
    assert!(buffer.is_empty());
    assert_eq!(buffer.bytes.as_ptr(), at);
    buffer.push(&bytes);
    let held = buffer.cut(&chunker, Following::More).unwrap();
    buffer.restart(bytes.len());
    buffer.push(&[0; 1 << 20]);
    assert!(bytes.starts_with(&held));
}
