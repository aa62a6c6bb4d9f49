//! What people and programs read: plain lines, JSON events, JUnit, history, exit codes, the small commands.

use crate::support::{PACE, Repo, finish};

const MIXED: &str = "name: mixed\nsteps:\n  - { id: good, cmd: echo fine }\n  - { id: soft, cmd: exit 3, allow_failure: true }\n  - { id: skipped, if: git.branch == \"other\", cmd: echo no }\n";

#[test]
fn plain_output_has_no_escapes_when_piped() {
    let ended = Repo::new(MIXED).pace(&["run"]).code(0).says("good | fine");
    assert!(!ended.out.contains('\x1b') && !ended.err.contains('\x1b'), "{}", ended.out);
}

#[test]
fn colours_obey_no_color_and_clicolor_force() {
    let repo = Repo::new(MIXED);
    let with = |name: &str, value: &str| {
        let mut command = repo.command(&["run"]);
        command.env(name, value);
        finish(command).code(0).out.contains('\x1b')
    };
    assert!(with("CLICOLOR_FORCE", "1"));
    assert!(!with("NO_COLOR", "1"));
    assert!(repo.pace(&["run", "--color", "always"]).out.contains('\x1b'));
}

#[test]
fn json_is_one_event_a_line_from_request_to_end() {
    let events = Repo::new(MIXED).pace(&["run", "--output", "json"]).code(0).events();
    let kinds: Vec<&str> = events.iter().map(|event| event["event"].as_str().expect("a kind")).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), ("run_requested", "run_ended"));
    assert!(kinds.contains(&"log") && kinds.contains(&"step_ended"), "{kinds:?}");
    assert_eq!(events[events.len() - 1]["outcome"], "success");
}

#[test]
fn a_junit_report_names_every_step() {
    let repo =
        Repo::new("name: j\nsteps:\n  - { id: ok, cmd: \"true\" }\n  - { id: bad, cmd: \"echo '<&>' ; exit 2\" }\n");
    repo.pace(&["run", "--keep-going", "--junit", "report.xml"]).code(10);
    let report = std::fs::read_to_string(repo.root().join("report.xml")).expect("the report");
    for part in ["name=\"ok\"", "name=\"bad\"", "<failure", "exit code 2", "&lt;&amp;&gt;"] {
        assert!(report.contains(part), "no {part} in {report}");
    }
}

#[test]
fn history_lists_runs_and_shows_logs() {
    let repo =
        Repo::new("name: h\nsteps:\n  - { id: a, cmd: echo from a }\n  - { id: b, cmd: \"echo from b; exit 1\" }\n");
    repo.pace(&["run", "--keep-going"]).code(10);
    repo.pace(&["run", "a"]).code(0);
    let runs = repo.pace(&["runs"]).code(0).out;
    let lines: Vec<&str> = runs.lines().collect();
    assert_eq!(lines.len(), 2, "{runs}");
    assert!(lines[0].starts_with("#2") && lines[0].contains("success") && lines[1].contains("failure"), "{runs}");
    repo.pace(&["logs", "1", "b"]).code(0).says("from b").does_not_say("from a");
    repo.pace(&["logs"]).code(0).says("from a");
    repo.pace(&["logs", "9"]).code(2).complains("no run #9");
    repo.pace(&["logs", "1", "zzz"]).code(2).complains("zzz");
}

#[test]
fn plan_says_what_would_run_and_what_is_cached() {
    let repo = Repo::new(MIXED);
    repo.pace(&["plan"]).code(0).says("good").says("skipped");
    repo.pace(&["run"]).code(0);
    repo.pace(&["plan"]).code(0).says("cached").says("its `if` is false");
    serde_json::from_str::<serde_json::Value>(&repo.pace(&["plan", "--output", "json"]).code(0).out).expect("JSON");
}

#[test]
fn plan_looks_into_expansions_once_they_are_known() {
    let repo = Repo::of_example("monorepo");
    repo.pace(&["plan"]).code(0).says("rates            would run: depends on what").does_not_say("and fail");
    repo.pace(&["run"]).code(0);
    repo.pace(&["plan"]).code(0).says("rate-19").says("reads the steps that were written").does_not_say("skipped:");
}

#[test]
fn why_names_the_file_and_the_variable_that_changed() {
    let pipeline = |word: &str| format!("name: w\nsteps:\n  - {{ id: s, cmd: cat a.txt, env: {{ WORD: {word} }} }}\n");
    let repo = Repo::with(&[("paceline.yaml", &pipeline("one")), ("a.txt", "1")]);
    repo.pace(&["run"]).code(0);
    repo.pace(&["why", "s"]).code(0).says("from the cache");
    repo.write("a.txt", "2");
    repo.pace(&["why", "s"]).code(0).says("a.txt");
    repo.write("paceline.yaml", pipeline("two"));
    repo.pace(&["why", "s"]).code(0).says("WORD").says("`one` before, `two` now");
    repo.pace(&["why", "nope"]).code(2);
}

#[test]
fn artifacts_are_kept_and_put_where_asked() {
    let repo = Repo::new(
        "name: a\nsteps:\n  - id: build\n    cmd: mkdir dist && echo app > dist/app && chmod +x dist/app\n    artifacts: [{ name: app, path: dist/app, version: \"1.${{ run.number }}\" }]\n",
    );
    let folder = repo.folder.path().join("out");
    repo.pace(&["run", "--artifacts", folder.to_str().expect("a path")]).code(0).says("app");
    let files: Vec<_> = walk(&folder);
    assert!(files.iter().any(|file| file.ends_with("app")), "{files:?}");
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path().is_dir() {
            true => files.extend(walk(&entry.path())),
            false => files.push(entry.path().display().to_string()),
        }
    }
    files
}

