//! What the sandbox sees: mounts, made from inside with descriptors and never with paths that a link could redirect.

use std::ffi::{CStr, CString};

use libc::c_int;

use crate::landlock::Rules;
use crate::plan::{
    LOWER_MAX, Op, PART_ATTACH, PART_LOWER, PART_RESTRICT, PART_RULE, PART_SOURCE, PART_TARGET, PART_UPPER, PART_WORK,
    Place,
};
use crate::sys::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_READ_ONLY, Errno, Fd};

/// Which part of an operation failed, and why.
pub type PartErrno = (u32, Errno);

/// What the operations build on.
#[derive(Default)]
pub struct Ground {
    /// What becomes `/`.
    root: Option<Fd>,
    /// The sandbox's own tmpfs, when it is not the root.
    scratch: Option<Fd>,
    /// Directories made in it.
    made: c_int,
    /// What may be written, for landlock.
    pub rules: Option<Rules>,
}

/// Names in the new root of what hidden paths are covered with; gone when the root is ready.
const MASK_DIR: &CStr = c".hidden-directory";
const MASK_FILE: &CStr = c".hidden-file";
/// Where an image is mounted before it is the root.
const IMAGE_DIR: &CStr = c".image";

/// Carries out one mount.
pub fn perform(op: &Op, ground: &mut Ground) -> Result<(), PartErrno> {
    let root = ground.root.as_ref().map_or(-1, |fd| fd.0);
    let rules = ground.rules.as_ref();
    match op {
        Op::NewRoot { bytes, inodes } => {
            ground.root = Some(new_root(bytes.as_deref(), inodes.as_deref()).map_err(at(PART_SOURCE))?);
            Ok(())
        }
        Op::Rules(handled) => {
            let rules = Rules::new(*handled).map_err(at(PART_SOURCE))?;
            ground.rules = Some(rules);
            Ok(())
        }
        Op::Image { lower, upper, work } => {
            let image = image_root(root, lower, upper, work)?;
            ground.scratch = ground.root.replace(image);
            Ok(())
        }
        Op::PrivateMounts => {
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            sys::mount(c"none", c"/", c"", flags, c"").map_err(at(PART_SOURCE))
        }
        Op::Bind { from, at: place, writable } => {
            let read_only = if *writable { 0 } else { ATTR_READ_ONLY };
            let source = sys::copy_mounts(libc::AT_FDCWD, from).map_err(at(PART_SOURCE))?;
            let rules = rules.filter(|_| *writable);
            bind(root, source, place, ATTR_NOSUID | ATTR_NODEV | read_only, rules)
        }
        Op::Device { from, at: place } => {
            let source = sys::copy_mounts(libc::AT_FDCWD, from).map_err(at(PART_SOURCE))?;
            bind(root, source, place, ATTR_NOSUID | ATTR_NOEXEC, rules)
        }
        Op::Private { at: place, mode } => match &ground.scratch {
            Some(scratch) => {
                ground.made += 1;
                private_from(scratch.0, ground.made, root, place, *mode)
            }
            None => private(root, place, *mode, rules),
        },
        Op::Link { at: place, to } => link(root, place, to).map_err(at(PART_SOURCE)),
        Op::Overlay { at: place, lower, upper, work } => {
            let target = target(root, place, DIR).map_err(at(PART_TARGET))?;
            overlay(target.0, lower, upper, work)?;
            drop(target);
            let Some(rules) = rules else { return Ok(()) };
            let mounted = sys::open_in_root(root, place.path()).map_err(at(PART_RULE))?;
            rules.allow_dir(mounted.0).map_err(at(PART_RULE))
        }
        Op::Proc { at: place } => fresh(root, place, c"proc", &[], rules),
        Op::Pts { at: place } => fresh(root, place, c"devpts", &[(c"ptmxmode", c"0666"), (c"mode", c"0620")], rules),
        Op::Freeze { at: place } => freeze(root, place),
        Op::Hide { at: place } => hide(root, ground.scratch.as_ref().map_or(root, |fd| fd.0), place),
        Op::Seal { at: place } => seal(root, place).map_err(at(PART_RESTRICT)),
        Op::Pivot { writable } => {
            let scratch = ground.scratch.as_ref().map_or(root, |fd| fd.0);
            pivot(root, scratch, *writable).map_err(at(PART_SOURCE))
        }
        _ => Err((PART_SOURCE, libc::EINVAL)),
    }
}

