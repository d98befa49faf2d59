//! A new computer in place of an old one, of somebody with many files: the first one is read in seconds, and hardly anything is uploaded
//! again. (A computer beside the old one shares all content with it, and stores what it knows of each file, some 65 bytes.)

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use holdfast_tests::enrolled::Organisation;
use holdfast_tests::home::text;
use holdfast_tests::trees;

use crate::size;

/// Behind this a code of the second factor is another one.
const CODE: Duration = Duration::from_secs(31);

#[test]
fn a_new_computer_reads_the_first_file_within_ten_seconds() {
    let folders = size(500, 10_000);
    let organisation = Organisation::with_folder();
    let user = organisation.enrol("ada", &[]);
    let source = user.home.path("source");
    for folder in 0..folders {
        let path = source.join(format!("{:03}/{folder:05}", folder / 100));
        fs::create_dir_all(&path).expect("made");
        for file in 0..100 {
            let text = format!("file {file} of folder {folder}\n");
            fs::write(path.join(format!("{file:02}.txt")), text).expect("written");
        }
    }
    user.home.ok(&["backup", text(&source)]);
    let objects = organisation.keystore.data().join("objects");
    let stored = || -> u64 {
        let files = trees::files_below(&objects);
        files
            .iter()
            .map(|file| fs::metadata(file).expect("there").len())
            .sum()
    };
    let before = stored();
    sleep(CODE);
    let began = Instant::now();
    let desk = organisation.log_in(&user, "desk", &["--replace", "laptop"]);
    let drive = desk.mount();
    let laptop = drive.path("snapshots/laptop");
    let snapshot = fs::read_dir(&laptop)
        .expect("listed")
        .next()
        .expect("a snapshot")
        .expect("read");
    let below = source.strip_prefix("/").expect("an absolute path");
    let first = snapshot.path().join(below).join("000/00007/42.txt");
    let read = fs::read_to_string(first).expect("read");
    let took = began.elapsed();
    assert_eq!(read, "file 42 of folder 7\n");
    assert!(
        took < Duration::from_secs(10),
        "{took:?} for the first file"
    );
    eprintln!("{} files: the first one after {took:?}", folders * 100);
    drive.unmount();
    desk.ok(&["backup", text(&source)]);
    let new = stored() - before;
    assert!(
        new * 100 < before,
        "{new} of {before} bytes are uploaded again"
    );
}
