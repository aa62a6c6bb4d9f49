//! buildbox-casd as a cache of its own in front of ours: content goes up and down in chunks.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::scene::{Server, read, run, tool};

/// Large enough to be cut into several chunks of half a mebibyte.
const LARGE_BYTES: usize = 8 << 20;

struct Casd {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Casd {
    /// An empty one in front of a server, whose instance `p` is that server's `main`.
    fn in_front_of(server: &Server, program: &Path) -> Casd {
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let remote = server.http();
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let child = Command::new(program)
            .args(["--bind", &format!("127.0.0.1:{port}"), &format!("--cas-remote={remote}"), "--cas-instance=main"])
            .args(["--proxy-instance=p:main", "--enable-chunking-for-instance=p", "--quota-high=5G"])
            .arg(folder.path().join("store"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("buildbox-casd starts");
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "it does not listen:\n{}", read(&folder.path().join("log")));
            std::thread::sleep(Duration::from_millis(20));
        }
        Casd { child, url: format!("http://127.0.0.1:{port}"), _folder: folder }
    }
}

impl Drop for Casd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// No pattern, and the same every time.
fn noise() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..LARGE_BYTES).map(|_| next()).collect()
}

#[test]
fn buildbox_casd_sends_and_fetches_content_in_chunks() {
    let (Some(casd), Some(bgd)) = (tool("buildbox-casd"), tool("buildgrid")) else { return };
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let (file, back) = (folder.path().join("large"), folder.path().join("back"));
    let mut content = noise();
    fs::write(&file, &content).expect("a file");
    let upload = |at: &Casd| {
        let args = ["cas", "--remote", &at.url, "--instance-name", "p", "upload-file"];
        run(Command::new(&bgd).args(args).arg(&file)).fine()
    };
    let first = Casd::in_front_of(&server, &casd);
    let said = upload(&first);
    assert!(
        server.calls("/SpliceBlob") + server.calls("/RegisterChunkMapping") >= 1,
        "it did not splice:\n{}",
        said.text
    );
    let digest = said.text.split_whitespace().find(|word| word.contains(&format!("/{LARGE_BYTES}")));
    let digest =
        digest.unwrap_or_else(|| panic!("no digest in {}", said.text)).trim_matches(|c: char| !c.is_alphanumeric());
    let digest = digest.to_owned();

    // One that has never seen it.
    let second = Casd::in_front_of(&server, &casd);
    let args = ["cas", "--remote", &second.url, "--instance-name", "p", "download-file", &digest];
    run(Command::new(&bgd).args(args).arg(&back)).fine();
    assert!(fs::read(&back).expect("it came") == content, "other bytes came back");
    assert!(server.calls("/SplitBlob") + server.calls("/GetChunkMapping") >= 1, "it did not split");

    // A byte in the middle changes: nearly all chunks are there already.
    content[LARGE_BYTES / 2] ^= 1;
    fs::write(&file, &content).expect("a file");
    upload(&first);
}
