//! The password: OPAQUE (RFC 9807), so that the server never sees it, and the key that it opens slot 1 with.
//!
//! Suite: OPRF ristretto255-SHA512, key exchange 3DH over ristretto255 with SHA-512, key stretching Argon2id with 64 MiB, three
//! passes and one lane (RFC 9106, section 4, second recommended option with fewer lanes), salt of 16 zero bytes as RFC 9807 section 7
//! has it. The identities are the user's name and `holdfast-keystore`. A login's context is 32 bytes that both ends take from their
//! TLS connection (RFC 5705), so messages that somebody passes on from another connection end in a failure.
//!
//! Registration gives the server a record that it cannot log in with. Both registration and login give the client the same 64 bytes,
//! the export key, which the server cannot calculate without guessing the password: [`PasswordSlotKey`] is derived from it.
//!
//! This is the only file that names the library.

use argon2::{Algorithm, Argon2, Params, Version};
use opaque_ke::rand::{CryptoRng, RngCore};
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration,
    ClientRegistrationFinishParameters, CredentialFinalization, CredentialRequest,
    CredentialResponse, Identifiers, RegistrationRequest, RegistrationResponse, RegistrationUpload,
    Ristretto255, ServerLogin, ServerLoginParameters, ServerRegistration, ServerSetup, TripleDh,
};
use zeroize::{Zeroize as _, Zeroizing};

use crate::commitment::Committed;
use crate::derive::derive;
use crate::error::CryptoError;
use crate::secret::fill_random;
use crate::user_key::UserKey;
use crate::wrapped::{WRAPPED_KEY_BYTES, unwrap_key, wrap_key};
use crate::xaes::Xaes;

/// Length of a user key wrapped by [`PasswordSlotKey::wrap`].
pub const PASSWORD_SLOT_BYTES: usize = WRAPPED_KEY_BYTES;

const SERVER: &[u8] = b"holdfast-keystore";
const SLOT: &str = "the password's slot";

struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, sha2_for_opaque::Sha512>;
    type Ksf = Argon2<'static>;
}

/// What one guess at a password costs.
#[derive(Clone, Debug)]
pub struct PasswordCost(Params);

impl PasswordCost {
    /// 64 MiB, three passes.
    pub fn standard() -> PasswordCost {
        PasswordCost::new(64 * 1024, 3)
    }

    /// Next to nothing, for tests that guess many passwords.
    #[cfg(any(test, feature = "testing"))]
    pub fn for_tests() -> PasswordCost {
        PasswordCost::new(8, 1)
    }

    fn new(kibibytes: u32, passes: u32) -> PasswordCost {
        PasswordCost(Params::new(kibibytes, passes, 1, None).expect("within Argon2's limits"))
    }

    fn stretching(&self) -> Argon2<'static> {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, self.0.clone())
    }
}

/// The server's keys for all users: an OPRF seed and a key pair. Kept in the barrier.
pub struct PasswordSetup(ServerSetup<Suite>);

/// What the server keeps of one user's password.
pub struct PasswordRecord(ServerRegistration<Suite>);

/// A login under way, on the server.
pub struct PasswordLogin {
    state: ServerLogin<Suite>,
    user: String,
    context: [u8; 32],
}

/// A registration under way, on the client.
pub struct PasswordRegistration {
    state: ClientRegistration<Suite>,
    password: Zeroizing<String>,
    cost: PasswordCost,
}

/// A login under way, on the client.
pub struct PasswordProof {
    state: ClientLogin<Suite>,
    password: Zeroizing<String>,
    cost: PasswordCost,
}

/// Wraps and unwraps the user key: what a right password gives.
pub struct PasswordSlotKey(Xaes);

impl PasswordSetup {
    /// New random keys.
    pub fn generate() -> PasswordSetup {
        PasswordSetup(ServerSetup::new(&mut Kernel))
    }

