#![no_main]
use holdfast_backend::object::{Header, ObjectKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    use ObjectKind::{Commit, Index, Key, Keyring, Pack};
    for kind in [Pack, Index, Key, Commit, Keyring] {
        if let Ok((header, rest)) = Header::parse(kind, bytes) {
            assert_eq!([&header.encode(), rest].concat(), bytes);
        }
    }
});
