use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use holdfast_crypto::{ChunkId, ChunkKind, Digest, LogKey, UserKey};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::sim::SimDisk;
use super::*;

/// One key for every opening: a key cannot be copied, only unwrapped again.
struct Keys {
    user: UserKey,
    wrapped: Vec<u8>,
}

impl Keys {
    fn new() -> Self {
        let user = UserKey::generate();
        let wrapped = LogKey::generate().wrap(&user);
        Keys { user, wrapped }
    }

    fn key(&self) -> LogKey {
        LogKey::unwrap(&self.user, &self.wrapped).unwrap()
    }
}

fn folder() -> &'static Path {
    Path::new("/log")
}

fn limits(bytes: u64) -> LogLimits {
    LogLimits {
        bytes: Some(bytes),
        ..LogLimits::default()
    }
}

fn try_open(keys: &Keys, disk: &Arc<SimDisk>) -> Result<(Log, Replay), LogError> {
    Log::open_without_background(folder(), keys.key(), limits(8 << 20), disk.clone())
}

type Replayed = Vec<(LogPosition, Record)>;

fn open(keys: &Keys, disk: &Arc<SimDisk>) -> (Log, Replayed) {
    let (log, replay) = try_open(keys, disk).unwrap();
    let records = replay.collect::<Result<_, _>>().unwrap();
    (log, records)
}

/// Any record; what is in it depends on the generator only.
fn random_record(random: &mut SmallRng, largest: usize) -> Record {
    let length = match random.random_range(0..4) {
        0 => random.random_range(0..=largest),
        _ => random.random_range(0..=largest.min(200)),
    };
    let bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
    match random.random_range(0..6) {
        0 => Record::SessionKey {
            digest: Digest(random.random()),
            object: bytes,
        },
        1 => Record::Chunk {
            id: ChunkId {
                epoch: random.random(),
                hash: random.random(),
            },
            kind: ChunkKind::Tree,
            raw_length: random.random(),
            key: Digest(random.random()),
            ciphertext: bytes,
        },
        2 => Record::Extent {
            file: random.random(),
            offset: random.random(),
            data: bytes,
        },
        3 => Record::PackStored(bytes),
        4 => Record::Committed(bytes),
        _ => Record::Operation(bytes),
    }
}

fn assert_prefix(found: &Replayed, wrote: &[Record], at_least: usize) {
    assert!(found.len() >= at_least, "{} of {at_least}", found.len());
    assert!(found.len() <= wrote.len());
    for ((_, found), wrote) in found.iter().zip(wrote) {
        assert!(found == wrote, "a record that nobody wrote");
    }
}

#[test]
fn what_is_appended_is_read_and_replayed() {
    let keys = Keys::new();
    let disk = Arc::new(SimDisk::new(1));
    let (log, _) = open(&keys, &disk);
    let mut random = SmallRng::seed_from_u64(1);
    let wrote: Vec<Record> = (0..200)
        .map(|_| random_record(&mut random, 60_000))
        .collect();
    let positions: Vec<_> = wrote
        .iter()
        .map(|r| log.append(&r.as_ref()).unwrap())
        .collect();
    for (record, position) in wrote.iter().zip(&positions) {
        assert_eq!(&log.read_record(position).unwrap(), record);
    }
    drop(log);
    let (log, found) = open(&keys, &disk);
    assert_prefix(&found, &wrote, wrote.len());
    assert!(found.iter().map(|(position, _)| position).eq(&positions));
    assert_eq!(log.last_sequence(), 200);
    assert_eq!(log.read_record(&positions[7]).unwrap(), wrote[7]);
}

#[test]
fn a_killed_process_loses_nothing_that_was_appended() {
    let keys = Keys::new();
    let disk = Arc::new(SimDisk::new(2));
    let mut random = SmallRng::seed_from_u64(2);
    let mut wrote = Vec::new();
    for _ in 0..20 {
        let (log, found) = open(&keys, &disk);
        assert_prefix(&found, &wrote, wrote.len());
        for _ in 0..random.random_range(0..10) {
            wrote.push(random_record(&mut random, 5_000));
            log.append(&wrote.last().unwrap().as_ref()).unwrap();
        }
        disk.kill();
    }
}

/// Runs until the power goes; gives what may be found and how much of it must be.
fn run_until_power_loss(keys: &Keys, disk: &Arc<SimDisk>, random: &mut SmallRng) {
    let mut wrote: Vec<Record> = Vec::new();
    let mut synced = 0;
    for _ in 0..4 {
        let start = disk.operations();
        disk.power_off_at(start + random.random_range(0..60));
        let opened = try_open(keys, disk);
        if let Ok((log, replay)) = opened {
            let found: Result<Replayed, _> = replay.collect();
            let found = found.expect("a crash is no damage");
            assert_prefix(&found, &wrote, synced);
            // What replay gave is promised from now on.
            wrote.truncate(found.len());
            synced = found.len();
            work(&log, random, &mut wrote, &mut synced);
        } else {
            assert!(disk.is_off(), "a crash is no damage: {:?}", opened.err());
        }
        match random.random_bool(0.8) {
            true => disk.lose_power(),
            false => disk.kill(),
        }
    }
    let (log, found) = open(keys, disk);
    assert_prefix(&found, &wrote, synced);
    assert!(!log.is_read_only());
}

