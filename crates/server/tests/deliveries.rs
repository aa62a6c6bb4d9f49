//! Deliveries over real HTTP, and repositories over real git.
// A test may say `unwrap`, in its helpers, too: its failure is the message.
#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::{Scope, Token, User};
use model::Timestamp;
use server::records::Project;
use server::{Config, Server, Shared};
use store::{Batch, Change, Expect};

const SECRET: &str = "s3cret of the hook";

struct Scene {
    dir: tempfile::TempDir,
    server: Option<Server>,
}

impl Scene {
    fn new() -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let server = Some(Server::start(Config::local(&dir.path().join("data"))).unwrap());
        Scene { dir, server }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.server().shared
    }

    fn restart(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop(Duration::from_secs(60));
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        // Its threads let go of the store one after another.
        while self.server.is_none() {
            assert!(Instant::now() < deadline, "the store is still held");
            self.server = Server::start(Config::local(&self.dir.path().join("data"))).ok();
        }
    }

    fn keep(&self, change: Change) {
        self.shared().store.append(None, Batch { changes: vec![change], ..Batch::default() }).unwrap();
    }

    fn project(&self, name: &str, repository: &str) {
        let context = format!("project/{name}/webhook_secret");
        let webhook_secret = self.shared().authentication.keys.seal(&context, SECRET.as_bytes()).unwrap();
        let (name, repository) = (name.to_owned(), repository.to_owned());
        let project = Project { name, repository, webhook_secret, ..Project::default() };
        self.keep(Change::put(Timestamp(1), "test", "project.created", &project, Expect::Absent));
    }

    /// A token of somebody who rules the server.
    fn token(&self, scopes: &[Scope]) -> String {
        let user = User { name: "anna".into(), admin: true, ..User::default() };
        self.keep(Change::put(Timestamp(1), "test", "user.created", &user, Expect::Any));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
        let now = Timestamp(u64::try_from(now).unwrap());
        let (token, minted) = Token::mint("anna", "test", scopes.iter().copied().collect(), 1, now);
        self.keep(Change::put(Timestamp(1), "test", "token.created", &token, Expect::Absent));
        minted.text
    }

    /// Status, body, and the `retry-after` header of an answer.
    fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, String) {
        let mut head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut stream = TcpStream::connect(self.server().address).unwrap();
        stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
        // Who is refused by the head alone may be gone already.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default();
        (status, answer)
    }

    fn delivered(&self, project: &str) -> Vec<String> {
        let rows = self.shared().store.deliveries(Some(&project.into()), None, 200).unwrap();
        rows.into_iter().map(|row| row.value.id).collect()
    }

    fn git(&self, folder: &Path, arguments: &[&str]) -> Result<String, String> {
        let mut git = Command::new("git");
        git.arg("-C").arg(folder).args(["-c", "user.name=Anna", "-c", "user.email=anna@example.com"]);
        git.args(["-c", "init.defaultBranch=trunk", "-c", "credential.helper="]).args(arguments);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        let out = git.output().unwrap();
        match out.status.success() {
            true => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
        }
    }

    fn work(&self) -> std::path::PathBuf {
        let work = self.dir.path().join("work");
        std::fs::create_dir_all(&work).unwrap();
        self.git(&work, &["init", "-q"]).unwrap();
        std::fs::write(work.join("README"), "hello").unwrap();
        self.git(&work, &["add", "."]).unwrap();
        self.git(&work, &["commit", "-q", "-m", "first"]).unwrap();
        work
    }

    fn url(&self, token: &str, project: &str) -> String {
        format!("http://x:{token}@{}/git/{project}", self.server().address)
    }
}

fn push_of_github(n: u32) -> (String, Vec<u8>) {
    let body = format!("{{\"ref\":\"refs/heads/main\",\"after\":\"{n:040x}\",\"commits\":[]}}");
    (forge::sign(SECRET, body.as_bytes()), body.into_bytes())
}

#[test]
fn a_delivery_is_durable_before_it_is_answered_and_kept_once() {
    let mut scene = Scene::new();
    scene.project("team/web", "/no/such/repository");
    let (signature, body) = push_of_github(1);
    let headers =
        [("x-github-event", "push"), ("x-github-delivery", "d-1"), ("x-hub-signature-256", signature.as_str())];
    let (status, answer) = scene.post("/hooks/team/web", &headers, &body);
    assert_eq!(status, 202, "{answer}");
    assert!(answer.contains("team/web/github/d-1") && answer.contains("/p/team/web/-/deliveries"), "{answer}");
    let (status, answer) = scene.post("/hooks/team/web", &headers, &body);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("already there"), "{answer}");
    scene.restart();
    assert_eq!(scene.delivered("team/web"), ["team/web/github/d-1"]);
}

