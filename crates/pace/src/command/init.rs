//! `pace init`: a first paceline.yaml for what this repository is.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use crate::cli::{Cli, InitArgs};
use crate::exit::{Ended, Exit, Failure};
use crate::project;
use crate::screen::Screen;

const FILE: &str = "paceline.yaml";
/// A manifest is read up to this length; larger ones are looked at by name only.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// Test files of a folder that are looked into: the first few tell.
const TEST_FILES_MAX: usize = 20;

/// Writes or prints the file.
pub fn run(cli: &Cli, args: &InitArgs, screen: &mut Screen) -> Ended {
    let folder = project::start(cli)?;
    let found = detect(&folder);
    let text = render(&pipeline_name(&folder), &found);
    if args.print {
        screen.text(&text);
        return Ok(Exit::Green);
    }
    let path = folder.join(FILE);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if !args.force {
        options.create_new(true);
    }
    let mut file = options.open(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::usage(format!("{} exists already", path.display()))
            .help("`pace init --force` replaces it, `pace init --print` only shows"),
        _ => Failure::internal(format!("cannot write {}: {error}", path.display())),
    })?;
    file.write_all(text.as_bytes())
        .map_err(|error| Failure::internal(format!("cannot write {}: {error}", path.display())))?;
    let what: Vec<_> = found.iter().map(|found| found.language).collect();
    let what = if what.is_empty() { "nothing known, so one step that says hello".into() } else { what.join(", ") };
    screen.text(&format!("wrote {FILE} (found: {what})\nnext: pace run"));
    Ok(Exit::Green)
}

/// A language found in the repository, and the steps it gets.
struct Found {
    language: &'static str,
    steps: String,
}

fn detect(folder: &Path) -> Vec<Found> {
    let has = |name: &str| folder.join(name).is_file();
    let mut found = Vec::new();
    if has("go.mod") {
        found.push(Found { language: "Go", steps: go(has("go.sum")) });
    }
    if has("Cargo.toml") {
        found.push(Found { language: "Rust", steps: rust(has("Cargo.lock")) });
    }
    if has("package.json") {
        found.push(Found { language: "Node", steps: node(folder) });
    }
    if has("pyproject.toml") || has("setup.py") || has("setup.cfg") || has("requirements.txt") {
        found.push(Found { language: "Python", steps: python(folder) });
    }
    if has("pom.xml") {
        found.push(Found { language: "Java (Maven)", steps: maven(has("mvnw")) });
    } else if has("build.gradle") || has("build.gradle.kts") {
        found.push(Found { language: "Java (Gradle)", steps: gradle(has("gradlew")) });
    }
    if found.is_empty() && (has("Makefile") || has("makefile") || has("GNUmakefile")) {
        found.push(Found { language: "Make", steps: make(folder) });
    }
    found
}

fn render(name: &str, found: &[Found]) -> String {
    let mut text = format!(
        "# What each key means: docs of Paceline, or `pace schema` for your editor.\n\
         name: {name}\non:\n  push: {{ branches: [main, master] }}\n  pull_request: {{}}\n  manual: {{}}\n\nsteps:\n"
    );
    if found.is_empty() {
        text.push_str("  - id: hello\n    cmd: echo \"hello from $PACE_WORKSPACE\"\n");
    }
    for (at, language) in found.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        match found.len() {
            1 => text.push_str(&language.steps.replace("@-", "")),
            _ => {
                let prefix = language.language.split(' ').next().unwrap_or("x").to_ascii_lowercase();
                text.push_str(&language.steps.replace("@-", &format!("{prefix}-")));
            }
        }
    }
    text
}

fn go(has_sum: bool) -> String {
    let key = if has_sum { "go-${{ hash('go.sum') }}" } else { "go-${{ hash('go.mod') }}" };
    format!(
        r#"  - id: @-deps
    cmd: go mod download
    cache: never               # fast when nothing is new; it fills the named cache, which is no part of a result
    network: full
    caches: [&gomod {{ path: ~/go/pkg/mod, key: "{key}", fallback: ["go-"] }}]

  - id: @-vet
    depends_on: [@-deps]
    cmd: go vet ./...
    caches: [*gomod, {{ path: ~/.cache/go-build, key: go-vet }}]

  - id: @-test
    depends_on: [@-deps]
    cmd: go test ./...
    caches: [*gomod, {{ path: ~/.cache/go-build, key: go-test }}]
"#
    )
}

