//! What operations cost in requests to the store: never one for each file.

use std::fs;

use holdfast_tests::home::text;
use holdfast_tests::proxy::{Counts, Proxy};
use holdfast_tests::servers::{S3Server, Seaweed};
use holdfast_tests::{Home, trees};

/// A home whose store is behind a proxy that counts.
fn counted(server: &Seaweed) -> (Home, Proxy, String) {
    let proxy = Proxy::start(server.port());
    let home = server.home();
    let options = ["--endpoint", &proxy.endpoint(), "--region", "us-east-1"];
    let code = home.init(&server.store("counted"), "laptop", &options);
    (home, proxy, code)
}

fn sum(counts: &Counts) -> u64 {
    counts.values().sum()
}

/// Takes what was counted; no kind may have had more requests than said, and kinds that are not named none.
#[track_caller]
fn at_most(proxy: &Proxy, what: &str, bounds: &[(&str, u64)]) {
    let counts = proxy.take();
    for (kind, count) in &counts {
        let bound = bounds
            .iter()
            .find(|(bounded, _)| bounded == kind)
            .map_or(0, |(_, bound)| *bound);
        assert!(
            *count <= bound,
            "{what} took {count} of {kind} and may take {bound}: {counts:?}"
        );
    }
}

/// 2,000 small files: a first backup stores few objects, a second with nothing changed none, one changed
/// file at most one pack of data and one of trees; a restore reads each pack a few times; listing a folder and
/// reading one file of it on an empty cache costs a handful.
#[test]
fn requests_do_not_grow_with_the_number_of_files() {
    let server = Seaweed::start();
    let (home, proxy, code) = counted(&server);
    let source = home.path("source");
    trees::sources(&source, 40, 50);
    proxy.take();

    home.ok(&["backup", text(&source)]);
    // The source is a few MB: two packs of data are open, and one of trees.
    at_most(
        &proxy,
        "a first backup of 2,000 files",
        &[
            ("PUT keys", 2),
            ("PUT packs", 6),
            ("PUT index", 2),
            ("PUT refs", 1),
            ("PUT commits", 1),
            ("GET keyring", 1),
            ("GET commits", 1),
            ("LIST", 40),
        ],
    );
    home.ok(&["backup", text(&source)]);
    let again = proxy.take();
    assert_eq!(
        again.get("PUT packs"),
        None,
        "nothing has changed: {again:?}"
    );
    assert!(sum(&again) <= 60, "{again:?}");

    fs::write(source.join("folder-0003/file-0007.rs"), "another text").expect("changed");
    home.ok(&["backup", text(&source)]);
    let changed = proxy.take();
    assert!(changed["PUT packs"] <= 2, "{changed:?}");
    assert!(
        changed["PUT index"] <= 2 && changed["PUT refs"] == 1 && changed["PUT commits"] == 1,
        "{changed:?}"
    );
    assert!(sum(&changed) <= 70, "{changed:?}");

    // Another computer with nothing in its cache.
    let new = server.home();
    let endpoint = proxy.endpoint();
    let options = ["--endpoint", endpoint.as_str(), "--region", "us-east-1"];
    let recovered = new.recover(&server.store("counted"), &code, "desk", &options);
    assert_eq!(recovered.code, 0, "{}", recovered.err);
    let joined = proxy.take();
    assert!(sum(&joined) <= 60, "{joined:?}");

    let folder = format!("latest:{}/folder-0005", source.display());
    new.ok(&["ls", &folder.replacen(":/", ":", 1)]);
    let listed = proxy.take();
    assert!(sum(&listed) <= 40, "{listed:?}");

    new.ok(&["restore", "latest", text(&new.path("target"))]);
    let restored = proxy.take();
    assert!(
        sum(&restored) <= 30,
        "a restore of 2,000 files: {restored:?}"
    );
}
