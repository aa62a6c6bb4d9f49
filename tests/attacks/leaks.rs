//! Secrets, the terminal, and what others will read: caches and stored layers.

use std::fs;
use std::path::Path;
use std::process::Command;

use attacks::stage::{self, Stage};
use serde_json::json;

use crate::scene::{PACE, files_with, run, run_with, said, scene, seen, write_pipeline};

const TOKEN: &str = "hunter2-hunter2-x";

#[test]
fn a_secret_is_in_no_file_of_ours() {
    scene("secret-in-files", |stage| {
        let cmd = "set -x; echo $TOKEN; printf %s $TOKEN | base64; printf %s $TOKEN | od -c | head -2 > /dev/null; \
                   for i in 1 2 3; do printf 'hunter2-'; sleep 0.05; printf 'hunter2-x\\n'; done; \
                   echo \"key=$TOKEN\" >> \"$PACE_VALUES\"";
        let steps = json!([{ "id": "s", "cmd": cmd, "secrets": ["TOKEN"] }]);
        let ended = run_with(stage, steps, &["--junit", "j.xml", "--output", "plain"], &[("PACE_SECRET_TOKEN", TOKEN)]);
        // `hunter2-hunter2-x` in base64, at each of the three places where a group of bytes may begin.
        let mut found = Vec::new();
        for form in [TOKEN, "aHVudGVyMi1odW50ZXIyLX"] {
            found.extend(files_with(stage.folder(), form.as_bytes(), &["cache", "state", "repo/j.xml"]));
            if ended.out.contains(form) || ended.err.contains(form) {
                return format!("ESCAPED: `{form}` is shown\n{}\n{}", ended.out, ended.err);
            }
        }
        if !found.is_empty() {
            return format!("ESCAPED: it is in {found:?}");
        }
        seen(stage, &ended, 0, "***", "it is masked everywhere")
    });
}

#[test]
fn a_secret_is_not_in_the_environment_of_another_step() {
    scene("secret-of-another-step", |stage| {
        let cmd = "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -c hunter[2] || true; \
                   env | grep -c ^TOKEN= || true; cat /proc/[0-9]*/cmdline 2>/dev/null | grep -c hunter[2]- || true";
        let steps = json!([
            { "id": "owner", "cmd": "sleep 1", "secrets": ["TOKEN"], "cache": "never" },
            { "id": "thief", "cmd": cmd, "cache": "never" },
        ]);
        let ended = run_with(stage, steps, &["--output", "plain"], &[("PACE_SECRET_TOKEN", TOKEN)]);
        match said(&ended, "thief")[..] {
            ["0", "0", "0"] => seen(stage, &ended, 0, "", "it is nowhere"),
            _ => format!("ESCAPED: {}{}", ended.out, ended.err),
        }
    });
}

const ESCAPES: &str = "printf '\\033]52;c;ZXZpbA==\\007 \\033]0;title\\007 \\033P+q\\033\\\\ \\033[2J \\033[5n \\033[21t \\033c \\302\\233 2J \\302\\220 \\b\\b\\b \\r erased \\033[?1049h end-of-escapes\\n'";
/// What a terminal would act on; the first bytes of each.
const ACTS: [&str; 8] = ["\x1b]52", "\x1b]0;", "\x1bP", "\x1b[5n", "\x1b[21t", "\x1bc", "\u{9b}", "\u{90}"];

#[test]
fn escapes_that_a_step_prints_do_nothing_to_the_terminal() {
    scene("terminal-escapes", |stage| {
        write_pipeline(stage, json!([{ "id": "s", "cmd": ESCAPES }]));
        let mut shown = String::new();
        for args in [&["run", "--no-cache"][..], &["run", "--no-cache", "--output", "plain"], &["logs", "s"]] {
            shown.push_str(&stage::finish(on_terminal(&stage.pace(Path::new(PACE), args))).out);
        }
        let acts: Vec<_> = ACTS.iter().filter(|acts| shown.contains(**acts)).collect();
        if !acts.is_empty() {
            return format!("ESCAPED: {acts:?} in {shown:?}");
        }
        if shown.matches("end-of-escapes").count() < 2 {
            return format!("it was not shown twice: {shown:?}");
        }
        "harmless: the terminal sees none of them".into()
    });
}

/// The same command on a terminal of its own, whose bytes are its output.
fn on_terminal(command: &Command) -> Command {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    let mut on_terminal = Command::new("script");
    on_terminal.args(["-qec", &words.join(" "), "/dev/null"]).env_clear().env("TERM", "xterm-256color");
    on_terminal.current_dir(command.get_current_dir().expect("it has one"));
    for (name, value) in command.get_envs() {
        on_terminal.env(name, value.unwrap_or_default());
    }
    on_terminal
}

