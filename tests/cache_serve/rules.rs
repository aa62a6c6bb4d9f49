//! How a server starts, refuses to start, is looked after, and ends.

use std::io::{Read as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::server::{DEADLINE, Place, blob, digest, noise, result};

#[test]
fn a_cache_that_others_can_reach_does_not_start_open_by_mistake() {
    let place = Place::new();
    let data = place.arg("data");
    let serve = |args: &[&str]| place.pace(&[&["cache", "serve", "--check", "--data", &data], args].concat());
    serve(&["--listen", "0.0.0.0:0"]).code(2).says("--anonymous none|read|content|write");
    serve(&["--listen", "0.0.0.0:0", "--anonymous", "read"]).code(0).says("anonymous = \"read\"");
    serve(&["--listen", "0.0.0.0:0", "--tokens", "/tokens"]).code(0).says("anonymous = \"none\"");
    serve(&[]).code(0).says("anonymous = \"write\"");
}

#[test]
fn a_configuration_is_read_and_flags_go_before_it() {
    let place = Place::new();
    let config = place.arg("cache.toml");
    std::fs::write(&config, "max_size = '3GiB'\nlease = '5m'\nlisten = ['127.0.0.1:0']\n").expect("written");
    let said = place.pace(&["cache", "serve", "--check", "--config", &config, "--lease", "7m"]).code(0);
    assert!(said.out.contains("max_size = \"3221225472B\"") && said.out.contains("lease = \"420s\""), "{}", said.out);
    std::fs::write(&config, "maxsize = '3GiB'\n").expect("written");
    let said = place.pace(&["cache", "serve", "--check", "--config", &config]).code(2);
    said.says("line 1, column 1").says("did you mean `max_size`?");
}

#[test]
fn a_running_cache_is_looked_after_from_elsewhere_and_a_stopped_one_in_its_folder() {
    let place = Place::new();
    let server = place.serves(&[]);
    let client = server.client("main", None);
    let file = noise(1, 5000);
    client.upload(&[blob(file.clone())]).expect("uploaded");
    let action = digest(b"action");
    client.set_action(&action, &result(&[digest(&file)])).expect("written");
    let url = server.url();
    let ask = |args: &[&str]| place.pace(&[&["--output", "json", "cache"], args, &["--url", &url]].concat());
    assert_eq!(ask(&["stats"]).code(0).json()["entries"], 1);
    assert_eq!(ask(&["verify"]).code(0).json()["damaged_blobs"], 0);
    assert!(ask(&["gc"]).code(0).json()["left_blobs"].as_u64().expect("a number") >= 1);
    let found = ask(&["who", &action.hex()]).code(0).json();
    assert_eq!((&found["entries"][0]["writer"], &found["entries"][0]["domain"]), (&"anonymous".into(), &"main".into()));
    assert_eq!(ask(&["purge", "--writer", "anonymous", "--dry-run"]).code(0).json()["count"], 1);
    assert!(client.action(&action, None).expect("asked").is_some());
    assert_eq!(ask(&["purge", "--writer", "anonymous"]).code(0).json()["count"], 1);
    assert!(client.action(&action, None).expect("asked").is_none());
    ask(&["who", &action.hex()]).code(13);
    let data = place.arg("data");
    place.pace(&["cache", "stats", "--data", &data]).code(11).says("--url");
    server.stop();
    place.pace(&["cache", "verify", "--data", &data]).code(0);
    let stats = place.pace(&["--output", "json", "cache", "stats", "--data", &data]).code(0).json();
    assert!(stats["blobs"].as_u64().expect("a number") >= 1, "{stats}");
    place.pace(&["cache", "stats", "--data", &place.arg("nowhere")]).code(2);
}

#[test]
fn a_signal_lets_requests_finish_that_run() {
    let place = Place::new();
    let mut server = place.serves(&[]);
    let (done, lost, ending) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (server, done, lost, ending) = (&server, &done, &lost, &ending);
            scope.spawn(move || {
                let client = server.client("", None);
                for round in 0.. {
                    // Begun before the signal: it must come to its end. What begins later may be turned away.
                    let before = !ending.load(Ordering::SeqCst);
                    let sent = client.upload(&[blob(noise(thread << 32 | round, 300_000))]);
                    match sent {
                        Ok(_) => done.fetch_add(1, Ordering::SeqCst),
                        Err(_) if !before => break,
                        Err(error) if ending.load(Ordering::SeqCst) => {
                            // It may have begun in the moment of the signal, and then never reached the server.
                            let text = error.to_string();
                            if !["refused", "GoAway", "goaway", "tcp connect", "transport"]
                                .iter()
                                .any(|word| text.contains(word))
                            {
                                lost.fetch_add(1, Ordering::SeqCst);
                                eprintln!("lost: {text}");
                            }
                            break;
                        }
                        Err(error) => panic!("before the signal: {error}"),
                    };
                }
            });
        }
        let deadline = Instant::now() + DEADLINE;
        while done.load(Ordering::SeqCst) < 8 {
            assert!(Instant::now() < deadline, "nothing is uploaded");
            std::thread::sleep(Duration::from_millis(5));
        }
        ending.store(true, Ordering::SeqCst);
        server.signal(Signal::TERM);
    });
    assert_eq!(server.ends(), Some(0));
    assert_eq!(lost.load(Ordering::SeqCst), 0);
    let data = place.arg("data");
    let verified = place.pace(&["--output", "json", "cache", "verify", "--data", &data]).code(0).json();
    assert!(verified["blobs"].as_u64().expect("a number") >= done.load(Ordering::SeqCst) as u64, "{verified}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let place = Place::new();
    let mut server = place.serves(&[]);
    // A request that does not end: its body never comes. It has begun when the server asks for the body.
    let mut stuck = std::net::TcpStream::connect(&server.address).expect("connected");
    stuck.set_read_timeout(Some(DEADLINE)).expect("a time");
    let put = "PUT /cas/0000000000000000000000000000000000000000000000000000000000000000 HTTP/1.1\r\nhost: x\r\n\
               expect: 100-continue\r\ncontent-length: 10\r\n\r\n";
    stuck.write_all(put.as_bytes()).expect("written");
    let mut asked = [0; 12];
    stuck.read_exact(&mut asked).expect("an answer");
    assert_eq!(&asked, b"HTTP/1.1 100");
    stuck.write_all(b"abc").expect("written");
    server.signal(Signal::TERM);
    // Two of one kind that come together are one.
    server.signal(Signal::INT);
    assert_eq!(server.ends(), Some(12));
}
