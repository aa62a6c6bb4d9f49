//! One Linux sandbox: namespaces, mounts, seccomp. The only crate with `unsafe`; no async, no policy.
//!
//! A [`Spec`] says what the process may see; [`Spec::spawn`] makes it so and returns a [`Child`]. All choices are the
//! caller's.

// The kernel's promises that `unsafe` leans on are named where it is used.
#![allow(unsafe_code)]

mod child;
mod error;
pub mod host_view;
mod inside;
mod launch;
mod mount;
mod plan;
mod probe;
pub mod process;
mod reap;
mod remove;
mod seccomp;
mod sys;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

pub use child::Child;
pub use error::SpawnError;
pub use probe::{Ability, CgroupLayout, Host, probe};
pub use remove::remove_tree;

use launch::{Launch, Program, Stack};
use seccomp::Filter;

/// What a process sees and is.
#[derive(Debug)]
pub struct Spec {
    /// Program and arguments. The program is looked up in the sandbox's `PATH` when it has no `/`.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory inside.
    pub cwd: PathBuf,
    /// What of the host is shown.
    pub view: HostView,
    /// Overlays. All mounts are made parents first, so a toolchain shown inside a bound home lies on top of it; at the
    /// same place a bind covers an overlay, and an overlay covers the view.
    pub overlays: Vec<Overlay>,
    /// Bind mounts, with what is mounted below their source. Mount points that do not exist are made, where they lie: in
    /// an overlay that is its upper, in a writable bind its source.
    pub binds: Vec<Bind>,
    /// Its network.
    pub network: Network,
    /// Host name inside.
    pub hostname: String,
    /// Standard input; `None` is `/dev/null`.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
    /// Interactive: becomes session leader of the terminal on standard input (`pace shell`).
    pub terminal: bool,
}

impl Spec {
    /// Starts the process and waits until its program has been executed, or says why that failed.
    ///
    /// # Errors
    /// Says what was tried on which path, why not, and what to do next. Nothing is left behind.
    pub fn spawn(self) -> Result<Child, SpawnError> {
        // SAFETY: both always succeed.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let kept = if uid == 0 { host_view::kept_from_others() } else { &[] };
        let launch = Launch {
            setup: plan::setup(&self, uid, gid, kept)?,
            command: plan::command(self.terminal),
            program: Program::new(&self.argv, &self.env)?,
            filter: Some(Filter::usual()),
            isolated: true,
            stack: Stack::new(),
        };
        launch.start([self.stdin, self.stdout, self.stderr])
    }
}

/// What of the host's file system is shown, read-only. When the caller is root, what other users may not read of `/etc` is
/// hidden too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// Directories and files shown at their own places: `/usr`, `/etc`, toolchains.
    pub show: Vec<PathBuf>,
    /// Among these, paths that are not: credentials, keys. A directory becomes empty, a file unreadable.
    pub hide: Vec<PathBuf>,
    /// Symbolic links to make: link, target (`/bin` to `usr/bin`).
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Private, empty, writable directories on the sandbox's own tmpfs.
    pub private: Vec<PathBuf>,
}

/// An overlay mount: what is written goes to `upper`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Where inside.
    pub at: PathBuf,
    /// Lower directories, topmost first.
    pub lower: Vec<PathBuf>,
    /// Empty directory for what is written. Must be on a file system that can be an overlay's upper.
    pub upper: PathBuf,
    /// Empty directory on the same file system as `upper`, for the kernel.
    pub work: PathBuf,
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// On the host.
    pub from: PathBuf,
    /// Inside.
    pub to: PathBuf,
    /// May be written.
    pub writable: bool,
}

/// A sandbox's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A namespace of its own with loopback up.
    Loopback,
    /// The host's.
    Host,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// What a process and its descendants used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all reaped descendants.
    pub cpu: Duration,
    /// Peak resident bytes of the largest of them. Never less than what the caller itself had in memory at the start: the
    /// kernel counts the copy that a process is before it executes its program.
    pub memory_peak: u64,
}
