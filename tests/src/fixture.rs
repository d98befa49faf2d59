//! The frozen archive of format 1 in `tests/fixtures/`: what is in it, and every piece that a
//! parser reads.
//!
//! Nothing here writes there. A test that needs to change it works on a copy.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast::encrypt::decrypt;
use holdfast::format::{Commit, IndexBody, Keyring, KeyringObject, PackTable, pack_table};
use holdfast::log::{Log, LogLimits, RealDisk, Record};
use holdfast_backend::layout::ObjectName;
use holdfast_backend::object::{Header, ObjectKind, check_digest};
use holdfast_backend::pack::{PackLayout, Trailer};
use holdfast_crypto::{
    ArchiveSecret, ChunkKind, DeviceVerifyingKey, Digest, RecoveryCode, SessionKey,
};
use serde_json::Value;

use crate::commands;
use crate::compare::Facts;
use crate::home::text;

/// Bytes that one of the fuzz targets parses, and where they stand in the fixture.
pub struct Piece {
    /// The fuzz target.
    pub target: &'static str,
    /// Where it is from.
    pub from: String,
    /// The plaintext.
    pub bytes: Vec<u8>,
}

/// The fixture's folder.
pub fn folder() -> PathBuf {
    crate::tests_folder().join("fixtures/format-1")
}

/// The recovery code of the archive.
pub fn recovery_code() -> String {
    let code = fs::read_to_string(folder().join("recovery-code")).expect("the fixture's code");
    code.trim().to_owned()
}

/// A copy of a part of it, which may be changed.
pub fn copy(part: &str, to: &Path) {
    use std::os::unix::fs::PermissionsExt;
    commands::copy(&folder().join(part), to);
    // What checks the fixtures out does not keep that the key is its owner's alone.
    let key = to.join("key");
    if key.exists() {
        let owners = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&key, owners).expect("the key file is ours");
    }
}

/// What a restored snapshot must be; `base` is that of another listing, on which this one builds.
pub fn listing(name: &str, base: &BTreeMap<PathBuf, Facts>) -> BTreeMap<PathBuf, Facts> {
    let file = folder().join(format!("listings/{name}.jsonl"));
    let lines = fs::read_to_string(file).expect("the fixture's listing");
    let mut tree = base.clone();
    let mut linked = Vec::new();
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).expect("a line is an object");
        let path = path_of(&line["path"]);
        if let Value::String(_) = line["same_as"] {
            linked.push((path, path_of(&line["same_as"])));
        } else if line["kind"] == "gone" {
            tree.remove(&path);
        } else {
            let facts = facts_of(&path, &line);
            tree.insert(path, facts);
        }
    }
    for (path, first) in linked {
        let facts = tree[&first].clone();
        tree.insert(path, facts);
    }
    tree
}

fn facts_of(path: &Path, line: &Value) -> Facts {
    let kind = line["kind"].as_str().unwrap_or("file");
    let number = |value: &Value, usual: i64| value.as_i64().unwrap_or(usual);
    let content = match kind {
        "file" => format!(
            "file {} {}",
            number(&line["size"], 0),
            line["sha256"]
                .as_str()
                .map_or_else(|| crate::sha256(b""), str::to_owned)
        ),
        "link" => {
            let target = hex::decode(line["target"].as_str().expect("a target"));
            let target = OsString::from_vec(target.expect("hexadecimal"));
            format!("link {:?}", PathBuf::from(target))
        }
        "character device" | "block device" => format!(
            "device {} {}",
            kind == "character device",
            number(&line["device"], 0)
        ),
        other => other.to_owned(),
    };
    let links = number(&line["links"], 1) as u64;
    let mode = line["mode"].as_str().unwrap_or("644");
    let xattrs = line["xattrs"].as_object().into_iter().flatten();
    let ranges = line["data"].as_array().into_iter().flatten();
    Facts {
        content,
        mode: u32::from_str_radix(mode, 8).expect("an octal mode"),
        owner: (
            number(&line["owner"][0], 0) as u32,
            number(&line["owner"][1], 0) as u32,
        ),
        mtime: (number(&line["mtime"][0], 0), number(&line["mtime"][1], 0)),
        links: if kind == "folder" { 0 } else { links },
        same_as: (links > 1).then(|| path.to_owned()),
        xattrs: xattrs
            .map(|(name, value)| {
                let value = hex::decode(value.as_str().expect("a value"));
                (name.clone().into_bytes(), value.expect("hexadecimal"))
            })
            .collect(),
        data: ranges
            .map(|range| match range.as_u64() {
                // Of many only the count, the first and the last are told.
                Some(count) => (count, 0),
                None => (number(&range[0], 0) as u64, number(&range[1], 0) as u64),
            })
            .collect(),
    }
}

