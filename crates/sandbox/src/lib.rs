//! One Linux sandbox: namespaces, mounts, seccomp. The only crate with `unsafe`; no async, no policy.
//!
//! A [`Spec`] says what the process may see; [`Spec::spawn`] makes it so and returns a [`Child`]. All choices are the
//! caller's.

// The kernel's promises that `unsafe` leans on are named where it is used.
#![allow(unsafe_code)]

pub mod cgroup;
mod child;
mod error;
pub mod host_view;
mod identity;
mod idmap;
mod inside;
mod landlock;
mod launch;
mod mount;
mod netns;
mod plan;
mod probe;
pub mod process;
mod reap;
mod remove;
mod sample;
mod seccomp;
mod sys;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub use child::Child;
pub use error::SpawnError;
pub use identity::{Identity, SUBORDINATE_BASE};
pub use netns::{Net, NetSockets, Sockets};
pub use probe::{Ability, CgroupLayout, Host, probe};
pub use remove::remove_tree;
pub use sample::{Sample, Sampler};

use inside::Arguments;
use landlock::Handled;
use launch::{Launch, Program, Stack};
use plan::Facts;
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
    /// What `/` is.
    pub root: Root,
    /// Overlays. All mounts are made parents first, so a toolchain shown inside a bound home lies on top of it; at the
    /// same place a bind covers an overlay, and an overlay covers the view.
    pub overlays: Vec<Overlay>,
    /// Bind mounts, with what is mounted below their source. Mount points that do not exist are made, where they lie: in
    /// an overlay that is its upper, in a writable bind its source, in an image the image's upper.
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
    /// As whom it runs.
    pub identity: Identity,
    /// Limits that need no control group.
    pub rlimits: Rlimits,
    /// How much fits into its own tmpfs.
    pub tmp: TmpSize,
    /// The control group that it is born in; the caller's when there is none.
    pub group: Option<Arc<cgroup::Group>>,
}

impl Spec {
    /// A program in a sandbox that has a root and nothing else: no variable, no bind, no overlay, a network of its own,
    /// `/dev/null` as its streams, the caller's identity and no limits.
    pub fn new(argv: Vec<OsString>, root: Root) -> Spec {
        Spec {
            argv,
            env: Vec::new(),
            cwd: "/".into(),
            root,
            overlays: Vec::new(),
            binds: Vec::new(),
            network: Network::Own,
            hostname: "step".into(),
            stdin: None,
            stdout: None,
            stderr: None,
            terminal: false,
            identity: Identity::caller(),
            rlimits: Rlimits::default(),
            tmp: TmpSize::default(),
            group: None,
        }
    }

    /// Starts the process and waits until its program has been executed, or says why that failed.
    ///
    /// # Errors
    /// Says what was tried on which path, why not, and what to do next. Nothing is left behind.
    pub fn spawn(self) -> Result<Child, SpawnError> {
        // SAFETY: both always succeed.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let kept = if uid == 0 { host_view::kept_from_others() } else { &[] };
        let maps = self.identity.maps(uid, gid)?;
        let landlock = Handled::here();
        let sys = sys_shown(self.group.as_deref());
        let layers = idmap::layers(&self)?;
        let facts = Facts { kept, sys: &sys, landlock, layers: &layers };
        let entering = |source| SpawnError::Setup { what: "open the step's control group".into(), source };
        let launch = Launch {
            setup: plan::setup(&self, &maps, facts)?,
            command: plan::command(&self, landlock),
            program: Program::new(&self.argv, &self.env)?,
            filter: Some(Filter::usual()),
            isolated: true,
            arguments: Arguments::ours(),
            maps: self.identity.range.then_some(maps),
            net: if let Network::Shared(net) = &self.network { Some(Arc::clone(net)) } else { None },
            birth: self.group.as_ref().map(|group| group.birth()).transpose().map_err(entering)?,
            stack: Stack::new(),
            layers,
        };
        let mut child = launch.start([self.stdin, self.stdout, self.stderr])?;
        child.inhabit(self.group);
        Ok(child)
    }
}

/// Directories of the host's `/sys` and where they are shown.
fn sys_shown(group: Option<&cgroup::Group>) -> Vec<(PathBuf, PathBuf)> {
    static SHOWN: OnceLock<Vec<PathBuf>> = OnceLock::new();
    // A single memory node tells nobody anything.
    let tells = |dir: &PathBuf| dir.is_dir() && (!dir.ends_with("node") || dir.join("node1").exists());
    let shown = SHOWN.get_or_init(|| plan::SYS_SHOWN.into_iter().map(PathBuf::from).filter(tells).collect());
    let same = shown.iter().map(|dir| (dir.clone(), dir.clone()));
    same.chain(group.into_iter().flat_map(cgroup::Group::paths)).collect()
}

/// What `/` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// A read-only root with chosen parts of the host.
    Host(HostView),
    /// An unpacked image.
    Image(ImageRoot),
}

/// An unpacked image: an overlay as `/`. It may be written; what is written goes to `upper`, which is the caller's to
/// throw away. `/dev`, `/proc`, `/tmp` and `/dev/shm` are never the image's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageRoot {
    /// Its layers, topmost first; at most 500.
    pub lower: Vec<PathBuf>,
    /// Empty directory for what is written.
    pub upper: PathBuf,
    /// Empty directory on the same file system as `upper`, for the kernel.
    pub work: PathBuf,
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
#[derive(Clone, Debug)]
pub enum Network {
    /// A namespace of its own with loopback up.
    Own,
    /// The host's.
    Host,
    /// One that was made before and that others may be in too.
    Shared(Arc<Net>),
}

/// Limits of each process, none ever higher than the caller's own. But for `open_files_soft` they are soft and hard alike.
/// Core dumps are always off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rlimits {
    /// Descriptors that a process may have open.
    pub open_files: Option<u64>,
    /// The same as a program meets it first and may raise to the hard limit, which stays the caller's. For callers that
    /// have raised their own; means nothing beside `open_files`.
    pub open_files_soft: Option<u64>,
    /// Bytes that a file may grow to.
    pub file_size: Option<u64>,
    /// Processes and threads of the sandbox together. The kernel exempts root outside from it.
    pub processes: Option<u64>,
}

/// Size of the sandbox's own tmpfs, on which `/tmp`, `/dev/shm` and private directories lie together. `None` is the
/// kernel's default: half of the memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TmpSize {
    /// Bytes; rounded up to pages.
    pub bytes: Option<u64>,
    /// Files and directories. Making the sandbox itself takes up to a few hundred.
    pub inodes: Option<u64>,
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
    /// Bytes that they read from disks; the page cache spares some.
    pub io_read: u64,
    /// Bytes that they wrote and that go to disks, at once or later.
    pub io_written: u64,
}
