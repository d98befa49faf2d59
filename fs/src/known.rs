//! What the kernel knows: for each inode where to find it again, and nothing else. `current/` and `snapshots/` have
//! one table each; a file of a snapshot has its inode number for its own.
//!
//! A stub takes some 300 bytes with all that belongs to it; what it stands for is loaded from its commit's trees when it is
//! asked for. A folder stays known while something in it is. The kernel knows as many inodes as it has memory for, and ours may be
//! less: of more than [`MOST_KNOWN`] files, it is asked to forget those that nobody has open, first what it has known longest.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::format::{FileKind, FileNo, ROOT_FILE};
use crate::memory::shrink_if_sparse;
use crate::namespace::state::{Child, Name};

/// More files than that are not known for long, in either table. Folders are not counted: the kernel keeps them.
pub const MOST_KNOWN: usize = 100_000;

/// Where an inode is found.
#[derive(Clone, Debug)]
pub struct Stub {
    /// The folder of one of its names.
    pub parent: FileNo,
    /// That name.
    pub name: Name,
    /// Whether the link table has it.
    pub linked: bool,
    /// Whether it stands in the order: the kernel may be asked to forget it.
    in_order: bool,
    /// Lookups that the kernel has not taken back.
    lookups: u64,
    /// Open handles.
    handles: u32,
    /// Stubs that have this one as parent.
    children: u32,
}

/// All stubs.
#[derive(Default)]
pub struct Known {
    stubs: HashMap<FileNo, Stub>,
    /// Files, not folders, as they became known; some are not known any more.
    order: VecDeque<FileNo>,
    /// How many stubs stand there.
    files: usize,
    /// How many have gone.
    forgotten: u64,
}

impl Known {
    /// How many files, not folders, have been known and are not any more.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How many files and folders are known.
    pub fn count(&self) -> usize {
        self.stubs.len()
    }

    /// Where a file is found.
    pub fn find(&self, file: FileNo) -> Option<&Stub> {
        self.stubs.get(&file)
    }

    /// Whether the kernel or a handle holds it.
    pub fn is_held(&self, file: FileNo) -> bool {
        self.stubs
            .get(&file)
            .is_some_and(|stub| stub.lookups > 0 || stub.handles > 0)
    }

    /// One lookup more.
    pub fn look_up(&mut self, child: Child, parent: FileNo, name: &Name, linked: bool) {
        let stub = self.stub(child.file, parent, name, linked);
        stub.lookups += 1;
        // A folder that the kernel forgets is lost to whoever works in it.
        if child.kind != FileKind::Directory && !stub.in_order {
            stub.in_order = true;
            self.files += 1;
            self.order.push_back(child.file);
            self.tidy();
        }
    }

    /// Names that the kernel is to forget, at most so many: there are more files than `most`, and nobody has these open.
    pub fn surplus(&mut self, most: usize, at_once: usize) -> Vec<(FileNo, Name)> {
        let wanted = self.files.saturating_sub(most).min(at_once);
        let mut names = Vec::with_capacity(wanted);
        for _ in 0..self.order.len().min(2 * at_once) {
            if names.len() == wanted {
                break;
            }
            let Some(file) = self.order.pop_front() else {
                break;
            };
            let Some(stub) = self.stubs.get(&file) else {
                continue;
            };
            if stub.handles == 0 {
                names.push((stub.parent, stub.name.clone()));
            }
            // It goes when the kernel says so; until then it is asked again.
            self.order.push_back(file);
        }
        names
    }

