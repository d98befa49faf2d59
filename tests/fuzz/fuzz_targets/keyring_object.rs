#![no_main]
use holdfast::format::KeyringObject;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(object) = KeyringObject::parse(bytes) {
        assert!(object.recovery_slot.len() <= bytes.len());
    }
});
