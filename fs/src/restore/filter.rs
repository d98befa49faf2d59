//! Which paths `--include` and `--exclude` let through.
//!
//! A pattern without `/` is compared with names, one with `/` with the whole path from the top of the
//! snapshot. What holds for a folder holds for everything below it; excluding wins.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Patterns, ready to be compared.
#[derive(Clone, Default)]
pub struct Filter {
    include: Option<Patterns>,
    exclude: Option<Patterns>,
}

#[derive(Clone)]
struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

/// A pattern that is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "{pattern:?} is no pattern ({source}); use *, ?, [abc], {{a,b}} and **, and quote it for the shell"
)]
pub struct PatternError {
    pattern: String,
    source: globset::Error,
}

/// What to do with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It and everything below it, but for what is excluded there.
    Take,
    /// Not it, but perhaps something below it.
    Search,
    /// Neither it nor anything below it.
    Skip,
}

impl Filter {
    /// Reads the patterns. No `include` lets everything through.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Filter, PatternError> {
        Ok(Filter {
            include: Patterns::new(include)?,
            exclude: Patterns::new(exclude)?,
        })
    }

    /// The verdict on the top.
    pub fn start(&self) -> Verdict {
        if self.include.is_some() {
            Verdict::Search
        } else {
            Verdict::Take
        }
    }

    /// The verdict on a path whose folder had the verdict `above`.
    pub fn judge(&self, above: Verdict, path: &[u8]) -> Verdict {
        let matches = |patterns: &Option<Patterns>| {
            patterns
                .as_ref()
                .is_some_and(|patterns| patterns.matches(path))
        };
        match above {
            Verdict::Skip => Verdict::Skip,
            _ if matches(&self.exclude) => Verdict::Skip,
            Verdict::Search if matches(&self.include) => Verdict::Take,
            above => above,
        }
    }
}

impl Patterns {
    fn new(patterns: &[String]) -> Result<Option<Patterns>, PatternError> {
        if patterns.is_empty() {
            return Ok(None);
        }
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let whole = pattern.trim_end_matches('/');
            let failed = |source| PatternError {
                pattern: pattern.clone(),
                source,
            };
            let glob = GlobBuilder::new(whole.trim_start_matches('/'))
                .literal_separator(true)
                .build();
            let glob = glob.map_err(failed)?;
            if whole.contains('/') {
                paths.add(glob)
            } else {
                names.add(glob)
            };
        }
        let built = |builder: GlobSetBuilder| {
            builder.build().map_err(|source| PatternError {
                pattern: patterns.join(" "),
                source,
            })
        };
        Ok(Some(Patterns {
            names: built(names)?,
            paths: built(paths)?,
        }))
    }

    fn matches(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        self.names.is_match(Path::new(OsStr::from_bytes(name)))
            || self.paths.is_match(Path::new(OsStr::from_bytes(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> Filter {
        let owned = |list: &[&str]| {
            list.iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        Filter::new(&owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn names_match_anywhere_and_paths_from_the_top() {
        let filter = filter(&["*.rs", "docs/**"], &["/target", "tmp"]);
        let top = filter.start();
        assert_eq!(filter.judge(top, b"src"), Verdict::Search);
        assert_eq!(filter.judge(Verdict::Search, b"src/main.rs"), Verdict::Take);
        assert_eq!(
            filter.judge(Verdict::Search, b"src/main.c"),
            Verdict::Search
        );
        assert_eq!(filter.judge(top, b"docs/a/b"), Verdict::Take);
        assert_eq!(filter.judge(Verdict::Take, b"docs/tmp"), Verdict::Skip);
        assert_eq!(filter.judge(Verdict::Search, b"a/target"), Verdict::Search);
        assert_eq!(filter.judge(top, b"target"), Verdict::Skip);
    }

    #[test]
    fn without_includes_everything_passes_and_nonsense_is_refused() {
        assert_eq!(filter(&[], &["*.o"]).start(), Verdict::Take);
        assert!(Filter::new(&["[".to_owned()], &[]).is_err());
    }
}
