//! What is left out.
//!
//! A pattern without `/` is matched against names at any depth (`*.o`), one with `/` against the end
//! of the path (`target/debug`), one that begins with `/` against the whole path. `*` and `?` do not
//! match `/`, `**` does. One that ends with `/` is for folders only. What is left out was not backed
//! up: if an earlier backup copied it, it goes from `current/` (snapshots keep it).

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::fs::{Mode, OFlags, openat};

/// The first bytes of a CACHEDIR.TAG (<https://bford.info/cachedir/>).
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
/// The name of that file.
pub(super) const CACHE_TAG: &[u8] = b"CACHEDIR.TAG";

/// A pattern that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("`{pattern}` is no pattern: {why}; quote it, and see `holdfast backup --help`")]
pub struct ExcludeError {
    pattern: String,
    why: String,
}

/// The patterns of one backup.
pub(super) struct Exclude {
    names: Globs,
    paths: Globs,
}

/// Patterns for folders only, and for everything.
struct Globs {
    folders: GlobSet,
    all: GlobSet,
}

impl Exclude {
    pub(super) fn new(patterns: &[String]) -> Result<Exclude, ExcludeError> {
        let (mut names, mut paths) = (GlobsBuilder::new(), GlobsBuilder::new());
        for pattern in patterns {
            let (body, folders_only) = match pattern.strip_suffix('/') {
                Some(body) => (body, true),
                None => (pattern.as_str(), false),
            };
            match body {
                "" => {
                    return Err(ExcludeError {
                        pattern: pattern.clone(),
                        why: "it is empty".into(),
                    });
                }
                body if !body.contains('/') => names.add(pattern, body, folders_only)?,
                body if body.starts_with('/') => paths.add(pattern, body, folders_only)?,
                body => paths.add(pattern, &format!("**/{body}"), folders_only)?,
            }
        }
        Ok(Exclude {
            names: names.build()?,
            paths: paths.build()?,
        })
    }

    pub(super) fn is_excluded(&self, path: &Path, name: &[u8], is_folder: bool) -> bool {
        self.names
            .is_match(Path::new(OsStr::from_bytes(name)), is_folder)
            || self.paths.is_match(path, is_folder)
    }
}

impl Globs {
    fn is_match(&self, path: &Path, is_folder: bool) -> bool {
        !self.all.is_empty() && self.all.is_match(path)
            || is_folder && !self.folders.is_empty() && self.folders.is_match(path)
    }
}

struct GlobsBuilder {
    folders: GlobSetBuilder,
    all: GlobSetBuilder,
}

impl GlobsBuilder {
    fn new() -> Self {
        GlobsBuilder {
            folders: GlobSetBuilder::new(),
            all: GlobSetBuilder::new(),
        }
    }

    fn add(&mut self, pattern: &str, body: &str, folders_only: bool) -> Result<(), ExcludeError> {
        let glob = GlobBuilder::new(body)
            .literal_separator(true)
            .backslash_escape(true)
            .build();
        let glob = glob.map_err(|error| refused(pattern, &error))?;
        if folders_only {
            self.folders.add(glob)
        } else {
            self.all.add(glob)
        };
        Ok(())
    }

    fn build(self) -> Result<Globs, ExcludeError> {
        let build = |set: GlobSetBuilder| set.build().map_err(|error| refused("", &error));
        Ok(Globs {
            folders: build(self.folders)?,
            all: build(self.all)?,
        })
    }
}

fn refused(pattern: &str, error: &globset::Error) -> ExcludeError {
    ExcludeError {
        pattern: pattern.to_owned(),
        why: error.kind().to_string(),
    }
}

/// The patterns of a file: one a line; empty lines and those that begin with `#` are left out.
pub fn patterns_of(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim_end_matches('\r'));
    lines
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// Whether a folder says of itself that it is a cache.
pub(super) fn is_cache(folder: BorrowedFd<'_>) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(tag) = openat(folder.as_fd(), CACHE_TAG, flags, Mode::empty()) else {
        return false;
    };
    let mut bytes = [0; CACHE_SIGNATURE.len()];
    std::fs::File::from(tag).read_exact(&mut bytes).is_ok() && bytes == CACHE_SIGNATURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(pattern: &str, path: &str, is_folder: bool) -> bool {
        let exclude = Exclude::new(&[pattern.to_owned()]).unwrap();
        let path = Path::new(path);
        exclude.is_excluded(path, path.file_name().unwrap().as_bytes(), is_folder)
    }

    #[test]
    fn a_pattern_matches_names_ends_of_paths_or_whole_paths() {
        assert!(excludes("*.o", "/a/b/x.o", false));
        assert!(!excludes("*.o", "/a/b.o/x", false));
        assert!(excludes("target/debug", "/a/target/debug", true));
        assert!(!excludes("target/debug", "/a/target/x/debug", true));
        assert!(excludes("target/**/debug", "/a/target/x/debug", true));
        assert!(excludes("/a/*", "/a/b", false));
        assert!(!excludes("/a/*", "/a/b/c", false));
        assert!(!excludes("/b", "/a/b", false));
        assert!(excludes("node_modules/", "/a/node_modules", true));
        assert!(!excludes("node_modules/", "/a/node_modules", false));
    }

    #[test]
    fn a_broken_pattern_is_named() {
        let error = Exclude::new(&["a[".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("`a[`"), "{error}");
        assert_eq!(patterns_of("# caches\n\n*.o\r\n  \nb c\n"), ["*.o", "b c"]);
    }
}
