use super::*;

#[test]
fn printed_forms_read_back() {
    let id = ChunkId {
        epoch: 7,
        hash: [0xa5; 32],
    };
    assert_eq!(id.to_string(), format!("7-{}", "a5".repeat(32)));
    assert_eq!(id.to_string().parse(), Ok(id));
    assert_eq!(format!("{id:?}"), "a5a5a5a5");

    let device = DeviceId([1, 2, 3, 4, 5, 6, 7, 0xff]);
    assert_eq!(device.to_string(), "01020304050607ff");
    assert_eq!(device.to_string().parse(), Ok(device));

    let digest = Digest::of(b"abc");
    assert_eq!(
        digest.to_string(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(digest.to_string().parse(), Ok(digest));
}

#[test]
fn only_the_printed_form_is_read() {
    let hash = "a5".repeat(32);
    for text in [
        format!("07-{hash}"),
        format!("+7-{hash}"),
        format!("-{hash}"),
        format!("4294967296-{hash}"),
        format!("7-{}", hash.to_uppercase()),
        format!("7-{hash}0"),
        hash.clone(),
    ] {
        assert!(text.parse::<ChunkId>().is_err(), "{text}");
    }
    assert!("01020304050607F0".parse::<DeviceId>().is_err());
    assert!("0102030405060g07".parse::<DeviceId>().is_err());
    assert!("é".repeat(8).parse::<DeviceId>().is_err());
    assert!("".parse::<Digest>().is_err());
}

#[test]
fn digest_in_pieces_is_the_digest_of_the_whole() {
    let mut builder = DigestBuilder::new();
    builder.update(b"a");
    builder.update(b"bc");
    assert_eq!(builder.finish(), Digest::of(b"abc"));
}

#[test]
fn kinds_have_fixed_numbers() {
    assert_eq!(ChunkKind::from_u8(1), Some(ChunkKind::Data));
    assert_eq!(ChunkKind::from_u8(2), Some(ChunkKind::Tree));
    assert_eq!(ChunkKind::from_u8(3), Some(ChunkKind::List));
    assert!(
        (4..=255)
            .chain([0])
            .all(|number| ChunkKind::from_u8(number).is_none())
    );
}
