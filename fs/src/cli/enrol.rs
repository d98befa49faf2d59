//! `holdfast enrol SERVER`: the nine steps, as `docs/protocol/enrol.md` has them.
//!
//! Up to step 8 nothing that counts is on this computer, and the token works: whatever goes wrong, `enrol` is run again. From step 8 on
//! the password opens the key, and `login` goes on where this stopped.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use holdfast_keystore_client::escrow::{
    EnrolmentToken, PasswordCost, RecoveryCode, SecondFactor, SignedPolicy, UserKey,
};
use holdfast_keystore_client::names::HexBytes;
use holdfast_keystore_client::{
    AccountError, Certified, DeviceKey, Enrolment, Escrowed, NewDevice, ServerAddress,
};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::json;
use zeroize::Zeroizing;

use super::joining::{Joining, LeaseArguments};
use super::proving::with_codes;
use super::secrets::{CodeArguments, Codes, check_new, new_password, token, write_new};
use super::store_arguments::computer_name;
use super::{CommandError, Context, Output, opening};
use crate::archive::Archive;
use crate::home::{DeviceKeys, Home};
use crate::keystore::{granted_store, wait};

/// Arguments of `enrol`.
#[derive(Args)]
pub struct Enrol {
    /// The keystore's address, the same as in the token: https://HOST:PORT
    server: ServerAddress,
    /// What this computer is called in snapshots/; its host name unless given
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Read the enrolment token from this file (`-` is standard input) instead of asking for it
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Read the password that is to be from this file instead of asking for it
    #[arg(long, value_name = "FILE", alias = "new-password-file")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    codes: CodeArguments,
    /// Write the recovery code into this new file instead of showing it
    #[arg(long, value_name = "FILE")]
    recovery_code_out: Option<PathBuf>,
    #[command(flatten)]
    lease: LeaseArguments,
}

/// What is made on this computer, before anybody knows of it.
struct Made {
    name: String,
    keys: DeviceKeys,
    code: RecoveryCode,
    key: DeviceKey,
}

impl Enrol {
    /// Enrols the user of a token, with this computer as the first device.
    pub fn run(self, context: &Context) -> Result<Output, CommandError> {
        let home = opening::home()?;
        home.check_not_set_up().map_err(CommandError::from_error)?;
        check_new(self.recovery_code_out.as_deref())?;
        check_new(self.codes.second_factor_file.as_deref())?;
        let token = self.token()?;
        let password = new_password(self.password_file.as_deref())?;
        let begun = Enrolment::begin(&token, password, PasswordCost::standard());
        let enrolment = wait(begun).map_err(CommandError::from_error)?;
        self.register_second_factor(&enrolment)?;
        let made = Made {
            name: self.device.clone().unwrap_or_else(computer_name),
            keys: DeviceKeys::generate(UserKey::generate()),
            code: RecoveryCode::generate(),
            key: DeviceKey::generate(),
        };
        let (certified, escrowed) =
            wait(escrow(enrolment, &made)).map_err(CommandError::from_error)?;
        let printed = made.code.to_printed();
        if let Some(file) = &self.recovery_code_out {
            write_new(file, "recovery code", &printed)?;
        }
        wait(escrowed.authorise()).map_err(CommandError::from_error)?;
        let (name, device) = (made.name.clone(), made.keys.device);
        self.store_here(&home, context, &certified, &escrowed, made)
            .map_err(|error| self.half_done(&error))?;
        Ok(self.report(&token, &certified, &name, device, &printed))
    }

    fn token(&self) -> Result<EnrolmentToken, CommandError> {
        let text = token(self.token_file.as_deref())?;
        let token: EnrolmentToken = text.parse().map_err(CommandError::from_error)?;
        let address: ServerAddress = token.address.parse().map_err(CommandError::from_error)?;
        if address == self.server {
            return Ok(token);
        }
        Err(CommandError::new(format!(
            "the token is for the keystore {address}, not for {}; ask the operator which one is right",
            self.server
        )))
    }

    /// Step 1, second part. The secret is shown for the user's app, or kept in a file from which the code is calculated.
    fn register_second_factor(&self, enrolment: &Enrolment) -> Result<(), CommandError> {
        let address = enrolment.second_factor();
        let mut codes = match &self.codes.second_factor_file {
            Some(file) => {
                write_new(file, "secret of the second factor", address)?;
                let factor =
                    SecondFactor::from_address(address).map_err(CommandError::from_error)?;
                Codes::calculated(factor)
            }
            None => {
                show_second_factor(address)?;
                self.codes.codes()?
            }
        };
        with_codes(&mut codes, |code| wait(enrolment.confirm(code)))
    }

