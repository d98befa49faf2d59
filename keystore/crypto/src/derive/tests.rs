use super::*;

/// Every label of the format, under the secret 00 01 .. 1f. Calculated once with another
/// implementation of HKDF; a change here is a change of the format.
#[test]
fn labels_are_frozen() {
    let secret: [u8; 32] = std::array::from_fn(|n| n as u8);
    for (label, key) in [
        (
            "keyring",
            "3b47b30054a3820a23356f7cf0a7c268400aac93f98150a392de17fdb31244f2",
        ),
        (
            "log-wrap",
            "f597dcf9e96de039fb14462894c8b9d665a4d3c857c5e95292f6f489981e4aec",
        ),
        (
            "archive-key-pair",
            "037cd431bdc01d4ab7660921229e2354abe152895b2dbc790db02443911c889e",
        ),
        (
            "chunk-id",
            "a49f9c54d09dd9c7b198ac8de8880105fc4ce2b9678dd2dc941cdd6ddc8e4f3b",
        ),
        (
            "chunker",
            "c0e6388de87286a4640bd1f817f249541a60024a1ae85623236c855faa0114b1",
        ),
        (
            "index",
            "6d6c4f1b75e7fd21dc78c79c12768fe4b65a68be43b3dcebe97585e0b651b95e",
        ),
        (
            "commit",
            "337bdc9fb69d861938c1398a9aa19ed06bec558178a2bfce3058454e77d02d4e",
        ),
        (
            "name",
            "14b633e14cd355f91e50f7175cf9959181ce1a15146610636438f122e55ebe77",
        ),
        (
            "fingerprint",
            "29cedfe7b4b3d862363eed6271137e444a6ba43871dc1c4165d64d9bcd642a19",
        ),
        (
            "recovery-key-pair",
            "3b9dbe40e424f7429de021a6e02ac9ddb5a734addc0dd98e299060aa3a932b31",
        ),
        (
            "gear",
            "95634a9427b7543ca4d5ae2c9d5e957241aaaeeeafaa9f6785e6c675f09a0b61",
        ),
        (
            "commitment/user-key",
            "176575cb3d1ee98a91b38434de5b5dccfb9ff07238590781bca9fc3d320b5d7b",
        ),
        (
            "commitment/session-key",
            "16ce22c472355672e17090aecbd59388beefa2bb27cf9d4f0e0b353371b1678f",
        ),
        (
            "commitment/log-key",
            "a180e74060eb3dac4ffa8e0c1177df8020a4ec3b9e637f50051bc32aab444e80",
        ),
    ] {
        assert_eq!(hex::encode(derive(&secret, label).expose()), key, "{label}");
    }
}

/// RFC 5869, appendix A.3: HKDF-SHA256 with an empty salt and empty info.
#[test]
fn an_absent_salt_is_an_empty_one() {
    let mut output = [0; 42];
    Hkdf::<Sha256>::new(None, &[0x0b; 22])
        .expand(&[], &mut output)
        .unwrap();
    assert_eq!(
        hex::encode(output),
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    );
}

/// A longer output begins with the shorter one (the gear table is 2048 bytes of it).
#[test]
fn outputs_of_any_length_agree() {
    let mut long = [0; 2048];
    derive_into(&[7; 32], "gear", &mut long);
    assert_eq!(long[..32], *derive(&[7; 32], "gear").expose());
}
