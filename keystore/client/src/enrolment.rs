//! Enrolment, steps 1 to 8 of `docs/protocol/enrol.md`; the ninth, which stores the key on this computer, is the caller's.
//!
//! [`Enrolment::begin`] → [`Enrolment::confirm`] → [`Enrolment::certify`] → [`Certified::escrow`] → [`Escrowed::authorise`]. Each takes the one
//! before, so they cannot be called in another order. Until the last one the token works, and all of it can be done again; the caller keeps
//! nothing before it. Behind it, the password alone opens the key, so a computer that dies then logs in.

use holdfast_protocol::calls::{
    Authorise, BeginEnrolment, Bytes64, DeviceCertificate, EnrolmentPassword, EnrolmentRequest,
    EscrowPolicy, PutSlots, SecretHex, SecretText, StoreDescription,
};
use holdfast_protocol::escrow::{
    DeviceHalf, EnrolmentToken, Escrowed as Slots, PasswordCost, PasswordRegistration,
    PasswordSlotKey, RecoveryCode, RecoveryHalf, SignedPolicy, SlotsRecord, UserKey,
};
use holdfast_protocol::names::{HexBytes, Id, PersonName};
use zeroize::Zeroizing;

use crate::account::{AccountError, NewDevice, admins, stretch};
use crate::client::Client;
use crate::identity::Identity;

/// The first version of a record of slots.
const FIRST: u64 = 1;

/// Step 1 is under way: the keystore has taken the token.
pub struct Enrolment {
    client: Client,
    user: PersonName,
    session: SecretHex,
    upload: Bytes64,
    password: PasswordSlotKey,
    second_factor: SecretText,
    policy: EscrowPolicy,
    admins: Option<SignedPolicy>,
}

/// Steps 1 to 6 are done: there are a device and an account.
pub struct Certified {
    /// Speaks as the device.
    pub client: Client,
    /// The device's certificate.
    pub certificate: DeviceCertificate,
    /// The same with its key.
    pub identity: Identity,
    /// Whose.
    pub user: PersonName,
    /// The archive's id at the keystore.
    pub archive: Id,
    /// The server's half of the local key file.
    pub device_half: DeviceHalf,
    /// Where objects go.
    pub store: StoreDescription,
    /// Which slots there will be.
    pub policy: EscrowPolicy,
    /// The organisation's recovery admins.
    pub admins: Option<SignedPolicy>,
    password: PasswordSlotKey,
    recovery_half: RecoveryHalf,
}

/// Step 7 is done: the record of slots is at the keystore, and each slot of it that can be opened here was opened.
pub struct Escrowed {
    client: Client,
    record: SlotsRecord,
}

impl Enrolment {
    /// Begins; takes the time and memory of one guess at the password.
    pub async fn begin(
        token: &EnrolmentToken,
        password: Zeroizing<String>,
        cost: PasswordCost,
    ) -> Result<Enrolment, AccountError> {
        let client = Client::new(token.address.parse()?, token.authority, None)?;
        let (registration, request) = PasswordRegistration::start(password, cost);
        let begun = client
            .enrol_begin(&BeginEnrolment {
                user: token.user.clone(),
                secret: SecretHex::copy_of(token.secret.expose_secret()),
                registration: Bytes64(request),
            })
            .await?;
        let admins = admins(begun.admins.as_ref(), token.policy_root.as_ref())?;
        if begun.policy == EscrowPolicy::Standard && admins.is_none() {
            return Err(AccountError::NoAdmins);
        }
        let (user, response) = (token.user.clone(), begun.registration.0);
        let (upload, password) =
            stretch(move || registration.finish(user.as_str(), &response)).await?;
        Ok(Enrolment {
            client,
            user: token.user.clone(),
            session: begun.session,
            upload: Bytes64(upload),
            password,
            second_factor: begun.second_factor,
            policy: begun.policy,
            admins,
        })
    }

    /// The second factor's secret as an `otpauth://` address, for the user's app.
    pub fn second_factor(&self) -> &str {
        self.second_factor.expose_secret()
    }

    /// Which slots there will be.
    pub fn policy(&self) -> EscrowPolicy {
        self.policy
    }

    /// Who, together, will be able to open the user's key.
    pub fn admins(&self) -> Option<&SignedPolicy> {
        self.admins.as_ref()
    }

