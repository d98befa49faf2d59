//! Content: open, read, write, close, sync, truncate, holes, copies.
//!
//! Written bytes are in memory until close or fsync, or until they are many; then they are in the
//! log, as extents or, cut while the file is written in order, as chunks. Write state belongs to
//! the inode, not to the handle: writes through a mapping come after the close.

use std::ops::Range;

use bytes::BytesMut;
use holdfast_crypto::{ChunkId, ChunkKind};

use super::attributes::CAPABILITY;
use super::read_ahead::Sequence;
use super::*;
use crate::chunks::{ChunkSink, LoadError};
use crate::content::{Content, ExtentSource, Origin, Part, Placed, Unlogged};
use crate::format::Time;

/// Longest file.
pub const MAX_FILE_BYTES: u64 = 1 << 48;
/// A new file up to this length becomes a chunk when it is closed, instead of an extent.
const DIRECT_CHUNK_BYTES: u64 = 128 << 10;
/// From so much that is not cut on, a file that is written in order is cut.
pub(super) const CUT_FROM_BYTES: u64 = 9 << 20;
/// A read whose extents were released under it is planned again; a commit cannot do that often.
const READ_ROUNDS: usize = 4;
/// A writer waits so long for its file to be cut.
const LONGEST_CUT: Duration = Duration::from_secs(1);

/// An open file or folder.
pub(super) struct Handle {
    sync: bool,
    sequence: Sequence,
}

impl Handle {
    pub(super) fn new(sync: bool) -> Self {
        Handle {
            sync,
            sequence: Sequence::default(),
        }
    }
}

impl Filesystem {
    /// Opens a file.
    pub fn open(&self, ino: u64, flags: OpenFlags) -> FsResult<Opened> {
        match place(ino) {
            Place::Snapshots if flags.write => return Err(FsError::ReadOnly),
            Place::Snapshots => self.snapshots.hold(ino)?,
            Place::Current(file) => self.hold(file)?,
        }
        let handle = self.new_handle(Handle::new(flags.sync));
        Ok(Opened {
            handle,
            keep_cache: true,
            writes: flags.write,
        })
    }

    fn hold(&self, file: FileNo) -> FsResult<()> {
        self.with_namespace(|namespace| {
            let state = namespace.get(file)?;
            if state.directory().is_some() {
                return Err(FsError::IsDirectory);
            }
            namespace
                .known
                .open(file, state.parent, &state.name, state.linked);
            Ok(())
        })
    }

    /// Makes a file and opens it.
    pub fn create(
        &self,
        parent: u64,
        name: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
        flags: OpenFlags,
    ) -> FsResult<(Attr, Opened)> {
        let node = NewNode {
            kind: FileKind::Regular,
            mode,
            rdev: 0,
            uid,
            gid,
        };
        let attr = match self.mknod(parent, name, node) {
            Err(FsError::Exists) if !flags.exclusive => self.lookup(parent, name)?,
            made => made?,
        };
        match self.open(attr.ino, flags) {
            Ok(opened) => Ok((attr, opened)),
            Err(error) => {
                self.forget(attr.ino, 1);
                Err(error)
            }
        }
    }

    /// The last descriptor of a handle is gone.
    pub fn release(&self, ino: u64, handle: u64) {
        let Some(_) = self.handles.lock().remove(&handle) else {
            return;
        };
        let Place::Current(file) = place(ino) else {
            return self.snapshots.let_go(ino);
        };
        self.work.touched(file);
        let mut namespace = self.namespace.lock();
        if namespace.known.close(file) {
            self.drop_orphan(&mut namespace, file);
        }
    }

    /// Reads; short only at the end of the file.
    pub fn read(&self, ino: u64, handle: u64, offset: u64, size: u32) -> FsResult<ReadBytes> {
        let range = offset..offset.saturating_add(size.into());
        let mut rounds = READ_ROUNDS;
        loop {
            let content = self.content(ino)?;
            self.read_ahead(&content, handle, &range);
            rounds -= 1;
            match self.read_content(&content, range.clone()) {
                Err(FsError::Io { .. }) if rounds > 0 && !content.is_chunked() => continue,
                result => return result,
            }
        }
    }

