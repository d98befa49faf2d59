//! A password that is proved: for a new computer, for a new password, and before something secret is shown.
//!
//! The proof is mutual. A server that does not know the user's record cannot answer so that it succeeds, and one that passes messages on
//! cannot either, since both connections have other keys. So a login needs no pin: whoever has passed the proof is the keystore, and the
//! authority that it showed is pinned from then on. The code of the second factor is sent behind the proof.

use holdfast_protocol::calls::{
    Bytes64, DeviceCertificate, DeviceReady, EscrowPolicy, FinishLogin, LoginStarted,
    PasswordChange, SecretHex, SecretText, StartLogin, StartPasswordChange, StoreDescription,
};
use holdfast_protocol::escrow::{
    DeviceHalf, Digest, PasswordCost, PasswordProof, PasswordRegistration, PasswordSlotKey,
    SignedPolicy, SlotsRecord, UserKey, user_place,
};
use holdfast_protocol::names::{HexBytes, Id, PersonName};
use zeroize::Zeroizing;

use crate::account::{AccountError, NewDevice, admins, stretch};
use crate::address::ServerAddress;
use crate::client::Client;
use crate::identity::Identity;
use crate::login::LoginConnection;

/// Who proves it, and with what.
pub struct Credentials {
    /// Whose.
    pub user: PersonName,
    /// The password.
    pub password: Zeroizing<String>,
    /// What a guess at it costs.
    pub cost: PasswordCost,
}

/// The password is right, and the server is the one where it was registered. The server itself does not know yet.
pub struct Proof {
    connection: LoginConnection,
    user: PersonName,
    cost: PasswordCost,
    session: SecretHex,
    finalization: Bytes64,
    slot: PasswordSlotKey,
}

/// A computer that has logged in and has no key yet.
pub struct LoggedIn {
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
    /// Which slots there are.
    pub policy: EscrowPolicy,
    /// The organisation's recovery admins.
    pub admins: Option<SignedPolicy>,
    /// Where objects are.
    pub store: StoreDescription,
    slot: PasswordSlotKey,
}

/// Password and second factor are proved, and a new password may be set.
pub struct Changing {
    user: PersonName,
    session: SecretHex,
    upload: Bytes64,
    old: PasswordSlotKey,
    new: PasswordSlotKey,
}

/// A key's record as it was opened.
pub struct Opened {
    /// The record; its signature is the user's.
    pub record: SlotsRecord,
    /// What is in it.
    pub user_key: UserKey,
}

impl Proof {
    /// Proves a password to a keystore that is not known yet: on a new computer.
    pub async fn to_unknown(
        address: &ServerAddress,
        credentials: Credentials,
    ) -> Result<Proof, AccountError> {
        let connection = LoginConnection::to_unknown(address).await?;
        Proof::over(connection, credentials).await
    }

    /// Proves a password to a keystore that is known.
    pub async fn to(client: &Client, credentials: Credentials) -> Result<Proof, AccountError> {
        Proof::over(client.connect_for_login().await?, credentials).await
    }

    async fn over(
        connection: LoginConnection,
        credentials: Credentials,
    ) -> Result<Proof, AccountError> {
        let Credentials {
            user,
            password,
            cost,
        } = credentials;
        let (proof, request) = PasswordProof::start(password, cost.clone());
        let start = StartLogin {
            user: user.clone(),
            credential: Bytes64(request),
        };
        let LoginStarted {
            session,
            credential,
        } = connection.start(&start).await?;
        let (name, context) = (user.clone(), *connection.context());
        let (finalization, slot) =
            stretch(move || proof.finish(name.as_str(), &credential.0, &context)).await?;
        Ok(Proof {
            connection,
            user,
            cost,
            session,
            finalization: Bytes64(finalization),
            slot,
        })
    }

