//! The server from a terminal and from programs: the real binary on both sides.

#[allow(dead_code)]
mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Ended, Repo};

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "correct horse battery";

const PIPELINE: &str = "\
name: web
params:
  who: { type: string, default: world }
steps:
  - id: build
    cmd: |
      for i in 1 2 3; do echo \"line $i\"; done
      mkdir out; echo \"hello ${{ params.who }}\" > out/app; echo two > out/more
    artifacts: [{ name: app, path: out }]
  - id: wants
    secrets: [TOKEN]
    cmd: 'echo \"the length is ${#TOKEN}, the value is $TOKEN\"'
";

/// A server with one project, and somebody who administers it.
struct Team {
    repo: Repo,
    server: Child,
    url: String,
    link: String,
}

impl Team {
    /// Starts the server and makes the first administrator by the link that it prints.
    fn start(pipeline: &str) -> Team {
        let team = Team::strangers(pipeline);
        team.pace_with(&["login", &team.link, "--user", "anna"], PASSWORD).code(0).says("logged in at");
        team
    }

    /// Starts the server.
    fn strangers(pipeline: &str) -> Team {
        let repo = Repo::new(pipeline);
        let project = format!("web={}", repo.root().display());
        let data = repo.folder.path().join("data");
        let mut command =
            repo.command(&["server", "--listen", "127.0.0.1:0", "--agent-slots", "2", "--project", &project]);
        command.arg("--data").arg(&data).stdout(Stdio::piped()).stderr(Stdio::null());
        command.env("PACE_STATE_DIR", repo.folder.path().join("state-of-server"));
        let mut server = command.spawn().expect("pace starts");
        let mut lines = BufReader::new(server.stdout.take().expect("its output")).lines();
        let (mut url, mut link) = (String::new(), String::new());
        while link.is_empty() {
            let line = lines.next().expect("it says where it is").expect("text");
            if let Some((_, address)) = line.split_once(" on http://") {
                url = format!("http://{address}");
            }
            if line.contains("/setup/") {
                link = line.trim().to_owned();
            }
        }
        // Whatever else it says must not fill a pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Team { repo, server, url, link }
    }

    fn pace(&self, args: &[&str]) -> Ended {
        self.pace_with(args, "")
    }

    fn pace_with(&self, args: &[&str], input: &str) -> Ended {
        let mut command = self.repo.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove("PACE_SERVER").env_remove("PACE_TOKEN");
        finish(command, input)
    }

    fn token(&self) -> String {
        let logins = std::fs::read_to_string(self.repo.state().join("logins.json")).expect("logged in");
        let logins: Value = serde_json::from_str(&logins).expect("JSON");
        logins["tokens"][&self.url].as_str().expect("a token").to_owned()
    }

    /// One request as it is: status, headers, body.
    fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.url.trim_start_matches("http://")).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        // A server that refuses a body may close before it has all of it.
        let _ = stream.write_all(format!("{head}\r\n{body}").as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    /// A question with a token (or none), and its answer as JSON.
    fn ask(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("content-type", "application/json")];
        if !token.is_empty() {
            headers.push(("authorization", &bearer));
        }
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let (status, head, body) = self.raw(method, &format!("/api/v1{path}"), &headers, &body);
        let body = if head.contains("transfer-encoding: chunked") { unchunked(&body) } else { body };
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn finish(mut command: Command, input: &str) -> Ended {
    let mut child = command.spawn().expect("pace starts");
    let mut to = child.stdin.take().expect("its input");
    // Who needs no input may be gone already.
    let _ = to.write_all(input.as_bytes());
    drop(to);
    let (mut out, mut err) = (child.stdout.take().expect("out"), child.stderr.take().expect("err"));
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = err.read_to_string(&mut text);
        text
    });
    let (killer, id) = (Instant::now() + 4 * DEADLINE, child.id());
    let watch = std::thread::spawn(move || {
        while Instant::now() < killer && Path::new(&format!("/proc/{id}/stat")).exists() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let mut text = String::new();
    let _ = out.read_to_string(&mut text);
    let status = child.wait().expect("it ends");
    let _ = watch.join();
    Ended { code: status.code(), out: text, err: reading.join().expect("read") }
}

fn unchunked(body: &str) -> String {
    let (mut rest, mut whole) = (body, String::new());
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        if length == 0 || length > after.len() {
            break;
        }
        whole += &after[..length];
        rest = after[length..].trim_start_matches("\r\n");
    }
    whole
}