    pub(super) fn content(&self, ino: u64) -> FsResult<Arc<Content>> {
        match place(ino) {
            Place::Snapshots => self.snapshots.content(ino),
            Place::Current(file) => self.with_namespace(|namespace| {
                let state = namespace.get(file)?;
                if state.directory().is_some() {
                    return Err(FsError::IsDirectory);
                }
                state.content().cloned().ok_or(FsError::Invalid)
            }),
        }
    }

    fn read_content(&self, content: &Content, range: Range<u64>) -> FsResult<ReadBytes> {
        let parts = content.plan(range, &self.archive)?;
        if let [part] = parts.as_slice() {
            return Ok(self.load_part(part)?);
        }
        let length = parts
            .iter()
            .map(|part| part.range.end - part.range.start)
            .sum::<u64>();
        let mut bytes = BytesMut::with_capacity(length as usize);
        for part in &parts {
            bytes.extend_from_slice(&self.load_part(part)?);
        }
        Ok(bytes.freeze())
    }

    fn load_part(&self, part: &Part) -> Result<ReadBytes, LoadError> {
        let length = (part.range.end - part.range.start) as usize;
        let slice = |bytes: ReadBytes, skip: u32| {
            let end = skip as usize + length;
            if bytes.len() < end {
                return Err(LoadError::other(std::io::Error::other(
                    "a piece of a file is too short",
                )));
            }
            Ok(bytes.slice(skip as usize..end))
        };
        match &part.origin {
            Origin::Memory(bytes) => Ok(bytes.clone()),
            Origin::Log { position, skip } => slice(self.write.load_extent(position)?, *skip),
            Origin::Chunk { id, skip, .. } => slice(self.archive.load(ChunkKind::Data, id)?, *skip),
            Origin::Zero => Ok(BytesMut::zeroed(length).freeze()),
        }
    }

    /// Fetches what a sequential reader will want.
    fn read_ahead(&self, content: &Content, handle: u64, range: &Range<u64>) {
        let now = Instant::now();
        let room = self.archive.prefetch_room();
        let share = self.readers.lock().share(handle, room, now);
        let ahead = self
            .handles
            .lock()
            .get_mut(&handle)
            .and_then(|handle| handle.sequence.ahead(range, share));
        let Some(ahead) = ahead.filter(|ahead| ahead.start < content.size()) else {
            return;
        };
        self.readers.lock().note(handle, now);
        // Only what is at hand is asked for the plan: a reader does not wait for reading ahead.
        let plan = || content.plan(ahead.start..ahead.end.min(content.size()), &self.archive);
        let Ok(parts) = crate::blocking::without_waiting(plan) else {
            return;
        };
        let mut wanted: Vec<(ChunkKind, ChunkId)> = Vec::new();
        for part in parts {
            if let Origin::Chunk { id, .. } = part.origin
                && wanted.last().is_none_or(|last| last.1 != id)
            {
                wanted.push((ChunkKind::Data, id));
            }
        }
        if !wanted.is_empty() {
            self.archive.prefetch(&wanted);
        }
    }

    /// Writes all of `data`.
    pub fn write(
        &self,
        ino: u64,
        handle: u64,
        offset: u64,
        data: &[u8],
        kill_suid: bool,
    ) -> FsResult<u32> {
        let file = writable(ino)?;
        let end = offset
            .checked_add(data.len() as u64)
            .ok_or(FsError::FileTooBig)?;
        if end > MAX_FILE_BYTES {
            return Err(FsError::FileTooBig);
        }
        // What can never come into the log is not taken into memory either.
        if self.log.is_read_only() {
            return Err(FsError::ReadOnly);
        }
        self.slow_down(data.len())?;
        self.with_room(|| self.make_memory(file))?;
        let now = now();
        let mut change = |namespace: &mut Namespace| {
            self.touch_now(namespace, file, kill_suid)?;
            let state = namespace.state_mut(file).ok_or(FsError::Stale)?;
            state.attributes.mtime = now;
            state.attributes.ctime = now;
            if kill_suid {
                kill_set_ids(state);
            }
            state.attributes_unlogged = true;
            let content = state.content_mut().ok_or(FsError::Invalid)?;
            content.write(offset, data);
            Ok((content.memory_bytes(), content.uncut_bytes()))
        };
        let (memory, uncut) = self.with_room(|| self.with_namespace(&mut change))?;
        self.write.set_memory(file, memory);
        self.work.touched(file);
        if uncut >= CUT_FROM_BYTES {
            self.work.cut(file);
        }
        let sync = self
            .handles
            .lock()
            .get(&handle)
            .is_some_and(|handle| handle.sync);
        if sync {
            self.fsync(ino, true)?;
        }
        Ok(data.len() as u32)
    }

