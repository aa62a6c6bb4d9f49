//! What a step leaves behind, and what `pace` does with it: layers, values, artifacts, reports.

use std::fs;

use attacks::stage::Stage;
use serde_json::json;

use crate::scene::{fingerprint, run, said, scene, seen};

#[test]
fn the_repository_stays_as_it_was() {
    scene("write-repository", |stage| {
        let steps =
            json!([{ "id": "s", "cmd": "rm -rf ./* .gitignore; echo evil > paceline.yaml; chmod 777 .; echo done" }]);
        unchanged(stage, steps, "done")
    });
}

#[test]
fn hooks_and_configuration_of_git_reach_nobody() {
    scene("git-hooks", |stage| {
        let steps = json!([
            { "id": "s", "cmd": "mkdir -p .git/hooks; printf '#!/bin/sh\\nkill 1\\n' > .git/hooks/post-checkout; \
                chmod +x .git/hooks/post-checkout; printf '[core]\\nfsmonitor = ./evil\\n' > .git/config; echo done" },
            { "id": "next", "depends_on": ["s"], "cmd": "true" },
        ]);
        unchanged(stage, steps, "done")
    });
}

/// Runs the steps and compares the repository before and after.
fn unchanged(stage: &Stage, steps: serde_json::Value, text: &str) -> String {
    crate::scene::write_pipeline(stage, steps.clone());
    drop(stage.pace(std::path::Path::new(crate::scene::PACE), &[]));
    let mut before = fingerprint(&stage.root());
    let ended = run(stage, steps);
    let mut after = fingerprint(&stage.root());
    // It is written a second time with the same bytes.
    for all in [&mut before, &mut after] {
        all.remove(&stage.root().join("paceline.yaml"));
    }
    if before != after {
        let changed: Vec<_> = after.iter().filter(|(path, what)| before.get(*path) != Some(what)).collect();
        return format!("ESCAPED: changed {changed:?}");
    }
    seen(stage, &ended, 0, text, "the repository is as it was")
}

#[test]
fn the_home_of_the_person_stays_as_it_was() {
    scene("write-home", |stage| {
        let cmd = "mkdir -p ~/.ssh; echo evil > ~/.ssh/authorized_keys; echo evil > ~/.bashrc; echo done";
        drop(stage.pace(std::path::Path::new(crate::scene::PACE), &[]));
        let before = fingerprint(&stage.folder().join("home"));
        let ended = run(stage, json!([{ "id": "s", "cmd": cmd }]));
        if fingerprint(&stage.folder().join("home")) != before {
            return "ESCAPED: the home has changed".into();
        }
        seen(stage, &ended, 0, "done", "the home is as it was")
    });
}

#[test]
fn the_layer_of_another_step_stays_as_it_was() {
    scene("write-other-layer", |stage| {
        let ended = run(
            stage,
            json!([
                { "id": "made", "cmd": "mkdir d; echo original > d/f; chmod 444 d/f" },
                { "id": "evil", "depends_on": ["made"], "cmd": "ln d/f g; chmod 644 d/f; echo evil > d/f; echo evil > g; rm -rf d; ls" },
                { "id": "look", "depends_on": ["made"], "when": "always", "cmd": "sleep 1; cat d/f" },
            ]),
        );
        match said(&ended, "look")[..] {
            ["original"] => seen(stage, &ended, 0, "original", "the other sees what it saw"),
            _ => format!("ESCAPED: {}{}", ended.out, ended.err),
        }
    });
}

#[test]
fn a_layer_with_the_overlays_own_attributes_shows_nothing_hidden() {
    scene("overlay-redirect-layer", |stage| {
        let ended = run(
            stage,
            json!([
                { "id": "evil", "cmd": "mkdir d o; echo x > m; ./attacks helper overlay d o m; rm -rf o; mkdir o" },
                { "id": "look", "depends_on": ["evil"], "cmd": "ls -A d o; cat m; test ! -e .git; test ! -e ignored.env; echo looked" },
            ]),
        );
        match said(&ended, "look")[..] {
            ["d:", "", "o:", "x", "looked"] | ["d:", "o:", "x", "looked"] => {
                seen(stage, &ended, 0, "looked", "hidden files stay hidden")
            }
            _ => format!("ESCAPED: {}{}", ended.out, ended.err),
        }
    });
}

