//! Secrets cannot be printed, copied or compared by accident: checked when this compiles.

use std::fmt;

use crate::*;

/// Fails to compile, as ambiguous, if the type implements the trait.
macro_rules! assert_implements_none {
    ($($type:ty),+ $(,)?) => { $(
        assert_implements_none!(@ $type, fmt::Debug);
        assert_implements_none!(@ $type, fmt::Display);
        assert_implements_none!(@ $type, Clone);
        assert_implements_none!(@ $type, Default);
        assert_implements_none!(@ $type, PartialEq);
        assert_implements_none!(@ $type, AsRef<[u8]>);
        assert_implements_none!(@ $type, std::ops::Deref);
    )+ };
    (@ $type:ty, $trait:path) => {
        const _: fn() = || {
            trait AmbiguousIfImplemented<A> {
                fn item() {}
            }
            impl<T: ?Sized> AmbiguousIfImplemented<()> for T {}
            struct Implemented;
            impl<T: ?Sized + $trait> AmbiguousIfImplemented<Implemented> for T {}
            let _ = <$type as AmbiguousIfImplemented<_>>::item;
        };
    };
}

assert_implements_none!(
    secret::SecretBytes,
    xaes::Xaes,
    hpke_wrap::KeyPair,
    UserKey,
    KeyringKey,
    ArchiveSecret,
    ArchiveKeyPair,
    ChunkIdKey,
    ChunkerKey,
    IndexKey,
    CommitKey,
    NameKey,
    FingerprintKey,
    SessionKey,
    LogKey,
    DeviceSigningKey,
    RecoveryCode,
    RecoveryKeyPair,
    Share,
    UnsealKey,
    RootKey,
    Keyring,
    PasswordSetup,
    PasswordLogin,
    PasswordRegistration,
    PasswordProof,
    PasswordSlotKey,
    AdminKeyPair,
    RecoveryHalf,
    RecoveryPiece,
    PolicyRootKey,
    LocalSecret,
    DeviceHalf,
    LocalKey,
    SecondFactor,
);

/// A message about a wrong code reaches terminals and logs: it names one character at most.
#[test]
fn an_error_about_a_code_does_not_print_the_code() {
    let code = RecoveryCode::generate();
    let printed = code.to_printed();
    let mut typed = printed.to_string();
    let wrong = if typed.ends_with('q') { "p" } else { "q" };
    typed.replace_range(typed.len() - 1.., wrong);
    let error = RecoveryCode::parse(&typed).err().expect("refused");
    let text = format!("{error} {error:?}");
    assert!(
        printed
            .split('-')
            .skip(1)
            .all(|group| !text.contains(group)),
        "{text}"
    );
}
