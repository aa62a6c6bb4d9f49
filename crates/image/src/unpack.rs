//! From a layer's tar to a lower directory of an overlay, trusting nothing that it says.
//!
//! No path is ever given to the kernel as a whole. Each directory is opened from its parent by its bare name and never
//! through a link, so an entry can end nowhere but below the layer, whatever the entries before it made.

mod meta;
mod place;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use self::meta::{Meta, set_file, set_link};
use self::place::components;
use crate::decode::{Decoded, Hashing};
use crate::document::printable;
use crate::error::io_error;
use crate::tar::{Entry, Kind, Reader, TarError};
use crate::{ImageError, Sum};

pub use self::meta::Owners;

/// What a layer may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of its tar.
    pub bytes_max: u64,
    /// How many times larger than what is stored its tar may be, once it is over `ratio_from` bytes.
    pub ratio_max: u64,
    /// Bytes of the tar from which on the ratio counts.
    pub ratio_from: u64,
    /// Files, links, directories and deletions.
    pub entries_max: u64,
    /// Directories within directories.
    pub depth_max: usize,
}

impl Default for Bounds {
    /// The largest images in use (machine learning) have layers of ten to twenty GiB; a compressor that meets nothing
    /// but zeros reaches 1 : 1000, real files 1 : 20. Each open directory is a descriptor, hence the depth.
    fn default() -> Bounds {
        Bounds { bytes_max: 64 << 30, ratio_max: 200, ratio_from: 1 << 30, entries_max: 2_000_000, depth_max: 100 }
    }
}

/// What was unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Of the layer's tar.
    pub diff_id: Option<Sum>,
    /// Of the bytes as they were stored.
    pub stored: Option<Sum>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Files, links, directories and deletions.
    pub entries: u64,
    /// What was left out, and why: a line for each kind.
    pub notes: Vec<String>,
}

/// Unpacks a stored layer into `dir`, which is made. The caller compares the sums before anybody may use `dir`, and
/// removes it when this fails.
///
/// # Errors
/// The layer is malformed, tries what no layer may, is larger than `bounds`, or the file system refuses.
pub fn unpack(
    stored: impl Read,
    dir: &Path,
    owners: Owners,
    bounds: &Bounds,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Unpacked, ImageError> {
    std::fs::create_dir(dir).map_err(io_error("make folder", dir))?;
    let root = fs::open(dir, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| io_error("open", dir)(errno.into()))?;
    let broken = |error: io::Error| io_error("read the layer for", dir)(error);
    let mut decoded = Decoded::new(Hashing::new(stored)).map_err(broken)?;
    let mut unpacking = Unpacking::new(root, owners, bounds);
    let mut tar = Reader::new(Hashing::new(Bounded { decoded: &mut decoded, left: bounds.bytes_max, bounds }));
    while let Some(entry) = tar.next().map_err(|error| unpacking.tar_error(error))? {
        if is_stopped() {
            return Err(ImageError::Stopped);
        }
        unpacking.entry(&entry, &mut tar)?;
    }
    let mut diff = tar.into_inner();
    io::copy(&mut diff, &mut io::sink()).map_err(|error| unpacking.tar_error(error.into()))?;
    let diff_id = diff.sum();
    unpacking.finish()?;
    let mut unpacked = unpacking.unpacked;
    unpacked.diff_id = Some(diff_id);
    unpacked.stored = Some(decoded.stored().sum());
    Ok(unpacked)
}

/// Stops a layer that unpacks to more than it may.
struct Bounded<'a, R: Read> {
    decoded: &'a mut Decoded<Hashing<R>>,
    left: u64,
    bounds: &'a Bounds,
}

/// The text by which a broken bound is known again on its way through the readers.
const BOMB: &str = "it unpacks to more than it may";

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.decoded.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other(BOMB))?;
        let unpacked = self.bounds.bytes_max - self.left;
        let stored = self.decoded.stored().bytes;
        if unpacked > self.bounds.ratio_from && unpacked / self.bounds.ratio_max.max(1) > stored {
            return Err(io::Error::other(BOMB));
        }
        Ok(read)
    }
}

/// The directory that is open at some depth, and its name in the one above.
struct Open {
    name: Vec<u8>,
    dir: OwnedFd,
}

