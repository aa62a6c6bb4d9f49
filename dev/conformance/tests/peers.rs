//! The checks themselves are checked with two servers of others: what those are known to do otherwise is found, and no more.

#![allow(clippy::unwrap_used)]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use conformance::{PEERS, Server, Target};

/// A peer's process; it ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buildgrid_deviates_where_it_is_known_to() {
    let Some(program) = installed("buildgrid") else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = folder.path().join("cache.yml");
    std::fs::write(&config, buildgrid_config(port, folder.path())).unwrap();
    let mut command = Command::new(program);
    command.args(["server", "start"]).arg(config);
    no_surprises(0, command, port, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn casd_deviates_where_it_is_known_to() {
    let Some(program) = installed("buildbox-casd") else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = Command::new(program);
    command.args(["--bind", &format!("127.0.0.1:{port}"), "--local-server-instance", "main", "--quota-high", "10G"]);
    command.arg(folder.path());
    no_surprises(1, command, port, "main").await;
}

async fn no_surprises(peer: usize, mut command: Command, port: u16, instance: &str) {
    let running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_for(port);
    let target = Target { address: format!("grpc://127.0.0.1:{port}"), instance: instance.into(), token: None };
    let server = Server::connect(&target).await.unwrap();
    let results = conformance::run(&server, &conformance::all()).await;
    drop(running);
    let surprises = conformance::surprises(&PEERS[peer], &results);
    assert!(surprises.is_empty(), "\n{}\n\n{}", surprises.join("\n"), conformance::table(&results));
}

/// The program that `dev/tools.sh` installs; says plainly if it cannot, and then there is nothing to test with.
fn installed(tool: &str) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools.sh");
    let output = Command::new(script).arg(tool).stderr(Stdio::inherit()).output().unwrap();
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && path.is_file() {
        return Some(path);
    }
    eprintln!(
        "dev/tools.sh cannot install {tool} here: what it told stands above; the checks were not checked with it"
    );
    None
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// BuildGrid takes four seconds to start, and forty on a busy machine.
fn wait_for(port: u16) {
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(180), "the peer does not listen after three minutes");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn buildgrid_config(port: u16, folder: &Path) -> String {
    let store = folder.join("cas");
    format!(
        "description: loopback cache
server:
  - !channel
    address: 127.0.0.1:{port}
    insecure-mode: true
authorization:
  method: none
monitoring:
  enabled: false
thread-pool-size: 50
storages:
  - !disk-storage &cas-disk
    path: {store}
caches:
  - !lru-action-cache &ac
    storage: *cas-disk
    max-cached-refs: 100000
    cache-failed-actions: true
    allow-updates: true
instances:
  - name: ''
    services:
      - !cas
        storage: *cas-disk
      - !bytestream
        storage: *cas-disk
      - !action-cache
        cache: *ac
",
        store = store.display()
    )
}
