//! What happens to the store when the disk is full, the folder read-only, a file unreadable, or a process killed.
//!
//! A full disk and a read-only folder need a mount of their own, hence root and a private mount namespace: the test runs
//! itself again below `unshare --mount`. Elsewhere these scenes say that they were left out; under `CI` they fail then.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cas::{ActionRecord, ActionStore, Layer, LayerEntry, LayerKind, Scratch, Snapshot, Store, StoreError, gc};
use model::{RunNumber, Timestamp};

const INSIDE: &str = "PACE_CAS_TEST_INSIDE";

/// Runs one test of this file again, changed by `change`; `false` if the host does not allow it.
fn again(test: &str, mut command: Command, inside: &Path) -> bool {
    let (_folder, program) = copy_of_itself();
    let output =
        command.arg(program).args([test, "--exact", "--nocapture"]).env(INSIDE, inside).output().expect("command");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if text.contains("running 1 test") {
        assert!(output.status.success(), "{text}");
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "the host does not allow `{test}`: {text}");
    eprintln!("left out: the host does not allow `{test}`: {text}");
    false
}

/// This program where any user may run it: the folder it was built in may be closed to others. `cp` writes the copy,
/// because a file that this process has open for writing cannot be executed, not even by a sibling thread's child.
fn copy_of_itself() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let copy = folder.path().join("again");
    let copied = Command::new("cp").arg(std::env::current_exe().expect("own path")).arg(&copy).status().expect("cp");
    assert!(copied.success());
    (folder, copy)
}

/// A mount of its own for one test.
fn with_mount(test: &str, options: &str) {
    let dir = tempfile::tempdir().expect("folder");
    let mut command = Command::new("unshare");
    let script = format!("mount -t tmpfs -o {options} none \"${INSIDE}\" && exec \"$@\"");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    again(test, command, dir.path());
}

fn inside() -> Option<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from)
}

#[test]
fn a_full_disk_is_an_error_that_says_so_and_harms_nothing() {
    let Some(dir) = inside() else {
        return with_mount("a_full_disk_is_an_error_that_says_so_and_harms_nothing", "size=2m");
    };
    let store = Store::open(&dir).expect("store");
    let kept = store.put(b"before").expect("put");
    let error = (0..100u8).find_map(|n| store.put(&vec![n; 100_000]).err()).expect("2 MiB are full at last");
    let text = error.to_string();
    assert!(text.starts_with("cannot write /") && text.contains("No space left on device"), "{text}");
    assert!(text.ends_with("free some space, `pace cache gc` may help"), "{text}");
    assert_eq!(fs::read_dir(dir.join("tmp")).expect("folder").count(), 0, "no half blobs");
    assert_eq!(store.get(&kept, 10).expect("get"), b"before");
    assert!(gc::verify(&dir).expect("verify").damaged.is_empty());
    let big = dir.join("tmp/big");
    assert!(fs::write(&big, vec![1; 200_000]).is_err());
    fs::remove_file(&big).expect("remove");
}

#[test]
fn a_read_only_folder_is_an_error_that_says_so() {
    let Some(dir) = inside() else {
        return with_mount("a_read_only_folder_is_an_error_that_says_so", "size=2m");
    };
    let store = Store::open(&dir).expect("store");
    let kept = store.put(b"before").expect("put");
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&dir).status().expect("mount");
    assert!(remounted.success());
    let text = store.put(b"after").expect_err("read-only").to_string();
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(text.ends_with("make it writable or choose another cache folder"), "{text}");
    assert_eq!(store.get(&kept, 10).expect("reading still works"), b"before");
    let text = Store::open(&dir).expect_err("read-only").to_string();
    assert!(text.starts_with("cannot write in folder /") && text.contains("Read-only file system"), "{text}");
    assert!(Scratch::open(&dir).is_err());
}

/// Permissions mean nothing to root, so root becomes somebody else for these.
fn as_nobody(test: &str) -> Option<PathBuf> {
    if let Some(dir) = inside() {
        return Some(dir);
    }
    let dir = tempfile::tempdir().expect("folder");
    if !is_root() {
        return Some(dir.keep());
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).expect("mode");
    let mut command = Command::new("env");
    command.uid(65534).gid(65534);
    again(test, command, dir.path());
    None
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nUid:\t0\t"))
}

#[test]
fn an_unreadable_file_is_an_error_that_names_it() {
    let Some(dir) = as_nobody("an_unreadable_file_is_an_error_that_names_it") else { return };
    let root = dir.join("project");
    fs::create_dir_all(root.join("sub")).expect("dir");
    fs::write(root.join("sub/secret"), "x").expect("file");
    fs::set_permissions(root.join("sub/secret"), fs::Permissions::from_mode(0o000)).expect("mode");
    let text = Snapshot::take(&root, &dir.join("index")).expect_err("unreadable").to_string();
    assert!(text.starts_with("cannot open /") && text.contains("/project/sub/secret: Permission denied"), "{text}");
    assert!(text.ends_with("make it readable or ignore it"), "{text}");
    fs::set_permissions(root.join("sub"), fs::Permissions::from_mode(0o000)).expect("mode");
    let text = Snapshot::take(&root, &dir.join("index")).expect_err("unreadable").to_string();
    assert!(text.starts_with("cannot list /") && text.contains("/project/sub: "), "{text}");
    fs::set_permissions(root.join("sub"), fs::Permissions::from_mode(0o700)).expect("mode");
    fs::write(root.join(".gitignore"), "secret\n").expect("file");
    assert_eq!(Snapshot::take(&root, &dir.join("index")).expect("ignored").files, 1);
}

