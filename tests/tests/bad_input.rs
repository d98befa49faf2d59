//! Whatever is wrong: one clear sentence with the next step, an exit code that is not 0, nothing lost.

use std::fs;

use holdfast_tests::home::text;
use holdfast_tests::{Drive, Home, S3Server, Seaweed, trees};

/// The sentence must name what to do next: one of these words.
#[track_caller]
fn says(sentence: &str, one_of: &[&str]) {
    let lower = sentence.to_lowercase();
    assert!(
        one_of.iter().any(|word| lower.contains(word)),
        "expected one of {one_of:?}: {sentence}"
    );
    assert!(
        !lower.contains("os error") || sentence.contains(';'),
        "no next step: {sentence}"
    );
}

fn refused_recover(store: &str, code: &str) -> String {
    let home = Home::new();
    let file = home.path("code");
    fs::write(&file, code).expect("written");
    home.refused(&[
        "recover",
        store,
        "--device",
        "new",
        "--recovery-code-file",
        text(&file),
    ])
}

/// A mistyped recovery code is told by its place or its checksum, a code of another archive as such.
#[test]
fn wrong_and_mistyped_recovery_codes() {
    let (home, code) = Home::with_archive("laptop");
    let store = home.store();
    let last = code.chars().last().expect("not empty");
    let other = if last == 'q' { 'p' } else { 'q' };
    let mistyped = format!("{}{other}", &code[..code.len() - 1]);
    says(&refused_recover(&store, &mistyped), &["character", "group"]);
    says(
        &refused_recover(&store, &code[..code.len() - 5]),
        &["long", "short", "characters", "length"],
    );
    says(
        &refused_recover(&store, "hfr1 nonsense!"),
        &["character", "long", "short", "code"],
    );
    let (_other, foreign) = Home::with_archive("other");
    says(
        &refused_recover(&store, &foreign),
        &[
            "another archive",
            "does not open",
            "not the recovery code",
            "belongs",
        ],
    );
    let new = Home::new();
    assert_eq!(
        new.recover(&store, &code, "new", &[]).code,
        0,
        "the right one still works"
    );
    // Written down in another form: capitals, without spaces.
    let newer = Home::new();
    let retyped = code.to_uppercase().replace(' ', "");
    assert_eq!(newer.recover(&store, &retyped, "newer", &[]).code, 0);
}

/// A folder that is no archive, a file, an archive where there is one already, a home that is in use.
#[test]
fn stores_that_are_no_archive() {
    let (home, code) = Home::with_archive("laptop");
    let empty = home.path("empty");
    fs::create_dir(&empty).expect("made");
    says(
        &refused_recover(text(&empty), &code),
        &["no archive", "holdfast init"],
    );
    says(
        &refused_recover(text(&home.path("nowhere")), &code),
        &["no such folder"],
    );
    let file = home.path("a file");
    fs::write(&file, "x").expect("written");
    let fresh = Home::new();
    says(
        &fresh.refused(&["init", text(&file), "--device", "x"]),
        &["folder"],
    );
    says(
        &fresh.refused(&["init", &home.store(), "--device", "x"]),
        &["recover"],
    );
    says(
        &home.refused(&["init", text(&home.path("second")), "--device", "x"]),
        &["holdfast_home", "already"],
    );
    says(&fresh.refused(&["snapshots"]), &["holdfast init", "init"]);
    says(&fresh.refused(&["mount", text(&empty)]), &["init"]);
    assert_eq!(fs::read(&file).expect("there"), b"x");
}

/// An object of a newer format is named as such, and nothing is changed.
#[test]
fn a_newer_format() {
    let (home, code) = Home::with_archive("laptop");
    let keyring = home.objects("keyring").pop().expect("a keyring");
    let mut bytes = fs::read(&keyring).expect("read");
    bytes[4] = 2;
    // Under a name that is true, as a newer version would store it.
    let name = keyring
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let version = name.split('-').next().expect("version").to_owned();
    fs::remove_file(&keyring).expect("removed");
    let renamed = keyring.with_file_name(format!("{version}-{}", holdfast_tests::sha256(&bytes)));
    fs::write(renamed, bytes).expect("written");
    says(
        &refused_recover(&home.store(), &code),
        &["newer", "format 2"],
    );
}

/// Snapshots and paths that are not there.
#[test]
fn names_that_are_not_there() {
    let (home, _) = Home::with_archive("laptop");
    says(&home.refused(&["ls", "latest"]), &["snapshot"]);
    let drive = home.mount();
    fs::write(drive.current("file"), "content").expect("written");
    home.ok(&["snapshot", "one"]);
    drive.unmount();
    says(
        &home.refused(&["ls", "two"]),
        &["holdfast snapshots", "snapshots"],
    );
    says(&home.refused(&["cat", "one:other"]), &["other"]);
    says(
        &home.refused(&["restore", "two", text(&home.path("target"))]),
        &["snapshots"],
    );
    assert!(
        !home.path("target").exists(),
        "nothing is made for a restore that is refused"
    );
}

