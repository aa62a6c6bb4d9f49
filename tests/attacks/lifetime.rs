//! Outliving the step, meeting steps that run at the same time, and flooding whoever reads.

use std::path::Path;
use std::time::{Duration, Instant};

use attacks::stage;
use serde_json::json;

use crate::scene::{PACE, processes, run, said, scene, seen, write_pipeline};

#[test]
fn daemons_end_with_their_step() {
    scene("daemon", |stage| {
        let mark = format!("7{}", stage.world().victim);
        let cmd = format!(
            "trap '' TERM HUP INT; (setsid sh -c 'trap \"\" TERM HUP; sleep {mark}' > /dev/null 2>&1 < /dev/null &); \
             (setsid setsid sleep {mark} &) > /dev/null 2>&1; sleep 0.3; echo left"
        );
        let ended = run(stage, json!([{ "id": "s", "cmd": cmd }]));
        match processes(&format!("sleep {mark}")) {
            0 => seen(stage, &ended, 0, "left", "none is left"),
            count => format!("ESCAPED: {count} are left"),
        }
    });
}

#[test]
fn a_daemon_that_keeps_the_output_open_does_not_keep_the_run() {
    scene("daemon-holds-output", |stage| {
        let begun = Instant::now();
        let ended = run(stage, json!([{ "id": "s", "cmd": "(trap '' TERM; sleep 200) & echo left" }]));
        // Not a measurement: the daemon would have kept it for minutes.
        if begun.elapsed() > Duration::from_secs(150) {
            return "ESCAPED: the run waited for it".into();
        }
        seen(stage, &ended, 0, "left", "the run ends")
    });
}

#[test]
fn a_step_that_stops_itself_ends_at_its_timeout() {
    scene("stopped-step", |stage| {
        let ended = run(stage, json!([{ "id": "s", "cmd": "kill -STOP $$", "timeout": "1s" }]));
        seen(stage, &ended, 10, "timed out", "it ends at its timeout")
    });
}

#[test]
fn a_step_that_kills_all_it_can_fails_and_nothing_else_does() {
    scene("kill-everything", |stage| {
        let steps = json!([{ "id": "s", "cmd": "kill -KILL -1 0 1; kill -KILL -- -$$" , "allow_failure": true }, { "id": "next", "depends_on": ["s"], "cmd": "echo goes on" }]);
        let ended = run(stage, steps);
        seen(stage, &ended, 0, "next | goes on", "the run goes on")
    });
}

#[test]
fn steps_at_the_same_time_do_not_meet() {
    scene("sibling-step", |stage| {
        let caches = json!([{ "path": "~/shared", "key": "shared" }]);
        let steps = json!([
            { "id": "target", "cmd": "./attacks helper linger", "cache": "never", "caches": caches },
            { "id": "thief", "cmd": "./attacks helper meet", "cache": "never", "caches": caches },
        ]);
        let ended = run(stage, steps);
        match (said(&ended, "thief")[..].last(), said(&ended, "target")[..].last()) {
            (Some(&"met nothing"), Some(&"met nobody")) => seen(stage, &ended, 0, "", "they do not meet"),
            _ => format!("ESCAPED: {}{}", ended.out, ended.err),
        }
    });
}

#[test]
fn a_flood_of_output_stays_out_of_memory() {
    scene("output-flood", |stage| {
        write_pipeline(
            stage,
            json!([{ "id": "s", "cmd": format!("yes {} | head -c 60000000; echo end", "0123456789".repeat(40)), "cache": "never" }]),
        );
        let mut command = stage.pace(Path::new(PACE), &["run", "--output", "json"]);
        command.stdout(std::process::Stdio::null());
        let (ended, peak) = stage::finish_with_peak(command);
        match peak {
            0..=64 => seen(stage, &ended, 0, "", "pace stays below 64 MiB"),
            peak => format!("ESCAPED: pace used {peak} MiB"),
        }
    });
}

#[test]
fn a_library_that_is_to_be_preloaded_reaches_its_own_step_only() {
    scene("preload", |stage| {
        let steps = json!([
            { "id": "s", "cmd": "./attacks read-shadow; echo ran", "env": { "LD_PRELOAD": "/workspace/evil.so", "LD_LIBRARY_PATH": "/workspace" } },
            { "id": "next", "depends_on": ["s"], "cmd": "test -z \"${LD_PRELOAD:-}\"; echo clean" },
        ]);
        let ended = run(stage, steps);
        if ended.err.contains("evil.so") {
            return format!("ESCAPED: pace itself tried to load it\n{}", ended.err);
        }
        seen(stage, &ended, 0, "next | clean", "no other program loads it")
    });
}
