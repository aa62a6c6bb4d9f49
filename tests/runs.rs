//! What a run does: order, cache, failures, selection, values, expansion.

use crate::support::Repo;

const THREE: &str = r#"
name: three
steps:
  - id: a
    cmd: echo one > a.txt
  - id: b
    cmd: echo two > b.txt
  - id: c
    depends_on: [a, b]
    cmd: cat a.txt b.txt
"#;

#[test]
fn dependants_see_what_their_dependencies_wrote() {
    let repo = Repo::new(THREE);
    repo.pace(&["run"]).code(0).says("c | one").says("c | two");
    assert!(!repo.root().join("a.txt").exists(), "a step writes its layer, not the repository");
}

#[test]
fn the_second_run_executes_nothing() {
    let repo = Repo::new(THREE);
    assert_eq!(repo.executed(&[]), ["a", "b", "c"]);
    assert_eq!(repo.executed(&[]), [""; 0]);
}

#[test]
fn only_what_reads_a_changed_file_runs_again() {
    let pipeline = r#"
name: inputs
steps:
  - { id: docs, cmd: wc -l README.md, inputs: [README.md] }
  - { id: code, cmd: cat main.txt, inputs: [main.txt] }
"#;
    let repo = Repo::with(&[("paceline.yaml", pipeline), ("README.md", "read me"), ("main.txt", "code")]);
    repo.executed(&[]);
    repo.write("README.md", "read me again");
    assert_eq!(repo.executed(&[]), ["docs"]);
}

#[test]
fn a_step_whose_dependency_wrote_the_same_bytes_is_not_run_again() {
    let pipeline = r#"
name: cutoff
steps:
  - { id: gen, cmd: grep -v '^#' in.txt > out.txt, inputs: [in.txt], outputs: [out.txt] }
  - { id: use, depends_on: [gen], cmd: cat out.txt, inputs: [out.txt] }
"#;
    let repo = Repo::with(&[("paceline.yaml", pipeline), ("in.txt", "# a\nx\n")]);
    assert_eq!(repo.executed(&[]), ["gen", "use"]);
    repo.write("in.txt", "# another comment\nx\n");
    assert_eq!(repo.executed(&[]), ["gen"]);
}

#[test]
fn a_failure_stops_the_run_and_says_what_to_do() {
    let repo = Repo::new(
        "name: f\nsteps:\n  - { id: bad, cmd: \"echo it broke; exit 7\" }\n  - { id: after, depends_on: [bad], cmd: echo never }\n",
    );
    repo.pace(&["run"])
        .code(10)
        .says("bad: failed: exit code 7")
        .says("it broke")
        .says("pace shell 1 bad")
        .says("pace run --rerun-failed")
        .does_not_say("after | never");
}

#[test]
fn keep_going_runs_what_does_not_depend_on_the_failure() {
    let repo = Repo::new(
        "name: k\nsteps:\n  - { id: bad, cmd: exit 1 }\n  - { id: other, cmd: echo fine }\n  - { id: last, depends_on: [other], cmd: echo reached }\n",
    );
    repo.pace(&["run", "-j1"]).code(10).does_not_say("last | reached");
    repo.pace(&["run", "-j1", "--keep-going"]).code(10).says("last | reached");
}

#[test]
fn rerun_failed_runs_only_what_did_not_pass() {
    let repo = Repo::new(
        "name: r\nsteps:\n  - { id: good, cmd: echo good, cache: never }\n  - { id: bad, cmd: test -f fixed }\n  - { id: after, depends_on: [bad], cmd: echo after }\n",
    );
    repo.pace(&["run", "--keep-going"]).code(10);
    repo.write("fixed", "");
    let events = repo.pace(&["run", "--rerun-failed", "--output", "json"]).code(0).events();
    assert_eq!(crate::support::executed(&events), ["after", "bad"]);
    repo.pace(&["run", "--rerun-failed"]).code(2).complains("nothing failed in run #2");
}

#[test]
fn from_executes_a_step_and_what_depends_on_it() {
    let repo = Repo::new(THREE);
    repo.executed(&[]);
    assert_eq!(repo.executed(&["--from", "b"]), ["b", "c"]);
    assert_eq!(repo.executed(&["--no-cache"]), ["a", "b", "c"]);
}