    /// Step 9: archive, key file, settings.
    fn store_here(
        &self,
        home: &Home,
        context: &Context,
        certified: &Certified,
        escrowed: &Escrowed,
        made: Made,
    ) -> Result<(), CommandError> {
        let joining = Joining {
            home,
            client: &certified.client,
            user: &certified.user,
            archive: certified.archive,
            store: &certified.store,
            half: &certified.device_half,
            lease: self.lease.lease(),
        };
        joining.keep_seen(escrowed.version(), certified.admins.as_ref())?;
        joining.keep_identity(&certified.certificate.certificate, &made.key)?;
        let settings = joining.settings(&made.keys, context);
        let store = granted_store(&certified.client, &settings);
        let keys = (made.keys, &made.code);
        let save = |keys: &DeviceKeys| joining.save_keys(keys);
        Archive::create_with(store, home, settings, &made.name, keys, &save)
            .map_err(CommandError::from_error)?;
        wait(certified.client.enrol_stored()).map_err(CommandError::from_error)
    }

    fn half_done(&self, error: &CommandError) -> CommandError {
        let code = match self.recovery_code_out {
            Some(_) => "",
            None => ", and then `holdfast key show-recovery-code` to write the recovery code down",
        };
        CommandError::new(format!(
            "you are enrolled, but this computer is not set up: {error}. Run `holdfast login {}`{code}",
            self.server
        ))
    }

    fn report(
        &self,
        token: &EnrolmentToken,
        certified: &Certified,
        name: &str,
        device: holdfast_crypto::DeviceId,
        printed: &Zeroizing<String>,
    ) -> Output {
        let (user, store) = (&certified.user, &certified.store.location);
        let code = match &self.recovery_code_out {
            Some(file) => format!("The recovery code is in {}.\n", file.display()),
            None => format!("Recovery code:\n\n    {}\n\n", printed.as_str()),
        };
        let text = format!(
            "{user} is enrolled at {}; this computer is the device {name:?}. The store is {store}.\n{}\n\
             {code}\
             Write it down and keep it away from this computer. Whoever has it and can read the store can read\n\
             everything in the archive; with it the archive can be read without the keystore.\n\
             If password and recovery code are both lost{}, nobody can read the archive again.\n\n\
             Next: holdfast mount DIR\n",
            self.server,
            told_admins(certified.admins.as_ref(), token),
            match certified.admins {
                Some(_) => " and the admins do not help",
                None => "",
            },
        );
        let shown = self.recovery_code_out.is_none().then(|| printed.as_str());
        let json = json!({
            "server": self.server.to_string(),
            "user": user,
            "archive": certified.archive,
            "device": name,
            "device_id": device.to_string(),
            "store": store,
            "policy": certified.policy,
            "recovery_code": shown,
            "recovery_code_file": self.recovery_code_out,
        });
        Output::new(text, json)
    }
}

/// Steps 2 to 7.
async fn escrow(enrolment: Enrolment, made: &Made) -> Result<(Certified, Escrowed), AccountError> {
    let device = NewDevice {
        id: HexBytes(made.keys.device.0),
        name: &made.name,
        key: &made.key,
    };
    let certified = enrolment.certify(device).await?;
    let escrowed = certified.escrow(&made.keys.user_key, &made.code).await?;
    Ok((certified, escrowed))
}

/// The root's fingerprint is to be compared with what the organisation says elsewhere: then no keystore can slip an admin in.
fn told_admins(policy: Option<&SignedPolicy>, token: &EnrolmentToken) -> String {
    let Some(policy) = policy else {
        return String::new();
    };
    let names: Vec<&str> = policy
        .admins()
        .iter()
        .map(|admin| admin.name.as_str())
        .collect();
    let root = policy.root().fingerprint();
    let known = match token.policy_root {
        Some(_) => "the one that the token names",
        None => "seen first now; compare it with what your organisation says",
    };
    format!(
        "{} of {} together can restore your files with the keystore's help.\n\
         The root of this policy has the fingerprint {root} ({known}).\n",
        policy.threshold(),
        names.join(", "),
    )
}

/// On standard error: it is asked for a code next, and the result comes later.
fn show_second_factor(address: &str) -> Result<(), CommandError> {
    let failed =
        |error: qrcode::types::QrError| CommandError::because("the QR code cannot be drawn", error);
    let code = QrCode::new(address).map_err(failed)?;
    let drawn = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build();
    let text = Zeroizing::new(format!(
        "Second factor: scan this with an authenticator app, or copy the address into it.\n\n{drawn}\n\n{address}\n\n"
    ));
    // Whoever closed standard error sees no prompt either.
    let _ = std::io::stderr().write_all(text.as_bytes());
    Ok(())
}
