//! A registry that behaves as this test wants: token servers, redirects, refusals, broken connections, lies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use image::{Credentials, ImageError, Lock, MANIFEST_BYTES_MAX, Refusal, Sum};

use crate::world::{Ear, World, fetch, noise};

/// A request as it came.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
    fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// What is said to it: status, headers, body, and after how many bytes of it the connection breaks.
struct Said {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    breaks_after: Option<usize>,
}

fn said(status: u16, headers: &[&str], body: impl Into<Vec<u8>>) -> Said {
    Said { status, headers: headers.iter().map(|h| h.to_string()).collect(), body: body.into(), breaks_after: None }
}

type Answer = dyn Fn(&Asked, usize) -> Said + Send + Sync;

/// An HTTP server on a loopback port; it ends with the test's process.
struct Fake {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// `answer` hears the request and how many came before it.
    fn new(answer: impl Fn(&Asked, usize) -> Said + Send + Sync + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (heard, answer): (_, Arc<Answer>) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (heard, answer) = (heard.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &heard, &*answer));
            }
        });
        Fake { port, asked }
    }
    fn name(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }
    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("asked").clone()
    }
}

fn serve(stream: TcpStream, heard: &Mutex<Vec<Asked>>, answer: &Answer) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut asked = Asked { line: line.trim().into(), headers: Vec::new(), body: String::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.trim().into()));
    }
    let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_string(&mut asked.body).ok()?;
    let before = {
        let mut heard = heard.lock().expect("heard");
        heard.push(asked.clone());
        heard.len() - 1
    };
    let said = answer(&asked, before);
    let head = format!("HTTP/1.1 {} X\r\nconnection: close\r\ncontent-length: {}\r\n", said.status, said.body.len());
    let headers: String = said.headers.iter().map(|header| format!("{header}\r\n")).collect();
    stream.write_all(format!("{head}{headers}\r\n").as_bytes()).ok()?;
    stream.write_all(&said.body[..said.breaks_after.unwrap_or(said.body.len())]).ok()
}