/// Mount points: not empty, missing, a file, mounted already, inside the store or the state.
#[test]
fn mount_points_that_cannot_be_used() {
    let (home, _) = Home::with_archive("laptop");
    let full = home.path("full");
    fs::create_dir(&full).expect("made");
    fs::write(full.join("file"), "x").expect("written");
    says(&home.refused(&["mount", text(&full)]), &["empty"]);
    says(
        &home.refused(&["mount", text(&full.join("file"))]),
        &["not a folder"],
    );
    says(
        &home.refused(&["mount", text(&home.path("missing"))]),
        &["mkdir"],
    );
    let inside = home.path("store").join("inside");
    fs::create_dir(&inside).expect("made");
    says(&home.refused(&["mount", text(&inside)]), &["outside"]);
    let inside = home.holdfast_home().join("state/inside");
    fs::create_dir_all(&inside).expect("made");
    says(&home.refused(&["mount", text(&inside)]), &["outside"]);
    let nothing = home.path("nothing");
    fs::create_dir(&nothing).expect("made");
    says(&home.refused(&["unmount", text(&nothing)]), &["no drive"]);

    let drive = home.mount();
    says(
        &home.refused(&["mount", text(&drive.path(""))]),
        &["unmount", "already"],
    );
    let second = home.path("second");
    fs::create_dir(&second).expect("made");
    says(
        &home.refused(&["mount", text(&second)]),
        &["unmount", "already", "mounted"],
    );
    fs::write(drive.current("file"), "still works").expect("written");
    assert_eq!(fs::read(full.join("file")).expect("there"), b"x");
    drive.unmount();
}

/// A bucket that does not exist, wrong credentials, nobody at the address: told apart, and tried for no minute.
#[test]
fn buckets_that_cannot_be_used() {
    let server = Seaweed::start();
    let endpoint = server.endpoint();
    let init = |home: &Home, store: &str, endpoint: &str| {
        home.refused(&[
            "init",
            store,
            "--endpoint",
            endpoint,
            "--region",
            "us-east-1",
            "--device",
            "x",
        ])
    };
    let home = server.home();
    says(
        &init(&home, "s3://no-such-bucket/archive", &endpoint),
        &["bucket"],
    );
    let nobody = format!("http://127.0.0.1:{}", holdfast_tests::servers::free_port());
    says(
        &init(&home, "s3://holdfast/archive", &nobody),
        &["endpoint", "reach", "network", "connect", "answer"],
    );
    let mut wrong = Home::new();
    wrong.set("AWS_ACCESS_KEY_ID", "somebody");
    wrong.set("AWS_SECRET_ACCESS_KEY", "else");
    let sentence = init(&wrong, "s3://holdfast/archive", &endpoint);
    says(
        &sentence,
        &["credential", "access key", "aws_access_key_id", "denied"],
    );
    assert!(!sentence.contains("else\""), "{sentence}");
}

/// A damaged object: the files that use it are named and give EIO, the rest is restored, exit code 3.
#[test]
fn a_damaged_pack_costs_only_its_files() {
    let (home, _) = Home::with_archive("laptop");
    let drive = home.mount();
    for number in 0..3 {
        fs::write(
            drive.current(format!("file-{number}")),
            trees::random_bytes(number, 20 << 20),
        )
        .expect("written");
        home.ok(&["snapshot"]);
    }
    drive.unmount();
    fs::remove_dir_all(home.holdfast_home().join("cache")).expect("the cache goes");
    let largest = home
        .objects("packs")
        .into_iter()
        .max_by_key(|pack| fs::metadata(pack).expect("there").len());
    let largest = largest.expect("a pack");
    let mut bytes = fs::read(&largest).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    holdfast_tests::overwrite(&largest, &bytes);

    let target = home.path("target");
    let run = home.run(["restore", "latest", text(&target)]);
    assert_eq!(run.code, 3, "{}{}", run.out, run.err);
    let whole = (0..3).filter(|&number| {
        fs::read(target.join(format!("file-{number}")))
            .is_ok_and(|content| content == trees::random_bytes(number, 20 << 20))
    });
    assert_eq!(whole.count(), 2, "two files are not touched by the damage");
    let checked = home.run(["check", "--read-data"]);
    assert_eq!(checked.code, 3, "{}{}", checked.out, checked.err);
    assert!(
        checked.out.contains("file-"),
        "check names the file: {}",
        checked.out
    );

    let drive = Drive::mount(&home, &[]);
    let errors =
        (0..3).filter_map(|number| fs::read(drive.current(format!("file-{number}"))).err());
    let errors: Vec<_> = errors.map(|error| error.raw_os_error()).collect();
    assert_eq!(errors, [Some(libc::EIO)]);
    drive.unmount();
}
