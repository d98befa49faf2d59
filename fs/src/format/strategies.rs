//! Arbitrary values of the format's types, for property tests.

use std::sync::Arc;

use holdfast_crypto::{ChunkId, ChunkKind, DeviceId, Digest};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;

prop_compose! {
    pub(crate) fn chunk_id()(epoch in 0..3_u32, hash: [u8; 32]) -> ChunkId {
        ChunkId { epoch, hash }
    }
}

prop_compose! {
    fn time()(seconds: i64, nanos in 0..1_000_000_000_u32) -> Time {
        Time { seconds, nanos }
    }
}

prop_compose! {
    fn totals()(entries: u64, directories: u64, files: u64, bytes: u64) -> Totals {
        Totals { entries, directories, files, bytes }
    }
}

prop_compose! {
    fn tree_ref()(level in 0..=15_u8, id in chunk_id(), totals in totals()) -> TreeRef {
        TreeRef { level, id, totals }
    }
}

pub(crate) fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        (chunk_id(), 1..=u32::MAX).prop_map(|(id, length)| Piece::Chunk { id, length }),
        (1..=u64::MAX).prop_map(|length| Piece::Hole { length }),
    ]
}

fn list() -> impl Strategy<Value = ListRef> {
    prop_oneof![
        vec(piece(), 0..=32).prop_map(|pieces| ListRef::Inline(pieces.into())),
        (0..=15_u8, chunk_id()).prop_map(|(level, id)| ListRef::Node { level, id }),
    ]
}

fn body() -> impl Strategy<Value = (FileKind, Body)> {
    let special = prop_oneof![
        Just(FileKind::Fifo),
        Just(FileKind::Socket),
        Just(FileKind::CharDevice),
        Just(FileKind::BlockDevice)
    ];
    prop_oneof![
        (any::<u64>(), any::<u64>(), list()).prop_map(|(size, allocated, list)| {
            (
                FileKind::Regular,
                Body::Regular {
                    size,
                    allocated,
                    list,
                },
            )
        }),
        option::of(tree_ref()).prop_map(|tree| (FileKind::Directory, Body::Directory { tree })),
        vec(any::<u8>(), 0..40).prop_map(|target| (FileKind::Symlink, Body::Symlink { target })),
        special.prop_map(|kind| (kind, Body::Special)),
    ]
}

prop_compose! {
    fn attributes(kind: FileKind)(
        mode in 0..=0o7777_u32,
        (uid, gid, rdev) in any::<(u32, u32, u64)>(),
        owner in vec(any::<u8>(), 0..9),
        group in vec(any::<u8>(), 0..9),
        (mtime, ctime, atime) in (time(), time(), time()),
    ) -> Attributes {
        let (owner, group) = (Arc::from(owner), Arc::from(group));
        Attributes { kind, mode, uid, gid, owner, group, mtime, ctime, atime, rdev }
    }
}

pub(crate) fn inode() -> impl Strategy<Value = Inode> {
    let xattrs = btree_map(vec(any::<u8>(), 1..20), vec(any::<u8>(), 0..20), 0..4);
    let parts = body().prop_flat_map(|(kind, body)| (attributes(kind), Just(body)));
    (any::<u64>(), parts, xattrs, any::<u64>()).prop_map(
        |(file, (attributes, body), xattrs, fingerprint)| Inode {
            file,
            attributes,
            xattrs: Arc::new(xattrs),
            fingerprint,
            body,
        },
    )
}

pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    let name = vec(any::<u8>(), 1..30)
        .prop_filter("a name that can be", |name| entry::is_entry_name(name));
    let linked = any::<u64>().prop_map(|file| Target::Linked {
        file,
        kind: FileKind::Regular,
    });
    (name, prop_oneof![inode().prop_map(Target::Inline), linked])
        .prop_map(|(name, target)| Entry { name, target })
}

fn commit_kind() -> impl Strategy<Value = CommitKind> {
    prop_oneof![
        Just(CommitKind::Checkpoint),
        Just(CommitKind::Automatic),
        Just(CommitKind::Requested)
    ]
}

fn label() -> impl Strategy<Value = Option<String>> {
    option::of("[a-zä][a-z0-9 ]{0,20}")
}

fn kept() -> impl Strategy<Value = Vec<KeptSnapshot>> {
    let snapshot = (
        any::<[u8; 32]>(),
        time(),
        commit_kind(),
        label(),
        totals(),
        any::<u64>(),
    );
    btree_map(1..1000_u64, snapshot, 0..4).prop_map(|kept| {
        let snapshots = kept.into_iter().map(
            |(sequence, (digest, time, kind, label, totals, stored_bytes))| KeptSnapshot {
                sequence,
                digest: Digest(digest),
                time,
                kind,
                label,
                totals,
                stored_bytes,
            },
        );
        snapshots.collect()
    })
}