/// An image of one layer: its manifest, and its blobs by path.
struct Small {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

impl Small {
    fn new(bytes: usize) -> Small {
        let layer = crate::archive::Tar::new().entry(b'0', "noise", 0o644, "", &noise("small", bytes)).end();
        Small::of(layer)
    }
    fn of(layer: Vec<u8>) -> Small {
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Sum::of(&layer)
        );
        let entry = |bytes: &[u8]| format!(r#"{{"digest":"{}","size":{}}}"#, Sum::of(bytes), bytes.len());
        let manifest =
            format!(r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#, entry(config.as_bytes()), entry(&layer));
        Small { manifest: manifest.into(), config: config.into(), layer }
    }
    fn answer(&self, path: &str) -> Said {
        if path.contains("/manifests/") {
            return said(200, &[], self.manifest.clone());
        }
        let all = [&self.config, &self.layer];
        let found = all.into_iter().find(|bytes| path.ends_with(&Sum::of(bytes).hex()));
        found.map_or_else(|| said(404, &[], ""), |bytes| said(200, &[], bytes.clone()))
    }
    fn is_layer(&self, path: &str) -> bool {
        path.ends_with(&Sum::of(&self.layer).hex())
    }
}

fn credentials(world: &World, port: u16, entry: &str) -> Credentials {
    world.write("config.json", format!(r#"{{"auths":{{"127.0.0.1:{port}":{entry}}}}}"#));
    Credentials::in_files(vec![world.path("config.json")])
}

/// A registry that wants a token of a server of its own.
fn guarded() -> (Fake, Fake) {
    let tokens = Fake::new(|asked, _| match asked.header("authorization") {
        Some("Basic bWU6c2VjcmV0") => said(200, &[], r#"{"token":"named"}"#),
        None if asked.body.contains("refresh_token=LONG") => said(200, &[], r#"{"access_token":"named"}"#),
        None => said(200, &[], r#"{"token":"anonymous"}"#),
        Some(_) => said(401, &[], ""),
    });
    let port = tokens.port;
    let small = Small::new(1000);
    let registry = Fake::new(move |asked, _| match asked.header("authorization") {
        Some("Bearer named") => small.answer(asked.path()),
        Some(_) => said(403, &[], r#"{"errors":[{"code":"DENIED","message":"not you"}]}"#),
        None => {
            let scope = r#"service="fake",scope="repository:private/app:pull""#;
            said(401, &[&format!(r#"WWW-Authenticate: Bearer realm="http://127.0.0.1:{port}/token",{scope}"#)], "")
        }
    });
    (registry, tokens)
}

#[test]
fn a_token_is_bought_with_the_password_and_used_again() {
    let (registry, tokens) = guarded();
    let world = World::new();
    let images = world.images_with("cache", credentials(&world, registry.port, r#"{"auth":"bWU6c2VjcmV0"}"#));
    fetch(&images, &registry.name("private/app:1"), &Lock::empty(), &Ear::default()).expect("fetched");
    assert_eq!(tokens.asked().len(), 1, "one token for manifest, config and layer");
    let wanted = "/token?service=fake&scope=repository:private/app:pull";
    assert_eq!(tokens.asked()[0].path(), wanted);
    assert!(registry.asked().iter().all(|asked| asked.header("authorization") != Some("Basic bWU6c2VjcmV0")));
}

#[test]
fn what_a_login_left_buys_a_token_too() {
    let (registry, tokens) = guarded();
    let world = World::new();
    let images = world.images_with("cache", credentials(&world, registry.port, r#"{"identitytoken":"LONG"}"#));
    fetch(&images, &registry.name("private/app:1"), &Lock::empty(), &Ear::default()).expect("fetched");
    assert!(tokens.asked()[0].line.starts_with("POST ") && tokens.asked()[0].body.contains("grant_type=refresh_token"));
}

#[test]
fn nobody_gets_what_is_not_for_everybody() {
    let (registry, _tokens) = guarded();
    let world = World::new();
    let error =
        fetch(&world.images(), &registry.name("private/app:1"), &Lock::empty(), &Ear::default()).expect_err("denied");
    assert!(matches!(error, ImageError::Registry { refusal: Refusal::Denied, .. }));
    assert!(error.to_string().contains("the registry answers 403 (DENIED: not you); log in"), "{error}");
}

#[test]
fn a_redirect_to_another_host_does_not_carry_the_password() {
    let small = Arc::new(Small::new(1000));
    let store = small.clone();
    let storage = Fake::new(move |asked, _| store.answer(asked.path()));
    let port = storage.port;
    let registry = Fake::new(move |asked, _| match asked.header("authorization") {
        None => said(401, &["WWW-Authenticate: Basic realm=\"x\""], ""),
        Some(_) if asked.path().contains("/blobs/") => {
            said(307, &[&format!("Location: http://127.0.0.1:{port}{}", asked.path())], "")
        }
        Some(_) => small.answer(asked.path()),
    });
    let world = World::new();
    let images = world.images_with("cache", credentials(&world, registry.port, r#"{"auth":"bWU6c2VjcmV0"}"#));
    fetch(&images, &registry.name("app:1"), &Lock::empty(), &Ear::default()).expect("fetched");
    assert_eq!(storage.asked().len(), 2);
    assert!(storage.asked().iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn a_registry_in_trouble_is_asked_again() {
    let small = Small::new(1000);
    let registry = Fake::new(move |asked, before| match before {
        0 => said(503, &[], ""),
        1 => said(429, &["Retry-After: 0"], ""),
        _ => small.answer(asked.path()),
    });
    let world = World::new();
    fetch(&world.images(), &registry.name("app:1"), &Lock::empty(), &Ear::default()).expect("fetched in the end");
}

#[test]
fn a_registry_in_lasting_trouble_is_given_up() {
    let registry = Fake::new(|_, _| said(502, &["Retry-After: 0"], "<html>"));
    let world = World::new();
    let error = fetch(&world.images(), &registry.name("app:1"), &Lock::empty(), &Ear::default()).expect_err("given up");
    assert!(error.to_string().ends_with("the registry answers 502, 5 times"), "{error}");
    assert_eq!(registry.asked().len(), 5);
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let small = Arc::new(Small::new(3 << 20));
    let served = small.clone();
    let registry = Fake::new(move |asked, _| {
        let range =
            asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match (served.is_layer(asked.path()), range) {
            (true, None) => Said { breaks_after: Some(1 << 20), ..served.answer(asked.path()) },
            (true, Some(start)) => {
                let layer: &[u8] = &served.layer;
                let range = format!("Content-Range: bytes {start}-{}/{}", layer.len() - 1, layer.len());
                let start: usize = start;
                said(206, &[&range], &layer[start..])
            }
            _ => served.answer(asked.path()),
        }
    });
    let world = World::new();
    let image = fetch(&world.images(), &registry.name("app:1"), &Lock::empty(), &Ear::default()).expect("fetched");
    assert_eq!(std::fs::metadata(image.layers[0].join("noise")).expect("noise").len(), 3 << 20);
    let ranges: Vec<_> = registry.asked().iter().filter_map(|asked| asked.header("range").map(str::to_owned)).collect();
    assert!(ranges.len() == 1 && ranges[0] != "bytes=0-", "{ranges:?}");
}

type Lie = Box<dyn Fn(&Small, &Asked) -> Said + Send + Sync>;

#[test]
fn lies_of_a_registry_are_found_out() {
    let small = Arc::new(Small::new(1000));
    let other = crate::archive::Tar::new().file("evil", "x").end();
    let lies: Vec<(&str, Lie)> = vec![
        ("the blob has 2048 bytes there, and should have 2560", Box::new(move |_, _| said(200, &[], other.clone()))),
        ("is not what its digest says", Box::new(|small, _| said(200, &[], vec![7; small.layer.len()]))),
        (
            "the blob has 2569 bytes there, and should have 2560",
            Box::new(|small, _| said(200, &[], [small.layer.clone(), vec![0; 9]].concat())),
        ),
        ("redirects in a circle", Box::new(|_, asked| said(307, &[&format!("Location: {}", asked.path())], ""))),
        ("what is no address", Box::new(|_, _| said(302, &["Location: //evil.example.com/"], ""))),
        ("the registry answers 418", Box::new(|_, _| said(418, &[], ""))),
    ];
    for (says, lie) in lies {
        let served = small.clone();
        let registry = Fake::new(move |asked, _| match served.is_layer(asked.path()) {
            true => lie(&served, asked),
            false => served.answer(asked.path()),
        });
        let world = World::new();
        let images = world.images();
        let error =
            fetch(&images, &registry.name("app:1"), &Lock::empty(), &Ear::default()).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(images.usage().layers, 0);
    }
}

#[test]
fn a_layer_that_is_not_what_the_config_says_is_refused() {
    let mut small = Small::new(1000);
    let wrong = Sum::of(b"another layer").to_string();
    let config =
        String::from_utf8(small.config.clone()).expect("text").replace(&Sum::of(&small.layer).to_string(), &wrong);
    let manifest = String::from_utf8(small.manifest.clone()).expect("text");
    small.manifest =
        manifest.replace(&Sum::of(&small.config).to_string(), &Sum::of(config.as_bytes()).to_string()).into();
    small.config = config.into();
    let registry = Fake::new(move |asked, _| small.answer(asked.path()));
    let world = World::new();
    let images = world.images();
    let error =
        fetch(&images, &registry.name("app:1"), &Lock::empty(), &Ear::default()).expect_err("refused").to_string();
    assert!(error.starts_with("a layer is not what its digest says"), "{error}");
    assert_eq!(images.usage().layers, 0);
}

#[test]
fn documents_without_end_are_not_read() {
    let registry = Fake::new(|_, _| said(200, &[], vec![b' '; MANIFEST_BYTES_MAX + 1]));
    let world = World::new();
    let error =
        fetch(&world.images(), &registry.name("app:1"), &Lock::empty(), &Ear::default()).expect_err("too large");
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    let huge = r#"{"schemaVersion":2,"config":{"digest":"SUM","size":99999999},"layers":[]}"#;
    let huge = huge.replace("SUM", &Sum::of(b"x").to_string());
    let registry = Fake::new(move |_, _| said(200, &[], huge.clone()));
    let error = fetch(&world.images(), &registry.name("app:1"), &Lock::empty(), &Ear::default()).expect_err("config");
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
}

#[test]
fn a_hostile_layer_leaves_nothing_behind() {
    let small = Small::of(crate::archive::Tar::new().file("fine", "x").file("../evil", "x").end());
    let registry = Fake::new(move |asked, _| small.answer(asked.path()));
    let world = World::new();
    let images = world.images();
    let error = fetch(&images, &registry.name("app:1"), &Lock::empty(), &Ear::default()).expect_err("hostile");
    assert!(matches!(error, ImageError::Hostile { .. }), "{error}");
    assert_eq!(images.usage().layers, 0);
    assert_eq!(std::fs::read_dir(world.path("cache/scratch")).expect("scratch").count(), 0);
}

#[test]
fn a_silent_registry_can_be_left() {
    let registry = Fake::new(|_, _| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        said(503, &["Retry-After: 30"], "")
    });
    let world = World::new();
    let ear = Ear::default();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fetch(&world.images(), &registry.name("app:1"), &Lock::empty(), &ear));
        std::thread::sleep(std::time::Duration::from_millis(500));
        ear.stopped.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(matches!(waiting.join().expect("joined"), Err(ImageError::Stopped)));
    });
}