struct Unpacking<'a> {
    root: OwnedFd,
    /// From the root to where the last entry was: neighbours in the archive are neighbours in the tree.
    open: Vec<Open>,
    /// Modes and times of directories are set when nothing is written in them any more.
    dirs: BTreeMap<Vec<Vec<u8>>, Meta>,
    owners: Owners,
    bounds: &'a Bounds,
    unpacked: Unpacked,
    left_out: BTreeMap<&'static str, (u64, String)>,
    block: Vec<u8>,
}

impl<'a> Unpacking<'a> {
    fn new(root: OwnedFd, owners: Owners, bounds: &'a Bounds) -> Unpacking<'a> {
        Unpacking {
            root,
            open: Vec::new(),
            dirs: BTreeMap::from([(Vec::new(), Meta::implied())]),
            owners,
            bounds,
            unpacked: Unpacked::default(),
            left_out: BTreeMap::new(),
            block: vec![0; 128 << 10],
        }
    }

    fn entry(&mut self, entry: &Entry, content: &mut impl Read) -> Result<(), ImageError> {
        let hostile = |why: String| hostile(&entry.path, why);
        self.unpacked.entries += 1;
        if self.unpacked.entries > self.bounds.entries_max {
            let bound = format!("{} entries", self.bounds.entries_max);
            return Err(ImageError::TooLarge { what: "the layer".into(), bound });
        }
        let path = components(&entry.path, self.bounds.depth_max).map_err(|why| hostile(why.into()))?;
        let meta = Meta::of(entry, self.owners).map_err(|why| hostile(why.into()))?;
        meta.dropped.iter().for_each(|what| self.leave_out(what, &entry.path));
        let Some((name, parents)) = path.split_last() else {
            if entry.kind == Kind::Dir {
                self.dirs.insert(Vec::new(), meta);
            }
            return Ok(());
        };
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(hidden, parents, &entry.path);
        }
        self.descend(parents, &entry.path)?;
        let done = match entry.kind {
            Kind::Dir => self.dir(name, &path, meta),
            Kind::File => self.file(name, &meta, entry.size, content),
            Kind::Symlink => self.symlink(name, &meta, &entry.link),
            Kind::HardLink => return self.hard_link(name, entry),
            Kind::Special => {
                self.leave_out("device or pipe", &entry.path);
                Ok(())
            }
        };
        done.map_err(|error| self.write_error(error, &entry.path))
    }

    /// Opens the directory that an entry lies in, making what is missing on the way.
    fn descend(&mut self, parents: &[&[u8]], path: &[u8]) -> Result<(), ImageError> {
        let shared = self.open.iter().zip(parents).take_while(|(open, name)| open.name == **name).count();
        self.open.truncate(shared);
        for depth in shared..parents.len() {
            let name = parents[depth];
            let dir = match open_dir(self.here(), name) {
                Err(Errno::NOENT) => self.make_implied(&parents[..=depth]),
                Err(Errno::NOTDIR | Errno::LOOP) if self.is_whiteout(name) => self.make_implied(&parents[..=depth]),
                opened => opened,
            };
            let dir = dir.map_err(|errno| match errno {
                Errno::NOTDIR | Errno::LOOP => {
                    hostile(path, format!("`{}` is not a directory but a link or a file", lossy(name)))
                }
                errno => self.write_error(errno.into(), path),
            })?;
            self.open.push(Open { name: name.to_vec(), dir });
        }
        Ok(())
    }

    /// A directory that the layer uses without describing it. Always the same one: what is built on it shall be, too.
    fn make_implied(&mut self, path: &[&[u8]]) -> Result<OwnedFd, Errno> {
        let name = path[path.len() - 1];
        self.make_dir(name)?;
        self.dirs.insert(path.iter().map(|part| part.to_vec()).collect(), Meta::implied());
        open_dir(self.here(), name)
    }

