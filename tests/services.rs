//! Services beside a step: ready before it starts, in its network, gone with it, their logs kept.

use serde_json::{Value, json};

use crate::support::{Repo, is_root, processes};

fn with_service(cmd: &str, service: Value) -> Repo {
    let step = json!({ "id": "s", "cmd": cmd, "services": [service], "cache": "never" });
    Repo::new(&json!({ "name": "v", "steps": [step] }).to_string())
}

/// Each test has a port of its own, by which it finds what it left running.
fn fetch(port: u16) -> String {
    format!(
        "python3 -c \"import urllib.request; print('status', urllib.request.urlopen('http://web:{port}/').status)\""
    )
}

fn serve(port: u16) -> String {
    format!("exec python3 -u -m http.server {port}")
}

#[test]
fn a_step_starts_when_its_service_answers() {
    for ready in [
        json!({ "http": ":8101/", "within": "30s" }),
        json!({ "tcp": 8101, "within": "30s" }),
        json!({ "cmd": "python3 -c \"import socket; socket.create_connection(('localhost', 8101))\"", "within": "30s" }),
    ] {
        let repo = with_service(
            &fetch(8101),
            json!({ "id": "web", "cmd": format!("sleep 0.3; {}", serve(8101)), "ready": ready }),
        );
        repo.pace(&["run"]).code(0).says("s | status 200");
    }
    assert_eq!(processes("http.server 8101"), [0; 0], "nothing is left");
}

#[test]
fn an_ordinary_user_has_services_too() {
    if !is_root() {
        return;
    }
    let repo = with_service(
        &fetch(8102),
        json!({ "id": "web", "cmd": serve(8102), "ready": { "tcp": 8102, "within": "30s" } }),
    );
    crate::ordinary_user::as_user(&repo, &["run"]).code(0).says("s | status 200");
    assert_eq!(processes("http.server 8102"), [0; 0], "nothing is left");
}

#[test]
fn a_service_that_ends_or_never_answers_fails_the_step_with_its_last_words() {
    let ready = json!({ "tcp": 8098, "within": "1s" });
    with_service("echo never", json!({ "id": "db", "cmd": "echo no disk; exit 3", "ready": ready }))
        .pace(&["run"])
        .code(10)
        .says("service `db` ended with exit code 3 before it was ready")
        .says("no disk")
        .does_not_say("s | never");
    with_service("echo never", json!({ "id": "db", "cmd": "echo warming up; sleep 765.5", "ready": ready }))
        .pace(&["run"])
        .code(10)
        .says("service `db` did not answer on TCP port 8098 within 1.0s")
        .says("warming up");
    assert_eq!(processes("sleep 765.5"), [0; 0], "nothing is left");
}

#[test]
fn the_log_of_a_service_is_kept_beside_the_steps() {
    let repo = with_service(
        &fetch(8104),
        json!({ "id": "web", "cmd": serve(8104), "ready": { "http": ":8104/", "within": "30s" } }),
    );
    repo.pace(&["run"]).code(0).does_not_say("GET /");
    repo.pace(&["logs", "s", "--service", "web"]).code(0).says("GET /");
    repo.pace(&["logs", "s", "--service", "wed"]).code(2).complains("web");
}

#[test]
fn a_service_that_ends_early_is_told() {
    let service = json!({ "id": "web", "cmd": "exit 4" });
    with_service("sleep 0.5", service)
        .pace(&["run"])
        .code(0)
        .says("service `web` ended with exit code 4 while the step ran");
}

#[test]
fn services_see_the_workspace_and_leave_nothing_in_it() {
    let service = json!({ "id": "web", "cmd": "cat paceline.yaml > copy; sleep 60", "ready": { "cmd": "test -e paceline.yaml" } });
    with_service("sleep 0.2; ls | tr '\\n' ' '", service).pace(&["run"]).code(0).says("s | paceline.yaml \n");
}

#[test]
fn each_step_has_its_own_network() {
    let pipeline = json!({ "name": "n", "steps": [
        { "id": "a", "cmd": fetch(8107), "services": [{ "id": "web", "cmd": serve(8107), "ready": { "tcp": 8107 } }] },
        { "id": "b", "cmd": fetch(8107), "services": [{ "id": "web", "cmd": serve(8107), "ready": { "tcp": 8107 } }] },
    ] });
    Repo::new(&pipeline.to_string()).pace(&["run"]).code(0).says("a | status 200").says("b | status 200");
}
