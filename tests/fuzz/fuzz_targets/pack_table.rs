#![no_main]
use holdfast::format::PackTable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = PackTable::decode(bytes) {
        assert_eq!(value.encode().as_slice(), bytes);
    }
});
