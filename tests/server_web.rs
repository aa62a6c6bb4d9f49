//! The pages of a real server in a real browser: Debian's Chromium, driven by `playwright-core` (`dev/tools.sh playwright`).
//!
//! Each test is a scene of `server_web/browser.js`, which fails on any error on the console and any violation of the content
//! security policy. Pictures of the pages are left in `target/pages` for people to look at.

#[path = "server_web/scene.rs"]
mod scene;

use scene::Scene;

/// A pipeline with a parameter, a step that prints colours, one that is slow, and an approval.
const PIPELINE: &str = r#"
name: checkout
on: { push: {}, manual: {} }
params:
  greeting: { type: string, default: hello, description: What the first step says }
  loud: { type: boolean, default: false }
steps:
  - id: deps
    cmd: 'printf "\033[32m%s\033[0m <b>world</b>\n" "${{ params.greeting }}"'
    cache: never
  - id: test
    depends_on: [deps]
    matrix: { shard: [1, 2, 3] }
    cmd: "for i in $(seq 1 12); do echo \"shard ${{ matrix.shard }} line $i\"; sleep 0.05; done"
    cache: never
  - id: lint
    depends_on: [deps]
    cmd: "echo 'error: this is wrong' >&2; exit 3"
    allow_failure: true
  - id: ship
    depends_on: [test]
    approve: { by: [user:anna], message: "Ship it?" }
  - id: publish
    depends_on: [ship]
    cmd: echo published
    cache: never
"#;

/// A step whose log is watched for long.
const SLOW: &str = r#"
name: slow
on: { manual: {} }
steps:
  - id: count
    cmd: "for i in $(seq 1 300); do echo \"line-$i-end\"; sleep 0.05; done"
    cache: never
"#;

/// A step that prints much.
const MUCH: &str = r#"
name: much
on: { manual: {} }
steps:
  - id: print
    cmd: "seq -f 'number %.0f of many' 1 120000"
    cache: never
"#;

/// A step that fails, and one that never ends.
const FAILS: &str = r#"
name: fails
on: { manual: {} }
steps:
  - { id: good, cmd: "echo fine" , cache: never }
  - { id: bad, cmd: "echo 'error: out of luck'; exit 7", depends_on: [good] }
"#;

const ENDLESS: &str = r#"
name: endless
on: { manual: {} }
steps:
  - { id: wait, cmd: "echo waiting; sleep 3600", cache: never }
"#;

#[test]
fn somebody_who_never_opens_a_terminal_sets_up_a_server_and_runs_a_pipeline() {
    if let Some(mut scene) = Scene::begin(PIPELINE) {
        scene.plays("first_day");
    }
}

#[test]
fn a_log_that_is_watched_while_the_server_is_killed_has_every_line_once() {
    if let Some(mut scene) = Scene::begin_with_own_agent(SLOW) {
        scene.plays("killed_while_watched");
    }
}

#[test]
fn a_hundred_thousand_lines_do_not_freeze_the_page() {
    if let Some(mut scene) = Scene::begin(MUCH) {
        scene.plays("many_lines");
    }
}

#[test]
fn what_failed_is_done_again_by_keyboard_alone() {
    if let Some(mut scene) = Scene::begin(FAILS) {
        scene.plays("keyboard");
    }
}

#[test]
fn a_run_is_started_and_cancelled_without_any_script() {
    if let Some(mut scene) = Scene::begin(ENDLESS) {
        scene.plays("without_script");
    }
}
