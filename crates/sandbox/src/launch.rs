//! The parent's side of a start: `clone`, then listen until the program runs or a failure is reported.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use libc::{c_char, c_int, c_void};

use crate::cgroup::Birth;
use crate::inside::{self, Arguments, REPORT_BYTES, Report};
use crate::netns::{self, Net};
use crate::plan::{Op, text};
use crate::seccomp::Filter;
use crate::sys::{self, Errno};
use crate::{Child, SpawnError, error};

/// Everything the new process needs, made before it exists.
pub struct Launch {
    /// What process 1 does.
    pub setup: Vec<Op>,
    /// What the command's process does.
    pub command: Vec<Op>,
    /// The program.
    pub program: Program,
    /// The system call filter.
    pub filter: Option<&'static Filter>,
    /// In namespaces.
    pub isolated: bool,
    /// The caller's arguments, to be forgotten.
    pub arguments: Option<Arguments>,
    /// Lines of `uid_map` and `gid_map` that only we can write.
    pub maps: Option<(CString, CString)>,
    /// The network that it joins.
    pub net: Option<Arc<Net>>,
    /// The control group that it is born in.
    pub birth: Option<Birth>,
    /// Where the command's process lives until it is the program.
    pub stack: Stack,
    /// Layers of an image that process 1 gets open.
    pub layers: Vec<OwnedFd>,
}

/// A program with its arguments and environment, as `execve` wants them.
pub struct Program {
    name: String,
    search: String,
    /// Where it may be, in order.
    pub candidates: Vec<CString>,
    /// Pointers into `strings`, then null.
    pub argv: Vec<*const c_char>,
    /// As `argv`.
    pub env: Vec<*const c_char>,
    // What `argv` and `env` point to. A CString's bytes stay where they are when it is moved.
    _strings: Vec<CString>,
}

/// Where a program is looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Program {
    /// Looks nothing up yet: what exists is known inside only.
    pub fn new(argv: &[OsString], env: &[(OsString, OsString)]) -> Result<Program, SpawnError> {
        let name = argv.first().ok_or_else(|| SpawnError::Invalid("there is no program to execute".into()))?;
        let path = env.iter().rev().find(|(key, _)| key == "PATH").map_or(OsStr::new(DEFAULT_PATH), |(_, path)| path);
        let arguments = argv.iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let variables = env.iter().map(variable).collect::<Result<Vec<_>, _>>()?;
        Ok(Program {
            name: name.to_string_lossy().into_owned(),
            search: path.to_string_lossy().into_owned(),
            candidates: candidates(name, path)?,
            argv: pointers(&arguments),
            env: pointers(&variables),
            _strings: arguments.into_iter().chain(variables).collect(),
        })
    }

    fn not_executed(&self, errno: sys::Errno) -> SpawnError {
        let looked_up = !self.name.contains('/');
        let why = match errno {
            libc::ENOENT if looked_up => format!("it is in no directory of the step's PATH ({})", self.search),
            libc::ENOENT => "it does not exist in the sandbox, or the interpreter it names does not".into(),
            libc::EACCES => "it is not an executable file, or may not be executed by this user".into(),
            libc::ENOEXEC => "it is not a program for this machine, and has no `#!` line".into(),
            libc::E2BIG => "its arguments and environment are too long for the kernel".into(),
            _ => "the kernel refuses it".into(),
        };
        SpawnError::Program { program: self.name.clone(), why, source: io::Error::from_raw_os_error(errno) }
    }
}

