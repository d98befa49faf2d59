//! Making an archive, opening it, and joining it as a new device.
//!
//! `create` and `recover` store the keyring first and write the key file last but one, the settings
//! last: a home without settings is not set up, so that either can be run again after a crash. What a
//! crash leaves is a keyring with a device that never comes back (`recover`) or an archive whose only
//! user key is lost before anything was stored in it (`create`; its store then has to be emptied).

use super::bad_copies::BadCopies;
use super::keyrings::{self, Newest, Opened};
use super::*;
use crate::format::keyring::CHUNKER_FASTCDC;
use crate::format::{EpochSecret, Time};
use crate::keystore::{self, Keystore};
use crate::read_path::Caches;
use holdfast_backend::store::{self, StoreConfig, StoreErrorKind};
use holdfast_crypto::ArchiveSecret;
use std::time::Duration;
use zeroize::Zeroizing;

/// How often two devices that are added at once may collide.
const KEYRING_ROUNDS: u32 = 10;
/// A keystore grants one keyring of a version: the other device's. If that one is never stored, its grant ends after two minutes, and the
/// waits of all rounds together are longer.
const FIRST_KEYRING_WAIT: Duration = Duration::from_millis(250);

/// Writes the key file of a new device.
pub type SaveKeys<'a> = &'a dyn Fn(&DeviceKeys) -> Result<(), HomeError>;

impl Archive {
    /// Makes an archive in an empty store, with this computer as its first device.
    pub fn create(
        store: Arc<dyn ObjectStore>,
        home: &Home,
        settings: Settings,
        device_name: &str,
    ) -> Result<(Arc<Archive>, RecoveryCode), ArchiveError> {
        home.check_unused()?;
        let code = RecoveryCode::generate();
        let keys = DeviceKeys::generate(UserKey::generate());
        let save = |keys: &DeviceKeys| home.save_keys(keys);
        let archive = Self::create_with(store, home, settings, device_name, (keys, &code), &save)?;
        Ok((archive, code))
    }

    /// The same with keys and a recovery code that are there already, escrowed perhaps. `save` writes the key file.
    pub fn create_with(
        store: Arc<dyn ObjectStore>,
        home: &Home,
        settings: Settings,
        device_name: &str,
        (keys, code): (DeviceKeys, &RecoveryCode),
        save: SaveKeys<'_>,
    ) -> Result<Arc<Archive>, ArchiveError> {
        check_name(device_name)?;
        let lock = home.lock()?;
        let location = store.location();
        let runtime = runtime::handle();
        let listed = wait_for(&runtime, None, store.list(Folder::Keyring));
        if !listed.expect("there is no deadline")?.is_empty() {
            return Err(ArchiveError::AlreadyAnArchive { location });
        }
        let recovery_key = code.key_pair().public();
        let secret = ArchiveSecret::generate();
        let epoch = EpochSecret {
            number: 1,
            id_epoch: 1,
            chunker: CHUNKER_FASTCDC,
            secret: Zeroizing::new(*secret.expose_secret()),
        };
        let keyring = Keyring {
            version: 1,
            epochs: vec![epoch],
            devices: vec![record(&keys, 1, device_name.to_owned())],
            recovery_key: recovery_key.to_bytes(),
        };
        let slot = recovery_key.wrap(&keys.user_key);
        // The key stands on disk before anything depends on it.
        save(&keys)?;
        let object = keyring.to_object(&slot, &keys.user_key.keyring_key());
        wait_for(&runtime, None, store.put_new(&object)).expect("there is no deadline")?;
        offline::keep_keyring(
            home,
            &Newest {
                version: 1,
                objects: vec![object.bytes().clone()],
            },
        );
        home.save_settings(&settings)?;
        let opened = Opened {
            keyring,
            recovery_slot: slot,
            merged: false,
        };
        Self::assemble(store, home, settings, keys, opened, Access::Write(lock))
    }

    /// Opens the archive of this home on the store that its settings name.
    pub fn open(home: &Home, access: Access) -> Result<Arc<Archive>, ArchiveError> {
        let settings = home.settings()?;
        let store = open_home_store(home, &settings)?;
        Self::open_on(store, home, settings, access)
    }