#[test]
fn a_folder_of_somebody_else_is_an_error_that_says_so() {
    let Some(dir) = as_nobody("a_folder_of_somebody_else_is_an_error_that_says_so") else { return };
    fs::create_dir_all(dir.join("cache")).expect("dir");
    fs::set_permissions(dir.join("cache"), fs::Permissions::from_mode(0o555)).expect("mode");
    let text = Store::open(&dir.join("cache")).expect_err("not writable").to_string();
    assert!(text.contains("Permission denied") && text.ends_with("choose another cache folder"), "{text}");
}

/// This file again, as a process that puts blobs and records: `count` of them, or until it is killed.
fn putter(root: &Path, seed: u64, count: Option<u64>) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command.args(["putting", "--exact", "--nocapture"]).env(INSIDE, root).env("SEED", seed.to_string());
    command.env("COUNT", count.unwrap_or(u64::MAX).to_string()).stdout(Stdio::piped()).spawn().expect("own program")
}

/// Not a scene: what [`putter`] runs.
#[test]
fn putting() {
    let Some(root) = inside() else { return };
    let number = |name: &str| std::env::var(name).expect("set").parse::<u64>().expect("number");
    let (seed, count) = (number("SEED"), number("COUNT"));
    let (store, actions) = (Store::open(&root).expect("store"), ActionStore::open(&root).expect("actions"));
    let scratch = Scratch::open(&root).expect("scratch");
    println!("ready");
    for n in 0..count {
        put_one(&store, &actions, scratch.path(), seed, n).expect("put");
    }
}

fn put_one(store: &Store, actions: &ActionStore, scratch: &Path, seed: u64, n: u64) -> Result<(), StoreError> {
    // Sizes from a few bytes to a few blocks, so that a kill finds writes of every length.
    let bytes = format!("{seed} {n} ").repeat(1 << (n % 16));
    let file = scratch.join(n.to_string());
    fs::write(&file, &bytes).expect("scratch file");
    let digest =
        if n.is_multiple_of(2) { store.put_file(&file, n.is_multiple_of(4))? } else { store.put(bytes.as_bytes())? };
    let kind = LayerKind::File { digest, executable: false, mtime_ns: 0 };
    let layer = Layer { entries: vec![LayerEntry { path: "out".into(), kind }] };
    let record = ActionRecord {
        run: "r".into(),
        number: RunNumber(n),
        finished: Timestamp(n),
        exit: 0,
        took: Duration::ZERO,
        values: Default::default(),
        layer: Some(layer.put(store)?),
        log: None,
        artifacts: Vec::new(),
        reports: Vec::new(),
        cpu: Duration::ZERO,
        memory_peak: 0,
    };
    actions.record(&Store::digest_of(format!("action {n}").as_bytes()), &record)
}

fn wait_until_ready(child: &mut Child) {
    let lines = BufReader::new(child.stdout.as_mut().expect("piped")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.ends_with("ready")), "it begins");
}

#[test]
fn two_processes_may_put_the_same_at_once() {
    let dir = tempfile::tempdir().expect("folder");
    // The same seed: both put the same blobs and records.
    let children = [putter(dir.path(), 7, Some(300)), putter(dir.path(), 7, Some(300))];
    for mut child in children {
        assert!(child.wait().expect("wait").success());
    }
    let verified = gc::verify(dir.path()).expect("verify");
    assert_eq!((verified.damaged.len(), verified.records), (0, 0));
    let stats = gc::stats(dir.path()).expect("stats");
    assert_eq!((stats.actions, stats.blobs, stats.scratch_bytes), (300, 600, 0));
    assert_eq!(fs::read_dir(dir.path().join("tmp")).expect("folder").count(), 0);
}

#[test]
fn a_process_killed_at_any_moment_leaves_whole_blobs_and_complete_records() {
    let dir = tempfile::tempdir().expect("folder");
    for round in 0..12u64 {
        let mut child = putter(dir.path(), round, None);
        wait_until_ready(&mut child);
        std::thread::sleep(Duration::from_micros(3_000 + round * 2_777));
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    let verified = gc::verify(dir.path()).expect("verify");
    assert!(verified.blobs > 0);
    assert_eq!((verified.damaged, verified.records), (vec![], 0));
    let (store, actions) = (Store::open(dir.path()).expect("store"), ActionStore::open(dir.path()).expect("actions"));
    let found = (0..10_000).filter_map(|n| actions.lookup(&Store::digest_of(format!("action {n}").as_bytes())));
    let incomplete = found.filter(|record| !actions.complete(record, &store)).count();
    assert_eq!(incomplete, 0);
    Scratch::sweep(dir.path());
    assert_eq!(gc::stats(dir.path()).expect("stats").scratch_bytes, 0, "what they left is swept");
}

#[test]
fn a_blob_that_was_never_put_is_missing() {
    let dir = tempfile::tempdir().expect("folder");
    let store = Store::open(dir.path()).expect("store");
    let digest = Store::digest_of(b"never");
    assert!(matches!(store.get(&digest, 10), Err(StoreError::Missing(missing)) if missing == digest));
}
