use super::*;
use holdfast_crypto::ArchiveSecret;

const KIND: ChunkKind = ChunkKind::Data;

#[test]
fn a_chunk_comes_back_and_nothing_else_does() {
    let ids = ArchiveSecret::generate().chunk_id_key();
    let session = SessionKey::generate();
    let plaintext = b"hold fast ".repeat(1000);
    let id = ids.id(1, KIND, &plaintext);
    let stored = encrypt(&session, KIND, &id, &plaintext);
    assert!(
        stored.len() < plaintext.len() / 10,
        "it was compressed first"
    );

    let open =
        |kind, id: &ChunkId, length, bytes: &[u8]| decrypt(&session, &ids, kind, id, length, bytes);
    let length = plaintext.len() as u32;
    assert_eq!(
        open(KIND, &id, length, stored.as_bytes()).unwrap(),
        plaintext
    );

    let mut changed = stored.as_bytes().to_vec();
    changed[30] ^= 1;
    assert!(matches!(
        open(KIND, &id, length, &changed),
        Err(DecryptError::Crypto(_))
    ));
    assert!(matches!(
        open(ChunkKind::Tree, &id, length, stored.as_bytes()),
        Err(DecryptError::Crypto(_))
    ));
    assert!(matches!(
        open(KIND, &id, length - 1, stored.as_bytes()),
        Err(DecryptError::Decompress(_))
    ));
}

#[test]
fn content_under_another_id_is_refused() {
    let ids = ArchiveSecret::generate().chunk_id_key();
    let session = SessionKey::generate();
    let id = ids.id(1, KIND, b"what it should be");
    let stored = encrypt(&session, KIND, &id, b"what a bad writer put there");
    let opened = decrypt(&session, &ids, KIND, &id, 27, stored.as_bytes());
    assert!(matches!(opened, Err(DecryptError::OtherContent)));
}
