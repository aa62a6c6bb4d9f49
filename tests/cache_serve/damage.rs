//! Disks that are full or lie.

use std::path::{Path, PathBuf};
use std::process::Command;

use remote::Received;

use crate::server::{PACE, Place, Server, blob, digest, noise, result};

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path()),
            _ => vec![entry.path()],
        })
        .collect()
}

/// Flips one bit in the middle of where these bytes are stored.
fn damage(folder: &Path, bytes: &[u8]) {
    let needle = &bytes[bytes.len() / 2..bytes.len() / 2 + 64];
    let mut found = 0;
    for path in files(folder) {
        let mut content = std::fs::read(&path).expect("read");
        if let Some(at) = content.windows(needle.len()).position(|window| window == needle) {
            content[at] ^= 1;
            std::fs::write(&path, content).expect("written");
            found += 1;
        }
    }
    assert!(found > 0, "the bytes are in no file");
}

#[test]
fn a_damaged_byte_is_never_served_and_heals_when_the_blob_comes_again() {
    for size in [3_000, 300_000, 6_000_000] {
        let place = Place::new();
        let bytes = noise(size as u64, size);
        let (file, action) = (digest(&bytes), digest(b"action"));
        let server = place.serves(&[]);
        let client = server.client("main", None);
        client.upload(&[blob(bytes.clone())]).expect("uploaded");
        client.set_action(&action, &result(&[file])).expect("written");
        server.stop();
        damage(&place.path("data"), &bytes);

        let server = place.serves(&[]);
        let client = server.client("main", None);
        let folder = tempfile::tempdir().expect("a folder");
        // An error is right, too: a stream whose later part is damaged has begun already.
        let fetched = client.download(&[file], folder.path(), &mut |_, _| panic!("damaged bytes were served"));
        assert!(fetched.as_ref().map_or(true, |fetched| !fetched.is_whole()), "{size}: {fetched:?}");
        assert_eq!(client.missing(&[file]).expect("asked"), [file], "{size}: it is still said to be there");
        assert!(client.action(&action, None).expect("asked").is_none(), "{size}: its action has a result");
        client.upload(&[blob(bytes.clone())]).expect("uploaded again");
        let mut whole = false;
        let mut take = |_, received| {
            whole = match received {
                Received::Bytes(read) => read == bytes,
                Received::File(path) => std::fs::read(path)? == bytes,
            };
            Ok(())
        };
        client.download(&[file], folder.path(), &mut take).expect("read");
        assert!(whole, "{size}: it did not heal");
        server.stop();
    }
}

#[test]
fn verify_finds_a_damaged_byte_and_says_so_by_its_exit_code() {
    let place = Place::new();
    let bytes = noise(5, 5_000);
    let server = place.serves(&[]);
    server.client("", None).upload(&[blob(bytes.clone()), blob(noise(6, 5_000))]).expect("uploaded");
    server.stop();
    damage(&place.path("data"), &bytes);
    let data = place.arg("data");
    let verified = place.pace(&["--output", "json", "cache", "verify", "--data", &data]).code(11).json();
    assert_eq!(verified["damaged_blobs"], 1, "{verified}");
    assert!(verified["damaged"][0].as_str().expect("a digest").contains(&digest(&bytes).hex()), "{verified}");
    place.pace(&["cache", "verify", "--data", &data]).code(0);
}

/// Fills a server until it has taken several times what it may hold, and sees that it stays a cache.
fn fill(server: &Server, bytes: u64) {
    let client = server.client("", None);
    let mut sent = 0;
    let mut refused = 0;
    for seed in 1000.. {
        let blob = blob(noise(seed, 500_000));
        match client.upload(std::slice::from_ref(&blob)) {
            Ok(_) => {
                assert_eq!(client.missing(&[blob.digest]).expect("asked"), [], "an acknowledged blob is not there")
            }
            Err(remote::Error::Refused { why, .. }) => {
                assert!(why.contains("ResourceExhausted"), "{why}");
                refused += 1;
            }
            Err(other) => panic!("a full store says {other}"),
        }
        sent += 500_000;
        if sent > bytes || refused > 20 {
            break;
        }
    }
    assert!(client.missing(&[digest(b"nothing")]).is_ok());
}

#[test]
fn a_store_that_is_full_makes_room_or_says_so() {
    let place = Place::new();
    let server = place.serves(&["--max-size", "24MiB", "--lease", "1s"]);
    fill(&server, 60_000_000);
    server.stop();
    place.pace(&["cache", "verify", "--data", &place.arg("data")]).code(0);
    let bytes: u64 =
        files(&place.path("data")).iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum();
    assert!(bytes < 64 << 20, "{bytes} bytes are kept of 24 MiB");
}

/// A disk of its own: a file system in memory, in a mount namespace that ends with the server.
#[test]
fn a_full_disk_costs_writes_and_nothing_else() {
    let place = Place::new();
    let data = place.path("data");
    std::fs::create_dir(&data).expect("a folder");
    let script = format!(
        "mount -t tmpfs -o size=32m tmpfs {0} && {PACE} cache serve --listen 127.0.0.1:0 --data {0}/store --max-size 1GiB; \
         code=$?; {PACE} cache verify --data {0}/store >&2 || exit 99; exit $code",
        data.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", &script]);
    command.env("PACE_CACHE_DIR", place.path("cache")).env("PACE_STATE_DIR", place.path("state"));
    let possible = Command::new("unshare").args(["--mount", "--map-root-user", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("left out: no mount namespaces here");
        return;
    }
    let mut server = Server::start(command);
    fill(&server, 100_000_000);
    let kept = noise(1000, 500_000);
    let folder = tempfile::tempdir().expect("a folder");
    let fetched = server.client("", None).download(&[digest(&kept)], folder.path(), &mut |_, _| Ok(()));
    assert!(fetched.expect("read").is_whole(), "what was stored before is gone");
    // The shell waits for the server, and then verifies what it left.
    let children =
        std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.child.id())).expect("children");
    let pid: i32 = children.split_whitespace().next().expect("one").parse().expect("a number");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it lives");
    assert_eq!(server.ends(), Some(0));
}
