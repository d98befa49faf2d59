//! Bytes made once by the first release of format 1 still open, and everything derived still comes
//! out the same.
//!
//! `vectors/format-1.json` is never made anew: if a test here fails, archives out there stop
//! opening. The same file checks readers in other languages (`docs/format/keys.md`).

#![allow(clippy::unwrap_used, reason = "a test says what failed by failing")]

use holdfast_crypto::*;
use zeroize::Zeroizing;

struct Vectors(serde_json::Value);

impl Vectors {
    fn read() -> Self {
        Vectors(serde_json::from_str(include_str!("vectors/format-1.json")).unwrap())
    }

    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("no {name}"))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        hex::decode(self.text(name)).unwrap()
    }

    fn secret(&self, name: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.bytes(name).try_into().unwrap())
    }

    fn user_key(&self) -> UserKey {
        UserKey::from_bytes(self.secret("user_key"))
    }

    fn archive(&self) -> ArchiveSecret {
        ArchiveSecret::from_bytes(self.secret("archive_secret"))
    }
}

const EPOCH: u32 = 7;
const ASSOCIATED: &[u8] = b"associated data";
const CHUNK: &[u8] = b"content of a chunk";

#[test]
fn the_recovery_code_still_opens_its_slot() {
    let v = Vectors::read();
    let code = RecoveryCode::parse(v.text("recovery_code")).unwrap();
    assert_eq!(code.to_printed().as_str(), v.text("recovery_code"));
    let pair = code.key_pair();
    let public = Digest::of(&pair.public().to_bytes());
    assert_eq!(public.to_string(), v.text("recovery_public_key_sha256"));
    let user_key = pair.unwrap(&v.bytes("recovery_slot")).unwrap();
    assert_eq!(user_key.expose_secret(), v.user_key().expose_secret());
}

#[test]
fn the_session_key_still_unwraps_and_opens_its_chunk() {
    let v = Vectors::read();
    let pair = v.archive().archive_key_pair();
    let public = Digest::of(&pair.public().to_bytes());
    assert_eq!(public.to_string(), v.text("archive_public_key_sha256"));
    let session = pair.unwrap(EPOCH, &v.bytes("wrapped_session_key")).unwrap();
    let id = v.text("chunk_id").parse().unwrap();
    let chunk = session
        .decrypt_chunk(ChunkKind::Data, &id, &v.bytes("chunk"))
        .unwrap();
    assert_eq!(chunk, CHUNK);
}

#[test]
fn the_same_content_still_has_the_same_names_and_cuts() {
    let v = Vectors::read();
    let ids = v.archive().chunk_id_key();
    assert_eq!(
        ids.id(EPOCH, ChunkKind::Data, CHUNK).to_string(),
        v.text("chunk_id")
    );
    assert_eq!(
        ids.id(EPOCH, ChunkKind::Tree, CHUNK).to_string(),
        v.text("tree_id_of_same_content")
    );

    let gear = v.archive().chunker_key().gear_table();
    let bytes: Vec<u8> = gear.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(hex::encode(&bytes[..16]), v.text("gear_table_first"));
    assert_eq!(Digest::of(&bytes).to_string(), v.text("gear_table_sha256"));

    let name = v.text("name").as_bytes();
    assert_eq!(
        v.archive().name_key().hash(name).to_string(),
        v.text("name_hash")
    );
    let fingerprint = v.archive().fingerprint_key().fingerprint(name);
    assert_eq!(fingerprint.to_string(), v.text("fingerprint"));
}

#[test]
fn keyring_index_and_commit_still_open() {
    let v = Vectors::read();
    let keyring = v
        .user_key()
        .keyring_key()
        .decrypt(ASSOCIATED, &v.bytes("keyring"))
        .unwrap();
    assert_eq!(*keyring, b"a keyring");
    let index = v
        .archive()
        .index_key()
        .decrypt(ASSOCIATED, &v.bytes("index"))
        .unwrap();
    assert_eq!(index, b"an index");
    let commit = v
        .archive()
        .commit_key()
        .decrypt(ASSOCIATED, &v.bytes("commit"))
        .unwrap();
    assert_eq!(commit, b"a commit");
}

#[test]
fn the_log_still_opens() {
    let v = Vectors::read();
    let log = LogKey::unwrap(&v.user_key(), &v.bytes("wrapped_log_key")).unwrap();
    assert_eq!(
        log.decrypt(ASSOCIATED, &v.bytes("log_record")).unwrap(),
        b"a record"
    );
}

#[test]
fn a_signature_is_still_the_same_bytes() {
    let v = Vectors::read();
    let key = DeviceSigningKey::from_bytes(v.secret("device_seed"));
    let public = key.verifying_key();
    assert_eq!(hex::encode(public.to_bytes()), v.text("device_public_key"));
    let signature = key.sign("commit", b"message");
    assert_eq!(hex::encode(signature), v.text("signature"));
    assert_eq!(public.verify("commit", b"message", &signature), Ok(()));
}
