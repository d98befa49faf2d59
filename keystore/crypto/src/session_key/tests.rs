use super::*;

fn id(fill: u8) -> ChunkId {
    ChunkId {
        epoch: 3,
        hash: [fill; 32],
    }
}

#[test]
fn a_chunk_opens_as_what_it_was_stored_as_and_as_nothing_else() {
    let key = SessionKey::generate();
    let stored = key.encrypt_chunk(ChunkKind::Data, &id(1), b"content");
    let open = |key: &SessionKey, kind, id| key.decrypt_chunk(kind, &id, stored.as_bytes());
    assert_eq!(open(&key, ChunkKind::Data, id(1)).unwrap(), b"content");

    let refused = Err(CryptoError::Authentication { what: "a chunk" });
    assert_eq!(open(&key, ChunkKind::Tree, id(1)), refused);
    assert_eq!(open(&key, ChunkKind::Data, id(2)), refused);
    assert_eq!(
        open(&key, ChunkKind::Data, ChunkId { epoch: 4, ..id(1) }),
        refused
    );
    assert_eq!(
        open(&SessionKey::generate(), ChunkKind::Data, id(1)),
        refused
    );
}

#[test]
fn an_empty_chunk_is_a_chunk() {
    let key = SessionKey::generate();
    let stored = key.encrypt_chunk(ChunkKind::List, &id(1), b"");
    assert_eq!(stored.len(), crate::CIPHERTEXT_OVERHEAD_BYTES);
    assert_eq!(
        key.decrypt_chunk(ChunkKind::List, &id(1), stored.as_bytes())
            .unwrap(),
        b""
    );
}

/// The bytes that a chunk authenticates, as `docs/format/keys.md` spells them.
#[test]
fn associated_data_of_a_chunk_is_frozen() {
    assert_eq!(
        hex::encode(chunk_associated_data(
            ChunkKind::Tree,
            &ChunkId {
                epoch: 0x0a0b0c0d,
                hash: [0xee; 32]
            }
        )),
        format!(
            "{}0100020d0c0b0a{}",
            hex::encode("holdfast/1/chunk"),
            "ee".repeat(32)
        )
    );
}
