use super::*;
use std::collections::HashMap;

use parking_lot::Mutex;
use proptest::prelude::*;

use crate::chunk::CutBuffer;
use crate::chunk::tests::{random_bytes, test_chunker};
use crate::chunks::{ChunkSource, MemoryChunks};
use crate::rechunk::{Rechunked, Rechunker, store_chunks};

/// Extents in memory.
#[derive(Default)]
pub(crate) struct MemoryLog {
    records: Mutex<HashMap<u64, Bytes>>,
}

impl MemoryLog {
    pub(crate) fn append(&self, bytes: &Bytes) -> LogPosition {
        let mut records = self.records.lock();
        let sequence = records.len() as u64 + 1;
        records.insert(sequence, Bytes::copy_from_slice(bytes));
        LogPosition {
            sequence,
            segment: 0,
            offset: 0,
            length: bytes.len() as u32,
        }
    }
}

impl ExtentSource for MemoryLog {
    fn load_extent(&self, position: &LogPosition) -> Result<Bytes, LoadError> {
        Ok(self.records.lock()[&position.sequence].clone())
    }
}

/// What a content needs around it.
pub(crate) struct World {
    pub(crate) chunks: MemoryChunks,
    pub(crate) log: MemoryLog,
    pub(crate) chunker: crate::chunk::Chunker,
}

impl World {
    pub(crate) fn new() -> Self {
        World {
            chunks: MemoryChunks::new(),
            log: MemoryLog::default(),
            chunker: test_chunker(),
        }
    }

    pub(crate) fn rechunk(&self, content: &Content) -> Rechunked {
        let tools = Rechunker {
            source: &self.chunks,
            sink: &self.chunks,
            extents: &self.log,
            chunker: &self.chunker,
            threads: 2,
        };
        tools.rechunk(content).unwrap()
    }

    pub(crate) fn read(&self, content: &Content) -> Bytes {
        content.read(0..u64::MAX, &self.chunks, &self.log).unwrap()
    }

    pub(crate) fn commit(&self, content: &mut Content) -> Rechunked {
        let frozen = content.freeze();
        let done = self.rechunk(&frozen);
        content.rebase(&frozen, &done.list, done.allocated);
        done
    }

    pub(crate) fn log_all(&self, content: &mut Content) {
        for unlogged in content.unlogged() {
            content.mark_logged(&unlogged, self.log.append(&unlogged.bytes));
        }
        assert!(!content.has_unlogged());
    }

    pub(crate) fn cut(&self, content: &mut Content, meanwhile: impl FnOnce(&mut Content)) -> usize {
        let run = content
            .clone()
            .cut_ready(
                &self.chunks,
                &self.log,
                &self.chunker,
                16 << 20,
                &mut CutBuffer::new(),
            )
            .unwrap();
        let chunks: Vec<Bytes> = run.cuts.iter().map(|cut| cut.bytes.clone()).collect();
        let ids = store_chunks(&self.chunks, &chunks, 2).unwrap();
        meanwhile(content);
        content.replace_with_chunks(&run, &ids)
    }
}

/// What a file is: its bytes, and which of them are not holes.
#[derive(Clone, Default)]
struct Model {
    bytes: Vec<u8>,
    is_data: Vec<bool>,
}

impl Model {
    fn truncate(&mut self, size: usize) {
        self.bytes.resize(size, 0);
        self.is_data.resize(size, false);
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        self.truncate(self.bytes.len().max(offset + data.len()));
        self.bytes[offset..offset + data.len()].copy_from_slice(data);
        self.is_data[offset..offset + data.len()].fill(true);
    }

    fn punch(&mut self, range: Range<usize>) {
        let range = range.start.min(self.bytes.len())..range.end.min(self.bytes.len());
        self.bytes[range.clone()].fill(0);
        self.is_data[range].fill(false);
    }

