//! Landlock on top of the mounts: a second lock on everything that is shown read-only, and no signal or abstract socket
//! reaches out of the sandbox.
//!
//! Rules are made while the mounts are, with the descriptors that are open anyway, and need no allocation. Only writing is
//! ruled: what may be read is what is mounted. In an image all of `/` may be written, so there nothing is left to rule but
//! signals and sockets. Ioctls are left out on purpose: a step's terminal is a device of the host.

use std::sync::OnceLock;

use libc::{c_int, c_long};

use crate::sys::{self, Errno, Fd};

/// What this kernel can rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// Rights on files, as bits of the kernel's.
    pub files: u64,
    /// What is confined to the sandbox, as bits of the kernel's.
    pub scopes: u64,
}

const WRITE_FILE: u64 = 1 << 1;
/// Removing and making files of every kind.
const CHANGE_DIR: u64 = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// Moving and linking from one directory to another.
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const ABSTRACT_SOCKETS: u64 = 1 << 0;
const SIGNALS: u64 = 1 << 1;

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: c_int = 1;

/// The kernel's `struct landlock_ruleset_attr`.
#[repr(C)]
struct RulesetAttr {
    files: u64,
    net: u64,
    scopes: u64,
}

/// The kernel's `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: c_int,
}

impl Handled {
    /// What the kernel here can do, asked once; nothing where landlock is off or not built in.
    pub fn here() -> Handled {
        static ABI: OnceLock<c_long> = OnceLock::new();
        Handled::of(*ABI.get_or_init(|| {
            let null: *const RulesetAttr = std::ptr::null();
            // SAFETY: with this flag no memory is read.
            unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null, 0, CREATE_RULESET_VERSION) }
        }))
    }

    fn of(abi: c_long) -> Handled {
        // The first version forbids every move between directories and cannot be told otherwise: worse than nothing.
        let files = if abi >= 2 { WRITE_FILE | CHANGE_DIR | REFER } else { 0 };
        let truncate = if abi >= 3 { TRUNCATE } else { 0 };
        let scopes = if abi >= 6 { ABSTRACT_SOCKETS | SIGNALS } else { 0 };
        Handled { files: files | truncate, scopes }
    }

    /// There is something to rule.
    pub fn any(self) -> bool {
        self != Handled::default()
    }
}

/// Rules in the making.
#[derive(Debug)]
pub struct Rules {
    fd: Fd,
    files: u64,
}

impl Rules {
    /// None yet: nothing that is handled is allowed.
    pub fn new(handled: Handled) -> Result<Rules, Errno> {
        let attr = RulesetAttr { files: handled.files, net: 0, scopes: handled.scopes };
        // SAFETY: `attr` is the kernel's layout; what an older kernel does not know of it is zero.
        let fd =
            unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size_of::<RulesetAttr>(), 0) };
        Ok(Rules { fd: Fd(sys::check(fd)? as c_int), files: handled.files })
    }

    /// They are about files too.
    pub fn of_files(&self) -> bool {
        self.files != 0
    }

    /// Everything below this directory may be changed.
    pub fn allow_dir(&self, dir: c_int) -> Result<(), Errno> {
        self.allow(dir, self.files)
    }

    /// This file, or what is there below this directory, may be written.
    pub fn allow_file(&self, file: c_int) -> Result<(), Errno> {
        self.allow(file, self.files & (WRITE_FILE | TRUNCATE))
    }

    fn allow(&self, parent: c_int, allowed: u64) -> Result<(), Errno> {
        if allowed == 0 {
            return Ok(());
        }
        let rule = PathBeneath { allowed, parent };
        // SAFETY: `rule` is the kernel's layout.
        let added =
            unsafe { libc::syscall(libc::SYS_landlock_add_rule, self.fd.0, RULE_PATH_BENEATH, &raw const rule, 0) };
        sys::check(added).map(|_| ())
    }

    /// From here on they hold for this process and all that it starts, for good.
    pub fn hold(&self) -> Result<(), Errno> {
        for stream in 0..3 {
            // Programs open /dev/stdout. A pipe needs no rule and is refused as one; a terminal of the host does.
            if sys::is_dir(stream) == Ok(false) {
                let _ = self.allow_file(stream);
            }
        }
        // SAFETY: only numbers change hands.
        sys::check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.fd.0, 0) }).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_of_the_kernel_rules_what_it_knows() {
        assert!(!Handled::of(-1).any() && !Handled::of(1).any());
        assert_eq!(Handled::of(2), Handled { files: 0x3ff2, scopes: 0 });
        assert_eq!(Handled::of(3), Handled { files: 0x7ff2, scopes: 0 });
        assert_eq!(Handled::of(6), Handled { files: 0x7ff2, scopes: 3 });
        assert_eq!(Handled::of(99), Handled::of(6));
    }
}
