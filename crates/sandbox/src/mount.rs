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
pub struct Ground<'a> {
    floor: Floor<'a>,
    /// The sandbox's own tmpfs, when it is not the root.
    scratch: Option<Fd>,
    /// Directories made in it.
    made: c_int,
    /// What may be written, for landlock.
    pub rules: Option<Rules>,
}

/// What becomes `/`, and the directory in it that was used last: places come sorted, so the next one is often beside it.
#[derive(Default)]
struct Floor<'a> {
    root: Option<Fd>,
    last: Option<(&'a CStr, Fd)>,
}

/// A place for a mount.
enum Spot<'a> {
    /// We just made it, so it is no link.
    Made { dir: c_int, name: &'a CStr },
    /// It was there.
    There(Fd),
}

/// Names in the new root of what hidden paths are covered with; gone when the root is ready.
const MASK_DIR: &CStr = c".hidden-directory";
const MASK_FILE: &CStr = c".hidden-file";
/// Where an image is mounted before it is the root.
const IMAGE_DIR: &CStr = c".image";
/// Where devices are.
const DEV: &CStr = c"dev";

/// Carries out one mount.
pub fn perform<'a>(op: &'a Op, ground: &mut Ground<'a>) -> Result<(), PartErrno> {
    let Ground { floor, scratch, made, rules } = ground;
    let tmpfs = scratch.as_ref().map_or(floor.root(), |fd| fd.0);
    match op {
        Op::PrivateMounts => {
            let flags = libc::MS_REC | libc::MS_PRIVATE;
            sys::mount(c"none", c"/", c"", flags, c"").map_err(at(PART_SOURCE))
        }
        Op::Rules(handled) => {
            *rules = Some(Rules::new(*handled).map_err(at(PART_SOURCE))?);
            Ok(())
        }
        Op::NewRoot { bytes, inodes } => {
            let root = new_root(bytes.as_deref(), inodes.as_deref()).map_err(at(PART_SOURCE))?;
            rules.as_ref().map_or(Ok(()), |rules| allow_devices(root.0, rules)).map_err(at(PART_RULE))?;
            floor.root = Some(root);
            Ok(())
        }
        Op::Image { lower, opened, upper, work } => {
            let image = image_root(floor.root(), lower, opened, upper, work)?;
            *scratch = floor.root.replace(image);
            Ok(())
        }
        Op::Bind { from, at: place, writable: true } => bind(floor, from, place, 0, rules.as_ref()),
        Op::Bind { from, at: place, writable: false } => bind(floor, from, place, ATTR_READ_ONLY, None),
        Op::Device { from, at: place } => device(floor, from, place),
        Op::Private { at: place, mode } => match scratch {
            Some(scratch) => {
                *made += 1;
                private_from(floor, scratch.0, *made, place, *mode)
            }
            None => private(floor, place, *mode, rules.as_ref()),
        },
        Op::Link { at: place, to } => link(floor, place, to).map_err(at(PART_SOURCE)),
        Op::Overlay { at: place, lower, upper, work } => {
            let target = target(floor, place).map_err(at(PART_TARGET))?;
            overlay(target.0, lower, None, upper, work)?;
            let Some(rules) = rules else { return Ok(()) };
            let mounted = sys::open_in_root(floor.root(), place.path()).map_err(at(PART_RULE))?;
            rules.allow_dir(mounted.0).map_err(at(PART_RULE))
        }
        Op::Proc { at: place } => fresh(floor, place, c"proc", ATTR_NODEV, &[], rules.as_ref()),
        Op::Pts { at: place } => {
            let modes = [(c"ptmxmode", c"0666"), (c"mode", c"0620")];
            fresh(floor, place, c"devpts", 0, &modes, rules.as_ref())
        }
        Op::Freeze { at: place } => freeze(floor.root(), place),
        Op::Hide { at: place } => hide(floor.root(), tmpfs, place),
        Op::Seal { at: place } => seal(floor.root(), place).map_err(at(PART_RESTRICT)),
        Op::Pivot { writable } => pivot(floor.root(), tmpfs, *writable).map_err(at(PART_SOURCE)),
        _ => Err((PART_SOURCE, libc::EINVAL)),
    }
}

