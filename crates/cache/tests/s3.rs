//! The tier below in a bucket of a real S3 server: SeaweedFS, as `dev/tools.sh seaweedfs` installs it.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blobs::{Blobs, Entry, EntryId, Error, Function, Key, Options};
use bytes::Bytes;
use cache::config::S3Settings;
use cache::s3::{LowerTier, S3Stats};

/// What may take this long at most is broken, and not slow.
const PATIENCE: Duration = Duration::from_secs(120);
const ROOM: u64 = 24 << 20;

/// An S3 server. One at a time: each takes two hundred megabytes of memory.
struct Weed {
    program: PathBuf,
    dir: tempfile::TempDir,
    ports: Vec<u16>,
    child: Option<Child>,
    _alone: MutexGuard<'static, ()>,
}

impl Weed {
    /// `None` when it cannot be had; then the reason was told. Not having it is a failure under `CI`.
    fn start() -> Option<Weed> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/tools.sh");
        let told = Command::new(script).arg("seaweedfs").stderr(Stdio::inherit()).output().expect("bash is there");
        if !told.status.success() {
            assert!(std::env::var_os("CI").is_none(), "dev/tools.sh seaweedfs failed, and CI must not go without");
            eprintln!("SKIPPED: dev/tools.sh seaweedfs failed; it needs python3-venv and a package index");
            return None;
        }
        let program = PathBuf::from(String::from_utf8(told.stdout).expect("a path").trim());
        let dir = tempfile::tempdir().expect("a folder");
        // Keys are read from the environment, which a test must not change: Cargo says these two.
        let keys =
            format!(r#"{{"accessKey":"{}","secretKey":"{}"}}"#, env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        let identity =
            r#"{"identities":[{"name":"pace","credentials":[KEYS],"actions":["Admin","Read","Write","List"]}]}"#;
        fs::write(dir.path().join("s3.json"), identity.replace("KEYS", &keys)).expect("written");
        fs::create_dir(dir.path().join("data")).expect("made");
        let mut weed = Weed { program, dir, ports: Vec::new(), child: None, _alone: alone };
        // It takes the ports that it is told, so free ones are looked for first; another may come between.
        let starts = (0..10).any(|_| {
            weed.ports = free_ports(8);
            weed.up()
        });
        assert!(starts, "it does not start: {}", fs::read_to_string(weed.dir.path().join("log")).unwrap_or_default());
        Some(weed)
    }

    /// Starts it; `false` when it ended at once.
    fn up(&mut self) -> bool {
        let names = ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc"];
        let names = names.into_iter().chain(["filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc"]);
        let ports = names.zip(&self.ports).map(|(name, port)| format!("-{name}={port}"));
        let log = fs::File::create(self.dir.path().join("log")).expect("a log");
        let mut command = Command::new(&self.program);
        command.args([
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-s3",
            "-s3.autoCreateBucket",
            "-volume.max=20",
        ]);
        command.arg(format!("-dir={}", self.dir.path().join("data").display())).args(ports);
        command.arg(format!("-s3.config={}", self.dir.path().join("s3.json").display()));
        command.current_dir(self.dir.path()).stdout(log.try_clone().expect("a log")).stderr(log).stdin(Stdio::null());
        self.child = Some(command.spawn().expect("it starts"));
        let port = self.ports[6];
        let mut ended = false;
        until("the S3 server listens", || {
            ended = self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|status| status.is_some()));
            ended || TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        !ended
    }

    fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn settings(&self, prefix: &str) -> S3Settings {
        S3Settings {
            bucket: "builds".into(),
            endpoint: Some(format!("http://127.0.0.1:{}", self.ports[6])),
            region: Some("us-east-1".into()),
            prefix: Some(prefix.into()),
            access_key_env: Some("CARGO_PKG_NAME".into()),
            secret_key_env: Some("CARGO_PKG_VERSION".into()),
            allow_http: true,
        }
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        self.down();
    }
}

fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    listeners.iter().map(|one| one.local_addr().expect("bound").port()).collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}: not after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A store with a bucket below.
struct Cache {
    // In the order in which they end.
    lower: LowerTier,
    blobs: Blobs,
    _runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Cache {
    fn open(settings: &S3Settings) -> Cache {
        let dir = tempfile::tempdir().expect("a folder");
        let options = Options { bytes_max: ROOM, lease: Duration::ZERO, memory_bytes: 0, ..Options::default() };
        let blobs = Blobs::open(dir.path(), options).expect("it opens");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
        let lower = LowerTier::start(settings, &blobs, runtime.handle()).expect("the settings are right");
        Cache { lower, blobs, _runtime: runtime, _dir: dir }
    }

    fn puts(&self, numbers: std::ops::Range<u64>, size: usize) -> Vec<Key> {
        let put = |number: u64| {
            let bytes = Bytes::from(noise(number, size));
            let key = Function::Sha256.key_of(&bytes);
            self.blobs.put_many(&[(key, bytes)]).remove(0).expect("it is stored");
            key
        };
        numbers.map(put).collect()
    }

    fn has(&self, key: &Key) -> bool {
        match self.blobs.get(key, 64 << 20) {
            Ok(bytes) => {
                assert!(key.function.key_of(&bytes) == *key, "{key} was served wrong");
                true
            }
            Err(Error::Missing(_)) => false,
            Err(err) => panic!("{err}"),
        }
    }

    fn stats(&self) -> S3Stats {
        self.lower.stats()
    }

    fn all_is_copied(&self) {
        until("all is copied", || self.stats().tier.waiting == 0);
    }
}

/// The same bytes for the same number, which nothing makes smaller.
fn noise(number: u64, size: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let word = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..size.div_ceil(8)).flat_map(word).collect();
    bytes.truncate(size);
    bytes
}

