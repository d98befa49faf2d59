//! What reading and writing files costs in requests of the kernel: whoever reads a file waits for each of them.

use std::collections::BTreeMap;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use holdfast_tests::home::text;
use holdfast_tests::{Drive, Home, trees};

type Counts = BTreeMap<String, u64>;

const FILES: u64 = 300;

fn logged(home: &Home) -> Drive<'_> {
    Drive::mount(home, &["--log-level", "info,fuser::request=debug"])
}

/// The requests so far, once no more come: what nobody waits for comes a little later.
fn requests(home: &Home) -> Counts {
    let mut counts = logged_requests(home);
    loop {
        sleep(Duration::from_millis(200));
        let again = logged_requests(home);
        if again == counts {
            return counts;
        }
        counts = again;
    }
}

/// By their kind, in the daemon's log: `... FUSE(978) ino 0x36 FLUSH fh ...`.
fn logged_requests(home: &Home) -> Counts {
    let mut counts = Counts::new();
    for line in home.daemon_log().lines() {
        let Some((_, request)) = line.split_once(" FUSE(") else {
            continue;
        };
        let mut words = request.split_whitespace().skip_while(|word| *word != "ino");
        if let Some(kind) = words.nth(2) {
            *counts.entry(kind.to_owned()).or_default() += 1;
        }
    }
    counts
}

fn since(home: &Home, before: &Counts) -> Counts {
    let mut counts = requests(home);
    for (kind, count) in before {
        *counts.entry(kind.clone()).or_default() -= count;
    }
    counts.retain(|_, count| *count > 0);
    counts
}

/// No kind beside these may have come more than a few times.
#[track_caller]
fn assert_at_most(counts: &Counts, bounds: &[(&str, u64)]) {
    for (kind, count) in counts {
        let bound = bounds.iter().find(|(bounded, _)| bounded == kind);
        let bound = bound.map_or(10, |(_, bound)| *bound);
        assert!(*count <= bound, "{count} of {kind}: {counts:?}");
    }
}

/// Opening and reading; the last of three, closing, nobody waits for. Neither the folders above a file nor its end are asked for again.
#[test]
fn reading_a_file_takes_three_requests() {
    let (home, _) = Home::with_archive("laptop");
    let source = home.path("source");
    trees::sources(&source, 10, 30);
    home.ok(&["backup", text(&source)]);
    fs::remove_dir_all(home.holdfast_home().join("cache")).expect("an empty cache");
    let drive = logged(&home);
    let snapshot = drive.backed_up(&source);
    let files = trees::files_below(&snapshot);
    assert_eq!(files.len() as u64, FILES);
    let before = requests(&home);
    for file in &files {
        fs::metadata(file).expect("there");
    }
    // The listing has told of each, also where it had to wait for the store.
    assert_at_most(&since(&home, &before), &[]);
    let before = requests(&home);
    for file in &files {
        assert!(!fs::read(file).expect("read").is_empty());
    }
    let counts = since(&home, &before);
    assert_eq!(counts.get("OPEN"), Some(&FILES), "{counts:?}");
    let bounds = [("OPEN", FILES), ("READ", FILES), ("RELEASE", FILES)];
    assert_at_most(&counts, &bounds);
    drive.unmount();
}

/// The kernel asks for the folder, which the file before has changed, whether the name is free, and whether the file has
/// capabilities; the rest is what has to be told.
#[test]
fn writing_a_new_file_takes_seven_requests() {
    let (home, _) = Home::with_archive("laptop");
    let drive = logged(&home);
    let before = requests(&home);
    for number in 0..FILES {
        fs::write(drive.current(format!("file-{number}")), "some text").expect("written");
    }
    let counts = since(&home, &before);
    assert_eq!(counts.get("FLUSH"), Some(&FILES), "{counts:?}");
    let asked = ["GETATTR", "LOOKUP", "GETXATTR"];
    let told = ["CREATE", "WRITE", "FLUSH", "RELEASE"];
    let each = asked.into_iter().chain(told);
    // The folders above are asked for once more.
    let bounds: Vec<_> = each.map(|kind| (kind, FILES + 5)).collect();
    assert_at_most(&counts, &bounds);
    drive.unmount();
}
