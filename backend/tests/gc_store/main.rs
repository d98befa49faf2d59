//! Retention, gc, undelete and scrub on a store in memory: the real asynchronous code.

mod archive;
mod collect;
mod interleavings;
mod scrub;
mod timed;
