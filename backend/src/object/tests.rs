use proptest::prelude::*;

use super::*;

const KINDS: [ObjectKind; 5] = [
    ObjectKind::Pack,
    ObjectKind::Index,
    ObjectKind::Key,
    ObjectKind::Commit,
    ObjectKind::Keyring,
];

#[test]
fn a_header_is_these_twelve_bytes() {
    let header = Header {
        kind: ObjectKind::Pack,
        epoch: 0x0102_0304,
    };
    assert_eq!(header.encode(), *b"HFPK\x01\x00\x01\x00\x04\x03\x02\x01");
}

proptest! {
    #[test]
    fn headers_round_trip(kind in prop::sample::select(&KINDS), epoch: u32, rest: Vec<u8>) {
        let header = Header { kind, epoch };
        let bytes = [&header.encode()[..], &rest].concat();
        prop_assert_eq!(Header::parse(kind, &bytes), Ok((header, &rest[..])));
    }

    #[test]
    fn hostile_headers_give_errors_or_their_own_bytes(
        kind in prop::sample::select(&KINDS), mut bytes: Vec<u8>, with_magic: bool
    ) {
        if with_magic && bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&kind.magic());
        }
        if let Ok((header, rest)) = Header::parse(kind, &bytes) {
            prop_assert_eq!([&header.encode()[..], rest].concat(), bytes);
        }
    }
}

#[test]
fn a_header_that_cannot_be_read_says_why() {
    let kind = ObjectKind::Index;
    let good = Header { kind, epoch: 1 }.encode();
    let changed = |at: usize, to: u8| {
        let mut bytes = good;
        bytes[at] = to;
        Header::parse(kind, &bytes).unwrap_err()
    };
    assert_eq!(changed(3, b'Z'), FormatError::NotThisKind { kind });
    assert_eq!(changed(4, 2), FormatError::NewerFormat { kind, found: 2 });
    assert_eq!(changed(4, 0), FormatError::NotThisKind { kind });
    assert_eq!(changed(6, 9), FormatError::UnknownSuite { kind, found: 9 });
    assert_eq!(
        Header::parse(kind, &good[..11]),
        Err(FormatError::Truncated { kind })
    );
}

#[test]
fn a_name_carries_the_digest_of_the_bytes() {
    let object = Object::text(TextPlacement::Condemned { n: 3 }, "abc");
    assert_eq!(
        object.name().to_string(),
        "condemned/0000000003-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(object.len(), 3);
}

#[test]
fn only_the_right_bytes_become_an_object_again() {
    let object = Object::key(5, b"wrapped");
    let again = Object::from_stored(object.name(), object.bytes().clone());
    assert_eq!(again, Ok(object.clone()));
    let other = Object::from_stored(object.name(), Bytes::from_static(b"other"));
    assert_eq!(other.unwrap_err().name, object.name());
}
