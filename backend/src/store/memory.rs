//! Objects in memory, for tests.

use std::{collections::BTreeMap, ops::Range, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Capabilities, Listed, ObjectStore, Operation, StoreError, Stored};
use crate::{
    layout::{Folder, ObjectName},
    object::{Object, check_digest},
};

/// A table of objects. Gone when dropped.
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<ObjectName, Held>>,
}

struct Held {
    bytes: Bytes,
    stored_at: SystemTime,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what is stored under `name`, as a failing disk or an attacker would.
    pub fn corrupt(&self, name: &ObjectName, bytes: impl Into<Bytes>) {
        let held = Held {
            bytes: bytes.into(),
            stored_at: SystemTime::now(),
        };
        self.objects.lock().insert(*name, held);
    }

    /// Makes an object older or younger, for tests of grace periods.
    pub fn set_stored_at(&self, name: &ObjectName, stored_at: SystemTime) {
        if let Some(held) = self.objects.lock().get_mut(name) {
            held.stored_at = stored_at;
        }
    }

    /// The names of all objects, sorted.
    pub fn names(&self) -> Vec<ObjectName> {
        self.objects.lock().keys().copied().collect()
    }

    fn load(&self, operation: Operation, name: &ObjectName) -> Result<Bytes, StoreError> {
        match self.objects.lock().get(name) {
            Some(held) => Ok(held.bytes.clone()),
            None => Err(StoreError::not_found(operation, name, self.location())),
        }
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn put_new(&self, object: &Object) -> Result<Stored, StoreError> {
        let mut objects = self.objects.lock();
        if objects.contains_key(&object.name()) {
            return Ok(Stored::AlreadyThere);
        }
        let held = Held {
            bytes: object.bytes().clone(),
            stored_at: SystemTime::now(),
        };
        objects.insert(object.name(), held);
        Ok(Stored::New)
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let bytes = self.load(Operation::Get, name)?;
        check_digest(name, &bytes)
            .map_err(|mismatch| StoreError::damaged(Operation::Get, mismatch, self.location()))?;
        Ok(bytes)
    }

    async fn get_range(&self, name: &ObjectName, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = self.load(Operation::GetRange, name)?;
        if range.start > range.end || range.end > bytes.len() as u64 {
            return Err(StoreError::beyond_end(name, &range, self.location()));
        }
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    async fn list(&self, folder: Folder) -> Result<Vec<Listed>, StoreError> {
        let objects = self.objects.lock();
        let listed = |(name, held): (&ObjectName, &Held)| Listed {
            name: *name,
            size: held.bytes.len() as u64,
            stored_at: Some(held.stored_at),
        };
        Ok(objects
            .iter()
            .filter(|(name, _)| folder.contains(name))
            .map(listed)
            .collect())
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.objects.lock().remove(name);
        Ok(())
    }

    fn location(&self) -> String {
        "memory".into()
    }

    async fn probe(&self) -> Result<Capabilities, StoreError> {
        Ok(Capabilities {
            conditional_put: true,
            checksum_enforced: true,
            ranges: true,
        })
    }
}

#[cfg(test)]
mod tests;