fn work(log: &Log, random: &mut SmallRng, wrote: &mut Vec<Record>, synced: &mut usize) {
    let largest = match random.random_range(0..4) {
        0 => 400_000,
        _ => 3_000,
    };
    for _ in 0..40 {
        // Counted as written even if it fails: the disk may have it.
        let record = random_record(random, largest);
        let failed = log.append(&record.as_ref()).is_err();
        wrote.push(record);
        if failed {
            return;
        }
        if random.random_bool(0.2) {
            match log.sync() {
                Ok(()) => *synced = wrote.len(),
                Err(_) => return,
            }
        }
    }
}

/// Thousands of seeded crashes: what is found is a prefix of what was appended, it holds everything
/// that was synced, and no crash is taken for damage.
#[test]
fn replay_after_power_loss_is_a_prefix_with_everything_synced() {
    let keys = Keys::new();
    let runs = std::env::var("HOLDFAST_LOG_RUNS").map_or(2000, |runs| runs.parse().unwrap());
    for seed in 0..runs {
        let disk = Arc::new(SimDisk::new(seed));
        let mut random = SmallRng::seed_from_u64(seed ^ 0x5eed);
        run_until_power_loss(&keys, &disk, &mut random);
    }
}

/// Workloads of one to three records, each with a sync or none behind it, cut at every call.
#[test]
fn every_crash_point_of_short_workloads() {
    let keys = Keys::new();
    for count in 1..=3usize {
        for syncs in 0..1u32 << count {
            for point in 0.. {
                let mut reached = false;
                for seed in 0..4 {
                    reached |= crash_at(&keys, count, syncs, point, seed);
                }
                if !reached {
                    break;
                }
            }
        }
    }
}

/// False when the workload ended before the crash point.
fn crash_at(keys: &Keys, count: usize, syncs: u32, point: u64, seed: u64) -> bool {
    let disk = Arc::new(SimDisk::new(seed * 1000 + point));
    disk.power_off_at(point);
    let mut random = SmallRng::seed_from_u64(seed);
    let wrote: Vec<Record> = (0..count)
        .map(|_| random_record(&mut random, 2_000))
        .collect();
    let mut synced = 0;
    if let Ok((log, _)) = try_open(keys, &disk) {
        for (index, record) in wrote.iter().enumerate() {
            let appended = log.append(&record.as_ref()).is_ok();
            if appended && syncs >> index & 1 == 1 && log.sync().is_ok() {
                synced = index + 1;
            }
        }
    }
    let reached = disk.is_off();
    disk.lose_power();
    let (log, found) = open(keys, &disk);
    assert_prefix(&found, &wrote, synced);
    // It goes on from there, and the next crash finds both.
    let more = random_record(&mut random, 100);
    log.append(&more.as_ref()).unwrap();
    log.sync().unwrap();
    disk.lose_power();
    let (_, again) = open(keys, &disk);
    assert_eq!(again[..found.len()], found[..]);
    assert_eq!(again[found.len()].1, more);
    reached
}

#[test]
fn a_failed_sync_is_never_believed() {
    let keys = Keys::new();
    let disk = Arc::new(SimDisk::new(3));
    let (log, _) = open(&keys, &disk);
    log.append(&RecordRef::Operation(b"one")).unwrap();
    log.sync().unwrap();
    disk.fail_sync_at(1);
    log.append(&RecordRef::Operation(b"two")).unwrap();
    assert!(matches!(log.sync(), Err(LogError::ReadOnly(_))));
    assert!(log.is_read_only());
    assert!(matches!(log.sync(), Err(LogError::ReadOnly(_))));
    let appended = log.append(&RecordRef::Operation(b"three"));
    assert!(matches!(appended, Err(LogError::ReadOnly(_))));
    assert_eq!(log.synced_sequence(), 1);
}

