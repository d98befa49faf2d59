use holdfast_crypto::{AdminKeyPair, QuorumSlot};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;
use crate::calls::{EscrowPolicy, SecretHex};
use crate::names::{HexBytes, Id, PersonName};

fn name(text: &str) -> PersonName {
    text.parse().unwrap()
}

const ARCHIVE: Id = HexBytes([3; 16]);

struct Organisation {
    root: PolicyRootKey,
    admins: Vec<(PersonName, AdminKeyPair)>,
}

impl Organisation {
    fn new() -> Organisation {
        let admin = |text: &&str| (name(text), AdminKeyPair::generate());
        Organisation {
            root: PolicyRootKey::generate(),
            admins: ["frank", "grace", "heidi"].iter().map(admin).collect(),
        }
    }

    fn listed(&self) -> Vec<Admin> {
        let listed = |(name, pair): &(PersonName, AdminKeyPair)| Admin {
            name: name.clone(),
            key: pair.public(),
        };
        self.admins.iter().map(listed).collect()
    }

    fn policy(&self) -> SignedPolicy {
        SignedPolicy::sign(&self.root, 2, &self.listed(), None).unwrap()
    }
}

/// A password's key, as a registration gives it.
fn password_key() -> PasswordSlotKey {
    let setup = PasswordSetup::generate();
    let password = Zeroizing::new("correct horse".to_owned());
    let (registration, request) = PasswordRegistration::start(password, PasswordCost::for_tests());
    let response = setup.register("alice", &request).unwrap();
    registration.finish("alice", &response).unwrap().1
}

struct Enrolled {
    organisation: Organisation,
    user_key: UserKey,
    password: PasswordSlotKey,
    code: RecoveryCode,
    half: RecoveryHalf,
    record: SlotsRecord,
}

fn enrolled() -> Enrolled {
    let organisation = Organisation::new();
    let (user_key, password, code) = (
        UserKey::generate(),
        password_key(),
        RecoveryCode::generate(),
    );
    let half = RecoveryHalf::generate();
    let escrowed = Escrowed::make(&name("alice"), &ARCHIVE, &user_key, &password, &code)
        .with_admins(
            &name("alice"),
            &ARCHIVE,
            &user_key,
            &half,
            &organisation.policy(),
        );
    let record = SlotsRecord::sign(name("alice"), ARCHIVE, 4, Some(escrowed), &user_key);
    Enrolled {
        organisation,
        user_key,
        password,
        code,
        half,
        record,
    }
}

#[test]
fn every_slot_of_a_record_opens() {
    let enrolled = enrolled();
    let record = SlotsRecord::parse(&enrolled.record.to_bytes()).unwrap();
    assert!(record == enrolled.record);
    assert_eq!(record.policy(), EscrowPolicy::Standard);
    let key = enrolled.user_key.expose_secret();
    let by_password = record.open_with_password(&enrolled.password).unwrap();
    assert_eq!(by_password.expose_secret(), key);
    let by_code = record.open_with_code(&enrolled.code).unwrap();
    assert_eq!(by_code.expose_secret(), key);
    let shown = record.recovery_code(&by_password).unwrap();
    assert_eq!(*shown.to_printed(), *enrolled.code.to_printed());
    let place = record.quorum_place().unwrap();
    let (policy, slot) = record.escrowed.clone().unwrap().quorum.unwrap();
    assert_eq!(policy.digest, enrolled.organisation.policy().digest());
    let piece = |number: usize| {
        let (_, pair) = &enrolled.organisation.admins[number - 1];
        pair.open(&place, number as u8, &slot.pieces[number - 1])
            .unwrap()
    };
    let by_admins = slot
        .open(&place, &enrolled.half, &[piece(1), piece(3)])
        .unwrap();
    assert_eq!(by_admins.expose_secret(), key);
}