fn variable((key, value): &(OsString, OsString)) -> Result<CString, SpawnError> {
    if key.is_empty() || key.as_bytes().contains(&b'=') {
        return Err(SpawnError::Invalid(format!("`{}` cannot be the name of a variable", key.display())));
    }
    let mut both = key.clone();
    both.push("=");
    both.push(value);
    text(both)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

fn candidates(name: &OsStr, path: &OsStr) -> Result<Vec<CString>, SpawnError> {
    if name.is_empty() {
        return Err(SpawnError::Invalid("the program's name is empty".into()));
    }
    if name.as_bytes().contains(&b'/') {
        return Ok(vec![text(name)?]);
    }
    // Relative entries would find what the step put into its workspace under a tool's name.
    std::env::split_paths(path).filter(|dir| dir.is_absolute()).map(|dir| text(dir.join(name))).collect()
}

/// A stack for the command's process. Only the pages it touches are ever copied.
pub struct Stack(Vec<u128>);

impl Stack {
    /// 64 KiB: the deepest path of `inside` needs a tenth of it in a debug build.
    pub fn new() -> Stack {
        Stack(vec![0; 4096])
    }

    /// Its upper end, where it starts, aligned to 16 bytes.
    pub fn top(&self) -> *mut c_void {
        self.0.as_ptr_range().end.cast::<c_void>().cast_mut()
    }
}

impl Launch {
    /// Starts it and waits for the program to be executed.
    pub fn start(self, stdio: [Option<OwnedFd>; 3]) -> Result<Child, SpawnError> {
        let setup = |what: &str| {
            let what = what.to_owned();
            move |source| SpawnError::Setup { what, source }
        };
        let (ours, theirs) = control_pair().map_err(setup("make a socket pair to talk with the sandbox"))?;
        let null = null_for(&stdio).map_err(setup("open /dev/null"))?;
        let fd = |index: usize| {
            stdio[index].as_ref().map_or_else(|| null.as_ref().map_or(-1, AsRawFd::as_raw_fd), AsRawFd::as_raw_fd)
        };
        let (pid, pidfd) = self.clone_first([fd(0), fd(1), fd(2)], theirs.as_raw_fd())?;
        // The child has its own copies; while we held these, its readers would see no end.
        drop((theirs, stdio));
        let mut child = Child::new(pid, pidfd, ours, self.isolated);
        if let Some((users, groups)) = &self.maps {
            map_range(pid, users, groups).map_err(setup("map a range of users and groups into the sandbox"))?;
            child.go_on();
        }
        match child.next_report() {
            Some(Report::Started) => Ok(child),
            Some(Report::Failed { in_command, op, part, errno }) => {
                Err(self.explain(in_command, op as usize, part, errno))
            }
            Some(Report::Ended { .. }) | None => {
                let source = io::Error::other("it ended without a word: killed from outside, or out of memory");
                Err(SpawnError::Setup { what: "start the first process of the sandbox".into(), source })
            }
        }
    }

    /// Process 1, as our child.
    fn clone_first(&self, stdio: [c_int; 3], control: c_int) -> Result<(c_int, OwnedFd), SpawnError> {
        let cloned = match &self.net {
            None => self.clone_here(stdio, control, 0),
            Some(net) => self.clone_in(net, stdio, control),
        };
        match cloned {
            // SAFETY: the kernel just made this descriptor for us.
            Ok((pid, pidfd)) => Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })),
            Err(errno) if self.isolated => Err(error::no_namespaces(io::Error::from_raw_os_error(errno))),
            Err(errno) => {
                let source = io::Error::from_raw_os_error(errno);
                Err(SpawnError::Setup { what: "start a process".into(), source })
            }
        }
    }

    /// `clone` as `fork` does it, straight to the kernel: no handlers of the C library run. With all signals blocked, so
    /// that none of the parent's handlers runs in the copy. The exit signal is 0: nobody else's `wait` takes our child.
    fn clone_here(&self, stdio: [c_int; 3], control: c_int, more: c_int) -> Result<(c_int, c_int), Errno> {
        let mut pidfd: c_int = -1;
        let flags = libc::CLONE_PIDFD | more | if self.isolated { self.namespaces() } else { 0 };
        let group = self.birth.as_ref().and_then(|birth| birth.into.as_ref()).map(AsRawFd::as_raw_fd);
        let mask = sys::block_signals();
        // SAFETY: without CLONE_VM the child runs on a copy of this stack and memory; it never returns from
        // `first_process`, which keeps to what is allowed between `fork` and `exec`. `pidfd` is ours to be filled.
        let pid = unsafe { sys::clone_copy(flags, &raw mut pidfd, group) };
        if pid == 0 {
            inside::first_process(self, stdio, control);
        }
        let result = sys::check(pid);
        sys::set_signal_mask(mask);
        result.map(|pid| (pid as c_int, pidfd))
    }

    /// The same by a process that joins the network first and then ends: no thread of ours ever leaves its namespaces, and
    /// CLONE_PARENT makes process 1 our child all the same.
    fn clone_in(&self, net: &Net, stdio: [c_int; 3], control: c_int) -> Result<(c_int, c_int), Errno> {
        struct Joining<'a> {
            launch: &'a Launch,
            net: &'a Net,
            stdio: [c_int; 3],
            control: c_int,
            cloned: Result<(c_int, c_int), Errno>,
        }
        let mut joining = Joining { launch: self, net, stdio, control, cloned: Err(libc::ECHILD) };
        let work = |joining: &mut Joining| {
            let clone = || joining.launch.clone_here(joining.stdio, joining.control, libc::CLONE_PARENT);
            joining.cloned = joining.net.join().and_then(|()| clone());
        };
        netns::in_borrowed_process(0, work, &mut joining).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
        joining.cloned
    }

    fn namespaces(&self) -> c_int {
        let net = if self.setup.contains(&Op::Loopback) { libc::CLONE_NEWNET } else { 0 };
        // Made by the child itself when it has a group: that must be the namespace's root, not ours.
        let group = if self.birth.is_some() { 0 } else { libc::CLONE_NEWCGROUP };
        net | libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | group
    }

    fn explain(&self, in_command: bool, op: usize, part: u32, errno: sys::Errno) -> SpawnError {
        let source = io::Error::from_raw_os_error(errno);
        if op == inside::JOIN_GROUP as usize {
            return SpawnError::Setup { what: "enter the step's control group".into(), source };
        }
        let ops = if in_command { &self.command } else { &self.setup };
        match ops.get(op) {
            Some(Op::Execute) => self.program.not_executed(errno),
            // Where a security module takes the capabilities of new user namespaces away, the first use of one fails.
            Some(Op::MapIds { .. } | Op::PrivateMounts | Op::NewRoot { .. } | Op::Loopback | Op::Hostname(_))
                if matches!(errno, libc::EPERM | libc::EACCES) =>
            {
                error::no_namespaces(source)
            }
            Some(op) => SpawnError::Setup { what: op.tried(part), source },
            None => SpawnError::Setup { what: "start the command".into(), source },
        }
    }
}