    /// Sees to it that a file stands in the overlay before it is changed in memory.
    fn touch_now(
        &self,
        namespace: &mut Namespace,
        file: FileNo,
        kill_capability: bool,
    ) -> FsResult<()> {
        let mut group = Vec::new();
        namespace.touch(file, &mut group)?;
        if kill_capability && namespace.get(file)?.xattrs.contains_key(CAPABILITY) {
            group.push(Operation::Xattr(file, CAPABILITY.to_vec(), None));
        }
        self.commit_group(namespace, &group, Room::Ordinary)
    }

    /// Waits while contents take more memory than they may, or brings this one into the log.
    fn make_memory(&self, file: FileNo) -> FsResult<()> {
        // A cut may need a chunk that is only in the store: the log needs nothing.
        let until = Instant::now() + LONGEST_CUT;
        while self.write.memory_bytes() > self.memory_limit {
            if self.work.is_cutting(file) && Instant::now() < until {
                self.write.wait_for_memory();
            } else {
                return self.log_content(file, Room::Ordinary);
            }
        }
        Ok(())
    }

    /// close(2): the file is in the log when this returns.
    pub fn flush(&self, ino: u64, _handle: u64) -> FsResult<()> {
        match place(ino) {
            Place::Current(file) => self.with_room(|| self.log_content(file, Room::Ordinary)),
            Place::Snapshots => Ok(()),
        }
    }

    /// Whether a sync of this inode waits for the store.
    pub fn syncs_to_store(ino: u64) -> bool {
        ino == ROOT_INO
    }

    /// Survives power loss when this returns; of the root folder: is in the store.
    pub fn fsync(&self, ino: u64, _data_only: bool) -> FsResult<()> {
        match place(ino) {
            Place::Current(file) => {
                self.with_room(|| self.log_content(file, Room::Ordinary))?;
                Ok(self.log.sync()?)
            }
            Place::Snapshots if ino == ROOT_INO => self.flush_all(crate::blocking::deadline()),
            Place::Snapshots => Ok(()),
        }
    }

    /// The same of a folder.
    pub fn fsyncdir(&self, ino: u64, data_only: bool) -> FsResult<()> {
        match ino {
            ROOT_INO => self.fsync(ROOT_INO, data_only),
            _ => Ok(self.log.sync()?),
        }
    }

    /// Brings what a file has in memory into the log: content, then times.
    ///
    /// Of a file without a name nothing is logged: replay would remove it.
    pub(super) fn log_content(&self, file: FileNo, room: Room) -> FsResult<()> {
        let _logging = self.write.logging.read_recursive();
        let _order = self.write.order(file);
        let pending = {
            let namespace = self.namespace.lock();
            match namespace.changed(file) {
                Some(crate::namespace::Slot::Here(state)) if state.links > 0 => state
                    .content()
                    .map(|content| (content.size(), content.unlogged())),
                _ => return Ok(()),
            }
        };
        if let Some((size, unlogged)) = pending
            && !self.log_as_chunk(file, size, &unlogged)?
        {
            self.log_extents(file, &unlogged)?;
        }
        let mut namespace = self.namespace.lock();
        self.log_attributes(&mut namespace, file, room)
    }

    pub(super) fn log_attributes(
        &self,
        namespace: &mut Namespace,
        file: FileNo,
        room: Room,
    ) -> FsResult<()> {
        let Some(crate::namespace::Slot::Here(state)) = namespace.changed(file) else {
            return Ok(());
        };
        if !state.attributes_unlogged || state.links == 0 {
            return Ok(());
        }
        let group = [Operation::Attributes(file, state.attributes.clone())];
        self.commit_group(namespace, &group, room)
    }

    fn log_extents(&self, file: FileNo, unlogged: &[Unlogged]) -> FsResult<()> {
        for extent in unlogged {
            let record = RecordRef::Extent {
                file,
                offset: extent.offset,
                data: &extent.bytes,
            };
            let position = self.log.append(&record)?;
            let mut namespace = self.namespace.lock();
            if let Some(content) = namespace.state_mut(file).and_then(InodeState::content_mut) {
                content.mark_logged(extent, position);
                self.write.set_memory(file, content.memory_bytes());
            }
        }
        Ok(())
    }