/// Swapped, replaced, lowered, taken away, or of another user: whoever opens one slot finds out.
#[test]
fn a_record_that_the_server_has_changed_is_refused() {
    let (mine, other) = (enrolled(), enrolled());
    let refused = |record: &SlotsRecord| {
        let record = SlotsRecord::parse(&record.to_bytes());
        record
            .and_then(|record| record.open_with_password(&mine.password))
            .is_err()
    };
    assert!(!refused(&mine.record));
    let changed = |change: &dyn Fn(&mut SlotsRecord)| {
        let mut record = mine.record.clone();
        change(&mut record);
        assert!(record != mine.record);
        assert!(refused(&record));
    };
    let theirs = || other.record.escrowed.clone().unwrap();
    changed(&|record| record.user = name("bob"));
    changed(&|record| record.archive = HexBytes([4; 16]));
    changed(&|record| record.version = 5);
    changed(&|record| record.escrowed = None);
    changed(&|record| record.escrowed = other.record.escrowed.clone());
    changed(&|record| record.escrowed.as_mut().unwrap().password = theirs().password);
    changed(&|record| record.escrowed.as_mut().unwrap().recovery = theirs().recovery);
    changed(&|record| record.escrowed.as_mut().unwrap().code = theirs().code);
    changed(&|record| record.escrowed.as_mut().unwrap().quorum = theirs().quorum);
    changed(&|record| record.escrowed.as_mut().unwrap().quorum = None);
    changed(&|record| {
        let (_, slot) = record.escrowed.as_mut().unwrap().quorum.as_mut().unwrap();
        slot.pieces.swap(0, 1);
    });
    changed(&|record| {
        let (policy, _) = record.escrowed.as_mut().unwrap().quorum.as_mut().unwrap();
        policy.version += 1;
    });
    let seen = mine.record.expect(&name("alice"), &ARCHIVE, 5);
    assert_eq!(seen, Err(SlotsError::RolledBack { found: 4, seen: 5 }));
    assert!(mine.record.expect(&name("alice"), &ARCHIVE, 4).is_ok());
    assert_eq!(
        mine.record.expect(&name("bob"), &ARCHIVE, 4),
        Err(SlotsError::Foreign)
    );
    let elsewhere = mine.record.expect(&name("alice"), &HexBytes([9; 16]), 4);
    assert_eq!(elsewhere, Err(SlotsError::Foreign));
}

#[test]
fn records_without_admins_or_without_slots_are_records() {
    let key = UserKey::generate();
    let custom = SlotsRecord::sign(name("alice"), ARCHIVE, 1, None, &key);
    assert_eq!(custom.policy(), EscrowPolicy::Custom);
    let read = SlotsRecord::parse(&custom.to_bytes()).unwrap();
    assert!(read == custom && read.verify(&key).is_ok());
    assert_eq!(
        read.open_with_code(&RecoveryCode::generate()).err(),
        Some(SlotsError::NoSlot)
    );
    let escrowed = Escrowed::make(
        &name("alice"),
        &ARCHIVE,
        &key,
        &password_key(),
        &RecoveryCode::generate(),
    );
    let private = SlotsRecord::sign(name("alice"), ARCHIVE, 1, Some(escrowed), &key);
    assert_eq!(
        SlotsRecord::parse(&private.to_bytes()).unwrap().policy(),
        EscrowPolicy::Private
    );
    assert_eq!(private.quorum_place(), Err(SlotsError::NoSlot));
}

#[test]
fn policies_are_chained_and_signed_by_one_root() {
    let organisation = Organisation::new();
    let first = organisation.policy();
    let read = SignedPolicy::parse(first.as_bytes()).unwrap();
    assert_eq!(
        (read.version(), read.threshold(), read.admins().len()),
        (1, 2, 3)
    );
    let admins = organisation.listed();
    let sign = |root, threshold, admins: &[Admin], previous| {
        SignedPolicy::sign(root, threshold, admins, previous)
    };
    let second = sign(&organisation.root, 2, &admins[..2], Some(&first)).unwrap();
    let third = sign(&organisation.root, 3, &admins, Some(&second)).unwrap();
    assert!(second.expect_after(&first).is_ok());
    assert!(first.expect_after(&first).is_ok());
    let chain = |found, known| Err(PolicyError::Chain { found, known });
    assert_eq!(first.expect_after(&second), chain(1, 2));
    assert_eq!(third.expect_after(&first), chain(3, 1));
    // Another second policy of the same root.
    let fork = sign(&organisation.root, 3, &admins, Some(&first)).unwrap();
    assert_eq!(fork.expect_after(&second), chain(2, 2));
    let other = PolicyRootKey::generate();
    let forged = sign(&other, 2, &admins, None).unwrap();
    assert!(matches!(
        forged.expect_after(&first),
        Err(PolicyError::Root { .. })
    ));
    let foreign = sign(&other, 2, &admins, Some(&first)).err();
    assert!(matches!(foreign, Some(PolicyError::Root { .. })));
    for (threshold, admins) in [
        (1, &admins[..]),
        (4, &admins[..]),
        (2, &admins[..1]),
        (0, &[]),
    ] {
        let refused = sign(&organisation.root, threshold, admins, None).err();
        assert_eq!(refused, Some(PolicyError::Threshold));
    }
    let twice = [admins[0].clone(), admins[0].clone()];
    let refused = sign(&organisation.root, 2, &twice, None).err();
    assert_eq!(refused, Some(PolicyError::Threshold));
}

