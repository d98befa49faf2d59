#![no_main]
use holdfast::format::Inode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = Inode::decode(bytes) {
        assert_eq!(value.encode().as_slice(), bytes);
    }
});