    /// Logs a new computer in.
    pub async fn log_in(
        self,
        code: Zeroizing<String>,
        device: NewDevice<'_>,
        policy_root: Option<&Digest>,
    ) -> Result<LoggedIn, AccountError> {
        let finish = FinishLogin {
            session: self.session,
            credential: self.finalization,
            code: SecretText::new(code),
            device: device.id,
            name: device.name.to_owned(),
            request: device.key.request(),
        };
        let answer = self.connection.finish(&finish).await?;
        let identity = device.identity(&answer.certificate)?;
        let (address, pin) = self.connection.end();
        Ok(LoggedIn {
            client: Client::new(address, pin, Some(&identity))?,
            certificate: answer.certificate,
            identity,
            user: self.user,
            archive: answer.archive,
            policy: answer.policy,
            admins: admins(answer.admins.as_ref(), policy_root)?,
            store: answer.store,
            slot: self.slot,
        })
    }

    /// Has the server check the password and the second factor, before a new password or before something secret is shown.
    pub async fn start_change(
        self,
        code: Zeroizing<String>,
        new_password: Zeroizing<String>,
    ) -> Result<Changing, AccountError> {
        let (registration, request) = PasswordRegistration::start(new_password, self.cost);
        let start = StartPasswordChange {
            session: self.session,
            credential: self.finalization,
            code: SecretText::new(code),
            registration: Bytes64(request),
        };
        let started = self.connection.start_password_change(&start).await?;
        let (user, response) = (self.user.clone(), started.registration.0);
        let (upload, new) = stretch(move || registration.finish(user.as_str(), &response)).await?;
        Ok(Changing {
            user: self.user,
            session: started.session,
            upload: Bytes64(upload),
            old: self.slot,
            new,
        })
    }
}

impl LoggedIn {
    /// The user key, out of slot 1 of a record that is the user's.
    pub async fn open(&self) -> Result<Opened, AccountError> {
        open(&self.client, &self.user, &self.archive, 0, &self.slot).await
    }

    /// The server's half of this computer's key file.
    pub async fn device_half(&self) -> Result<DeviceHalf, AccountError> {
        let half = self.client.device_half().await?.half;
        Ok(DeviceHalf::from_bytes(Zeroizing::new(
            *half.expose_secret(),
        )))
    }

    /// The key is in its file; `replaces` is deauthorised.
    pub async fn ready(&self, replaces: Option<HexBytes<8>>) -> Result<(), AccountError> {
        Ok(self.client.device_ready(&DeviceReady { replaces }).await?)
    }
}

impl Changing {
    /// The record as it stands, and the user key. `seen` is the newest version that this computer knows of.
    pub async fn open(
        &self,
        client: &Client,
        archive: &Id,
        seen: u64,
    ) -> Result<Opened, AccountError> {
        open(client, &self.user, archive, seen, &self.old).await
    }

    /// Sets the new password and slot 1 together; the version of the new record. If somebody else changed the record in between (`conflict`),
    /// nothing is changed.
    pub async fn finish(self, client: &Client, opened: Opened) -> Result<u64, AccountError> {
        let Opened { record, user_key } = opened;
        let place = user_place(&self.user, &record.archive);
        let mut slots = record.escrowed;
        if let Some(slots) = &mut slots {
            slots.password = self.new.wrap(&place, &user_key);
        }
        let version = record.version + 1;
        let record = SlotsRecord::sign(self.user, record.archive, version, slots, &user_key);
        client
            .finish_password_change(&PasswordChange {
                session: self.session,
                registration: self.upload,
                record: Bytes64(record.to_bytes()),
            })
            .await?;
        Ok(version)
    }
}

async fn open(
    client: &Client,
    user: &PersonName,
    archive: &Id,
    seen: u64,
    slot: &PasswordSlotKey,
) -> Result<Opened, AccountError> {
    let stored = client.slots().await?;
    let record = SlotsRecord::parse(&stored.record.0)?;
    record.expect(user, archive, seen)?;
    let user_key = record.open_with_password(slot)?;
    Ok(Opened { record, user_key })
}
