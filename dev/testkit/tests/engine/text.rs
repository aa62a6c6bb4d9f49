//! Scenes from text to end: what a person writes does what it says.

use std::time::Duration;

use model::Work;
use testkit::World;

fn script(w: &World, step: &str) -> String {
    match &w.spec(step).work {
        Work::Command(command) => command.script.clone(),
        Work::ReadFile(path) => panic!("`{step}` reads {path}"),
    }
}

#[test]
fn the_smallest_pipeline_runs_as_written() {
    let mut w = World::with_agents(["a1"]);
    let run = w.push(
        "name: \"ci-build\"\nsteps:\n  - id: build\n    cmd: \"go build -o bin/app .\"\n    env: { GOOS: linux }\n",
    );
    assert_eq!(script(&w, "build"), "go build -o bin/app .");
    let Work::Command(command) = &w.spec("build").work else { panic!("a command") };
    assert_eq!(command.env["GOOS"], "linux");
    w.passes("build");
    w.run_is(&run, "success");
}

#[test]
fn a_lost_agent_gives_the_step_back() {
    let mut w = World::with_agents(["a1"]);
    w.push(
        "name: x\nsteps: [{ id: test, cmd: cargo test, retry: { attempts: 3, on: [lost], backoff: { jitter: 0 } } }]",
    );
    w.vanishes("a1");
    w.sees("test", "waits 1.0s before attempt 2 of 3 (lost: agent a1 is gone)");
    w.joins("a2", 1);
    w.pass(Duration::from_secs(1));
    w.sees("test", "running on a2 (attempt 2 of 3)");
}

#[test]
fn matrix_values_conditions_and_values_reach_the_commands() {
    let mut w = World::with_agents([]);
    w.joins("a1", 8);
    w.push(
        r#"
name: x
steps:
  - { id: build, cmd: make }
  - id: test
    depends_on: [build]
    matrix: { go: ["1.22", "1.23"], race: [true, false], exclude: [{ go: "1.22", race: true }] }
    cmd: |
      test ${{ matrix.go }} ${{ matrix.race ? "-race" : "" }}
  - id: release
    depends_on: [test]
    if: git.branch == "main"
    cmd: release
  - id: ship
    depends_on: [test, build]
    env: { IMAGE: "img:${{ steps.build.values.digest }}" }
    cmd: ship
"#,
    );
    w.sees("release", "skipped: its `if` is false");
    w.says("build", &[("digest", "abc")]);
    assert_eq!(script(&w, "test[go=1.23,race=true]"), "test 1.23 -race\n");
    for step in ["test[go=1.22,race=false]", "test[go=1.23,race=true]", "test[go=1.23,race=false]"] {
        w.passes(step);
    }
    let Work::Command(command) = &w.spec("ship").work else { panic!("a command") };
    assert_eq!(command.env["IMAGE"], "img:abc");
}

#[test]
fn the_env_of_the_pipeline_is_shared_and_each_step_has_its_own_over_it() {
    let mut w = World::with_agents([]);
    w.joins("a1", 8);
    w.push(
        r#"
name: x
env: { RUN: "r${{ run.number }}", LEVEL: "1" }
steps:
  - { id: own, cmd: make, env: { LEVEL: "2" } }
  - { id: plain, cmd: make }
  - { id: again, cmd: make }
"#,
    );
    let env = |step: &str| match &w.spec(step).work {
        Work::Command(command) => command.clone(),
        Work::ReadFile(path) => panic!("`{step}` reads {path}"),
    };
    let (own, plain) = (env("own").keyed_env(), env("plain").keyed_env());
    assert_eq!((&*own["RUN"], &*own["LEVEL"], &*own["PACE_STEP"]), ("r1", "2", "own"));
    assert_eq!((&*plain["RUN"], &*plain["LEVEL"], &*plain["PACE_STEP"]), ("r1", "1", "plain"));
    assert!(std::sync::Arc::ptr_eq(&env("plain").env, &env("again").env), "one copy for both");
}

#[test]
fn a_template_use_runs_cell_by_cell_and_ends_when_all_its_steps_have() {
    let mut w = World::with_agents([]);
    w.joins("a1", 8);
    w.push(
        r#"
name: x
templates:
  check:
    params: { dir: { type: string } }
    steps:
      - { id: build, cmd: "make -C ${{ params.dir }}" }
      - { id: test, depends_on: [build], cmd: "make -C ${{ params.dir }} test" }
steps:
  - { id: svc, use: check, with: { dir: svc }, matrix: { os: [a, b] } }
  - { id: ship, depends_on: [svc], cmd: ship }
"#,
    );
    w.passes("svc.build[os=a]");
    w.sees("svc.test[os=a]", "running on a1");
    w.sees("svc.test[os=b]", "waits for `svc.build[os=b]` (running 0ms)");
    w.passes("svc.build[os=b]");
    w.passes("svc.test[os=a]");
    w.passes("svc.test[os=b]");
    w.sees("ship", "running on a1");
}

#[test]
fn a_dynamic_pipeline_is_checked_like_any_other() {
    let mut w = World::with_agents([]);
    w.joins("a1", 8);
    let yaml = "name: x\nsteps: [{ id: gen, cmd: gen }, { id: more, depends_on: [gen], expand: ci/more.yaml }]";
    w.push(yaml);
    w.passes("gen");
    w.expands_to("more", "steps: [{ id: a, cmd: echo a }, { id: b, depends_on: [a], cmd: echo b }]");
    w.sees("more.a", "running on a1");
    w.passes("more.a");
    w.passes("more.b");
    w.sees("more", "passed");
    w.push(yaml);
    w.passes("gen");
    w.expands_to("more", "steps: [{ id: a, cmd: echo a, depends_on: [b] }]");
    let shown = w.shows("more");
    assert!(shown.starts_with("failed: error: step `a` depends on `b`, which does not exist"), "{shown}");
}