    fn here(&self) -> std::os::fd::BorrowedFd<'_> {
        self.open.last().map_or(self.root.as_fd(), |open| open.dir.as_fd())
    }

    /// A new directory. Over a deletion of this very layer it hides what was in the one before.
    fn make_dir(&self, name: &[u8]) -> Result<(), Errno> {
        let hides = self.is_whiteout(name);
        if hides {
            fs::unlinkat(self.here(), name, AtFlags::empty())?;
        }
        // Open to us until the end, whatever its mode is then.
        fs::mkdirat(self.here(), name, Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH)?;
        if hides { mark_opaque(&open_dir(self.here(), name)?) } else { Ok(()) }
    }

    fn is_whiteout(&self, name: &[u8]) -> bool {
        fs::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice)
    }

    fn dir(&mut self, name: &[u8], path: &[&[u8]], meta: Meta) -> io::Result<()> {
        match open_dir(self.here(), name) {
            Ok(_) => {}
            Err(Errno::NOENT) => self.make_dir(name)?,
            Err(Errno::NOTDIR | Errno::LOOP) if self.is_whiteout(name) => self.make_dir(name)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                fs::unlinkat(self.here(), name, AtFlags::empty())?;
                self.make_dir(name)?;
            }
            Err(errno) => return Err(errno.into()),
        }
        self.dirs.insert(path.iter().map(|part| part.to_vec()).collect(), meta);
        Ok(())
    }

    fn file(&mut self, name: &[u8], meta: &Meta, size: u64, content: &mut impl Read) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || fs::openat(self.here(), name, flags, Mode::RUSR | Mode::WUSR);
        let file = match open() {
            Err(Errno::EXIST) => {
                self.replace(name)?;
                open()
            }
            opened => opened,
        }?;
        let mut file = File::from(file);
        let mut left = size;
        while left > 0 {
            let part = self.block.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = content.read(&mut self.block[..part])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            io::Write::write_all(&mut file, &self.block[..read])?;
            left -= read as u64;
        }
        self.unpacked.bytes += size;
        set_file(file.as_fd(), meta, self.owners)
    }

    fn symlink(&mut self, name: &[u8], meta: &Meta, target: &[u8]) -> io::Result<()> {
        match fs::symlinkat(target, self.here(), name) {
            Err(Errno::EXIST) => {
                self.replace(name)?;
                fs::symlinkat(target, self.here(), name)?;
            }
            made => made?,
        }
        set_link(self.here(), name, meta, self.owners)
    }

    /// Only to what this layer has already: what a link to another layer would mean depends on who looks.
    fn hard_link(&mut self, name: &[u8], entry: &Entry) -> Result<(), ImageError> {
        let target = components(&entry.link, self.bounds.depth_max)
            .map_err(|why| hostile(&entry.path, format!("it links to `{}`: {why}", lossy(&entry.link))))?;
        let Some((target_name, parents)) = target.split_last() else {
            return Err(hostile(&entry.path, "it is a hard link to the root".into()));
        };
        let from = self.existing(parents).map_err(|errno| self.no_target(errno, entry))?;
        let stat =
            fs::statat(&from, *target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| self.no_target(errno, entry))?;
        if !matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Symlink) {
            return Err(hostile(
                &entry.path,
                format!("it is a hard link to `{}`, which is no file", lossy(&entry.link)),
            ));
        }
        let link = || fs::linkat(&from, *target_name, self.here(), name, AtFlags::empty());
        let made = match link() {
            // A link to itself stays what it is.
            Err(Errno::EXIST) if same_inode(self.here(), name, &stat) => Ok(()),
            Err(Errno::EXIST) => self.replace(name).and_then(|()| Ok(link()?)),
            made => made.map_err(io::Error::from),
        };
        made.map_err(|error| self.write_error(error, &entry.path))
    }

    /// A directory of this layer, without making or following anything.
    fn existing(&self, path: &[&[u8]]) -> Result<OwnedFd, Errno> {
        let mut dir = open_dir(self.root.as_fd(), b".")?;
        for name in path {
            dir = open_dir(dir.as_fd(), name)?;
        }
        Ok(dir)
    }

    fn no_target(&self, errno: Errno, entry: &Entry) -> ImageError {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => hostile(
                &entry.path,
                format!("it is a hard link to `{}`, which this layer does not have", lossy(&entry.link)),
            ),
            errno => self.write_error(errno.into(), &entry.path),
        }
    }

    /// A later entry of one name takes the place of an earlier one, but never of a directory with something in it.
    fn replace(&self, name: &[u8]) -> io::Result<()> {
        match fs::unlinkat(self.here(), name, AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => Ok(fs::unlinkat(self.here(), name, AtFlags::REMOVEDIR)?),
            done => Ok(done?),
        }
    }

    fn whiteout(&mut self, hidden: &[u8], parents: &[&[u8]], path: &[u8]) -> Result<(), ImageError> {
        if hidden == b".wh..opq" {
            self.descend(parents, path)?;
            return mark_opaque(&self.here()).map_err(|errno| self.write_error(errno.into(), path));
        }
        // Leftovers of a file system that nobody uses any more.
        if hidden.starts_with(b".wh.") {
            self.leave_out("AUFS leftover", path);
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(hostile(path, "it deletes a directory from within".into()));
        }
        self.descend(parents, path)?;
        let made = match make_whiteout(self.here(), hidden) {
            // What this layer has itself, it has; only what lies below is hidden.
            Err(Errno::EXIST) => match open_dir(self.here(), hidden) {
                Ok(dir) => mark_opaque(&dir),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(errno) => Err(errno),
            },
            made => made,
        };
        made.map_err(|errno| self.write_error(errno.into(), path))
    }

    /// Sets modes, owners and times of directories, the deepest first: a directory that is closed to us stays open until
    /// all below it is done.
    fn finish(&mut self) -> Result<(), ImageError> {
        for (path, meta) in std::mem::take(&mut self.dirs).into_iter().rev() {
            let parts: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
            let shown = parts.join(&b'/');
            let dir = match self.existing(&parts) {
                Ok(dir) => dir,
                // A later entry took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(self.write_error(errno.into(), &shown)),
            };
            set_file(dir.as_fd(), &meta, self.owners).map_err(|error| self.write_error(error, &shown))?;
        }
        let notes = std::mem::take(&mut self.left_out).into_iter();
        self.unpacked.notes = notes
            .map(|(what, (count, first))| match count {
                1 => format!("left out: {what} (`{first}`)"),
                count => format!("left out: {count} times {what} (the first is `{first}`)"),
            })
            .collect();
        Ok(())
    }

    fn leave_out(&mut self, what: &'static str, path: &[u8]) {
        self.left_out.entry(what).or_insert_with(|| (0, lossy(path))).0 += 1;
    }

    fn tar_error(&self, error: TarError) -> ImageError {
        match error {
            TarError::Io(error) => self.write_error(error, b""),
            error @ TarError::Malformed(_) => crate::error::malformed("the layer", error.to_string()),
        }
    }

    fn write_error(&self, error: io::Error, path: &[u8]) -> ImageError {
        let after = format!("after {} entries", self.unpacked.entries);
        if error.to_string() == BOMB {
            let Bounds { bytes_max, ratio_max, .. } = self.bounds;
            let bound = format!("{bytes_max} bytes, or {ratio_max} times what is stored,");
            return ImageError::TooLarge { what: "the unpacked layer".into(), bound };
        }
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOTEMPTY | Errno::EXIST) => {
                hostile(path, "it takes the place of a directory with something in it".into())
            }
            Some(Errno::NAMETOOLONG) => hostile(path, "a part of its name is longer than 255 bytes".into()),
            Some(_) => ImageError::Io { act: "unpack", path: lossy(path).into(), source: error },
            // The decoder's errors have no number of the system.
            None => crate::error::malformed("the layer", format!("{error} ({after})")),
        }
    }
}

fn hostile(path: &[u8], why: String) -> ImageError {
    ImageError::Hostile { entry: lossy(path), why }
}

fn lossy(path: &[u8]) -> String {
    printable(&String::from_utf8_lossy(path))
}

fn same_inode(dir: impl AsFd, name: &[u8], stat: &fs::Stat) -> bool {
    fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|other| (other.st_dev, other.st_ino) == (stat.st_dev, stat.st_ino))
}

fn open_dir(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(parent, name, flags, Mode::empty())
}

/// What an overlay takes for "nothing is here".
fn make_whiteout(dir: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    fs::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// What an overlay that is mounted with `userxattr` takes for "nothing that was here before is here".
fn mark_opaque(dir: &impl AsFd) -> Result<(), Errno> {
    fs::fsetxattr(dir, "user.overlay.opaque", b"y", fs::XattrFlags::empty())
}
