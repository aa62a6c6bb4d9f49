//! A folder of its own, and steps that run in it.

use std::ffi::OsString;
use std::fs;
use std::io::{PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sandbox::{Ability, Bind, Child, Exit, HostView, ImageRoot, Overlay, Root, SpawnError, Spec, Usage};

/// The name of the test that is a helper process when this variable says what to do.
pub const HELP: &str = "SANDBOX_TEST_HELP";
/// Longer than any of this takes on a busy machine; no test measures time.
const LONG: Duration = Duration::from_secs(60);

/// Whether sandboxes work here. Under CI they must, unless we are in a sandbox of our own already.
pub fn can_sandbox() -> bool {
    let dir = tempfile::tempdir().expect("the temporary folder is writable");
    let Ability::No { why, advice } = sandbox::probe(dir.path()).sandbox else { return true };
    let is = |name: &str| std::env::var(name).is_ok_and(|value| value == "true");
    assert!(!is("CI") || is("PACE"), "no sandbox works here: {why}; {advice}");
    eprintln!("not tested: no sandbox works here: {why}; {advice}");
    false
}

pub struct Scene {
    dir: tempfile::TempDir,
}

pub struct Ended {
    pub exit: Exit,
    pub usage: Usage,
    pub output: String,
}

impl Scene {
    pub fn new() -> Scene {
        Scene { dir: tempfile::tempdir().expect("the temporary folder is writable") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a folder.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("the temporary folder is writable");
        path
    }

    /// Makes a file, and its folder.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("is below the folder")).expect("made");
        fs::write(&path, text).expect("made");
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// An overlay at `/workspace` of these folders, with `upper` and `work` beside them.
    pub fn workspace(&self, lower: &[&str]) -> Overlay {
        Overlay {
            at: "/workspace".into(),
            lower: lower.iter().map(|name| self.folder(name)).collect(),
            upper: self.folder("upper"),
            work: self.folder("work"),
        }
    }

    /// A step with an empty workspace.
    pub fn step(&self, script: &str) -> Spec {
        let mut step = bare(&["sh", "-c", script]);
        step.overlays = vec![self.workspace(&["lower"])];
        step.cwd = "/workspace".into();
        step
    }

    pub fn runs(&self, script: &str) -> Ended {
        run(self.step(script))
    }
}

/// A sandbox with the host's tools and nothing else.
pub fn bare(argv: &[&str]) -> Spec {
    // Without HOME nothing of a home is shown.
    let detected = sandbox::host_view::detect(&Default::default());
    let view = HostView { private: vec!["/run".into(), "/var/tmp".into()], ..detected.view };
    Spec {
        env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        ..Spec::new(argv.iter().map(OsString::from).collect(), Root::Host(view))
    }
}

/// What a step shows of the host.
pub fn view(step: &mut Spec) -> &mut HostView {
    let Root::Host(view) = &mut step.root else { panic!("it has an image") };
    view
}

/// A step in an image of one layer, `layer`, that has the host's `/usr` for its tools.
pub fn image_step(scene: &Scene, script: &str) -> Spec {
    let layer = scene.folder("layer");
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), layer.join(name)).expect("made");
    }
    let root = ImageRoot { lower: vec![layer], upper: scene.folder("root-upper"), work: scene.folder("root-work") };
    Spec {
        env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        binds: vec![Bind { from: "/usr".into(), to: "/usr".into(), writable: false }],
        ..Spec::new(["sh", "-c", script].map(OsString::from).to_vec(), Root::Image(root))
    }
}

/// The image of a step.
pub fn image(step: &mut Spec) -> &mut ImageRoot {
    let Root::Image(image) = &mut step.root else { panic!("it has the host's root") };
    image
}

/// A step that is this test binary, told to do something.
pub fn helper(what: &str) -> Spec {
    let exe = std::env::current_exe().expect("we run");
    let mut step = bare(&["/run/helper", "the_other_side", "--exact", "--nocapture", "--test-threads=1"]);
    step.env.push((HELP.into(), what.into()));
    step.binds.push(Bind { from: exe, to: "/run/helper".into(), writable: false });
    step
}

/// The same outside of any sandbox.
pub fn helper_outside(what: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("we run"));
    command.args(["the_other_side", "--exact", "--nocapture", "--test-threads=1"]).env(HELP, what);
    command
}

pub fn start(mut step: Spec) -> Result<(Child, PipeReader), SpawnError> {
    let (reader, writer) = std::io::pipe().expect("pipes are to be had");
    step.stderr = Some(OwnedFd::from(writer.try_clone().expect("descriptors are to be had")));
    step.stdout = Some(OwnedFd::from(writer));
    step.spawn().map(|child| (child, reader))
}

pub fn run(step: Spec) -> Ended {
    let (mut child, mut reader) = start(step).unwrap_or_else(|error| panic!("{error}"));
    let mut output = Vec::new();
    reader.read_to_end(&mut output).expect("the pipe can be read");
    let (exit, usage) = child.wait().expect("nobody else waits");
    Ended { exit, usage, output: String::from_utf8_lossy(&output).into_owned() }
}

/// Reads up to and including this text.
pub fn read_until(reader: &mut impl Read, text: &str) -> String {
    let mut all = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&all).contains(text) {
        assert_eq!(
            reader.read(&mut byte).expect("can be read"),
            1,
            "it ended after {:?}",
            String::from_utf8_lossy(&all)
        );
        all.push(byte[0]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Processes of the whole host whose command line contains this.
pub fn processes_with(text: &str) -> usize {
    let Ok(entries) = fs::read_dir("/proc") else { return 0 };
    let lines = entries.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).replace('\0', " ").contains(text)).count()
}

/// Waits until it holds, for as long as a broken promise needs to be seen.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An argument for `sleep` that only this test uses.
pub fn a_long_time(test: u32) -> String {
    format!("{}.{test}", 100_000 + std::process::id())
}

/// Runs all other tests again as a user without any right, from a copy that it may read.
pub fn again_as(uid: u32, except: &[&str]) {
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().expect("the temporary folder is writable");
    let exe = dir.path().join("tests");
    // Another process copies: a descriptor for writing that a concurrent start inherits for a moment would keep the copy
    // from being executed.
    let copied = Command::new("cp").arg(std::env::current_exe().expect("we run")).arg(&exe).status();
    assert!(copied.is_ok_and(|status| status.success()), "copied");
    let home = dir.path().join("home");
    fs::create_dir(&home).expect("made");
    std::os::unix::fs::chown(&home, Some(uid), Some(uid)).expect("we are root");
    open_up(dir.path());
    open_up(&exe);
    let mut command = Command::new(&exe);
    for name in except {
        command.args(["--skip", name]);
    }
    command.arg("--test-threads=2").uid(uid).gid(uid).current_dir("/");
    let output = command.env("HOME", &home).env("TMPDIR", &home).output().expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "as user {uid}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    sandbox::remove_tree(&home).expect("we are root");
}

fn open_up(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}
