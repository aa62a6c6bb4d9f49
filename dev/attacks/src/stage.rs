//! Where attacks are played: a repository, partners outside, and what the program is run by.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::kernel;
use crate::{Attack, World};

/// An ordinary user that no password file knows.
pub const USER: u32 = 54321;
/// The owner of programs with a setuid bit: neither root nor [`USER`].
const OWNER: u32 = 12345;
/// What the file outside holds.
pub const SECRET: &str = "the-hosts-secret=1";
/// Longest life of anything here, in seconds.
const SECONDS_MAX: &str = "120";

/// As whom `pace` is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The caller, who is root.
    Root,
    /// An ordinary user; the caller must be root or that user is the caller.
    User,
}

/// A repository and partners.
#[derive(Debug)]
pub struct Stage {
    folder: tempfile::TempDir,
    who: Who,
    victim: Child,
    world: World,
    shared_memory: Option<usize>,
    /// They answer as long as this lives.
    _listeners: Vec<UnixListener>,
    server: TcpListener,
    _pipe: fs::File,
}

/// How a program ended, with what it printed.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` when it was killed.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Builds the attack program without shared libraries, so that it runs under any root, and says where it is.
///
/// # Panics
/// When it does not build.
pub fn program() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(target, PathBuf::from).join("attacks");
    let built = Command::new(option_env!("CARGO").unwrap_or("cargo"))
        .args(["build", "--quiet", "--offline", "--package", "paceline-attacks", "--bin", "attacks", "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the attack program does not build");
    target.join("debug/attacks")
}

impl Stage {
    /// Sets it up, with `program` in the repository.
    ///
    /// # Panics
    /// When the temporary folder cannot be written or a partner does not start.
    pub fn new(who: Who, program: &Path) -> Stage {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["outside", "home"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let outside = folder.path().join("outside");
        fs::write(outside.join("secret"), SECRET).expect("a file");
        static STAGES: AtomicU32 = AtomicU32::new(0);
        let number = STAGES.fetch_add(1, Ordering::Relaxed);
        let abstract_name = format!("attacked-{}-{number}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).expect("a short name");
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut listeners = vec![UnixListener::bind_addr(&address).expect("a free name")];
        listeners.push(UnixListener::bind(outside.join("socket")).expect("a socket"));
        listeners.extend(repository(&folder.path().join("repo"), program, who));
        let tools = folder.path().join("home/tools/bin");
        fs::create_dir_all(&tools).expect("a folder");
        listeners.push(UnixListener::bind(tools.join("daemon.sock")).expect("a socket"));
        let fifo = CString::new(tools.join("daemon.fifo").display().to_string()).expect("no NUL");
        kernel::call(libc::SYS_mknodat, &[0, kernel::text(&fifo), (libc::S_IFIFO | 0o666) as usize, 0])
            .expect("a pipe");
        let pipe = fs::OpenOptions::new().read(true).write(true).open(tools.join("daemon.fifo")).expect("a pipe");
        let victim = victim(who);
        let ipc_key = 0x1000_0000 | (std::process::id() as i32 & 0xf_ffff) << 8 | (number as i32 & 0xff);
        let shared_memory =
            kernel::call(libc::SYS_shmget, &[ipc_key as usize, 4096, libc::IPC_CREAT as usize | 0o666]).ok();
        let world = World {
            victim: victim.id() as i32,
            port: server.local_addr().expect("bound").port(),
            abstract_name,
            outside,
            ipc_key,
            caged: true,
        };
        Stage { folder, who, victim, world, shared_memory, _listeners: listeners, server, _pipe: pipe }
    }

    /// The repository.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("repo")
    }
    /// Its folder, with the cache, the state and what is outside.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
    /// As whom it is played.
    pub fn who(&self) -> Who {
        self.who
    }
    /// How many connections the server on the host's loopback was sent since this was asked last.
    pub fn visitors(&self) -> usize {
        let _ = self.server.set_nonblocking(true);
        let mut count = 0;
        while let Ok((mut visitor, _)) = self.server.accept() {
            let _ = visitor.write_all(b"attacked");
            count += 1;
        }
        count
    }
    /// The partners.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// `pace` with these arguments, as the stage's user and with little environment.
    ///
    /// # Panics
    /// When `pace` cannot be copied to where the user may execute it.
    pub fn pace(&self, binary: &Path, args: &[&str]) -> Command {
        let own = self.folder.path().join("pace");
        if !own.exists() {
            copy(binary, &own);
        }
        self.give_away();
        let mut command = self.command(&own);
        command.args(args).current_dir(self.root()).env_clear();
        // The last folder is one of the person's own, which is shown because it is in `PATH`.
        let tools = self.folder.path().join("home/tools/bin");
        command
            .env("PATH", format!("/usr/local/bin:/usr/bin:/bin:{}", tools.display()))
            .env("HOME", self.folder.path().join("home"));
        command.env("OUTER_TOKEN", "of-the-person-outside");
        command.env("PACE_CACHE_DIR", self.folder.path().join("cache"));
        command.env("PACE_STATE_DIR", self.folder.path().join("state"));
        command
    }

    /// A program as the stage's user.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", SECONDS_MAX]);
        if self.who == Who::User && is_root() {
            command.args(["setpriv", "--clear-groups", "--reuid"]).arg(USER.to_string());
            command.arg("--regid").arg(USER.to_string());
        }
        command.arg(program);
        command
    }

