//! The crate table of ARCHITECTURE.md, held against what `cargo metadata` says.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::repository::{Problem, Repository};

const TABLE: &str = "ARCHITECTURE.md";

/// A crate and the crates of the workspace that it uses outside of its tests; names without `paceline-`.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// Every crate has a row, every row a crate, and nobody uses what its row does not allow.
pub fn check(repository: &Repository) -> Vec<Problem> {
    let Some(text) = repository.text(TABLE) else {
        return vec![Problem::of(TABLE, "is missing: it holds the crate table")];
    };
    match (allowed(text), used(repository)) {
        (Ok(allowed), Ok(used)) => compare(&allowed, &used),
        (Err(what), _) | (_, Err(what)) => vec![Problem::of(TABLE, what)],
    }
}

fn compare(allowed: &Uses, used: &Uses) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut say = |what: String| problems.push(Problem::of(TABLE, what));
    for (name, uses) in used {
        let Some(may_use) = allowed.get(name) else {
            say(format!("crate `{name}` has no row in the crate table"));
            continue;
        };
        for used in uses.difference(may_use) {
            say(format!("crate `{name}` uses `{used}`, which its row does not allow"));
        }
    }
    for name in allowed.keys().filter(|name| !used.contains_key(*name)) {
        say(format!("the crate table has a row for `{name}`, which is not a crate"));
    }
    problems
}

/// Reads the table whose header has the columns `crate` and `may use`; `–` allows nothing.
fn allowed(text: &str) -> Result<Uses, String> {
    let mut lines = text.lines().map(cells).skip_while(|cells| column(cells, "may use").is_none());
    let header = lines.next().ok_or("has no table with the columns `crate` and `may use`")?;
    let name = column(&header, "crate").ok_or("the crate table has no column `crate`")?;
    let may_use = column(&header, "may use").ok_or("the crate table has no column `may use`")?;
    let rows = lines.skip(1).take_while(|cells| cells.len() == header.len());
    Ok(rows.map(|cells| (plain(&cells[name]), names(&cells[may_use]))).collect())
}

fn cells(line: &str) -> Vec<String> {
    match line.trim().strip_prefix('|').and_then(|line| line.strip_suffix('|')) {
        Some(row) => row.split('|').map(|cell| cell.trim().to_string()).collect(),
        None => Vec::new(),
    }
}

fn column(cells: &[String], name: &str) -> Option<usize> {
    cells.iter().position(|cell| cell == name)
}

fn names(cell: &str) -> BTreeSet<String> {
    cell.split(',').map(plain).filter(|name| !name.is_empty() && name != "–").collect()
}

fn plain(name: &str) -> String {
    name.trim().trim_matches('`').to_string()
}

fn used(repository: &Repository) -> Result<Uses, String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(&repository.root)
        .output()
        .map_err(|error| format!("cannot run `cargo metadata`: {error}"))?;
    if !output.status.success() {
        return Err(format!("`cargo metadata` failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let metadata = serde_json::from_slice(&output.stdout).map_err(|error| format!("`cargo metadata`: {error}"))?;
    Ok(uses_of(&metadata))
}

/// A dependency of the workspace has a `path`; those of tests (`kind: dev`) are free.
fn uses_of(metadata: &Value) -> Uses {
    let short = |value: &Value| value.as_str().unwrap_or_default().trim_start_matches("paceline-").to_string();
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    // What helps to develop may use anything; a crate that used it would show here.
    let ours = packages.iter().filter(|package| {
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        !["/dev/", "/bench/", "/fuzz/"].iter().any(|folder| manifest.contains(folder))
    });
    ours.map(|package| {
        let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
        let inner = dependencies.iter().filter(|one| one["path"].is_string() && one["kind"] != "dev");
        (short(&package["name"]), inner.map(|one| short(&one["name"])).collect())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# House\n\n| crate | what | may use | may not |\n| --- | --- | --- | --- |\n\
                            | `model` | ids | – | IO |\n| `lang` | text | model | IO |\n\nend";

    fn uses(pairs: &[(&str, &[&str])]) -> Uses {
        pairs
            .iter()
            .map(|(name, uses)| (name.to_string(), uses.iter().map(|name| name.to_string()).collect()))
            .collect()
    }

    #[test]
    fn the_table_is_read_from_the_document() {
        assert_eq!(allowed(DOCUMENT), Ok(uses(&[("model", &[]), ("lang", &["model"])])));
        assert!(allowed("no table").is_err());
    }

    #[test]
    fn an_arrow_that_the_table_does_not_allow_is_named() {
        let used = uses(&[("model", &["lang"]), ("lang", &["model"])]);
        let problems = compare(&allowed(DOCUMENT).expect("table"), &used);
        assert_eq!(problems, [Problem::of(TABLE, "crate `model` uses `lang`, which its row does not allow")]);
    }

    #[test]
    fn a_crate_without_a_row_and_a_row_without_a_crate_are_named() {
        let problems = compare(&allowed(DOCUMENT).expect("table"), &uses(&[("model", &[]), ("view", &[])]));
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn dependencies_of_tests_are_free() {
        let metadata = serde_json::json!({ "packages": [{
            "name": "paceline-lang", "manifest_path": "/r/crates/lang/Cargo.toml", "dependencies": [
                { "name": "paceline-model", "path": "/r/crates/model", "kind": null },
                { "name": "paceline-testkit", "path": "/r/dev/testkit", "kind": "dev" },
                { "name": "serde", "kind": null },
            ],
        }] });
        assert_eq!(uses_of(&metadata), uses(&[("lang", &["model"])]));
    }
}
