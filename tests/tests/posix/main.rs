//! Suites that nobody here wrote, on `current/` of a mounted drive and, where the result depends on the
//! machine, on the disk below in the same run. `make test-posix` runs them; `docs/semantics.md` has the results.

mod conformance;
mod programs;
