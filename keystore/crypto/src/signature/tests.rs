use super::*;

/// RFC 8032, section 7.1, tests 1 to 3: the library signs and encodes as the RFC does.
#[test]
fn rfc_8032_vectors() {
    for (seed, public, message, signature) in [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
    ] {
        let seed: [u8; 32] = hex::decode(seed).unwrap().try_into().unwrap();
        let key = DeviceSigningKey::from_bytes(Zeroizing::new(seed));
        assert_eq!(hex::encode(key.verifying_key().to_bytes()), public);
        let message = hex::decode(message).unwrap();
        assert_eq!(hex::encode(key.key.sign(&message).to_bytes()), signature);
    }
}

#[test]
fn a_signature_is_for_one_message_context_and_key() {
    let key = DeviceSigningKey::generate();
    let check = key.verifying_key();
    let signature = key.sign("commit", b"message");
    let refused = Err(CryptoError::Authentication {
        what: "a device's signature",
    });
    assert_eq!(check.verify("commit", b"message", &signature), Ok(()));
    assert_eq!(check.verify("commit", b"massage", &signature), refused);
    assert_eq!(check.verify("slot", b"message", &signature), refused);
    // The border between context and message does not slide.
    assert_eq!(check.verify("commitm", b"essage", &signature), refused);
    let other = DeviceSigningKey::generate().verifying_key();
    assert_eq!(other.verify("commit", b"message", &signature), refused);
    for bit in 0..512 {
        let mut damaged = signature;
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(
            check.verify("commit", b"message", &damaged),
            refused,
            "bit {bit}"
        );
    }
}

#[test]
fn a_weak_public_key_is_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    assert!(DeviceVerifyingKey::from_bytes(&identity).is_err());
    let key = DeviceSigningKey::generate().verifying_key();
    assert_eq!(DeviceVerifyingKey::from_bytes(&key.to_bytes()), Ok(key));
}

#[test]
fn a_key_comes_back_from_its_bytes() {
    let key = DeviceSigningKey::generate();
    let back = DeviceSigningKey::from_bytes(Zeroizing::new(*key.expose_secret()));
    assert_eq!(back.verifying_key(), key.verifying_key());
}
