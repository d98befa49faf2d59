use super::*;
use proptest::prelude::*;

use crate::chunk::tests::{lengths, random_bytes};
use crate::content::tests::World;

fn pieces(world: &World, list: &ListRef) -> Vec<Piece> {
    pieces_from(&world.chunks, list, 0)
        .map(|piece| piece.unwrap().1)
        .collect()
}

fn written(bytes: &[u8]) -> Content {
    let mut content = Content::empty();
    content.write(0, bytes);
    content
}

/// A committed file and the chunks that it cost.
fn committed(world: &World, bytes: &[u8]) -> (Content, Rechunked) {
    let mut content = written(bytes);
    let done = world.commit(&mut content);
    assert!(content.is_chunked());
    (content, done)
}

#[test]
fn a_new_file_is_cut_like_its_bytes() {
    let world = World::new();
    let bytes = random_bytes(1, 20 << 20);
    let (content, done) = committed(&world, &bytes);
    let found: Vec<usize> = pieces(&world, &done.list)
        .iter()
        .map(|piece| piece.length() as usize)
        .collect();
    assert_eq!(found, lengths(&world.chunker, &bytes));
    assert_eq!((done.size, done.allocated), (20 << 20, 20 << 20));
    assert!(world.read(&content) == bytes);
}

#[test]
fn an_empty_file_is_an_empty_list() {
    let world = World::new();
    let done = world.rechunk(&Content::empty());
    assert_eq!(
        done,
        Rechunked {
            list: ListRef::empty(),
            size: 0,
            allocated: 0
        }
    );
    let mut content = written(b"gone");
    content.truncate(0);
    assert_eq!(world.rechunk(&content), done);
}

#[test]
fn an_unchanged_file_keeps_its_list_and_costs_nothing() {
    let world = World::new();
    let (content, done) = committed(&world, &random_bytes(1, 5 << 20));
    world.chunks.take_counts();
    assert_eq!(world.rechunk(&content), done);
    let counts = world.chunks.take_counts();
    assert_eq!((counts.loads, counts.stores), (0, 0));
}

#[test]
fn one_changed_byte_of_a_long_file_costs_a_few_chunks() {
    let world = World::new();
    let mut bytes = random_bytes(2, 64 << 20);
    let (mut content, _) = committed(&world, &bytes);
    for at in [0, 20_000_000, 40_000_000, (64 << 20) - 1] {
        world.chunks.take_counts();
        bytes[at] ^= 1;
        content.write(at as u64, &bytes[at..at + 1]);
        let done = world.commit(&mut content);
        let counts = world.chunks.take_counts();
        assert!(counts.loads <= 14, "{} loads", counts.loads);
        assert!(counts.stores <= 10, "{} stores", counts.stores);
        assert_eq!(done, world.rechunk(&written(&bytes)));
    }
    assert!(world.read(&content) == bytes);
}

#[test]
fn inserted_bytes_move_no_cut_far_behind_them() {
    let world = World::new();
    let bytes = random_bytes(3, 32 << 20);
    let (mut content, before) = committed(&world, &bytes);
    let changed = [&bytes[..9_000_000], b"inserted", &bytes[9_000_000..]].concat();
    let known = world.chunks.len();
    content.write(9_000_000, &changed[9_000_000..]);
    let after = world.commit(&mut content);
    assert!(
        world.chunks.len() - known <= 5,
        "{} new chunks",
        world.chunks.len() - known
    );
    let (before, after) = (pieces(&world, &before.list), pieces(&world, &after.list));
    assert_eq!(before[before.len() - 10..], after[after.len() - 10..]);
    assert!(world.read(&content) == changed);
}

#[test]
fn an_append_opens_the_last_chunk_again() {
    let world = World::new();
    let bytes = random_bytes(4, 12 << 20);
    let mut content = Content::empty();
    let mut at = 0;
    for end in [100, 1000, 300_000, 5_000_000, 5_000_001, 12 << 20] {
        content.write(at as u64, &bytes[at..end]);
        at = end;
        let done = world.commit(&mut content);
        assert_eq!(done, world.rechunk(&written(&bytes[..end])));
    }
}

#[test]
fn a_file_cut_while_it_is_written_is_cut_the_same() {
    let world = World::new();
    let bytes = random_bytes(5, 40 << 20);
    let whole = world.rechunk(&written(&bytes));
    let mut content = Content::empty();
    let mut most_held = 0;
    for (index, piece) in bytes.chunks(128 << 10).enumerate() {
        content.write((index * (128 << 10)) as u64, piece);
        if content.uncut_bytes() >= 8 << 20 {
            world.cut(&mut content, |_| {});
        }
        if index == 100 {
            world.commit(&mut content);
        }
        most_held = most_held.max(content.memory_bytes());
    }
    assert!(most_held <= 10 << 20, "{most_held} bytes were held");
    world.chunks.take_counts();
    assert_eq!(world.rechunk(&content), whole);
    let counts = world.chunks.take_counts();
    assert!(
        counts.loads <= 2,
        "chunks that were cut are not read again: {counts:?}"
    );
}

#[test]
fn long_holes_stay_and_short_ones_become_zeros() {
    let world = World::new();
    let mut content = Content::empty();
    content.write(0, &[1; 1000]);
    content.truncate(1 << 40);
    content.write(1 << 41, &[2; 1000]);
    content.write((1 << 41) + 2000, &[3; 1000]);
    let done = world.commit(&mut content);
    assert_eq!((done.size, done.allocated), ((1 << 41) + 3000, 4000));
    let found: Vec<u64> = pieces(&world, &done.list)
        .iter()
        .map(Piece::length)
        .collect();
    assert_eq!(found, [1000, (1 << 41) - 1000, 3000]);
    assert_eq!(content.seek_hole(0, &world.chunks).unwrap(), Some(1000));
    assert_eq!(
        content.seek_data(1000, &world.chunks).unwrap(),
        Some(1 << 41)
    );

    // A piece of the hole is written; then it is punched again.
    content.write(1 << 30, b"x");
    assert_eq!(pieces(&world, &world.commit(&mut content).list).len(), 5);
    content.punch(1 << 30..(1 << 30) + 1);
    assert_eq!(world.commit(&mut content), done);
}