    /// What [`PasswordSetup::expose_secret`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<PasswordSetup, CryptoError> {
        let what = "the keys of the password protocol";
        let setup = whole(ServerSetup::deserialize(bytes), what, |setup| {
            serialized(setup).len() == bytes.len()
        });
        setup.map(PasswordSetup)
    }

    /// The bytes themselves.
    pub fn expose_secret(&self) -> Zeroizing<Vec<u8>> {
        serialized(&self.0)
    }

    /// Answers a registration's first message.
    pub fn register(&self, user: &str, request: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let length = request.len();
        let request = RegistrationRequest::deserialize(request);
        let request = whole(request, "a registration request", |request| {
            request.serialize().len() == length
        })?;
        let started = ServerRegistration::start(&self.0, request, user.as_bytes())
            .map_err(|_| malformed("a registration request"))?;
        Ok(started.message.serialize().to_vec())
    }

    /// Answers a login's first message. Somebody who is not registered gets an answer of the same shape, for the same work, that fails
    /// only at the client, as with a wrong password.
    pub fn start_login(
        &self,
        user: &str,
        record: Option<PasswordRecord>,
        request: &[u8],
        context: [u8; 32],
    ) -> Result<(PasswordLogin, Vec<u8>), CryptoError> {
        let length = request.len();
        let request = CredentialRequest::deserialize(request);
        let request = whole(request, "a credential request", |request| {
            request.serialize().len() == length
        })?;
        let started = ServerLogin::start(
            &mut Kernel,
            &self.0,
            record.map(|record| record.0),
            request,
            user.as_bytes(),
            ServerLoginParameters {
                context: Some(&context),
                identifiers: identities(user),
            },
        )
        .map_err(|_| malformed("a credential request"))?;
        let login = PasswordLogin {
            state: started.state,
            user: user.to_owned(),
            context,
        };
        Ok((login, started.message.serialize().to_vec()))
    }
}

impl PasswordRecord {
    /// From a registration's second message, or from [`PasswordRecord::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<PasswordRecord, CryptoError> {
        let upload = RegistrationUpload::<Suite>::deserialize(bytes);
        let upload = whole(upload, "a password's record", |upload| {
            upload.serialize().len() == bytes.len()
        })?;
        Ok(PasswordRecord(ServerRegistration::finish(upload)))
    }

    /// To be kept. Whoever has it and [`PasswordSetup`] can guess passwords.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.serialize().to_vec()
    }
}

impl PasswordLogin {
    /// Whether the client has shown that it knows the password, on the connection of this context.
    pub fn finish(self, finalization: &[u8]) -> Result<(), CryptoError> {
        let length = finalization.len();
        let finalization = CredentialFinalization::deserialize(finalization);
        let finalization = whole(finalization, "a credential finalization", |finalization| {
            finalization.serialize().len() == length
        })?;
        let parameters = ServerLoginParameters {
            context: Some(&self.context),
            identifiers: identities(&self.user),
        };
        self.state
            .finish(finalization, parameters)
            .map(drop)
            .map_err(|_| wrong_password())
    }
}

impl PasswordRegistration {
    /// The first message.
    pub fn start(
        password: Zeroizing<String>,
        cost: PasswordCost,
    ) -> (PasswordRegistration, Vec<u8>) {
        let started = ClientRegistration::start(&mut Kernel, password.as_bytes())
            .expect("every password can be mapped to the group");
        let registration = PasswordRegistration {
            state: started.state,
            password,
            cost,
        };
        (registration, started.message.serialize().to_vec())
    }

    /// The second message, and the key of slot 1. Takes the time and memory of one guess.
    pub fn finish(
        self,
        user: &str,
        response: &[u8],
    ) -> Result<(Vec<u8>, PasswordSlotKey), CryptoError> {
        let what = "a registration response";
        let length = response.len();
        let response = RegistrationResponse::deserialize(response);
        let response = whole(response, what, |response| {
            response.serialize().len() == length
        })?;
        let stretching = self.cost.stretching();
        let parameters =
            ClientRegistrationFinishParameters::new(identities(user), Some(&stretching));
        let finished = self
            .state
            .finish(&mut Kernel, self.password.as_bytes(), response, parameters)
            .map_err(|_| malformed(what))?;
        let upload = finished.message.serialize().to_vec();
        Ok((upload, PasswordSlotKey::new(&finished.export_key)))
    }
}