    /// Drops what is not known any more, or stands there twice, before it is more than what counts.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.stubs.len() + 4096 {
            let mut seen = HashSet::with_capacity(self.stubs.len());
            let stubs = &self.stubs;
            self.order
                .retain(|file| stubs.contains_key(file) && seen.insert(*file));
            self.order.shrink_to(2 * self.order.len());
        }
    }

    /// One handle more.
    pub fn open(&mut self, file: FileNo, parent: FileNo, name: &Name, linked: bool) {
        self.stub(file, parent, name, linked).handles += 1;
    }

    /// One handle more of what is known.
    pub fn hold(&mut self, file: FileNo) {
        if let Some(stub) = self.stubs.get_mut(&file) {
            stub.handles += 1;
        }
    }

    /// Lookups fewer. Says whether nothing holds the file any more.
    pub fn forget(&mut self, file: FileNo, count: u64) -> bool {
        if let Some(stub) = self.stubs.get_mut(&file) {
            stub.lookups = stub.lookups.saturating_sub(count);
        }
        self.drop_unheld(file)
    }

    /// One handle fewer. Says whether nothing holds the file any more.
    pub fn close(&mut self, file: FileNo) -> bool {
        if let Some(stub) = self.stubs.get_mut(&file) {
            stub.handles = stub.handles.saturating_sub(1);
        }
        self.drop_unheld(file)
    }

    /// It is found elsewhere now.
    pub fn moved(&mut self, file: FileNo, parent: FileNo, name: &Name, linked: bool) {
        let Some(stub) = self.stubs.get_mut(&file) else {
            return;
        };
        stub.name = name.clone();
        stub.linked = linked;
        let before = std::mem::replace(&mut stub.parent, parent);
        if before != parent {
            self.add_child(parent);
            self.remove_child(before);
        }
    }

    fn stub(&mut self, file: FileNo, parent: FileNo, name: &Name, linked: bool) -> &mut Stub {
        if !self.stubs.contains_key(&file) && file != ROOT_FILE {
            self.add_child(parent);
        }
        self.stubs.entry(file).or_insert_with(|| Stub {
            parent,
            name: name.clone(),
            linked,
            in_order: false,
            lookups: 0,
            handles: 0,
            children: 0,
        })
    }

    fn add_child(&mut self, parent: FileNo) {
        if let Some(stub) = self.stubs.get_mut(&parent) {
            stub.children += 1;
        }
    }

    fn remove_child(&mut self, parent: FileNo) {
        if let Some(stub) = self.stubs.get_mut(&parent) {
            stub.children = stub.children.saturating_sub(1);
            self.drop_unheld(parent);
        }
    }

    fn drop_unheld(&mut self, file: FileNo) -> bool {
        let Some(stub) = self.stubs.get(&file) else {
            return true;
        };
        if stub.lookups > 0 || stub.handles > 0 {
            return false;
        }
        if stub.children == 0 {
            let parent = stub.parent;
            self.files -= usize::from(stub.in_order);
            self.forgotten += u64::from(stub.in_order);
            self.stubs.remove(&file);
            shrink_if_sparse(&mut self.stubs);
            if file != ROOT_FILE {
                self.remove_child(parent);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(file: FileNo, kind: FileKind) -> Child {
        Child { file, kind }
    }

    fn names(surplus: &[(FileNo, Name)]) -> Vec<&[u8]> {
        surplus.iter().map(|(_, name)| &name[..]).collect()
    }

    /// The oldest first; none that is open, no folder, and nothing while there is no more than the most.
    #[test]
    fn what_is_too_much_is_named_once_around() {
        let mut known = Known::default();
        known.look_up(
            child(2, FileKind::Directory),
            ROOT_FILE,
            &Name::from(&b"folder"[..]),
            false,
        );
        for file in 3..=6 {
            let name = Name::from(file.to_string().as_bytes());
            known.look_up(child(file, FileKind::Regular), 2, &name, false);
        }
        known.open(3, 2, &Name::from(&b"3"[..]), false);
        assert!(known.surplus(4, 10).is_empty());
        assert_eq!(names(&known.surplus(2, 10)), [b"4", b"5"]);
        // Not forgotten yet: they come behind the others.
        assert_eq!(names(&known.surplus(2, 10)), [b"6", b"4"]);
        assert!(known.forget(4, 1) && known.forget(5, 1) && known.forget(6, 1));
        known.close(3);
        assert_eq!(names(&known.surplus(0, 10)), [b"3"]);
        assert_eq!((known.forgotten(), known.count()), (3, 2));
    }

    /// The order of what became known stays as small as what is known.
    #[test]
    fn the_order_does_not_grow_with_what_was_forgotten() {
        let mut known = Known::default();
        let name = Name::from(&b"name"[..]);
        for round in 0..100_000 {
            let file = 2 + round % 50;
            known.look_up(child(file, FileKind::Regular), ROOT_FILE, &name, false);
            known.forget(file, 1);
        }
        assert!(known.order.len() <= 4200, "{}", known.order.len());
    }
}