    /// Opens the archive of this home on a given store.
    pub fn open_on(
        store: Arc<dyn ObjectStore>,
        home: &Home,
        settings: Settings,
        access: Access,
    ) -> Result<Arc<Archive>, ArchiveError> {
        let keys = home.keys_with(|| keystore::half(home, &settings))?;
        let runtime = runtime::handle();
        let key = keys.user_key.keyring_key();
        let location = store.location();
        let until = Some(Instant::now() + offline::PATIENCE);
        let loaded = wait_for(&runtime, until, keyrings::load_newest(&*store));
        let newest = match loaded.unwrap_or(Err(ArchiveError::TimedOut)) {
            Ok(newest) => newest,
            Err(error) if offline::is_away(&error) => offline::kept_keyring(home)?.ok_or(error)?,
            Err(error) => return Err(error),
        };
        let mut opened = keyrings::open(&newest, &key, &location)?;
        offline::keep_keyring(home, &newest);
        if opened.merged && matches!(access, Access::Write(_)) {
            let change = |keyring: Keyring| keyring;
            opened = store_keyring(&store, home, &key, opened, change)?;
        }
        Self::assemble(store, home, settings, keys, opened, access)
    }

    /// Joins an archive as a new device. `from` names a device: `current/` then starts as what
    /// that device stored last, otherwise empty.
    pub fn recover(
        store: Arc<dyn ObjectStore>,
        home: &Home,
        settings: Settings,
        code: &RecoveryCode,
        device_name: &str,
        from: Option<&str>,
    ) -> Result<Arc<Archive>, ArchiveError> {
        check_name(device_name)?;
        home.check_unused()?;
        let newest = wait_for(&runtime::handle(), None, keyrings::load_newest(&*store))
            .expect("there is no deadline")?;
        let user_key = keyrings::recover_user_key(&newest, code, &store.location())?;
        let keys = DeviceKeys::generate(user_key);
        let save = |keys: &DeviceKeys| home.save_keys(keys);
        Self::join(store, home, settings, (keys, device_name), from, &save)
    }

    /// The same with keys that are there already. `save` writes the key file.
    pub fn join(
        store: Arc<dyn ObjectStore>,
        home: &Home,
        settings: Settings,
        (keys, device_name): (DeviceKeys, &str),
        from: Option<&str>,
        save: SaveKeys<'_>,
    ) -> Result<Arc<Archive>, ArchiveError> {
        check_name(device_name)?;
        let lock = home.lock()?;
        let newest = wait_for(&runtime::handle(), None, keyrings::load_newest(&*store))
            .expect("there is no deadline")?;
        let key = keys.user_key.keyring_key();
        let before = keyrings::open(&newest, &key, &store.location())?;
        let from = from
            .map(|name| find_device(&before.keyring, name))
            .transpose()?;
        let opened = store_keyring(&store, home, &key, before, |mut keyring| {
            if keyring.device(keys.device).is_none() {
                let number = keyrings::next_number(&keyring.devices);
                let name = keyrings::free_name(&keyring.devices, device_name);
                keyring.devices.push(record(&keys, number, name));
            }
            keyring
        })?;
        save(&keys)?;
        home.save_settings(&settings)?;
        let archive = Self::assemble(store, home, settings, keys, opened, Access::Write(lock))?;
        if let Some(device) = from {
            archive.start_from(device)?;
        }
        Ok(archive)
    }

