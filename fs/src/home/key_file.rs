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
//! A computer that is enrolled at a keystore has another one, whose content needs the half of a key that the keystore gives to devices
//! that are not deauthorised (unless the lease is `off`):
//!
//! ```text
//! holdfast key 2 \n            15 bytes
//! half                          1   0: none, 1: the keystore's
//! device id                     8
//! archive id at the keystore   16
//! local secret                 32   random; HKDF(local secret || half) is the key
//! user key, signing key, wrapped log key, encrypted for (device id || archive id)
//! SHA-256 of all of the above  32
//! ```
//!
//! Both are specified in `docs/format/escrow.md`. Mode 0600; a file that others can read is refused rather than mended, because somebody
//! may have read it. Without a half the file is as good as the archive: whoever copies it can read everything.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use holdfast_crypto::{
    CIPHERTEXT_OVERHEAD_BYTES, DeviceHalf, DeviceId, DeviceSigningKey, Digest, LocalSecret, LogKey,
    UserKey, WRAPPED_LOG_KEY_BYTES,
};
use zeroize::Zeroizing;

use super::{HomeError, replace_file};

const MAGIC: &[u8; 15] = b"holdfast key 1\n";
const BODY_BYTES: usize = MAGIC.len() + 8 + 32 + 32 + WRAPPED_LOG_KEY_BYTES;

const WRAPPED_MAGIC: &[u8; 15] = b"holdfast key 2\n";
const PLACE_BYTES: usize = 8 + 16;
const CONTENT_BYTES: usize = 32 + 32 + WRAPPED_LOG_KEY_BYTES;
const WRAPPED_BODY_BYTES: usize =
    WRAPPED_MAGIC.len() + 1 + PLACE_BYTES + 32 + CIPHERTEXT_OVERHEAD_BYTES + CONTENT_BYTES;

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
        Self::of(DeviceId::generate(), user_key)
    }

    /// The same for a device that has its id already.
    pub fn of(device: DeviceId, user_key: UserKey) -> Self {
        let wrapped_log_key = LogKey::generate().wrap(&user_key);
        Self {
            device,
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

    /// Writes the file of an enrolled computer; without a half it is protected by its permissions alone.
    pub(super) fn save_wrapped(
        &self,
        path: &Path,
        archive: &[u8; 16],
        half: Option<&DeviceHalf>,
    ) -> Result<(), HomeError> {
        let mut place = self.device.0.to_vec();
        place.extend_from_slice(archive);
        let mut content = Zeroizing::new(Vec::with_capacity(CONTENT_BYTES));
        content.extend_from_slice(self.user_key.expose_secret());
        content.extend_from_slice(self.signing_key.expose_secret());
        content.extend_from_slice(&self.wrapped_log_key);
        let secret = LocalSecret::generate();
        let encrypted = secret.key(half).encrypt(&place, &content);
        let mut bytes = Zeroizing::new(Vec::with_capacity(WRAPPED_BODY_BYTES + 32));
        bytes.extend_from_slice(WRAPPED_MAGIC);
        bytes.push(u8::from(half.is_some()));
        bytes.extend_from_slice(&place);
        bytes.extend_from_slice(secret.expose_secret());
        bytes.extend_from_slice(encrypted.as_bytes());
        let checksum = Digest::of(&bytes);
        bytes.extend_from_slice(&checksum.0);
        replace_file(path, &bytes)
    }

    /// Reads either file. `half` is asked for if the file needs it.
    pub(super) fn load<E: From<HomeError>>(
        path: &Path,
        half: impl FnOnce() -> Result<DeviceHalf, E>,
    ) -> Result<Self, E> {
        let bytes = read_private(path)?;
        let bad = |what| HomeError::BadKeyFile {
            path: path.to_owned(),
            what,
        };
        if !bytes.starts_with(WRAPPED_MAGIC) {
            return Ok(parse(&bytes).map_err(bad)?);
        }
        let wrapped = parse_wrapped(&bytes).map_err(bad)?;
        let half = wrapped.needs_half.then(half).transpose()?;
        let opened = wrapped.open(half.as_ref());
        Ok(opened.ok_or_else(|| HomeError::ForeignHalf {
            path: path.to_owned(),
        })?)
    }
}

/// The file of an enrolled computer, taken apart.
struct Wrapped<'a> {
    needs_half: bool,
    place: [u8; PLACE_BYTES],
    secret: LocalSecret,
    encrypted: &'a [u8],
}

impl Wrapped<'_> {
    fn open(&self, half: Option<&DeviceHalf>) -> Option<DeviceKeys> {
        let content = self.secret.key(half).decrypt(&self.place, self.encrypted);
        let content = content.ok()?;
        let (user_key, rest) = content.split_first_chunk::<32>()?;
        let (signing_key, wrapped_log_key) = rest.split_first_chunk::<32>()?;
        Some(DeviceKeys {
            device: DeviceId(*self.place.first_chunk()?),
            user_key: UserKey::from_bytes(Zeroizing::new(*user_key)),
            signing_key: DeviceSigningKey::from_bytes(Zeroizing::new(*signing_key)),
            wrapped_log_key: wrapped_log_key.to_vec(),
        })
    }
}

fn parse_wrapped(bytes: &[u8]) -> Result<Wrapped<'_>, &'static str> {
    if bytes.len() != WRAPPED_BODY_BYTES + 32 {
        return Err("its length is wrong");
    }
    let (body, checksum) = bytes.split_at(WRAPPED_BODY_BYTES);
    if Digest::of(body).0 != checksum {
        return Err("its checksum is wrong");
    }
    let rest = &body[WRAPPED_MAGIC.len()..];
    let (needs_half, rest) = match rest {
        [0, rest @ ..] => (false, rest),
        [1, rest @ ..] => (true, rest),
        _ => return Err("it needs a half of another kind"),
    };
    let (place, rest) = rest.split_first_chunk().ok_or("it is cut off")?;
    let (secret, encrypted) = rest.split_first_chunk::<32>().ok_or("it is cut off")?;
    Ok(Wrapped {
        needs_half,
        place: *place,
        secret: LocalSecret::from_bytes(Zeroizing::new(*secret)),
        encrypted,
    })
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
    let mut bytes = Zeroizing::new(Vec::with_capacity(WRAPPED_BODY_BYTES + 64));
    file.by_ref()
        .take(WRAPPED_BODY_BYTES as u64 + 33)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    Ok(bytes)
}

fn parse(bytes: &[u8]) -> Result<DeviceKeys, &'static str> {
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or("its first line is not `holdfast key`")?;
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
