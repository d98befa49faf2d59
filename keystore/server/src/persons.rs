//! Who may come in: names, roles and the fingerprints of their certificates.
//!
//! The table is a file beside the database, outside of the barrier, because it must be there while the keystore is sealed.
//! It is therefore only as safe as the disk is; what it can give away while sealed is who may offer a share,
//! and a share has to be good all the same. While the keystore is open, the barrier keeps a
//! [digest](Persons::digest) of the table, and a table that was changed behind the server's back is told at the next unseal.
//!
//! A change is written beside the file, synced, and renamed over it. If we die between any two of these, the old table
//! stands; whoever asked for the change was not told that it is done.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::names::{Fingerprint, HexBytes, PersonName, Role};

/// More than that are not added.
pub const PERSONS: usize = 256;

/// Somebody who may come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// What everybody calls it.
    pub name: PersonName,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of its certificate, in hexadecimal digits.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub fingerprint: Fingerprint,
    /// SHA-256 of its public key: one key is one person.
    #[schema(value_type = String, pattern = "^[0-9a-f]{64}$")]
    pub public_key: HexBytes<32>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub added: Timestamp,
}

/// The table, with the file it lies in.
pub struct Persons {
    path: PathBuf,
    by_fingerprint: BTreeMap<Fingerprint, Person>,
}

/// What cannot be done with the table.
#[derive(Debug, thiserror::Error)]
pub enum PersonsError {
    /// Not readable or not writable.
    #[error("the table of persons {} cannot be read or written: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not what we write.
    #[error("the table of persons {} is damaged: {source}; put it back from a copy", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The name is taken.
    #[error("there is a person named {name} already")]
    NameTaken {
        /// The name.
        name: PersonName,
    },
    /// The certificate is somebody's.
    #[error("this key belongs to {name} already")]
    KeyTaken {
        /// Whose.
        name: PersonName,
    },
    /// Nobody has that name.
    #[error("there is no person named {name}")]
    Unknown {
        /// The name.
        name: PersonName,
    },
    /// Without an operator nobody could add one.
    #[error("{name} is the last operator")]
    LastOperator {
        /// The name.
        name: PersonName,
    },
    /// There are enough.
    #[error("there are {PERSONS} persons, which is as many as there can be")]
    Full,
}