const VALUES: &str = "the file of $PACE_VALUES cannot be read";

#[test]
fn values_are_not_read_through_a_link() {
    scene("values-link", |stage| {
        let cmd = "rm \"$PACE_VALUES\"; ln -s \"$ATTACK_OUTSIDE/secret\" \"$PACE_VALUES\"";
        let ended = run(stage, json!([{ "id": "s", "cmd": cmd }]));
        seen(stage, &ended, 10, VALUES, "the step fails and says why")
    });
}

#[test]
fn values_in_a_pipe_do_not_hang_the_run() {
    scene("values-fifo", |stage| {
        let ended = run(stage, json!([{ "id": "s", "cmd": "rm \"$PACE_VALUES\"; mkfifo \"$PACE_VALUES\"" }]));
        seen(stage, &ended, 10, VALUES, "the step fails and says why")
    });
}

#[test]
fn too_many_values_are_refused() {
    scene("values-flood", |stage| {
        let cmd = "head -c 50000000 /dev/zero | tr '\\0' x > \"$PACE_VALUES\"";
        let ended = run(stage, json!([{ "id": "s", "cmd": cmd }]));
        seen(stage, &ended, 10, VALUES, "the step fails and says why")
    });
}

#[test]
fn the_desk_replaced_by_a_link_takes_nothing_in() {
    scene("values-folder-link", |stage| {
        let cmd = "cd /run/pace; rm -f values; mkdir values; ln -s \"$ATTACK_OUTSIDE/secret\" values/x; rm -f script; \
                   ln -s \"$ATTACK_OUTSIDE/secret\" script";
        let ended =
            run(stage, json!([{ "id": "s", "cmd": cmd }, { "id": "next", "depends_on": ["s"], "cmd": "true" }]));
        seen(stage, &ended, 10, VALUES, "the step fails and says why")
    });
}

#[test]
fn an_artifact_that_is_a_link_takes_nothing_along() {
    scene("artifact-link", |stage| {
        let artifact = json!([{ "name": "app", "path": "dist/app" }]);
        let cmd = "mkdir dist; ln -s \"$ATTACK_OUTSIDE/secret\" dist/app";
        let ended = run(stage, json!([{ "id": "s", "cmd": cmd, "artifacts": artifact }]));
        seen(stage, &ended, 10, "app", "the step fails and says why")
    });
}

#[test]
fn an_artifact_in_a_folder_that_is_a_link_takes_nothing_along() {
    scene("artifact-folder-link", |stage| {
        let artifact = json!([{ "name": "app", "path": "dist/secret" }]);
        let cmd = "ln -s \"$ATTACK_OUTSIDE\" dist";
        let ended = run(stage, json!([{ "id": "s", "cmd": cmd, "artifacts": artifact }]));
        seen(stage, &ended, 10, "app", "the step fails and says why")
    });
}

#[test]
fn a_report_that_is_a_link_is_not_read() {
    scene("report-link", |stage| {
        let cmd = "ln -s \"$ATTACK_OUTSIDE/secret\" report.xml";
        let ended = run(stage, json!([{ "id": "s", "cmd": cmd, "reports": { "junit": "report.xml" } }]));
        seen(stage, &ended, 10, "is a symbolic link", "the step fails and says why")
    });
}

#[test]
fn a_report_that_unfolds_without_end_is_not_unfolded() {
    scene("report-bomb", |stage| {
        let mut bomb = "<?xml version=\"1.0\"?><!DOCTYPE l [<!ENTITY a0 \"lol\">".to_string();
        for level in 1..12 {
            let inner = format!("&a{};", level - 1).repeat(10);
            bomb.push_str(&format!("<!ENTITY a{level} \"{inner}\">"));
        }
        bomb.push_str("]><testsuites><testsuite name=\"&a11;\"><testcase name=\"&a11;\"/></testsuite></testsuites>");
        fs::write(stage.root().join("bomb.xml"), bomb).expect("a file");
        let ended =
            run(stage, json!([{ "id": "s", "cmd": "cp bomb.xml report.xml", "reports": { "junit": "report.xml" } }]));
        seen(stage, &ended, 0, "", "the run ends")
    });
}

