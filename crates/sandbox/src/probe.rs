//! What this host can enforce, tried and not assumed.

use std::path::Path;

/// What this host can do for a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its kernel: `6.18.44`.
    pub kernel: String,
    /// A whole sandbox starts and ends here. If not, nothing of the rest matters.
    pub sandbox: Ability,
    /// User namespaces can be made.
    pub user_namespaces: Ability,
    /// An overlay can be mounted inside with its upper directory in the scratch folder.
    pub overlay: Ability,
    /// The same with its upper on a tmpfs.
    pub overlay_tmpfs: Ability,
    /// System call filters.
    pub seccomp: Ability,
    /// How control groups are laid out.
    pub cgroups: CgroupLayout,
    /// Limits can be set with them by this user.
    pub limits: Ability,
}

/// Whether something works here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ability {
    /// It works.
    Yes,
    /// It does not.
    No {
        /// Why not.
        why: String,
        /// What to do about it.
        advice: String,
    },
}

/// How control groups are laid out on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupLayout {
    /// One tree, version 2.
    V2,
    /// Controllers in version 1, beside them a version 2 tree.
    Hybrid,
    /// Version 1 only.
    V1,
    /// None mounted.
    None,
}

/// Tries out what this host can do, in at most a second. `scratch` is an existing folder on the file system where layers
/// will be written; what is made in it is removed again.
pub fn probe(scratch: &Path) -> Host {
    let _ = scratch;
    todo!()
}
