//! What a sealed keystore has in memory: nothing that would open it.
//!
//! The test looks for the root key without knowing it. The seal header stands in the clear, with a MAC that only the root key makes
//! (docs/format/keystore.md), so every 32 bytes of the process are tried as the root key.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use hkdf::Hkdf;
use holdfast_tests::keystore::Keystore;
use sha2::Sha256;

const MAC_BYTES: usize = 32;
/// Random bytes have more different ones; text, pointers and zeros mostly fewer.
const DIFFERENT_BYTES: usize = 16;

/// The header as the snapshot has it: its MAC, and what that is of.
struct SealHeader {
    mac: [u8; MAC_BYTES],
    json: Vec<u8>,
}

impl SealHeader {
    fn of(snapshot: &[u8]) -> SealHeader {
        let begin = br#"{"cluster":""#;
        let header = |at: usize| {
            let mut values = serde_json::Deserializer::from_slice(snapshot.get(at..)?)
                .into_iter::<serde_json::Value>();
            let value = values.next()?.ok()?;
            value.get("wrapped_root")?;
            Some(SealHeader {
                mac: snapshot[at - MAC_BYTES..at].try_into().ok()?,
                json: snapshot[at..at + values.byte_offset()].to_vec(),
            })
        };
        (MAC_BYTES..snapshot.len())
            .filter(|at| snapshot[*at..].starts_with(begin))
            .find_map(header)
            .expect("the header stands in the clear")
    }

    fn is_root_key(&self, candidate: &[u8]) -> bool {
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(None, candidate)
            .expand(b"holdfast/1/root-key/header", &mut key)
            .expect("32 bytes are not too many");
        *blake3::keyed_hash(&key, &self.json).as_bytes() == self.mac
    }

    /// How often it is in the memory of a process.
    fn root_keys_in(&self, memory: &[Vec<u8>]) -> usize {
        let windows = memory
            .iter()
            .flat_map(|region| region.windows(32).step_by(8));
        windows
            .filter(|window| is_random(window) && self.is_root_key(window))
            .count()
    }
}

fn is_random(window: &[u8]) -> bool {
    let mut seen = [false; 256];
    window
        .iter()
        .for_each(|byte| seen[usize::from(*byte)] = true);
    seen.iter().filter(|seen| **seen).count() >= DIFFERENT_BYTES
}

/// Everything that a process can write to.
fn memory(pid: u32) -> Vec<Vec<u8>> {
    let maps =
        fs::read_to_string(format!("/proc/{pid}/maps")).expect("run as root, or as its user");
    let memory = File::open(format!("/proc/{pid}/mem"))
        .expect("the memory of a process that gives none away is read by root alone");
    let region = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let from = u64::from_str_radix(from, 16).ok()?;
        let to = u64::from_str_radix(to, 16).ok()?;
        let mut bytes = vec![0; usize::try_from(to - from).ok()?];
        let is_read = rest.starts_with("rw") && memory.read_exact_at(&mut bytes, from).is_ok();
        is_read.then_some(bytes)
    };
    maps.lines().filter_map(region).collect()
}

/// While it is open the root key is there, so the search can find it; after sealing it is nowhere.
#[test]
fn a_sealed_server_holds_no_root_key() {
    let (keystore, shares) = Keystore::initialised();
    keystore.unseal([1, 2, 3], &shares);
    keystore.ok(&["snapshot", "save", "copy"]);
    let header = SealHeader::of(&fs::read(keystore.path("copy")).expect("read"));
    let open = header.root_keys_in(&memory(keystore.pid()));
    assert!(open > 0, "an open server has its root key");
    keystore.ok(&["seal"]);
    let sealed = header.root_keys_in(&memory(keystore.pid()));
    assert_eq!(sealed, 0, "a sealed one has none");
}