fn at(part: u32) -> impl Fn(Errno) -> PartErrno {
    move |errno| (part, errno)
}

/// A tmpfs on top of `/`. Paths still start at the host's root, which lies below and is what our own root points to; so
/// no directory of the host has to be covered to find a place for it.
fn new_root(bytes: Option<&CStr>, inodes: Option<&CStr>) -> Result<Fd, Errno> {
    // An option given twice counts once.
    let mode = (c"mode", c"0755");
    let options =
        [mode, bytes.map_or(mode, |size| (c"size", size)), inodes.map_or(mode, |count| (c"nr_inodes", count))];
    let root = sys::new_mount(c"tmpfs", &options, ATTR_NOSUID | ATTR_NODEV)?;
    let host = sys::open(c"/", libc::O_PATH)?;
    sys::attach(root.0, host.0)?;
    sys::make_dir(root.0, MASK_DIR, 0o555)?;
    sys::make_file(root.0, MASK_FILE, 0)?;
    Ok(root)
}

/// The image's overlay in a directory of the tmpfs: from there it can become the root, and the tmpfs lies nowhere.
fn image_root(tmpfs: c_int, lower: &[CString], upper: &CStr, work: &CStr) -> Result<Fd, PartErrno> {
    sys::make_dir(tmpfs, IMAGE_DIR, 0o755).map_err(at(PART_TARGET))?;
    let place = sys::open_in_root(tmpfs, IMAGE_DIR).map_err(at(PART_TARGET))?;
    overlay(place.0, lower, upper, work)?;
    sys::open_in_root(tmpfs, IMAGE_DIR).map_err(at(PART_TARGET))
}

fn bind(root: c_int, source: Fd, place: &Place, attributes: u64, rules: Option<&Rules>) -> Result<(), PartErrno> {
    sys::restrict_mount(source.0, attributes, true).map_err(at(PART_RESTRICT))?;
    let is_dir = sys::is_dir(source.0).map_err(at(PART_SOURCE))?;
    if let Some(rules) = rules {
        let allowed = if is_dir { rules.allow_dir(source.0) } else { rules.allow_file(source.0) };
        allowed.map_err(at(PART_RULE))?;
    }
    let target = target(root, place, if is_dir { DIR } else { Kind::File }).map_err(at(PART_TARGET))?;
    sys::attach(source.0, target.0).map_err(at(PART_ATTACH))
}

/// A mount of its own, so that it stays writable when the root is not.
fn private(root: c_int, place: &Place, mode: u32, rules: Option<&Rules>) -> Result<(), PartErrno> {
    let dir = target(root, place, Kind::Dir(mode)).map_err(at(PART_TARGET))?;
    let copy = sys::copy_mounts(dir.0, c"").map_err(at(PART_SOURCE))?;
    sys::restrict_mount(copy.0, ATTR_NOSUID | ATTR_NODEV, false).map_err(at(PART_RESTRICT))?;
    rules.map_or(Ok(()), |rules| rules.allow_dir(copy.0)).map_err(at(PART_RULE))?;
    sys::attach(copy.0, dir.0).map_err(at(PART_ATTACH))
}

/// In an image: a directory of the tmpfs, which the image cannot have put a link at.
fn private_from(scratch: c_int, number: c_int, root: c_int, place: &Place, mode: u32) -> Result<(), PartErrno> {
    let mut name = Text::new();
    name.push_number(number);
    let name = name.as_c_str().ok_or((PART_SOURCE, libc::ENAMETOOLONG))?;
    sys::make_dir(scratch, name, mode).map_err(at(PART_SOURCE))?;
    let copy = sys::copy_mounts(scratch, name).map_err(at(PART_SOURCE))?;
    sys::restrict_mount(copy.0, ATTR_NOSUID | ATTR_NODEV, false).map_err(at(PART_RESTRICT))?;
    let target = target(root, place, DIR).map_err(at(PART_TARGET))?;
    sys::attach(copy.0, target.0).map_err(at(PART_ATTACH))
}

fn seal(root: c_int, place: &Place) -> Result<(), Errno> {
    let mount = sys::open_in_root(root, place.path())?;
    sys::restrict_mount(mount.0, ATTR_READ_ONLY, false)
}

