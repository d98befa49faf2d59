//! What was escrowed once by the first release of its format still opens, with each of its slots, and what goes between programs is still
//! read and written the same.
//!
//! `vectors/escrow-1.json` is never made anew: if a test here fails, keys out there stay locked, and tokens and policies are refused. The page
//! that describes the bytes: `docs/format/escrow.md`.

#![allow(clippy::unwrap_used, reason = "a test says what failed by failing")]

use holdfast_crypto::LocalSecret;
use holdfast_protocol::calls::{EscrowPolicy, SecretHex};
use holdfast_protocol::escrow::*;
use holdfast_protocol::names::{HexBytes, Id, PersonName};
use zeroize::Zeroizing;

struct Vectors(serde_json::Value);

impl Vectors {
    fn read() -> Vectors {
        Vectors(serde_json::from_str(include_str!("vectors/escrow-1.json")).unwrap())
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

    fn user(&self) -> PersonName {
        self.text("user").parse().unwrap()
    }

    fn archive(&self) -> Id {
        self.text("archive").parse().unwrap()
    }

    fn user_key(&self) -> UserKey {
        UserKey::from_bytes(self.secret("user_key"))
    }

    fn record(&self) -> SlotsRecord {
        SlotsRecord::parse(&self.bytes("slots_standard")).unwrap()
    }

    fn policy(&self, which: &str) -> SignedPolicy {
        SignedPolicy::parse(&self.bytes(which)).unwrap()
    }

    fn admins(&self) -> Vec<AdminKeyPair> {
        let seeds = self.0["admin_seeds"].as_array().unwrap().iter();
        let pair = |seed: &serde_json::Value| {
            let bytes = hex::decode(seed.as_str().unwrap()).unwrap();
            AdminKeyPair::from_bytes(Zeroizing::new(bytes.try_into().unwrap()))
        };
        seeds.map(pair).collect()
    }

    /// Logs in at a server with the setup and the record of that time.
    fn password_key(&self) -> PasswordSlotKey {
        let setup = PasswordSetup::from_bytes(&self.bytes("password_setup")).unwrap();
        let record = PasswordRecord::from_bytes(&self.bytes("password_record")).unwrap();
        let password = Zeroizing::new(self.text("password").to_owned());
        let (proof, request) = PasswordProof::start(password, PasswordCost::standard());
        let (user, context) = (self.text("user"), [9; 32]);
        let (login, response) = setup
            .start_login(user, Some(record), &request, context)
            .unwrap();
        let (finalization, key) = proof.finish(user, &response, &context).unwrap();
        login.finish(&finalization).unwrap();
        key
    }
}

#[track_caller]
fn assert_same(found: &UserKey, v: &Vectors) {
    assert_eq!(found.expose_secret(), v.user_key().expose_secret());
}

#[test]
fn the_record_is_still_read_and_is_the_users() {
    let v = Vectors::read();
    let record = v.record();
    assert_eq!(record.to_bytes(), v.bytes("slots_standard"));
    record.expect(&v.user(), &v.archive(), 3).unwrap();
    assert_eq!(record.policy(), EscrowPolicy::Standard);
    record.verify(&v.user_key()).unwrap();
}

/// At what a guess at a password costs out there.
#[test]
fn the_password_still_opens_slot_1() {
    let v = Vectors::read();
    let opened = v.record().open_with_password(&v.password_key()).unwrap();
    assert_same(&opened, &v);
}

#[test]
fn the_recovery_code_still_opens_slot_2_and_is_still_shown() {
    let v = Vectors::read();
    let code = RecoveryCode::parse(v.text("recovery_code")).unwrap();
    let opened = v.record().open_with_code(&code).unwrap();
    assert_same(&opened, &v);
    let shown = v.record().recovery_code(&opened).unwrap();
    assert_eq!(shown.to_printed().as_str(), v.text("recovery_code"));
}

#[test]
fn two_admins_and_the_servers_half_still_open_slot_3() {
    let v = Vectors::read();
    let record = v.record();
    let place = record.quorum_place().unwrap();
    let (pinned, slot) = record.escrowed.unwrap().quorum.unwrap();
    assert_eq!(pinned.digest, v.policy("policy_second").digest());
    let half = RecoveryHalf::from_bytes(v.secret("recovery_half"));
    let admins = v.admins();
    for (a, b) in [(0, 1), (2, 0), (1, 2)] {
        let pieces = [a, b].map(|admin: usize| {
            let number = u8::try_from(admin + 1).unwrap();
            admins[admin]
                .open(&place, number, &slot.pieces[admin])
                .unwrap()
        });
        assert_same(&slot.open(&place, &half, &pieces).unwrap(), &v);
    }
}

/// Ed25519 has one signature for each key and message (RFC 8032), so these are made again to the byte.
#[test]
fn what_is_signed_still_comes_out_the_same() {
    let v = Vectors::read();
    let custom = SlotsRecord::sign(v.user(), v.archive(), 1, None, &v.user_key());
    assert_eq!(custom.to_bytes(), v.bytes("slots_custom"));
    let root = PolicyRootKey::from_bytes(v.secret("policy_root_seed"));
    let fingerprint = root.public().fingerprint();
    assert_eq!(fingerprint.to_string(), v.text("policy_root_fingerprint"));
    let listed = |(name, pair): (&str, &AdminKeyPair)| Admin {
        name: name.parse().unwrap(),
        key: pair.public(),
    };
    let pairs = v.admins();
    let names = ["frank", "grace", "heidi"];
    let admins: Vec<Admin> = names.into_iter().zip(&pairs).map(listed).collect();
    let first = SignedPolicy::sign(&root, 2, &admins[..2], None).unwrap();
    assert_eq!(first.as_bytes(), v.bytes("policy_first"));
    let second = SignedPolicy::sign(&root, 2, &admins, Some(&first)).unwrap();
    assert_eq!(second.as_bytes(), v.bytes("policy_second"));
    let read = v.policy("policy_second");
    read.expect_after(&v.policy("policy_first")).unwrap();
}

#[test]
fn the_token_is_still_printed_and_read_the_same() {
    let v = Vectors::read();
    let root = PolicyRootKey::from_bytes(v.secret("policy_root_seed")).public();
    let token = EnrolmentToken {
        secret: SecretHex::copy_of(&v.secret("token_secret")),
        authority: HexBytes(*v.secret("token_authority")),
        policy_root: Some(root.fingerprint()),
        user: v.user(),
        address: v.text("token_address").to_owned(),
    };
    assert_eq!(token.to_printed().as_str(), v.text("token"));
    let read: EnrolmentToken = v.text("token").parse().unwrap();
    assert_eq!(read.secret.expose_secret(), token.secret.expose_secret());
    assert_eq!(read.address, token.address);
}

#[test]
fn the_second_factors_address_is_still_the_same() {
    let v = Vectors::read();
    let factor = SecondFactor::from_bytes(b"12345678901234567890").unwrap();
    let address = factor.to_address(v.text("user"));
    assert_eq!(address.as_str(), v.text("second_factor_address"));
}

#[test]
fn the_key_files_content_still_opens() {
    let v = Vectors::read();
    let secret = LocalSecret::from_bytes(v.secret("local_secret"));
    let half = DeviceHalf::from_bytes(v.secret("device_half"));
    let place = [v.bytes("device"), v.bytes("archive")].concat();
    for (half, stored) in [(Some(&half), "key_file_with_half"), (None, "key_file_off")] {
        let opened = secret.key(half).decrypt(&place, &v.bytes(stored)).unwrap();
        assert_eq!(*opened, v.bytes("key_file_content"));
    }
}
