//! What can go wrong with a call, by what to do next.

use holdfast_protocol::calls::Refused;

use crate::address::ServerAddress;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers, or not in time. Later it may.
    #[error(
        "the keystore {address} does not answer: {sentence}; check the address, the network, and that the server runs"
    )]
    Unreachable {
        /// Where.
        address: ServerAddress,
        /// Why.
        sentence: String,
    },
    /// It is not the keystore that we were told of, or it does not take our certificate.
    #[error("{address} is not taken for the keystore: {sentence}")]
    Untrusted {
        /// Where.
        address: ServerAddress,
        /// Why, and what to do.
        sentence: String,
    },
    /// It runs and has no keys at present. Later it will have.
    #[error("{}; {}", .0.sentence, .0.next_step)]
    Sealed(Refused),
    /// It says no.
    #[error("{}; {}", .0.sentence, .0.next_step)]
    Refused(Refused),
    /// It answers in a way that we do not understand.
    #[error(
        "{address} answers as no keystore does ({sentence}); check the address, and update holdfast"
    )]
    Strange {
        /// Where.
        address: ServerAddress,
        /// What.
        sentence: String,
    },
}

impl ClientError {
    /// The code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            ClientError::Refused(refused) | ClientError::Sealed(refused) => Some(&refused.code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anything being done here.
    pub fn is_away(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } | ClientError::Sealed(_) => true,
            ClientError::Refused(refused) => {
                matches!(
                    refused.code.as_str(),
                    "audit_failed" | "storage_failed" | "store_failed" | "too_often"
                )
            }
            ClientError::Untrusted { .. } | ClientError::Strange { .. } => false,
        }
    }

    pub(crate) fn refused(refused: Refused) -> ClientError {
        match refused.code.as_str() {
            "sealed" | "uninitialised" => ClientError::Sealed(refused),
            _ => ClientError::Refused(refused),
        }
    }
}