    /// The devices of an archive that a user key opens; nothing if there is no archive in the store yet.
    pub fn devices_with_key(
        store: &Arc<dyn ObjectStore>,
        user_key: &UserKey,
    ) -> Result<Option<Vec<DeviceRecord>>, ArchiveError> {
        let location = store.location();
        let loaded = wait_for(&runtime::handle(), None, keyrings::load_newest(&**store));
        match loaded.expect("there is no deadline") {
            Err(ArchiveError::NotAnArchive { .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(newest) => {
                let opened = keyrings::open(&newest, &user_key.keyring_key(), &location)?;
                Ok(Some(opened.keyring.devices))
            }
        }
    }

    /// The devices of an archive that a recovery code opens, before joining it.
    pub fn devices_with_code(
        store: &Arc<dyn ObjectStore>,
        code: &RecoveryCode,
    ) -> Result<Vec<DeviceRecord>, ArchiveError> {
        let runtime = runtime::handle();
        let location = store.location();
        let newest = wait_for(&runtime, None, keyrings::load_newest(&**store))
            .expect("there is no deadline")?;
        let user_key = keyrings::recover_user_key(&newest, code, &location)?;
        Ok(keyrings::open(&newest, &user_key.keyring_key(), &location)?
            .keyring
            .devices)
    }

    fn assemble(
        store: Arc<dyn ObjectStore>,
        home: &Home,
        settings: Settings,
        keys: DeviceKeys,
        opened: Opened,
        access: Access,
    ) -> Result<Arc<Archive>, ArchiveError> {
        let keyring = opened.keyring;
        let device = keys.device;
        let record = keyring
            .device(device)
            .ok_or(ArchiveError::UnknownDevice { device })?;
        let writes = matches!(access, Access::Write(_));
        if writes && record.last_sequence.is_some() {
            return Err(ArchiveError::ShutOut { device });
        }
        let mut seen = Seen::load(home)?;
        if writes && keyring.version < seen.keyring {
            let (seen, found) = (seen.keyring, keyring.version);
            return Err(ArchiveError::RolledBack {
                what: "keyring version",
                seen,
                found,
            });
        }
        seen.keyring = seen.keyring.max(keyring.version);
        let slot = home.claim_cache()?;
        let runtime = runtime::handle();
        let keychain = Arc::new(Keychain::new(&keyring)?);
        let bad = BadCopies::open(home.state_dir().join("bad-copies"));
        let places = Arc::new(Places::open(&slot, bad)?);
        let session_keys = Arc::new(SessionKeys::new(Arc::clone(&keychain), slot.file("keys")));
        let memory = MemoryBudget::new(settings.memory_bytes());
        let caches = Arc::new(MemoryCaches::new(memory));
        let surroundings = Arc::new(Surroundings {
            places: Arc::clone(&places),
            session_keys: Arc::clone(&session_keys),
            caches: Arc::clone(&caches),
            listener: RwLock::default(),
        });
        let packer = Arc::new(Packer::new(
            Arc::clone(&store),
            runtime.clone(),
            Arc::clone(&keychain),
            Arc::clone(&surroundings) as Arc<dyn PackerSurroundings>,
            PackerLimits::within(memory),
        ));
        let read = Arc::new(ReadPath::new(
            Arc::clone(&store),
            runtime.clone(),
            Arc::clone(&keychain),
            Arc::clone(&session_keys),
            Arc::clone(&places),
            Arc::clone(&packer),
            Caches::open(
                &slot.chunks_dir(),
                caches,
                settings.cache_bytes(),
                settings.is_remote(),
                writes,
            ),
        ));
        let lock = match access {
            Access::Read => None,
            Access::Write(lock) => Some(lock),
        };
        let archive = Arc::new(Archive {
            marks: KnownMarks::new(settings.grace()),
            moves_followed: AtomicUsize::new(0),
            capabilities: Mutex::new(seen.capabilities),
            store,
            runtime,
            home: home.clone(),
            settings,
            keys,
            keyring: RwLock::new(Arc::new(keyring)),
            keychain,
            places,
            session_keys,
            packer,
            read,
            memo: Mutex::default(),
            head: Mutex::default(),
            seen: Mutex::new(seen),
            absent_packs: RwLock::default(),
            commits: Mutex::default(),
            one_commit: Mutex::default(),
            stored_base: AtomicU64::new(0),
            stages: Stages::new(memory),
            index_age: IndexAge::new(),
            others: Mutex::default(),
            offline: AtomicBool::new(false),
            catching_up: Mutex::default(),
            surroundings,
            writes,
            lock,
            _slot: slot,
        });
        let this = Arc::downgrade(&archive);
        archive.read.on_missing(Arc::new(move || {
            let Some(archive) = this.upgrade() else {
                return 0;
            };
            archive.sync_index().unwrap_or_else(|error| {
                tracing::warn!(%error, "new index objects could not be taken in");
                0
            })
        }));
        let until = Instant::now() + offline::PATIENCE;
        match crate::blocking::with_deadline(until, || archive.start_with_store()) {
            Ok(()) => {}
            // A long listing is not a store that is away: only one that was up to date before can
            // be used without it.
            Err(error)
                if offline::is_away(&error) && archive.home.load_state("head")?.is_some() =>
            {
                tracing::warn!(%error, "the store is away; it is tried again");
                archive.start_without_store()?;
                archive.catch_up_later();
            }
            Err(ArchiveError::TimedOut) => archive.start_with_store()?,
            Err(error) => return Err(error),
        }
        Ok(archive)
    }

    pub(super) fn start_with_store(&self) -> Result<(), ArchiveError> {
        self.load_head()?;
        self.sync_index()?;
        if self.writes {
            self.read_marks()?;
            self.find_absent_packs()?;
            self.probe()?;
            self.seen.lock().save(&self.home)?;
        }
        Ok(())
    }

    /// Asks the store once what it honours, and remembers it.
    fn probe(&self) -> Result<(), ArchiveError> {
        if self.capabilities().is_some() {
            return Ok(());
        }
        let found = self.ask(self.store.probe())?;
        *self.capabilities.lock() = Some(found);
        self.seen.lock().capabilities = Some(found);
        Ok(())
    }

    /// Reads the keyring again: other devices have joined.
    pub(crate) fn refresh_keyring(&self) -> Result<(), ArchiveError> {
        let location = self.store.location();
        let load = async { Ok(keyrings::load_newest(&*self.store).await) };
        let newest = self.ask(load)??;
        let opened = keyrings::open(&newest, &self.keys.user_key.keyring_key(), &location)?;
        if opened.keyring.version > self.keyring.read().version {
            offline::keep_keyring(&self.home, &newest);
            *self.keyring.write() = Arc::new(opened.keyring);
        }
        Ok(())
    }
}

/// The store of a home: through its keystore, or the one that its settings name.
pub fn open_home_store(
    home: &Home,
    settings: &Settings,
) -> Result<Arc<dyn ObjectStore>, ArchiveError> {
    match &settings.server {
        None => open_store(settings),
        Some(_) => {
            let keystore = Keystore::open(home, settings)?;
            Ok(keystore::granted_store(keystore.client(), settings))
        }
    }
}

/// The store that settings name, with retries and limits.
pub fn open_store(settings: &Settings) -> Result<Arc<dyn ObjectStore>, ArchiveError> {
    let runtime = runtime::handle();
    let config = settings.store_config()?;
    let options = settings.open_options();
    let opened = wait_for(&runtime, None, store::open_with(&config, &options))
        .expect("there is no deadline")?;
    Ok(opened.store)
}

/// Finds out how the store of new settings takes a bucket's name, and remembers it in them.
pub fn find_path_style(settings: &mut Settings) -> Result<(), ArchiveError> {
    if let StoreConfig::S3(config) = settings.store_config()? {
        let find = store::find_path_style(&config);
        let found = wait_for(&runtime::handle(), None, find).expect("there is no deadline")?;
        settings.s3.path_style = Some(found);
    }
    Ok(())
}

/// Stores `change` of a keyring as the next version; merges with whoever does so at the same time.
fn store_keyring(
    store: &Arc<dyn ObjectStore>,
    home: &Home,
    key: &holdfast_crypto::KeyringKey,
    mut opened: Opened,
    change: impl Fn(Keyring) -> Keyring,
) -> Result<Opened, ArchiveError> {
    let runtime = runtime::handle();
    let location = store.location();
    for round in 0..KEYRING_ROUNDS {
        let mut keyring = change(opened.keyring);
        if !opened.merged {
            keyring.version += 1;
        }
        let object = keyring.to_object(&opened.recovery_slot, key);
        let put = wait_for(&runtime, None, store.put_new(&object)).expect("there is no deadline");
        let is_refused = match put {
            Err(error) if error.kind() == StoreErrorKind::Refused && round + 1 < KEYRING_ROUNDS => {
                tracing::info!(%error, "another device changes the keyring; it is read again");
                std::thread::sleep(FIRST_KEYRING_WAIT * (1 << round));
                true
            }
            put => put.map(|_| false)?,
        };
        let newest = wait_for(&runtime, None, keyrings::load_newest(&**store))
            .expect("there is no deadline")?;
        let version = keyring.version;
        opened = keyrings::open(&newest, key, &location)?;
        if is_refused {
            continue;
        }
        if !opened.merged
            && opened.keyring.version >= version
            && opened.keyring.devices == keyring.devices
        {
            offline::keep_keyring(home, &newest);
            return Ok(opened);
        }
        if !opened.merged && opened.keyring.version < version {
            // A stale listing: what was stored is there, and is what counts.
            return Ok(Opened {
                keyring,
                recovery_slot: opened.recovery_slot,
                merged: false,
            });
        }
    }
    Err(ArchiveError::TimedOut)
}

fn record(keys: &DeviceKeys, number: u16, name: String) -> DeviceRecord {
    DeviceRecord {
        id: keys.device,
        number,
        name,
        key: keys.signing_key.verifying_key().to_bytes(),
        first_sequence: 1,
        last_sequence: None,
        added: Time {
            seconds: known::now_seconds(),
            nanos: 0,
        },
    }
}

fn check_name(name: &str) -> Result<(), ArchiveError> {
    if crate::format::entry::is_entry_name(name.as_bytes()) {
        return Ok(());
    }
    Err(ArchiveError::BadName {
        name: name.to_owned(),
    })
}

fn find_device(keyring: &Keyring, name: &str) -> Result<DeviceId, ArchiveError> {
    let found = keyring
        .devices
        .iter()
        .find(|device| device.name == name || device.id.to_string() == name);
    found.map(|device| device.id).ok_or_else(|| {
        let known: Vec<&str> = keyring
            .devices
            .iter()
            .map(|device| device.name.as_str())
            .collect();
        ArchiveError::NoSuchDevice {
            name: name.to_owned(),
            known: known.join(", "),
        }
    })
}