#[test]
fn a_full_disk_loses_nothing_and_leaves_nothing_half_written() {
    let keys = Keys::new();
    for room in 0..400 {
        let disk = Arc::new(SimDisk::new(room));
        let (log, _) = open(&keys, &disk);
        let first = Record::Operation(vec![1; 50]);
        log.append(&first.as_ref()).unwrap();
        disk.room_bytes(room);
        let second = Record::Operation(vec![2; 200]);
        let result = log.append(&second.as_ref());
        // With no room to wipe the half-written header there is no going on.
        let full = matches!(result, Err(LogError::NoSpace { .. }));
        let stopped = matches!(result, Err(LogError::ReadOnly(_)));
        assert!(result.is_ok() || full || stopped);
        disk.kill();
        let mut wrote = vec![first];
        if result.is_ok() {
            wrote.push(second);
        } else if full {
            let third = Record::Operation(vec![3; 20]);
            log.append(&third.as_ref()).unwrap();
            wrote.push(third);
        }
        let (_, found) = open(&keys, &disk);
        assert_prefix(&found, &wrote, wrote.len());
    }
}

#[test]
fn a_bit_flipped_below_the_mark_is_damage_and_nothing_is_removed() {
    let keys = Keys::new();
    let build = || {
        let disk = Arc::new(SimDisk::new(4));
        let (log, _) = open(&keys, &disk);
        for number in 0..6u8 {
            log.append(&RecordRef::Operation(&[number; 40])).unwrap();
            log.sync().unwrap();
        }
        drop(log);
        disk
    };
    let file = folder().join("0000000001.log");
    let stored = record::stored_bytes(40 + 40) as usize;
    // The last record carries the mark of the five before it.
    let guarded = SEGMENT_HEADER_BYTES..SEGMENT_HEADER_BYTES + 5 * stored;
    for offset in guarded {
        let disk = build();
        assert!(disk.flip(&file, offset));
        let names = disk.names();
        let (log, replay) = try_open(&keys, &disk).unwrap();
        let found: Vec<_> = replay.collect();
        let index = (offset - SEGMENT_HEADER_BYTES) / stored;
        assert_eq!(found.len(), index + 1, "byte {offset}");
        assert!(matches!(found[index], Err(LogError::ReadOnly(_))));
        assert!(found[..index].iter().all(Result::is_ok));
        assert!(log.is_read_only());
        assert!(log.append(&RecordRef::Operation(b"x")).is_err());
        assert!(log.release(100).is_err());
        assert_eq!(disk.names(), names);
    }
}

#[test]
fn the_wrong_key_and_a_lost_segment_are_damage() {
    let keys = Keys::new();
    let disk = Arc::new(SimDisk::new(5));
    let (log, _) = open(&keys, &disk);
    for _ in 0..30 {
        log.append(&RecordRef::Operation(&[7; 200_000])).unwrap();
        log.sync().unwrap();
    }
    drop(log);
    let (log, mut replay) = try_open(&Keys::new(), &disk).unwrap();
    assert!(matches!(replay.next(), Some(Err(LogError::ReadOnly(_)))));
    assert!(replay.next().is_none());
    assert!(log.is_read_only());
    disk.remove(&folder().join("0000000003.log")).unwrap();
    let names = disk.names();
    assert!(names.len() > 3);
    let (log, replay) = try_open(&keys, &disk).unwrap();
    assert!(log.is_read_only());
    assert!(replay.last().unwrap().is_err());
    assert_eq!(disk.names(), names);
}

#[test]
fn released_segments_go_and_the_rest_is_replayed() {
    let keys = Keys::new();
    let disk = Arc::new(SimDisk::new(6));
    let (log, _) =
        Log::open_without_background(folder(), keys.key(), limits(8 << 20), disk.clone()).unwrap();
    let mut positions = Vec::new();
    for number in 0..60u8 {
        positions.push(
            log.append(&RecordRef::Operation(&[number; 100_000]))
                .unwrap(),
        );
    }
    let segments = disk.names().len();
    assert!(segments > 5);
    let before = log.usage().bytes;
    log.release(30).unwrap();
    assert!(disk.names().len() < segments);
    assert!(log.usage().bytes < before);
    assert!(matches!(
        log.read(&positions[0]),
        Err(LogError::Released(_))
    ));
    assert_eq!(log.read(&positions[30]).unwrap(), vec![30; 100_000]);
    disk.kill();
    let (log, found) = open(&keys, &disk);
    assert_eq!(found.last().unwrap().0.sequence, 60);
    let first = found[0].0.sequence;
    assert!(first > 1 && first <= 31);
    log.release(60).unwrap();
    // The newest stays, so that sequence numbers never start again.
    assert_eq!(disk.names().len(), 1);
    drop(log);
    let (log, _) = open(&keys, &disk);
    assert_eq!(log.append(&RecordRef::Operation(b"")).unwrap().sequence, 61);
}

