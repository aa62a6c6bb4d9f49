//! Start-to-exit of a program, sandboxed and plain: minimum and median wall clock, and processor time of everything
//! together, interleaved. `latency 500` sets the number of rounds; a second argument picks what it names.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::cgroup::{Group, Groups, Limits, Tenant};
use sandbox::{Bind, HostView, ImageRoot, Net, Network, Overlay, Root, Sockets, Spec};

const ROUNDS: usize = 200;

/// A static program that only exits with 0: an ELF header, one segment, `mov eax, 60; xor edi, edi; syscall`.
#[cfg(target_arch = "x86_64")]
fn static_exit(dir: &Path) -> PathBuf {
    let mut elf = Vec::new();
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    elf.extend(0x400078u64.to_le_bytes());
    elf.extend(64u64.to_le_bytes());
    elf.extend(0u64.to_le_bytes());
    elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0u64, 0x400000, 0x400000, 0x81, 0x81, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend([0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]);
    write_program(dir, &elf)
}
#[cfg(not(target_arch = "x86_64"))]
fn static_exit(_: &Path) -> PathBuf {
    "/bin/true".into()
}

#[cfg(target_arch = "x86_64")]
fn write_program(dir: &Path, bytes: &[u8]) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join("exit0");
    std::fs::write(&path, bytes).expect("the folder is writable");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

/// Folders on a tmpfs, as a host should have them, and what is made once for many steps.
struct Scene {
    dir: PathBuf,
    view: HostView,
    net: Arc<Net>,
    tenant: Option<Arc<Tenant>>,
    count: usize,
}

/// What a sandbox has.
#[derive(Clone, Copy)]
enum Kind {
    /// A root of the host, a network of its own.
    Bare,
    /// The same with the host's network.
    HostNetwork,
    /// A control group with limits, a network that was made ahead, a workspace, a home and a desk.
    Full,
    /// The same with a network of its own.
    FullOwnNetwork,
    /// As `Full` on an image's root.
    FullImage,
}

impl Scene {
    fn spec(&mut self, program: &Path, kind: Kind) -> Spec {
        self.count += 1;
        let mut view = self.view.clone();
        view.show.push(self.dir.join("exit0"));
        let mut spec = Spec {
            env: vec![("PATH".into(), OsString::from("/usr/bin:/bin"))],
            ..Spec::new(vec![program.into()], Root::Host(view))
        };
        match kind {
            Kind::Bare => return spec,
            Kind::HostNetwork => return Spec { network: Network::Host, ..spec },
            Kind::FullOwnNetwork => {}
            Kind::Full | Kind::FullImage => spec.network = Network::Shared(Arc::clone(&self.net)),
        }
        let [lower, upper, work] = self.folders("");
        spec.overlays = vec![Overlay { at: "/workspace".into(), lower: vec![lower], upper, work }];
        spec.cwd = "/workspace".into();
        let bind = |name: &str, to: &str| Bind { from: self.dir.join(name), to: to.into(), writable: true };
        spec.binds = vec![bind("home", "/home/step"), bind("desk", "/run/pace")];
        spec.group = self.group().map(Arc::new);
        if let Kind::FullImage = kind {
            let [_, upper, work] = self.folders("image-");
            spec.root = Root::Image(ImageRoot { lower: vec![self.dir.join("image")], upper, work });
            let usr = |path: PathBuf| Bind { from: path.clone(), to: path, writable: false };
            spec.binds.extend([usr("/usr".into()), usr(self.dir.join("exit0"))]);
        }
        spec
    }

    fn folders(&self, prefix: &str) -> [PathBuf; 3] {
        ["lower", "upper", "work"].map(|name| {
            let dir = self.dir.join(format!("{prefix}{name}{}", self.count));
            std::fs::create_dir(&dir).expect("the folder is writable");
            dir
        })
    }

