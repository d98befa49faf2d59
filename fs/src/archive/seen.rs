//! What this computer has seen of the archive: the store must not show less later.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::home::{Home, HomeError};

const FILE: &str = "archive.json";

/// The highest numbers seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Seen {
    /// Keyring version.
    pub keyring: u64,
    /// Highest commit sequence per device (16 hex digits).
    pub commits: BTreeMap<String, u64>,
    /// What the store was found to honour.
    pub capabilities: Option<holdfast_backend::store::Capabilities>,
}

impl Seen {
    pub(crate) fn load(home: &Home) -> Result<Self, HomeError> {
        let bytes = home.load_state(FILE)?.unwrap_or_default();
        // Unreadable is as good as lost: it only ever makes the program more careful.
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub(crate) fn save(&self, home: &Home) -> Result<(), HomeError> {
        let bytes = serde_json::to_vec_pretty(self).expect("a table of numbers");
        home.save_state(FILE, &bytes)
    }

    /// Takes a sequence in; says the highest one if this one is lower.
    pub(crate) fn sequence(
        &mut self,
        device: holdfast_crypto::DeviceId,
        sequence: u64,
    ) -> Result<(), u64> {
        let highest = self.commits.entry(device.to_string()).or_default();
        if sequence < *highest {
            return Err(*highest);
        }
        *highest = sequence;
        Ok(())
    }
}
