//! Scenes of connections: what one does to the others.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use super::*;

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn running(change: impl FnOnce(&mut Config)) -> (tempfile::TempDir, Running) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::local(&folder.path().join("data"));
    change(&mut config);
    let running = serve(&config).unwrap();
    (folder, running)
}

fn connect(running: &Running) -> TcpStream {
    let stream = TcpStream::connect(running.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn request(stream: &mut (impl std::io::Read + std::io::Write), path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_socket_in_the_file_system_is_served_beside_an_address_and_is_gone_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("c.sock");
    // What a killed server leaves behind is not in the way.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let (_data, running) = running(|config| config.listen.push(Listen::Unix(socket.clone())));
    let answer = request(&mut UnixStream::connect(&socket).unwrap(), "/paceline/v1/stats");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = request(&mut connect(&running), "/paceline/v1/stats");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"blobs\":0"), "{answer}");
    assert_eq!(running.listens.len(), 2);
    assert!(running.stop(DEADLINE));
    assert!(!socket.exists());
}

#[test]
fn connections_beyond_the_limit_wait_for_their_turn() {
    let (_data, running) = running(|config| config.connections_max = 1);
    let first = connect(&running);
    let mut second = connect(&running);
    write!(second, "GET /paceline/v1/stats HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    second.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answer = String::new();
    assert!(second.read_to_string(&mut answer).is_err(), "it had its turn: {answer}");
    drop(first);
    second.set_read_timeout(Some(DEADLINE)).unwrap();
    second.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_line_is_written_for_each_request_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let (_data, running) = running(|config| config.log = Some(log.clone()));
    request(&mut connect(&running), "/paceline/v1/stats?signature=hidden");
    running.stop(DEADLINE);
    let deadline = std::time::Instant::now() + DEADLINE;
    let mut text = String::new();
    while !text.ends_with('\n') && std::time::Instant::now() < deadline {
        text = std::fs::read_to_string(&log).unwrap();
    }
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&line["method"], &line["path"], &line["status"]),
        (&"GET".into(), &"/paceline/v1/stats".into(), &200.into())
    );
    assert_eq!(line["who"], "anonymous");
    assert!(line["bytes"].as_u64().unwrap() > 10);
    assert!(!text.contains("hidden"));
}

async fn broken_handler() -> &'static str {
    panic!("a defect, on purpose")
}

#[test]
fn a_defect_ends_its_request_and_no_other() {
    let (_data, running) = running(|_| {});
    let hall = |running: &Running| Hall {
        service: running.service.clone(),
        http: axum::Router::new().fallback(broken_handler),
        grpc: axum::Router::new().fallback(broken_handler),
        tls: None,
        connections: Arc::new(Semaphore::new(1)),
        requests: Semaphore::new(1),
        journal: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let hall = hall(&running);
    let plain = Request::get("/").body(Body::empty()).unwrap();
    assert_eq!(runtime.block_on(answer(plain, "p".into(), &hall)).status(), 500);
    let grpc = Request::post("/").header("content-type", "application/grpc").body(Body::empty()).unwrap();
    assert_eq!(runtime.block_on(answer(grpc, "p".into(), &hall)).headers()["grpc-status"], "13");
}

#[test]
fn long_work_is_told_line_by_line_and_only_to_caretakers() {
    let post = |running: &Running, path: &str| {
        let mut stream = connect(running);
        write!(stream, "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let (_data, open) = running(|_| {});
    let answer = post(&open, "/paceline/v1/verify");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"damaged_blobs\":0"), "{answer}");
    assert!(post(&open, "/paceline/v1/gc").contains("\"freed_bytes\""));
    assert!(post(&open, "/paceline/v1/purge?writer=x&dry_run=true").contains("\"count\":0"));
    assert!(post(&open, "/paceline/v1/purge").starts_with("HTTP/1.1 400"));
    let read = crate::config::Anonymous::Rights(crate::access::Rights::Read);
    let (_data, closed) = running(|config| config.anonymous = Some(read));
    for path in ["/paceline/v1/verify", "/paceline/v1/gc", "/paceline/v1/purge?writer=x"] {
        assert!(post(&closed, path).starts_with("HTTP/1.1 401"), "{path}");
    }
}

#[test]
fn a_certificate_that_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cert.pem");
    std::fs::write(&path, "nothing").unwrap();
    let mut config = Config::local(&folder.path().join("data"));
    config.tls = Some(crate::config::Tls { cert: path.clone(), key: path.clone(), client_ca: None });
    let said = serve(&config).unwrap_err().to_string();
    assert!(said.contains("cert.pem"), "{said}");
}
