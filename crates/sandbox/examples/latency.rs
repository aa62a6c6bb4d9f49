//! Start-to-exit of a program, sandboxed and plain: minimum and median of 100, interleaved.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sandbox::{HostView, Network, Overlay, Root, Spec};

const ROUNDS: usize = 100;

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

struct Scene {
    dir: PathBuf,
    view: HostView,
    count: usize,
}

impl Scene {
    fn sandboxed(&mut self, program: &Path, network: Network, overlay: bool) -> Duration {
        let mut view = self.view.clone();
        view.show.push(self.dir.join("exit0"));
        let overlays = if overlay { vec![self.overlay()] } else { Vec::new() };
        let spec = Spec {
            env: vec![("PATH".into(), OsString::from("/usr/bin:/bin"))],
            cwd: "/tmp".into(),
            overlays,
            network,
            ..Spec::new(vec![program.into()], Root::Host(view))
        };
        let start = Instant::now();
        let mut child = spec.spawn().expect("this host can sandbox");
        child.wait().expect("nobody else waits");
        start.elapsed()
    }

    fn overlay(&mut self) -> Overlay {
        self.count += 1;
        let [lower, upper, work] =
            ["lower", "upper", "work"].map(|name| self.dir.join(format!("{name}{}", self.count)));
        for dir in [&lower, &upper, &work] {
            std::fs::create_dir(dir).expect("the folder is writable");
        }
        Overlay { at: "/workspace".into(), lower: vec![lower], upper, work }
    }
}

fn plain(program: &Path) -> Duration {
    let start = Instant::now();
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().expect("the program exists");
    start.elapsed()
}

fn main() {
    let dir = std::env::temp_dir().join(format!("latency-{}", std::process::id()));
    std::fs::create_dir(&dir).expect("the folder is writable");
    let exit = static_exit(&dir);
    let real = PathBuf::from("/bin/true");
    let view = sandbox::host_view::detect(&std::env::vars().collect()).view;
    let mut scene = Scene { dir: dir.clone(), view, count: 0 };
    let names = [
        "plain, static exit(0)",
        "plain, /bin/true",
        "sandbox, static exit(0)",
        "sandbox, /bin/true",
        "sandbox, /bin/true, host network",
        "sandbox, /bin/true, overlay workspace",
    ];
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); names.len()];
    for _ in 0..ROUNDS {
        times[0].push(plain(&exit));
        times[1].push(plain(&real));
        times[2].push(scene.sandboxed(&exit, Network::Own, false));
        times[3].push(scene.sandboxed(&real, Network::Own, false));
        times[4].push(scene.sandboxed(&real, Network::Host, false));
        times[5].push(scene.sandboxed(&real, Network::Own, true));
    }
    println!("{:<40} {:>10} {:>10}   of {ROUNDS}, microseconds", "start to exit", "min", "p50");
    for (name, times) in names.iter().zip(&mut times) {
        times.sort();
        println!("{name:<40} {:>10} {:>10}", times[0].as_micros(), times[ROUNDS / 2].as_micros());
    }
    sandbox::remove_tree(&dir).expect("the folder is ours");
}