fn rust(has_lock: bool) -> String {
    let key = if has_lock { "cargo-${{ hash('Cargo.lock') }}" } else { "cargo-${{ hash('**/Cargo.toml') }}" };
    format!(
        r#"  - id: @-deps
    cmd: cargo fetch
    cache: never               # fast when nothing is new; it fills the named cache, which is no part of a result
    network: full
    caches: [&registry {{ path: ~/.cargo/registry, key: "{key}", fallback: ["cargo-"] }}]

  - id: @-test
    depends_on: [@-deps]
    cmd: cargo test --offline
    caches: [*registry, {{ path: target, key: target-test }}]
    outputs: []                # nothing in the workspace is handed on
"#
    )
}

fn node(folder: &Path) -> String {
    let has = |name: &str| folder.join(name).is_file();
    let manifest = read(&folder.join("package.json"));
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap_or_default();
    let script = |name: &str| manifest["scripts"][name].as_str().filter(|script| !script.contains("no test specified"));
    let (lock, install, cache) = if has("pnpm-lock.yaml") {
        ("pnpm-lock.yaml", "pnpm install --frozen-lockfile", "~/.local/share/pnpm/store")
    } else if has("yarn.lock") {
        ("yarn.lock", "yarn install --frozen-lockfile", "~/.cache/yarn")
    } else if has("package-lock.json") {
        ("package-lock.json", "npm ci", "~/.npm")
    } else {
        ("package.json", "npm install --no-package-lock", "~/.npm")
    };
    // Install scripts of the project itself may read any of its files, so those are inputs only where there are none.
    let own_scripts = ["preinstall", "install", "postinstall", "prepare"].iter().any(|name| script(name).is_some());
    let inputs = match own_scripts {
        true => String::new(),
        false if lock == "package.json" => "    inputs: [/package.json]\n".into(),
        false => format!("    inputs: [/package.json, /{lock}]\n"),
    };
    let mut steps = format!(
        r#"  - id: @-deps
    cmd: {install}
    network: full
{inputs}    outputs: [/node_modules/**]
    caches: [{{ path: {cache}, key: npm }}]
"#
    );
    let has_dependencies = ["dependencies", "devDependencies"]
        .iter()
        .any(|key| manifest[key].as_object().is_some_and(|map| !map.is_empty()));
    let needs = if has_dependencies || own_scripts { "    depends_on: [@-deps]\n" } else { "" };
    if needs.is_empty() {
        steps.clear();
    }
    let run = if lock == "pnpm-lock.yaml" {
        "pnpm"
    } else if lock == "yarn.lock" {
        "yarn"
    } else {
        "npm"
    };
    for name in ["lint", "build", "test"] {
        if script(name).is_some() {
            let gap = if steps.is_empty() { "" } else { "\n" };
            steps.push_str(&format!("{gap}  - id: @-{name}\n{needs}    cmd: {run} run {name}\n"));
        }
    }
    if steps.is_empty() {
        steps.push_str(
            "  - id: @-check\n    cmd: node -e 'JSON.parse(require(\"fs\").readFileSync(\"package.json\"))'\n",
        );
    }
    steps
}

fn python(folder: &Path) -> String {
    let has = |name: &str| folder.join(name).exists();
    let texts: String = ["pyproject.toml", "setup.cfg", "tox.ini", "requirements.txt", "setup.py"]
        .iter()
        .map(|name| read(&folder.join(name)))
        .collect();
    let pytest = texts.contains("pytest")
        || has("conftest.py")
        || has("tests/conftest.py")
        || has("test/conftest.py")
        || has("pytest.ini")
        || ["", "tests", "test"].iter().any(|below| has_test_functions(&folder.join(below)));
    let project = has("pyproject.toml") || has("setup.py");
    let install = match (project, has("requirements.txt")) {
        (true, _) => "./.venv/bin/pip install --disable-pip-version-check -q -e .",
        (false, true) => "./.venv/bin/pip install --disable-pip-version-check -q -r requirements.txt",
        (false, false) => "true",
    };
    let extra = if pytest { " pytest" } else { "" };
    let test = if pytest { "./.venv/bin/python -m pytest" } else { "./.venv/bin/python -m unittest discover" };
    let also = if extra.is_empty() {
        String::new()
    } else {
        format!("\n      ./.venv/bin/pip install --disable-pip-version-check -q{extra}")
    };
    format!(
        r#"  - id: @-deps
    cmd: |
      python3 -m venv .venv
      {install}{also}
    network: full
    caches: [{{ path: ~/.cache/pip, key: pip }}]

  - id: @-test
    depends_on: [@-deps]
    cmd: {test}
"#
    )
}

/// A test that is a function is one for pytest: `unittest` would find nothing there, and be green.
fn has_test_functions(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let is_test = |name: &str| name.ends_with(".py") && (name.starts_with("test_") || name.ends_with("_test.py"));
    entries
        .filter_map(|entry| entry.ok().filter(|entry| entry.file_name().to_str().is_some_and(is_test)))
        .take(TEST_FILES_MAX)
        .any(|entry| read(&entry.path()).lines().any(|line| line.starts_with("def test_")))
}

fn maven(wrapper: bool) -> String {
    let mvn = if wrapper { "./mvnw" } else { "mvn" };
    format!(
        r#"  - id: @-verify
    cmd: {mvn} -B -ntp verify
    network: full
    caches: [{{ path: ~/.m2/repository, key: "m2-${{{{ hash('**/pom.xml') }}}}", fallback: ["m2-"] }}]
"#
    )
}

fn gradle(wrapper: bool) -> String {
    let gradle = if wrapper { "./gradlew" } else { "gradle" };
    format!(
        r#"  - id: @-check
    cmd: {gradle} --no-daemon check
    network: full
    caches: [{{ path: ~/.gradle, key: gradle }}]
"#
    )
}

fn make(folder: &Path) -> String {
    let text: String = ["Makefile", "makefile", "GNUmakefile"].iter().map(|name| read(&folder.join(name))).collect();
    let target = |name: &str| {
        text.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(':')))
    };
    let mut steps = "  - id: @-build\n    cmd: make\n".to_string();
    if let Some(name) = ["test", "check"].into_iter().find(|name| target(name)) {
        steps.push_str(&format!("\n  - id: @-test\n    depends_on: [@-build]\n    cmd: make {name}\n"));
    }
    steps
}

