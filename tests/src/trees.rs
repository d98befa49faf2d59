//! Trees with every kind of file that the drive keeps.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};

/// Whether this process may make devices and give files away.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Bytes that do not compress, the same for the same seed.
pub fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// Text that compresses like source code.
pub fn text_bytes(seed: u64, length: usize) -> Vec<u8> {
    let words = [
        "fn ", "let ", "struct ", "chunk", "store", "(", ")", " {\n", "}\n", "self.", "0x",
        "return ",
    ];
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(words[random.next_u32() as usize % words.len()].as_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Every kind of file of the design's list, below a new folder.
pub fn every_kind(root: &Path) {
    fs::create_dir_all(root.join("folder/deep/er")).expect("folders");
    fs::create_dir(root.join("empty folder")).expect("folder");
    fs::write(root.join("empty"), "").expect("file");
    fs::write(root.join("small"), "a few bytes\n").expect("file");
    fs::write(root.join("folder/text"), text_bytes(1, 300_000)).expect("file");
    fs::write(root.join("folder/deep/large"), random_bytes(2, 9_000_000)).expect("file");
    fs::write(root.join("folder/deep/er/twin"), random_bytes(2, 9_000_000)).expect("file");
    fs::write(root.join(raw_name()), "a name that is no UTF-8").expect("file");
    fs::write(root.join("n".repeat(255)), "the longest name").expect("file");
    fs::write(root.join("new\nline"), "a name with a newline").expect("file");
    sparse(&root.join("sparse"));
    symlink("folder/text", root.join("link")).expect("symlink");
    symlink("nowhere/at/all", root.join("dangling")).expect("symlink");
    symlink("x".repeat(4000), root.join("long link")).expect("symlink");
    fs::hard_link(root.join("small"), root.join("folder/hard link")).expect("hard link");
    fs::hard_link(root.join("small"), root.join("folder/deep/hard link 2")).expect("hard link");
    node(&root.join("fifo"), FileType::Fifo, 0);
    node(&root.join("socket"), FileType::Socket, 0);
    if is_root() {
        node(
            &root.join("null device"),
            FileType::CharacterDevice,
            rustix::fs::makedev(1, 3),
        );
        node(
            &root.join("block device"),
            FileType::BlockDevice,
            rustix::fs::makedev(7, 200),
        );
        std::os::unix::fs::chown(root.join("empty"), Some(12_345), Some(54_321)).expect("chown");
        xattr::set(root.join("small"), "trusted.test", b"for root").expect("trusted xattr");
    }
    xattr::set(root.join("small"), "user.test", b"\0binary\xff").expect("xattr");
    xattr::set(root.join("folder"), "user.of.a.folder", b"value").expect("xattr");
    xattr::set(root.join("small"), "user.large", &random_bytes(3, 3000)).expect("large xattr");
    modes_and_times(root);
}

fn raw_name() -> OsString {
    OsString::from_vec(vec![b'r', 0xFF, 0xFE, b'w', 0x01])
}

/// Data, a hole, data at an odd place, a hole at the end.
fn sparse(path: &Path) {
    let file = File::create(path).expect("file");
    file.write_all_at(&random_bytes(4, 100_000), 0)
        .expect("data");
    file.write_all_at(b"in the middle", 5_000_001)
        .expect("data");
    file.set_len(20_000_000).expect("a hole at the end");
}

fn node(path: &Path, kind: FileType, device: u64) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device).expect("a special file");
}

fn modes_and_times(root: &Path) {
    for (name, mode) in [
        ("empty", 0o4755),
        ("small", 0o400),
        ("folder/text", 0o666),
        ("empty folder", 0o1777),
        ("folder/deep", 0o2750),
    ] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).expect("chmod");
    }
    let times = [
        ("empty", 0, 0),
        ("small", 1_234_567_890, 123_456_789),
        ("folder/text", -1_000, 999_999_999),
        ("link", 1_600_000_000, 1),
        ("folder/deep", 1_500_000_000, 500),
        ("folder", 1_400_000_000, 7),
    ];
    for (name, seconds, nanos) in times {
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: nanos,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, root.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).expect("utimens");
    }
}

/// A tree of small text files: `folders` x `files`.
pub fn sources(root: &Path, folders: usize, files: usize) {
    for folder in 0..folders {
        let path = root.join(format!("folder-{folder:04}"));
        fs::create_dir_all(&path).expect("folder");
        for file in 0..files {
            let seed = (folder * files + file) as u64;
            let length = 200 + (seed * 7919 % 20_000) as usize;
            fs::write(
                path.join(format!("file-{file:04}.rs")),
                text_bytes(seed, length),
            )
            .expect("file");
        }
    }
}

/// A new folder of files of random bytes, called by their numbers, which are the seeds too.
pub fn numbered(root: &Path, files: u64, bytes: usize) {
    fs::create_dir_all(root).expect("folder");
    for number in 0..files {
        let content = random_bytes(number, bytes);
        fs::write(root.join(number.to_string()), content).expect("file");
    }
}

/// All regular files below a folder, in order.
pub fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found.sort();
    found
}
