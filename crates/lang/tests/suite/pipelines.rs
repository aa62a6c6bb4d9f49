//! What a run gets: the pipeline behind a text.

use std::collections::BTreeSet;
use std::time::Duration;

use lang::{Outer, load_expansion};
use model::expr::{Template, TemplatePart, Value};
use model::{Bytes, CmdStep, Network, Pipeline, Probe, RetryOn, Shell, StepId, StepKind, When};

use crate::{Repository, pipeline, step};

pub const EVERYTHING: &str = include_str!("everything.yaml");
pub const COMMON: &str = "env: { LANG: C.UTF-8 }\nsteps:\n  - { id: vet, cmd: go vet ./... }\ntemplates:\n  npm: { steps: [{ id: ci, cmd: npm ci }] }\n";

fn cmd<'a>(pipeline: &'a Pipeline, id: &str) -> &'a CmdStep {
    match &step(pipeline, id).kind {
        StepKind::Cmd(cmd) => cmd,
        other => panic!("{id} is {other:?}"),
    }
}

fn needs(pipeline: &Pipeline, id: &str) -> Vec<String> {
    step(pipeline, id).depends_on.iter().map(|id| id.to_string()).collect()
}

/// A template as text, expressions as `{}`.
fn shape(template: &Template) -> String {
    let part = |part: &TemplatePart| match part {
        TemplatePart::Text(text) => text.clone(),
        TemplatePart::Expr(_) => "{}".to_string(),
    };
    template.parts.iter().map(part).collect()
}

#[test]
fn the_smallest_pipeline_works_as_written() {
    let small = pipeline(
        "name: \"ci-build\"\nsteps:\n  - id: build\n    cmd: \"go build -o bin/app .\"\n    env: { GOOS: linux }\n",
    );
    assert_eq!(small.name, "ci-build");
    assert_eq!(cmd(&small, "build").cmd.as_plain(), Some("go build -o bin/app ."));
    assert_eq!(cmd(&small, "build").env["GOOS"].as_plain(), Some("linux"));
}

#[test]
fn everything_in_one_example_is_read() {
    let (loaded, report) = Repository::default().with("ci/common.yaml", COMMON).load(EVERYTHING);
    assert_eq!(report.render(false, 100), "");
    let all = loaded.expect("no errors");
    assert_eq!((all.on.schedule[0].timezone.as_str(), all.on.manual), ("Europe/Berlin", true));
    assert_eq!(all.hash_calls, BTreeSet::from([vec!["go.sum".to_string()]]));
    assert_eq!(all.params["deploy"].default, Some(Value::Bool(false)));
    assert!(all.env.contains_key("LANG") && all.env.contains_key("CGO_ENABLED"));
    let deps = cmd(&all, "deps");
    assert_eq!((deps.network.clone(), deps.caches[0].path.as_str()), (Network::Full, "~/go/pkg/mod"));
    assert_eq!(step(&all, "deps").timeout.total, Some(Duration::from_secs(600)), "defaults are filled in");
    let test = step(&all, "test");
    assert_eq!((test.shards, test.matrix.as_ref().map(|m| m.axes.len())), (4, Some(2)));
    assert_eq!(test.retry.on, [RetryOn::Lost, RetryOn::Timeout, RetryOn::Exit(75)]);
    assert_eq!(
        (test.timeout.total, test.timeout.idle),
        (Some(Duration::from_secs(900)), Some(Duration::from_secs(120)))
    );
    assert_eq!((test.resources.cpu_milli, test.resources.memory), (Some(2000), Some(Bytes(4 << 30))));
    let run = cmd(&all, "test");
    assert_eq!(
        (run.shell.clone(), run.services[0].ready.as_ref().map(|r| r.probe.clone())),
        (Shell::Bash, Some(Probe::Tcp(5432)))
    );
    assert!(step(&all, "lint").allow_failure && step(&all, "image").condition.is_some());
    assert!(matches!(&step(&all, "ship").kind, StepKind::Approve(ask) if ask.by == ["team:release"]));
    assert!(matches!(&step(&all, "more").kind, StepKind::Expand(path) if path == "ci/generated.yaml"));
    assert_eq!(cmd(&all, "vet").cmd.as_plain(), Some("go vet ./..."), "steps of the included file");
}