fn link(root: c_int, place: &Place, to: &CStr) -> Result<(), Errno> {
    let Some(((_, name), parents)) = place.prefixes.split_last() else { return Err(libc::EINVAL) };
    let parent = make_dirs(root, parents)?;
    already(sys::make_link(to, parent.0, name))
}

/// Through descriptors named by number, relative to `/proc/self/fd`: no character of a path needs escaping, hundreds of
/// lower directories fit the page that the kernel takes, and the sandbox's mount table does not tell the host's paths.
/// `userxattr` because we are in a user namespace; `volatile` because an upper directory outlives no crash anyway, and
/// without it each unmount waits for the disk.
fn overlay(target: c_int, lower: &[CString], upper: &CStr, work: &CStr) -> Result<(), PartErrno> {
    let dir = libc::O_PATH | libc::O_DIRECTORY;
    let mut open: [Option<Fd>; LOWER_MAX] = [const { None }; LOWER_MAX];
    let mut options = Text::new();
    options.push(b"userxattr,volatile,lowerdir=");
    for (index, (slot, path)) in open.iter_mut().zip(lower).enumerate() {
        let fd = sys::open(path, dir).map_err(at(PART_LOWER + index as u32))?;
        if index > 0 {
            options.push(b":");
        }
        options.push_number(fd.0);
        *slot = Some(fd);
    }
    let upper = sys::open(upper, dir).map_err(at(PART_UPPER))?;
    let work = sys::open(work, dir).map_err(at(PART_WORK))?;
    options.push(b",upperdir=");
    options.push_number(upper.0);
    options.push(b",workdir=");
    options.push_number(work.0);
    let mut place = Text::new();
    place.push_number(target);
    let descriptors = sys::open(c"/proc/self/fd", dir).map_err(at(PART_ATTACH))?;
    sys::change_dir_to(descriptors.0).map_err(at(PART_ATTACH))?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    let (place, options) = place.as_c_str().zip(options.as_c_str()).ok_or((PART_ATTACH, libc::E2BIG))?;
    sys::mount(c"overlay", place, c"overlay", flags, options).map_err(at(PART_ATTACH))
}

fn fresh(
    root: c_int,
    place: &Place,
    kind: &CStr,
    options: &[(&CStr, &CStr)],
    rules: Option<&Rules>,
) -> Result<(), PartErrno> {
    let nodev = if kind == c"devpts" { 0 } else { ATTR_NODEV };
    let mount = sys::new_mount(kind, options, ATTR_NOSUID | ATTR_NOEXEC | nodev).map_err(at(PART_SOURCE))?;
    // A process writes to what /proc has of itself.
    rules.map_or(Ok(()), |rules| rules.allow_file(mount.0)).map_err(at(PART_RULE))?;
    let target = target(root, place, DIR).map_err(at(PART_TARGET))?;
    sys::attach(mount.0, target.0).map_err(at(PART_ATTACH))
}

fn freeze(root: c_int, place: &Place) -> Result<(), PartErrno> {
    let Some(target) = existing(root, place).map_err(at(PART_TARGET))? else { return Ok(()) };
    let copy = sys::copy_mounts(target.0, c"").map_err(at(PART_SOURCE))?;
    sys::restrict_mount(copy.0, ATTR_READ_ONLY, true).map_err(at(PART_RESTRICT))?;
    sys::attach(copy.0, target.0).map_err(at(PART_ATTACH))
}

fn hide(root: c_int, masks: c_int, place: &Place) -> Result<(), PartErrno> {
    let Some(target) = existing(root, place).map_err(at(PART_TARGET))? else { return Ok(()) };
    let is_dir = sys::is_dir(target.0).map_err(at(PART_TARGET))?;
    let mask = if is_dir { MASK_DIR } else { MASK_FILE };
    let copy = sys::copy_mounts(masks, mask).map_err(at(PART_SOURCE))?;
    let attributes = ATTR_READ_ONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
    sys::restrict_mount(copy.0, attributes, false).map_err(at(PART_RESTRICT))?;
    sys::attach(copy.0, target.0).map_err(at(PART_ATTACH))
}

