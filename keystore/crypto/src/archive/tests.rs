use super::*;

fn secret(fill: u8) -> ArchiveSecret {
    ArchiveSecret::from_bytes(Zeroizing::new([fill; 32]))
}

#[test]
fn wrapped_session_key_comes_back_with_the_key_pair_of_its_epoch_only() {
    let pair = secret(1).archive_key_pair();
    let key = SessionKey::generate();
    let wrapped = pair.public().wrap(5, &key);
    assert_eq!(wrapped.len(), WRAPPED_SESSION_KEY_BYTES);
    let back = pair.unwrap(5, &wrapped).unwrap();
    assert_eq!(back.secret().expose(), key.secret().expose());

    let refused = Some(CryptoError::Authentication {
        what: "a wrapped session key",
    });
    assert_eq!(pair.unwrap(6, &wrapped).err(), refused);
    assert_eq!(
        secret(2).archive_key_pair().unwrap(5, &wrapped).err(),
        refused
    );
}

#[test]
fn a_writer_needs_the_bytes_of_the_public_key_only() {
    let pair = secret(1).archive_key_pair();
    let bytes = pair.public().to_bytes();
    assert_eq!(bytes.len(), PUBLIC_KEY_BYTES);
    let public = ArchivePublicKey::from_bytes(&bytes).unwrap();
    let key = SessionKey::generate();
    let back = pair.unwrap(1, &public.wrap(1, &key)).unwrap();
    assert_eq!(back.secret().expose(), key.secret().expose());
    assert!(ArchivePublicKey::from_bytes(&bytes[1..]).is_err());
    assert!(ArchivePublicKey::from_bytes(&[0xff; PUBLIC_KEY_BYTES]).is_err());
}

/// Every 7th bit of the long part, every bit of the rest.
#[test]
fn a_flipped_bit_of_a_wrapped_session_key_is_refused() {
    let pair = secret(1).archive_key_pair();
    let wrapped = pair.public().wrap(1, &SessionKey::generate());
    let long = 1120 * 8;
    for bit in (0..long).step_by(7).chain(long..wrapped.len() * 8) {
        let mut damaged = wrapped.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(pair.unwrap(1, &damaged).is_err(), "bit {bit}");
    }
    for length in [0, 31, 1119, 1120, 1168, wrapped.len() - 1] {
        assert!(
            pair.unwrap(1, &wrapped[..length]).is_err(),
            "{length} bytes"
        );
    }
    assert!(
        pair.unwrap(1, &[wrapped.as_slice(), &[0]].concat())
            .is_err()
    );
}

#[test]
fn the_commitment_of_another_key_is_refused() {
    let pair = secret(1).archive_key_pair();
    let mut wrapped = pair.public().wrap(1, &SessionKey::generate());
    let other = pair.public().wrap(1, &SessionKey::generate());
    let body = wrapped.len() - 32;
    wrapped[body..].copy_from_slice(&other[body..]);
    assert_eq!(
        pair.unwrap(1, &wrapped).err(),
        Some(CryptoError::Commitment {
            what: "a wrapped session key"
        })
    );
}

#[test]
fn roles_do_not_open_each_other() {
    let secret = secret(1);
    let stored = secret.index_key().encrypt(b"a", b"table");
    assert_eq!(
        secret.index_key().decrypt(b"a", stored.as_bytes()).unwrap(),
        b"table"
    );
    assert!(secret.index_key().decrypt(b"b", stored.as_bytes()).is_err());
    assert!(
        secret
            .commit_key()
            .decrypt(b"a", stored.as_bytes())
            .is_err()
    );
}

#[test]
fn ids_depend_on_key_kind_and_content() {
    let key = secret(1).chunk_id_key();
    let id = key.id(1, ChunkKind::Data, b"content");
    assert_eq!(id, key.id(1, ChunkKind::Data, b"content"));
    assert_ne!(id.hash, key.id(1, ChunkKind::Tree, b"content").hash);
    assert_ne!(id.hash, key.id(1, ChunkKind::Data, b"contend").hash);
    assert_ne!(
        id.hash,
        secret(2)
            .chunk_id_key()
            .id(1, ChunkKind::Data, b"content")
            .hash
    );
    assert_eq!(id.hash, key.id(2, ChunkKind::Data, b"content").hash);
}

#[test]
fn name_hashes_fit_the_kernel() {
    let key = secret(1).name_key();
    for n in 0..10_000_u32 {
        assert!((16..1 << 63).contains(&key.hash(&n.to_le_bytes())));
    }
}

#[test]
fn gear_tables_of_two_archives_share_no_word() {
    let (one, two) = (
        secret(1).chunker_key().gear_table(),
        secret(2).chunker_key().gear_table(),
    );
    assert!(one.iter().all(|word| !two.contains(word)));
}