#[test]
fn what_is_forged_unknown_or_too_large_is_refused_and_not_kept() {
    let scene = Scene::new();
    scene.project("web", "/no/such/repository");
    let (signature, body) = push_of_github(1);
    let headers = [("x-github-event", "push"), ("x-hub-signature-256", signature.as_str())];
    assert_eq!(scene.post("/hooks/web", &headers, b"{}").0, 401, "another body");
    assert_eq!(scene.post("/hooks/web", &headers[..1], &body).0, 401, "no signature");
    assert_eq!(scene.post("/hooks/web", &[("x-gitlab-event", "Push Hook"), ("x-gitlab-token", "x")], &body).0, 401);
    assert_eq!(scene.post("/hooks/other", &headers, &body).0, 404);
    assert_eq!(scene.post("/hooks/web", &headers, &vec![b' '; (25 << 20) + 1]).0, 413);
    assert_eq!(scene.delivered("web"), [] as [&str; 0]);
}

#[test]
fn senders_that_promise_much_and_send_little_keep_nobody_out() {
    let scene = Scene::new();
    scene.project("web", "/no/such/repository");
    let slow = |_| {
        let mut stream = TcpStream::connect(scene.server().address).unwrap();
        stream.write_all(b"POST /hooks/web HTTP/1.1\r\nhost: x\r\ncontent-length: 26000000\r\n\r\n{").unwrap();
        stream
    };
    let waiting: Vec<TcpStream> = (0..64).map(slow).collect();
    let (signature, body) = push_of_github(1);
    let headers = [("x-github-event", "push"), ("x-hub-signature-256", signature.as_str())];
    assert_eq!(scene.post("/hooks/web", &headers, &body).0, 202);
    drop(waiting);
}

#[test]
fn a_post_receive_hook_is_one_line_of_curl() {
    let scene = Scene::new();
    scene.project("web", "/no/such/repository");
    let body = format!("{} {} refs/heads/main\n", "0".repeat(40), "a".repeat(40));
    let (status, answer) = scene.post("/hooks/web", &[("x-paceline-token", SECRET)], body.as_bytes());
    assert_eq!(status, 202, "{answer}");
    assert!(scene.delivered("web")[0].starts_with("web/git/"));
}

