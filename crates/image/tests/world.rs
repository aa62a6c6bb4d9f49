//! A cache folder, images made on the spot, and Debian's registry on a loopback port.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use image::{Add, Bundle, Credentials, Image, ImageError, Images, Lock, Options, Progress, Recipe, Reference, Watch};

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Whether a program is here. Under `CI` a missing one is a failure.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    let ci = std::env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "0" && ci != "false");
    assert!(found || !ci, "{program} is not installed; dev/test installs it");
    if !found {
        eprintln!("{program} is not installed; this test says nothing");
    }
    found
}

/// Hears what happens, and may stop it.
#[derive(Default)]
pub struct Ear {
    pub fetched: AtomicU64,
    pub unpacked: AtomicU64,
    pub notes: Mutex<Vec<String>>,
    pub stopped: AtomicBool,
    /// Stops when so many bytes came.
    pub stop_at: Option<u64>,
}

impl Watch for Ear {
    fn progress(&self, progress: Progress) {
        match progress {
            Progress::Fetched(bytes) => {
                let all = self.fetched.fetch_add(bytes, Ordering::SeqCst) + bytes;
                if self.stop_at.is_some_and(|stop_at| all >= stop_at) {
                    self.stopped.store(true, Ordering::SeqCst);
                }
            }
            Progress::Unpacked(_) => drop(self.unpacked.fetch_add(1, Ordering::SeqCst)),
            Progress::Note(note) => self.notes.lock().expect("notes").push(note),
            Progress::Begun { .. } => {}
        }
    }
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

/// A folder with a cache and files to build from.
pub struct World {
    pub folder: tempfile::TempDir,
}

impl World {
    pub fn new() -> World {
        let world = World { folder: tempfile::tempdir().expect("a folder") };
        fs::create_dir(world.path("src")).expect("sources");
        world
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, text).expect("a file");
    }
    pub fn images(&self) -> Images {
        self.images_with("cache", Credentials::none())
    }
    pub fn images_with(&self, cache: &str, credentials: Credentials) -> Images {
        let options = Options { credentials, ..Options::new(self.folder.path()) };
        Images::open(&self.path(cache), options).expect("images")
    }
    /// An image of two layers, built here.
    pub fn bundle(&self, images: &Images, mark: &str) -> Bundle {
        self.write("src/low/etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n");
        self.write("src/low/etc/low", mark);
        self.write("src/top/file", noise(mark, 300_000));
        let low = Recipe { add: vec![add("src/low:/")], user: Some("app".into()), ..Recipe::default() };
        let low = images.build(&low, &Lock::empty(), &Ear::default()).expect("low");
        images.write(&low, &reference("oci:low")).expect("layout");
        let top = Recipe {
            base: Some(reference("oci:low")),
            add: vec![add("src/top/:/opt")],
            env: vec![("MARK".into(), mark.into())],
            ..Recipe::default()
        };
        images.build(&top, &Lock::empty(), &Ear::default()).expect("top")
    }
}

/// Bytes that nothing can pack.
pub fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut state = seed
        .bytes()
        .fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

pub fn add(text: &str) -> Add {
    Add::parse(text).expect("add")
}

pub fn reference(text: &str) -> Reference {
    Reference::parse(text).expect("reference")
}

/// Resolves and fetches.
pub fn fetch(images: &Images, name: &str, lock: &Lock, ear: &Ear) -> Result<Image, ImageError> {
    let resolved = images.resolve(&reference(name), lock, ear)?;
    images.fetch(&resolved, ear)
}

/// Debian's registry, for as long as this lives.
pub struct Registry {
    pub port: u16,
    child: Child,
    pub folder: tempfile::TempDir,
}

impl Registry {
    pub fn open() -> Option<Registry> {
        Registry::start("")
    }
    /// With more of the configuration, indented as top-level keys.
    pub fn start(more: &str) -> Option<Registry> {
        if !has("docker-registry") {
            return None;
        }
        // The registry cannot tell which port it took, so a free one is looked for first; another may come between.
        for _ in 0..20 {
            let folder = tempfile::tempdir().expect("a folder");
            let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
            let data = folder.path().join("data");
            let config = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\n\
                 http: {{addr: \"127.0.0.1:{port}\"}}\n{}",
                data.display(),
                more.replace("FOLDER", &folder.path().display().to_string())
            );
            // bcrypt of `secret`.
            let line = "me:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";
            fs::write(folder.path().join("htpasswd"), line).expect("htpasswd");
            let path = folder.path().join("config.yml");
            fs::write(&path, config).expect("config");
            let child = Command::new("docker-registry")
                .arg("serve")
                .arg(&path)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the registry starts");
            let mut registry = Registry { port, child, folder };
            if registry.answers() {
                return Some(registry);
            }
        }
        panic!("the registry does not start");
    }
    fn answers(&mut self) -> bool {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            if !matches!(self.child.try_wait(), Ok(None)) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
    pub fn name(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a program that must succeed, with a deadline; returns what it says.
pub fn succeeds(program: &str, args: &[&str], folder: &Path) -> String {
    let mut child = Command::new("timeout")
        .arg("120")
        .arg(program)
        .args(args)
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("it starts");
    let mut said = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    assert!(child.wait().expect("it ends").success(), "{program} {args:?}\n{said}");
    said
}
