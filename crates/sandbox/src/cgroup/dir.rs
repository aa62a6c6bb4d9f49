//! A directory of a control group file system, and its files by name.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// Bytes that are read of one file. Lists of processes are the longest: this holds some 30,000.
const FILE_BYTES_MAX: usize = 256 * 1024;

/// An open directory. The descriptor spares the kernel the walk along the path each time.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens an existing one.
    pub fn open(path: PathBuf) -> io::Result<Dir> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(&path, flags, Mode::empty())?;
        Ok(Dir { fd, path })
    }

    /// Makes one below. It must not exist.
    pub fn make(&self, name: &str) -> io::Result<Dir> {
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))?;
        self.below(name)
    }

    /// Opens one below.
    pub fn below(&self, name: &str) -> io::Result<Dir> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        Ok(Dir { fd, path: self.path.join(name) })
    }

    /// Removes an empty one below. Gone already is fine.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether such a file is here.
    pub fn has(&self, file: &str) -> bool {
        rustix::fs::accessat(&self.fd, file, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// Opens a file to be written later, by a process that has nothing but the descriptor.
    pub fn writer(&self, file: &str) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.fd, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Writes a file with one `write`, as the kernel wants it.
    pub fn write(&self, file: &str, text: &str) -> io::Result<()> {
        rustix::io::write(self.writer(file)?, text.as_bytes())?;
        Ok(())
    }

    /// Reads a file.
    pub fn read(&self, file: &str) -> io::Result<String> {
        let fd = rustix::fs::openat(&self.fd, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&fd, &mut buffer)? {
                0 => break,
                length => bytes.extend_from_slice(&buffer[..length]),
            }
            if bytes.len() >= FILE_BYTES_MAX {
                break;
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The number that a file holds. `None` for `max`, and where there is no such file.
    pub fn number(&self, file: &str) -> Option<u64> {
        self.read(file).ok()?.trim().parse().ok()
    }

    /// One of the numbers of a file of `key number` lines.
    pub fn keyed(&self, file: &str, key: &str) -> Option<u64> {
        keyed(&self.read(file).ok()?, key)
    }

    /// The processes in it, not below it.
    pub fn processes(&self) -> Vec<i32> {
        let text = self.read("cgroup.procs").unwrap_or_default();
        text.lines().filter_map(|line| line.trim().parse().ok()).collect()
    }

    /// Names of the directories below.
    pub fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let dirs = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        dirs.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Holds it until the descriptor is closed, by the end of this process at the latest. False when somebody else does.
    pub fn hold(&self) -> bool {
        rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive).is_ok()
    }
}

impl AsRawFd for Dir {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// One of the numbers of a text of `key number` lines.
pub fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_matched_whole() {
        let text = "oom 3\noom_kill 7\nmax 12\n";
        assert_eq!((keyed(text, "oom"), keyed(text, "oom_kill"), keyed(text, "m")), (Some(3), Some(7), None));
    }
}