/// A path from its percent-encoding.
fn path_of(encoded: &Value) -> PathBuf {
    let encoded = encoded.as_str().expect("a path").as_bytes();
    let (mut bytes, mut at) = (Vec::new(), 0);
    while at < encoded.len() {
        if encoded[at] == b'%' {
            bytes.extend(hex::decode(&encoded[at + 1..at + 3]).expect("two digits"));
            at += 3;
        } else {
            bytes.push(encoded[at]);
            at += 1;
        }
    }
    OsString::from_vec(bytes).into()
}

/// Opens everything, as `docs/format/` says, with nothing but the recovery code.
pub fn pieces() -> Vec<Piece> {
    let mut pieces = Pieces(Vec::new());
    let archive = folder().join("archive");
    let objects: Vec<(ObjectName, Vec<u8>)> = crate::trees::files_below(&archive)
        .iter()
        .map(|file| {
            let name = text(file.strip_prefix(&archive).expect("it is below")).parse();
            let bytes = fs::read(file).expect("the fixture can be read");
            (name.expect("an object's name"), bytes)
        })
        .collect();
    for (name, bytes) in &objects {
        check_digest(name, bytes).expect("the fixture is whole");
        let shown = name.to_string();
        pieces.add("object_name", &shown, shown.as_bytes());
        match bytes.starts_with(b"holdfast ") {
            true => pieces.add("texts", &shown, bytes),
            false => {
                pieces.add("header", &shown, &bytes[..40]);
                pieces.add("objects", &shown, &bytes[..bytes.len().min(1300)]);
            }
        }
    }
    let keys = pieces.keys(&objects);
    for (name, bytes) in &objects {
        match name {
            ObjectName::Index(_) => pieces.index(name, bytes, &keys),
            ObjectName::Commit { .. } => pieces.commit(name, bytes, &keys),
            ObjectName::Pack(_) => pieces.pack(name, bytes, &keys),
            _ => {}
        }
    }
    pieces.home();
    pieces.written_by_hand();
    pieces.0
}

/// What opens the archive.
struct Keys {
    keyring: Keyring,
    secret: ArchiveSecret,
    sessions: HashMap<Digest, SessionKey>,
}

struct Pieces(Vec<Piece>);

impl Pieces {
    fn add(&mut self, target: &'static str, from: &str, bytes: &[u8]) {
        self.0.push(Piece {
            target,
            from: from.to_owned(),
            bytes: bytes.to_vec(),
        });
    }

    fn keys(&mut self, objects: &[(ObjectName, Vec<u8>)]) -> Keys {
        let printed = recovery_code();
        self.add("recovery_code", "recovery-code", printed.as_bytes());
        let code = RecoveryCode::parse(&printed).expect("the fixture's code");
        let mut newest = None;
        for (name, bytes) in objects {
            let ObjectName::Keyring { version, .. } = name else {
                continue;
            };
            let from = name.to_string();
            self.add("keyring_object", &from, bytes);
            let object = KeyringObject::parse(bytes).expect("a keyring object");
            let user = code.key_pair().unwrap(object.recovery_slot);
            let key = user.expect("the code opens the slot").keyring_key();
            let bound = [&bytes[..12], &version.to_le_bytes()].concat();
            let stored = &bytes[16 + object.recovery_slot.len()..];
            let body = key
                .decrypt(&bound, stored)
                .expect("the user key opens the keyring");
            self.add("keyring", &from, &body);
            newest = Some(object.open(*version, &key).expect("a keyring"));
        }
        let keyring = newest.expect("there is a keyring");
        let epoch = keyring.current_epoch();
        let secret = ArchiveSecret::from_bytes(epoch.secret.clone());
        self.add("public_keys", "the newest keyring", &keyring.recovery_key);
        let pair = secret.archive_key_pair();
        self.add("public_keys", "the archive", &pair.public().to_bytes());
        let sessions = objects
            .iter()
            .filter_map(|(name, bytes)| match name {
                ObjectName::Key(digest) => Some((*digest, pair.unwrap(1, &bytes[12..]))),
                _ => None,
            })
            .map(|(digest, key)| (digest, key.expect("a session key unwraps")))
            .collect();
        Keys {
            keyring,
            secret,
            sessions,
        }
    }

    fn index(&mut self, name: &ObjectName, bytes: &[u8], keys: &Keys) {
        let key = keys.secret.index_key();
        let body = key.decrypt(&bytes[..12], &bytes[12..]).expect("an index");
        assert!(IndexBody::from_object(bytes, &key).is_ok(), "{name}");
        self.add("index", &name.to_string(), &body);
    }

