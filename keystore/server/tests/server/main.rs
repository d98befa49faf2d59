//! The real server over real TLS.

mod support;

mod thin_thread;
