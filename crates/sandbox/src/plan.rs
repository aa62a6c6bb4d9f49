//! A [`Spec`] as a list of operations: decided here, done by `inside` between `clone` and `exec`.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::landlock::Handled;
use crate::{Bind, HostView, Network, Overlay, Root, SpawnError, Spec, TmpSize};

/// A path relative to the new root, with what making it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `a`, `a/b`, `a/b/c`, each with its last name. Never empty.
    pub prefixes: Vec<(CString, CString)>,
}

impl Place {
    /// The whole path.
    pub fn path(&self) -> &CStr {
        self.prefixes.last().map_or(c".", |(path, _)| path)
    }
}

/// One thing to do inside. Paths named `at` are relative to the new root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// One user and one group, as whom we are outside; no others.
    MapIds { uid: CString, gid: CString },
    /// The parent maps a range of users and groups.
    AwaitIds,
    /// These groups and no others beside our own.
    Groups(Vec<libc::gid_t>),
    /// `lo` up.
    Loopback,
    /// The host name.
    Hostname(CString),
    /// No mount of ours reaches the host.
    PrivateMounts,
    /// A tmpfs that becomes the root, or holds what an image's root gets; with the kernel's words for its size.
    NewRoot { bytes: Option<CString>, inodes: Option<CString> },
    /// Landlock rules, to be filled by what is mounted writable.
    Rules(Handled),
    /// An overlay that becomes the root.
    /// `opened` has the descriptors of `lower`, if it is not empty.
    Image { lower: Vec<CString>, opened: Vec<RawFd>, upper: CString, work: CString },
    /// The mounts of `from`.
    Bind { from: CString, at: Place, writable: bool },
    /// A device node of the host.
    Device { from: CString, at: Place },
    /// An empty writable directory.
    Private { at: Place, mode: u32 },
    /// A symbolic link.
    Link { at: Place, to: CString },
    /// An overlay.
    Overlay { at: Place, lower: Vec<CString>, upper: CString, work: CString },
    /// The processes of this namespace.
    Proc { at: Place },
    /// Terminals of this namespace.
    Pts { at: Place },
    /// From here on read-only, if it is there.
    Freeze { at: Place },
    /// From here on empty or unreadable, if it is there.
    Hide { at: Place },
    /// From here on read-only itself, but not what is mounted below.
    Seal { at: Place },
    /// The new root becomes the root, unless `writable` read-only; the host's is gone.
    Pivot { writable: bool },
    /// The working directory.
    WorkDir(CString),
    /// No program can gain anything by being executed.
    NoNewPrivileges,
    /// No capability but these (a set of bits), now or later.
    DropCapabilities { keep: u64 },
    /// Rights of process 1 that the command does not get.
    Narrow { keep: u64 },
    /// The landlock rules hold.
    Confine,
    /// A limit of the process, soft and hard.
    Limit { resource: u32, value: u64 },
    /// The soft limit of open files.
    OpenFilesSoft(u64),
    /// Nobody may look into this process.
    Undumpable,
    /// Orphans of the tree become ours.
    Adopt,
    /// A session of its own; with `terminal`, the one on standard input.
    Session { terminal: bool },
    /// The system call filter.
    Filter,
    /// The program.
    Execute,
}

/// Parts of an operation, for the report of a failure. Lower directories count from [`PART_LOWER`].
pub const PART_SOURCE: u32 = 0;
/// Its attributes.
pub const PART_RESTRICT: u32 = 1;
/// The place where it is mounted.
pub const PART_TARGET: u32 = 2;
/// Mounting it there.
pub const PART_ATTACH: u32 = 3;
/// An overlay's upper directory.
pub const PART_UPPER: u32 = 4;
/// An overlay's work directory.
pub const PART_WORK: u32 = 5;
/// What may be written there.
pub const PART_RULE: u32 = 6;
/// The first lower directory.
pub const PART_LOWER: u32 = 16;

/// Lower directories of one overlay: the kernel's own bound.
pub const LOWER_MAX: usize = 500;