#[test]
fn small_commands_answer() {
    let repo = Repo::new(MIXED);
    repo.pace(&["check"]).code(0).says("paceline.yaml: ok, 3 steps");
    repo.pace(&["explain"]).code(0).says("P0");
    let code = repo.pace(&["explain"]).out.split_whitespace().next().expect("a code").to_string();
    repo.pace(&["explain", &code.to_lowercase()]).code(0);
    repo.pace(&["explain", "P9999"]).code(2).complains("P9999");
    serde_json::from_str::<serde_json::Value>(&repo.pace(&["schema"]).code(0).out).expect("a schema");
    for shell in ["bash", "zsh", "fish"] {
        repo.pace(&["completions", shell]).code(0).says("pace");
    }
    repo.pace(&["cache", "path"]).code(0);
    repo.pace(&["cache", "stats"]).code(0).says("blobs");
    repo.pace(&["--help"]).code(0).says("Exit codes");
    repo.pace(&["--version"]).code(0).says("pace ");
    repo.pace(&["frobnicate"]).code(2);
}

#[test]
fn a_closed_pipe_is_no_crash() {
    let repo = Repo::new("name: p\nsteps:\n  - { id: s, cmd: \"seq 200000\" }\n");
    let script = format!("'{PACE}' run | head -n 2; exit ${{PIPESTATUS[0]}}");
    let mut command = repo.command(&[]);
    let environment: Vec<_> = command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
    command = std::process::Command::new("bash");
    command.args(["-c", &script]).current_dir(repo.root()).envs(environment);
    let ended = finish(command);
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
    assert_eq!(ended.code, Some(0), "the run goes on without its reader: {}", ended.err);
}

#[test]
fn gc_and_verify_look_after_the_cache() {
    let repo = Repo::new("name: g\nsteps:\n  - { id: s, cmd: \"seq 1000 > big\", outputs: [big] }\n");
    repo.pace(&["run"]).code(0);
    repo.pace(&["cache", "verify"]).code(0).says("damaged blobs      0");
    repo.pace(&["cache", "gc", "--max-size", "1B", "--dry-run"]).code(0).says("would free bytes");
    assert_eq!(repo.executed(&[]), [""; 0], "a dry run drops nothing");
    repo.pace(&["cache", "gc", "--max-size", "1B"]).code(0).says("freed bytes");
    assert_eq!(repo.executed(&[]), ["s"]);
    repo.pace(&["cache", "gc", "--max-size", "lots"]).code(2).complains("a size is written like");
}

#[test]
fn init_writes_a_pipeline_that_runs() {
    let repo = Repo::with(&[("Makefile", "all:\n\techo built > out\ntest: all\n\tgrep built out\n")]);
    repo.pace(&["init"]).code(0).says("pace run");
    repo.pace(&["init"]).code(2).complains("exists already");
    repo.pace(&["run"]).code(0).says("built");
}

#[test]
fn logs_follow_a_run_with_a_short_option() {
    let repo = Repo::new("name: f\nsteps:\n  - { id: a, cmd: \"echo first; sleep 1; echo last\" }\n");
    let run = repo.start(&["run"]);
    while repo.pace(&["logs", "a"]).code != Some(0) {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    repo.pace(&["logs", "-f", "a"]).code(0).says("first").says("last");
    run.wait().code(0);
}

#[test]
fn a_mistake_on_the_command_line_leaves_no_run_behind() {
    let repo = Repo::new("name: s\nsteps:\n  - { id: build, cmd: echo x, secrets: [TOKEN] }\n");
    repo.pace(&["run"]).code(2).complains("wants secret `TOKEN`");
    repo.pace(&["run", "--secrets", "nowhere"]).code(2).complains("cannot read secrets from nowhere");
    repo.pace(&["run", "biuld"]).code(2).complains("there is `build`");
    let mut command = repo.command(&["run", "--junit", "paceline.yaml/report.xml"]);
    command.env("PACE_SECRET_TOKEN", "a secret");
    finish(command).code(2).complains("cannot write a JUnit report to paceline.yaml/report.xml");
    repo.pace(&["runs"]).code(0).says("no run was made here yet");
}

#[test]
fn the_folder_of_a_junit_report_is_made() {
    let repo = Repo::new(MIXED);
    repo.pace(&["run", "--junit", "reports/of/ci.xml"]).code(0);
    assert!(repo.root().join("reports/of/ci.xml").is_file());
}

#[test]
fn a_step_that_does_not_exist_is_answered_with_the_nearest() {
    let repo = Repo::new(MIXED);
    repo.pace(&["why", "goood"]).code(2).complains("help: there is a step `good`");
    repo.pace(&["shell", "xyzzy", "-c", "true"]).code(2).complains("help: `pace plan` lists them");
}

#[test]
fn a_code_is_found_by_its_number_and_explained_to_programs() {
    let repo = Repo::new(MIXED);
    repo.pace(&["explain", "p104"]).code(2).complains("`pace explain P0104`: a dependency does not exist");
    let said: serde_json::Value =
        serde_json::from_str(&repo.pace(&["explain", "p0104", "--output", "json"]).code(0).out).expect("JSON");
    assert_eq!(said["code"], "P0104");
    for line in repo.pace(&["explain", "--output", "json"]).code(0).out.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    }
}

#[test]
fn why_is_answered_whatever_a_step_beside_it_would_do() {
    let repo = Repo::new(
        "name: w\nsteps:\n  - { id: v, cmd: \"true\" }\n  - { id: none, depends_on: [v], cmd: \"echo ${{ steps.v.values.none }}\" }\n  - { id: last, depends_on: [v], cmd: echo x }\n",
    );
    repo.pace(&["run", "--keep-going"]).code(10);
    repo.pace(&["why", "last"]).code(0).says("`last` would be taken from the cache");
}