    /// A small new file goes into the log as the chunk that it will be.
    fn log_as_chunk(&self, file: FileNo, size: u64, unlogged: &[Unlogged]) -> FsResult<bool> {
        if size == 0 || size > DIRECT_CHUNK_BYTES || !covers(unlogged, size) {
            return Ok(false);
        }
        let bytes =
            unlogged
                .iter()
                .fold(BytesMut::with_capacity(size as usize), |mut all, extent| {
                    all.extend_from_slice(&extent.bytes);
                    all
                });
        let id = self.write.sink(file).store(ChunkKind::Data, &bytes)?;
        let mut namespace = self.namespace.lock();
        let Some(content) = namespace.state_mut(file).and_then(InodeState::content_mut) else {
            return Ok(true);
        };
        // Somebody may have written meanwhile.
        let again = content.unlogged();
        let same = content.size() == size
            && covers(&again, size)
            && again
                .iter()
                .map(|extent| &extent.bytes[..])
                .collect::<Vec<_>>()
                .concat()
                == bytes;
        if !same {
            return Ok(false);
        }
        let length = size as u32;
        let placed = vec![Placed::Chunk {
            id,
            chunk_length: length,
            skip: 0,
            length,
        }];
        self.commit_group(
            &mut namespace,
            &[Operation::Place(file, 0, placed)],
            Room::Ordinary,
        )?;
        self.write.set_memory(file, 0);
        Ok(true)
    }

    /// Sets a length. With the file's order held: an extent on its way into the log is before it.
    pub(super) fn truncate(&self, file: FileNo, size: u64) -> FsResult<()> {
        if size > MAX_FILE_BYTES {
            return Err(FsError::FileTooBig);
        }
        self.change_content(file, Room::Reserved, |state, now| {
            let content = state.content().ok_or(FsError::Invalid)?;
            let mut group = Vec::new();
            if content.size() != size {
                group.push(Operation::Size(file, size));
            }
            // Set-id bits are the caller's: the kernel says with setattr whether they go.
            group.push(Operation::Attributes(
                file,
                Attributes {
                    mtime: now,
                    ctime: now,
                    ..state.attributes.clone()
                },
            ));
            Ok(group)
        })?;
        if size == 0 {
            self.write.disown(file);
        }
        Ok(())
    }

    /// Logs and applies changes of a file's content that are operations.
    fn change_content(
        &self,
        file: FileNo,
        room: Room,
        change: impl Fn(&InodeState, Time) -> FsResult<Vec<Operation>>,
    ) -> FsResult<()> {
        // What is only in the store comes before anything is locked.
        self.with_namespace(|namespace| namespace.get(file).map(drop))?;
        let _logging = self.write.logging.read_recursive();
        let _order = self.write.order(file);
        let now = now();
        self.with_namespace(|namespace| {
            let state = namespace.get(file)?;
            if state.directory().is_some() {
                return Err(FsError::IsDirectory);
            }
            let mut group = Vec::new();
            let change = change(&state, now)?;
            namespace.touch(file, &mut group)?;
            group.extend(change);
            self.commit_group(namespace, &group, room)?;
            let memory = namespace
                .get(file)?
                .content()
                .map_or(0, |content| content.memory_bytes());
            self.write.set_memory(file, memory);
            Ok(())
        })?;
        self.work.touched(file);
        Ok(())
    }