fn at(part: u32) -> impl Fn(Errno) -> PartErrno {
    move |errno| (part, errno)
}

/// A tmpfs on top of `/`. Paths still start at the host's root, which lies below and is what our own root points to; so
/// no directory of the host has to be covered to find a place for it.
fn new_root(bytes: Option<&CStr>, inodes: Option<&CStr>) -> Result<Fd, Errno> {
    let options =
        [Some((c"mode", c"0755")), bytes.map(|size| (c"size", size)), inodes.map(|count| (c"nr_inodes", count))];
    let root = sys::new_mount(c"tmpfs", options.into_iter().flatten(), ATTR_NOSUID | ATTR_NODEV)?;
    let host = sys::open(c"/", libc::O_PATH)?;
    sys::attach(root.0, host.0)?;
    sys::make_dir(root.0, MASK_DIR, 0o555)?;
    sys::make_file(root.0, MASK_FILE, 0)?;
    Ok(root)
}

/// The image's overlay in a directory of the tmpfs: from there it can become the root, and the tmpfs lies nowhere.
fn image_root(tmpfs: c_int, lower: &[CString], opened: &[c_int], upper: &CStr, work: &CStr) -> Result<Fd, PartErrno> {
    for (index, layer) in opened.iter().enumerate() {
        let part = PART_LOWER + index as u32;
        attach_layer(tmpfs, index as c_int, *layer).map_err(at(part))?;
    }
    sys::make_dir(tmpfs, IMAGE_DIR, 0o755).map_err(at(PART_TARGET))?;
    let place = sys::open_in_root(tmpfs, IMAGE_DIR).map_err(at(PART_TARGET))?;
    overlay(place.0, lower, (!opened.is_empty()).then_some(tmpfs), upper, work)?;
    sys::open_in_root(tmpfs, IMAGE_DIR).map_err(at(PART_TARGET))
}

/// A mount must be in our namespace before an overlay may use it.
fn attach_layer(tmpfs: c_int, number: c_int, layer: c_int) -> Result<(), Errno> {
    let name = layer_name(number);
    let name = name.as_c_str().ok_or(libc::ENAMETOOLONG)?;
    sys::make_dir(tmpfs, name, 0o755)?;
    sys::attach_at(layer, tmpfs, name)
}

fn layer_name(number: c_int) -> Text {
    let mut name = Text::new();
    name.push(b".layer");
    name.push_number(number);
    name
}

/// One rule for all devices, on the directory that their mounts lie in.
fn allow_devices(root: c_int, rules: &Rules) -> Result<(), Errno> {
    if !rules.of_files() {
        return Ok(());
    }
    sys::make_dir(root, DEV, 0o755)?;
    rules.allow_file(sys::open_in_root(root, DEV)?.0)
}

fn bind<'a>(
    floor: &mut Floor<'a>,
    from: &CStr,
    place: &'a Place,
    read_only: u64,
    rules: Option<&Rules>,
) -> Result<(), PartErrno> {
    let source = sys::copy_mounts(libc::AT_FDCWD, from).map_err(at(PART_SOURCE))?;
    sys::restrict_mount(source.0, ATTR_NOSUID | ATTR_NODEV | read_only, true).map_err(at(PART_RESTRICT))?;
    let is_dir = sys::is_dir(source.0).map_err(at(PART_SOURCE))?;
    if let Some(rules) = rules {
        let allowed = if is_dir { rules.allow_dir(source.0) } else { rules.allow_file(source.0) };
        allowed.map_err(at(PART_RULE))?;
    }
    let spot = floor.spot(place, if is_dir { DIR } else { Kind::File }).map_err(at(PART_TARGET))?;
    spot.attach(&source).map_err(at(PART_ATTACH))
}

