//! The executor without isolation: the same [`Child`], on the bare host, whose tree is killed as far as the kernel lets us.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::launch::{Launch, Program, Stack};
use crate::{Child, SpawnError, plan};

/// Starts a program without a sandbox, in a session of its own. A missing stdio is `/dev/null`. When the command ends,
/// is killed, or the caller dies, what it left behind is killed too, unless it runs as another user. `open_files_soft` is
/// its soft limit of open files; the caller's when there is none.
///
/// # Errors
/// As [`crate::Spec::spawn`].
pub fn spawn(
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: PathBuf,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    open_files_soft: Option<u64>,
) -> Result<Child, SpawnError> {
    let launch = Launch {
        setup: plan::setup_bare(&cwd)?,
        command: plan::command_bare(open_files_soft),
        program: Program::new(&argv, &env)?,
        filter: None,
        isolated: false,
        arguments: None,
        maps: None,
        net: None,
        birth: None,
        stack: Stack::new(),
        layers: Vec::new(),
    };
    launch.start([stdin, stdout, stderr])
}
