//! Why a command failed: one sentence with the next step.

/// An error for a person. Its text is the sentence; the cause is kept for the log.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub struct CommandError {
    sentence: String,
    #[source]
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl CommandError {
    /// A refusal in the command's own words: what is wrong and what to do next.
    pub fn new(sentence: impl Into<String>) -> CommandError {
        CommandError {
            sentence: sentence.into(),
            cause: None,
        }
    }

    /// An error from below whose own text is the sentence.
    pub fn from_error<E>(error: E) -> CommandError
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        CommandError {
            sentence: error.to_string(),
            cause: Some(Box::new(error)),
        }
    }

    /// Says what was being done, and what the layer below says of it.
    pub fn because<E>(what: impl std::fmt::Display, cause: E) -> CommandError
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        CommandError {
            sentence: format!("{what}: {cause}"),
            cause: Some(Box::new(cause)),
        }
    }
}
