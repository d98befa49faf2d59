//! What a stolen database is worth to whoever has the key of its barrier, too: guesses at passwords, and nothing else.
//!
//! The attacker has what the server has of a user and plays both ends of the login on his own computer, word by word. A guess costs here
//! next to nothing, so that the test is fast; what it costs out there is frozen in the tests of the password protocol.

#![allow(clippy::unwrap_used, reason = "a test says what failed by failing")]

use holdfast_protocol::escrow::*;
use holdfast_protocol::names::{HexBytes, Id, PersonName};
use zeroize::Zeroizing;

const ARCHIVE: Id = HexBytes([3; 16]);
const STRONG_USERS: usize = 100;
const WORDS: usize = 50;

/// What the barrier holds of one user.
struct Dumped {
    user: PersonName,
    password: Vec<u8>,
    slots: Vec<u8>,
}

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

/// Enrols somebody, as a device and the server do it together.
fn enrol(setup: &PasswordSetup, user: &str, password: &str) -> (Dumped, UserKey) {
    let cost = PasswordCost::for_tests();
    let (registration, request) = PasswordRegistration::start(secret(password), cost);
    let response = setup.register(user, &request).unwrap();
    let (upload, key) = registration.finish(user, &response).unwrap();
    let user: PersonName = user.parse().unwrap();
    let (user_key, code) = (UserKey::generate(), RecoveryCode::generate());
    let escrowed = Escrowed::make(&user, &ARCHIVE, &user_key, &key, &code);
    let record = SlotsRecord::sign(user.clone(), ARCHIVE, 1, Some(escrowed), &user_key);
    let dumped = Dumped {
        user,
        password: upload,
        slots: record.to_bytes(),
    };
    (dumped, user_key)
}

/// One guess: a login of which the attacker is both ends.
fn guess(setup: &PasswordSetup, dumped: &Dumped, word: &str) -> Option<UserKey> {
    let context = [0; 32];
    let user = dumped.user.as_str();
    let (proof, request) = PasswordProof::start(secret(word), PasswordCost::for_tests());
    let record = PasswordRecord::from_bytes(&dumped.password).unwrap();
    let started = setup.start_login(user, Some(record), &request, context);
    let (_, response) = started.unwrap();
    let (_, key) = proof.finish(user, &response, &context).ok()?;
    let record = SlotsRecord::parse(&dumped.slots).unwrap();
    record.open_with_password(&key).ok()
}

/// With 100 users of strong passwords and a list of 50 words, nobody's key comes out; with a password from the list, one does.
#[test]
fn a_dump_opens_for_guessed_passwords_alone() {
    let setup = PasswordSetup::generate();
    let words: Vec<String> = (0..WORDS).map(|word| format!("password-{word}")).collect();
    let attack = |dumped: &Dumped| words.iter().find_map(|word| guess(&setup, dumped, word));
    for number in 0..STRONG_USERS {
        let password = hex::encode(UserKey::generate().expose_secret());
        let (dumped, _) = enrol(&setup, &format!("user-{number}"), &password);
        assert!(attack(&dumped).is_none(), "user {number}");
    }
    let (dumped, user_key) = enrol(&setup, "careless", &words[WORDS - 1]);
    let opened = attack(&dumped).expect("the password is in the list");
    assert_eq!(opened.expose_secret(), user_key.expose_secret());
}

/// Without the server's setup, which is in the barrier as well, even the right password is none.
#[test]
fn without_the_servers_setup_no_guess_can_be_tried() {
    let setup = PasswordSetup::generate();
    let (dumped, _) = enrol(&setup, "careless", "password-1");
    assert!(guess(&setup, &dumped, "password-1").is_some());
    assert!(guess(&PasswordSetup::generate(), &dumped, "password-1").is_none());
}
