//! Commits: one state of a device's drive, signed: `docs/format/commits.md`.

use holdfast_backend::object::{EnvelopedPlacement, FormatError, Header, Object, ObjectKind};
use holdfast_crypto::{
    CommitKey, CryptoError, DeviceId, DeviceSigningKey, DeviceVerifyingKey, Digest,
};

use super::codec::{DecodeError, Decoded, Reader, Writer};
use super::entry::{FileKind, FileNo, Inode, Time, is_entry_name};
use super::node::{Totals, TreeRef};

/// Why a commit was made, which decides how long it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum CommitKind {
    /// To free the log; not a snapshot, given up with the next commit.
    Checkpoint = 1,
    /// A snapshot on schedule; thinned out.
    Automatic = 2,
    /// A snapshot that somebody asked for.
    Requested = 3,
}

/// One state of everything in `current/` of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The device whose `current/` it is.
    pub device: DeviceId,
    /// 1, 2, 3, ... per device.
    pub sequence: u64,
    /// SHA-256 of the device's commit object before this one; none at sequence 1.
    pub previous: Option<Digest>,
    /// The moment that it shows, by the device's clock.
    pub time: Time,
    /// Why it was made.
    pub kind: CommitKind,
    /// The name that somebody gave it.
    pub label: Option<String>,
    /// The root folder.
    pub root: Inode,
    /// Files with several names, keyed by file number.
    pub links: Option<TreeRef>,
    /// The number that the next new file gets.
    pub next_file: FileNo,
    /// Sums over root and link table (bytes of linked files once).
    pub totals: Totals,
    /// Bytes newly put in the store since the snapshot before.
    pub stored_bytes: u64,
    /// Earlier snapshots of this device that are still kept, by ascending sequence.
    pub kept: Vec<KeptSnapshot>,
}

/// An earlier snapshot, as later commits of its device list it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSnapshot {
    /// Its sequence number.
    pub sequence: u64,
    /// SHA-256 of its commit object.
    pub digest: Digest,
    /// Its time.
    pub time: Time,
    /// Why it was made.
    pub kind: CommitKind,
    /// The name that somebody gave it.
    pub label: Option<String>,
    /// Its totals.
    pub totals: Totals,
    /// Its newly stored bytes.
    pub stored_bytes: u64,
}

impl CommitKind {
    fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        match reader.u8()? {
            1 => Ok(CommitKind::Checkpoint),
            2 => Ok(CommitKind::Automatic),
            3 => Ok(CommitKind::Requested),
            _ => Err(reader.error("a commit is of no known kind")),
        }
    }
}

/// A commit object does not open.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Not a commit of this format.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Does not open, or is not signed by its device.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Opens, but is not what the format says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Names the purpose of a commit's signature.
const CONTEXT: &str = "commit";
const SIGNATURE_BYTES: usize = 64;

