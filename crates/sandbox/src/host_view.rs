//! What of this host a step needs to see: system directories, and toolchains that live in a home folder.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::HostView;

/// What [`detect`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    /// What to show and to hide. The home itself is not in it: bind a private directory at `HOME`.
    pub view: HostView,
    /// `PATH` and the toolchains' own variables as the step should get them.
    pub env: BTreeMap<String, String>,
    /// Files and directories whose path, size and modification time identify the toolchains, for a platform fingerprint.
    pub markers: Vec<PathBuf>,
}

/// Finds system directories and toolchains. `env` is the caller's environment; it is read for `PATH`, `HOME` and the
/// variables of the toolchains only.
pub fn detect(env: &BTreeMap<String, String>) -> Detected {
    let _ = env;
    todo!()
}