#[test]
fn a_run_is_started_watched_and_fetched_from_a_terminal() {
    let team = Team::start(PIPELINE);
    team.pace_with(&["secrets", "set", "TOKEN", "--project", "web"], "hunter22\n").code(0).says("TOKEN: version 1");
    team.pace(&["secrets", "list", "--project", "web"]).code(0).says("TOKEN").does_not_say("hunter22");
    let ended = team.pace(&["trigger", "web", "--param", "who=you", "--wait"]).code(0);
    ended.says("web#1 run_").says("build: success").says("run success");
    team.pace(&["runs", "--project", "web"]).code(0).says("success");
    assert_eq!(team.pace(&["logs", "web#1", "build"]).code(0).out, "line 1\nline 2\nline 3\n");
    let followed = team.pace(&["logs", "-f", "web#1", "wants"]).code(0).does_not_say("hunter22");
    followed.says("the length is 8");
    team.pace(&["artifacts", "list", "web#1"]).code(0).says("app").says("2 files");
    let to = team.repo.folder.path().join("fetched");
    team.pace(&["artifacts", "download", "web#1", "--to", to.to_str().expect("text")]).code(0);
    assert_eq!(std::fs::read_to_string(to.join("app/app")).expect("fetched"), "hello you\n");
    team.pace(&["rerun", "web#1", "--wait"]).code(0);
    let again = team.pace(&["cancel", "web#1"]);
    again.code(2).complains("has ended");
    team.pace(&["secrets", "rekey"]).code(0).says("1 records");
    team.pace(&["trigger", "web", "--wait"]).code(0);
    team.pace(&["agents", "list"]).code(0).says("local");
    team.pace(&["projects", "list"]).code(0).says("web");
}

#[test]
fn trigger_exits_as_the_run_does_and_errors_have_their_codes() {
    let team = Team::start("name: web\nsteps: [{ id: fails, cmd: exit 7 }]\n");
    team.pace(&["trigger", "web", "--wait"]).code(10).says("fails: failure");
    team.pace(&["trigger", "nothing"]).code(2).complains("there is no project");
    team.pace(&["trigger", "web", "--param", "x=1"]).code(3);
    let (agents, labels) = (["agents", "token", "--label", "gpu"], ["agents", "token", "--label", "a b"]);
    assert!(team.pace(&agents).code(0).out.starts_with("pace_join_"));
    team.pace(&labels).code(2);
    team.pace(&["logout"]).code(0);
    team.pace(&["projects", "list"]).code(2).complains("no server is known");
    let server = team.url.clone();
    team.pace(&["projects", "list", "--server", &server]).code(0);
    team.pace(&["trigger", "web", "--server", &server]).code(2).complains("pace login");
}

#[test]
fn each_role_may_its_own_and_the_first_link_works_once() {
    let team = Team::start(PIPELINE);
    let admin = team.token();
    team.pace_with(&["login", &team.link, "--user", "eve"], PASSWORD).code(2).complains("was used already");
    for (name, role) in [("vera", "viewer"), ("dora", "developer"), ("max", "maintainer")] {
        let user = json!({ "name": name, "password": PASSWORD, "roles": { "web": role } });
        assert_eq!(team.ask(&admin, "POST", "/users", Some(user)).0, 201);
    }
    let token = |name: &str| {
        let wanted = json!({ "user": name, "password": PASSWORD, "token": { "scopes": ["admin"], "days": 1 } });
        let (status, made) = team.ask("", "POST", "/sign-in", Some(wanted));
        assert_eq!(status, 201, "{made}");
        made["token"].as_str().expect("a token").to_owned()
    };
    let (vera, dora, max) = (token("vera"), token("dora"), token("max"));
    let secret = || Some(json!({ "value": "x" }));
    let put = "/projects/web/secrets/A";
    let trigger = "/projects/web/runs";
    let table = [
        // Question, and the status for: nobody, viewer, developer, maintainer, administrator.
        ("GET", "/projects/web", None, [401, 200, 200, 200, 200]),
        ("GET", "/runs?project=web", None, [401, 200, 200, 200, 200]),
        ("POST", trigger, Some(json!({})), [401, 403, 201, 201, 201]),
        ("PUT", put, secret(), [401, 403, 403, 200, 200]),
        ("GET", "/projects/web/deliveries", None, [401, 403, 403, 200, 200]),
        ("PATCH", "/projects/web", Some(json!({ "public": false })), [401, 403, 403, 403, 200]),
        ("GET", "/audit", None, [401, 403, 403, 403, 200]),
        ("GET", "/users", None, [401, 403, 403, 403, 200]),
        ("GET", "/agents", None, [401, 200, 200, 200, 200]),
        ("POST", "/rekey", None, [401, 403, 403, 403, 200]),
        ("GET", "/projects/other", None, [401, 404, 404, 404, 404]),
    ];
    for (method, path, body, expected) in table {
        let who = ["", &vera, &dora, &max, &admin];
        let found = who.map(|token| team.ask(token, method, path, body.clone()).0);
        assert_eq!(found, expected, "{method} {path}");
    }
    assert_eq!(team.ask(&max, "GET", "/me", None).1["user"], "max");
    assert_eq!(team.ask(&admin, "DELETE", "/users/anna", None).0, 409, "the last administrator stays");
    assert_eq!(team.ask(&admin, "PATCH", "/users/dora", Some(json!({ "disabled": true }))).0, 200);
    assert_eq!(team.ask(&dora, "GET", "/me", None).0, 401, "at once");
}

