#![no_main]
use holdfast::compress::decompress;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some((length, stored)) = bytes.split_first_chunk::<3>() {
        let length = u32::from_le_bytes([length[0], length[1], length[2], 0]) as usize;
        if let Ok(content) = decompress(stored, length) {
            assert_eq!(content.len(), length);
        }
    }
});
