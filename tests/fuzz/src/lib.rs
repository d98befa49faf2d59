//! What each fuzz target does with its bytes: nothing may panic, and what is accepted encodes to the
//! very bytes that it came from, where there is an encoder.
//!
//! `make fuzz` runs them under libFuzzer; the system tests run the same functions over the frozen
//! fixtures and over mutations of them.

use holdfast::compress::decompress;
use holdfast::control::Request;
use holdfast::format::list::ListNode;
use holdfast::format::node::TreeNode;
use holdfast::format::{
    Commit, HashedEntry, IndexBody, Inode, Keyring, KeyringObject, LinkedInode, PackTable,
};
use holdfast::home::Settings;
use holdfast::namespace::operation::{decode_group, encode_group};
use holdfast::packer::PackedChunks;
use holdfast::replay::Committed;
use holdfast_backend::layout::ObjectName;
use holdfast_backend::marks::{Condemned, Deleting, Forgotten, Moved, Pins, Text};
use holdfast_backend::object::{Header, ObjectKind};
use holdfast_backend::pack::{PackLayout, Trailer};
use holdfast_backend::refs::Refs;
use holdfast_backend::retention::Keep;
use holdfast_backend::store::parse_location;
use holdfast_crypto::{
    ArchivePublicKey, ArchiveSecret, DeviceId, DeviceSigningKey, RecoveryCode, RecoveryPublicKey,
};

mod segment;

pub use segment::log_segment;

/// Name and function of a target.
pub type Target = (&'static str, fn(&[u8]));

/// Every target; one file in `fuzz_targets/` each.
pub const TARGETS: &[Target] = &[
    ("commit", commit),
    ("committed", committed),
    ("control_request", control_request),
    ("decompress", decompressed),
    ("folder_node", folder_node),
    ("header", header),
    ("index", index),
    ("inode", inode),
    ("keyring", keyring),
    ("keyring_object", keyring_object),
    ("link_node", link_node),
    ("list_node", list_node),
    ("log_segment", log_segment),
    ("object_name", object_name),
    ("objects", objects),
    ("operations", operations),
    ("pack_table", pack_table),
    ("packed_chunks", packed_chunks),
    ("public_keys", public_keys),
    ("recovery_code", recovery_code),
    ("settings", settings),
    ("store_location", store_location),
    ("texts", texts),
    ("trailer", trailer),
];

/// The body of a commit.
pub fn commit(bytes: &[u8]) {
    if let Ok(commit) = Commit::decode(DeviceId([1; 8]), 1 << 40, bytes) {
        assert_eq!(commit.encode(), bytes);
    }
}

/// The log's record of a commit that stands.
pub fn committed(bytes: &[u8]) {
    if let Ok(committed) = Committed::decode(bytes) {
        assert_eq!(committed.encode(), bytes);
    }
}

/// A line that somebody sends to the daemon.
pub fn control_request(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        let text = serde_json::to_string(&request).expect("what was read can be written");
        let again: Request = serde_json::from_str(&text).expect("what was written can be read");
        assert_eq!(
            serde_json::to_string(&again).ok().as_deref(),
            Some(text.as_str())
        );
    }
}

/// A chunk behind its decryption; the first three bytes say how long it is.
pub fn decompressed(bytes: &[u8]) {
    if let Some((length, stored)) = bytes.split_first_chunk::<3>() {
        let length = u32::from_le_bytes([length[0], length[1], length[2], 0]) as usize;
        if let Ok(content) = decompress(stored.to_vec().into(), length) {
            assert_eq!(content.len(), length);
        }
    }
}

/// A page of a folder.
pub fn folder_node(bytes: &[u8]) {
    if let Ok(node) = TreeNode::<HashedEntry>::decode(bytes) {
        assert_eq!(node.encode(), bytes);
    }
}

/// The first bytes of an object.
pub fn header(bytes: &[u8]) {
    use ObjectKind::{Commit, Index, Key, Keyring, Pack};
    for kind in [Pack, Index, Key, Commit, Keyring] {
        if let Ok((header, rest)) = Header::parse(kind, bytes) {
            assert_eq!([&header.encode(), rest].concat(), bytes);
        }
    }
}

/// The body of an index object.
pub fn index(bytes: &[u8]) {
    if let Ok(index) = IndexBody::decode(bytes) {
        assert_eq!(index.encode(), bytes);
    }
}