/// Devices that a program may expect and cannot harm with.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("dev/ptmx", "pts/ptmx"),
    ("dev/fd", "/proc/self/fd"),
    ("dev/stdin", "/proc/self/fd/0"),
    ("dev/stdout", "/proc/self/fd/1"),
    ("dev/stderr", "/proc/self/fd/2"),
];
/// As in container runtimes. It matters most when the host's user is root: the files belong to user 0 and the kernel asks
/// for no capability.
const PROC_FROZEN: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
const PROC_HIDDEN: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];

/// What a package manager needs among users of the range: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETGID, SETUID.
const KEPT: u64 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7;
/// Process 1 must reach processes of other users with SIGTERM.
const KILL: u64 = 1 << 5;

/// What of `/sys` a sandbox sees, where the host has it: how many processors there are. Runtimes size themselves by it.
pub const SYS_SHOWN: [&str; 2] = ["/sys/devices/system/cpu", "/sys/devices/system/node"];

/// What the plan has to know of the host.
#[derive(Clone, Copy, Default)]
pub struct Facts<'a> {
    /// Hidden where it would be shown.
    pub kept: &'a [PathBuf],
    /// Directories of `/sys` and where they are shown read-only.
    pub sys: &'a [(PathBuf, PathBuf)],
    /// What landlock can rule.
    pub landlock: Handled,
    /// Layers of the image that are open already.
    pub layers: &'a [OwnedFd],
}

/// What process 1 of the sandbox does before it starts the command. `maps` are the lines of `uid_map` and `gid_map`.
pub fn setup(spec: &Spec, maps: &(CString, CString), facts: Facts) -> Result<Vec<Op>, SpawnError> {
    if spec.hostname.len() > 64 {
        return Err(SpawnError::Invalid(format!("the host name `{}` is longer than 64 bytes", spec.hostname)));
    }
    let mut ops = if spec.identity.range {
        vec![Op::AwaitIds, Op::Groups(spec.identity.groups.clone())]
    } else {
        vec![Op::MapIds { uid: maps.0.clone(), gid: maps.1.clone() }]
    };
    if let Network::Own = spec.network {
        ops.push(Op::Loopback);
    }
    ops.extend([Op::Hostname(text(&spec.hostname)?), Op::PrivateMounts]);
    ops.extend(rules(spec, facts.landlock));
    ops.push(new_root(spec.tmp)?);
    ops.extend(image(&spec.root, facts.layers)?);
    ops.extend(parents_first(mounts(spec, facts)?));
    let writable = matches!(spec.root, Root::Image(_));
    if writable {
        ops.push(Op::Seal { at: place("dev")? });
    }
    let keep = if spec.identity.keep { KEPT | KILL } else { 0 };
    ops.extend([Op::Pivot { writable }, Op::WorkDir(absolute(&spec.cwd)?)]);
    ops.extend([Op::Undumpable, Op::NoNewPrivileges, Op::DropCapabilities { keep }]);
    Ok(ops)
}

/// All of an image may be written.
fn rules(spec: &Spec, landlock: Handled) -> Option<Op> {
    let files = if matches!(spec.root, Root::Host(_)) { landlock.files } else { 0 };
    let handled = Handled { files, ..landlock };
    handled.any().then_some(Op::Rules(handled))
}

/// What the command's process does before it becomes the command.
pub fn command(spec: &Spec, landlock: Handled) -> Vec<Op> {
    let mut ops = vec![Op::Session { terminal: spec.terminal }];
    // 1 and not 0: a host that pipes core dumps to a program does so in spite of 0, and files are never smaller than a page.
    let limits = [
        (libc::RLIMIT_CORE, Some(1)),
        (libc::RLIMIT_NOFILE, spec.rlimits.open_files),
        (libc::RLIMIT_FSIZE, spec.rlimits.file_size),
        (libc::RLIMIT_NPROC, spec.rlimits.processes),
    ];
    ops.extend(limits.into_iter().filter_map(|(resource, value)| Some(Op::Limit { resource, value: value? })));
    ops.extend(spec.rlimits.open_files_soft.filter(|_| spec.rlimits.open_files.is_none()).map(Op::OpenFilesSoft));
    if spec.identity.keep {
        ops.push(Op::Narrow { keep: KEPT });
    }
    ops.extend(rules(spec, landlock).map(|_| Op::Confine));
    ops.extend([Op::Filter, Op::Execute]);
    ops
}