/// A range may only be written by somebody who has rights over those users outside.
fn map_range(pid: c_int, users: &CString, groups: &CString) -> io::Result<()> {
    let write = |name: &str, lines: &CString| std::fs::write(format!("/proc/{pid}/{name}"), lines.as_bytes());
    write("uid_map", users)?;
    write("gid_map", groups)
}

fn null_for(stdio: &[Option<OwnedFd>; 3]) -> io::Result<Option<File>> {
    if stdio.iter().all(Option::is_some) {
        return Ok(None);
    }
    File::options().read(true).write(true).open(PathBuf::from("/dev/null")).map(Some)
}

/// Two ends that keep messages apart, and of which each sees the other's end.
fn control_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut pair = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel fills the two numbers, and then they are ours.
    unsafe {
        if libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1])))
    }
}

/// Room for one report.
pub fn report_buffer() -> [u8; REPORT_BYTES] {
    [0; REPORT_BYTES]
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn program(argv: &[&str], path: &str) -> Result<Program, SpawnError> {
        let argv: Vec<_> = argv.iter().map(OsString::from).collect();
        Program::new(&argv, &[("PATH".into(), path.into())])
    }

    fn looked_for(program: &Program) -> Vec<&CStr> {
        program.candidates.iter().map(CString::as_c_str).collect()
    }

    #[test]
    fn a_name_is_looked_up_in_absolute_directories_only() {
        let program = program(&["go", "version"], "/usr/bin:.::node_modules/.bin:/opt/go/bin").expect("is valid");
        assert_eq!(looked_for(&program), [c"/usr/bin/go", c"/opt/go/bin/go"]);
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        assert_eq!(looked_for(&program(&["./run"], "/usr/bin").expect("is valid")), [c"./run"]);
    }

    #[test]
    fn what_cannot_be_executed_is_refused_before_anything_starts() {
        for (argv, why) in [
            (&[][..], "there is no program to execute"),
            (&[""], "the program's name is empty"),
            (&["a\0b"], "contains a NUL byte"),
        ] {
            let error = program(argv, "/bin").err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(why), "{error}");
        }
    }
}
