//! The key file: what makes this computer a device of the archive.
//!
//! ```text
//! holdfast key 1 \n            15 bytes
//! device id                     8
//! user key                     32
//! signing key                  32
//! log key, wrapped             WRAPPED_LOG_KEY_BYTES
//! SHA-256 of all of the above  32   (a torn or edited file is told from a wrong key)
//! ```
//!
//! Mode 0600; a file that others can read is refused rather than mended, because somebody may have
//! read it. The file is as good as the archive: whoever copies it can read everything.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use holdfast_crypto::{DeviceId, DeviceSigningKey, Digest, LogKey, UserKey, WRAPPED_LOG_KEY_BYTES};
use zeroize::Zeroizing;

use super::{HomeError, replace_file};

const MAGIC: &[u8; 15] = b"holdfast key 1\n";
const BODY_BYTES: usize = MAGIC.len() + 8 + 32 + 32 + WRAPPED_LOG_KEY_BYTES;

/// The secrets of this computer.
pub struct DeviceKeys {
    /// Who this computer is in the archive.
    pub device: DeviceId,
    /// Opens the archive.
    pub user_key: UserKey,
    /// Signs this device's commits.
    pub signing_key: DeviceSigningKey,
    wrapped_log_key: Vec<u8>,
}

impl DeviceKeys {
    /// A new device of the archive that `user_key` opens.
    pub fn generate(user_key: UserKey) -> Self {
        let wrapped_log_key = LogKey::generate().wrap(&user_key);
        Self {
            device: DeviceId::generate(),
            user_key,
            signing_key: DeviceSigningKey::generate(),
            wrapped_log_key,
        }
    }

    /// The key of the local log.
    pub fn log_key(&self) -> Result<LogKey, holdfast_crypto::CryptoError> {
        LogKey::unwrap(&self.user_key, &self.wrapped_log_key)
    }

    pub(super) fn save(&self, path: &Path) -> Result<(), HomeError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(BODY_BYTES + 32));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.device.0);
        bytes.extend_from_slice(self.user_key.expose_secret());
        bytes.extend_from_slice(self.signing_key.expose_secret());
        bytes.extend_from_slice(&self.wrapped_log_key);
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(&checksum.0);
        replace_file(path, &bytes)
    }

    pub(super) fn load(path: &Path) -> Result<Self, HomeError> {
        let bytes = read_private(path)?;
        parse(&bytes).map_err(|what| HomeError::BadKeyFile {
            path: path.to_owned(),
            what,
        })
    }
}

fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, HomeError> {
    let io = |source| HomeError::Io {
        act: "read",
        path: path.to_owned(),
        source,
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(HomeError::NotSetUp {
                path: path.to_owned(),
            });
        }
        Err(source) => return Err(io(source)),
    };
    // Asked of the open file, so that it is the one that is read.
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(HomeError::KeyReadable {
            path: path.to_owned(),
            mode,
        });
    }
    // Room for one byte more than a key file has, so that nothing is moved while it is read.
    let mut bytes = Zeroizing::new(Vec::with_capacity(BODY_BYTES + 64));
    file.by_ref()
        .take(BODY_BYTES as u64 + 33)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<DeviceKeys, &'static str> {
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or("its first line is not `holdfast key 1`")?;
    if bytes.len() != BODY_BYTES + 32 {
        return Err("its length is wrong");
    }
    if Digest::of(&bytes[..BODY_BYTES]).0 != bytes[BODY_BYTES..] {
        return Err("its checksum is wrong");
    }
    let (device, rest) = rest.split_first_chunk::<8>().ok_or("it is cut off")?;
    let (user_key, rest) = rest.split_first_chunk::<32>().ok_or("it is cut off")?;
    let (signing_key, rest) = rest.split_first_chunk::<32>().ok_or("it is cut off")?;
    Ok(DeviceKeys {
        device: DeviceId(*device),
        user_key: UserKey::from_bytes(Zeroizing::new(*user_key)),
        signing_key: DeviceSigningKey::from_bytes(Zeroizing::new(*signing_key)),
        wrapped_log_key: rest[..WRAPPED_LOG_KEY_BYTES].to_vec(),
    })
}
