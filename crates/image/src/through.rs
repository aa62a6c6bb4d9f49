//! Looks at files through an image's layers as an overlay shows them, without mounting anything.
//!
//! Links are followed as the image means them: from its root, never out of it.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Links on the way to one file: as many as the kernel follows.
const LINKS_MAX: usize = 40;
/// Parts of one path, those that links bring included.
const PARTS_MAX: usize = 4096;

/// An image's layers, looked at as one tree.
pub(crate) struct Through {
    root: Merged,
}

/// One directory of the tree: it is in some of the layers, the topmost first.
type Merged = Vec<OwnedFd>;

/// What stands at a path.
pub(crate) enum Found {
    File(File),
    /// A directory, as its topmost layer has it.
    Dir(fs::Stat),
    Nothing,
}

enum Step {
    Dir(Merged),
    File(OwnedFd),
    Link(Vec<u8>),
    Nothing,
}

impl Through {
    /// `layers` are the unpacked ones, the topmost first.
    pub fn new<P: AsRef<Path>>(layers: &[P]) -> std::io::Result<Through> {
        let open =
            |path: &P| fs::open(path.as_ref(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Ok(Through { root: layers.iter().map(open).collect::<Result<_, _>>()? })
    }

    /// What stands at an absolute path, and that path without the links on the way, as far as it exists.
    pub fn look(&self, path: &str) -> std::io::Result<(Found, String)> {
        let mut way: Vec<(Vec<u8>, Merged)> = Vec::new();
        let mut rest: VecDeque<Vec<u8>> = parts(path.as_bytes()).collect();
        let (mut links, mut walked) = (0, 0);
        while let Some(part) = rest.pop_front() {
            walked += 1;
            if walked > PARTS_MAX {
                return Err(Errno::NAMETOOLONG.into());
            }
            if part == b".." {
                way.pop();
                continue;
            }
            let here = way.last().map_or(&self.root, |(_, dir)| dir);
            match step(here, &part)? {
                Step::Dir(dir) => way.push((part, dir)),
                Step::File(file) if rest.is_empty() => {
                    return Ok((Found::File(file.into()), shown(&way, &part, &rest)));
                }
                Step::File(_) => return Err(Errno::NOTDIR.into()),
                Step::Nothing => return Ok((Found::Nothing, shown(&way, &part, &rest))),
                Step::Link(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::LOOP.into());
                    }
                    if target.starts_with(b"/") {
                        way.clear();
                    }
                    parts(&target).rev().for_each(|part| rest.push_front(part));
                }
            }
        }
        let here = way.last().map_or(&self.root, |(_, dir)| dir);
        let Some(top) = here.first() else { return Ok((Found::Nothing, "/".into())) };
        let stat = fs::statat(top, ".", fs::AtFlags::empty())?;
        let last = way.pop().map(|(part, _)| part).unwrap_or_default();
        Ok((Found::Dir(stat), shown(&way, &last, &rest)))
    }

    /// At most `bytes_max` of a regular file; `None` if there is none.
    pub fn read(&self, path: &str, bytes_max: u64) -> std::io::Result<Option<Vec<u8>>> {
        match self.look(path)? {
            (Found::File(file), _) => match crate::registry::read_at_most(file, bytes_max)? {
                None => Err(std::io::ErrorKind::FileTooLarge.into()),
                some => Ok(some),
            },
            _ => Ok(None),
        }
    }
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

fn shown(way: &[(Vec<u8>, Merged)], part: &[u8], rest: &VecDeque<Vec<u8>>) -> String {
    let parts = way.iter().map(|(name, _)| name.as_slice()).chain([part]).chain(rest.iter().map(Vec::as_slice));
    parts.map(|part| format!("/{}", String::from_utf8_lossy(part))).collect()
}

/// One name in one directory, as the overlay shows it.
fn step(here: &Merged, name: &[u8]) -> Result<Step, Errno> {
    let mut dirs = Merged::new();
    for layer in here {
        let kind = match fs::statat(layer, name, fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        match kind {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let dir = fs::openat(layer, name, flags, Mode::empty())?;
                let hides = is_opaque(&dir);
                dirs.push(dir);
                if hides {
                    break;
                }
            }
            // Below a directory, a file of a lower layer is hidden by it.
            _ if !dirs.is_empty() => break,
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                return Ok(Step::File(fs::openat(layer, name, flags, Mode::empty())?));
            }
            FileType::Symlink => return Ok(Step::Link(fs::readlinkat(layer, name, Vec::new())?.into_bytes())),
            _ => return Ok(Step::Nothing),
        }
    }
    Ok(if dirs.is_empty() { Step::Nothing } else { Step::Dir(dirs) })
}

fn is_opaque(dir: impl AsFd) -> bool {
    let mut value = [0u8; 8];
    fs::fgetxattr(dir, "user.overlay.opaque", &mut value).is_ok_and(|length| &value[..length] == b"y")
}
