//! Folders as an agent has them, and the sandboxes that are measured.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sandbox::cgroup::{Groups, Limits, Tenant};
use sandbox::{Bind, HostView, ImageRoot, Net, Network, Overlay, Root, Sockets, Spec};

/// A static program that only exits with 0: an ELF header, one segment, `mov eax, 60; xor edi, edi; syscall`.
#[cfg(target_arch = "x86_64")]
pub fn static_exit(dir: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
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
    let path = dir.join("exit0");
    std::fs::write(&path, elf).expect("the folder is writable");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}
#[cfg(not(target_arch = "x86_64"))]
pub fn static_exit(_: &Path) -> PathBuf {
    "/bin/true".into()
}

/// What a sandbox has beside namespaces, seccomp, landlock and no capability.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The root is an image's, not the host's.
    pub image: bool,
    /// Its network.
    pub network: NetworkKind,
    /// A control group with limits.
    pub group: GroupKind,
    /// A workspace, a home and a desk.
    pub furnished: bool,
    /// These lie on the disk of the temporary folder, not in memory.
    pub on_disk: bool,
}

/// A network that is made at the start, one that was made ahead, or the host's.
#[derive(Clone, Copy)]
pub enum NetworkKind {
    Fresh,
    Pooled,
    Host,
}

/// No group; one that was made before the clock runs and is removed after it stopped; one that is made and removed in the
/// measured time.
#[derive(Clone, Copy, PartialEq)]
pub enum GroupKind {
    None,
    Ahead,
    Measured,
}

/// What is made once for many steps.
pub struct Scene {
    memory: PathBuf,
    disk: PathBuf,
    /// Shown in every root.
    pub exit0: PathBuf,
    view: HostView,
    net: Arc<Net>,
    tenant: Option<Arc<Tenant>>,
    count: usize,
}

impl Scene {
    /// Folders in memory, and such on the disk.
    pub fn new() -> Scene {
        let in_memory = Path::new("/dev/shm");
        let base = if in_memory.is_dir() { in_memory.into() } else { std::env::temp_dir() };
        let name = format!("latency-{}", std::process::id());
        let (memory, disk) = (base.join(&name), std::env::temp_dir().join(format!("{name}-disk")));
        for dir in [&memory, &disk] {
            for name in ["", "home", "desk", "image", "image/usr"] {
                std::fs::create_dir(dir.join(name)).expect("the folder is writable");
            }
            for name in ["bin", "lib", "lib64"] {
                std::os::unix::fs::symlink(format!("usr/{name}"), dir.join("image").join(name)).expect("made");
            }
        }
        let (net, _) = Net::new(Sockets::default()).expect("this host has network namespaces");
        let groups = Groups::open().map_err(|none| eprintln!("without control groups: {none}")).ok();
        Scene {
            exit0: static_exit(&memory),
            view: sandbox::host_view::detect(&std::env::vars().collect()).view,
            net: Arc::new(net),
            tenant: groups.map(|groups| groups.tenant("latency", &Limits::default()).expect("it has no limits")),
            count: 0,
            memory,
            disk,
        }
    }

    /// A sandbox; with [`GroupKind::Measured`] its group is not made yet.
    pub fn spec(&mut self, program: &Path, kind: Kind) -> Spec {
        self.count += 1;
        let dir = if kind.on_disk { self.disk.clone() } else { self.memory.clone() };
        let mut view = self.view.clone();
        view.show.push(self.exit0.clone());
        let mut spec = Spec {
            env: vec![("PATH".into(), OsString::from("/usr/bin:/bin"))],
            network: match kind.network {
                NetworkKind::Fresh => Network::Own,
                NetworkKind::Pooled => Network::Shared(Arc::clone(&self.net)),
                NetworkKind::Host => Network::Host,
            },
            ..Spec::new(vec![program.into()], Root::Host(view))
        };
        if kind.furnished {
            self.furnish(&mut spec, &dir);
        }
        if kind.image {
            let [_, upper, work] = self.folders(&dir, "image-");
            spec.root = Root::Image(ImageRoot { lower: vec![dir.join("image")], upper, work });
            let shown = |path: PathBuf| Bind { from: path.clone(), to: path, writable: false };
            spec.binds.extend([shown("/usr".into()), shown(self.exit0.clone())]);
        }
        if kind.group == GroupKind::Ahead {
            self.enter_group(&mut spec);
        }
        spec
    }

    fn furnish(&self, spec: &mut Spec, dir: &Path) {
        let [lower, upper, work] = self.folders(dir, "");
        spec.overlays = vec![Overlay { at: "/workspace".into(), lower: vec![lower], upper, work }];
        spec.cwd = "/workspace".into();
        let bind = |name: &str, to: &str| Bind { from: dir.join(name), to: to.into(), writable: true };
        spec.binds = vec![bind("home", "/home/step"), bind("desk", "/run/pace")];
    }

    fn folders(&self, dir: &Path, prefix: &str) -> [PathBuf; 3] {
        ["lower", "upper", "work"].map(|name| {
            let dir = dir.join(format!("{prefix}{name}{}", self.count));
            std::fs::create_dir(&dir).expect("the folder is writable");
            dir
        })
    }

    /// A new group with limits of memory, processors and processes, where the host has groups.
    pub fn enter_group(&self, spec: &mut Spec) {
        let limits = Limits { memory: Some(1 << 30), cpu_milli: Some(2000), pids: Some(512), io_weight: None };
        let group = |tenant: &Arc<Tenant>| tenant.group(&format!("attempt{}", self.count), &limits);
        spec.group = self.tenant.as_ref().map(|tenant| Arc::new(group(tenant).expect("the tenant allows it")));
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for dir in [&self.memory, &self.disk] {
            sandbox::remove_tree(dir).expect("the folder is ours");
        }
    }
}