prop_compose! {
    pub(crate) fn commit()(
        (device, sequence) in (any::<[u8; 8]>(), 1000..u64::MAX),
        previous in option::of(any::<[u8; 32]>()),
        (time, kind, label) in (time(), commit_kind(), label()),
        root in inode(),
        tree in option::of(tree_ref()),
        links in option::of(tree_ref()),
        (next_file, stored_bytes) in any::<(u64, u64)>(),
        totals in totals(),
        kept in kept(),
    ) -> Commit {
        let mut root = root;
        root.attributes.kind = FileKind::Directory;
        root.body = Body::Directory { tree };
        Commit {
            device: DeviceId(device),
            sequence,
            previous: previous.map(Digest),
            time,
            kind,
            label,
            root,
            links,
            next_file,
            totals,
            stored_bytes,
            kept,
        }
    }
}

fn chunk_kind() -> impl Strategy<Value = ChunkKind> {
    prop_oneof![
        Just(ChunkKind::Data),
        Just(ChunkKind::Tree),
        Just(ChunkKind::List)
    ]
}

fn digests() -> impl Strategy<Value = Vec<Digest>> {
    btree_set(any::<[u8; 32]>(), 1..4).prop_map(|set| set.into_iter().map(Digest).collect())
}

prop_compose! {
    fn index_entry(packs: u32, keys: u32)(
        id in chunk_id(),
        kind in chunk_kind(),
        pack in 0..packs,
        key in 0..keys,
        (offset, stored_length, raw_length) in any::<(u32, u32, u32)>(),
    ) -> IndexEntry {
        IndexEntry { id, kind, pack, offset, stored_length, raw_length, key }
    }
}

pub(crate) fn index() -> impl Strategy<Value = IndexBody> {
    (digests(), digests()).prop_flat_map(|(packs, keys)| {
        let entry = index_entry(packs.len() as u32, keys.len() as u32);
        btree_set(entry, 0..5).prop_map(move |entries| IndexBody {
            packs: packs
                .iter()
                .map(|digest| IndexedPack {
                    digest: *digest,
                    size: 1 << 40,
                })
                .collect(),
            keys: keys.clone(),
            entries: entries.into_iter().collect(),
        })
    })
}

prop_compose! {
    fn pack_entry(keys: u32)(
        id in chunk_id(),
        kind in chunk_kind(),
        key in 0..keys,
        (stored_length, raw_length) in (0..(1_u32 << 25), any::<u32>()),
    ) -> PackEntry {
        PackEntry { kind, id, stored_length, raw_length, key }
    }
}

pub(crate) fn pack_table() -> impl Strategy<Value = PackTable> {
    digests().prop_flat_map(|keys| {
        vec(pack_entry(keys.len() as u32), 0..5).prop_map(move |entries| PackTable {
            keys: keys.clone(),
            entries,
        })
    })
}

type KeyringParts = (u64, Vec<(u32, [u8; 32])>, Vec<DeviceRecord>, Vec<u8>);

pub(crate) fn keyring() -> impl Strategy<Value = KeyringParts> {
    let epochs = btree_map(1..99_u32, any::<[u8; 32]>(), 1..4);
    let device = (
        (any::<[u8; 8]>(), "[a-z]{1,9}", any::<[u8; 32]>()),
        (any::<u64>(), option::of(any::<u64>()), time()),
    );
    let devices = btree_map(1..u16::MAX, device, 0..4).prop_map(|devices| {
        let records =
            devices
                .into_iter()
                .map(
                    |(number, ((id, name, key), (first, last, added)))| DeviceRecord {
                        id: DeviceId(id),
                        number,
                        name: format!("{name}{number}"),
                        key,
                        first_sequence: first,
                        last_sequence: last,
                        added,
                    },
                );
        records.collect()
    });
    (any::<u64>(), epochs, devices, vec(any::<u8>(), 0..99)).prop_map(
        |(version, epochs, devices, key)| (version, epochs.into_iter().collect(), devices, key),
    )
}

/// Keyrings are not Debug, so proptest gets their parts.
pub(crate) fn keyring_of((version, epochs, devices, recovery_key): KeyringParts) -> Keyring {
    let first = epochs[0].0;
    let epochs = epochs.into_iter().map(|(number, secret)| EpochSecret {
        number,
        id_epoch: if number % 2 == 0 { first } else { number },
        chunker: keyring::CHUNKER_FASTCDC,
        secret: Zeroizing::new(secret),
    });
    Keyring {
        version,
        epochs: epochs.collect(),
        devices,
        recovery_key,
    }
}
