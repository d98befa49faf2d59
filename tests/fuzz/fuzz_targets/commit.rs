#![no_main]
use holdfast::format::Commit;
use holdfast_crypto::DeviceId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(commit) = Commit::decode(DeviceId([1; 8]), 1 << 40, bytes) {
        assert_eq!(commit.encode(), bytes);
    }
});
