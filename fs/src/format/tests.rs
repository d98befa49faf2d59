use holdfast_crypto::{ArchiveSecret, DeviceId, DeviceSigningKey, RecoveryCode, UserKey};
use proptest::prelude::*;
use proptest::sample::Index;

use super::list::ListNode;
use super::node::{LookedUp, TreeNode};
use super::*;

type Folder = TreeNode<HashedEntry>;
type Links = TreeNode<LinkedInode>;

/// Flips, cuts and doubles parts of bytes: what is close to valid gets furthest in a decoder.
fn mutated(mut bytes: Vec<u8>, edits: &[(Index, u8, u8)]) -> Vec<u8> {
    for (place, how, value) in edits {
        if bytes.is_empty() {
            break;
        }
        let place = place.index(bytes.len());
        match how % 4 {
            0 => bytes[place] = *value,
            1 => bytes[place] ^= 1 << (value % 8),
            2 => bytes.truncate(place),
            _ => bytes.insert(place, *value),
        }
    }
    bytes
}

fn edits() -> impl Strategy<Value = Vec<(Index, u8, u8)>> {
    prop::collection::vec(any::<(Index, u8, u8)>(), 1..3)
}

/// A value reads back; what is accepted of mutations encodes to itself.
macro_rules! codec_test {
    ($name:ident, $strategy:expr, $encode:expr, $decode:expr) => {
        proptest! {
            #[test]
            fn $name(value in $strategy, edits in edits()) {
                let bytes = $encode(&value);
                let read = $decode(&bytes);
                prop_assert_eq!(read.as_ref(), Ok(&value));
                let hostile = mutated(bytes, &edits);
                if let Ok(value) = $decode(&hostile) {
                    prop_assert_eq!($encode(&value), hostile);
                }
            }
        }
    };
}

fn folder_node() -> impl Strategy<Value = Folder> {
    let items = prop::collection::btree_map(any::<u64>(), strategies::entry(), 1..5);
    items.prop_map(|items| {
        TreeNode::Items(
            items
                .into_iter()
                .map(|(hash, entry)| HashedEntry { hash, entry })
                .collect(),
        )
    })
}

fn links_node() -> impl Strategy<Value = Links> {
    let files = strategies::inode().prop_filter("no folder", |inode| {
        inode.attributes.kind != FileKind::Directory
    });
    prop::collection::btree_map(any::<u64>(), (files, 1..9_u32), 1..4).prop_map(|items| {
        let items = items.into_iter().map(|(file, (mut inode, links))| {
            inode.file = file;
            LinkedInode { inode, links }
        });
        TreeNode::Items(items.collect())
    })
}

fn inner_node() -> impl Strategy<Value = Folder> {
    let children = prop::collection::btree_map(any::<u64>(), strategies::chunk_id(), 1..5);
    (1..=15_u8, children).prop_map(|(level, children)| {
        let children = children.into_iter().map(|(last, id)| node::TreeChild {
            last,
            id,
            totals: Totals {
                entries: last,
                ..Totals::default()
            },
        });
        TreeNode::Children {
            level,
            children: children.collect(),
        }
    })
}

fn list_node() -> impl Strategy<Value = ListNode> {
    prop::collection::vec(strategies::piece(), 1..9).prop_map(ListNode::Pieces)
}

codec_test!(inodes, strategies::inode(), Inode::encode, Inode::decode);
codec_test!(folder_nodes, folder_node(), Folder::encode, Folder::decode);
codec_test!(link_nodes, links_node(), Links::encode, Links::decode);
codec_test!(inner_nodes, inner_node(), Folder::encode, Folder::decode);
codec_test!(list_nodes, list_node(), ListNode::encode, ListNode::decode);
codec_test!(
    indexes,
    strategies::index(),
    IndexBody::encode,
    IndexBody::decode
);
codec_test!(
    pack_tables,
    strategies::pack_table(),
    PackTable::encode,
    PackTable::decode
);

