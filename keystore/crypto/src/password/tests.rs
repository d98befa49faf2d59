use super::*;

fn secret(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

fn register(
    setup: &PasswordSetup,
    user: &str,
    password: &str,
) -> (PasswordRecord, PasswordSlotKey) {
    let (registration, request) =
        PasswordRegistration::start(secret(password), PasswordCost::for_tests());
    let response = setup.register(user, &request).unwrap();
    let (upload, key) = registration.finish(user, &response).unwrap();
    (PasswordRecord::from_bytes(&upload).unwrap(), key)
}

/// Gives the slot's key, and what the server says to the last message.
fn log_in(
    setup: &PasswordSetup,
    record: Option<&PasswordRecord>,
    (server_sees, client_sees): ([u8; 32], [u8; 32]),
    user: &str,
    password: &str,
) -> Result<PasswordSlotKey, CryptoError> {
    let (proof, request) = PasswordProof::start(secret(password), PasswordCost::for_tests());
    let record = record.map(|record| PasswordRecord::from_bytes(&record.to_bytes()).unwrap());
    let (login, response) = setup
        .start_login(user, record, &request, server_sees)
        .unwrap();
    let (finalization, key) = proof.finish(user, &response, &client_sees)?;
    login.finish(&finalization)?;
    Ok(key)
}

const HERE: ([u8; 32], [u8; 32]) = ([7; 32], [7; 32]);

#[test]
fn the_right_password_opens_the_slot_on_another_computer() {
    let setup = PasswordSetup::generate();
    let (record, key) = register(&setup, "alice", "correct horse");
    let user_key = UserKey::generate();
    let slot = key.wrap(b"alice's archive", &user_key);
    assert_eq!(slot.len(), PASSWORD_SLOT_BYTES);
    // The server was started again meanwhile.
    let setup = PasswordSetup::from_bytes(&setup.expose_secret()).unwrap();
    let again = log_in(&setup, Some(&record), HERE, "alice", "correct horse").unwrap();
    let opened = again.unwrap(b"alice's archive", &slot).unwrap();
    assert_eq!(opened.expose_secret(), user_key.expose_secret());
    assert!(again.unwrap(b"bob's archive", &slot).is_err());
}

#[test]
fn nothing_else_logs_in() {
    let setup = PasswordSetup::generate();
    let (record, _) = register(&setup, "alice", "correct horse");
    let fails = |record, seen, user, password| {
        assert_eq!(
            log_in(&setup, record, seen, user, password).err(),
            Some(wrong_password())
        );
    };
    fails(Some(&record), HERE, "alice", "correct horsf");
    fails(Some(&record), HERE, "alice", "");
    fails(Some(&record), HERE, "bob", "correct horse");
    // Nobody of that name.
    fails(None, HERE, "alice", "correct horse");
    // The messages come from another connection.
    fails(Some(&record), ([7; 32], [8; 32]), "alice", "correct horse");
    // Another server with the same record.
    let other = PasswordSetup::generate();
    assert!(log_in(&other, Some(&record), HERE, "alice", "correct horse").is_err());
}

/// Whoever asks cannot tell from the answer's shape whether there is such a user.
#[test]
fn an_unknown_user_gets_an_answer_of_the_same_length() {
    let setup = PasswordSetup::generate();
    let (record, _) = register(&setup, "alice", "correct horse");
    let (_, request) = PasswordProof::start(secret("x"), PasswordCost::for_tests());
    let known = setup.start_login("alice", Some(record), &request, [1; 32]);
    let unknown = setup.start_login("bob", None, &request, [1; 32]);
    let (known, unknown) = (known.unwrap().1, unknown.unwrap().1);
    assert_eq!(known.len(), unknown.len());
}

/// What the user types is not what is sent, in any message or record.
#[test]
fn no_message_holds_the_password() {
    let setup = PasswordSetup::generate();
    let password = "a password that is easily found in bytes";
    let (registration, request) =
        PasswordRegistration::start(secret(password), PasswordCost::for_tests());
    let response = setup.register("alice", &request).unwrap();
    let (upload, _) = registration.finish("alice", &response).unwrap();
    for message in [request, response, upload] {
        let found = message
            .windows(8)
            .any(|bytes| password.as_bytes().windows(8).any(|part| part == bytes));
        assert!(!found);
    }
}

#[test]
fn the_standard_cost_is_frozen() {
    let PasswordCost(parameters) = PasswordCost::standard();
    assert_eq!(parameters.m_cost(), 65_536);
    assert_eq!(parameters.t_cost(), 3);
    assert_eq!(parameters.p_cost(), 1);
}

#[test]
fn a_message_with_something_behind_it_is_refused() {
    let longer = |message: &[u8]| [message, b"x"].concat();
    let setup = PasswordSetup::generate();
    let keys = setup.expose_secret();
    assert!(PasswordSetup::from_bytes(&keys).is_ok());
    assert!(PasswordSetup::from_bytes(&longer(&keys)).is_err());

    let (registration, request) =
        PasswordRegistration::start(secret("x"), PasswordCost::for_tests());
    assert!(setup.register("alice", &longer(&request)).is_err());
    let response = setup.register("alice", &request).unwrap();
    assert!(registration.finish("alice", &longer(&response)).is_err());
    let (registration, request) =
        PasswordRegistration::start(secret("x"), PasswordCost::for_tests());
    let response = setup.register("alice", &request).unwrap();
    let (upload, _) = registration.finish("alice", &response).unwrap();
    assert!(PasswordRecord::from_bytes(&longer(&upload)).is_err());

    let start = || {
        let (proof, request) = PasswordProof::start(secret("x"), PasswordCost::for_tests());
        assert!(
            setup
                .start_login("alice", None, &longer(&request), [1; 32])
                .is_err()
        );
        let record = PasswordRecord::from_bytes(&upload).unwrap();
        let (login, response) = setup
            .start_login("alice", Some(record), &request, [1; 32])
            .unwrap();
        (proof, login, response)
    };
    let (proof, _, response) = start();
    assert!(proof.finish("alice", &longer(&response), &[1; 32]).is_err());
    let (proof, login, response) = start();
    let (finalization, _) = proof.finish("alice", &response, &[1; 32]).unwrap();
    assert!(login.finish(&longer(&finalization)).is_err());
    let (proof, login, response) = start();
    let (finalization, _) = proof.finish("alice", &response, &[1; 32]).unwrap();
    assert!(login.finish(&finalization).is_ok());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn strange_messages_are_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let setup = PasswordSetup::generate();
        let _ = PasswordSetup::from_bytes(&bytes);
        let _ = PasswordRecord::from_bytes(&bytes);
        let _ = setup.register("alice", &bytes);
        let _ = setup.start_login("alice", None, &bytes, [1; 32]);
        let (registration, _) = PasswordRegistration::start(secret("x"), PasswordCost::for_tests());
        // Of the messages of the right length some are two elements of the group.
        let finished = registration.finish("alice", &bytes);
        proptest::prop_assert!(finished.is_err() || bytes.len() == 64);
        let (proof, request) = PasswordProof::start(secret("x"), PasswordCost::for_tests());
        proptest::prop_assert!(proof.finish("alice", &bytes, &[1; 32]).is_err());
        let (login, _) = setup.start_login("alice", None, &request, [1; 32]).unwrap();
        proptest::prop_assert!(login.finish(&bytes).is_err());
    }
}