    fn group(&self) -> Option<Group> {
        let limits = Limits { memory: Some(1 << 30), cpu_milli: Some(2000), pids: Some(512), io_weight: None };
        self.tenant
            .as_ref()
            .map(|tenant| tenant.group(&format!("attempt{}", self.count), &limits).expect("the tenant allows it"))
    }
}

fn sandboxed(spec: Spec) -> Duration {
    let start = Instant::now();
    let mut child = spec.spawn().expect("this host can sandbox");
    child.wait().expect("nobody else waits");
    start.elapsed()
}

fn plain(program: &Path) -> Duration {
    let start = Instant::now();
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("the program exists");
    start.elapsed()
}

/// Of this process and all that it has waited for.
fn processor_time() -> Duration {
    let of = |who| {
        // SAFETY: `usage` is plain data that the kernel fills.
        #[allow(unsafe_code)]
        let usage = unsafe {
            let mut usage = std::mem::zeroed::<libc::rusage>();
            libc::getrusage(who, &raw mut usage);
            usage
        };
        let time = |value: libc::timeval| {
            Duration::from_secs(value.tv_sec.unsigned_abs()) + Duration::from_micros(value.tv_usec.unsigned_abs())
        };
        time(usage.ru_utime) + time(usage.ru_stime)
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}

#[derive(Default)]
struct Measured {
    wall: Vec<Duration>,
    cpu: Duration,
}

fn scene(dir: &Path) -> Scene {
    for name in ["home", "desk", "image", "image/usr"] {
        std::fs::create_dir(dir.join(name)).expect("the folder is writable");
    }
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), dir.join("image").join(name)).expect("made");
    }
    let (net, _) = Net::new(Sockets::default()).expect("this host has network namespaces");
    let groups = Groups::open().map_err(|none| eprintln!("without control groups: {none}")).ok();
    Scene {
        dir: dir.into(),
        view: sandbox::host_view::detect(&std::env::vars().collect()).view,
        net: Arc::new(net),
        tenant: groups.map(|groups| groups.tenant("latency", &Limits::default()).expect("it has no limits")),
        count: 0,
    }
}

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let wanted = std::env::args().nth(2).unwrap_or_default();
    let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    let dir = base.join(format!("latency-{}", std::process::id()));
    std::fs::create_dir(&dir).expect("the folder is writable");
    let programs = [("static exit(0)", static_exit(&dir)), ("/bin/true", PathBuf::from("/bin/true"))];
    let kinds = [
        ("plain", None),
        ("sandbox", Some(Kind::Bare)),
        ("sandbox, host network", Some(Kind::HostNetwork)),
        ("everything", Some(Kind::Full)),
        ("everything, network not made ahead", Some(Kind::FullOwnNetwork)),
        ("everything, image", Some(Kind::FullImage)),
    ];
    let all = programs.iter().flat_map(|program| kinds.iter().map(move |kind| (program, kind)));
    let mut rows: Vec<_> = all
        .map(|((name, path), (kind, what))| (format!("{kind}, {name}"), path, *what, Measured::default()))
        .filter(|(name, ..)| name.contains(&wanted))
        .collect();
    let mut scene = scene(&dir);
    for _ in 0..rounds {
        for (_, path, what, measured) in &mut rows {
            let spec = what.map(|kind| scene.spec(path, kind));
            let before = processor_time();
            measured.wall.push(spec.map_or_else(|| plain(path), sandboxed));
            measured.cpu += processor_time() - before;
        }
    }
    println!("{:<50} {:>8} {:>8} {:>8}   of {rounds}, microseconds", "start to exit", "min", "p50", "cpu");
    for (name, _, _, mut measured) in rows {
        measured.wall.sort_unstable();
        let (min, median) = (measured.wall[0].as_micros(), measured.wall[rounds / 2].as_micros());
        println!("{name:<50} {min:>8} {median:>8} {:>8}", measured.cpu.as_micros() / rounds as u128);
    }
    drop(scene);
    sandbox::remove_tree(&dir).expect("the folder is ours");
}