proptest! {
    #[test]
    fn commits(commit in strategies::commit(), edits in edits()) {
        let (device, sequence) = (commit.device, commit.sequence);
        let bytes = commit.encode();
        prop_assert_eq!(Commit::decode(device, sequence, &bytes), Ok(commit));
        let hostile = mutated(bytes, &edits);
        if let Ok(commit) = Commit::decode(device, sequence, &hostile) {
            prop_assert_eq!(commit.encode(), hostile);
        }
    }

    #[test]
    fn keyrings(parts in strategies::keyring(), edits in edits()) {
        let keyring = strategies::keyring_of(parts);
        let bytes = keyring.encode().to_vec();
        prop_assert!(Keyring::decode(&bytes).is_ok_and(|read| read == keyring));
        let hostile = mutated(bytes, &edits);
        if let Ok(keyring) = Keyring::decode(&hostile) {
            prop_assert_eq!(&*keyring.encode(), &hostile);
        }
    }

    /// In what can be decoded, an item that is looked up is the one that is there; what cannot is refused or read as far as needed.
    #[test]
    fn an_item_is_looked_up_without_the_others(folder in folder_node(), edits in edits(), other in any::<u64>()) {
        let bytes = folder.encode();
        let hostile = mutated(bytes.clone(), &edits);
        for bytes in [bytes, hostile] {
            let Ok(TreeNode::Items(items)) = Folder::decode(&bytes) else {
                let _ = Folder::look_up(&bytes, other, b"name");
                continue;
            };
            for item in &items {
                let (hash, name) = (item.hash, &item.entry.name);
                let there = LookedUp::Item(Some(item.clone()));
                prop_assert_eq!(Folder::look_up(&bytes, hash, name), Ok(there));
                let longer = [&name[..], b"x"].concat();
                prop_assert_eq!(Folder::look_up(&bytes, hash, &longer), Ok(LookedUp::Item(None)));
            }
            if items.iter().all(|item| item.hash != other) {
                prop_assert_eq!(Folder::look_up(&bytes, other, b"name"), Ok(LookedUp::Item(None)));
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Folder::decode(&bytes);
        let _ = Folder::look_up(&bytes, 0, b"name");
        let _ = Links::decode(&bytes);
        let _ = ListNode::decode(&bytes);
        let _ = IndexBody::decode(&bytes);
        let _ = PackTable::decode(&bytes);
        let _ = Commit::decode(DeviceId([0; 8]), 1, &bytes);
        let _ = Keyring::decode(&bytes);
        let _ = KeyringObject::parse(&bytes).map(|_| ());
    }
}

#[test]
fn names_that_would_leave_their_folder_are_refused() {
    for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b", &[b'x'; 256]] {
        assert!(!entry::is_entry_name(name), "{name:?}");
    }
    for name in [&b"..."[..], b"\xff\n", &[b'x'; 255]] {
        assert!(entry::is_entry_name(name), "{name:?}");
    }
}

fn sample_commit() -> Commit {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    strategies::commit()
        .new_tree(&mut runner)
        .expect("commits can be made")
        .current()
}

#[test]
fn a_commit_opens_at_its_place_for_its_device_only() {
    let secret = ArchiveSecret::generate();
    let signer = DeviceSigningKey::generate();
    let commit = sample_commit();
    let (device, sequence) = (commit.device, commit.sequence);
    let object = commit.to_object(3, &secret.commit_key(), &signer);
    let open = |device, sequence, bytes: &[u8], signer: &DeviceSigningKey| {
        Commit::from_object(
            device,
            sequence,
            bytes,
            &secret.commit_key(),
            &signer.verifying_key(),
        )
    };
    assert_eq!(
        open(device, sequence, object.bytes(), &signer).unwrap(),
        commit
    );
    assert!(open(device, sequence + 1, object.bytes(), &signer).is_err());
    assert!(open(DeviceId([7; 8]), sequence, object.bytes(), &signer).is_err());
    assert!(
        open(
            device,
            sequence,
            object.bytes(),
            &DeviceSigningKey::generate()
        )
        .is_err()
    );
    let mut other_epoch = object.bytes().to_vec();
    other_epoch[8] ^= 1;
    assert!(open(device, sequence, &other_epoch, &signer).is_err());
}

#[test]
fn a_keyring_opens_with_the_recovery_code_alone() {
    let code = RecoveryCode::generate();
    let user_key = UserKey::generate();
    let pair = code.key_pair();
    let mut keyring = strategies::keyring_of((4, vec![(1, [9; 32])], vec![], vec![]));
    keyring.recovery_key = pair.public().to_bytes();
    let slot = pair.public().wrap(&user_key);
    let object = keyring.to_object(&slot, &user_key.keyring_key());

    let parsed = KeyringObject::parse(object.bytes()).unwrap();
    let key = pair.unwrap(parsed.recovery_slot).unwrap().keyring_key();
    assert!(parsed.open(4, &key).is_ok_and(|read| read == keyring));
    assert!(
        parsed.open(5, &key).is_err(),
        "a version that its name does not say"
    );
    assert!(parsed.open(4, &UserKey::generate().keyring_key()).is_err());
}