#[test]
fn hundred_deliveries_at_once_are_all_kept() {
    let scene = Scene::new();
    scene.project("web", "/no/such/repository");
    let mut took: Vec<Duration> = std::thread::scope(|threads| {
        let threads: Vec<_> = (0..100)
            .map(|n| {
                let scene = &scene;
                threads.spawn(move || {
                    let (signature, body) = push_of_github(n);
                    let id = format!("d-{n}");
                    let headers = [
                        ("x-github-event", "push"),
                        ("x-github-delivery", id.as_str()),
                        ("x-hub-signature-256", signature.as_str()),
                    ];
                    let before = Instant::now();
                    let (status, answer) = scene.post("/hooks/web", &headers, &body);
                    assert_eq!(status, 202, "{answer}");
                    before.elapsed()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    took.sort();
    println!("webhooks, 100 at once: p50 {:?}, p99 {:?}", took[50], took[99]);
    assert_eq!(scene.delivered("web").len(), 100);
}

#[test]
fn a_push_with_real_git_is_taken_and_becomes_a_delivery() {
    let scene = Scene::new();
    scene.project("own", "");
    let work = scene.work();
    let token = scene.token(&[Scope::Read, Scope::Run]);
    let url = scene.url(&token, "own");
    scene.git(&work, &["push", "-q", &url, "HEAD:refs/heads/trunk"]).unwrap();
    assert_eq!(scene.delivered("own").len(), 1, "durable before git says that it is done");
    let commit = scene.git(&work, &["rev-parse", "HEAD"]).unwrap();
    let open = scene.shared().store.deliveries(Some(&"own".into()), None, 1).unwrap();
    assert_eq!(open[0].value.source, "git");
    let clone = scene.dir.path().join("clone");
    scene.git(scene.dir.path(), &["clone", "-q", &url, clone.to_str().unwrap()]).unwrap();
    assert_eq!(scene.git(&clone, &["rev-parse", "HEAD"]).unwrap(), commit, "the first branch is the default one");
    // Nothing moves, nothing is delivered.
    scene.git(&work, &["push", "-q", &url, "HEAD:refs/heads/trunk"]).unwrap();
    assert_eq!(scene.delivered("own").len(), 1);
    scene.git(&work, &["push", "-q", &url, "HEAD:refs/tags/v1", "HEAD:refs/heads/other"]).unwrap();
    assert_eq!(scene.delivered("own").len(), 2, "one push is one delivery");
}

#[test]
fn an_agent_reads_what_it_builds_and_nobody_else_does() {
    let scene = Scene::new();
    scene.project("own", "");
    let work = scene.work();
    let commit = scene.git(&work, &["rev-parse", "HEAD"]).unwrap();
    let token = scene.token(&[Scope::Read, Scope::Run]);
    scene.git(&work, &["push", "-q", &scene.url(&token, "own.git"), "HEAD:refs/heads/main"]).unwrap();
    let agent = scene.url(&scene.shared().builtin.0, "own");
    let clone = scene.dir.path().join("clone");
    scene.git(scene.dir.path(), &["init", "-q", "--bare", clone.to_str().unwrap()]).unwrap();
    scene.git(&clone, &["fetch", "-q", "--depth=1", &agent, &commit]).unwrap();
    assert_eq!(scene.git(&clone, &["cat-file", "-t", &commit]).unwrap(), "commit");
    assert!(scene.git(&work, &["push", "-q", &agent, "HEAD:refs/heads/evil"]).unwrap_err().contains("403"));
    let anonymous = format!("http://{}/git/own", scene.server().address);
    assert!(scene.git(&clone, &["fetch", "-q", &anonymous, &commit]).is_err());
    assert!(scene.git(&clone, &["fetch", "-q", &scene.url("pace_token_x_y", "own"), &commit]).is_err());
    let reader = scene.token(&[Scope::Read]);
    assert!(scene.git(&work, &["push", "-q", &scene.url(&reader, "own"), "HEAD:refs/heads/x"]).is_err());
    assert!(scene.git(&clone, &["fetch", "-q", &scene.url(&reader, "own"), &commit]).is_ok());
    assert!(scene.git(&clone, &["fetch", "-q", &scene.url(&reader, "none"), &commit]).is_err());
}

#[test]
fn a_mirror_is_read_and_not_pushed_to() {
    let scene = Scene::new();
    let work = scene.work();
    scene.project("web", work.to_str().unwrap());
    let token = scene.token(&[Scope::Read, Scope::Run]);
    let refused = scene.git(&work, &["push", "-q", &scene.url(&token, "web"), "HEAD:refs/heads/x"]).unwrap_err();
    assert!(refused.contains("403"), "{refused}");
}

#[test]
fn large_pushes_and_many_clones_stream() {
    let scene = Scene::new();
    scene.project("own", "");
    let work = scene.work();
    // Does not compress, so that the pack is as large, and comes in pieces.
    let mut noise = vec![0; 8 << 20];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    std::fs::write(work.join("noise"), &noise).unwrap();
    scene.git(&work, &["add", "."]).unwrap();
    scene.git(&work, &["commit", "-q", "-m", "noise"]).unwrap();
    let url = scene.url(&scene.token(&[Scope::Read, Scope::Run]), "own");
    scene.git(&work, &["push", "-q", &url, "HEAD:refs/heads/main"]).unwrap();
    std::thread::scope(|threads| {
        for n in 0..8 {
            let (scene, url) = (&scene, &url);
            threads.spawn(move || {
                let clone = scene.dir.path().join(format!("clone{n}"));
                scene.git(scene.dir.path(), &["clone", "-q", url, clone.to_str().unwrap()]).unwrap();
                assert_eq!(std::fs::metadata(clone.join("noise")).unwrap().len(), 8 << 20);
            });
        }
    });
}

#[test]
fn a_push_that_was_not_announced_is_after_a_restart() {
    let mut scene = Scene::new();
    scene.project("own", "");
    let work = scene.work();
    let url = scene.url(&scene.token(&[Scope::Read, Scope::Run]), "own");
    scene.git(&work, &["push", "-q", &url, "HEAD:refs/heads/main"]).unwrap();
    let commit = scene.git(&work, &["rev-parse", "HEAD"]).unwrap();
    // As if it had been killed between git and the store.
    let git = scene.dir.path().join("data/git");
    let mirror =
        std::fs::read_dir(git).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.join("HEAD").exists());
    let notes = mirror.unwrap().join("pace-pushes");
    std::fs::write(notes.join("left-over"), format!("{} {commit} refs/heads/main", "0".repeat(40))).unwrap();
    std::fs::write(notes.join("refused"), format!("{} {} refs/heads/main", "0".repeat(40), "b".repeat(40))).unwrap();
    scene.restart();
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::read_dir(&notes).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "the notes are still there");
        std::thread::yield_now();
    }
    let all = scene.delivered("own");
    assert!(all.contains(&"own/git/left-over".to_owned()) && all.len() == 2, "{all:?}");
}

/// A forge that writes down what it is told, and refuses the first so many.
fn forge(refusals: usize) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            let whole = |request: &[u8]| {
                let text = String::from_utf8_lossy(request);
                let (head, body) = text.split_once("\r\n\r\n")?;
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                (body.len() >= length.unwrap_or(0)).then(|| text.clone().into_owned())
            };
            let text = loop {
                let read = stream.read(&mut chunk).unwrap();
                request.extend_from_slice(&chunk[..read]);
                if let Some(text) = whole(&request) {
                    break text;
                }
                assert!(read > 0, "cut off: {}", String::from_utf8_lossy(&request));
            };
            let status = if n < refusals { "503 Later" } else { "201 Created" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            if tell.send(text).is_err() {
                return;
            }
        }
    });
    (address, told)
}

