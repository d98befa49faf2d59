use holdfast_crypto::Ciphertext;
use proptest::prelude::*;

use super::*;
use crate::object::check_digest;

/// Stands for an encryption; the pack cannot tell.
fn sealed(plaintext: &[u8]) -> Ciphertext {
    let bytes = [&[0xaa; 24][..], plaintext, &[0xbb; 16]].concat();
    Ciphertext::from_stored(bytes).unwrap()
}

/// The plaintext of [`sealed`].
fn opened(bytes: &[u8]) -> &[u8] {
    &bytes[24..bytes.len() - 16]
}

struct Packed {
    object: Object,
    places: Vec<Range<u32>>,
}

fn packed(chunks: &[Vec<u8>], table: &[u8]) -> Packed {
    let mut builder = PackBuilder::new(9);
    let places = chunks
        .iter()
        .map(|chunk| builder.append(&sealed(chunk)))
        .collect();
    let table = sealed(table);
    let trailer = Trailer {
        table_offset: builder.len(),
        table_length: table.as_bytes().len() as u32,
    };
    let object = builder.finish(&table, &sealed(&trailer.encode()));
    Packed { object, places }
}

fn slice(object: &Object, range: Range<u64>) -> &[u8] {
    &object.bytes()[range.start as usize..range.end as usize]
}

proptest! {
    #[test]
    fn everything_put_in_is_found_again(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..20),
        table in prop::collection::vec(any::<u8>(), 0..500),
    ) {
        let Packed { object, places } = packed(&chunks, &table);
        prop_assert!(check_digest(&object.name(), object.bytes()).is_ok());
        let (header, _) = Header::parse(ObjectKind::Pack, object.bytes()).unwrap();
        prop_assert_eq!(header.epoch, 9);
        for (chunk, place) in chunks.iter().zip(places) {
            let bytes = slice(&object, u64::from(place.start)..u64::from(place.end));
            prop_assert_eq!(opened(bytes), chunk);
        }
        let layout = PackLayout::new(object.len()).unwrap();
        let trailer = Trailer::decode(opened(slice(&object, layout.trailer_range()))).unwrap();
        let range = layout.table_range(trailer).unwrap();
        prop_assert_eq!(opened(slice(&object, range)), table);
    }

    #[test]
    fn padding_is_monotonic_idempotent_and_small(length in 2_u64..1 << 40) {
        let padded = padded_length(length);
        prop_assert!(padded >= length);
        prop_assert_eq!(padded_length(padded), padded);
        prop_assert!(padded_length(length + 1) >= padded);
        prop_assert!((padded - length) as f64 <= 0.12 * length as f64);
        if length >= 1 << 24 {
            prop_assert!((padded - length) as f64 <= 0.032 * length as f64);
        }
    }

    #[test]
    fn hostile_sizes_and_trailers_never_lead_outside(size: u64, offset: u32, length: u32) {
        for size in [size, padded_length(size >> 32), size & 0xffff] {
            let Ok(layout) = PackLayout::new(size) else { continue };
            let trailer = Trailer { table_offset: offset, table_length: length };
            prop_assert_eq!(Trailer::decode(&trailer.encode()), Ok(trailer));
            if let Ok(range) = layout.table_range(trailer) {
                prop_assert!(range.start >= 12);
                prop_assert!(range.start < range.end);
                prop_assert!(range.end <= layout.trailer_range().start);
            }
        }
    }

    #[test]
    fn a_trailer_has_eight_bytes(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        prop_assert_eq!(Trailer::decode(&bytes).is_ok(), bytes.len() == 8);
    }
}

#[test]
fn padded_lengths_are_those_of_the_paper() {
    // Nikitin et al., section 4.3: 9 bits of length keep 4 bits of mantissa.
    for (length, padded) in [
        (0, 0),
        (1, 1),
        (8, 8),
        (9, 10),
        (33, 36),
        (1000, 1024),
        (513, 544),
    ] {
        assert_eq!(padded_length(length), padded, "{length}");
    }
    assert_eq!(padded_length(u64::MAX), u64::MAX);
}

#[test]
fn storage_learns_only_a_rounded_length() {
    let lengths: std::collections::BTreeSet<u64> = (100_000..110_000)
        .step_by(100)
        .map(|n| packed(&[vec![0; n]], &[0; 40]).object.len())
        .collect();
    assert!(lengths.len() <= 6, "{lengths:?}");
}
