//! An image whose user is not root: its layers with two owners exchanged.
//!
//! The step's user inside is root outside, so that its workspace is its own. Files of the image's root belong to root
//! outside as well, and those of the image's user to a number of the range. Seen through a mount that exchanges the two,
//! each belongs to whom the image says.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libc::c_int;

use crate::identity::{Identity, RANGE, SUBORDINATE_BASE};
use crate::plan::{self, LOWER_MAX};
use crate::{Root, SpawnError, Spec, sys};

/// Descriptors of the layers, topmost first; none when nothing has to be exchanged, or the file system of the layers
/// cannot do it: then files of the image's user are nobody's.
pub fn layers(spec: &Spec) -> Result<Vec<OwnedFd>, SpawnError> {
    let Root::Image(image) = &spec.root else { return Ok(Vec::new()) };
    let Identity { uid, gid, range, .. } = spec.identity;
    if !range || (uid, gid) == (0, 0) || image.lower.len() > LOWER_MAX {
        return Ok(Vec::new());
    }
    let users = exchange(uid, gid).map_err(|source| SpawnError::Setup {
        what: format!("exchange the owners of the image's files for user {uid}"),
        source,
    })?;
    let opened: Result<Vec<_>, _> = image.lower.iter().map(|layer| through(layer, &users)).collect();
    match opened {
        Err(Refused::FileSystem) => Ok(Vec::new()),
        Err(Refused::Because(error)) => Err(error),
        Ok(opened) => Ok(opened),
    }
}

enum Refused {
    FileSystem,
    Because(SpawnError),
}

fn through(layer: &PathBuf, users: &OwnedFd) -> Result<OwnedFd, Refused> {
    let failed = |errno| {
        let source = io::Error::from_raw_os_error(errno);
        Refused::Because(SpawnError::Setup { what: format!("open {}, a layer of the image", layer.display()), source })
    };
    let path = plan::text(layer).map_err(Refused::Because)?;
    let mount = sys::copy_mount_of(libc::AT_FDCWD, &path).map_err(failed)?;
    match sys::map_mount(mount.0, users.as_raw_fd()) {
        Err(libc::EINVAL | libc::ENOSYS) => Err(Refused::FileSystem),
        Err(errno) => Err(failed(errno)),
        // Above the places of the streams, where process 1 leaves it alone.
        Ok(()) => sys::duplicate_above(mount.0, 10).map_err(failed),
    }
}

/// A user namespace that is only there for its maps: what is 0 on disk shows as the range's, and the other way round.
fn exchange(uid: u32, gid: u32) -> io::Result<OwnedFd> {
    let mask = sys::block_signals();
    // SAFETY: the child runs on a copy of this memory and does nothing but wait to be killed.
    let pid = unsafe { sys::clone_copy(libc::CLONE_NEWUSER, std::ptr::null_mut(), None) };
    if pid == 0 {
        // Nor does it outlive us.
        let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0);
        loop {
            // SAFETY: only waits.
            unsafe { libc::pause() };
        }
    }
    let pid = sys::check(pid).map_err(io::Error::from_raw_os_error);
    sys::set_signal_mask(mask);
    let pid = pid? as c_int;
    let of = |name: &str| Path::new("/proc").join(pid.to_string()).join(name);
    let mapped = fs::write(of("uid_map"), lines(uid))
        .and_then(|()| fs::write(of("gid_map"), lines(gid)))
        .and_then(|()| File::open(of("ns/user")));
    // Its number is not reused before we have waited for it.
    let _ = sys::kill(pid, libc::SIGKILL);
    let mut status = 0;
    // SAFETY: `status` is ours to be filled.
    while unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } < 0 && sys::errno() == libc::EINTR {}
    mapped.map(OwnedFd::from)
}

/// On disk, shown, how many.
fn lines(id: u32) -> String {
    let base = SUBORDINATE_BASE;
    if id == 0 {
        return format!("0 0 1\n{first} {first} {}\n", RANGE - 1, first = base + 1);
    }
    let mut lines = format!("0 {base} 1\n{} 0 1\n", base + id);
    for (first, count) in [(base + 1, id - 1), (base + id + 1, RANGE - 1 - id)] {
        if count > 0 {
            lines += &format!("{first} {first} {count}\n");
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_images_user_change_places_and_nobody_else() {
        assert_eq!(lines(0), "0 0 1\n2000000001 2000000001 65535\n");
        assert_eq!(lines(1), "0 2000000000 1\n2000000001 0 1\n2000000002 2000000002 65534\n");
        let middle = "0 2000000000 1\n2000001000 0 1\n2000000001 2000000001 999\n2000001001 2000001001 64535\n";
        assert_eq!(lines(1000), middle);
    }
}