impl Commit {
    /// The body's bytes. Device and sequence are not in it: they stand in the object's name, and
    /// encryption and signature bind them.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.option(self.previous, |writer, digest| writer.raw(&digest.0));
        self.time.write(&mut writer);
        writer.u8(self.kind as u8);
        write_label(&mut writer, &self.label);
        self.root.write(&mut writer);
        writer.option(self.links.as_ref(), |writer, tree| tree.write(writer));
        writer.varint(self.next_file);
        self.totals.write(&mut writer);
        writer.varint(self.stored_bytes);
        writer.varint(self.kept.len() as u64);
        self.kept.iter().for_each(|kept| kept.write(&mut writer));
        writer.finish()
    }

    /// Reads what [`Commit::encode`] made.
    pub fn decode(device: DeviceId, sequence: u64, bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new("commit", bytes);
        let commit = Commit {
            device,
            sequence,
            previous: reader.option(|reader| reader.array().map(Digest))?,
            time: Time::read(&mut reader)?,
            kind: CommitKind::read(&mut reader)?,
            label: read_label(&mut reader)?,
            root: Inode::read(&mut reader)?,
            links: reader.option(TreeRef::read)?,
            next_file: reader.varint()?,
            totals: Totals::read(&mut reader)?,
            stored_bytes: reader.varint()?,
            kept: read_kept(sequence, &mut reader)?,
        };
        let folder = commit.root.attributes.kind == FileKind::Directory;
        reader.require(folder, "its root is not a folder")?;
        reader.finish()?;
        Ok(commit)
    }

    /// The object to store: signed by its device, then encrypted.
    pub fn to_object(&self, epoch: u32, key: &CommitKey, signer: &DeviceSigningKey) -> Object {
        let header = Header {
            kind: ObjectKind::Commit,
            epoch,
        }
        .encode();
        let bound = bound(&header, self.device, self.sequence);
        let mut plaintext = self.encode();
        let signature = signer.sign(CONTEXT, &[&bound, plaintext.as_slice()].concat());
        plaintext.extend_from_slice(&signature);
        let placement = EnvelopedPlacement::Commit {
            device: self.device,
            sequence: self.sequence,
        };
        Object::enveloped(placement, epoch, &key.encrypt(&bound, &plaintext))
    }

    /// Opens a commit object that was found under this device and sequence. `signer` is the
    /// device's key in the keyring, and the keyring says which sequences of it may be believed;
    /// `key` belongs to the epoch of the object's header.
    pub fn from_object(
        device: DeviceId,
        sequence: u64,
        object: &[u8],
        key: &CommitKey,
        signer: &DeviceVerifyingKey,
    ) -> Result<Self, CommitError> {
        let (header, stored) = Header::parse(ObjectKind::Commit, object)?;
        let bound = bound(&header.encode(), device, sequence);
        let plaintext = key.decrypt(&bound, stored)?;
        let (body, signature) =
            plaintext
                .split_last_chunk::<SIGNATURE_BYTES>()
                .ok_or(CryptoError::Malformed {
                    what: "a signed commit",
                })?;
        signer.verify(CONTEXT, &[&bound, body].concat(), signature)?;
        Ok(Commit::decode(device, sequence, body)?)
    }
}

/// What encryption and signature bind a commit to: where it stands.
fn bound(header: &[u8; Header::LENGTH], device: DeviceId, sequence: u64) -> Vec<u8> {
    [header.as_slice(), &device.0, &sequence.to_le_bytes()].concat()
}

impl KeptSnapshot {
    fn write(&self, writer: &mut Writer) {
        writer.varint(self.sequence);
        writer.raw(&self.digest.0);
        self.time.write(writer);
        writer.u8(self.kind as u8);
        write_label(writer, &self.label);
        self.totals.write(writer);
        writer.varint(self.stored_bytes);
    }

    fn read(reader: &mut Reader<'_>) -> Decoded<Self> {
        Ok(KeptSnapshot {
            sequence: reader.varint()?,
            digest: Digest(reader.array()?),
            time: Time::read(reader)?,
            kind: CommitKind::read(reader)?,
            label: read_label(reader)?,
            totals: Totals::read(reader)?,
            stored_bytes: reader.varint()?,
        })
    }
}

fn read_kept(sequence: u64, reader: &mut Reader<'_>) -> Decoded<Vec<KeptSnapshot>> {
    let mut kept: Vec<KeptSnapshot> = Vec::new();
    for _ in 0..reader.count(42)? {
        let snapshot = KeptSnapshot::read(reader)?;
        let after = kept.last().map_or(0, |last| last.sequence);
        let ascends = after < snapshot.sequence && snapshot.sequence < sequence;
        reader.require(ascends, "its earlier snapshots are out of order")?;
        kept.push(snapshot);
    }
    Ok(kept)
}

fn write_label(writer: &mut Writer, label: &Option<String>) {
    writer.option(label.as_ref(), |writer, label| {
        writer.bytes(label.as_bytes())
    });
}

fn read_label(reader: &mut Reader<'_>) -> Decoded<Option<String>> {
    let label = reader.option(|reader| reader.text().map(str::to_owned))?;
    // A label becomes the name of a folder in snapshots/.
    let is_name = label
        .as_ref()
        .is_none_or(|label| is_entry_name(label.as_bytes()));
    reader.require(is_name, "a label cannot be a folder's name")?;
    Ok(label)
}