impl Scene {
    fn project_at(&self, forge_api: &str) -> Project {
        let seal = |field: &str, text: &str| {
            self.shared().authentication.keys.seal(&format!("project/web/{field}"), text.as_bytes()).unwrap()
        };
        let project = Project {
            name: "web".into(),
            repository: "https://git.invalid/team/web.git".into(),
            forge: "gitea".into(),
            forge_api: forge_api.into(),
            credential: seal("credential", "t0ken"),
            webhook_secret: seal("webhook_secret", SECRET),
            ..Project::default()
        };
        self.keep(Change::put(Timestamp(1), "test", "project.created", &project, Expect::Any));
        project
    }

    fn errand(&self, project: &Project, commit: &str) {
        let why = "no changed file matches `paths`";
        let errand = server::errands::skipped(project, commit, "build", why, Timestamp(1)).unwrap();
        self.shared().store.append(None, Batch { errands: vec![errand], ..Batch::default() }).unwrap();
    }

    fn errands_left(&self) -> usize {
        self.shared().store.errands_due(Timestamp(u64::MAX >> 1), 100).unwrap().len()
    }
}

#[test]
fn a_status_is_told_to_the_forge_until_it_is_taken() {
    let scene = Scene::new();
    let (address, told) = forge(1);
    let commit = "c".repeat(40);
    scene.errand(&scene.project_at(&address), &commit);
    for _ in 0..2 {
        let request = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(request.starts_with(&format!("POST /repos/team/web/statuses/{commit} ")), "{request}");
        assert!(request.to_lowercase().contains("authorization: token t0ken"), "{request}");
        assert!(request.contains("skipped: no changed file matches") && request.contains("\"success\""), "{request}");
        assert!(request.contains("paceline/build"), "{request}");
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while scene.errands_left() > 0 {
        assert!(Instant::now() < deadline, "it is still to be done");
        std::thread::yield_now();
    }
}

#[test]
fn an_errand_survives_the_server() {
    let mut scene = Scene::new();
    // Nobody listens there yet.
    let project = scene.project_at("http://127.0.0.1:1");
    scene.errand(&project, &"c".repeat(40));
    scene.restart();
    assert_eq!(scene.errands_left(), 1, "it is still to be done");
    let (address, told) = forge(0);
    scene.project_at(&address);
    told.recv_timeout(Duration::from_secs(120)).unwrap();
}

#[test]
fn what_a_forge_refuses_for_good_is_said() {
    let scene = Scene::new();
    let project = Project { forge_name: "no name".into(), ..scene.project_at("http://127.0.0.1:1") };
    scene.keep(Change::put(Timestamp(1), "test", "project.changed", &project, Expect::Any));
    scene.errand(&project, &"c".repeat(40));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let audit = scene.shared().store.audit(None, 50).unwrap();
        if audit.iter().any(|entry| entry.value.act == "status.refused" && entry.value.key.contains("owner/name")) {
            break;
        }
        assert!(Instant::now() < deadline, "{audit:?}");
        std::thread::yield_now();
    }
    assert_eq!(scene.errands_left(), 0);
}

#[test]
fn a_badge_says_how_it_is() {
    let scene = Scene::new();
    scene.project("web", "/no/such/repository");
    let token = scene.token(&[Scope::Read]);
    let head = format!(
        "GET /badges/web.svg HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(scene.server().address).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("no runs") && answer.contains("image/svg+xml"),
        "{answer}"
    );
}