/// A file's attributes and content.
pub fn inode(bytes: &[u8]) {
    if let Ok(inode) = Inode::decode(bytes) {
        assert_eq!(inode.encode(), bytes);
    }
}

/// The body of a keyring.
pub fn keyring(bytes: &[u8]) {
    if let Ok(keyring) = Keyring::decode(bytes) {
        assert_eq!(keyring.encode().as_slice(), bytes);
    }
}

/// A keyring object before anything of it is opened.
pub fn keyring_object(bytes: &[u8]) {
    if let Ok(object) = KeyringObject::parse(bytes) {
        assert!(object.recovery_slot.len() <= bytes.len());
    }
}

/// A page of the link table.
pub fn link_node(bytes: &[u8]) {
    if let Ok(node) = TreeNode::<LinkedInode>::decode(bytes) {
        assert_eq!(node.encode(), bytes);
    }
}

/// A node of a chunk list.
pub fn list_node(bytes: &[u8]) {
    if let Ok(node) = ListNode::decode(bytes) {
        assert_eq!(node.encode(), bytes);
    }
}

/// An object's name.
pub fn object_name(bytes: &[u8]) {
    if let Some(name) = text(bytes).and_then(|text| text.parse::<ObjectName>().ok()) {
        assert_eq!(name.to_string().as_bytes(), bytes);
    }
}

/// Whole objects that somebody else has put into the store: none of them opens.
pub fn objects(bytes: &[u8]) {
    let secret = ArchiveSecret::from_bytes([7; 32].into());
    assert!(IndexBody::from_object(bytes, &secret.index_key()).is_err());
    let device = DeviceSigningKey::from_bytes([8; 32].into()).verifying_key();
    let key = secret.commit_key();
    assert!(Commit::from_object(DeviceId([1; 8]), 1, bytes, &key, &device).is_err());
    // Long enough to be looked at; the key pair costs more than all the rest.
    if bytes.len() > 1100 {
        assert!(secret.archive_key_pair().unwrap(1, bytes).is_err());
    }
}

/// A group of operations of the log.
pub fn operations(bytes: &[u8]) {
    if let Ok(group) = decode_group(bytes) {
        assert_eq!(encode_group(&group), bytes);
    }
}

/// The table of a pack.
pub fn pack_table(bytes: &[u8]) {
    if let Ok(table) = PackTable::decode(bytes) {
        assert_eq!(table.encode(), bytes);
    }
}

/// The log's record of a pack that is in the store.
pub fn packed_chunks(bytes: &[u8]) {
    if let Ok(packed) = PackedChunks::decode(bytes) {
        assert_eq!(packed.encode(), bytes);
    }
}

/// Public keys in a keyring.
pub fn public_keys(bytes: &[u8]) {
    if let Ok(key) = ArchivePublicKey::from_bytes(bytes) {
        assert_eq!(key.to_bytes(), bytes);
    }
    if let Ok(key) = RecoveryPublicKey::from_bytes(bytes) {
        assert_eq!(key.to_bytes(), bytes);
    }
}

/// A recovery code as somebody types it.
pub fn recovery_code(bytes: &[u8]) {
    if let Some(code) = text(bytes).and_then(|typed| RecoveryCode::parse(typed).ok()) {
        assert!(RecoveryCode::parse(&code.to_printed()).is_ok());
    }
}

/// `config.toml`, and a retention rule in it.
pub fn settings(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let _ = text.parse::<Keep>();
    if let Ok(settings) = Settings::parse(text) {
        let again = Settings::parse(&settings.to_toml()).expect("what was written can be read");
        assert_eq!(again, settings);
        let _ = settings.store_config();
        let _ = (settings.policy(), settings.grace(), settings.memory_bytes());
        let _ = (settings.cache_bytes(), settings.snapshots.interval());
    }
}

/// Where somebody says that the store is.
pub fn store_location(bytes: &[u8]) {
    if let Some(text) = text(bytes) {
        let _ = parse_location(text);
    }
}

/// Refs and marks.
pub fn texts(bytes: &[u8]) {
    same::<Refs>(bytes);
    same::<Pins>(bytes);
    same::<Forgotten>(bytes);
    same::<Condemned>(bytes);
    same::<Deleting>(bytes);
    same::<Moved>(bytes);
}

/// The trailer of a pack.
pub fn trailer(bytes: &[u8]) {
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
}

fn same<T: Text>(bytes: &[u8]) {
    if let Ok(text) = T::decode(bytes) {
        assert_eq!(text.encode().as_bytes(), bytes);
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
