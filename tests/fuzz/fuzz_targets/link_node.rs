#![no_main]
use holdfast::format::{LinkedInode, node::TreeNode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = TreeNode::<LinkedInode>::decode(bytes) {
        assert_eq!(value.encode().as_slice(), bytes);
    }
});
