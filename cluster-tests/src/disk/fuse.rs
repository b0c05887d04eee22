//! The disk as the kernel asks for it (FUSE): requests in, [`Volume`] called, answers out.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, TimeOrNow, WriteFlags,
};

use super::content::SECTOR_BYTES;
use super::shared::{Request, Shared, SyncFate};
use super::volume::{Kind, Node, Volume};

/// The kernel may remember names and attributes: every change comes through it, and after a power
/// cut the disk is mounted anew.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// Largest write that the kernel hands over at once.
const MOST_WRITTEN_BYTES: u32 = 1 << 20;

/// Size of a block in figures about space.
const BLOCK_BYTES: u32 = 4096;

/// No file number is used twice.
const GENERATION: Generation = Generation(0);

/// Files go past the kernel's page cache: a read reaches the disk, so that it can fail.
const OPENED: FopenFlags = FopenFlags::FOPEN_DIRECT_IO;

/// One mount of a disk.
#[derive(Debug)]
pub(super) struct Mounted {
    shared: Arc<Shared>,
    user: (u32, u32),
    /// What was in the directories that are open when they were opened.
    listings: Mutex<HashMap<u64, Vec<(OsString, u64)>>>,
}

impl Mounted {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let user = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self { shared, user, listings: Mutex::default() }
    }

    fn look<T>(&self, work: impl FnOnce(&mut Volume) -> Result<T, Errno>) -> Result<T, Errno> {
        self.shared.serve(Request::Looks, work)
    }

    fn change<T>(&self, work: impl FnOnce(&mut Volume) -> Result<T, Errno>) -> Result<T, Errno> {
        self.shared.serve(Request::Changes, work)
    }

    fn attributes(&self, volume: &Volume, number: u64) -> Result<FileAttr, Errno> {
        let node = volume.node(number)?;
        let (kind, size) = match &node.kind {
            Kind::File(content) => (FileType::RegularFile, content.length()),
            Kind::Directory(_) => (FileType::Directory, 0),
        };
        let time = node.modified;
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(SECTOR_BYTES),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm: node.mode,
            nlink: node.links.max(1),
            uid: self.user.0,
            gid: self.user.1,
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        })
    }

    /// Syncs on this thread, or later on another one if syncs are slow.
    fn sync(&self, number: INodeNo, reply: ReplyEmpty) {
        let delay = self.shared.sync_delay();
        let begun = self.change(|volume| Ok(volume.content(number.0).map_or(0, |content| content.written())));
        let (shared, starts) = (self.shared.clone(), self.shared.starts());
        let finish = move || {
            let synced = begun.and_then(|written| sync_now(&shared, number.0, (written, starts)));
            empty(synced, reply);
        };
        if delay.is_zero() {
            return finish();
        }
        std::thread::spawn(move || {
            std::thread::sleep(delay);
            finish();
        });
    }
}

/// Syncs what was `written` when the sync began, unless the power has failed meanwhile.
fn sync_now(shared: &Shared, number: u64, (written, starts): (u64, u64)) -> Result<(), Errno> {
    shared.serve(Request::Looks, |volume| match (shared.sync_fate(volume, number), volume.content_mut(number)) {
        _ if shared.starts() != starts => Err(Errno::EIO),
        (SyncFate::Lies, _) => Ok(()),
        (SyncFate::Fails, Ok(content)) => {
            content.fail_sync();
            Err(Errno::EIO)
        }
        (SyncFate::Fails, Err(_)) => Err(Errno::EIO),
        (SyncFate::Works, Ok(content)) => content.sync(written).map_err(Errno::from),
        (SyncFate::Works, Err(_)) => volume.sync_names(number),
    })
}

