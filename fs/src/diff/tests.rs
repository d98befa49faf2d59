use super::*;
use crate::walk::tests::{Sketch, named};

fn changes(first: &SnapshotTree, second: &SnapshotTree) -> Vec<(String, Change)> {
    let mut found = Vec::new();
    diff(first, second, b"", &mut |difference| {
        found.push((walk::printed(&difference.path), difference.change));
        Next::Continue
    })
    .unwrap();
    found
}

#[test]
fn each_difference_is_told_once_and_by_name() {
    let mut sketch = Sketch::new();
    let same = sketch.file(0o644, &[Some(b"same")]);
    let old = sketch.file(0o644, &[Some(b"old")]);
    let mut new = old.clone();
    new.body = sketch.file(0o644, &[Some(b"new")]).body;
    let mut touched = same.clone();
    touched.attributes.mode = 0o600;
    let deep = sketch.folder(
        0o755,
        vec![named("same", same.clone()), named("x", old.clone())],
    );
    let mut deeper = deep.clone();
    deeper.body = sketch
        .folder(0o755, vec![named("same", same.clone()), named("x", new)])
        .body;
    let link = sketch.symlink(b"somewhere");
    let unchanged = sketch.folder(0o755, vec![named("same", same.clone())]);
    let gone = sketch.folder(0o755, vec![named("below", same.clone())]);
    let first = sketch.snapshot(vec![
        named("deep", deep),
        named("gone", gone),
        named("kind", old.clone()),
        named("mode", same.clone()),
        named("unchanged", unchanged.clone()),
    ]);
    let second = sketch.snapshot(vec![
        named("deep", deeper),
        named("kind", link),
        named("mode", touched),
        named("new", same),
        named("unchanged", unchanged),
    ]);
    let found = changes(&first, &second);
    let found: Vec<_> = found
        .iter()
        .map(|(path, change)| (path.as_str(), *change))
        .collect();
    assert_eq!(
        found,
        [
            ("deep/x", Change::Content),
            ("gone", Change::Removed),
            ("gone/below", Change::Removed),
            ("kind", Change::Kind),
            ("mode", Change::Attributes),
            ("new", Change::Added),
        ]
    );
    assert!(changes(&first, &first).is_empty());
}

#[test]
fn a_linked_file_is_compared_although_its_folder_has_the_same_tree() {
    let mut sketch = Sketch::new();
    let before = sketch.file(0o644, &[Some(b"before")]);
    let mut after = before.clone();
    after.body = sketch.file(0o644, &[Some(b"after, longer")]).body;
    let names = sketch.linked(before, &["a", "b"]);
    let folder = sketch.folder(0o755, names);
    let first = sketch.snapshot(vec![named("folder", folder.clone())]);
    sketch.linked(after, &["a", "b"]);
    let second = sketch.snapshot(vec![named("folder", folder)]);
    let found = changes(&first, &second);
    assert_eq!(
        found,
        [
            ("folder/a".to_owned(), Change::Content),
            ("folder/b".to_owned(), Change::Content)
        ]
    );
}