    /// Registers the password; the code shows that the app has the secret. If it is refused with `second_factor`, another one may be tried.
    pub async fn confirm(&self, code: Zeroizing<String>) -> Result<(), AccountError> {
        let body = EnrolmentPassword {
            session: SecretHex::copy_of(self.session.expose_secret()),
            registration: self.upload.clone(),
            code: SecretText::new(code),
        };
        Ok(self.client.enrol_password(&body).await?)
    }

    /// Steps 2 to 6: the user key is made, and the device gets its certificate and its account.
    pub async fn certify(self, device: NewDevice<'_>) -> Result<Certified, AccountError> {
        let request = EnrolmentRequest {
            session: SecretHex::copy_of(self.session.expose_secret()),
            device: device.id,
            name: device.name.to_owned(),
            request: device.key.request(),
        };
        let certificate = self.client.enrol_certificate(&request).await?;
        let identity = device.identity(&certificate)?;
        self.client.present(&identity).await?;
        let account = self.client.enrol_account().await?;
        let copy = |secret: &SecretHex| Zeroizing::new(*secret.expose_secret());
        Ok(Certified {
            client: self.client,
            certificate,
            identity,
            user: self.user,
            archive: account.archive,
            device_half: DeviceHalf::from_bytes(copy(&account.device_half)),
            store: account.store,
            policy: self.policy,
            admins: self.admins,
            password: self.password,
            recovery_half: RecoveryHalf::from_bytes(copy(&account.recovery_half)),
        })
    }
}

impl Certified {
    /// Step 7: makes the slots of the policy, stores them, and opens them again as they come back.
    pub async fn escrow(
        &self,
        user_key: &UserKey,
        code: &RecoveryCode,
    ) -> Result<Escrowed, AccountError> {
        let slots = self.slots(user_key, code)?;
        let record = SlotsRecord::sign(self.user.clone(), self.archive, FIRST, slots, user_key);
        let sent = Bytes64(record.to_bytes());
        self.client
            .put_slots(&PutSlots {
                record: sent.clone(),
            })
            .await?;
        let stored = self.client.slots().await?;
        if stored.record != sent || stored.version != FIRST {
            return Err(AccountError::NotAsStored);
        }
        self.open_again(&SlotsRecord::parse(&stored.record.0)?, user_key, code)?;
        Ok(Escrowed {
            client: self.client.clone(),
            record,
        })
    }

    fn slots(
        &self,
        user_key: &UserKey,
        code: &RecoveryCode,
    ) -> Result<Option<Slots>, AccountError> {
        let make = || Slots::make(&self.user, &self.archive, user_key, &self.password, code);
        match self.policy {
            EscrowPolicy::Custom => Ok(None),
            EscrowPolicy::Private => Ok(Some(make())),
            EscrowPolicy::Standard => {
                let admins = self.admins.as_ref().ok_or(AccountError::NoAdmins)?;
                let (user, half) = (&self.user, &self.recovery_half);
                let all = make().with_admins(user, &self.archive, user_key, half, admins);
                Ok(Some(all))
            }
        }
    }

    /// The third slot opens with the admins' keys alone; that it came back as it was made, its comparison has shown.
    fn open_again(
        &self,
        record: &SlotsRecord,
        user_key: &UserKey,
        code: &RecoveryCode,
    ) -> Result<(), AccountError> {
        record.expect(&self.user, &self.archive, FIRST)?;
        record.verify(user_key)?;
        if record.policy() == EscrowPolicy::Custom {
            return Ok(());
        }
        let shown = record.recovery_code(user_key)?;
        let opened = [
            record.open_with_password(&self.password)?,
            record.open_with_code(code)?,
            record.open_with_code(&shown)?,
        ];
        let same = |other: &UserKey| other.expose_secret() == user_key.expose_secret();
        match opened.iter().all(same) {
            true => Ok(()),
            false => Err(AccountError::NotAsStored),
        }
    }
}

impl Escrowed {
    /// Which version of the record a computer has seen from here on.
    pub fn version(&self) -> u64 {
        self.record.version
    }

    /// Step 8: the device is let in, and the token is worth nothing any more. May be called again if its answer gets lost.
    pub async fn authorise(&self) -> Result<(), AccountError> {
        let record = HexBytes(self.record.digest().0);
        Ok(self.client.enrol_authorise(&Authorise { record }).await?)
    }
}
