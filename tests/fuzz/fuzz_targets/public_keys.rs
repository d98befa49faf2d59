#![no_main]
use holdfast_crypto::{ArchivePublicKey, RecoveryPublicKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = ArchivePublicKey::from_bytes(bytes) {
        assert_eq!(key.to_bytes(), bytes);
    }
    if let Ok(key) = RecoveryPublicKey::from_bytes(bytes) {
        assert_eq!(key.to_bytes(), bytes);
    }
});