fn entry(needs: &[Key]) -> (EntryId, Entry) {
    let id = EntryId { space: "main".into(), hash: needs[0].hash };
    (id, Entry { value: "result".into(), needs: needs.to_vec(), writer: "ci".into(), written: 5 })
}

#[test]
fn what_the_disk_had_no_room_for_comes_back_from_the_bucket() {
    let Some(weed) = Weed::start() else { return };
    let cache = Cache::open(&weed.settings("a/b"));
    let large = cache.puts(1_000_000..1_000_001, 5 << 20);
    let mut keys = Vec::new();
    let mut entries = Vec::new();
    for round in 0..8u64 {
        let written = cache.puts(round * 100..round * 100 + 64, 100 << 10);
        let (id, entry) = entry(&written[..3]);
        cache.blobs.set_entry(&id, entry.clone()).expect("it is stored");
        entries.push((id, entry));
        keys.extend(written);
        cache.all_is_copied();
    }
    let gone = cache.blobs.missing(&keys);
    assert!(gone.len() > keys.len() / 3, "{} of {} are only below", gone.len(), keys.len());
    assert_eq!(cache.stats().tier.overtaken, 0);
    let (id, first) = &entries[0];
    assert_eq!(cache.blobs.entry(id).as_ref(), Some(first), "an entry comes back with its blobs");
    assert!(cache.blobs.missing(&first.needs).is_empty());
    let start = Instant::now();
    let lost = keys.iter().chain(&large).filter(|key| !cache.has(key)).count();
    assert_eq!(lost, 0, "{:?}", cache.stats());
    let stats = cache.stats();
    println!("{} blobs read, {} brought back, in {:?}: {stats:?}", keys.len(), stats.tier.recalled, start.elapsed());
    // Copies may have failed: the server listens before it is ready, and they are tried again.
    assert_eq!(stats.tier.unreachable, 0);
}

#[test]
fn a_bucket_that_is_gone_for_a_while_hangs_nobody_and_misses_nothing() {
    let Some(mut weed) = Weed::start() else { return };
    let cache = Cache::open(&weed.settings("outage"));
    let mut keys = Vec::new();
    for round in 0..4u64 {
        keys.extend(cache.puts(round * 100..round * 100 + 100, 100 << 10));
        cache.all_is_copied();
    }
    let gone: Vec<Key> = cache.blobs.missing(&keys).into_iter().map(|at| keys[at]).collect();
    assert!(!gone.is_empty());
    weed.down();
    // Writing goes on, and what is below is a miss; that takes no longer than one refusal and the breaker's rest.
    let more = cache.puts(5_000..5_050, 100 << 10);
    let start = Instant::now();
    assert!(gone.iter().all(|key| !cache.has(key)), "nothing can come from a server that is down");
    println!("{} misses with the server down in {:?}", gone.len(), start.elapsed());
    assert!(more.iter().all(|key| cache.has(key)), "what is here is here");
    let told = || cache.stats().last_error.is_some_and(|why| why.contains("to the bucket"));
    until("it is said that copies fail", told);
    assert!(cache.stats().failed > 0);
    assert!(cache.stats().tier.waiting > 0);
    assert!(weed.up(), "its ports are its own still");
    cache.all_is_copied();
    until("the bucket is asked again", || cache.has(&gone[0]));
    let mut lost = 0;
    for key in keys.iter().chain(&more) {
        lost += usize::from(!cache.has(key));
    }
    // Segments of what came back may be emptied before they are copied once more: their blobs are below already.
    assert_eq!(lost, 0, "{:?}", cache.stats());
    assert_eq!(cache.stats().last_error, None);
}

#[test]
fn a_new_disk_finds_what_the_old_one_had_copied() {
    let Some(weed) = Weed::start() else { return };
    let settings = weed.settings("restore");
    let old = Cache::open(&settings);
    let keys = old.puts(0..100, 100 << 10);
    let (id, entry) = entry(&keys[..10]);
    old.blobs.set_entry(&id, entry.clone()).expect("it is stored");
    // Until the segment with these is full.
    old.puts(10_000..10_020, 100 << 10);
    old.all_is_copied();
    let copies = old.stats().tier.copies;
    assert!(copies > 0);
    drop(old);
    let new = Cache::open(&settings);
    until("the copies are found", || new.stats().tier.copies == copies);
    assert_eq!(new.blobs.missing(&keys).len(), keys.len());
    assert_eq!(new.blobs.entry(&id), Some(entry));
    assert!(keys.iter().all(|key| new.has(key)));
}

#[test]
fn settings_that_are_no_bucket_are_refused_when_it_starts() {
    let dir = tempfile::tempdir().expect("a folder");
    let blobs = Blobs::open(dir.path(), Options::default()).expect("it opens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads");
    let settings = S3Settings {
        bucket: "builds".into(),
        endpoint: Some("http://127.0.0.1:1".into()),
        region: None,
        prefix: None,
        access_key_env: Some("PACE_TEST_NOT_SET".into()),
        secret_key_env: None,
        allow_http: true,
    };
    let told = LowerTier::start(&settings, &blobs, runtime.handle()).expect_err("there is no key").to_string();
    assert_eq!(
        told,
        "[s3] access_key_env names the variable PACE_TEST_NOT_SET, which is not set; set it or remove the line"
    );
}
