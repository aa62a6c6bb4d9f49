//! What programs read: JSON lines, SARIF, the schema, the reference.

use serde_json::Value;

use crate::Repository;

const FAULTY: &str = "name: ci\nsteps:\n  - { id: a, cmd: x }\n  - { id: ä, cmd: x }\n  - { id: a, cmd: y }\n";

#[test]
fn json_is_one_object_a_line() {
    let (_, report) = Repository::default().load(FAULTY);
    let lines: Vec<Value> = report.json().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["code"], "P0108");
    assert_eq!(lines[1]["code"], "P0106");
    assert_eq!(lines[1]["at"]["start"], serde_json::json!({ "line": 5, "column": 11 }));
    assert_eq!(lines[1]["labels"][0]["at"]["start"]["line"], 3);
    assert_eq!(report.place(report.diagnostics()[1].primary.0), Some(("paceline.yaml", 5, 11)));
}

#[test]
fn sarif_names_rules_and_places() {
    let (_, report) = Repository::default().load(FAULTY);
    let sarif: Value = serde_json::from_str(&lang::sarif(&[report])).expect("JSON");
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    assert_eq!(run["tool"]["driver"]["rules"].as_array().map(Vec::len), Some(2));
    let result = &run["results"][1];
    assert_eq!((result["ruleId"].as_str(), result["level"].as_str()), (Some("P0106"), Some("error")));
    assert_eq!(result["locations"][0]["physicalLocation"]["region"]["startColumn"], 11);
    assert_eq!(result["relatedLocations"][0]["message"]["text"], "first here");
}

#[test]
fn sarif_of_several_files_is_one_document() {
    let reports = [FAULTY, "name: ci\nstepz: []\n"].map(|text| Repository::default().load(text).1);
    let sarif: Value = serde_json::from_str(&lang::sarif(&reports)).expect("one JSON document");
    let results = sarif["runs"][0]["results"].as_array().expect("results");
    let codes: Vec<&str> = results.iter().filter_map(|result| result["ruleId"].as_str()).collect();
    assert_eq!(codes, ["P0108", "P0106", "P0102", "P0101"]);
}

#[test]
fn the_schema_and_the_reference_know_every_key_that_is_read() {
    let schema: Value = serde_json::from_str(&lang::json_schema()).expect("JSON");
    let reference = lang::reference();
    let mut keys: Vec<String> = Vec::new();
    collect(&schema, &mut keys);
    // The example has every key of LANGUAGE.md; each of these is read without a fault elsewhere.
    let text = crate::pipelines::EVERYTHING;
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let written: std::collections::BTreeSet<&str> = words.filter(|word| keys.iter().any(|key| key == word)).collect();
    for key in [
        "name",
        "on",
        "push",
        "branches",
        "tags",
        "paths",
        "pull_request",
        "schedule",
        "cron",
        "timezone",
        "manual",
        "params",
        "type",
        "default",
        "pattern",
        "env",
        "defaults",
        "timeout",
        "resources",
        "cpu",
        "memory",
        "concurrency",
        "group",
        "policy",
        "sla",
        "start_within",
        "finish_within",
        "include",
        "steps",
        "id",
        "cmd",
        "inputs",
        "network",
        "caches",
        "path",
        "key",
        "fallback",
        "depends_on",
        "matrix",
        "exclude",
        "image",
        "shell",
        "services",
        "ready",
        "tcp",
        "within",
        "outputs",
        "reports",
        "go_test",
        "go_cover",
        "sarif",
        "retry",
        "attempts",
        "exit",
        "backoff",
        "initial",
        "factor",
        "max",
        "jitter",
        "total",
        "idle",
        "pids",
        "shards",
        "allow_failure",
        "if",
        "secrets",
        "artifacts",
        "version",
        "cache",
        "approve",
        "by",
        "message",
        "expires",
        "expand",
        "templates",
    ] {
        assert!(written.contains(key), "the schema does not know `{key}`");
        assert!(reference.contains(&format!("### `{key}`")), "the reference does not know `{key}`");
    }
    for key in ["use", "with", "when", "pass_env", "choices", "description", "paceline", "enforce", "signal", "http"] {
        assert!(keys.iter().any(|known| known == key), "the schema does not know `{key}`");
    }
}

/// Names of all properties.
fn collect(schema: &Value, keys: &mut Vec<String>) {
    match schema {
        Value::Object(entries) => {
            if let Some(Value::Object(properties)) = entries.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            entries.values().for_each(|value| collect(value, keys));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, keys)),
        _ => {}
    }
}

#[test]
fn every_example_of_the_reference_is_read_without_a_fault() {
    let reference = lang::reference();
    let step = reference.split("\n## ").find(|section| section.starts_with("A step")).expect("a section on steps");
    let mut count = 0;
    for example in step.split("```yaml\n").skip(1).map(|rest| rest.split("\n```").next().expect("fence closes")) {
        let key = example.split(':').next().expect("a key");
        let work = match key {
            "cmd" | "use" | "approve" | "expand" => "",
            "with" => "use: t, ",
            _ => "cmd: make, ",
        };
        let id = if key == "id" { "" } else { "id: it, " };
        let text = format!(
            "name: ci\nsteps:\n  - {{ id: build, cmd: x }}\n  - {{ id: lint, cmd: x }}\n  - {{ {id}{work}{example} }}\ntemplates: {{ t: {{ params: {{ dir: {{ default: x }} }}, steps: [{{ id: a, cmd: x }}] }}, go-test: {{ steps: [{{ id: a, cmd: x }}] }} }}\n"
        )
        .replace("{ id: build, cmd: x }", if key == "id" { "{ id: other, cmd: x }" } else { "{ id: build, cmd: x }" });
        let (_, report) = Repository::default().load(&text);
        assert_eq!(report.render(false, 100), "", "{text}");
        count += 1;
    }
    assert!(count >= 28, "{count} examples");
}