#[test]
fn a_named_cache_of_one_project_is_not_read_by_another() {
    scene("cache-of-another-project", |stage| {
        let caches = json!([{ "path": "~/.cache/tool", "key": "tool" }]);
        let evil =
            json!([{ "id": "s", "cmd": "echo evil > ~/.cache/tool/program", "caches": caches, "cache": "never" }]);
        let first = run(stage, evil);
        let other = stage.folder().join("other");
        fs::create_dir(&other).expect("a folder");
        let look = json!({ "name": "other", "steps": [{ "id": "s", "cmd": "ls -A ~/.cache/tool | wc -l", "caches": caches, "cache": "never" }] });
        fs::write(other.join("paceline.yaml"), look.to_string()).expect("a file");
        let mut command = stage.pace(Path::new(PACE), &["run", "--output", "plain"]);
        command.current_dir(&other);
        let ended = stage::finish(command);
        match said(&ended, "s")[..] {
            ["0"] if first.code == Some(0) => seen(stage, &ended, 0, "", "the other project's is empty"),
            ["1"] => "ESCAPED: the other project's has the program".into(),
            _ => format!("{first:?} {ended:?}"),
        }
    });
}

#[test]
fn a_link_in_a_named_cache_leads_nowhere() {
    scene("cache-link", |stage| {
        let caches = json!([{ "path": "~/c", "key": "c" }]);
        let first = run(
            stage,
            json!([{ "id": "s", "cmd": "ln -s \"$ATTACK_OUTSIDE\" ~/c/out; ln -s / ~/c/root", "caches": caches, "cache": "never" }]),
        );
        let ended = run(
            stage,
            json!([{ "id": "s", "cmd": "cat ~/c/out/secret 2>/dev/null || echo nothing; ls ~/c/root/workspace/attacks", "caches": caches, "cache": "never" }]),
        );
        match said(&ended, "s").first() {
            Some(&"nothing") if first.code == Some(0) => {
                seen(stage, &ended, 0, "workspace/attacks", "it leads into the sandbox")
            }
            _ => format!("ESCAPED: {first:?} {ended:?}"),
        }
    });
}

#[test]
fn a_stored_layer_that_somebody_changed_is_not_used() {
    scene("poisoned-layer", |stage| {
        let steps = json!([
            { "id": "made", "cmd": "echo original-content > f", "outputs": ["f"] },
            { "id": "look", "depends_on": ["made"], "cmd": "cat f; cat trigger", "inputs": ["f", "trigger"] },
        ]);
        fs::write(stage.root().join("trigger"), "1\n").expect("a file");
        run(stage, steps.clone());
        let stored = files_with(stage.folder(), b"original-content\n", &["cache/cas"]);
        for path in &stored {
            // Sealed against mistakes, not against this.
            let _ = Command::new("chmod").arg("u+w").arg(path).status();
            fs::write(path, "evil-content\n").expect("root may");
        }
        fs::write(stage.root().join("trigger"), "2\n").expect("a file");
        let ended = run(stage, steps);
        if stored.is_empty() {
            return format!("nothing was stored: {ended:?}");
        }
        match said(&ended, "look").first() {
            Some(&"original-content") => seen(stage, &ended, 0, "", "it is made again"),
            _ => format!("ESCAPED: {ended:?}"),
        }
    });
}

#[test]
fn a_layer_list_that_leads_out_of_its_folder_is_not_followed() {
    scene("poisoned-layer-path", |stage| {
        let steps = json!([
            { "id": "made", "cmd": "mkdir aaaaaaaaaaaaaaaa; echo payload > aaaaaaaaaaaaaaaa/f" },
            { "id": "look", "depends_on": ["made"], "cmd": "ls; cat trigger" },
        ]);
        fs::write(stage.root().join("trigger"), "1\n").expect("a file");
        run(stage, steps.clone());
        let lists = files_with(stage.folder(), b"aaaaaaaaaaaaaaaa", &["cache/cas"]);
        for path in &lists {
            let _ = Command::new("chmod").arg("u+w").arg(path).status();
            let bytes = fs::read(path).expect("it was");
            let text = String::from_utf8_lossy(&bytes).replace("aaaaaaaaaaaaaaaa", "../../../../evil");
            fs::write(path, text).expect("root may");
        }
        fs::write(stage.root().join("trigger"), "2\n").expect("a file");
        let ended = run(stage, steps);
        let evil = evil_folders(stage);
        if !evil.is_empty() || lists.is_empty() {
            return format!("ESCAPED: {evil:?} {lists:?}");
        }
        seen(stage, &ended, 0, "look | aaaaaaaaaaaaaaaa", "it is made again")
    });
}

fn evil_folders(stage: &Stage) -> Vec<std::path::PathBuf> {
    let all = crate::scene::fingerprint(stage.folder());
    all.into_keys().filter(|path| path.file_name().is_some_and(|name| name == "evil")).collect()
}