    fn next(&self, from: usize, is_data: bool) -> Option<u64> {
        let found = self.is_data[from..]
            .iter()
            .position(|byte| *byte == is_data);
        found.map(|index| (from + index) as u64)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write {
        offset: usize,
        length: usize,
        seed: u64,
    },
    Append {
        length: usize,
        pieces: usize,
        seed: u64,
    },
    Truncate(usize),
    Punch(usize, usize),
    CopyWithin {
        from: usize,
        length: usize,
        to: usize,
    },
    Log {
        writes_meanwhile: Option<(usize, usize)>,
    },
    Cut {
        writes_meanwhile: Option<(usize, usize)>,
    },
    Freeze,
    Commit,
}

fn any_step(size: usize) -> impl Strategy<Value = Step> {
    let small = 1usize..5000;
    let range = (0..size, small.clone());
    prop_oneof![
        4 => (0..size, small.clone(), any::<u64>()).prop_map(|(offset, length, seed)| Step::Write { offset, length, seed }),
        2 => (0..size, 1..size / 3, any::<u64>()).prop_map(|(offset, length, seed)| Step::Write { offset, length, seed }),
        2 => (1..size / 2, 1usize..200, any::<u64>()).prop_map(|(length, pieces, seed)| Step::Append { length, pieces, seed }),
        1 => (0..size).prop_map(Step::Truncate),
        2 => (0..size, 1..size / 4).prop_map(|(start, length)| Step::Punch(start, length)),
        2 => (0..size, 1..size / 2, 0..size).prop_map(|(from, length, to)| Step::CopyWithin { from, length, to }),
        2 => proptest::option::of(range.clone()).prop_map(|writes_meanwhile| Step::Log { writes_meanwhile }),
        2 => proptest::option::of(range).prop_map(|writes_meanwhile| Step::Cut { writes_meanwhile }),
        2 => Just(Step::Freeze),
        2 => Just(Step::Commit),
    ]
}

struct Run {
    world: World,
    content: Content,
    model: Model,
    frozen: Vec<(Arc<Content>, Vec<u8>)>,
}

impl Run {
    fn new() -> Self {
        Run {
            world: World::new(),
            content: Content::empty(),
            model: Model::default(),
            frozen: Vec::new(),
        }
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        self.content.write(offset as u64, data);
        self.model.write(offset, data);
    }

    fn write_meanwhile(content: &mut Content, model: &mut Model, write: Option<(usize, usize)>) {
        if let Some((offset, length)) = write {
            let data = random_bytes(length as u64, length);
            content.write(offset as u64, &data);
            model.write(offset, &data);
        }
    }

    fn step(&mut self, step: &Step) {
        match step.clone() {
            Step::Write {
                offset,
                length,
                seed,
            } => self.write(offset, &random_bytes(seed, length)),
            Step::Append {
                length,
                pieces,
                seed,
            } => {
                let data = random_bytes(seed, length);
                for piece in data.chunks(length.div_ceil(pieces)) {
                    self.write(self.model.bytes.len(), piece);
                }
            }
            Step::Truncate(size) => {
                self.content.truncate(size as u64);
                self.model.truncate(size);
            }
            Step::Punch(start, length) => {
                self.content.punch(start as u64..(start + length) as u64);
                self.model.punch(start..start + length);
            }
            Step::CopyWithin { from, length, to } => self.copy(from, length, to),
            Step::Log { writes_meanwhile } => {
                let all = self.content.unlogged();
                Self::write_meanwhile(&mut self.content, &mut self.model, writes_meanwhile);
                for unlogged in all.iter().step_by(1 + writes_meanwhile.is_some() as usize) {
                    let position = self.world.log.append(&unlogged.bytes);
                    self.content.mark_logged(unlogged, position);
                }
            }
            Step::Cut { writes_meanwhile } => {
                let model = &mut self.model;
                self.world.cut(&mut self.content, |content| {
                    Self::write_meanwhile(content, model, writes_meanwhile);
                });
            }
            Step::Freeze => {
                let frozen = self.content.freeze();
                self.frozen.push((frozen, self.model.bytes.clone()));
            }
            Step::Commit => self.commit(),
        }
    }

    /// copy_file_range within the file: what is in chunks is placed, the rest is copied.
    fn copy(&mut self, from: usize, length: usize, to: usize) {
        let size = self.model.bytes.len();
        let range = from.min(size)..(from + length).min(size);
        let parts = self
            .content
            .plan(range.start as u64..range.end as u64, &self.world.chunks)
            .unwrap();
        let source = self.model.clone();
        for part in parts {
            let at = to as u64 + (part.range.start - range.start as u64);
            let read = part.range.start as usize..part.range.end as usize;
            let length = read.len();
            match part.origin {
                Origin::Chunk {
                    id,
                    chunk_length,
                    skip,
                } => {
                    let length = length as u32;
                    self.content.place(
                        at,
                        &[Placed::Chunk {
                            id,
                            chunk_length,
                            skip,
                            length,
                        }],
                    );
                    self.model.write(at as usize, &source.bytes[read]);
                }
                Origin::Zero => {
                    self.content.place(
                        at,
                        &[Placed::Hole {
                            length: length as u64,
                        }],
                    );
                    self.model.write(at as usize, &source.bytes[read]);
                    self.model.punch(at as usize..at as usize + length);
                }
                _ => self.write(at as usize, &source.bytes[read]),
            }
        }
    }

