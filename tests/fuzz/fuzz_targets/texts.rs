#![no_main]
use holdfast_backend::marks::{Condemned, Deleting, Forgotten, Moved, Pins, Text};
use holdfast_backend::refs::Refs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    same::<Refs>(bytes);
    same::<Pins>(bytes);
    same::<Forgotten>(bytes);
    same::<Condemned>(bytes);
    same::<Deleting>(bytes);
    same::<Moved>(bytes);
});

fn same<T: Text>(bytes: &[u8]) {
    if let Ok(text) = T::decode(bytes) {
        assert_eq!(text.encode().as_bytes(), bytes);
    }
}