#[test]
fn words_of_older_yaml_stay_text() {
    let words = pipeline(
        "name: no\non: { push: }\nenv: { A: yes, B: on, C: 1.10, D: 012, E: true }\nsteps: [{ id: y, cmd: true }]\n",
    );
    assert_eq!(words.name, "no");
    assert!(words.on.push.is_some());
    let values: Vec<_> = words.env.values().map(|value| value.as_plain().unwrap()).collect();
    assert_eq!(values, ["yes", "on", "1.10", "012", "true"]);
}

#[test]
fn byte_order_mark_crlf_and_comments_do_no_harm() {
    let text = "\u{FEFF}# a comment\r\nname: ci\r\nsteps:\r\n  - id: a\r\n    cmd: |\r\n      one\r\n      two\r\n";
    assert_eq!(cmd(&pipeline(text), "a").cmd.as_plain(), Some("one\ntwo\n"));
}

#[test]
fn anchors_and_aliases_repeat_values() {
    let text = "name: ci\nsteps:\n  - { id: a, cmd: x, env: &e { K: v } }\n  - { id: b, cmd: x, env: *e }\n";
    assert_eq!(cmd(&pipeline(text), "b").env["K"].as_plain(), Some("v"));
}

#[test]
fn a_use_becomes_its_steps_and_a_group() {
    let used = pipeline(
        "name: ci\nsteps:\n  - { id: pre, cmd: x }\n  - { id: u, use: t, depends_on: [pre], when: always, if: git.branch == \"main\", matrix: { os: [a, b] }, with: { dir: \"svc/${{ matrix.os }}\" } }\n  - { id: post, cmd: x, depends_on: [u] }\ntemplates:\n  t:\n    params: { dir: { type: string }, n: { type: integer, default: 3 } }\n    steps:\n      - { id: one, cmd: \"cd ${{ params.dir }}; seq ${{ params.n }}\" }\n      - { id: two, cmd: \"echo ${{ steps.one.values.x }}\", depends_on: [one] }\n",
    );
    let ids: Vec<_> = used.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["pre", "u.one", "u.two", "u", "post"]);
    assert_eq!(needs(&used, "u.one"), ["pre"], "first steps wait for what the use waits for");
    assert_eq!(needs(&used, "u.two"), ["u.one"]);
    assert_eq!(needs(&used, "u"), ["u.one", "u.two"]);
    assert_eq!(needs(&used, "post"), ["u"]);
    assert!(matches!(step(&used, "u").kind, StepKind::Group) && step(&used, "u").matrix.is_none());
    for id in ["u.one", "u.two"] {
        assert_eq!(step(&used, id).scope, Some(StepId::from("u")));
        assert!(step(&used, id).matrix.is_some() && step(&used, id).condition.is_some());
    }
    assert_eq!((step(&used, "u.one").when, step(&used, "u.two").when), (When::Always, When::Success));
    assert_eq!(shape(&cmd(&used, "u.one").cmd), "cd {}; seq {}", "matrix values and numbers are pasted");
    assert_eq!(shape(&cmd(&used, "u.two").cmd), "echo \"${PACE_EXPR_1}\"");
}

#[test]
fn templates_within_templates_keep_their_names_apart() {
    let used = pipeline(
        "name: ci\nsteps:\n  - { id: a, use: outer, matrix: { os: [x] }, with: { p: \"${{ git.branch }}\" } }\ntemplates:\n  outer: { params: { p: {} }, steps: [{ id: in, use: inner, with: { q: \"<${{ params.p }}>\" } }, { id: z, cmd: \"echo ${{ steps.in.outcome }}\", depends_on: [in] }] }\n  inner: { params: { q: {} }, steps: [{ id: z, cmd: \"echo ${{ params.q }}\" }] }\n",
    );
    let ids: Vec<_> = used.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["a.in.z", "a.in", "a.z", "a"]);
    assert_eq!(step(&used, "a.in").scope, Some(StepId::from("a")));
    assert!(step(&used, "a.in").matrix.is_some(), "a group within a matrix is there once a cell");
    assert_eq!(shape(&cmd(&used, "a.in.z").cmd), "echo \"${PACE_EXPR_1}\"");
}