/// Every single bit of a policy is signed.
#[test]
fn a_policy_with_one_bit_changed_is_none() {
    let policy = Organisation::new().policy();
    for place in (0..policy.as_bytes().len()).step_by(7) {
        let mut bytes = policy.as_bytes().to_vec();
        bytes[place] ^= 1 << (place % 8);
        assert_eq!(
            SignedPolicy::parse(&bytes).err(),
            Some(PolicyError::Malformed),
            "byte {place}"
        );
    }
}

#[test]
fn a_token_is_read_as_it_was_printed_or_not_at_all() {
    let token = |policy_root| EnrolmentToken {
        secret: SecretHex::copy_of(&[5; 32]),
        authority: HexBytes([6; 32]),
        policy_root,
        user: name("alice"),
        address: "https://keystore.example.org:8470".to_owned(),
    };
    for root in [None, Some(Digest([7; 32]))] {
        let printed = token(root).to_printed();
        let pasted = format!(" {}\n{}\n", &printed[..40], &printed[40..]);
        let read: EnrolmentToken = pasted.parse().unwrap();
        assert_eq!(read.secret.expose_secret(), &[5; 32]);
        assert_eq!(
            (read.authority, read.policy_root),
            (HexBytes([6; 32]), root)
        );
        assert_eq!(read.user, name("alice"));
        assert_eq!(read.address, "https://keystore.example.org:8470");
        for cut in 0..printed.len() {
            assert!(printed[..cut].parse::<EnrolmentToken>().is_err());
        }
        assert!(!format!("{read:?}").contains("0505"));
    }
    let error = |text: &str| text.parse::<EnrolmentToken>().unwrap_err();
    assert_eq!(error("hfs1-abc"), TokenError::Prefix);
    assert_eq!(error(&"x".repeat(10_000)), TokenError::Prefix);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Bytes and records are one to one, and no bytes end in a panic.
    #[test]
    fn any_bytes_are_read_without_a_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..3000),
        magic in prop::sample::select(vec![b"hfslots1", b"hfadmin1"]),
    ) {
        for (place, byte) in magic.iter().enumerate() {
            if let Some(start) = bytes.get_mut(place) {
                *start = *byte;
            }
        }
        prop_assert!(SignedPolicy::parse(&bytes).is_err());
        if let Ok(record) = SlotsRecord::parse(&bytes) {
            prop_assert_eq!(record.to_bytes(), bytes);
        }
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in ".{0,300}", tail in "[A-Za-z0-9_-]{0,300}") {
        let _ = text.parse::<EnrolmentToken>();
        let token = format!("hfe1-{tail}").parse::<EnrolmentToken>();
        prop_assert!(token.is_err());
    }
}

/// The third slot needs a policy's admins, so no record holds a slot that nobody can open.
#[test]
fn a_quorum_of_one_cannot_be_written() {
    let mut record = enrolled().record;
    let (_, slot) = record.escrowed.as_mut().unwrap().quorum.as_mut().unwrap();
    *slot = QuorumSlot {
        threshold: 1,
        ..slot.clone()
    };
    assert_eq!(
        SlotsRecord::parse(&record.to_bytes()),
        Err(SlotsError::Malformed)
    );
}