#[test]
fn named_steps_bring_what_they_need() {
    let repo = Repo::new(THREE);
    assert_eq!(repo.executed(&["a"]), ["a"]);
    assert_eq!(repo.executed(&["c"]), ["b", "c"]);
    repo.pace(&["run", "d"]).code(2).complains("`d`");
}

#[test]
fn verify_finds_a_step_that_is_not_reproducible() {
    let repo = Repo::new(
        "name: v\nsteps:\n  - { id: same, cmd: echo x > x, outputs: [x] }\n  - { id: other, cmd: date +%N > y, outputs: [y] }\n",
    );
    repo.pace(&["run"]).code(0);
    repo.pace(&["run", "--verify", "same"]).code(0);
    repo.pace(&["run", "--verify", "other"]).code(10).says("y");
}

#[test]
fn values_conditions_and_matrix_work_together() {
    let repo = Repo::new(
        r#"
name: values
steps:
  - id: pick
    cmd: echo "go=1.23" >> "$PACE_VALUES"
  - id: test
    depends_on: [pick]
    matrix: { os: [linux, bsd], n: [1, 2], exclude: [{ os: bsd, n: 2 }] }
    cmd: echo "${{ matrix.os }} ${{ matrix.n }} with $GO"
    env: { GO: "${{ steps.pick.values.go }}" }
  - id: never
    depends_on: [pick]
    if: steps.pick.values.go == "2.0"
    cmd: echo no
"#,
    );
    repo.pace(&["run"])
        .code(0)
        .says("linux 2 with 1.23")
        .says("bsd 1 with 1.23")
        .does_not_say("bsd 2")
        .does_not_say("never | no");
}

#[test]
fn a_step_may_write_the_steps_that_follow() {
    let repo = Repo::new(
        r#"
name: dynamic
steps:
  - id: gen
    cmd: |
      echo "steps:" > more.yaml
      for n in 1 2 3; do echo "  - { id: part$n, cmd: echo made $n > out$n }" >> more.yaml; done
  - { id: more, depends_on: [gen], expand: more.yaml }
  - { id: all, depends_on: [more], cmd: cat out1 out2 out3 }
"#,
    );
    repo.pace(&["run"]).code(0).says("all | made 3");
    assert_eq!(repo.executed(&[]), ["more"], "the expansion itself only reads a file");
}

#[test]
fn clean_up_runs_after_a_failure() {
    let repo = Repo::new(
        "name: w\nsteps:\n  - { id: bad, cmd: exit 1 }\n  - { id: tidy, depends_on: [bad], when: always, cmd: echo tidied }\n  - { id: alarm, depends_on: [bad], when: failure, cmd: echo alarmed }\n",
    );
    repo.pace(&["run"]).code(10).says("tidy | tidied").says("alarm | alarmed");
}

#[test]
fn a_failed_attempt_is_tried_again_as_often_as_asked() {
    let pipeline = "name: retry\nsteps:\n  - id: flaky\n    cmd: test \"$PACE_ATTEMPT\" = 3\n    retry: { attempts: 3, backoff: { initial: 10ms } }\n";
    Repo::new(pipeline).pace(&["run"]).code(0).says("attempt 2 of 3");
}

#[test]
fn two_steps_that_wrote_one_path_differently_are_an_error_that_names_both() {
    let repo = Repo::new(
        "name: c\nsteps:\n  - { id: left, cmd: echo 1 > x }\n  - { id: right, cmd: echo 2 > x }\n  - { id: both, depends_on: [left, right], cmd: cat x }\n",
    );
    repo.pace(&["run"]).code(10).says("left").says("right").says("`x`");
}

#[test]
fn parameters_are_typed_and_checked_before_anything_runs() {
    let repo = Repo::new(
        "name: p\nparams:\n  version: { type: string, pattern: '^\\d+$', default: \"1\" }\n  loud: { type: boolean, default: false }\nsteps:\n  - { id: s, cmd: \"echo v${{ params.version }}\" }\n",
    );
    repo.pace(&["run", "--param", "version=42"]).code(0).says("s | v42");
    repo.pace(&["run", "--param", "version=x"]).code(2).complains("version");
    repo.pace(&["run", "--param", "loud=maybe"]).code(2).complains("loud");
    repo.pace(&["run", "--param", "versoin=1"]).code(2).complains("version");
}

