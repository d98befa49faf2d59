#![allow(missing_docs, unused)]
pub struct RedbRecords;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct OpenRecordsError;
impl RedbRecords {
    pub fn open(p: &std::path::Path) -> Result<Self, OpenRecordsError> {
        Ok(RedbRecords)
    }
}