#[test]
fn a_power_loss_while_releasing_leaves_no_gap() {
    let keys = Keys::new();
    for point in 0..30 {
        let disk = Arc::new(SimDisk::new(point));
        let (log, _) =
            Log::open_without_background(folder(), keys.key(), limits(8 << 20), disk.clone())
                .unwrap();
        for number in 0..60u8 {
            log.append(&RecordRef::Operation(&[number; 100_000]))
                .unwrap();
        }
        log.sync().unwrap();
        disk.power_off_at(disk.operations() + point);
        let _ = log.release(55);
        disk.lose_power();
        let (log, found) = open(&keys, &disk);
        assert!(!log.is_read_only());
        assert_eq!(found.last().unwrap().0.sequence, 60);
    }
}

#[test]
fn a_full_log_still_takes_deletes() {
    let keys = Keys::new();
    let disk = Arc::new(SimDisk::new(7));
    let (log, _) =
        Log::open_without_background(folder(), keys.key(), limits(4 << 20), disk).unwrap();
    let full = loop {
        if let Err(error) = log.append(&RecordRef::Operation(&[1; 10_000])) {
            break error;
        }
    };
    assert!(matches!(full, LogError::Full { .. }), "{full}");
    for _ in 0..1000 {
        log.append_reserved(&RecordRef::Operation(&[2; 100]))
            .unwrap();
    }
    let usage = log.usage();
    assert!(usage.bytes <= usage.limit);
}

#[test]
fn a_record_longer_than_a_segment_gets_its_own() {
    let keys = Keys::new();
    let disk = Arc::new(SimDisk::new(8));
    let (log, _) =
        Log::open_without_background(folder(), keys.key(), limits(32 << 20), disk.clone()).unwrap();
    let data = vec![5; 9 << 20];
    let position = log
        .append(&RecordRef::Extent {
            file: 1,
            offset: 2,
            data: &data,
        })
        .unwrap();
    assert_eq!(log.read(&position).unwrap(), data);
    let too_long = vec![0; MAX_PAYLOAD_BYTES + 1];
    let refused = log.append(&RecordRef::PackStored(&too_long));
    assert!(matches!(refused, Err(LogError::TooLong { .. })));
    disk.kill();
    let (_, found) = open(&keys, &disk);
    assert_eq!(found.len(), 1);
}

#[test]
fn headers_have_one_form() {
    let mut random = SmallRng::seed_from_u64(9);
    let id = random.random();
    for _ in 0..100_000 {
        let mut bytes = [0u8; HEADER_BYTES];
        random.fill(&mut bytes[..]);
        bytes[4] = random.random_range(0..8);
        bytes[5..8].fill(0);
        if let Some(header) = Header::decode(&id, &bytes) {
            assert_eq!(header.encode(&id), bytes);
        }
        let header = Header {
            record_type: record::RecordType::Extent,
            payload_bytes: random.random_range(0..1000),
            payload_crc: random.random(),
            sequence: random.random(),
            synced: random.random(),
        };
        assert_eq!(Header::decode(&id, &header.encode(&id)), Some(header));
    }
}

/// Threads share syncs and all of them are told the truth; on the real disk, and printing speed.
#[test]
fn concurrent_appends_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::new();
    let open = || {
        Log::open(
            folder.path(),
            keys.key(),
            limits(8 << 30),
            Arc::new(RealDisk),
        )
        .unwrap()
    };
    let (log, replay) = open();
    assert_eq!(replay.count(), 0);
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let log = &log;
            scope.spawn(move || {
                for _ in 0..25 {
                    let position = log.append(&RecordRef::Operation(&[thread; 100])).unwrap();
                    log.sync_to(position.sequence).unwrap();
                    assert!(log.synced_sequence() >= position.sequence);
                }
            });
        }
    });
    drop(log);
    let (log, replay) = open();
    assert_eq!(replay.map(Result::unwrap).count(), 100);
    print_speed(&log);
}

fn print_speed(log: &Log) {
    let ciphertext = vec![9; 1 << 20];
    let chunk = RecordRef::Chunk {
        id: ChunkId {
            epoch: 1,
            hash: [1; 32],
        },
        kind: ChunkKind::Data,
        raw_length: 1 << 20,
        key: Digest([2; 32]),
        ciphertext: &ciphertext,
    };
    let start = Instant::now();
    for _ in 0..128 {
        log.append(&chunk).unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("1 MiB chunks: {:.0} MiB/s", 128.0 / seconds);
    let start = Instant::now();
    for _ in 0..100_000 {
        log.append(&RecordRef::Operation(&[3; 100])).unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("100-byte operations: {:.0}/s", 100_000.0 / seconds);
}

#[test]
fn foreign_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::new();
    let foreign: PathBuf = folder.path().join("1.log");
    std::fs::write(&foreign, b"not ours").unwrap();
    let (log, replay) = Log::open(
        folder.path(),
        keys.key(),
        LogLimits::default(),
        Arc::new(RealDisk),
    )
    .unwrap();
    assert_eq!(replay.count(), 0);
    drop(log);
    assert!(foreign.exists());
}
