#![no_main]
use holdfast_backend::pack::{PackLayout, Trailer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(trailer) = Trailer::decode(bytes) else {
        return;
    };
    assert_eq!(trailer.encode(), bytes);
    for size in [100, 1 << 10, 1 << 24, (1 << 32) - 1, u64::MAX] {
        if let Ok(layout) = PackLayout::new(size)
            && let Ok(range) = layout.table_range(trailer)
        {
            assert!(range.end <= layout.trailer_range().start);
        }
    }
});
