//! Entry points for fuzzers: total for every input.

use std::collections::BTreeMap;

use model::StepId;

use crate::resolve::{Outer, ReadError, load, load_expansion};

/// Reads bytes as a pipeline and as an expanded file, and renders all that was found in every way. A line
/// `# file: PATH` begins a further file, for `include`.
pub fn fuzz_pipeline(bytes: &[u8]) {
    let files = split(bytes);
    let mut read = |path: &str| files.get(path).map(|bytes| bytes.to_vec()).ok_or(ReadError::NotFound);
    let main = files.get("").copied().unwrap_or(bytes);
    let (pipeline, report) = load("paceline.yaml", main, &mut read);
    assert_eq!(pipeline.is_some(), !report.has_errors(), "a pipeline exactly if there are no errors");
    let outer = pipeline.as_ref().map_or_else(Outer::default, Outer::of_pipeline);
    let (_, expanded) = load_expansion("more.yaml", main, &StepId::from("more"), 1, &outer);
    for report in [report, expanded] {
        report.render(true, 80);
        report.json();
        crate::sarif(std::slice::from_ref(&report));
    }
}

/// The files of one input: the first has no name.
pub(crate) fn split(bytes: &[u8]) -> BTreeMap<String, &[u8]> {
    const MARK: &[u8] = b"# file: ";
    let mut files = BTreeMap::new();
    let (mut name, mut start, mut line) = (String::new(), 0, 0);
    while line < bytes.len() {
        let end = bytes[line..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| line + at + 1);
        if let Some(path) = bytes[line..end].strip_prefix(MARK) {
            files.insert(std::mem::take(&mut name), &bytes[start..line]);
            name = String::from_utf8_lossy(path).trim().to_string();
            start = end;
        }
        line = end;
    }
    files.insert(name, &bytes[start..]);
    files
}