impl Persons {
    /// Reads the table; there is none yet on first start.
    pub fn open(path: &Path) -> Result<Persons, PersonsError> {
        let io = |source| PersonsError::Io {
            path: path.to_owned(),
            source,
        };
        let list: Vec<Person> = match fs::read(path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| PersonsError::Damaged {
                    path: path.to_owned(),
                    source,
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(io(error)),
        };
        Ok(Persons {
            path: path.to_owned(),
            by_fingerprint: by_fingerprint(list),
        })
    }

    /// Whose certificate it is.
    pub fn find(&self, fingerprint: &Fingerprint) -> Option<&Person> {
        self.by_fingerprint.get(fingerprint)
    }

    /// The person of that name.
    pub fn named(&self, name: &PersonName) -> Option<&Person> {
        self.by_fingerprint
            .values()
            .find(|person| person.name == *name)
    }

    /// Everybody, by name.
    pub fn list(&self) -> Vec<Person> {
        let mut list: Vec<Person> = self.by_fingerprint.values().cloned().collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// Whether there is anybody.
    pub fn is_empty(&self) -> bool {
        self.by_fingerprint.is_empty()
    }

    /// Whether a person can be added, before anything is signed or put on record.
    pub fn check_add(
        &self,
        name: &PersonName,
        public_key: &HexBytes<32>,
    ) -> Result<(), PersonsError> {
        if let Some(person) = self.named(name) {
            let name = person.name.clone();
            return Err(PersonsError::NameTaken { name });
        }
        let mut persons = self.by_fingerprint.values();
        if let Some(owner) = persons.find(|person| person.public_key == *public_key) {
            let name = owner.name.clone();
            return Err(PersonsError::KeyTaken { name });
        }
        if self.by_fingerprint.len() >= PERSONS {
            return Err(PersonsError::Full);
        }
        Ok(())
    }

    /// Adds one.
    pub fn add(&mut self, person: Person) -> Result<(), PersonsError> {
        self.check_add(&person.name, &person.public_key)?;
        let mut changed = self.by_fingerprint.clone();
        changed.insert(person.fingerprint, person);
        self.write(changed)
    }

    /// Whether one can be removed.
    pub fn check_remove(&self, name: &PersonName) -> Result<&Person, PersonsError> {
        let unknown = || PersonsError::Unknown { name: name.clone() };
        let person = self.named(name).ok_or_else(unknown)?;
        let operators = |person: &&Person| person.role == Role::Operator;
        if person.role == Role::Operator
            && self.by_fingerprint.values().filter(operators).count() == 1
        {
            return Err(PersonsError::LastOperator { name: name.clone() });
        }
        Ok(person)
    }

    /// Removes one; its certificate is refused from the next request on.
    pub fn remove(&mut self, name: &PersonName) -> Result<Person, PersonsError> {
        let person = self.check_remove(name)?.clone();
        let mut changed = self.by_fingerprint.clone();
        changed.remove(&person.fingerprint);
        self.write(changed)?;
        Ok(person)
    }

    /// Takes the table of a snapshot. Who is here stays in, or whoever restores would be shut out; where the name is taken, under
    /// another one.
    pub fn merge(&mut self, restored: Vec<Person>) -> Result<(), PersonsError> {
        let mut changed = by_fingerprint(restored);
        for person in self.by_fingerprint.values() {
            if changed.contains_key(&person.fingerprint) {
                continue;
            }
            let mut person = person.clone();
            person.name = free_name(&changed, person.name);
            changed.insert(person.fingerprint, person);
        }
        self.write(changed)
    }

    /// What the barrier remembers of the table.
    pub fn digest(&self) -> HexBytes<32> {
        let bytes = serde_json::to_vec(&self.list()).expect("names and ids are always JSON");
        HexBytes(Sha256::digest(bytes).into())
    }

    fn write(&mut self, changed: BTreeMap<Fingerprint, Person>) -> Result<(), PersonsError> {
        let new = Persons {
            path: self.path.clone(),
            by_fingerprint: changed,
        };
        let bytes = serde_json::to_vec_pretty(&new.list()).expect("names and ids are always JSON");
        replace_file(&new.path, &bytes).map_err(|source| PersonsError::Io {
            path: new.path.clone(),
            source,
        })?;
        *self = new;
        Ok(())
    }
}

fn by_fingerprint(list: Vec<Person>) -> BTreeMap<Fingerprint, Person> {
    list.into_iter()
        .map(|person| (person.fingerprint, person))
        .collect()
}

/// The name itself, or `here-1`, `here-2` and so on.
fn free_name(table: &BTreeMap<Fingerprint, Person>, name: PersonName) -> PersonName {
    let taken = |name: &PersonName| table.values().any(|person| person.name == *name);
    let others = (1..).map(|number| {
        let other = format!("here-{number}");
        other.parse().expect("it is a good name")
    });
    std::iter::once(name)
        .chain(others)
        .find(|name| !taken(name))
        .expect("a table is finite")
}

/// Writes a file that is there whole or not at all, readable by its owner only.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().expect("a file lies in a folder");
    let mut temporary = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str, role: Role) -> Person {
        Person {
            name: name.parse().unwrap(),
            role,
            fingerprint: HexBytes(Sha256::digest(name).into()),
            public_key: HexBytes(Sha256::digest([name.as_bytes(), b"key"].concat()).into()),
            added: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_table_survives_and_its_digest_says_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("persons.json");
        let mut persons = Persons::open(&path).unwrap();
        let empty = persons.digest();
        persons.add(person("alice", Role::Operator)).unwrap();
        persons.add(person("bob", Role::Holder)).unwrap();
        assert_ne!(persons.digest(), empty);
        let again = Persons::open(&path).unwrap();
        assert_eq!(again.list(), persons.list());
        assert_eq!(again.digest(), persons.digest());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::write(
            &path,
            fs::read_to_string(&path)
                .unwrap()
                .replace("holder", "operator"),
        )
        .unwrap();
        assert_ne!(Persons::open(&path).unwrap().digest(), persons.digest());
    }

    #[test]
    fn names_are_unique_and_the_last_operator_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut persons = Persons::open(&folder.path().join("persons.json")).unwrap();
        persons.add(person("alice", Role::Operator)).unwrap();
        let mut double = person("alice", Role::Holder);
        double.public_key = HexBytes([7; 32]);
        assert!(matches!(
            persons.add(double),
            Err(PersonsError::NameTaken { .. })
        ));
        let mut same_key = person("mallory", Role::Holder);
        same_key.public_key = person("alice", Role::Holder).public_key;
        assert!(matches!(
            persons.add(same_key),
            Err(PersonsError::KeyTaken { .. })
        ));
        let alice = "alice".parse().unwrap();
        assert!(matches!(
            persons.remove(&alice),
            Err(PersonsError::LastOperator { .. })
        ));
        persons.add(person("olga", Role::Operator)).unwrap();
        persons.remove(&alice).unwrap();
        assert!(
            persons
                .find(&person("alice", Role::Operator).fingerprint)
                .is_none()
        );
        assert!(matches!(
            persons.remove(&alice),
            Err(PersonsError::Unknown { .. })
        ));
    }
}
