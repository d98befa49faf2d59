use std::os::unix::fs::PermissionsExt;

use holdfast_crypto::UserKey;

use super::*;

fn home() -> (tempfile::TempDir, Home) {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(&folder.path().join("home"));
    (folder, home)
}

#[test]
fn keys_come_back_and_are_private() {
    let (_folder, home) = home();
    let keys = DeviceKeys::generate(UserKey::generate());
    home.save_keys(&keys).unwrap();
    let mode = std::fs::metadata(home.key_file())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = home.keys().unwrap();
    assert_eq!(again.device, keys.device);
    assert_eq!(
        again.user_key.expose_secret(),
        keys.user_key.expose_secret()
    );
    assert_eq!(
        again.signing_key.verifying_key().to_bytes(),
        keys.signing_key.verifying_key().to_bytes()
    );
    assert!(again.log_key().is_ok());
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let (_folder, home) = home();
    home.save_keys(&DeviceKeys::generate(UserKey::generate()))
        .unwrap();
    std::fs::set_permissions(home.key_file(), std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        home.keys(),
        Err(HomeError::KeyReadable { mode: 0o640, .. })
    ));
}

#[test]
fn a_damaged_key_file_is_told_from_a_wrong_one() {
    let (_folder, home) = home();
    home.save_keys(&DeviceKeys::generate(UserKey::generate()))
        .unwrap();
    let whole = std::fs::read(home.key_file()).unwrap();
    for at in [0, 20, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(home.key_file(), &bytes).unwrap();
        assert!(matches!(home.keys(), Err(HomeError::BadKeyFile { .. })));
    }
    std::fs::write(home.key_file(), &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(home.keys(), Err(HomeError::BadKeyFile { .. })));
}

#[test]
fn the_second_writer_is_told_who_the_first_is() {
    let (_folder, home) = home();
    let first = home.lock().unwrap();
    let Err(HomeError::Locked { holder }) = home.lock() else {
        panic!("the lock was given twice")
    };
    assert_eq!(holder, format!("process {}", std::process::id()));
    drop(first);
    assert!(home.lock().is_ok());
}

/// After a kill the lock is held until the last thread of the process is gone; whoever comes then waits, and its own number stands in the file.
#[test]
fn the_lock_of_a_killed_process_is_waited_for() {
    let (_folder, home) = home();
    home.make_folders().unwrap();
    let path = home.state.join("lock");
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let held = open_lock_file(&path).unwrap();
    assert!(try_flock(&held, &path).unwrap());
    writeln!(&held, "{}", gone.id()).unwrap();
    let last_thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(held);
    });
    let lock = home.lock().unwrap();
    last_thread.join().unwrap();
    let holder = format!("{}\n", std::process::id());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), holder);
    drop(lock);
}

#[test]
fn two_processes_never_share_a_cache() {
    let (_folder, home) = home();
    let first = home.claim_cache().unwrap();
    let second = home.claim_cache().unwrap();
    assert_ne!(first.index_dir(), second.index_dir());
    let freed = first.index_dir();
    drop(first);
    assert_eq!(home.claim_cache().unwrap().index_dir(), freed);
}

#[test]
fn settings_come_back_and_unknown_ones_are_refused() {
    let (_folder, home) = home();
    assert!(matches!(home.settings(), Err(HomeError::NotSetUp { .. })));
    let mut settings = Settings::new("s3://bucket/prefix");
    settings.s3.region = Some("garage".to_owned());
    settings.limits.memory_mib = 200;
    home.save_settings(&settings).unwrap();
    assert_eq!(home.settings().unwrap(), settings);
    assert_eq!(
        settings.policy().unwrap(),
        holdfast_backend::retention::Policy::default()
    );
    assert_eq!(
        Settings::parse("store = '/x'").unwrap(),
        Settings::new("/x")
    );
    assert!(Settings::parse("store = '/x'\nstroe = 1").is_err());
    assert!(Settings::parse("store = '/x'\n[limits]\nmemory_mib = 8").is_err());
    assert!(Settings::parse("store = '/x'\n[retention]\nhourly = 'often'").is_err());
}

mod wrapped {
    //! The key file of an enrolled computer.

    use holdfast_crypto::DeviceHalf;
    use holdfast_keystore_client::DeviceKey;

    use super::*;

    const ARCHIVE: [u8; 16] = [7; 16];

