//! What can go wrong with a store. The kind says what to do next, the text names the object, the
//! place and the next step; neither ever contains credentials.

use std::{borrow::Cow, error::Error, fmt, ops::Range, sync::Arc};

use crate::{
    layout::{Folder, ObjectName},
    object::DigestMismatch,
};

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Storing an object.
    Put,
    /// Loading an object.
    Get,
    /// Loading a part of an object.
    GetRange,
    /// Listing a folder.
    List,
    /// Deleting an object.
    Delete,
    /// Finding out what the store honours.
    Probe,
    /// Opening the store.
    Open,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put => "store",
            Self::Get => "load",
            Self::GetRange => "load a part of",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Probe => "probe",
            Self::Open => "open",
        })
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// There is no such object.
    NotFound,
    /// Try again later: the network, or a busy store.
    Transient,
    /// Mend the credentials or the permissions.
    Denied,
    /// Make room.
    NoSpace,
    /// Mend the configuration: no such bucket or folder, a bad endpoint.
    NotConfigured,
    /// What is stored is not what its name says; repair it.
    Damaged,
    /// The store does not accept this request; trying again will not help.
    Refused,
}

impl StoreErrorKind {
    fn next_step(self) -> &'static str {
        match self {
            Self::NotFound => "it is not there",
            Self::Transient => "the store does not answer as it should; try again later",
            Self::Denied => "permission denied; check the credentials and their rights",
            Self::NoSpace => "no space left; free some, or raise the quota",
            Self::NotConfigured => "no store was found there; check the location",
            Self::Damaged => {
                "what is stored is damaged; `holdfast check` names the files that use it"
            }
            Self::Refused => "the store does not accept the request",
        }
    }
}

/// A failed operation on a store. Cloning shares the source.
#[derive(Clone, Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    operation: Operation,
    subject: Option<Cow<'static, str>>,
    location: Cow<'static, str>,
    detail: Option<Cow<'static, str>>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// An error that concerns the store as a whole.
    pub fn new(
        kind: StoreErrorKind,
        operation: Operation,
        location: impl Into<Cow<'static, str>>,
    ) -> Self {
        let location = location.into();
        Self {
            kind,
            operation,
            subject: None,
            location,
            detail: None,
            source: None,
        }
    }

    /// No such object.
    pub fn not_found(operation: Operation, name: &ObjectName, location: String) -> Self {
        Self::new(StoreErrorKind::NotFound, operation, location).object(name)
    }

    /// Loaded bytes that do not fit the name.
    pub fn damaged(operation: Operation, mismatch: DigestMismatch, location: String) -> Self {
        let error = Self::new(StoreErrorKind::Damaged, operation, location);
        error.object(&mismatch.name).because(mismatch)
    }

    /// A range that an object does not have: the object is shorter than what refers to it says.
    pub(crate) fn beyond_end(name: &ObjectName, range: &Range<u64>, location: String) -> Self {
        Self::new(StoreErrorKind::Damaged, Operation::GetRange, location)
            .object(name)
            .detail(format!(
                "bytes {} to {} are not in it; run `holdfast check`",
                range.start, range.end
            ))
    }

    /// Longer than any object that this program stores.
    pub(crate) fn too_large(operation: Operation, name: &ObjectName, location: String) -> Self {
        let error = Self::new(StoreErrorKind::Damaged, operation, location).object(name);
        error.detail("it is larger than any object can be; run `holdfast scrub`")
    }

    /// Names the object.
    pub fn object(mut self, name: &ObjectName) -> Self {
        self.subject = Some(name.to_string().into());
        self
    }

    /// Names the folder.
    pub fn folder(mut self, folder: &Folder) -> Self {
        self.subject = Some(folder.to_string().into());
        self
    }

    /// Says what exactly was found, in place of the kind's general advice.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Keeps the error that led to this one.
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// What to do next.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// What was being done.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == StoreErrorKind::NotFound
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} ", self.operation)?;
        if let Some(subject) = &self.subject {
            write!(f, "{subject} in ")?;
        }
        write!(f, "the store {}: ", self.location)?;
        match &self.detail {
            Some(detail) => f.write_str(detail),
            None => f.write_str(self.kind.next_step()),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
