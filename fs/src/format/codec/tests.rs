use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn numbers_read_back(value: u64, signed: i64) {
        let mut writer = Writer::new();
        writer.varint(value);
        writer.signed(signed);
        let bytes = writer.finish();
        let mut reader = Reader::new("test", &bytes);
        prop_assert_eq!(reader.varint().unwrap(), value);
        prop_assert_eq!(reader.signed().unwrap(), signed);
        reader.finish().unwrap();
    }

    #[test]
    fn accepted_numbers_have_one_form(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
        let mut reader = Reader::new("test", &bytes);
        if let Ok(value) = reader.varint() {
            let used = bytes.len() - reader.rest().len();
            let mut writer = Writer::new();
            writer.varint(value);
            prop_assert_eq!(writer.finish(), &bytes[..used]);
        }
    }
}

#[test]
fn refuses_other_forms_of_a_number() {
    for bytes in [&[0x80, 0x00][..], &[0xff; 10], &[0x80; 10], &[0x80], &[]] {
        assert!(Reader::new("test", bytes).varint().is_err(), "{bytes:?}");
    }
    let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(Reader::new("test", &largest).varint(), Ok(u64::MAX));
}

#[test]
fn a_count_that_cannot_be_is_refused_before_anything_is_allocated() {
    let bytes = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
    assert!(Reader::new("test", &bytes).count(1).is_err());
    assert!(Reader::new("test", &[2, 0, 0]).count(1).is_ok());
    assert!(Reader::new("test", &[2, 0, 0]).count(2).is_err());
}
