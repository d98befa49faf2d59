//! The lease: how long the keystore's half of the key may stay on this computer.
//!
//! `boot`: not at all, so a computer that was stolen while it was off opens nothing once it is deauthorised. So many days: in a file, with its
//! end, so that the drive is mounted without the keystore meanwhile. That end is honoured by honest software only, and so is the clock.
//!
//! ```text
//! end     8   seconds since 1970
//! half   32
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_crypto::DeviceHalf;
use holdfast_keystore_client::messages::Lease;
use zeroize::Zeroizing;

use crate::home::{Home, HomeError};

const DAY_SECONDS: u64 = 86_400;

/// Begins a lease of days, or ends what there was of one.
pub fn keep(home: &Home, lease: Lease, half: &DeviceHalf) -> Result<(), HomeError> {
    let Lease::Days(days) = lease else {
        return home.wipe_half();
    };
    let end = now_seconds() + u64::from(days) * DAY_SECONDS;
    let mut bytes = Zeroizing::new(Vec::with_capacity(40));
    bytes.extend_from_slice(&end.to_le_bytes());
    bytes.extend_from_slice(half.expose_secret());
    home.save_half(&bytes)
}

/// The half, while its lease lasts; after that it is wiped.
pub(super) fn kept(home: &Home) -> Result<Option<DeviceHalf>, HomeError> {
    let Some(bytes) = home.load_half()? else {
        return Ok(None);
    };
    let read = || {
        let (end, rest) = bytes.split_first_chunk::<8>()?;
        let half: [u8; 32] = rest.try_into().ok()?;
        let lasts = now_seconds() < u64::from_le_bytes(*end);
        lasts.then(|| DeviceHalf::from_bytes(Zeroizing::new(half)))
    };
    match read() {
        Some(half) => Ok(Some(half)),
        None => home.wipe_half().map(|()| None),
    }
}

fn now_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(u64::MAX, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_of_days_is_on_disk_until_its_end_and_boot_never() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let half = DeviceHalf::generate();
        keep(&home, Lease::Days(1), &half).unwrap();
        let again = kept(&home).unwrap().unwrap();
        assert_eq!(again.expose_secret(), half.expose_secret());
        keep(&home, Lease::Boot, &half).unwrap();
        assert!(kept(&home).unwrap().is_none());
        assert!(home.load_half().unwrap().is_none());
        // Its end was a moment ago.
        let mut over = (now_seconds() - 1).to_le_bytes().to_vec();
        over.extend_from_slice(half.expose_secret());
        home.save_half(&over).unwrap();
        assert!(kept(&home).unwrap().is_none());
        assert!(home.load_half().unwrap().is_none());
        home.save_half(b"torn").unwrap();
        assert!(kept(&home).unwrap().is_none());
    }
}