/// What the first process of an unsandboxed tree does.
pub fn setup_bare(cwd: &Path) -> Result<Vec<Op>, SpawnError> {
    Ok(vec![Op::WorkDir(absolute(cwd)?), Op::Undumpable, Op::Adopt])
}

/// What an unsandboxed command does before it becomes the command.
pub fn command_bare(open_files_soft: Option<u64>) -> Vec<Op> {
    let soft = open_files_soft.map(Op::OpenFilesSoft);
    [Op::Session { terminal: false }].into_iter().chain(soft).chain([Op::Execute]).collect()
}

/// Everything mounted, in the order in which the later covers the earlier at one place.
fn mounts(spec: &Spec, facts: Facts) -> Result<Vec<Op>, SpawnError> {
    let mut ops = vec![
        Op::Private { at: place("tmp")?, mode: 0o1777 },
        Op::Private { at: place("dev/shm")?, mode: 0o1777 },
        Op::Proc { at: place("proc")? },
        Op::Pts { at: place("dev/pts")? },
    ];
    for name in DEVICES {
        ops.push(Op::Device { from: text(format!("/dev/{name}"))?, at: place(format!("dev/{name}"))? });
    }
    for (at, to) in DEVICE_LINKS {
        ops.push(Op::Link { at: place(at)?, to: text(to)? });
    }
    for name in PROC_FROZEN {
        ops.push(Op::Freeze { at: place(format!("proc/{name}"))? });
    }
    for name in PROC_HIDDEN {
        ops.push(Op::Hide { at: place(format!("proc/{name}"))? });
    }
    match &spec.root {
        Root::Host(view) => ops.extend(host(view, facts.kept)?),
        // Devices lie in a directory of our own: an image's is no place to make mount points in.
        Root::Image(_) => ops.push(Op::Private { at: place("dev")?, mode: 0o755 }),
    }
    for (from, at) in facts.sys {
        ops.push(Op::Bind { from: absolute(from)?, at: inside(at)?, writable: false });
    }
    for overlay in &spec.overlays {
        ops.push(overlay_op(overlay)?);
    }
    for Bind { from, to, writable } in &spec.binds {
        ops.push(Op::Bind { from: absolute(from)?, at: inside(to)?, writable: *writable });
    }
    Ok(ops)
}

fn host(view: &HostView, kept: &[PathBuf]) -> Result<Vec<Op>, SpawnError> {
    let mut ops = Vec::new();
    for path in &view.private {
        ops.push(Op::Private { at: inside(path)?, mode: 0o755 });
    }
    for path in &view.show {
        ops.push(Op::Bind { from: absolute(path)?, at: inside(path)?, writable: false });
    }
    for (at, to) in &view.links {
        ops.push(Op::Link { at: inside(at)?, to: text(to.as_os_str())? });
    }
    let shown = |path: &&PathBuf| view.show.iter().any(|dir| path.starts_with(dir) && *path != dir);
    let hide: BTreeSet<&PathBuf> = view.hide.iter().chain(kept.iter().filter(shown)).collect();
    for path in hide {
        ops.push(Op::Hide { at: inside(path)? });
    }
    Ok(ops)
}

fn new_root(size: TmpSize) -> Result<Op, SpawnError> {
    let number = |number: Option<u64>| number.map(|number| text(number.to_string())).transpose();
    Ok(Op::NewRoot { bytes: number(size.bytes)?, inodes: number(size.inodes)? })
}

