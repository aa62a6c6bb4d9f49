//! What a step reaches over its network. A server to reach stands on an address of a network namespace that the test made
//! for itself, so nothing of the host's network is needed or touched.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Repo, finish, is_root};

/// Runs `pace` in a network namespace of its own in which 203.0.113.5 answers on port 8088 (and 22 is closed), found by the
/// name `mirror.example`.
fn outside(repo: &Repo, args: &str) -> crate::support::Ended {
    let script = format!(
        "ip link set lo up; ip addr add 203.0.113.5/32 dev lo; \
         mount --bind {hosts} /etc/hosts; \
         python3 -m http.server 8088 --bind 0.0.0.0 >/dev/null 2>&1 & server=$!; \
         for i in $(seq 100); do python3 -c \"import socket; socket.create_connection(('203.0.113.5', 8088))\" 2>/dev/null && break; sleep 0.05; done; \
         {pace} run {args}; code=$?; kill $server; exit $code",
        hosts = repo.folder.path().join("hosts").display(),
        pace = crate::support::PACE,
    );
    std::fs::write(repo.folder.path().join("hosts"), "127.0.0.1 localhost\n203.0.113.5 mirror.example other.example\n")
        .expect("a file");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "sh", "-c", &script]).current_dir(repo.root()).stdin(Stdio::null());
    command.env("PACE_CACHE_DIR", repo.cache()).env("PACE_STATE_DIR", repo.state());
    finish(command)
}

fn step(cmd: &str, network: serde_json::Value) -> Repo {
    Repo::new(
        &json!({ "name": "n", "steps": [{ "id": "s", "cmd": cmd, "network": network, "cache": "never" }] }).to_string(),
    )
}

const ASK: &str = "ask() { python3 - \"$1\" <<'P'\nimport sys, urllib.request\ntry:\n    print(sys.argv[1], urllib.request.urlopen(sys.argv[1], timeout=10).status)\nexcept Exception as error:\n    print(sys.argv[1], 'refused')\nP\n}\n";

#[test]
fn a_list_reaches_its_hosts_and_nothing_else() {
    if !is_root() {
        return;
    }
    let cmd = format!(
        "{ASK}ask http://mirror.example:8088/; ask http://other.example:8088/; ask http://203.0.113.5:8088/; ask http://203.0.113.5:22/"
    );
    let repo = step(&cmd, json!(["mirror.example:8088"]));
    outside(&repo, "")
        .code(0)
        .says("http://mirror.example:8088/ 200")
        .says("http://other.example:8088/ refused")
        .says("http://203.0.113.5:8088/ refused")
        .says("its network refused other.example (not in the step's network list)");
}

#[test]
fn the_result_lists_what_was_reached_and_refused() {
    if !is_root() {
        return;
    }
    let cmd = format!("{ASK}ask http://mirror.example:8088/; ask http://other.example:8088/");
    let events = outside(&step(&cmd, json!(["mirror.example:8088"])), "--output json").code(0).events();
    let ended = events.iter().find(|event| event["event"] == "attempt_ended").expect("an attempt");
    let host = &ended["traffic"]["hosts"][0];
    assert_eq!(
        (&host["host"], &host["port"], &host["connections"]),
        (&json!("mirror.example"), &json!(8088), &json!(1))
    );
    assert!(host["received"].as_u64().is_some_and(|bytes| bytes > 100), "{host}");
    assert!(ended["traffic"]["refused"].to_string().contains("other.example"), "{ended}");
}

#[test]
fn the_full_network_is_not_the_hosts_loopback_nor_its_metadata() {
    if !is_root() {
        return;
    }
    let cmd = format!(
        "{ASK}ask http://mirror.example:8088/; ask http://203.0.113.5:8088/; ask http://127.0.0.1:8088/; \
         ask http://localhost:8088/; ask http://169.254.169.254/; ip -o link 2>/dev/null | wc -l"
    );
    outside(&step(&cmd, json!("full")), "")
        .code(0)
        .says("http://mirror.example:8088/ 200")
        .says("http://203.0.113.5:8088/ 200")
        .says("http://127.0.0.1:8088/ refused")
        .says("http://localhost:8088/ refused")
        .does_not_say("http://169.254.169.254/ 200");
}

#[test]
fn a_list_that_cannot_be_meant_is_an_error_of_the_pipeline() {
    step("true", json!(["no port"])).pace(&["check"]).code(3);
}
