//! What the daemon of an enrolled home does besides serving the drive: it waits for word that its device is out, renews certificate and lease,
//! and knows whether the keystore answers.
//!
//! The wait is one call after the other, each answered at once when the device's state changes. A device that is out wipes its keys before
//! anything else: if we die behind that, nothing opens the archive any more, and the next start finds no key.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_keystore_client::ClientError;
use holdfast_keystore_client::messages::{DeviceState, Lease};
use parking_lot::Mutex;
use serde::Serialize;

use super::{Keystore, KeystoreError, wait};

const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A device that was out while the keystore was away learns of it so long after it is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How often the recovery admins are looked at.
const ADMINS_EACH: Duration = Duration::from_secs(6 * 3600);
/// How often a lease of days begins anew.
const LEASE_EACH: Duration = Duration::from_secs(6 * 3600);

/// What `status` tells of the keystore.
#[derive(Clone, Debug, Serialize)]
pub struct KeystoreState {
    /// Where it is.
    pub address: String,
    /// Whether it answered last.
    pub reachable: bool,
    /// Why not: away, or sealed, or it refuses.
    pub trouble: Option<String>,
    /// Since when, in seconds since 1970.
    pub trouble_since: Option<i64>,
    /// Why the recovery admins that it tells are not believed.
    pub admins: Option<String>,
    /// This device, as the keystore has said it last.
    pub device: DeviceState,
    /// How long the keystore's half of the key may stay here.
    pub lease: Lease,
}

/// The watch of a daemon.
#[derive(Clone)]
pub struct Watch(Arc<Shared>);

struct Shared {
    state: Mutex<KeystoreState>,
    over: AtomicBool,
}

impl Watch {
    /// Watches from now on. When this device is out, the keys are wiped and `out` is called, once.
    pub fn start(
        keystore: Keystore,
        out: impl FnOnce(Keystore) + Send + 'static,
    ) -> std::io::Result<Watch> {
        let server = keystore.server();
        let state = KeystoreState {
            address: server.address.clone(),
            reachable: true,
            trouble: None,
            trouble_since: None,
            admins: None,
            device: DeviceState::Active,
            lease: server.lease,
        };
        let watch = Watch(Arc::new(Shared {
            state: Mutex::new(state),
            over: AtomicBool::new(false),
        }));
        let watching = watch.clone();
        std::thread::Builder::new()
            .name("keystore".into())
            .spawn(move || watching.run(keystore, out))?;
        Ok(watch)
    }

    /// What is known at present.
    pub fn state(&self) -> KeystoreState {
        self.0.state.lock().clone()
    }

    /// Ends the watch after the call that is under way.
    pub fn end(&self) {
        self.0.over.store(true, Ordering::Release);
    }

    fn run(&self, keystore: Keystore, out: impl FnOnce(Keystore)) {
        let mut pause = FIRST_PAUSE;
        let mut leased: Option<Instant> = None;
        let mut looked: Option<Instant> = None;
        let mut seen = DeviceState::Active;
        while !self.0.over.load(Ordering::Acquire) {
            let watched = wait(keystore.client().watch_device(seen));
            match watched {
                Ok(watched) => {
                    self.answered(watched.state);
                    seen = watched.state;
                    pause = FIRST_PAUSE;
                }
                Err(error) => {
                    self.troubled(&error);
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(LONGEST_PAUSE);
                    continue;
                }
            }
            if matches!(seen, DeviceState::Deauthorised | DeviceState::Confirmed) {
                tracing::warn!("this computer was deauthorised; its keys are wiped");
                if let Err(error) = keystore.home.wipe_keys() {
                    tracing::error!(%error, "the keys could not be wiped");
                }
                return out(keystore);
            }
            if let Err(error) = renew(&keystore, &mut leased) {
                tracing::warn!(%error, "certificate or lease could not be renewed; it is tried again");
            }
            if looked.is_none_or(|at| at.elapsed() >= ADMINS_EACH) {
                looked = Some(Instant::now());
                self.look_at_admins(&keystore);
            }
        }
    }

    /// Nothing else waits for it: what is enrolled was wrapped to the admins that were known then.
    fn look_at_admins(&self, keystore: &Keystore) {
        let told = match keystore.check_admins() {
            // Asked again with the next lease; that it does not answer is told already.
            Err(KeystoreError::Call(_)) | Ok(()) => None,
            Err(error) => {
                tracing::error!(%error, "the recovery admins are not believed");
                Some(error.to_string())
            }
        };
        self.0.state.lock().admins = told;
    }

    fn answered(&self, device: DeviceState) {
        let mut state = self.0.state.lock();
        if !state.reachable {
            tracing::info!("the keystore answers again");
        }
        state.device = device;
        state.reachable = true;
        state.trouble = None;
        state.trouble_since = None;
    }

    fn troubled(&self, error: &ClientError) {
        let mut state = self.0.state.lock();
        if state.reachable {
            tracing::warn!(%error, "the keystore does not answer as it should");
            state.trouble_since = Some(now_seconds());
        }
        state.reachable = false;
        state.trouble = Some(error.to_string());
    }
}

/// A certificate when a third of its time is over; a lease of days some times a day.
fn renew(keystore: &Keystore, leased: &mut Option<Instant>) -> Result<(), KeystoreError> {
    let home = &keystore.home;
    if home.identity()?.is_due(now_seconds()) {
        let key = home.device_key()?;
        let issued = wait(keystore.client().device_certificate(key.request()))?;
        home.save_identity(&issued.certificate, &key)?;
        wait(keystore.client().present(&home.identity()?))?;
        tracing::info!("this computer has a new certificate");
    }
    let is_due = leased.is_none_or(|at| at.elapsed() >= LEASE_EACH);
    if matches!(keystore.server().lease, Lease::Days(_)) && is_due {
        keystore.fetch_half()?;
        *leased = Some(Instant::now());
    }
    Ok(())
}

fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().cast_signed())
}