fn image(root: &Root, layers: &[OwnedFd]) -> Result<Option<Op>, SpawnError> {
    let Root::Image(image) = root else { return Ok(None) };
    let lower = lower(&image.lower, || "the image".into())?;
    let opened = layers.iter().map(AsRawFd::as_raw_fd).collect();
    Ok(Some(Op::Image { lower, opened, upper: absolute(&image.upper)?, work: absolute(&image.work)? }))
}

fn lower(paths: &[PathBuf], whose: impl Fn() -> String) -> Result<Vec<CString>, SpawnError> {
    if paths.is_empty() || paths.len() > LOWER_MAX {
        let (whose, count) = (whose(), paths.len());
        return Err(SpawnError::Invalid(format!("{whose} has {count} lower directories, not 1 to {LOWER_MAX}")));
    }
    paths.iter().map(|path| absolute(path)).collect()
}

fn overlay_op(overlay: &Overlay) -> Result<Op, SpawnError> {
    Ok(Op::Overlay {
        at: inside(&overlay.at)?,
        lower: lower(&overlay.lower, || format!("the overlay at {}", overlay.at.display()))?,
        upper: absolute(&overlay.upper)?,
        work: absolute(&overlay.work)?,
    })
}

/// A mount hides what was mounted below its place before, so parents come first; the order is kept among equals.
fn parents_first(mut ops: Vec<Op>) -> Vec<Op> {
    ops.sort_by_key(|op| op.place().map_or(0, |at| at.prefixes.len()));
    ops
}

impl Op {
    /// Where it mounts something.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Op::Bind { at, .. }
            | Op::Device { at, .. }
            | Op::Private { at, .. }
            | Op::Link { at, .. }
            | Op::Overlay { at, .. }
            | Op::Proc { at }
            | Op::Pts { at }
            | Op::Freeze { at }
            | Op::Hide { at }
            | Op::Seal { at } => Some(at),
            _ => None,
        }
    }

    /// The end of a sentence that starts with `cannot`: what was tried, on which path.
    pub fn tried(&self, part: u32) -> String {
        let place = self.place().map(|place| show(place.path())).unwrap_or_default();
        match self {
            _ if part == PART_RULE => format!("allow the step to write to /{place}"),
            _ if part == PART_TARGET => format!("make the mount point /{place} in the sandbox"),
            Op::MapIds { uid, gid } => format!("map user `{}` and group `{}` into the sandbox", show(uid), show(gid)),
            Op::Loopback => "bring up the sandbox's loopback interface".into(),
            Op::Hostname(name) => format!("set the sandbox's host name to `{}`", show(name)),
            Op::PrivateMounts => "make the sandbox's mounts private".into(),
            Op::AwaitIds => "map a range of users and groups into the sandbox".into(),
            Op::Groups(groups) => format!("take the groups {groups:?} in the sandbox"),
            Op::NewRoot { .. } => "mount the sandbox's root".into(),
            Op::Image { lower, upper, work, .. } => overlay_tried(lower, upper, work, "", part),
            Op::Bind { from, writable, .. } => bind_tried(&show(from), &place, *writable, part),
            Op::Device { from, .. } => format!("show the device {} in the sandbox", show(from)),
            Op::Private { .. } => format!("make the private directory /{place} in the sandbox"),
            Op::Link { to, .. } => format!("make the link /{place} to {} in the sandbox", show(to)),
            Op::Overlay { lower, upper, work, .. } => overlay_tried(lower, upper, work, &place, part),
            Op::Proc { .. } | Op::Pts { .. } => format!("mount /{place} in the sandbox"),
            Op::Freeze { .. } | Op::Seal { .. } => format!("make /{place} read-only in the sandbox"),
            Op::Hide { .. } => format!("hide /{place} in the sandbox"),
            Op::Pivot { .. } => "make the new root the sandbox's root".into(),
            Op::WorkDir(path) => format!("change to the working directory {}", show(path)),
            Op::NoNewPrivileges => "forbid new privileges".into(),
            Op::DropCapabilities { .. } | Op::Narrow { .. } => "drop capabilities".into(),
            Op::Limit { resource, value } => format!("set the limit {} to {value}", limit_name(*resource)),
            Op::OpenFilesSoft(value) => format!("set the soft limit of open files to {value}"),
            Op::Undumpable => "close the first process to inspection".into(),
            Op::Adopt => "become the parent of the process tree's orphans".into(),
            Op::Session { terminal: true } => "take the terminal on standard input".into(),
            Op::Session { .. } => "start a session".into(),
            Op::Rules(_) | Op::Confine => "confine the step by landlock".into(),
            Op::Filter => "install the system call filter".into(),
            Op::Execute => "execute the program".into(),
        }
    }
}

