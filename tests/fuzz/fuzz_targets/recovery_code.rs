#![no_main]
use holdfast_crypto::RecoveryCode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(typed) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(code) = RecoveryCode::parse(typed) {
        assert!(RecoveryCode::parse(&code.to_printed()).is_ok());
    }
});