fn read(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(meta) if meta.len() <= MANIFEST_BYTES_MAX => {
            std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn pipeline_name(folder: &Path) -> String {
    let name: String = folder
        .file_name()
        .map(|name| {
            name.to_string_lossy()
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
                .collect()
        })
        .unwrap_or_default();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_string();
    // Quoted, because a folder may be called `1.0` or `null`.
    format!("\"{}\"", if name.is_empty() { "ci" } else { &name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(files: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        render("\"x\"", &detect(folder.path()))
    }

    #[test]
    fn test_functions_are_run_by_what_finds_them() {
        let tested = |test| written(&[("setup.py", ""), ("test_a.py", test)]);
        assert!(tested("def test_a():\n    assert 1\n").contains("-m pytest"));
        assert!(tested("class A(TestCase):\n    def test_a(self): ...\n").contains("-m unittest discover"));
    }

    #[test]
    fn every_first_pipeline_is_valid() {
        let repositories: [&[(&str, &str)]; 9] = [
            &[],
            &[("go.mod", "module x")],
            &[("Cargo.toml", ""), ("Cargo.lock", "")],
            &[
                ("package.json", r#"{"scripts":{"test":"node --test","build":"x"},"devDependencies":{"a":"1"}}"#),
                ("package-lock.json", "{}"),
            ],
            &[("package.json", "not json")],
            &[("pyproject.toml", "[tool.pytest]")],
            &[("pom.xml", ""), ("mvnw", "")],
            &[("Makefile", "all:\n\techo\ntest : all\n")],
            &[
                ("go.mod", "module x"),
                ("Cargo.toml", ""),
                ("package.json", r#"{"scripts":{"test":"t"}}"#),
                ("setup.py", ""),
                ("build.gradle", ""),
            ],
        ];
        for files in repositories {
            let text = written(files);
            let (pipeline, report) =
                lang::load("paceline.yaml", text.as_bytes(), &mut |_| Err(lang::ReadError::NotFound));
            assert!(pipeline.is_some() && !report.has_errors(), "{text}\n{}", report.render(false, 100));
        }
    }
}
