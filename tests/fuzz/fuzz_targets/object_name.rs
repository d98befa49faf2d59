#![no_main]
use holdfast_backend::layout::ObjectName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(name) = text.parse::<ObjectName>() {
        assert_eq!(name.to_string(), text);
    }
});
