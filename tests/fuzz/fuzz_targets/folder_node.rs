#![no_main]
use holdfast::format::{HashedEntry, node::TreeNode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = TreeNode::<HashedEntry>::decode(bytes) {
        assert_eq!(value.encode().as_slice(), bytes);
    }
});