fn empty(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn entry(result: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match result {
        Ok(attributes) => reply.entry(&REMEMBERED_FOR, &attributes, GENERATION),
        Err(error) => reply.error(error),
    }
}

/// The permissions in a mode.
fn permissions(mode: u32, umask: u32) -> u16 {
    // The mask leaves twelve bits.
    (mode & !umask & 0o7777) as u16
}

fn kind(node: &Node) -> FileType {
    match node.kind {
        Kind::File(_) => FileType::RegularFile,
        Kind::Directory(_) => FileType::Directory,
    }
}

impl Filesystem for Mounted {
    fn init(&mut self, _request: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        // Less is possible too, only slower.
        let _ = config.set_max_write(MOST_WRITTEN_BYTES);
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        Ok(())
    }

    fn lookup(&self, _request: &fuser::Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.look(|volume| {
            let number = volume.lookup(parent.0, name)?;
            self.attributes(volume, number)
        });
        entry(found, reply);
    }

    fn getattr(&self, _request: &fuser::Request, number: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.look(|volume| self.attributes(volume, number.0)) {
            Ok(attributes) => reply.attr(&REMEMBERED_FOR, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _request: &fuser::Request,
        number: INodeNo,
        mode: Option<u32>,
        _user: Option<u32>,
        _group: Option<u32>,
        size: Option<u64>,
        _accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let result = self.change(|volume| {
            if let Some(size) = size {
                volume.resize(number.0, size)?;
            }
            let node = volume.node_mut(number.0)?;
            if let Some(mode) = mode {
                node.mode = permissions(mode, 0);
            }
            match modified {
                Some(TimeOrNow::SpecificTime(time)) => node.modified = time,
                Some(TimeOrNow::Now) => node.modified = SystemTime::now(),
                None => {}
            }
            self.attributes(volume, number.0)
        });
        match result {
            Ok(attributes) => reply.attr(&REMEMBERED_FOR, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(
        &self,
        _request: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.change(|volume| {
            let number = volume.create_directory(parent.0, name, permissions(mode, umask))?;
            self.attributes(volume, number)
        });
        entry(made, reply);
    }

    fn unlink(&self, _request: &fuser::Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.change(|volume| volume.unlink(parent.0, name)), reply);
    }

    fn rmdir(&self, _request: &fuser::Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.change(|volume| volume.remove_directory(parent.0, name)), reply);
    }

    fn rename(
        &self,
        _request: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.change(|volume| match flags {
            RenameFlags::RENAME_NOREPLACE if volume.lookup(new_parent.0, new_name).is_ok() => Err(Errno::EEXIST),
            _ if flags.is_empty() || flags == RenameFlags::RENAME_NOREPLACE => {
                volume.rename((parent.0, name), (new_parent.0, new_name))
            }
            _ => Err(Errno::EINVAL),
        });
        empty(renamed, reply);
    }

    fn link(
        &self,
        _request: &fuser::Request,
        number: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let linked = self.change(|volume| {
            volume.link(number.0, new_parent.0, new_name)?;
            self.attributes(volume, number.0)
        });
        entry(linked, reply);
    }

    fn create(
        &self,
        _request: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let created = self.change(|volume| {
            let number = volume.create(parent.0, name, permissions(mode, umask))?;
            volume.open(number)?;
            self.attributes(volume, number)
        });
        match created {
            Ok(attributes) => reply.created(&REMEMBERED_FOR, &attributes, GENERATION, FileHandle(0), OPENED),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _request: &fuser::Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.look(|volume| volume.open(number.0)) {
            Ok(()) => reply.opened(FileHandle(0), OPENED),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _request: &fuser::Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.look(|volume| {
            if self.shared.read_fails(volume, number.0) {
                return Err(Errno::EIO);
            }
            volume.content(number.0)?.read(offset, size as usize).map_err(Errno::from)
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _request: &fuser::Request,
        number: INodeNo,
        _handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.change(|volume| volume.write(number.0, offset, bytes)) {
            // At most MOST_WRITTEN_BYTES.
            Ok(()) => reply.written(bytes.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(
        &self,
        _request: &fuser::Request,
        _number: INodeNo,
        _handle: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn release(
        &self,
        _request: &fuser::Request,
        number: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        // Without power as well: the process may be gone already, and nobody hears an error.
        self.shared.volume().close(number.0);
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &fuser::Request,
        number: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.sync(number, reply);
    }

    fn fsyncdir(
        &self,
        _request: &fuser::Request,
        number: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        self.sync(number, reply);
    }

    fn opendir(&self, request: &fuser::Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Listed now: whoever removes what it lists would else miss some.
        match self.look(|volume| volume.list(number.0)) {
            Ok(names) => {
                let handle = request.unique().0;
                self.listings.lock().unwrap_or_else(PoisonError::into_inner).insert(handle, names);
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn readdir(
        &self,
        _request: &fuser::Request,
        _number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        let names = listings.get(&handle.0).map(Vec::as_slice).unwrap_or_default();
        let listed = self.look(|volume| {
            // An offset is one that was handed out here.
            for (index, (name, number)) in names.iter().enumerate().skip(offset as usize) {
                let Ok(node) = volume.node(*number) else { continue };
                if reply.add(INodeNo(*number), index as u64 + 1, kind(node), name) {
                    break;
                }
            }
            Ok(())
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn releasedir(
        &self,
        _request: &fuser::Request,
        _number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.listings.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
        reply.ok();
    }

    fn statfs(&self, _request: &fuser::Request, _number: INodeNo, reply: ReplyStatfs) {
        match self.look(|volume| Ok(volume.space())) {
            Ok((used, capacity)) => {
                let block = u64::from(BLOCK_BYTES);
                let (free, files) = (capacity.saturating_sub(used) / block, 1 << 20);
                reply.statfs(capacity / block, free, free, files, files, BLOCK_BYTES, 255, BLOCK_BYTES);
            }
            Err(error) => reply.error(error),
        }
    }
}
