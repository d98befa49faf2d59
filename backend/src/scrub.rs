//! Scrubbing: every object against its name, without a key.
//!
//! Every name ends in the SHA-256 of the object's bytes, so one flipped bit anywhere is found.
//! What stands under a name is also looked at from outside: binary objects must begin with the header of
//! their kind, text objects must be readable, and what the refs of kept commits name must be there.
//! Whether the references *inside* encrypted objects hold is what `check` finds out, with the key.
//!
//! Nothing is changed. Memory: at most [`Options::at_once`] objects are held at a time.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use serde::{Serialize, Serializer};

use crate::gc::{GcError, Rules, Survey, judge};
use crate::layout::{Folder, ObjectName};
use crate::marks::{Condemned, Deleting, Forgotten, Moved, Pins, Text};
use crate::object::{Header, ObjectKind};
use crate::refs::Refs;
use crate::store::{Listed, ObjectStore, StoreError, StoreErrorKind};

/// How to scrub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How many objects are loaded at the same time; 4 to 8 keep a disk or a network link busy.
    pub at_once: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options { at_once: 4 }
    }
}

/// How far a scrub is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Objects checked.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Objects that were listed.
    pub total_objects: u64,
    /// Bytes of them.
    pub total_bytes: u64,
}

/// What is wrong with one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "fault", content = "text")]
pub enum Fault {
    /// Its bytes are not the ones that its name stands for.
    Damaged(String),
    /// Its bytes are those of its name, but they are no object of its folder, or of a newer format.
    Malformed(String),
    /// It could not be loaded, so nothing is known.
    Unreadable(String),
}

/// What a scrub found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ScrubReport {
    /// What was checked.
    pub checked: Progress,
    /// Objects with a fault.
    #[serde(serialize_with = "names_to_faults")]
    pub faults: BTreeMap<ObjectName, Fault>,
    /// Named by the refs of a kept commit, or a base of them, but not there.
    #[serde(serialize_with = "names")]
    pub missing: BTreeSet<ObjectName>,
    /// There, but needed by no kept commit and by no backup under way: left for gc.
    #[serde(serialize_with = "names")]
    pub unreferenced: BTreeSet<ObjectName>,
    /// Why it could not be found out what is missing, if so.
    pub unjudged: Option<String>,
}

impl ScrubReport {
    /// Whether nothing is wrong. Unreferenced objects are nothing wrong.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty() && self.missing.is_empty() && self.unjudged.is_none()
    }
}

fn names<S: Serializer>(names: &BTreeSet<ObjectName>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(ObjectName::to_string))
}

fn names_to_faults<S: Serializer>(
    faults: &BTreeMap<ObjectName, Fault>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(faults.iter().map(|(name, fault)| (name.to_string(), fault)))
}

/// Checks every object. Fails only if the store cannot be listed; what goes wrong with one object is in
/// the report. `progress` is called after each object.
pub async fn scrub(
    store: &dyn ObjectStore,
    rules: &Rules,
    options: Options,
    mut progress: impl FnMut(Progress),
) -> Result<ScrubReport, StoreError> {
    let mut listed = Vec::new();
    for folder in Folder::ALL {
        listed.extend(store.list(folder).await?);
    }
    let mut checked = Progress {
        total_objects: listed.len() as u64,
        total_bytes: listed.iter().map(|listed| listed.size).sum(),
        ..Progress::default()
    };
    let mut report = ScrubReport::default();
    let checks = listed
        .iter()
        .map(|listed| async move { (listed, check(store, listed).await) });
    let mut checks = stream::iter(checks).buffer_unordered(options.at_once.max(1));
    while let Some((listed, fault)) = checks.next().await {
        checked.objects += 1;
        checked.bytes += listed.size;
        progress(checked);
        if let Some(fault) = fault {
            report.faults.insert(listed.name, fault);
        }
    }
    report.checked = checked;
    match find_missing(store, rules, &mut report).await {
        Ok(()) => {}
        Err(GcError::Store(error)) => return Err(error),
        Err(error) => report.unjudged = Some(error.to_string()),
    }
    Ok(report)
}

/// One object. One that a gc deleted since it was listed has no fault; if it was needed, it is missing.
async fn check(store: &dyn ObjectStore, listed: &Listed) -> Option<Fault> {
    let bytes = match store.get(&listed.name).await {
        Ok(bytes) => bytes,
        Err(error) => {
            return match error.kind() {
                StoreErrorKind::NotFound => None,
                StoreErrorKind::Damaged => Some(Fault::Damaged(error.to_string())),
                _ => Some(Fault::Unreadable(error.to_string())),
            };
        }
    };
    if bytes.len() as u64 != listed.size {
        return Some(Fault::Damaged(format!(
            "{} bytes are listed, {} came",
            listed.size,
            bytes.len()
        )));
    }
    // A pack may be 32 MiB; it was hashed by `get` in one go and is dropped here.
    shape(&listed.name, &bytes).err().map(Fault::Malformed)
}

/// Whether the bytes are what belongs into the name's folder.
fn shape(name: &ObjectName, bytes: &[u8]) -> Result<(), String> {
    let text =
        |result: Result<(), crate::marks::TextError>| result.map_err(|error| error.to_string());
    let binary = |kind| {
        Header::parse(kind, bytes)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    match name {
        ObjectName::Pack(_) => binary(ObjectKind::Pack),
        ObjectName::Index(_) => binary(ObjectKind::Index),
        ObjectName::Key(_) => binary(ObjectKind::Key),
        ObjectName::Commit { .. } => binary(ObjectKind::Commit),
        ObjectName::Keyring { .. } => binary(ObjectKind::Keyring),
        ObjectName::Refs { .. } => text(Refs::from_object(name, bytes).map(drop)),
        ObjectName::Pin { .. } => text(Pins::from_object(name, bytes).map(drop)),
        ObjectName::Forgotten { .. } => text(Forgotten::from_object(name, bytes).map(drop)),
        ObjectName::Condemned { .. } => text(Condemned::from_object(name, bytes).map(drop)),
        ObjectName::Deleting { .. } => text(Deleting::from_object(name, bytes).map(drop)),
        ObjectName::Moved { .. } => text(Moved::from_object(name, bytes).map(drop)),
    }
}

async fn find_missing(
    store: &dyn ObjectStore,
    rules: &Rules,
    report: &mut ScrubReport,
) -> Result<(), GcError> {
    let survey = Survey::take(store, rules.now).await?;
    let judgement = judge(&survey, rules)?;
    let listed = survey.objects.keys().copied();
    report.unreferenced = listed
        .filter(|name| !judgement.needed.contains(name))
        .collect();
    report.missing = judgement
        .kept_needs
        .into_iter()
        .filter(|name| !survey.exists(name))
        .collect();
    report
        .missing
        .extend(judgement.lost_pins.into_iter().map(ObjectName::from));
    Ok(())
}
