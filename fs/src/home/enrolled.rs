//! What a home has besides when its computer is enrolled at a keystore: a wrapped key file, and a certificate with its private key.
//!
//! The private key comes before its certificate, so that there is never a certificate without one; both go before the key file does, when
//! everything is wiped, since with them alone nothing opens.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use holdfast_crypto::DeviceHalf;
use holdfast_keystore_client::{DeviceKey, Identity};
use zeroize::Zeroizing;

use super::key_file::DeviceKeys;
use super::{Home, HomeError, replace_file};

impl Home {
    /// The device's certificate.
    pub fn certificate_file(&self) -> PathBuf {
        self.config.join("device.crt")
    }

    /// Its private key.
    pub fn certificate_key_file(&self) -> PathBuf {
        self.config.join("device.key")
    }

    /// Fails if this home is set up. What a computer that died before its settings were written has left, is replaced.
    pub fn check_not_set_up(&self) -> Result<(), HomeError> {
        match self.config_file() {
            path if path.exists() => Err(HomeError::AlreadySetUp { path }),
            _ => Ok(()),
        }
    }

    /// Writes the keys wrapped under the keystore's half; `None` = the lease is off.
    pub fn save_wrapped_keys(
        &self,
        keys: &DeviceKeys,
        archive: &[u8; 16],
        half: Option<&DeviceHalf>,
    ) -> Result<(), HomeError> {
        self.make_folders()?;
        keys.save_wrapped(&self.key_file(), archive, half)
    }

    /// Reads the keys; `half` is called if the file needs the keystore's half.
    pub fn keys_with<E: From<HomeError>>(
        &self,
        half: impl FnOnce() -> Result<DeviceHalf, E>,
    ) -> Result<DeviceKeys, E> {
        DeviceKeys::load(&self.key_file(), half)
    }

    /// Writes certificate and key.
    pub fn save_identity(&self, certificate_pem: &str, key: &DeviceKey) -> Result<(), HomeError> {
        self.make_folders()?;
        replace_file(&self.certificate_key_file(), key.expose_pem().as_bytes())?;
        replace_file(&self.certificate_file(), certificate_pem.as_bytes())
    }

    /// The private key behind the certificate, for the request of a new one.
    pub fn device_key(&self) -> Result<DeviceKey, HomeError> {
        let path = self.certificate_key_file();
        let pem = read(&path)?;
        DeviceKey::from_pem(&pem).map_err(|source| HomeError::BadIdentity { path, source })
    }

    /// Certificate and key.
    pub fn identity(&self) -> Result<Identity, HomeError> {
        let key = self.device_key()?;
        let path = self.certificate_file();
        let pem = read(&path)?;
        key.with_certificate(&pem)
            .map_err(|source| HomeError::BadIdentity { path, source })
    }

    /// Writes the keystore's half with the end of its lease.
    pub(crate) fn save_half(&self, bytes: &[u8]) -> Result<(), HomeError> {
        self.make_folders()?;
        replace_file(&self.half_file(), bytes)
    }

    /// Reads what [`Home::save_half`] wrote.
    pub(crate) fn load_half(&self) -> Result<Option<Zeroizing<Vec<u8>>>, HomeError> {
        match std::fs::read(self.half_file()) {
            Ok(bytes) => Ok(Some(Zeroizing::new(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &self.half_file(), error)),
        }
    }

    /// Deletes it.
    pub(crate) fn wipe_half(&self) -> Result<(), HomeError> {
        wipe(self.half_file())
    }

    fn half_file(&self) -> PathBuf {
        self.config.join("half")
    }

    /// Deletes what opens the archive and what speaks for this computer. The settings, the log and the cache, which is ciphertext, stay.
    pub fn wipe_keys(&self) -> Result<(), HomeError> {
        [
            self.half_file(),
            self.key_file(),
            self.certificate_key_file(),
            self.certificate_file(),
        ]
        .into_iter()
        .try_for_each(wipe)
    }

    /// Deletes everything of the archive that is on this computer; the caller holds the device's lock. The settings go last: until then this
    /// can be done again.
    pub fn forget(&self) -> Result<(), HomeError> {
        self.wipe_keys()?;
        clear(&self.cache, &[])?;
        clear(&self.state, &[OsStr::new("lock")])?;
        remove(&self.config_file())
    }
}

/// Deletes what is in a folder, except for some names.
fn clear(folder: &Path, except: &[&OsStr]) -> Result<(), HomeError> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|source| io_error("read", folder, source))?,
    };
    for entry in entries {
        let entry = entry.map_err(|source| io_error("read", folder, source))?;
        if !except.contains(&entry.file_name().as_os_str()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), HomeError> {
    let is_folder = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let removed = match is_folder {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("delete", path, error))
        }
        _ => Ok(()),
    }
}

fn io_error(act: &'static str, path: &Path, source: io::Error) -> HomeError {
    let path = path.to_owned();
    HomeError::Io { act, path, source }
}

fn read(path: &Path) -> Result<Zeroizing<String>, HomeError> {
    match std::fs::read_to_string(path) {
        Ok(pem) => Ok(Zeroizing::new(pem)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(HomeError::NotSetUp {
            path: path.to_owned(),
        }),
        Err(source) => Err(io_error("read", path, source)),
    }
}

/// Overwrites the file's bytes before it is deleted: on a disk that writes in place, they are gone.
fn wipe(path: PathBuf) -> Result<(), HomeError> {
    let overwrite = || -> io::Result<()> {
        let length = std::fs::metadata(&path)?.len();
        let file = std::fs::OpenOptions::new().write(true).open(&path)?;
        let zeros = vec![0; usize::try_from(length).unwrap_or(0)];
        std::os::unix::fs::FileExt::write_all_at(&file, &zeros, 0)?;
        file.sync_all()?;
        std::fs::remove_file(&path)
    };
    match overwrite() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("wipe", &path, error))
        }
        _ => Ok(()),
    }
}