    /// Everything belongs to the stage's user, and the programs whose bits are tried have them.
    fn give_away(&self) {
        if !is_root() {
            return;
        }
        if self.who == Who::User {
            own(self.folder.path());
        }
        let root = self.root();
        for (name, mode) in [("setuid-program", 0o4755), ("setgid-program", 0o2755)] {
            let path = root.join(name);
            chown(&path, Some(OWNER), Some(OWNER)).expect("root may");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("root may");
        }
        // `struct vfs_cap_data`, version 2, effective: everything permitted.
        let mut capabilities = [0x0200_0001u32, u32::MAX, 0, 0x1ff, 0];
        let path = CString::new(root.join("capable-program").display().to_string()).expect("no NUL");
        let args =
            [kernel::text(&path), kernel::text(c"security.capability"), kernel::memory(&mut capabilities), 20, 0];
        // Without it the attack is weaker, not wrong.
        let _ = kernel::call(libc::SYS_setxattr, &args);
    }

    /// Runs each attack in a step of its own and gives the line of each after its name.
    ///
    /// # Panics
    /// When `pace` does not run.
    pub fn under_pace(&self, binary: &Path, attacks: &[&Attack]) -> BTreeMap<String, String> {
        let steps: Vec<_> = attacks
            .iter()
            .map(|attack| {
                let cmd = format!("./attacks {}", attack.name);
                serde_json::json!({ "id": attack.name, "cmd": cmd, "allow_failure": true, "cache": "never", "timeout": "60s" })
            })
            .collect();
        let env: BTreeMap<_, _> = self.world.to_env().into_iter().collect();
        let pipeline = serde_json::json!({ "name": "attacks", "env": env, "steps": steps });
        fs::write(self.root().join("paceline.yaml"), pipeline.to_string()).expect("a file");
        let ended = finish(self.pace(binary, &["run", "--output", "plain"]));
        lines_of_steps(&ended, attacks)
    }

    /// Runs each attack with nothing around it but a mount namespace, so that what it mounts is gone afterwards.
    pub fn bare(&mut self, attacks: &[&Attack]) -> BTreeMap<String, String> {
        self.world.caged = false;
        let mut all = BTreeMap::new();
        for attack in attacks {
            self.revive();
            let mut command = Command::new("timeout");
            command.args([
                "--kill-after=5",
                "30",
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "./attacks",
                attack.name,
            ]);
            let lines = lines_of_program(&self.inside(command), &[attack]);
            all.extend(lines);
        }
        self.world.caged = true;
        self.revive();
        all
    }

    /// Runs each attack in bubblewrap as its users often call it: the whole host read-only, all namespaces.
    pub fn under_bubblewrap(&mut self, attacks: &[&Attack]) -> BTreeMap<String, String> {
        let mut command = Command::new("timeout");
        command.args([
            "--kill-after=5",
            SECONDS_MAX,
            "bwrap",
            "--unshare-all",
            "--die-with-parent",
            "--ro-bind",
            "/",
            "/",
        ]);
        command.args(["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--bind"]).arg(self.root());
        command.args(["/tmp/workspace", "--chdir", "/tmp/workspace", "sh", "-c"]).arg(one_after_another(attacks));
        lines_of_program(&self.inside(command), attacks)
    }

