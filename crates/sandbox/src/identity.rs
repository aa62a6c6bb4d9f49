//! As whom a step runs inside, and who that is outside.

use std::ffi::CString;

use crate::SpawnError;

/// The first of the 65,536 users and groups outside that the other ids of a range are: inside `i` is outside
/// `SUBORDINATE_BASE + i`. Far above what a host gives to people, below the limit of a signed number.
pub const SUBORDINATE_BASE: u32 = 2_000_000_000;
/// Ids in a range. Images use 16 bits; 65534 is the nobody of most.
pub const RANGE: u32 = 65_536;

/// As whom a process runs inside. The caller's own user outside is `uid` and `gid` inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user inside.
    pub uid: u32,
    /// The group inside.
    pub gid: u32,
    /// More groups inside. Only with `range`: without, the kernel lets nobody choose.
    pub groups: Vec<u32>,
    /// All of 0 to 65535 exist inside, the others as [`SUBORDINATE_BASE`] + id outside. Only when the caller is root.
    pub range: bool,
    /// Keeps what a package manager needs among the ids of the range: changing owners and modes, reading all files of
    /// the range, becoming another user of it. Only with `range` and user 0 inside.
    pub keep: bool,
}

impl Identity {
    /// The caller's own numbers, and no others.
    pub fn caller() -> Identity {
        // SAFETY: both always succeed.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        Identity { uid, gid, groups: Vec::new(), range: false, keep: false }
    }

    /// The lines for `uid_map` and `gid_map`, with the caller's numbers outside.
    pub(crate) fn maps(&self, uid: u32, gid: u32) -> Result<(CString, CString), SpawnError> {
        let invalid = |why: String| Err(SpawnError::Invalid(why));
        if !self.range {
            if self.keep || !self.groups.is_empty() {
                return invalid("rights and more groups inside need a range of users".into());
            }
            return Ok((line(format!("{} {uid} 1", self.uid)), line(format!("{} {gid} 1", self.gid))));
        }
        if uid != 0 {
            return invalid("a range of users inside needs root outside; leave the image's users out".into());
        }
        if let Some(id) = [self.uid, self.gid].iter().chain(&self.groups).find(|id| **id >= RANGE) {
            return invalid(format!("the user or group {id} inside is not below {RANGE}"));
        }
        if self.keep && self.uid != 0 {
            return invalid(format!("user {} inside cannot keep the rights of user 0", self.uid));
        }
        Ok((line(range(self.uid, uid)), line(range(self.gid, gid))))
    }
}

/// Every id is what it is above the base, except the caller's.
fn range(inside: u32, outside: u32) -> String {
    let below = if inside > 0 { format!("0 {SUBORDINATE_BASE} {inside}\n") } else { String::new() };
    let first = inside + 1;
    let above = match RANGE - first {
        0 => String::new(),
        count => format!("{first} {} {count}\n", SUBORDINATE_BASE + first),
    };
    format!("{below}{inside} {outside} 1\n{above}")
}

fn line(text: String) -> CString {
    CString::new(text).expect("digits, spaces and newlines")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(uid: u32, range: bool) -> Identity {
        Identity { uid, gid: uid, groups: Vec::new(), range, keep: false }
    }

    fn users(identity: &Identity, outside: u32) -> String {
        identity.maps(outside, outside).expect("valid").0.into_string().expect("text")
    }

    #[test]
    fn the_caller_alone_is_mapped_to_the_number_asked_for() {
        assert_eq!(users(&identity(33, false), 1000), "33 1000 1");
    }

    #[test]
    fn a_range_has_a_hole_where_the_caller_is() {
        assert_eq!(users(&identity(0, true), 0), "0 0 1\n1 2000000001 65535\n");
        assert_eq!(users(&identity(33, true), 0), "0 2000000000 33\n33 0 1\n34 2000000034 65502\n");
        assert_eq!(users(&identity(65535, true), 0), "0 2000000000 65535\n65535 0 1\n");
    }

    #[test]
    fn what_no_kernel_allows_is_refused_before_it_is_asked() {
        let why = |identity: Identity, outside: u32| {
            identity.maps(outside, outside).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(why(identity(0, true), 1000).contains("needs root outside"));
        assert!(why(identity(70_000, true), 0).contains("70000 inside is not below 65536"));
        assert!(why(Identity { keep: true, ..identity(0, false) }, 0).contains("need a range"));
        assert!(why(Identity { keep: true, ..identity(5, true) }, 0).contains("user 5 inside cannot keep"));
    }
}