#[test]
fn asking_again_changes_nothing_and_versions_are_held() {
    let team = Team::start(PIPELINE);
    let bearer = format!("Bearer {}", team.token());
    let headers =
        [("authorization", bearer.as_str()), ("content-type", "application/json"), ("idempotency-key", "once")];
    let runs = [(); 3].map(|()| {
        let (status, _, body) = team.raw("POST", "/api/v1/projects/web/runs", &headers, "{}");
        assert_eq!(status, 201, "{body}");
        serde_json::from_str::<Value>(&body).expect("JSON")["id"].clone()
    });
    assert!(runs.iter().all(|run| *run == runs[0]));
    let (_, head, _) = team.raw("GET", "/api/v1/projects/web", &headers, "");
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an ETag").to_owned();
    let held = |tag: &str| {
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json"), ("if-match", tag)];
        team.raw("PATCH", "/api/v1/projects/web", &headers, "{\"keep_days\":7}").0
    };
    assert_eq!([held(&tag), held(&tag), held("nonsense")], [200, 412, 400]);
}

#[test]
fn lists_come_in_parts_that_together_are_the_whole() {
    let team = Team::start(PIPELINE);
    let admin = team.token();
    for number in 0..7 {
        let user = json!({ "name": format!("user{number}") });
        assert_eq!(team.ask(&admin, "POST", "/users", Some(user)).0, 201);
    }
    let (mut after, mut names, mut parts) = (String::new(), Vec::new(), 0);
    loop {
        let (status, part) = team.ask(&admin, "GET", &format!("/users?limit=3&after={after}"), None);
        assert_eq!(status, 200);
        let items = part["items"].as_array().expect("items");
        assert!(items.len() <= 3);
        names.extend(items.iter().map(|user| user["name"].as_str().expect("a name").to_owned()));
        parts += 1;
        match part["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!((names.len(), parts), (8, 3));
    let (_, part) = team.ask(&admin, "GET", "/audit?limit=100000", None);
    assert!(part["items"].as_array().is_some_and(|items| items.len() <= 200));
    assert_eq!(team.ask(&admin, "GET", "/audit?after=nonsense", None).0, 400);
    assert_eq!(team.ask(&admin, "GET", "/users?limit=-1", None).0, 400);
}

#[test]
fn whatever_is_sent_gets_a_problem_and_the_server_goes_on() {
    let team = Team::start(PIPELINE);
    let bearer = format!("Bearer {}", team.token());
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let deep = "[".repeat(100_000);
    let long = format!("{{\"pipeline\":\"{}\"}}", "x".repeat(2 << 20));
    let bodies = [
        "",
        "{",
        "null",
        "[]",
        "{\"x\":1}",
        "{\"params\":7}",
        "{\"branch\":\"--upload-pack=x\"}",
        "\u{0}",
        &deep,
        &long,
    ];
    for body in bodies {
        let (status, head, text) = team.raw("POST", "/api/v1/projects/web/runs", &headers, body);
        assert!((400..500).contains(&status), "{status} for {}", &body[..body.len().min(40)]);
        assert!(head.contains("application/problem+json"), "{head}");
        let problem: Value = serde_json::from_str(&text).expect("a problem");
        assert!(problem["type"].as_str().is_some_and(|kind| kind.starts_with("urn:paceline:problem:")), "{text}");
    }
    for (method, path) in [
        ("GET", "/api/v1/nothing"),
        ("GET", "/api/v1/runs/%ff"),
        ("GET", "/api/v1/runs/run_none"),
        ("GET", "/api/v1/runs?state=odd"),
        ("GET", "/api/v1/runs/run_none/steps/x/log/events"),
        ("PUT", "/api/v1/me"),
        ("GET", "/api/v1/projects/..%2f..%2fetc"),
    ] {
        let (status, head, _) = team.raw(method, path, &headers, "");
        assert!((400..500).contains(&status), "{method} {path}: {status}");
        assert!(head.contains("application/problem+json"), "{method} {path}: {head}");
    }
    let (status, head, _) = team.raw("GET", "/api/v1/me", &[("authorization", "Bearer pace_token_x_y")], "");
    assert!(status == 401 && head.contains("www-authenticate: bearer"), "{head}");
    assert_eq!(team.raw("GET", "/healthz", &[], "").0, 200);
}

#[test]
fn events_go_on_where_they_were_cut_off() {
    let team = Team::start(PIPELINE);
    let admin = team.token();
    team.pace_with(&["secrets", "set", "TOKEN", "--project", "web"], "x").code(0);
    team.pace(&["trigger", "web", "--wait"]).code(0);
    let run = team.ask(&admin, "GET", "/projects/web/runs/1", None).1["run"]["id"].as_str().expect("an id").to_owned();
    let bearer = format!("Bearer {admin}");
    let stream = |path: &str, last: &str| {
        let mut headers = vec![("authorization", bearer.as_str())];
        if !last.is_empty() {
            headers.push(("last-event-id", last));
        }
        let (status, _, body) = team.raw("GET", path, &headers, "");
        assert_eq!(status, 200, "{body}");
        let body = unchunked(&body);
        let ids: Vec<u64> = body.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
        (ids, body)
    };
    let events = format!("/api/v1/runs/{run}/events");
    let (all, text) = stream(&events, "");
    assert!(all.windows(2).all(|two| two[1] == two[0] + 1) && all[0] == 1 && text.contains("run_ended"), "{all:?}");
    let (rest, _) = stream(&events, "3");
    assert_eq!(rest, all[3..], "nothing is lost and nothing comes twice");
    let log = format!("/api/v1/runs/{run}/steps/build/log/events");
    let (ends, text) = stream(&log, "");
    assert!(text.contains("line 3") && text.contains("event: end"), "{text}");
    let (_, rest) = stream(&log, &ends[0].to_string());
    assert!(!rest.contains("line 1"), "{rest}");
}

#[test]
fn wrong_passwords_have_to_wait() {
    let team = Team::start(PIPELINE);
    let wrong = || json!({ "user": "anna", "password": "wrong", "token": { "scopes": ["read"] } });
    let statuses: Vec<u16> = (0..8).map(|_| team.ask("", "POST", "/sign-in", Some(wrong())).0).collect();
    assert_eq!(statuses[..5], [401; 5]);
    assert!(statuses[5..].contains(&429), "{statuses:?}");
    let right = json!({ "user": "anna", "password": PASSWORD, "token": { "scopes": ["read"] } });
    let (status, problem) = team.ask("", "POST", "/sign-in", Some(right));
    assert!(status == 429 && problem["retry_after"].as_u64() >= Some(1), "{problem}");
}

#[test]
fn the_document_of_the_interface_is_the_one_in_the_repository() {
    let team = Team::strangers(PIPELINE);
    let (status, head, body) = team.raw("GET", "/api/v1/openapi.json", &[], "");
    assert_eq!(status, 200);
    let served = if head.contains("transfer-encoding: chunked") { unchunked(&body) } else { body };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    if std::env::var_os("PACE_UPDATE").is_some() {
        std::fs::write(&path, &served).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == served,
        "docs/reference/openapi.json is old: PACE_UPDATE=1 cargo test -p pace --test server_api writes it"
    );
    let document: Value = serde_json::from_str(&served).expect("JSON");
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            assert!(operation["responses"]["default"].is_object(), "{method} {path} does not say how it fails");
            assert!(operation["summary"].is_string(), "{method} {path} says nothing of itself");
        }
    }
}