    /// Runs each attack in crun with the configuration that it proposes, plus the host's programs read-only.
    ///
    /// # Errors
    /// The configuration cannot be made.
    pub fn under_crun(&mut self, attacks: &[&Attack]) -> io::Result<BTreeMap<String, String>> {
        let bundle = self.folder.path().join("bundle");
        fs::create_dir_all(bundle.join("rootfs"))?;
        if !bundle.join("config.json").exists() {
            Command::new("crun").arg("spec").current_dir(&bundle).status()?;
        }
        let text = fs::read_to_string(bundle.join("config.json"))?;
        let mut config: serde_json::Value = serde_json::from_str(&text)?;
        let mut env: Vec<String> =
            self.world.to_env().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        env.push("PATH=/usr/bin:/bin".into());
        config["process"]["terminal"] = false.into();
        config["process"]["env"] = env.into();
        config["process"]["cwd"] = "/workspace".into();
        config["process"]["args"] = vec!["sh".into(), "-c".into(), one_after_another(attacks)].into();
        if let Some(mounts) = config["mounts"].as_array_mut() {
            mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
            let root = self.root().display().to_string();
            let shown =
                [("/usr", "/usr", "ro"), ("/etc", "/etc", "ro"), ("/bin", "/bin", "ro"), ("/lib", "/lib", "ro")];
            let shown = shown.into_iter().chain([("/lib64", "/lib64", "ro"), (root.as_str(), "/workspace", "rw")]);
            for (from, to, mode) in shown.filter(|(from, ..)| Path::new(from).exists()) {
                let options = ["rbind", "rprivate", mode];
                mounts
                    .push(serde_json::json!({ "destination": to, "source": from, "type": "bind", "options": options }));
            }
        }
        fs::write(bundle.join("config.json"), config.to_string())?;
        // crun refuses hosts that have both versions of control groups, unless the second one is not to be seen.
        let script = "test ! -d /sys/fs/cgroup/unified || mount -t tmpfs none /sys/fs/cgroup/unified; \
                      exec crun --root \"$1/state\" --cgroup-manager=disabled run --bundle \"$1\" attacked-$$";
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", SECONDS_MAX, "unshare", "--mount", "sh", "-c", script, "sh"]).arg(&bundle);
        Ok(lines_of_program(&self.inside(command), attacks))
    }

    /// Runs it in the repository with the partners' names.
    fn inside(&self, mut command: Command) -> Ended {
        self.give_away();
        command.current_dir(self.root()).stdin(Stdio::null()).env("OUTER_TOKEN", "of-the-person-outside");
        command.envs(self.world.to_env());
        finish(command)
    }

    fn revive(&mut self) {
        if !self.victim_lives() {
            self.victim = victim(self.who);
            self.world.victim = self.victim.id() as i32;
        }
    }

    fn victim_lives(&mut self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.victim.id())).unwrap_or_default();
        let state = status.lines().find_map(|line| line.strip_prefix("State:\t")).unwrap_or_default();
        matches!(self.victim.try_wait(), Ok(None)) && state.starts_with(['S', 'R'])
    }

    /// What of the outside was harmed; empty when all is well.
    pub fn harm(&mut self) -> Vec<String> {
        let mut harm = Vec::new();
        if !self.victim_lives() {
            harm.push("the process outside was killed or stopped".into());
        }
        if fs::read_to_string(self.world.outside.join("secret")).is_ok_and(|text| text != SECRET) {
            harm.push("the file outside was changed".into());
        }
        if priority(&self.victim.id().to_string()) != priority("self") {
            harm.push("the process outside was slowed down".into());
        }
        for path in ["/attacked", "/usr/share/attacked"] {
            if Path::new(path).exists() {
                harm.push(format!("{path} was made"));
            }
        }
        harm
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        if let Some(segment) = self.shared_memory {
            let _ = kernel::call(libc::SYS_shmctl, &[segment, libc::IPC_RMID as usize, 0]);
        }
    }
}

/// Whether the caller is root.
pub fn is_root() -> bool {
    kernel::users().1 == 0
}

/// The priority that was chosen for a process: the 17th field after its name, which may hold anything.
fn priority(process: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(16)).map(ToOwned::to_owned)
}

