//! A scene: one repository, some runs, and what was seen of the attack.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use attacks::stage::{self, Ended, SECRET, Stage, Who};
use serde_json::{Value, json};

/// The binary under test.
pub const PACE: &str = env!("CARGO_BIN_EXE_pace");

/// The attack program.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(stage::program)
}

/// Elsewhere it says so and does nothing, unless CI promised that it is.
pub fn is_root() -> bool {
    let root = stage::is_root();
    assert!(
        root || std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "this test needs root, and CI=true promises it"
    );
    if !root {
        eprintln!("skipped: this test needs root");
    }
    root
}

/// Plays the scene as root and as an ordinary user, and holds what was seen against the table.
pub fn scene(name: &str, act: impl Fn(&mut Stage) -> String) {
    if !is_root() {
        return;
    }
    let attack = attacks::find(name).unwrap_or_else(|| panic!("`{name}` is not in the table"));
    for (who, sees) in [Who::Root, Who::User].into_iter().zip(attack.sees) {
        let mut stage = Stage::new(who, program());
        assert_eq!(act(&mut stage), sees, "{name} as {who:?}");
        assert_eq!(stage.harm(), [""; 0], "{name} as {who:?}");
    }
}

/// Runs these steps to their end. The outside's names are in their environment.
pub fn run(stage: &Stage, steps: Value) -> Ended {
    run_with(stage, steps, &["--output", "plain"], &[])
}

/// The same with other options of `pace run`, and variables.
pub fn run_with(stage: &Stage, steps: Value, options: &[&str], env: &[(&str, &str)]) -> Ended {
    write_pipeline(stage, steps);
    let mut command = stage.pace(Path::new(PACE), &[&["run"], options].concat());
    command.envs(env.iter().copied());
    stage::finish(command)
}

/// Writes the pipeline and runs nothing.
pub fn write_pipeline(stage: &Stage, steps: Value) {
    let env: BTreeMap<_, _> = stage.world().to_env().into_iter().collect();
    let pipeline = json!({ "name": "scene", "env": env, "steps": steps });
    fs::write(stage.root().join("paceline.yaml"), pipeline.to_string()).expect("a file");
}

/// What a step printed.
pub fn said<'a>(ended: &'a Ended, step: &str) -> Vec<&'a str> {
    let start = format!("{step} | ");
    ended.out.lines().filter_map(|line| line.strip_prefix(start.as_str())).collect()
}

/// `harmless` when the run ended with this code and printed this, and nobody got the host's secret; else all there is.
pub fn seen(stage: &Stage, ended: &Ended, code: i32, text: &str, harmless: &str) -> String {
    let all = format!("code {:?}\n--- out\n{}\n--- err\n{}", ended.code, ended.out, ended.err);
    let leaks = files_with(stage.folder(), SECRET.as_bytes(), &["cache", "state"]);
    if all.contains(SECRET) || !leaks.is_empty() {
        return format!("ESCAPED: the host's secret is in {leaks:?} or in\n{all}");
    }
    if ended.code == Some(code) && all.contains(text) { format!("harmless: {harmless}") } else { all }
}

/// The files of these folders that hold the bytes.
pub fn files_with(folder: &Path, bytes: &[u8], parts: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest: Vec<PathBuf> = parts.iter().map(|part| folder.join(part)).collect();
    while let Some(path) = rest.pop() {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            rest.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if meta.is_file() && fs::read(&path).is_ok_and(|text| holds(&text, bytes)) {
            found.push(path);
        }
    }
    found
}

fn holds(text: &[u8], bytes: &[u8]) -> bool {
    text.windows(bytes.len()).any(|part| part == bytes)
}

/// Every path of the repository with what it is.
pub fn fingerprint(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut rest = vec![folder.to_path_buf()];
    while let Some(path) = rest.pop() {
        let meta = fs::symlink_metadata(&path).expect("it is there");
        let content = if meta.is_file() { fs::read(&path).map(|text| text.len()).unwrap_or(0) } else { 0 };
        all.insert(path.clone(), format!("{:?} {:?} {content}", meta.permissions(), meta.modified().ok()));
        if meta.is_dir() {
            rest.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    all
}

/// Processes of the host whose command line holds `mark`.
pub fn processes(mark: &str) -> usize {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).replace('\0', " ").contains(mark)).count()
}