#[test]
fn two_runs_at_once_on_one_repository_are_safe() {
    let repo = Repo::new(THREE);
    let live: Vec<_> = (0..4).map(|_| repo.start(&["run", "--no-cache"])).collect();
    for run in live {
        run.wait().code(0).says("c | two");
    }
    let numbers = repo.pace(&["runs", "--output", "json"]).code(0);
    assert_eq!(numbers.out.lines().count(), 4, "{}", numbers.out);
}

#[test]
fn a_concurrency_group_lets_one_run_in_at_a_time() {
    let repo = Repo::new(
        "name: g\nconcurrency: { group: one, policy: queue }\nsteps:\n  - { id: s, cmd: \"sleep 0.5\", cache: never }\n",
    );
    let first = repo.start(&["run"]);
    crate::support::until("the first run holds the group", || {
        repo.state().join("groups").is_dir() && !crate::support::processes("sleep 0.5").is_empty()
    });
    let second = repo.pace(&["run"]).code(0);
    second.complains("waits for concurrency group `one`, held by run #1");
    first.wait().code(0);
}

#[test]
fn a_newer_run_cancels_the_older_one_when_the_group_says_so() {
    let repo = Repo::new(
        "name: g\nconcurrency: { group: one, policy: cancel-running }\nsteps:\n  - { id: s, cmd: \"test -f fast || sleep 100.25\", cache: never }\n",
    );
    let first = repo.start(&["run"]);
    crate::support::until("the first run is under way", || !crate::support::processes("sleep 100.25").is_empty());
    repo.write("fast", "");
    repo.pace(&["run"]).code(0);
    first.wait().code(12);
}

#[test]
fn named_caches_survive_the_run_and_stay_out_of_results() {
    let repo = Repo::new(
        "name: n\nsteps:\n  - id: s\n    cmd: |\n      echo \"runs before: $(ls ~/.cache/tool | wc -l)\"\n      touch ~/.cache/tool/$(date +%N)\n    cache: never\n    caches: [{ path: ~/.cache/tool, key: tool }]\n",
    );
    repo.pace(&["run"]).code(0).says("runs before: 0");
    repo.pace(&["run"]).code(0).says("runs before: 1");
    repo.pace(&["run"]).code(0).says("runs before: 2");
}

#[test]
fn path_filters_hold_a_pipeline_back() {
    let repo = Repo::with(&[
        (
            ".paceline/api.yaml",
            "name: api\non: { push: { paths: [\"api/**\"] } }\nsteps:\n  - { id: a, cmd: echo api runs }\n",
        ),
        (
            ".paceline/web.yaml",
            "name: web\non: { push: { paths: [\"web/**\"] } }\nsteps:\n  - { id: w, cmd: echo web runs }\n",
        ),
        ("api/x", "1"),
    ]);
    repo.write("api/x", "2");
    repo.commit();
    repo.pace(&["run", "--event", "push"])
        .code(0)
        .says("a | api runs")
        .says(".paceline/web.yaml: nothing to run")
        .does_not_say("web runs");
    repo.pace(&["run"]).code(2).complains("name one with --file");
}

#[test]
fn a_rerun_keeps_the_parameters_of_the_run_it_repeats() {
    let repo = Repo::new(
        "name: p\nparams:\n  word: { type: string, default: none }\nsteps:\n  - { id: s, cmd: 'echo \"word ${{ params.word }}\"; test -f fixed' }\n",
    );
    repo.pace(&["run", "--param", "word=kept"]).code(10);
    repo.write("fixed", "");
    repo.pace(&["run", "--rerun-failed"]).code(0).says("s | word kept");
}

#[test]
fn clean_up_is_never_taken_from_the_cache() {
    let repo = Repo::new(
        "name: w\nsteps:\n  - { id: a, cmd: echo }\n  - { id: tidy, depends_on: [a], when: always, cmd: echo tidied }\n",
    );
    assert_eq!(repo.executed(&[]), ["a", "tidy"]);
    assert_eq!(repo.executed(&[]), ["tidy"]);
}