/// Nothing to restrict: a device is not executed, and only a user of the host could have made it set-user-id.
fn device<'a>(floor: &mut Floor<'a>, from: &CStr, place: &'a Place) -> Result<(), PartErrno> {
    let source = sys::copy_mounts(libc::AT_FDCWD, from).map_err(at(PART_SOURCE))?;
    let spot = floor.spot(place, Kind::File).map_err(at(PART_TARGET))?;
    spot.attach(&source).map_err(at(PART_ATTACH))
}

/// A mount of its own, so that it stays writable when the root is not. It is as restricted as what it lies in.
fn private<'a>(floor: &mut Floor<'a>, place: &'a Place, mode: u32, rules: Option<&Rules>) -> Result<(), PartErrno> {
    let spot = floor.spot(place, Kind::Dir(mode)).map_err(at(PART_TARGET))?;
    let copy = match &spot {
        Spot::Made { dir, name } => sys::copy_mount_of(*dir, name),
        Spot::There(dir) => sys::copy_mounts(dir.0, c""),
    };
    let copy = copy.map_err(at(PART_SOURCE))?;
    rules.map_or(Ok(()), |rules| rules.allow_dir(copy.0)).map_err(at(PART_RULE))?;
    spot.attach(&copy).map_err(at(PART_ATTACH))
}

/// In an image: a directory of the tmpfs, which the image cannot have put a link at.
fn private_from<'a>(
    floor: &mut Floor<'a>,
    scratch: c_int,
    number: c_int,
    place: &'a Place,
    mode: u32,
) -> Result<(), PartErrno> {
    let mut name = Text::new();
    name.push_number(number);
    let name = name.as_c_str().ok_or((PART_SOURCE, libc::ENAMETOOLONG))?;
    sys::make_dir(scratch, name, mode).map_err(at(PART_SOURCE))?;
    let copy = sys::copy_mount_of(scratch, name).map_err(at(PART_SOURCE))?;
    let spot = floor.spot(place, DIR).map_err(at(PART_TARGET))?;
    spot.attach(&copy).map_err(at(PART_ATTACH))
}

fn seal(root: c_int, place: &Place) -> Result<(), Errno> {
    let mount = sys::open_in_root(root, place.path())?;
    sys::restrict_mount(mount.0, ATTR_READ_ONLY, false)
}

fn link<'a>(floor: &mut Floor<'a>, place: &'a Place, to: &CStr) -> Result<(), Errno> {
    let Some(((_, name), parents)) = place.prefixes.split_last() else { return Err(libc::EINVAL) };
    let parent = floor.dir(parents)?;
    already(sys::make_link(to, parent, name))
}