#[test]
fn steps_are_not_read_through_a_link() {
    scene("expand-link", |stage| {
        let ended = run(
            stage,
            json!([
                { "id": "evil", "cmd": "mkdir ci; ln -s \"$ATTACK_OUTSIDE/secret\" ci/more.yaml" },
                { "id": "more", "depends_on": ["evil"], "expand": "ci/more.yaml" },
            ]),
        );
        seen(stage, &ended, 10, "ci/more.yaml", "the step fails and says why")
    });
}

#[test]
fn outputs_that_change_while_they_are_taken_do_not_because_nothing_runs_any_more() {
    scene("output-race", |stage| {
        let cmd = "(while :; do ln -sfn \"$ATTACK_OUTSIDE\" out; rm -rf out; mkdir out; echo content > out/secret; done) & \
                   sleep 0.5; exit 0";
        for _ in 0..3 {
            let ended = run(stage, json!([{ "id": "s", "cmd": cmd, "outputs": ["out"], "cache": "never" }]));
            // It may end while there is no `out`, which is a failure and says so.
            let seen = seen(stage, &ended, ended.code.unwrap_or(-1), "", "never anything of the host");
            if !seen.starts_with("harmless") {
                return seen;
            }
        }
        "harmless: never anything of the host".into()
    });
}

#[test]
fn a_file_of_holes_is_not_read_as_if_it_were_full() {
    scene("sparse-file", |stage| {
        let ended =
            run(stage, json!([{ "id": "s", "cmd": "truncate -s 1T big", "outputs": ["big"], "timeout": "100s" }]));
        seen(stage, &ended, 10, "", "the step fails and says why")
    });
}

#[test]
fn folders_deeper_than_a_path_is_long_are_refused_and_removed() {
    scene("deep-folders", |stage| {
        let ended = run(
            stage,
            json!([{ "id": "s", "cmd": "./attacks helper deep 3000" }, { "id": "look", "depends_on": ["s"], "cmd": "ls deep" }]),
        );
        let seen = seen(stage, &ended, 10, "within each other", "the step fails and says why");
        if seen.starts_with("harmless") { clean(stage, &seen) } else { seen }
    });
}

#[test]
fn hostile_names_of_files_are_kept_or_refused_but_never_shown_raw() {
    scene("hostile-names", |stage| {
        let ended = run(
            stage,
            json!([{ "id": "s", "cmd": "./attacks helper names" }, { "id": "look", "depends_on": ["s"], "cmd": "ls names | wc -l" }]),
        );
        if ended.out.contains('\x1b') || ended.err.contains('\x1b') {
            return format!("ESCAPED: {:?}{:?}", ended.out, ended.err);
        }
        seen(stage, &ended, 10, "UTF-8", "the step fails and says why")
    });
}

#[test]
fn what_nobody_may_read_is_removed_all_the_same() {
    scene("unremovable", |stage| {
        let cmd = "mkdir -p a/b \"$HOME/c/d\" /tmp/e; touch a/b/f \"$HOME/c/d/f\"; chmod 000 a/b/f a/b a \"$HOME/c/d\" \"$HOME/c\" \"$HOME\"; exit 3";
        let ended = run(stage, json!([{ "id": "s", "cmd": cmd }]));
        let seen = seen(stage, &ended, 10, "exit code 3", "nothing is left");
        fs::remove_dir_all(stage.folder().join("state")).expect("history");
        if seen.starts_with("harmless") { clean(stage, &seen) } else { seen }
    });
}

/// What was seen, unless scratch still has a room of the run.
fn clean(stage: &Stage, seen: &str) -> String {
    let scratch = stage.folder().join("cache/scratch");
    let left: Vec<_> =
        fingerprint(&scratch).into_keys().filter(|path| path.to_string_lossy().contains("/room-")).collect();
    if left.is_empty() { seen.into() } else { format!("left behind: {left:?}") }
}