fn existing(root: c_int, place: &Place) -> Result<Option<Fd>, Errno> {
    match sys::open_in_root(root, place.path()) {
        Ok(fd) => Ok(Some(fd)),
        // What the sandbox's user cannot even look up needs no hiding from it.
        Err(libc::ENOENT | libc::ENOTDIR | libc::EACCES) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// `pivot_root(".", ".")` stacks the old root on the new one, where `umount` finds it first; see pivot_root(2).
fn pivot(root: c_int, scratch: c_int, writable: bool) -> Result<(), Errno> {
    unless_busy(sys::unlink(scratch, MASK_DIR, libc::AT_REMOVEDIR))?;
    unless_busy(sys::unlink(scratch, MASK_FILE, 0))?;
    sys::change_dir_to(root)?;
    sys::pivot_root_here()?;
    sys::detach_here()?;
    if scratch != root {
        // Under an image the tmpfs still lies on the host's root, and was found before it.
        sys::detach_here()?;
    }
    if writable { Ok(()) } else { sys::restrict_mount(root, ATTR_READ_ONLY, false) }
}

/// What a missing place becomes.
#[derive(Clone, Copy)]
enum Kind {
    Dir(u32),
    File,
}
const DIR: Kind = Kind::Dir(0o755);

/// A place that was hidden twice, by two names, is a mount on the cover itself. Then the empty cover stays.
fn unless_busy(result: Result<(), Errno>) -> Result<(), Errno> {
    if result == Err(libc::EBUSY) { Ok(()) } else { result }
}

/// Opens the place of a mount, and makes it when it is missing. Links are followed as the sandbox's processes will follow
/// them, so none leads to the host.
fn target(root: c_int, place: &Place, kind: Kind) -> Result<Fd, Errno> {
    match sys::open_in_root(root, place.path()) {
        Err(libc::ENOENT) => make_target(root, place, kind),
        result => result,
    }
}

fn make_target(root: c_int, place: &Place, kind: Kind) -> Result<Fd, Errno> {
    let Some(((path, name), parents)) = place.prefixes.split_last() else { return Err(libc::EINVAL) };
    let parent = make_dirs(root, parents)?;
    already(match kind {
        Kind::Dir(mode) => sys::make_dir(parent.0, name, mode),
        Kind::File => sys::make_file(parent.0, name, 0o644),
    })?;
    sys::open_in_root(root, path)
}

/// Opens the last of these directories, making those that are missing.
fn make_dirs(root: c_int, prefixes: &[(CString, CString)]) -> Result<Fd, Errno> {
    let mut parent = sys::open_in_root(root, c".")?;
    for (path, name) in prefixes {
        parent = match sys::open_in_root(root, path) {
            Err(libc::ENOENT) => {
                already(sys::make_dir(parent.0, name, 0o755))?;
                sys::open_in_root(root, path)?
            }
            result => result?,
        };
    }
    Ok(parent)
}

/// It may be there: as a link that leads nowhere, for instance. Opening it says what is wrong with it.
fn already(made: Result<(), Errno>) -> Result<(), Errno> {
    if made == Err(libc::EEXIST) { Ok(()) } else { made }
}

/// A string on the stack, as long as the page of options that `mount` takes.
struct Text {
    bytes: [u8; 4096],
    used: usize,
}

impl Text {
    fn new() -> Text {
        Text { bytes: [0; 4096], used: 0 }
    }

    fn push(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(place) = self.bytes.get_mut(self.used) {
                *place = *byte;
            }
            self.used = self.used.saturating_add(1);
        }
    }

    fn push_number(&mut self, number: c_int) {
        let mut digits = [0u8; 10];
        let mut rest = number.unsigned_abs();
        let mut used = 0;
        for place in digits.iter_mut().rev() {
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
            used += 1;
            if rest == 0 {
                break;
            }
        }
        self.push(digits.get(10 - used..).unwrap_or_default());
    }

    /// `None` when it did not fit.
    fn as_c_str(&self) -> Option<&CStr> {
        CStr::from_bytes_with_nul(self.bytes.get(..=self.used)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_text_without_allocation() {
        let mut text = Text::new();
        text.push(b"lowerdir=");
        text.push_number(0);
        text.push(b":");
        text.push_number(c_int::MAX);
        assert_eq!(text.as_c_str(), Some(c"lowerdir=0:2147483647"));
    }

    #[test]
    fn options_longer_than_a_page_are_refused() {
        let mut text = Text::new();
        for _ in 0..4096 {
            text.push(b"x");
        }
        assert_eq!(text.as_c_str(), None);
    }
}
