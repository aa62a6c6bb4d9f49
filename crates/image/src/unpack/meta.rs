//! Modes, owners, times and attributes: what of an entry's is kept, and what must not reach the disk.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use crate::tar::{Entry, Kind};

/// Attributes of one entry.
const XATTRS_MAX: usize = 64;
/// Bytes of a value: the kernel takes no more.
const XATTR_BYTES_MAX: usize = 64 << 10;
/// The highest user that is told apart; whoever is above becomes this one, `nobody`.
const ID_MAX: u64 = 65_534;

/// To whom unpacked files belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// All to whoever unpacks: an ordinary user may do nothing else.
    Mine,
    /// The image's root is root; user `n` is `base + n`, which no user of this host is.
    Above(u32),
}

impl Owners {
    /// The base that the sandbox maps its users to.
    pub const SUBORDINATE_BASE: u32 = 2_000_000_000;
    /// What this process can do.
    pub fn here() -> Owners {
        if rustix::process::geteuid().is_root() { Owners::Above(Owners::SUBORDINATE_BASE) } else { Owners::Mine }
    }
    /// The user of this host that stands for user `id` of an image.
    pub fn outside(self, id: u32) -> Option<u32> {
        match (self, id) {
            (Owners::Mine, _) => None,
            (Owners::Above(_), 0) => Some(0),
            (Owners::Above(base), id) => base.checked_add(id),
        }
    }
}

impl Owners {
    /// The user of an image that user `id` of this host stands for; whoever stands for none is root.
    pub(crate) fn inside(self, id: u32) -> u64 {
        match self {
            Owners::Mine => 0,
            Owners::Above(base) => id.saturating_sub(base).into(),
        }
    }
}

/// What is set on a file, a link or a directory.
pub(super) struct Meta {
    mode: Mode,
    uid: u32,
    gid: u32,
    mtime: (i64, u32),
    xattrs: Attributes,
    /// What of the entry's is not kept.
    pub dropped: Vec<&'static str>,
}

impl Meta {
    /// What is kept of an entry's.
    pub fn of(entry: &Entry, owners: Owners) -> Result<Meta, &'static str> {
        let mut dropped = Vec::new();
        // The sandbox mounts everything `nosuid`; this keeps the bits from meaning anything outside of it too.
        if matches!(entry.kind, Kind::File) && entry.mode & 0o6000 != 0 {
            dropped.push("setuid bit");
        }
        let kept = if entry.kind == Kind::Dir { 0o1777 } else { 0o777 };
        let (uid, gid) = (entry.uid.min(ID_MAX), entry.gid.min(ID_MAX));
        if owners != Owners::Mine && (uid, gid) != (entry.uid, entry.gid) {
            dropped.push("owner above 65534, now nobody");
        }
        let xattrs = attributes(entry, &mut dropped)?;
        let mode = Mode::from_raw_mode(entry.mode & kept);
        Ok(Meta { mode, uid: uid as u32, gid: gid as u32, mtime: entry.mtime, xattrs, dropped })
    }

    /// Of a directory that nobody described.
    pub fn implied() -> Meta {
        Meta {
            mode: Mode::from_raw_mode(0o755),
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: Vec::new(),
            dropped: Vec::new(),
        }
    }

    fn times(&self) -> Timestamps {
        Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: self.mtime.0, tv_nsec: self.mtime.1.into() },
        }
    }

    fn owner(&self, owners: Owners) -> Option<(Uid, Gid)> {
        Some((Uid::from_raw(owners.outside(self.uid)?), Gid::from_raw(owners.outside(self.gid)?)))
    }
}

/// Names and values.
type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Only `user.*` is kept. What an overlay reads would let a layer redirect or hide what lies below it; capabilities are
/// setuid by another name; the rest names users and labels of the machine that it was made on.
fn attributes(entry: &Entry, dropped: &mut Vec<&'static str>) -> Result<Attributes, &'static str> {
    if entry.xattrs.len() > XATTRS_MAX {
        return Err("it has more than 64 extended attributes");
    }
    let mut kept = Vec::new();
    for (name, value) in &entry.xattrs {
        if name.len() > 255 || value.len() > XATTR_BYTES_MAX || name.contains(&0) {
            return Err("one of its extended attributes is too long or malformed");
        }
        if name.starts_with(b"trusted.") || name.starts_with(b"user.overlay.") {
            return Err("it has an extended attribute that would change what the overlay shows");
        }
        match name.starts_with(b"user.") && matches!(entry.kind, Kind::File | Kind::Dir) {
            true => kept.push((name.clone(), value.clone())),
            false if name == b"security.capability" => dropped.push("file capability"),
            false => dropped.push("extended attribute"),
        }
    }
    Ok(kept)
}

/// Sets it on an open file or directory.
pub(super) fn set_file(file: BorrowedFd<'_>, meta: &Meta, owners: Owners) -> io::Result<()> {
    if let Some((uid, gid)) = meta.owner(owners)
        && (meta.uid, meta.gid) != (0, 0)
    {
        fs::fchown(file, Some(uid), Some(gid))?;
    }
    for (name, value) in &meta.xattrs {
        match fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
            // A file system without them, or without room for more, serves images just as well.
            Err(Errno::NOTSUP | Errno::NOSPC | Errno::TOOBIG) => {}
            set => set?,
        }
    }
    fs::fchmod(file, meta.mode)?;
    Ok(fs::futimens(file, &meta.times())?)
}

/// Sets it on a link, which has neither mode nor attributes.
pub(super) fn set_link(dir: impl AsFd, name: &[u8], meta: &Meta, owners: Owners) -> io::Result<()> {
    if let Some((uid, gid)) = meta.owner(owners)
        && (meta.uid, meta.gid) != (0, 0)
    {
        fs::chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(fs::utimensat(dir, name, &meta.times(), AtFlags::SYMLINK_NOFOLLOW)?)
}
