//! Archives whose keys are made, and escrowed, before there is an archive.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use holdfast_backend::store::{Capabilities, Listed, Operation, StoreErrorKind, Stored};
use holdfast_crypto::{DeviceHalf, DeviceId};
use zeroize::Zeroizing;

use super::*;

const ARCHIVE: [u8; 16] = [7; 16];

/// A computer with the keystore's half of its key.
struct Enrolled {
    computer: Computer,
    half: DeviceHalf,
}

impl Enrolled {
    fn new(store: Arc<dyn ObjectStore>) -> Enrolled {
        Enrolled {
            computer: Computer::new(store),
            half: DeviceHalf::generate(),
        }
    }

    fn create(&self, user_key: UserKey, code: &RecoveryCode) -> Result<Arc<Archive>, ArchiveError> {
        let Computer { store, home, .. } = &self.computer;
        let keys = DeviceKeys::generate(user_key);
        let save = |keys: &DeviceKeys| home.save_wrapped_keys(keys, &ARCHIVE, Some(&self.half));
        Archive::create_with(
            store.clone(),
            home,
            settings(),
            "laptop",
            (keys, code),
            &save,
        )
    }

    fn join(
        &self,
        user_key: UserKey,
        device: DeviceId,
        from: Option<&str>,
    ) -> Result<Arc<Archive>, ArchiveError> {
        let Computer { store, home, .. } = &self.computer;
        let keys = DeviceKeys::of(device, user_key);
        let save = |keys: &DeviceKeys| home.save_wrapped_keys(keys, &ARCHIVE, Some(&self.half));
        Archive::join(
            store.clone(),
            home,
            settings(),
            (keys, "laptop"),
            from,
            &save,
        )
    }
}

fn copy(key: &UserKey) -> UserKey {
    UserKey::from_bytes(Zeroizing::new(*key.expose_secret()))
}

/// Bucket and recovery code are enough, without the keystore: what was enrolled is recovered.
#[test]
fn an_enrolled_archive_is_recovered_with_its_code_alone() {
    let store = memory();
    let laptop = Enrolled::new(store.clone());
    let code = RecoveryCode::generate();
    let archive = laptop.create(UserKey::generate(), &code).unwrap();
    let content = files(5, 1);
    commit(&archive, &content);
    drop(archive);
    let elsewhere = Computer::new(store).recover(&code, Some("laptop")).unwrap();
    let (_, head) = elsewhere.head().unwrap();
    assert_eq!(read_back(&elsewhere, &head), content);
}

/// The key file alone opens nothing, and with the half of another device neither.
#[test]
fn without_the_keystores_half_the_home_does_not_open() {
    let laptop = Enrolled::new(memory());
    let code = RecoveryCode::generate();
    drop(laptop.create(UserKey::generate(), &code).unwrap());
    assert!(laptop.computer.open().is_err());
    let home = &laptop.computer.home;
    let half = || {
        let bytes = Zeroizing::new(*laptop.half.expose_secret());
        Ok::<_, HomeError>(DeviceHalf::from_bytes(bytes))
    };
    assert!(home.keys_with(half).is_ok());
}

/// The id is the one that the keystore's certificate names; `current/` goes on where the other computer stopped.
#[test]
fn a_new_computer_joins_with_the_key_and_goes_on_for_another_one() {
    let store = memory();
    let laptop = Enrolled::new(store.clone());
    let (user_key, code) = (UserKey::generate(), RecoveryCode::generate());
    let archive = laptop.create(copy(&user_key), &code).unwrap();
    let content = files(5, 1);
    commit(&archive, &content);
    let store: Arc<dyn ObjectStore> = store;
    let known = Archive::devices_with_key(&store, &user_key)
        .unwrap()
        .unwrap();
    assert_eq!(known.len(), 1);
    let desktop = Enrolled::new(store.clone());
    let device = DeviceId::generate();
    let joined = desktop
        .join(copy(&user_key), device, Some("laptop"))
        .unwrap();
    assert_eq!(joined.device(), device);
    assert_eq!(joined.device_record().name, "laptop-2");
    let (_, head) = joined.head().unwrap();
    assert_eq!(read_back(&joined, &head), content);
}

/// The computer that was enrolled died before it made the archive: whoever logs in finds none, and makes it.
#[test]
fn a_store_without_an_archive_is_told_from_one_with_another_key() {
    let store: Arc<dyn ObjectStore> = memory();
    let user_key = UserKey::generate();
    assert!(
        Archive::devices_with_key(&store, &user_key)
            .unwrap()
            .is_none()
    );
    let laptop = Enrolled::new(store.clone());
    drop(
        laptop
            .create(copy(&user_key), &RecoveryCode::generate())
            .unwrap(),
    );
    let other = Archive::devices_with_key(&store, &UserKey::generate());
    assert!(matches!(other, Err(ArchiveError::WrongKey { .. })));
}

/// Dies between key file and settings: the home is not set up, and the next try replaces the key file.
#[test]
fn a_home_without_settings_is_set_up_anew() {
    let store = memory();
    let laptop = Enrolled::new(store);
    let user_key = UserKey::generate();
    let code = RecoveryCode::generate();
    drop(laptop.create(copy(&user_key), &code).unwrap());
    let home = &laptop.computer.home;
    std::fs::remove_file(home.config_file()).unwrap();
    home.check_not_set_up().unwrap();
    assert!(matches!(
        laptop.create(copy(&user_key), &code),
        Err(ArchiveError::AlreadyAnArchive { .. })
    ));
    let device = DeviceId::generate();
    let joined = laptop.join(copy(&user_key), device, None).unwrap();
    assert_eq!(joined.device(), device);
    assert!(home.check_not_set_up().is_err());
}

/// Refuses the first puts, as a keystore does that has granted another device's keyring of this version.
struct Granting {
    inner: Arc<MemoryStore>,
    refusals: AtomicUsize,
}

#[async_trait::async_trait]
impl ObjectStore for Granting {
    async fn put_new(&self, object: &Object) -> Result<Stored, StoreError> {
        let take = |left: usize| left.checked_sub(1);
        let order = Ordering::SeqCst;
        if self.refusals.fetch_update(order, order, take).is_ok() {
            let kind = StoreErrorKind::Refused;
            return Err(StoreError::new(kind, Operation::Put, "memory"));
        }
        self.inner.put_new(object).await
    }
    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.inner.get(name).await
    }
    async fn get_range(
        &self,
        name: &ObjectName,
        range: std::ops::Range<u64>,
    ) -> Result<Bytes, StoreError> {
        self.inner.get_range(name, range).await
    }
    async fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(folder).await
    }
    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.delete(name).await
    }
    fn location(&self) -> String {
        self.inner.location()
    }
    async fn probe(&self) -> Result<Capabilities, StoreError> {
        self.inner.probe().await
    }
}

#[test]
fn a_keyring_that_the_keystore_does_not_grant_is_read_again_and_changed_anew() {
    let inner = memory();
    let laptop = Enrolled::new(inner.clone());
    let user_key = UserKey::generate();
    let code = RecoveryCode::generate();
    drop(laptop.create(copy(&user_key), &code).unwrap());
    let desktop = Enrolled::new(Arc::new(Granting {
        inner,
        refusals: AtomicUsize::new(2),
    }));
    let joined = desktop
        .join(copy(&user_key), DeviceId::generate(), None)
        .unwrap();
    assert_eq!(joined.devices().len(), 2);
}
