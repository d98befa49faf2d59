use super::*;
use crate::xaes::tests::opens_under_both;

fn user_key(fill: u8) -> UserKey {
    UserKey::from_bytes(Zeroizing::new([fill; 32]))
}

#[test]
fn wrapped_log_key_comes_back_with_the_same_user_key_only() {
    let key = LogKey::generate();
    let wrapped = key.wrap(&user_key(1));
    assert_eq!(wrapped.len(), WRAPPED_LOG_KEY_BYTES);
    let back = LogKey::unwrap(&user_key(1), &wrapped).unwrap();
    let record = key.encrypt(b"place", b"record");
    assert_eq!(
        back.decrypt(b"place", record.as_bytes()).unwrap(),
        b"record"
    );
    assert!(back.decrypt(b"another place", record.as_bytes()).is_err());
    assert_eq!(
        LogKey::unwrap(&user_key(2), &wrapped).err(),
        Some(CryptoError::Authentication { what: WHAT })
    );
}

#[test]
fn appending_is_encrypting() {
    let key = LogKey::generate();
    let mut out = b"before".to_vec();
    key.encrypt_into(b"a", b"record", &mut out);
    assert_eq!(&out[..6], b"before");
    assert_eq!(key.decrypt(b"a", &out[6..]).unwrap(), b"record");
}

#[test]
fn every_flipped_bit_of_a_wrapped_log_key_is_refused() {
    let wrapped = LogKey::generate().wrap(&user_key(1));
    for bit in 0..wrapped.len() * 8 {
        let mut damaged = wrapped.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(LogKey::unwrap(&user_key(1), &damaged).is_err(), "bit {bit}");
    }
    for length in 0..wrapped.len() {
        assert!(
            LogKey::unwrap(&user_key(1), &wrapped[..length]).is_err(),
            "{length} bytes"
        );
    }
}

/// A wrapping that opens under two user keys to two log keys is built, and one of them refuses it.
#[test]
fn two_keys_cannot_open_one_wrapped_key() {
    let associated = wrap_associated_data().try_into().unwrap();
    let wrapping_keys = [1, 2].map(|fill| user_key(fill).log_wrap_key());
    let mut forged = opens_under_both(&wrapping_keys[0], &wrapping_keys[1], &associated);
    let opened = wrapping_keys[0]
        .decrypt(WHAT, &associated, &forged)
        .unwrap();
    let committed = SecretBytes::from_slice(&opened).unwrap();
    forged.extend_from_slice(&Committed::Log.commitment(&committed));

    assert!(LogKey::unwrap(&user_key(1), &forged).is_ok());
    assert_eq!(
        LogKey::unwrap(&user_key(2), &forged).err(),
        Some(CryptoError::Commitment { what: WHAT })
    );
}