#[test]
fn zeros_never_become_holes() {
    let world = World::new();
    let (_, done) = committed(&world, &vec![0; 10 << 20]);
    assert_eq!(done.allocated, 10 << 20);
}

#[test]
fn a_copy_within_the_drive_reads_nothing() {
    let world = World::new();
    let (content, done) = committed(&world, &random_bytes(6, 30 << 20));
    let mut copy = Content::empty();
    let placed: Vec<_> = pieces(&world, &done.list)
        .into_iter()
        .map(Into::into)
        .collect();
    copy.place(0, &placed);
    world.chunks.take_counts();
    assert_eq!(world.rechunk(&copy), done);
    assert_eq!(
        world.chunks.take_counts().stores,
        stores_of_list(&done.list)
    );
    assert!(world.read(&copy) == world.read(&content));
}

#[test]
fn what_is_appended_to_a_copy_opens_its_last_chunk() {
    let world = World::new();
    let bytes = random_bytes(8, 30 << 20);
    let (_, done) = committed(&world, &bytes[..10_000_000]);
    let mut copy = Content::empty();
    for piece in pieces(&world, &done.list) {
        copy.place(copy.size(), &[piece.into()]);
        assert_eq!(copy.uncut_bytes(), 0);
    }
    copy.write(10_000_000, &bytes[10_000_000..]);
    assert!(world.cut(&mut copy, |_| {}) > 5);
    assert_eq!(world.rechunk(&copy), world.rechunk(&written(&bytes)));
}

/// Storing an inline list stores nothing.
fn stores_of_list(list: &ListRef) -> u64 {
    u64::from(matches!(list, ListRef::Node { .. }))
}

#[test]
fn a_change_amid_chunks_that_were_cut_reads_only_around_it() {
    let world = World::new();
    let mut bytes = random_bytes(7, 40 << 20);
    let mut content = Content::empty();
    content.write(0, &bytes);
    while world.cut(&mut content, |_| {}) > 0 {}
    bytes[15_000_000] ^= 1;
    content.write(15_000_000, &bytes[15_000_000..15_000_001]);
    world.chunks.take_counts();
    let done = world.rechunk(&content);
    assert!(world.chunks.take_counts().loads <= 10);
    assert_eq!(done, world.rechunk(&written(&bytes)));
}

#[test]
fn a_failing_sink_is_reported() {
    struct Full;
    impl ChunkSink for Full {
        fn store(&self, _: ChunkKind, _: &[u8]) -> Result<ChunkId, SinkError> {
            Err(SinkError::NoSpace)
        }
    }
    let world = World::new();
    for threads in [1, 3] {
        let tools = Rechunker {
            source: &world.chunks,
            sink: &Full,
            extents: &world.log,
            chunker: &world.chunker,
            threads,
        };
        let failed = tools.rechunk(&written(&random_bytes(1, 9 << 20)));
        assert!(matches!(failed, Err(ChunkError::Sink(SinkError::NoSpace))));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { length: usize, seed: u64 },
    Change { at: f64, length: usize, seed: u64 },
    Shorten { to: f64 },
    Copy,
    Cut,
    Log,
    Commit,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..6_000_000, any::<u64>()).prop_map(|(length, seed)| Step::Append { length, seed }),
        3 => (0.0..1.0, 1usize..100_000, any::<u64>()).prop_map(|(at, length, seed)| Step::Change { at, length, seed }),
        1 => (0.0..1.0).prop_map(|to| Step::Shorten { to }),
        1 => Just(Step::Copy),
        4 => Just(Step::Cut),
        1 => Just(Step::Log),
        3 => Just(Step::Commit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The list of a file without holes follows from its bytes alone: not from how they were
    /// written, nor from when snapshots were taken.
    #[test]
    fn the_list_follows_from_the_bytes(steps in proptest::collection::vec(any_step(), 1..20)) {
        let world = World::new();
        let mut content = Content::empty();
        let mut bytes = Vec::new();
        for step in steps {
            match step {
                Step::Append { length, seed } => {
                    let data = random_bytes(seed, length);
                    content.write(bytes.len() as u64, &data);
                    bytes.extend_from_slice(&data);
                }
                Step::Change { at, length, seed } => {
                    let at = (at * bytes.len() as f64) as usize;
                    let length = length.min(bytes.len() - at);
                    let data = random_bytes(seed, length);
                    content.write(at as u64, &data);
                    bytes[at..at + length].copy_from_slice(&data);
                }
                Step::Shorten { to } => {
                    bytes.truncate((to * bytes.len() as f64) as usize);
                    content.truncate(bytes.len() as u64);
                }
                // The file is copied within the drive, and the copy takes its place.
                Step::Copy => {
                    let list = world.rechunk(&content).list;
                    content.truncate(0);
                    for piece in pieces(&world, &list) {
                        content.place(content.size(), &[piece.into()]);
                    }
                }
                Step::Cut => {
                    world.cut(&mut content, |_| {});
                }
                Step::Log => world.log_all(&mut content),
                Step::Commit => {
                    world.commit(&mut content);
                }
            }
        }
        let fresh = world.rechunk(&written(&bytes));
        prop_assert_eq!(world.rechunk(&content), fresh);
        prop_assert!(world.read(&content) == bytes);
    }
}
