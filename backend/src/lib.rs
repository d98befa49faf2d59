//! Stores of opaque, write-once objects.
//!
//! Nothing in this crate can name a key, and nothing in it sees plaintext: what it stores is built
//! from [`holdfast_crypto::Ciphertext`], wrapped keys, and clear lists of object names.
//!
//! The modules, in the order an object passes them: [`layout`] spells its name, [`object`] and
//! [`pack`] build its bytes, [`store`] keeps them. What keeps the archive in order needs no key
//! either: [`refs`] say what a commit needs, [`marks`] what was given up or moved, [`retention`]
//! decides which commits are kept, [`gc`] deletes what nobody needs, [`scrub`] checks every object.

pub mod layout;
pub mod object;
pub mod pack;
pub mod store;

pub mod gc;
pub mod marks;
pub mod refs;
pub mod retention;
pub mod scrub;
