//! More than usual at once.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Mutex;

use serde_json::json;

use crate::scene::Scene;

/// Woodpecker on SQLite answers "database is locked" after about 40 of these.
#[test]
fn a_hundred_overlapping_requests_while_fifty_runs_are_active_all_become_runs() {
    let scene = Scene::new();
    let mut server = scene.serve(&["--agent-slots", "4"]);
    let mut runs: Vec<String> = (0..50).map(|n| scene.trigger(&format!("first-{n}"))).collect();
    let more = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for thread in 0..10 {
            let (scene, more) = (&scene, &more);
            threads.spawn(move || {
                for n in 0..10 {
                    let run = scene.trigger(&format!("more-{thread}-{n}"));
                    more.lock().expect("nobody panicked").push(run);
                }
            });
        }
    });
    runs.extend(more.into_inner().expect("nobody panicked"));
    scene.all_is_there(&runs);
    server.kill();
    scene.store_is_whole(150);
}

#[test]
fn asking_twice_with_one_key_gives_one_run() {
    let scene = Scene::new();
    let mut server = scene.serve(&[]);
    let first = scene.trigger("same");
    assert_eq!(scene.trigger("same"), first);
    scene.all_is_there(&[first]);
    server.kill();
    scene.store_is_whole(1);
}

#[test]
fn clients_that_send_one_byte_and_wait_keep_nobody_out() {
    let scene = Scene::new();
    let _server = scene.serve(&[]);
    let slow: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", scene.port)).expect("a connection");
            stream.write_all(b"P").expect("a byte");
            stream
        })
        .collect();
    let run = scene.trigger("beside");
    scene.all_is_there(&[run]);
    drop(slow);
}

#[test]
fn a_body_of_a_gigabyte_is_refused_before_it_is_read() {
    let scene = Scene::new();
    let server = scene.serve(&[]);
    for path in ["/hooks/demo", "/api/v1/projects/demo/runs"] {
        let mut stream = TcpStream::connect(("127.0.0.1", scene.port)).expect("a connection");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            scene.token,
            1 << 30
        );
        stream.write_all(head.as_bytes()).expect("a head");
        // It is refused while we send: then the connection is closed.
        let chunk = vec![b' '; 1 << 20];
        let sent = (0..1024).take_while(|_| stream.write_all(&chunk).is_ok()).count();
        assert!(sent < 1024, "{path} took a gigabyte");
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.0.id())).expect("its status");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its memory");
    let kib: u64 = memory.trim().trim_end_matches(" kB").trim().parse().expect("a number");
    assert!(kib < 400 << 10, "{kib} KiB at most");
    assert_eq!(scene.run("none")["status"], json!(404));
}