    fn with(half: Option<&DeviceHalf>) -> (tempfile::TempDir, Home, DeviceKeys) {
        let (folder, home) = home();
        let keys = DeviceKeys::generate(UserKey::generate());
        home.save_wrapped_keys(&keys, &ARCHIVE, half).unwrap();
        (folder, home, keys)
    }

    fn copy(half: &DeviceHalf) -> DeviceHalf {
        DeviceHalf::from_bytes(zeroize::Zeroizing::new(*half.expose_secret()))
    }

    #[test]
    fn keys_come_back_with_the_keystores_half_alone() {
        let half = DeviceHalf::generate();
        let (_folder, home, keys) = with(Some(&half));
        let again = home.keys_with(|| Ok::<_, HomeError>(copy(&half))).unwrap();
        assert_eq!(again.device, keys.device);
        let (one, other) = (&again.user_key, &keys.user_key);
        assert_eq!(one.expose_secret(), other.expose_secret());
        assert!(again.log_key().is_ok());
        assert!(matches!(home.keys(), Err(HomeError::NeedsHalf { .. })));
        let wrong = home.keys_with(|| Ok::<_, HomeError>(DeviceHalf::generate()));
        assert!(matches!(wrong, Err(HomeError::ForeignHalf { .. })));
        let whole = std::fs::read(home.key_file()).unwrap();
        let key = keys.user_key.expose_secret();
        assert!(!whole.windows(32).any(|window| window == key));
    }

    /// With the lease `off` nobody is asked for a half.
    #[test]
    fn without_a_half_the_file_opens_by_itself() {
        let (_folder, home, keys) = with(None);
        assert_eq!(home.keys().unwrap().device, keys.device);
    }

    #[test]
    fn a_damaged_file_is_told_from_a_wrong_half() {
        let half = DeviceHalf::generate();
        let (_folder, home, _) = with(Some(&half));
        let whole = std::fs::read(home.key_file()).unwrap();
        let damaged = |bytes: &[u8]| {
            std::fs::write(home.key_file(), bytes).unwrap();
            home.keys_with(|| Ok::<_, HomeError>(copy(&half)))
        };
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(
                matches!(damaged(&bytes), Err(HomeError::BadKeyFile { .. })),
                "byte {at}"
            );
        }
        for length in [0, 15, whole.len() - 1] {
            assert!(damaged(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(damaged(&[&whole[..], &[0]].concat()).is_err());
    }

    #[test]
    fn what_is_wiped_is_gone_and_can_be_wiped_again() {
        let half = DeviceHalf::generate();
        let (_folder, home, _) = with(Some(&half));
        home.save_identity("certificate", &DeviceKey::generate())
            .unwrap();
        home.wipe_keys().unwrap();
        home.wipe_keys().unwrap();
        let left = [
            home.key_file(),
            home.certificate_file(),
            home.certificate_key_file(),
        ];
        assert!(left.iter().all(|path| !path.exists()));
        assert!(matches!(home.keys(), Err(HomeError::NotSetUp { .. })));
    }

    /// Everything of the archive goes, so that this home can be set up again; the lock that is held stays.
    #[test]
    fn a_home_that_is_forgotten_is_not_set_up() {
        let half = DeviceHalf::generate();
        let (_folder, home, _) = with(Some(&half));
        home.save_settings(&Settings::new("keystore")).unwrap();
        home.save_state("head", b"head").unwrap();
        let lock = home.lock().unwrap();
        home.forget().unwrap();
        assert!(home.check_unused().is_ok());
        assert!(home.load_state("head").unwrap().is_none());
        assert!(home.lock().is_err());
        drop(lock);
    }

    #[test]
    fn settings_of_a_keystore_come_back() {
        let text = format!(
            "store = 'keystore'\n[server]\naddress = 'https://keystore.example.org:8470'\npin = '{}'\n\
             user = 'alice'\narchive = '{}'\ndevice = '{}'\n",
            hex::encode([1; 32]),
            hex::encode(ARCHIVE),
            hex::encode([2; 8]),
        );
        let mut settings = Settings::parse(&text).unwrap();
        let server = settings.server.as_mut().unwrap();
        assert_eq!(
            server.lease,
            holdfast_keystore_client::messages::Lease::Boot
        );
        for lease in ["boot", "off"] {
            server.lease = serde_json::from_value(lease.into()).unwrap();
        }
        server.lease = holdfast_keystore_client::messages::Lease::Days(30);
        assert_eq!(Settings::parse(&settings.to_toml()).unwrap(), settings);
        assert!(settings.is_remote());
    }
}
