use super::*;
use bech32::{Bech32m, Hrp};

const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

fn code() -> RecoveryCode {
    RecoveryCode(Box::new(Zeroizing::new([0x5a; CODE_BYTES])))
}

fn plain(code: &RecoveryCode) -> String {
    code.to_printed().replace('-', "")
}

fn error(typed: &str) -> RecoveryCodeError {
    RecoveryCode::parse(typed).err().expect("refused")
}

#[test]
fn printed_in_eleven_groups_of_four() {
    let printed = code().to_printed();
    let groups: Vec<&str> = printed.split('-').collect();
    assert_eq!(groups.len(), 11);
    assert!(groups.iter().all(|group| group.len() == 4));
    assert_eq!(groups[0], "hfr1");
}

#[test]
fn typed_as_people_type() {
    let printed = code().to_printed();
    for typed in [
        printed.to_string(),
        printed.to_uppercase(),
        printed.replace('-', " "),
        printed.replace('-', ""),
        printed.replace('-', "\u{2013}"),
        format!("  {}\n", printed.replace('-', " - ")),
        printed.replace("hfr1", "HFR1"),
    ] {
        let read = RecoveryCode::parse(&typed).unwrap_or_else(|e| panic!("{typed}: {e}"));
        assert_eq!(read.0.as_slice(), code().0.as_slice());
    }
}

#[test]
fn random_codes_come_back() {
    for _ in 0..200 {
        let code = RecoveryCode::generate();
        let read = RecoveryCode::parse(&code.to_printed()).unwrap();
        assert_eq!(read.0.as_slice(), code.0.as_slice());
    }
}

#[test]
fn a_single_wrong_character_is_placed() {
    let code = RecoveryCode::generate();
    let right = plain(&code);
    for index in 4..CODE_CHARACTERS {
        for character in ALPHABET
            .chars()
            .filter(|c| *c != char::from(right.as_bytes()[index]))
        {
            let mut typed = right.clone();
            typed.replace_range(index..=index, &character.to_string());
            let (place, group) = (index + 1, index / 4 + 1);
            assert_eq!(
                error(&typed),
                RecoveryCodeError::WrongCharacter {
                    character,
                    place,
                    group
                }
            );
        }
    }
}

#[test]
fn what_is_wrong_is_said() {
    let right = plain(&code());
    let expected = CODE_CHARACTERS;
    assert_eq!(
        error(&right[..43]),
        RecoveryCodeError::Length {
            found: 43,
            expected
        }
    );
    assert_eq!(
        error(&format!("{right}q")),
        RecoveryCodeError::Length {
            found: 45,
            expected
        }
    );
    assert_eq!(error(""), RecoveryCodeError::Length { found: 0, expected });
    assert_eq!(
        error(&right.replacen("hfr1", "hfs1", 1)),
        RecoveryCodeError::Prefix
    );
    let mut typed = right.clone();
    typed.replace_range(9..10, "O");
    assert_eq!(
        error(&typed),
        RecoveryCodeError::Character {
            character: 'o',
            place: 10,
            group: 3
        }
    );
    typed.replace_range(9..10, "é");
    assert!(matches!(
        error(&typed),
        RecoveryCodeError::Character {
            character: 'é', ..
        }
    ));
    // The code of another sort of thing: right checksum, other prefix.
    let other = bech32::encode::<Bech32m>(Hrp::parse("hfs").unwrap(), &[1; CODE_BYTES]).unwrap();
    assert_eq!(error(&other), RecoveryCodeError::Prefix);
}

#[test]
fn two_swapped_characters_are_refused() {
    let code = RecoveryCode::generate();
    let right = plain(&code);
    for index in 4..CODE_CHARACTERS - 1 {
        let mut typed = right.clone().into_bytes();
        typed.swap(index, index + 1);
        if typed != right.as_bytes() {
            assert_eq!(
                error(&String::from_utf8(typed).unwrap()),
                RecoveryCodeError::Checksum
            );
        }
    }
}

/// The two spare bits of the last content character: a right checksum does not excuse them.
#[test]
fn spare_bits_are_zero() {
    use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
    let mut symbols: Vec<bech32::Fe32> = [0x5a; CODE_BYTES].into_iter().bytes_to_fes().collect();
    *symbols.last_mut().unwrap() = bech32::Fe32::try_from(symbols[33].to_u8() | 1).unwrap();
    let typed: String = symbols
        .into_iter()
        .with_checksum::<Bech32m>(&Hrp::parse("hfr").unwrap())
        .chars()
        .collect();
    assert_eq!(error(&typed), RecoveryCodeError::Checksum);
}

#[test]
fn the_slot_opens_with_the_code_and_with_nothing_else() {
    let code = RecoveryCode::generate();
    let user_key = UserKey::generate();
    let slot = code.key_pair().public().wrap(&user_key);
    assert_eq!(slot.len(), SLOT_BYTES);
    let again = RecoveryCode::parse(&code.to_printed()).unwrap();
    assert_eq!(
        again.key_pair().unwrap(&slot).unwrap().expose_secret(),
        user_key.expose_secret()
    );

    let refused = Some(CryptoError::Authentication {
        what: "the recovery slot",
    });
    assert_eq!(
        RecoveryCode::generate().key_pair().unwrap(&slot).err(),
        refused
    );
    for bit in (0..slot.len() * 8).step_by(61) {
        let mut damaged = slot.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(code.key_pair().unwrap(&damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn a_slot_is_built_anew_from_the_public_key_alone() {
    let pair = code().key_pair();
    let public = RecoveryPublicKey::from_bytes(&pair.public().to_bytes()).unwrap();
    let user_key = UserKey::generate();
    let opened = pair.unwrap(&public.wrap(&user_key)).unwrap();
    assert_eq!(opened.expose_secret(), user_key.expose_secret());
}

#[test]
fn the_commitment_of_another_user_key_is_refused() {
    let pair = code().key_pair();
    let mut slot = pair.public().wrap(&UserKey::generate());
    let other = pair.public().wrap(&UserKey::generate());
    slot[SLOT_BYTES - 32..].copy_from_slice(&other[SLOT_BYTES - 32..]);
    assert_eq!(
        pair.unwrap(&slot).err(),
        Some(CryptoError::Commitment {
            what: "the recovery slot"
        })
    );
}
