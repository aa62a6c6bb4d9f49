//! Every diagnostic code has an explanation, whose first example yields the code and whose second yields nothing.

use std::collections::BTreeMap;

use lang::{Outer, ReadError, Report};
use model::StepId;

/// The fenced examples of an explanation.
fn examples(explanation: &str) -> (String, String) {
    let mut blocks =
        explanation.split("```yaml\n").skip(1).map(|rest| rest.split("```\n").next().expect("fence closes"));
    (blocks.next().expect("before").to_string(), blocks.next().expect("after").to_string())
}

/// Bytes that an example can only name.
fn bytes_of(example: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = example;
    while let Some(at) = rest.find('<') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let (special, length): (Vec<u8>, usize) = match &rest[at..] {
            named if named.starts_with("<0x00>") => (vec![0], 6),
            named if named.starts_with("<0xE9>") => (vec![0xE9], 6),
            named if named.starts_with("<1 MiB>") => (vec![b'-'; 1 << 20], 7),
            _ => (vec![b'<'], 1),
        };
        bytes.extend(special);
        rest = &rest[at + length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn check(code: &str, example: &str) -> Report {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut parts = example.split("# file: ");
    let main = bytes_of(parts.next().expect("a first file"));
    for part in parts {
        let (path, text) = part.split_once('\n').expect("a path and a text");
        files.insert(path.trim().to_string(), bytes_of(text));
    }
    if code == "P0139" {
        return lang::load_expansion("more.yaml", &main, &StepId::from("more"), 0, &Outer::default()).1;
    }
    lang::load("paceline.yaml", &main, &mut |path| files.get(path).cloned().ok_or(ReadError::NotFound)).1
}

#[test]
fn every_code_is_explained_by_an_example_that_yields_it_and_one_that_is_clean() {
    let mut count = 0;
    for (code, title) in lang::codes() {
        let explanation = lang::explain(code).expect("explained");
        assert!(explanation.contains(title), "{code} has its title");
        let (before, after) = examples(explanation);
        let report = check(code, &before);
        assert!(
            report.diagnostics().iter().any(|found| found.code == code),
            "the example before of {code} does not yield it:\n{before}\n{}",
            report.render(false, 100)
        );
        let report = check(code, &after);
        assert!(
            report.diagnostics().is_empty(),
            "the example after of {code} is not clean:\n{after}\n{}",
            report.render(false, 100)
        );
        count += 1;
    }
    assert!(count > 40, "{count} codes");
}

#[test]
fn codes_are_unique_and_found_in_either_case() {
    let codes: Vec<&str> = lang::codes().map(|(code, _)| code).collect();
    let mut unique = codes.clone();
    unique.dedup();
    assert_eq!(codes, unique);
    assert!(lang::explain("p0104").is_some() && lang::explain("P9999").is_none());
}