/// Through descriptors named by number, relative to `/proc/self/fd`: no character of a path needs escaping, hundreds of
/// lower directories fit the page that the kernel takes, and the sandbox's mount table does not tell the host's paths.
/// `userxattr` because we are in a user namespace; `volatile` because an upper directory outlives no crash anyway, and
/// without it each unmount waits for the disk.
/// Lower directories that are attached to a tmpfs already are taken from there.
fn overlay(
    target: c_int,
    lower: &[CString],
    attached: Option<c_int>,
    upper: &CStr,
    work: &CStr,
) -> Result<(), PartErrno> {
    let dir = libc::O_PATH | libc::O_DIRECTORY;
    let mut open: [Option<Fd>; LOWER_MAX] = [const { None }; LOWER_MAX];
    let mut options = Text::new();
    options.push(b"userxattr,volatile,lowerdir=");
    for (index, (slot, path)) in open.iter_mut().zip(lower).enumerate() {
        let fd = match attached {
            None => sys::open(path, dir),
            Some(tmpfs) => {
                let name = layer_name(index as c_int);
                name.as_c_str().ok_or(libc::ENAMETOOLONG).and_then(|name| sys::open_in_root(tmpfs, name))
            }
        };
        let fd = fd.map_err(at(PART_LOWER + index as u32))?;
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

fn fresh<'a>(
    floor: &mut Floor<'a>,
    place: &'a Place,
    kind: &CStr,
    nodev: u64,
    options: &[(&CStr, &CStr)],
    rules: Option<&Rules>,
) -> Result<(), PartErrno> {
    let attributes = ATTR_NOSUID | ATTR_NOEXEC | nodev;
    let mount = sys::new_mount(kind, options.iter().copied(), attributes).map_err(at(PART_SOURCE))?;
    // A process writes to what /proc has of itself.
    rules.map_or(Ok(()), |rules| rules.allow_file(mount.0)).map_err(at(PART_RULE))?;
    let spot = floor.spot(place, DIR).map_err(at(PART_TARGET))?;
    spot.attach(&mount).map_err(at(PART_ATTACH))
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
    let copy = sys::copy_mount_of(masks, mask).map_err(at(PART_SOURCE))?;
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

impl Spot<'_> {
    /// Mounts it here.
    fn attach(&self, mount: &Fd) -> Result<(), Errno> {
        match self {
            Spot::Made { dir, name } => sys::attach_at(mount.0, *dir, name),
            Spot::There(target) => sys::attach(mount.0, target.0),
        }
    }
}

impl<'a> Floor<'a> {
    fn root(&self) -> c_int {
        self.root.as_ref().map_or(-1, |fd| fd.0)
    }

    /// Makes the place of a mount, or opens it when it is there. Links are followed as the sandbox's processes will follow
    /// them, so none leads to the host.
    fn spot(&mut self, place: &'a Place, kind: Kind) -> Result<Spot<'a>, Errno> {
        let Some(((path, name), parents)) = place.prefixes.split_last() else { return Err(libc::EINVAL) };
        let dir = self.dir(parents)?;
        let made = match kind {
            Kind::Dir(mode) => sys::make_dir(dir, name, mode),
            Kind::File => sys::make_file(dir, name, 0o644),
        };
        match made {
            Ok(()) => Ok(Spot::Made { dir, name }),
            Err(libc::EEXIST) => sys::open_in_root(self.root(), path).map(Spot::There),
            Err(errno) => Err(errno),
        }
    }

    /// Opens the last of these directories, making those that are missing. It stays open until the next one is asked for.
    fn dir(&mut self, prefixes: &'a [(CString, CString)]) -> Result<c_int, Errno> {
        let Some((path, _)) = prefixes.last() else { return Ok(self.root()) };
        match &self.last {
            Some((last, fd)) if **last == **path => Ok(fd.0),
            _ => {
                let fd = match sys::open_in_root(self.root(), path) {
                    Err(libc::ENOENT) => make_dirs(self.root(), prefixes)?,
                    result => result?,
                };
                let dir = fd.0;
                self.last = Some((path, fd));
                Ok(dir)
            }
        }
    }
}

/// Opens the place of an overlay, which is mounted by its descriptor.
fn target<'a>(floor: &mut Floor<'a>, place: &'a Place) -> Result<Fd, Errno> {
    match floor.spot(place, DIR)? {
        Spot::There(fd) => Ok(fd),
        Spot::Made { .. } => sys::open_in_root(floor.root(), place.path()),
    }
}

/// The first that is missing is looked for from above; whatever is below it we make ourselves.
fn make_dirs(root: c_int, prefixes: &[(CString, CString)]) -> Result<Fd, Errno> {
    let mut parent = sys::open_in_root(root, c".")?;
    let mut ours = false;
    for (path, name) in prefixes {
        let found = if ours { Err(libc::ENOENT) } else { sys::open_in_root(root, path) };
        parent = match found {
            Err(libc::ENOENT) => {
                ours = sys::make_dir(parent.0, name, 0o755)
                    .map(|()| true)
                    .or_else(|errno| already(Err(errno)).map(|()| false))?;
                // What we made is no link; what was there may be one.
                if ours { sys::open_in_root(parent.0, name)? } else { sys::open_in_root(root, path)? }
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