fn limit_name(resource: u32) -> &'static str {
    match resource {
        libc::RLIMIT_CORE => "of core dumps",
        libc::RLIMIT_NOFILE => "of open files",
        libc::RLIMIT_FSIZE => "of a file's size",
        _ => "of processes",
    }
}

fn bind_tried(from: &str, place: &str, writable: bool, part: u32) -> String {
    match part {
        PART_RESTRICT if writable => format!("protect the mounts of {from}"),
        PART_RESTRICT => format!("make the mounts of {from} read-only"),
        _ => format!("show {from} at /{place} in the sandbox"),
    }
}

fn overlay_tried(lower: &[CString], upper: &CStr, work: &CStr, place: &str, part: u32) -> String {
    match part {
        PART_UPPER => format!("open {}, the upper directory of the overlay at /{place}", show(upper)),
        PART_WORK => format!("open {}, the work directory of the overlay at /{place}", show(work)),
        PART_ATTACH => format!(
            "mount the overlay of {} directories with the upper directory {} at /{place}",
            lower.len(),
            show(upper)
        ),
        part => {
            let which = lower.get((part - PART_LOWER.min(part)) as usize).map(|path| show(path)).unwrap_or_default();
            format!("open {which}, a lower directory of the overlay at /{place}")
        }
    }
}

fn show(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}

/// A path on the host. Relative ones are refused: the working directory changes while the sandbox is made.
fn absolute(path: &Path) -> Result<CString, SpawnError> {
    if path.is_absolute() { text(path.as_os_str()) } else { Err(not_absolute(path)) }
}

/// A path inside, relative to the new root and without `..`.
fn inside(path: &Path) -> Result<Place, SpawnError> {
    if path.is_absolute() { place(path) } else { Err(not_absolute(path)) }
}

fn place(path: impl AsRef<Path>) -> Result<Place, SpawnError> {
    let path = path.as_ref();
    let mut so_far = OsString::new();
    let mut prefixes = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                if !so_far.is_empty() {
                    so_far.push("/");
                }
                so_far.push(name);
                prefixes.push((text(&so_far)?, text(name)?));
            }
            Component::ParentDir => {
                return Err(SpawnError::Invalid(format!("the path {} goes up with `..`", path.display())));
            }
            _ => {}
        }
    }
    if prefixes.is_empty() {
        return Err(SpawnError::Invalid("nothing can be mounted at /".into()));
    }
    Ok(Place { prefixes })
}

fn not_absolute(path: &Path) -> SpawnError {
    SpawnError::Invalid(format!("the path `{}` is not absolute", path.display()))
}