    fn commit(&mut self, name: &ObjectName, bytes: &[u8], keys: &Keys) {
        let ObjectName::Commit {
            device, sequence, ..
        } = *name
        else {
            return;
        };
        let key = keys.secret.commit_key();
        let bound = [&bytes[..12], &device.0, &sequence.to_le_bytes()].concat();
        let plaintext = key.decrypt(&bound, &bytes[12..]).expect("a commit");
        let (body, _signature) = plaintext.split_at(plaintext.len() - 64);
        self.add("commit", &name.to_string(), body);
        let writer = keys
            .keyring
            .device(device)
            .expect("a device of the keyring");
        let writer = DeviceVerifyingKey::from_bytes(&writer.key).expect("its key");
        let commit = Commit::from_object(device, sequence, bytes, &key, &writer);
        let commit = commit.expect("a signed commit");
        self.add("inode", &name.to_string(), &commit.root.encode());
    }

    fn pack(&mut self, name: &ObjectName, bytes: &[u8], keys: &Keys) {
        let (from, key) = (name.to_string(), keys.secret.index_key());
        let (header, _) = Header::parse(ObjectKind::Pack, bytes).expect("a pack");
        let part = |range: std::ops::Range<u64>| &bytes[range.start as usize..range.end as usize];
        let layout = PackLayout::new(bytes.len() as u64).expect("a pack's length");
        let trailer = pack_table::decrypt_trailer(header.epoch, &key, part(layout.trailer_range()));
        let trailer = trailer.expect("a trailer");
        self.add("trailer", &from, &trailer);
        let trailer = Trailer::decode(&trailer).expect("a trailer");
        let table = part(layout.table_range(trailer).expect("where the table is"));
        let table = pack_table::decrypt_table(header.epoch, &key, table).expect("a table");
        self.add("pack_table", &from, &table);
        let table = PackTable::decode(&table).expect("a table");
        let ids = keys.secret.chunk_id_key();
        for (offset, entry) in table.places() {
            let end = offset + entry.stored_length;
            let stored = part(offset.into()..end.into());
            let session = &keys.sessions[&table.keys[entry.key as usize]];
            let (kind, id, length) = (entry.kind, &entry.id, entry.raw_length);
            let compressed = session.decrypt_chunk(kind, id, stored).expect("a chunk");
            let content = decrypt(session, &ids, kind, id, length, stored).expect("a chunk");
            let from = format!("{from} at {offset}");
            if compressed.len() < 10_000 {
                let input = [&length.to_le_bytes()[..3], &compressed].concat();
                self.add("decompress", &from, &input);
            }
            match (kind, content[0]) {
                (ChunkKind::Data, _) => {}
                (ChunkKind::List, _) => self.add("list_node", &from, &content),
                (ChunkKind::Tree, 1) => self.add("folder_node", &from, &content),
                (ChunkKind::Tree, _) => self.add("link_node", &from, &content),
            }
        }
    }

    /// The laptop's home, whose log is not empty.
    fn home(&mut self) {
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let at = scratch.path().join("home");
        copy("home", &at);
        let config = fs::read(at.join("config.toml")).expect("its settings");
        self.add("settings", "home/config.toml", &config);
        let home = holdfast::home::Home::at(&at);
        let segments = home.log_dir();
        for segment in crate::trees::files_below(&segments) {
            let bytes = fs::read(&segment).expect("a segment");
            self.add("log_segment", text(&segment), &bytes);
        }
        let key = home.keys().expect("its key file").log_key();
        let key = key.expect("its log key");
        let (_log, replay) =
            Log::open_without_background(&segments, key, LogLimits::default(), Arc::new(RealDisk))
                .expect("its log");
        for record in replay {
            let (position, record) = record.expect("a whole log");
            let from = format!("home/state/log, record {}", position.sequence);
            match record {
                Record::Operation(bytes) => self.add("operations", &from, &bytes),
                Record::Committed(bytes) => self.add("committed", &from, &bytes),
                Record::PackStored(bytes) => self.add("packed_chunks", &from, &bytes),
                Record::Extent { .. } | Record::Chunk { .. } | Record::SessionKey { .. } => {}
            }
        }
    }

    /// What people and commands write.
    fn written_by_hand(&mut self) {
        for line in [
            r#"{"request":"status"}"#,
            r#"{"request":"flush","timeout_seconds":5}"#,
            r#"{"request":"snapshot","label":"monday"}"#,
            r#"{"request":"unmount","timeout_seconds":null}"#,
            r#"{"request":"backup","arguments":{"paths":["/home"],"exclude":[]}}"#,
        ] {
            self.add("control_request", line, line.as_bytes());
        }
        for location in [
            "/mnt/disk",
            "relative/folder",
            "file:///mnt/disk",
            "s3://bucket/a/prefix",
            "s3://bucket",
        ] {
            self.add("store_location", location, location.as_bytes());
        }
        for rule in ["24", "7d", "all", "none"] {
            self.add("settings", rule, rule.as_bytes());
        }
    }
}
