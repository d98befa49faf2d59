//! What the kernel knows: for each inode where to find it again, and nothing else.
//!
//! A stub takes some 100 bytes; what it stands for is loaded from the last commit's trees when it is
//! asked for. A folder stays known while something in it is.

use std::collections::HashMap;

use super::state::Name;
use crate::format::{FileNo, ROOT_FILE};

/// Where an inode is found.
#[derive(Clone, Debug)]
pub struct Stub {
    /// The folder of one of its names.
    pub parent: FileNo,
    /// That name.
    pub name: Name,
    /// Whether the link table has it.
    pub linked: bool,
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
}

impl Known {
    /// How many there are.
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
    pub fn look_up(&mut self, file: FileNo, parent: FileNo, name: &Name, linked: bool) {
        self.stub(file, parent, name, linked).lookups += 1;
    }

    /// One handle more.
    pub fn open(&mut self, file: FileNo, parent: FileNo, name: &Name, linked: bool) {
        self.stub(file, parent, name, linked).handles += 1;
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
            self.stubs.remove(&file);
            if file != ROOT_FILE {
                self.remove_child(parent);
            }
        }
        true
    }
}