#[test]
fn strangers_values_are_handed_over_and_stay_one_word() {
    let text = r#"name: ci
params: { n: { type: integer, default: 1 }, s: { type: string, default: x } }
env: { B: "${{ git.branch }}", OWN: fixed }
steps:
  - id: a
    matrix: { go: ["1"] }
    shell: bash
    cmd: |
      echo ${{ git.branch }} "${{ git.branch }}" a${{ params.s }}b "$(echo ${{ git.tag }} "${{ git.tag }}")"
      echo ${{ matrix.go }} ${{ params.n }} ${{ env.OWN }} ${{ run.number }} ${{ git.branch == "x" }} # ${{ git.tag }}
      cat <<-END
      	${{ env.B }} it's
      	END
      echo 'single' ${X:-${{ git.tag }}} "${X:-${{ git.tag }}}" $'it\'s' "it's" ${{ git.tag }}
"#;
    let script = shape(&cmd(&pipeline(text), "a").cmd);
    insta::assert_snapshot!(script, @r#"
    echo "${PACE_EXPR_1}" "${PACE_EXPR_2}" a"${PACE_EXPR_3}"b "$(echo "${PACE_EXPR_4}" "${PACE_EXPR_5}")"
    echo {} {} {} {} {} # ${PACE_EXPR_6}
    cat <<-END
    	${PACE_EXPR_7} it's
    	END
    echo 'single' ${X:-"${PACE_EXPR_8}"} "${X:-${PACE_EXPR_9}}" $'it\'s' "it's" "${PACE_EXPR_10}"
    "#);
}

/// The shell itself is asked: a hostile branch name is one word of output and nothing else.
#[test]
fn a_hostile_branch_name_is_only_ever_text() {
    let hostile = "a b; echo pwned $(echo pwned) `echo pwned` 'x' \"y\" * \\";
    let text = "name: ci\nsteps:\n  - id: a\n    cmd: |\n      printf '[%s]\\n' ${{ git.branch }} \"${{ git.branch }}\" \"$(printf %s ${{ git.branch }})\"\n      cat <<END\n      [${{ git.branch }}]\n      END\n";
    let loaded = pipeline(text);
    let step = cmd(&loaded, "a");
    let script = step.cmd.as_plain().expect("no expression is left in the script");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-eu", "-c", script]);
    for name in step.cmd_env.keys() {
        shell.env(name, hostile);
    }
    let output = shell.output().expect("sh runs");
    let line = format!("[{hostile}]\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), line.repeat(4));
}

#[test]
fn an_expanded_file_lives_within_its_step() {
    let outer = Outer::of_pipeline(&pipeline(
        "name: ci\nenv: { A: x }\nparams: { v: {} }\nsteps: [{ id: more, expand: f.yaml }]\n",
    ));
    let parent = StepId::from("more");
    let text = "env: { B: y }\ndefaults: { timeout: 1m }\nsteps:\n  - { id: a, cmd: \"echo ${{ env.A }} ${{ env.B }} ${{ params.v }}\" }\n  - { id: b, cmd: \"echo ${{ steps.a.outcome }}\", depends_on: [a] }\n";
    let (steps, report) = load_expansion("f.yaml", text.as_bytes(), &parent, 0, &outer);
    assert_eq!(report.render(false, 100), "");
    let steps = steps.expect("no errors");
    assert_eq!(steps[1].id.as_str(), "more.b");
    assert_eq!(steps[1].depends_on, [StepId::from("more.a")]);
    assert!(steps[0].depends_on.is_empty());
    let StepKind::Cmd(first) = &steps[0].kind else { panic!("cmd") };
    assert_eq!(first.env["B"].as_plain(), Some("y"));
    let text = "steps: [{ id: a, cmd: \"${{ hash('x') }}\", depends_on: [build] }]";
    let report = load_expansion("f.yaml", text.as_bytes(), &parent, 0, &outer).1;
    insta::assert_snapshot!(report.render(false, 100), @r#"
    error: steps of an expanded file cannot call `hash` or `env`
     --> f.yaml:1:28
      |
    1 | steps: [{ id: a, cmd: "${{ hash('x') }}", depends_on: [build] }]
      |                            ^^^^^^^^^ answered before the run starts
    help: let the step that writes the file write the value into it
    see: pace explain P0139

    error: step `a` depends on `build`, which does not exist
     --> f.yaml:1:56
      |
    1 | steps: [{ id: a, cmd: "${{ hash('x') }}", depends_on: [build] }]
      |                                                        ^^^^^ no step has this id
    help: steps of an expanded file depend on steps of the file only; they start after the step that expands it
    see: pace explain P0104
    "#);
    let report = load_expansion("f.yaml", b"steps: [{ id: a, cmd: x }]", &parent, 4, &outer).1;
    assert!(report.has_errors(), "the fifth expansion is one too many");
}