/// A string for the kernel.
pub fn text(text: impl AsRef<OsStr>) -> Result<CString, SpawnError> {
    let text = text.as_ref();
    CString::new(text.as_bytes())
        .map_err(|_| SpawnError::Invalid(format!("`{}` contains a NUL byte", text.to_string_lossy().escape_debug())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, ImageRoot};

    const LANDLOCK: Handled = Handled { files: 2, scopes: 1 };

    fn view() -> HostView {
        HostView {
            show: vec!["/home/me/.rustup".into(), "/usr".into()],
            hide: vec!["/usr/secret".into()],
            links: vec![("/bin".into(), "usr/bin".into())],
            private: vec!["/run".into()],
        }
    }

    fn image() -> ImageRoot {
        ImageRoot { lower: vec!["/layer".into()], upper: "/image-upper".into(), work: "/image-work".into() }
    }

    fn spec() -> Spec {
        Spec {
            cwd: "/workspace".into(),
            overlays: vec![Overlay {
                at: "/workspace".into(),
                lower: vec!["/top".into(), "/base".into()],
                upper: "/upper".into(),
                work: "/work".into(),
            }],
            binds: vec![
                Bind { from: "/scratch/cache".into(), to: "/workspace/target".into(), writable: true },
                Bind { from: "/scratch/home".into(), to: "/home/me".into(), writable: true },
            ],
            identity: Identity { uid: 1000, gid: 1000, groups: Vec::new(), range: false, keep: false },
            ..Spec::new(vec!["true".into()], Root::Host(view()))
        }
    }

    fn set_up(spec: &Spec) -> Result<Vec<Op>, SpawnError> {
        let kept = ["/usr/kept".into(), "/not/shown".into()];
        setup(spec, &spec.identity.maps(0, 0)?, Facts { kept: &kept, landlock: LANDLOCK, ..Facts::default() })
    }

    fn ops(spec: &Spec) -> Vec<Op> {
        set_up(spec).expect("the spec is valid")
    }

    fn position(ops: &[Op], what: impl Fn(&Op) -> bool) -> usize {
        ops.iter().position(what).expect("it is in the plan")
    }

    fn mounted_at(ops: &[Op], at: &CStr) -> usize {
        position(ops, |op| op.place().is_some_and(|place| place.path() == at))
    }

    #[test]
    fn identity_comes_first_and_rights_go_last() {
        let ops = ops(&spec());
        assert_eq!(ops.first(), Some(&Op::MapIds { uid: c"1000 0 1".into(), gid: c"1000 0 1".into() }));
        let tail = [
            Op::Pivot { writable: false },
            Op::WorkDir(c"/workspace".into()),
            Op::Undumpable,
            Op::NoNewPrivileges,
            Op::DropCapabilities { keep: 0 },
        ];
        assert!(ops.ends_with(&tail), "{ops:?}");
        let core = Op::Limit { resource: libc::RLIMIT_CORE, value: 1 };
        assert_eq!(
            command(&spec(), Handled::default()),
            [Op::Session { terminal: false }, core, Op::Filter, Op::Execute]
        );
    }

    #[test]
    fn an_image_has_devices_of_its_own_and_nothing_of_the_host() {
        let ops = ops(&Spec { root: Root::Image(image()), ..spec() });
        assert!(position(&ops, |op| matches!(op, Op::Image { .. })) < mounted_at(&ops, c"dev"));
        assert!(mounted_at(&ops, c"dev") < mounted_at(&ops, c"dev/null"));
        assert!(ops.iter().all(|op| op.place().is_none_or(|at| at.path() != c"usr")));
        assert!(ops.contains(&Op::Pivot { writable: true }));
    }

    #[test]
    fn landlock_rules_files_where_the_root_is_read_only_and_scopes_everywhere() {
        let image = Spec { root: Root::Image(image()), ..spec() };
        assert!(ops(&spec()).contains(&Op::Rules(LANDLOCK)));
        assert!(ops(&image).contains(&Op::Rules(Handled { files: 0, scopes: 1 })));
        let last = |landlock| command(&image, landlock).into_iter().rev().nth(2);
        assert_eq!(last(LANDLOCK), Some(Op::Confine));
        assert_ne!(last(Handled { files: 2, scopes: 0 }), Some(Op::Confine));
    }

    #[test]
    fn rights_that_are_kept_are_few_and_the_command_has_fewer_than_process_1() {
        let identity = Identity { uid: 0, gid: 0, groups: vec![4], range: true, keep: true };
        let spec = Spec { identity, ..spec() };
        let ops = ops(&spec);
        assert_eq!(ops[..2], [Op::AwaitIds, Op::Groups(vec![4])]);
        assert_eq!(ops.last(), Some(&Op::DropCapabilities { keep: 0xfb }));
        assert!(command(&spec, LANDLOCK).contains(&Op::Narrow { keep: 0xdb }));
    }

    #[test]
    fn every_mount_lies_between_the_new_root_and_the_pivot() {
        let ops = ops(&spec());
        let start = position(&ops, |op| matches!(op, Op::NewRoot { .. }));
        let end = position(&ops, |op| matches!(op, Op::Pivot { .. }));
        assert!(position(&ops, |op| *op == Op::PrivateMounts) < start);
        for (index, op) in ops.iter().enumerate() {
            assert_eq!(op.place().is_some(), start < index && index < end, "{op:?}");
        }
    }

    #[test]
    fn parents_are_mounted_before_what_lies_in_them() {
        let ops = ops(&spec());
        for (parent, child) in [
            (c"usr", c"usr/secret"),
            (c"home/me", c"home/me/.rustup"),
            (c"workspace", c"workspace/target"),
            (c"proc", c"proc/sys"),
        ] {
            assert!(mounted_at(&ops, parent) < mounted_at(&ops, child), "{parent:?} before {child:?}");
        }
    }

    #[test]
    fn at_one_place_a_bind_covers_an_overlay_and_an_overlay_the_view() {
        let mut spec = spec();
        spec.root = Root::Host(HostView {
            show: vec!["/workspace".into()],
            hide: vec!["/workspace".into()],
            ..HostView::default()
        });
        spec.binds = vec![Bind { from: "/other".into(), to: "/workspace".into(), writable: false }];
        let there = |op: &Op| op.place().is_some_and(|place| place.path() == c"workspace");
        let ops: Vec<_> = ops(&spec).into_iter().filter(there).collect();
        assert!(matches!(ops[..], [Op::Bind { .. }, Op::Hide { .. }, Op::Overlay { .. }, Op::Bind { .. }]), "{ops:?}");
    }

    #[test]
    fn what_is_kept_from_others_is_hidden_where_it_would_show() {
        let hidden = |op: Op| if let Op::Hide { at } = op { Some(at.path().to_owned()) } else { None };
        let hidden: Vec<_> = ops(&spec()).into_iter().filter_map(hidden).collect();
        assert!(hidden.contains(&c"usr/kept".to_owned()) && !hidden.contains(&c"not/shown".to_owned()), "{hidden:?}");
    }

    #[test]
    fn shown_is_read_only() {
        let ops = ops(&spec());
        let shown = ops.iter().filter(|op| matches!(op, Op::Bind { writable: false, .. })).count();
        assert_eq!(shown, view().show.len());
    }

    #[test]
    fn a_failure_names_the_path() {
        let ops = ops(&spec());
        let overlay = &ops[mounted_at(&ops, c"workspace")];
        assert_eq!(overlay.tried(PART_LOWER + 1), "open /base, a lower directory of the overlay at /workspace");
        assert_eq!(overlay.tried(PART_UPPER), "open /upper, the upper directory of the overlay at /workspace");
        assert_eq!(overlay.tried(PART_TARGET), "make the mount point /workspace in the sandbox");
    }

    #[test]
    fn what_the_kernel_cannot_do_is_refused_before_it_is_asked() {
        let mut too_many = spec();
        too_many.overlays[0].lower = vec!["/x".into(); LOWER_MAX + 1];
        let mut no_lower = spec();
        no_lower.overlays[0].lower.clear();
        let mut long_name = spec();
        long_name.hostname = "x".repeat(65);
        let mut at_root = spec();
        at_root.binds[0].to = "/".into();
        let mut big_image = spec();
        big_image.root = Root::Image(ImageRoot { lower: vec!["/x".into(); LOWER_MAX + 1], ..image() });
        for (spec, why) in [
            (big_image, "the image has 501 lower directories, not 1 to 500"),
            (too_many, "has 501 lower directories, not 1 to 500"),
            (no_lower, "has 0 lower directories, not 1 to 500"),
            (long_name, "is longer than 64 bytes"),
            (at_root, "nothing can be mounted at /"),
        ] {
            let error = set_up(&spec).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.ends_with(why), "{error}");
        }
    }
}