impl PasswordProof {
    /// The first message.
    pub fn start(password: Zeroizing<String>, cost: PasswordCost) -> (PasswordProof, Vec<u8>) {
        let started = ClientLogin::start(&mut Kernel, password.as_bytes())
            .expect("every password can be mapped to the group");
        let proof = PasswordProof {
            state: started.state,
            password,
            cost,
        };
        (proof, started.message.serialize().to_vec())
    }

    /// The second message, and the key of slot 1. Fails if the password is not the user's, or the server is not the one where it was
    /// registered, or the two ends are not on one connection. Takes the time and memory of one guess.
    pub fn finish(
        self,
        user: &str,
        response: &[u8],
        context: &[u8; 32],
    ) -> Result<(Vec<u8>, PasswordSlotKey), CryptoError> {
        let length = response.len();
        let response = CredentialResponse::deserialize(response);
        let response = whole(response, "a credential response", |response| {
            response.serialize().len() == length
        })?;
        let stretching = self.cost.stretching();
        let parameters =
            ClientLoginFinishParameters::new(Some(context), identities(user), Some(&stretching));
        let finished = self
            .state
            .finish(&mut Kernel, self.password.as_bytes(), response, parameters)
            .map_err(|_| wrong_password())?;
        let finalization = finished.message.serialize().to_vec();
        Ok((finalization, PasswordSlotKey::new(&finished.export_key)))
    }
}

impl PasswordSlotKey {
    fn new(export_key: &[u8]) -> PasswordSlotKey {
        PasswordSlotKey(Xaes::new(&derive(export_key, "password-slot")))
    }

    /// Slot 1: [`PASSWORD_SLOT_BYTES`] bytes. `place` says whose, of which archive.
    pub fn wrap(&self, place: &[u8], user_key: &UserKey) -> Vec<u8> {
        wrap_key(
            &self.0,
            "password-slot",
            place,
            user_key.secret(),
            Committed::User,
        )
    }

    /// Opens what [`PasswordSlotKey::wrap`] made for the same place.
    pub fn unwrap(&self, place: &[u8], slot: &[u8]) -> Result<UserKey, CryptoError> {
        unwrap_key(&self.0, SLOT, "password-slot", place, slot, Committed::User)
            .map(UserKey::from_secret)
    }
}

fn identities(user: &str) -> Identifiers<'_> {
    Identifiers {
        client: Some(user.as_bytes()),
        server: Some(SERVER),
    }
}

/// The library's own copy is overwritten.
fn serialized(setup: &ServerSetup<Suite>) -> Zeroizing<Vec<u8>> {
    let mut bytes = setup.serialize();
    let copy = Zeroizing::new(bytes.to_vec());
    bytes.as_mut_slice().zeroize();
    copy
}

/// The library reads a message and leaves what is behind it alone; here nothing may be.
fn whole<T, E>(
    parsed: Result<T, E>,
    what: &'static str,
    is_whole: impl FnOnce(&T) -> bool,
) -> Result<T, CryptoError> {
    parsed.ok().filter(is_whole).ok_or(malformed(what))
}

fn malformed(what: &'static str) -> CryptoError {
    CryptoError::Malformed { what }
}

fn wrong_password() -> CryptoError {
    CryptoError::Authentication {
        what: "the password's proof",
    }
}

/// The kernel's random generator in the shape that the library asks for.
struct Kernel;

impl RngCore for Kernel {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        fill_random(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        fill_random(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), opaque_ke::rand::Error> {
        fill_random(bytes);
        Ok(())
    }
}

impl CryptoRng for Kernel {}

#[cfg(test)]
mod tests;
