//! `pace image`: what a person sees who builds, locks, pushes and pulls.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Repo;

/// Debian's registry, as long as this lives. `None` where it is not installed; under `CI` that is a failure.
struct Registry {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn open() -> Option<Registry> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("docker-registry").exists()) {
            let ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "0" && ci != "false");
            assert!(!ci, "docker-registry is not installed; dev/test installs it");
            return None;
        }
        // The registry cannot tell which port it took, so a free one is looked for first; another may come between.
        (0..20).find_map(|_| {
            let folder = tempfile::tempdir().expect("a folder");
            let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
            let config = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http: {{addr: \"127.0.0.1:{port}\"}}\n",
                folder.path().join("data").display()
            );
            let file = folder.path().join("config.yml");
            fs::write(&file, config).expect("config");
            let mut command = Command::new("docker-registry");
            let child = command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut registry = Registry { child: child.expect("it starts"), port, _folder: folder };
            registry.answers().then_some(registry)
        })
    }
    fn answers(&mut self) -> bool {
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
    fn name(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PIPELINE: &str = "name: images\nsteps:\n  - id: a\n    image: oci:made:one\n    cmd: echo a\n  - id: b\n    \
    matrix: { tag: [one, two] }\n    image: \"oci:made:${{ matrix.tag }}\"\n    cmd: echo b\n";

fn repo() -> Repo {
    let repo = Repo::with(&[("paceline.yaml", PIPELINE), ("hello", "hello\n"), (".gitignore", "made/\n")]);
    build(&repo, "one", "oci:made:one");
    build(&repo, "two", "oci:made:two");
    repo
}

fn build(repo: &Repo, mark: &str, to: &str) {
    let mark = format!("MARK={mark}");
    let args = ["image", "build", "--base", "scratch", "--add", "hello:/etc/hello", "--env", &mark, "--to", to];
    repo.pace(&args).code(0).says("sha256:").says(&format!("is in {to}"));
}

#[test]
fn the_images_of_a_pipeline_are_locked_and_a_change_is_refused() {
    let repo = repo();
    repo.pace(&["image", "lock"]).code(0).says("oci:made:one sha256:").says("oci:made:two sha256:");
    let lock = fs::read_to_string(repo.root().join("paceline.lock")).expect("the lock");
    let names: Vec<&str> = lock.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["#", "oci:made:one", "oci:made:two"]);
    repo.pace(&["image", "ls"]).code(0).says("oci:made:one sha256:").says("not here");
    repo.pace(&["image", "pull", "oci:made:one"]).code(0).says("1 layers ready");
    repo.pace(&["image", "ls"]).code(0).says(" ready");
    build(&repo, "three", "oci:made:one");
    repo.pace(&["image", "pull", "oci:made:one"]).code(2).complains("is locked to").complains("pace image lock");
    repo.pace(&["image", "lock", "oci:made:one"]).code(0).says(", was sha256:");
    repo.pace(&["image", "pull", "oci:made:one"]).code(0);
}

#[test]
fn an_image_is_pushed_and_pulled() {
    let Some(registry) = Registry::open() else { return };
    let repo = repo();
    let name = registry.name("team/app:1");
    let pushed = repo.pace(&["image", "push", "oci:made:one", &name, "--output", "json"]).code(0);
    let digest = pushed.events()[0]["digest"].as_str().expect("a digest").to_owned();
    let pulled = repo.pace(&["image", "pull", &name, "--output", "json"]).code(0);
    let row = &pulled.events()[0];
    assert_eq!((row["digest"].as_str(), row["image"].as_str()), (Some(digest.as_str()), Some(name.as_str())));
    let layer = row["layers"][0].as_str().expect("a layer");
    assert_eq!(fs::read_to_string(format!("{layer}/etc/hello")).expect("hello"), "hello\n");
    repo.pace(&["image", "pull", &registry.name("none:1")]).code(13).complains("the registry answers 404");
}

#[test]
fn mistakes_have_their_exit_codes() {
    let repo = Repo::new("name: x\nsteps: [{ id: a, cmd: echo a }]\n");
    repo.pace(&["image", "pull", "NOT AN IMAGE"]).code(2).complains("`NOT AN IMAGE` names no image");
    repo.pace(&["image", "push", "oci:made", "oci:other"]).code(2).complains("is not in a registry");
    repo.pace(&["image", "pull", "oci:absent"]).code(11).complains("cannot open");
    let wrong = ["image", "build", "--base", "scratch", "--add", "hello", "--to", "oci:made"];
    repo.pace(&wrong).code(2).complains("files are added as SOURCE:DESTINATION");
    repo.write("paceline.lock", "rubbish\n");
    repo.pace(&["image", "ls"]).code(2).complains("paceline.lock: line 1, `rubbish`, is not a name and a digest");
}

#[test]
fn unpacked_layers_are_counted_and_collected() {
    let repo = repo();
    repo.pace(&["image", "pull", "oci:made:one"]).code(0);
    repo.pace(&["cache", "stats"]).code(0).says("image layers       1");
    repo.pace(&["cache", "gc", "--max-size", "0"]).code(0).says("image layers       1");
    repo.pace(&["cache", "stats"]).code(0).says("image layers       0");
    repo.pace(&["image", "pull", "oci:made:one"]).code(0);
}