    fn commit(&mut self) {
        for (frozen, bytes) in std::mem::take(&mut self.frozen).into_iter().take(1) {
            assert!(
                self.world.read(&frozen) == bytes,
                "a frozen layer never changes"
            );
            let done = self.world.rechunk(&frozen);
            let read = Content::from_list(done.size, done.allocated, done.list.clone());
            assert!(
                self.world.read(&read) == bytes,
                "the list says what the layer says"
            );
            let data = read.plan(0..done.size, &self.world.chunks).unwrap();
            let data: u64 = data
                .iter()
                .filter(|part| !part.is_zero())
                .map(Part::len)
                .sum();
            assert_eq!(done.allocated, data);
            self.content.rebase(&frozen, &done.list, done.allocated);
        }
    }

    fn check(&self) {
        assert_eq!(self.content.size(), self.model.bytes.len() as u64);
        assert!(self.world.read(&self.content) == self.model.bytes);
    }

    /// Holds as long as no commit made zeros of small holes.
    fn check_holes(&self) {
        let data = self
            .model
            .is_data
            .iter()
            .filter(|is_data| **is_data)
            .count();
        assert_eq!(self.content.allocated(), data as u64);
        let size = self.model.bytes.len();
        for from in (0..size).step_by(size / 50 + 1) {
            let chunks = &self.world.chunks;
            let hole = self.content.seek_hole(from as u64, chunks).unwrap();
            assert_eq!(hole, self.model.next(from, false).or(Some(size as u64)));
            let data = self.content.seek_data(from as u64, chunks).unwrap();
            assert_eq!(data, self.model.next(from, true));
        }
        assert_eq!(
            self.content
                .seek_hole(size as u64, &self.world.chunks)
                .unwrap(),
            None
        );
        assert_eq!(
            self.content
                .seek_data(size as u64, &self.world.chunks)
                .unwrap(),
            None
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_content_is_what_was_done_to_it(steps in proptest::collection::vec(any_step(600_000), 1..40)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
            run.check();
        }
    }

    #[test]
    fn long_contents_too(steps in proptest::collection::vec(any_step(9_000_000), 1..16)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
            run.check();
        }
        run.world.log_all(&mut run.content);
        run.check();
    }

