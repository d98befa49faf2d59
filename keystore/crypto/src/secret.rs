//! Thirty-two secret bytes, and where random ones come from.

use zeroize::Zeroizing;

/// A secret of 256 bits.
///
/// Boxed, so that moving it leaves no copy behind on the stack; zeroed when dropped. It can be
/// neither printed nor copied; the key types built on it add a role and nothing else.
pub(crate) struct SecretBytes(Box<Zeroizing<[u8; 32]>>);

impl SecretBytes {
    pub(crate) fn zeroed() -> Self {
        SecretBytes(Box::new(Zeroizing::new([0; 32])))
    }

    pub(crate) fn generate() -> Self {
        let mut secret = Self::zeroed();
        fill_random(secret.0.as_mut_slice());
        secret
    }

    pub(crate) fn copy_of(bytes: &[u8; 32]) -> Self {
        let mut secret = Self::zeroed();
        secret.0.copy_from_slice(bytes);
        secret
    }

    /// `None` unless there are exactly 32 bytes.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::copy_of)
    }

    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn expose_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }
}

/// Fills from the kernel's random generator.
pub(crate) fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes)
        .expect("the kernel's random generator does not fail once the system has booted");
}
