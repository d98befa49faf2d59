use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::store::conformance::{self, Answers};

fn store() -> (tempfile::TempDir, DirStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = DirStore::create(folder.path().join("archive")).unwrap();
    (folder, store)
}

#[tokio::test]
async fn conforms() {
    let (_folder, store) = store();
    conformance::conformance(&store, Answers::Exact).await;
    conformance::long_listings_are_complete(&store, 1100).await;
}

#[tokio::test]
async fn only_the_owner_reads_and_no_temporary_file_is_left() {
    let (folder, store) = store();
    let object = Object::key(1, b"wrapped");
    store.put_new(&object).await.unwrap();
    let root = folder.path().join("archive");
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(root.clone()), 0o700);
    assert_eq!(mode(root.join("keys")), 0o700);
    assert_eq!(mode(root.join(object.name().to_string())), 0o600);
    assert_eq!(fs::read_dir(root.join(TEMPORARY)).unwrap().count(), 0);
}

#[tokio::test]
async fn a_missing_folder_is_said_and_never_made() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("not mounted");
    let store = DirStore::open(&root);
    let object = Object::key(1, b"wrapped");
    let errors = [
        store.put_new(&object).await.unwrap_err(),
        store.get(&object.name()).await.unwrap_err(),
        store.get_range(&object.name(), 0..1).await.unwrap_err(),
        store.list(Folder::Keys).await.unwrap_err(),
        store.delete(&object.name()).await.unwrap_err(),
        store.probe().await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), StoreErrorKind::NotConfigured, "{error}");
        assert!(error.to_string().contains("connect the disk"), "{error}");
    }
    assert!(!root.exists());
}

#[tokio::test]
async fn damage_is_found_on_loading() {
    let (folder, store) = store();
    let object = Object::key(1, b"wrapped");
    store.put_new(&object).await.unwrap();
    let path = folder
        .path()
        .join("archive")
        .join(object.name().to_string());
    fs::write(path, b"other bytes").unwrap();
    let error = store.get(&object.name()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Damaged, "{error}");
}

#[tokio::test]
async fn what_is_no_object_is_skipped() {
    let (folder, store) = store();
    let object = Object::key(1, b"wrapped");
    store.put_new(&object).await.unwrap();
    let keys = folder.path().join("archive/keys");
    fs::write(keys.join("README"), b"a person was here").unwrap();
    fs::create_dir(keys.join("folder")).unwrap();
    let listed = store.list(Folder::Keys).await.unwrap();
    assert_eq!(
        listed.iter().map(|line| line.name).collect::<Vec<_>>(),
        [object.name()]
    );
}

#[tokio::test]
async fn abandoned_temporary_files_are_deleted_after_a_day() {
    let (folder, store) = store();
    let temporary = folder.path().join("archive").join(TEMPORARY);
    fs::create_dir(&temporary).unwrap();
    let (old, young) = (temporary.join("old"), temporary.join("young"));
    for path in [&old, &young] {
        fs::write(path, b"half").unwrap();
    }
    let two_days_ago = SystemTime::now() - 2 * ABANDONED;
    File::options()
        .write(true)
        .open(&old)
        .unwrap()
        .set_modified(two_days_ago)
        .unwrap();
    store.put_new(&Object::key(1, b"wrapped")).await.unwrap();
    assert!(!old.exists());
    assert!(young.exists());
}

#[test]
fn errors_say_what_to_do_next() {
    let (_folder, store) = store();
    let kind = |errno: Errno| {
        store
            .folder
            .error(Operation::Put, None, errno.into())
            .kind()
    };
    assert_eq!(kind(Errno::NOSPC), StoreErrorKind::NoSpace);
    assert_eq!(kind(Errno::DQUOT), StoreErrorKind::NoSpace);
    assert_eq!(kind(Errno::ROFS), StoreErrorKind::Denied);
    assert_eq!(kind(Errno::ACCESS), StoreErrorKind::Denied);
    assert_eq!(kind(Errno::NOENT), StoreErrorKind::NotFound);
    assert_eq!(kind(Errno::STALE), StoreErrorKind::Transient);
}