    #[test]
    fn holes_are_known_exactly(steps in proptest::collection::vec(any_step(100_000), 1..40)) {
        let mut run = Run::new();
        for step in steps.iter().filter(|step| !matches!(step, Step::Commit)) {
            run.step(step);
            run.check();
            run.check_holes();
        }
    }
}

#[test]
fn a_million_small_writes_are_a_few_runs() {
    let mut content = Content::empty();
    for index in 0..1_000_000u64 {
        content.write(index * 8, &index.to_le_bytes());
    }
    assert_eq!(content.edits.len(), 8);
    assert_eq!(content.allocated(), 8_000_000);
    assert!(content.memory_bytes() < 8_100_000);
    assert_eq!(content.unlogged().len(), 8);
}

#[test]
fn a_page_that_is_overwritten_again_and_again_is_one_run() {
    let mut content = Content::empty();
    for index in 0..10_000u64 {
        content.write(index % 16 * 256, &[index as u8; 256]);
    }
    assert_eq!(
        (content.edits.len(), content.memory_bytes()),
        (1, 4096 + RUN_COST_BYTES)
    );
}

#[test]
fn bytes_that_changed_meanwhile_are_not_marked_as_logged() {
    let world = World::new();
    let mut content = Content::empty();
    content.write(0, &[1; 1000]);
    let unlogged = content.unlogged().remove(0);
    content.write(100, &[2; 10]);
    content.write(1000, &[3; 10]);
    content.mark_logged(&unlogged, world.log.append(&unlogged.bytes));
    let left: usize = content.unlogged().iter().map(|left| left.bytes.len()).sum();
    assert_eq!(left, 20);
    world.log_all(&mut content);
    let mut expected = [[1; 1000].as_slice(), &[3; 10]].concat();
    expected[100..110].fill(2);
    assert_eq!(world.read(&content), expected);
}

#[test]
fn what_was_cut_off_does_not_come_back_from_the_log() {
    let world = World::new();
    let mut content = Content::empty();
    content.write(0, &[1; 1000]);
    let unlogged = content.unlogged().remove(0);
    content.truncate(10);
    content.truncate(1000);
    content.mark_logged(&unlogged, world.log.append(&unlogged.bytes));
    assert_eq!(
        world.read(&content)[..],
        [[1; 10].as_slice(), &[0; 990]].concat()
    );
}

#[test]
fn frozen_bytes_can_still_be_logged() {
    let world = World::new();
    let mut content = Content::empty();
    content.write(0, &[1; 1000]);
    let frozen = content.freeze();
    content.write(500, &[2; 100]);
    world.log_all(&mut content);
    assert!(frozen.has_unlogged());
    let done = world.rechunk(&frozen);
    assert!(content.rebase(&frozen, &done.list, done.allocated));
    let mut expected = vec![1; 1000];
    expected[500..600].fill(2);
    assert_eq!(world.read(&content), expected);
    assert_eq!(content.allocated(), 1000);
}

#[test]
fn freezing_twice_and_committing_in_order_leaves_one_list() {
    let world = World::new();
    let mut content = Content::empty();
    content.write(0, &[1; 100]);
    let first = content.freeze();
    content.write(100, &[2; 100]);
    let second = content.freeze();
    assert!(
        Arc::ptr_eq(&second, &content.freeze()),
        "nothing changed since"
    );
    let done = world.rechunk(&first);
    assert!(content.rebase(&first, &done.list, done.allocated));
    assert!(!content.is_chunked());
    let done = world.rechunk(&second);
    assert!(content.rebase(&second, &done.list, done.allocated));
    assert!(content.is_chunked());
    assert_eq!(content.list(), Some(&done.list));
    assert!(
        !content.rebase(&second, &done.list, done.allocated),
        "it is gone"
    );
}

#[test]
fn a_copied_chunk_is_whole_again_when_both_halves_are_there() {
    let world = World::new();
    let id = store_chunks(&world.chunks, &[Bytes::from(vec![7; 1000])], 1).unwrap()[0];
    let mut content = Content::empty();
    let half = |skip| Placed::Chunk {
        id,
        chunk_length: 1000,
        skip,
        length: 500,
    };
    content.place(0, &[half(0)]);
    content.place(500, &[half(500)]);
    let parts = content.plan(0..1000, &world.chunks).unwrap();
    assert_eq!(parts.len(), 1);
    assert_eq!(
        parts[0].whole_chunk(),
        Some(Piece::Chunk { id, length: 1000 })
    );
    assert_eq!(
        world.rechunk(&content).list,
        ListRef::Inline(Arc::from([Piece::Chunk { id, length: 1000 }]))
    );
}

#[test]
fn a_failed_load_changes_nothing() {
    let world = World::new();
    let mut content = Content::empty();
    content.write(0, &random_bytes(1, 3000));
    let done = world.commit(&mut content);
    let ListRef::Inline(pieces) = &done.list else {
        panic!("one chunk is inline")
    };
    let Piece::Chunk { id, .. } = pieces[0] else {
        panic!("it has data")
    };
    let bytes = world
        .chunks
        .load(holdfast_crypto::ChunkKind::Data, &id)
        .unwrap();
    world.chunks.lose(holdfast_crypto::ChunkKind::Data, &id);
    assert!(content.read(0..10, &world.chunks, &world.log).is_err());
    world
        .chunks
        .replace(holdfast_crypto::ChunkKind::Data, &id, bytes.slice(..5));
    assert!(matches!(
        content.read(0..10, &world.chunks, &world.log),
        Err(LoadError::Damaged { .. })
    ));
    world
        .chunks
        .replace(holdfast_crypto::ChunkKind::Data, &id, bytes.clone());
    assert_eq!(world.read(&content), bytes);
}

#[test]
fn a_list_that_is_too_short_is_an_error_and_not_zeros() {
    let world = World::new();
    let hole = ListRef::Inline(Arc::from([Piece::Hole { length: 100 }]));
    let content = Content::from_list(200, 0, hole);
    assert!(content.plan(0..100, &world.chunks).is_ok());
    assert!(content.plan(0..200, &world.chunks).is_err());
    assert!(content.plan(150..200, &world.chunks).is_err());
    assert!(content.seek_data(0, &world.chunks).is_err());
}