/// A process that sleeps, as the user whose steps attack it, so that only the sandbox protects it.
fn victim(who: Who) -> Child {
    let mut command = Command::new("sleep");
    if who == Who::User && is_root() {
        command = Command::new("setpriv");
        command
            .args(["--clear-groups", "--reuid"])
            .arg(USER.to_string())
            .arg("--regid")
            .arg(USER.to_string())
            .arg("sleep");
    }
    command.arg("600").stdin(Stdio::null()).spawn().expect("a process to attack")
}

/// The repository, with the program under the names that attacks use and a daemon's socket in it.
fn repository(root: &Path, program: &Path, who: Who) -> Option<UnixListener> {
    fs::create_dir(root).expect("a folder");
    for name in ["attacks", "setuid-program", "setgid-program", "capable-program"] {
        copy(program, &root.join(name));
    }
    fs::write(root.join(".gitignore"), "ignored.env\n").expect("a file");
    fs::write(root.join("ignored.env"), "TOKEN=x\n").expect("a file");
    for args in [&["init", "-q", "-b", "main"][..], &["add", ".gitignore"], &["commit", "-q", "-m", "A change"]] {
        let user = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"];
        let ended = Command::new("git").args(user).args(args).current_dir(root).status();
        assert!(ended.is_ok_and(|status| status.success()), "git {args:?} for {who:?}");
    }
    UnixListener::bind(root.join("daemon.sock")).ok()
}

/// By a process of its own: were it open to write here while another thread starts a process, nobody could execute it.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "cannot copy {} to {}", from.display(), to.display());
}

fn own(path: &Path) {
    let _ = std::os::unix::fs::lchown(path, Some(USER), Some(USER));
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            own(&entry.path());
        }
    }
}

/// A script that runs each in a process of its own.
fn one_after_another(attacks: &[&Attack]) -> String {
    let lines = attacks.iter().map(|attack| format!("timeout 20 ./attacks {}\n", attack.name));
    lines.collect()
}

/// Runs a command to its end.
///
/// # Panics
/// When it does not start.
pub fn finish(mut command: Command) -> Ended {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let read = |from: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.map(|mut from| from.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = read(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let err = read(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let code = child.wait().ok().and_then(|status| status.code());
    Ended { code, out: out.join().unwrap_or_default(), err: err.join().unwrap_or_default() }
}

/// The same, with the peak of memory that the program itself had, in MiB.
///
/// # Panics
/// When it does not start.
pub fn finish_with_peak(mut command: Command) -> (Ended, u64) {
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut err = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = err.as_mut().map(|err| err.read_to_string(&mut text));
        text
    });
    let mut peak = 0;
    let code = loop {
        match child.try_wait() {
            Ok(None) => peak = peak.max(peak_of_tree(child.id())),
            Ok(Some(status)) => break status.code(),
            Err(_) => break None,
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    (Ended { code, out: String::new(), err: reader.join().unwrap_or_default() }, peak)
}

/// The peak of the process called `pace` among this one and those below it; 0 when there is none.
fn peak_of_tree(top: u32) -> u64 {
    let mut rest = vec![top];
    while let Some(id) = rest.pop() {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        if field("Name") == Some("pace") {
            let kib = field("VmHWM").and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
            return kib.unwrap_or(0) / 1024;
        }
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        rest.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    }
    0
}

/// The attacks' lines in `pace`'s output, where each is preceded by its step.
fn lines_of_steps(ended: &Ended, attacks: &[&Attack]) -> BTreeMap<String, String> {
    let missing = || format!("no line; pace said\n{}\n{}", ended.out, ended.err);
    let line = |attack: &Attack| {
        let start = format!("{0} | {0}: ", attack.name);
        ended.out.lines().find_map(|line| line.strip_prefix(&start)).map_or_else(missing, ToOwned::to_owned)
    };
    attacks.iter().map(|attack| (attack.name.to_string(), line(attack))).collect()
}

fn lines_of_program(ended: &Ended, attacks: &[&Attack]) -> BTreeMap<String, String> {
    let line = |attack: &Attack| {
        let start = format!("{}: ", attack.name);
        let line = ended.out.lines().find_map(|line| line.strip_prefix(&start));
        line.map_or_else(|| format!("no line, exit code {:?}, {}", ended.code, ended.err.trim()), ToOwned::to_owned)
    };
    attacks.iter().map(|attack| (attack.name.to_string(), line(attack))).collect()
}