    /// Makes room, holes or zeros. Room is not set aside: the log has its limit for all files.
    pub fn fallocate(&self, ino: u64, mode: Fallocate, offset: u64, length: u64) -> FsResult<()> {
        let file = writable(ino)?;
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= MAX_FILE_BYTES)
            .ok_or(FsError::FileTooBig)?;
        if length == 0 {
            return Err(FsError::Invalid);
        }
        let grows = matches!(mode, Fallocate::Reserve | Fallocate::ZeroRange);
        let clears = !matches!(mode, Fallocate::Reserve | Fallocate::ReserveKeepSize);
        self.slow_down(0)?;
        self.change_content(file, Room::Ordinary, |state, now| {
            let size = state.content().ok_or(FsError::Invalid)?.size();
            let mut group = Vec::new();
            if clears && offset < size {
                group.push(Operation::Hole(file, offset, length.min(size - offset)));
            }
            if grows && end > size {
                group.push(Operation::Size(file, end));
            }
            if !group.is_empty() {
                group.push(content_changed(state, now));
            }
            Ok(group)
        })
    }

    /// Finds data or a hole.
    pub fn lseek(&self, ino: u64, offset: u64, whence: Whence) -> FsResult<u64> {
        let content = self.content(ino)?;
        if offset >= content.size() {
            return Err(FsError::NoMoreData);
        }
        match whence {
            Whence::Data => content
                .seek_data(offset, &self.archive)?
                .ok_or(FsError::NoMoreData),
            Whence::Hole => content
                .seek_hole(offset, &self.archive)?
                .ok_or(FsError::NoMoreData),
        }
    }

    /// Copies within the drive; returns how much was copied. Chunks are only named again; what is
    /// not in chunks yet is written.
    pub fn copy_file_range(
        &self,
        from: u64,
        from_offset: u64,
        to: u64,
        to_offset: u64,
        length: u64,
    ) -> FsResult<u64> {
        let file = writable(to)?;
        let source = self.content(from)?;
        let end = from_offset.saturating_add(length).min(source.size());
        if from_offset >= end {
            return Ok(0);
        }
        let to_end = to_offset
            .checked_add(end - from_offset)
            .filter(|end| *end <= MAX_FILE_BYTES);
        to_end.ok_or(FsError::FileTooBig)?;
        if from == to && from_offset < to_offset + (end - from_offset) && to_offset < end {
            return Err(FsError::Invalid);
        }
        self.slow_down(0)?;
        let mut at = to_offset;
        let mut placed = Vec::new();
        for part in source.plan(from_offset..end, &self.archive)? {
            let part_bytes = part.range.end - part.range.start;
            match part.origin {
                Origin::Chunk {
                    id,
                    skip,
                    chunk_length,
                } => {
                    placed.push(Placed::Chunk {
                        id,
                        chunk_length,
                        skip,
                        length: part_bytes as u32,
                    });
                }
                Origin::Zero => placed.push(Placed::Hole { length: part_bytes }),
                Origin::Memory(_) | Origin::Log { .. } => {
                    at = self.place(file, at, std::mem::take(&mut placed))?;
                    let bytes = self.load_part(&part)?;
                    for piece in bytes.chunks(1 << 20) {
                        at += u64::from(self.write(to, 0, at, piece, false)?);
                    }
                }
            }
        }
        let done = self.place(file, at, placed)?;
        Ok(done - to_offset)
    }

    fn place(&self, file: FileNo, offset: u64, placed: Vec<Placed>) -> FsResult<u64> {
        let end = offset + placed.iter().map(Placed::length).sum::<u64>();
        if placed.is_empty() {
            return Ok(end);
        }
        // Owned before it is named, or the log could lose it in between.
        for placed in &placed {
            if let Placed::Chunk { id, .. } = placed {
                self.write.own(id, file);
            }
        }
        self.change_content(file, Room::Ordinary, |state, now| {
            state.content().ok_or(FsError::Invalid)?;
            Ok(vec![
                Operation::Place(file, offset, placed.clone()),
                content_changed(state, now),
            ])
        })?;
        Ok(end)
    }
}

/// Whether extents follow each other from 0 to the end of a file.
fn covers(unlogged: &[Unlogged], size: u64) -> bool {
    let end = unlogged.iter().try_fold(0, |at, extent| {
        (extent.offset == at).then_some(at + extent.bytes.len() as u64)
    });
    end == Some(size)
}

/// Times after a change of the content; set-id bits go, as the kernel leaves that to us.
fn content_changed(state: &InodeState, now: Time) -> Operation {
    let mode = without_set_ids(state.attributes.mode);
    Operation::Attributes(
        state.file,
        Attributes {
            mtime: now,
            ctime: now,
            mode,
            ..state.attributes.clone()
        },
    )
}

/// A write by somebody who may not keep them takes the set-id bits.
pub(super) fn kill_set_ids(state: &mut InodeState) {
    state.attributes.mode = without_set_ids(state.attributes.mode);
}

/// Set-group-id without group execution means mandatory locking, not a privilege.
pub(super) fn without_set_ids(mode: u32) -> u32 {
    let mode = mode & !0o4000;
    if mode & 0o010 != 0 {
        mode & !0o2000
    } else {
        mode
    }
}
