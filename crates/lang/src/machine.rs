//! A report for programs: JSON lines and SARIF 2.1.0.

use std::collections::BTreeSet;

use model::Span;
use serde_json::{Value, json};

use crate::code;
use crate::diagnostic::{Diagnostic, Severity};
use crate::report::Report;

/// The findings of one or more pipelines as one SARIF 2.1.0 document, for editors and code hosts.
pub fn sarif(reports: &[Report]) -> String {
    let found = || reports.iter().flat_map(|report| report.diagnostics().iter().map(move |found| (report, found)));
    let used: BTreeSet<&str> = found().map(|(_, diagnostic)| diagnostic.code).collect();
    let rules: Vec<Value> = code::all()
        .filter(|code| used.contains(code.code))
        .map(|code| {
            json!({
                "id": code.code,
                "shortDescription": { "text": code.title },
                "help": { "text": code.explain, "markdown": code.explain },
            })
        })
        .collect();
    let results: Vec<Value> = found().map(|(report, diagnostic)| report.sarif_result(diagnostic)).collect();
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "pace check",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{document:#}\n")
}

impl Report {
    /// One JSON object a line, one line a finding. Lines and columns count from 1, columns in characters; `end` is
    /// one behind the last character.
    pub fn json(&self) -> String {
        self.diagnostics().iter().map(|diagnostic| format!("{}\n", self.json_of(diagnostic))).collect()
    }

    fn json_of(&self, diagnostic: &Diagnostic) -> Value {
        let labels: Vec<Value> = diagnostic
            .labels
            .iter()
            .map(|(span, label)| json!({ "at": self.json_place(*span), "text": label }))
            .collect();
        json!({
            "kind": "diagnostic",
            "severity": diagnostic.severity.word(),
            "code": diagnostic.code,
            "message": diagnostic.message,
            "at": self.json_place(diagnostic.primary.0),
            "text": diagnostic.primary.1,
            "labels": labels,
            "help": diagnostic.help,
        })
    }

    fn json_place(&self, span: Span) -> Value {
        let Some(source) = self.sources.file(span.file) else { return Value::Null };
        let (start, end) = (source.place(span.start), source.place(span.end));
        json!({
            "file": source.path,
            "start": { "line": start.line, "column": start.column },
            "end": { "line": end.line, "column": end.column },
        })
    }

    fn sarif_result(&self, diagnostic: &Diagnostic) -> Value {
        let level = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut message = diagnostic.message.clone();
        for help in &diagnostic.help {
            message.push_str("\nhelp: ");
            message.push_str(help);
        }
        let related: Vec<Value> = diagnostic
            .labels
            .iter()
            .map(|(span, label)| {
                let mut place = self.sarif_location(*span);
                place["message"] = json!({ "text": label });
                place
            })
            .collect();
        json!({
            "ruleId": diagnostic.code,
            "level": level,
            "message": { "text": message },
            "locations": [self.sarif_location(diagnostic.primary.0)],
            "relatedLocations": related,
        })
    }

    fn sarif_location(&self, span: Span) -> Value {
        let Some(source) = self.sources.file(span.file) else { return json!({}) };
        let (start, end) = (source.place(span.start), source.place(span.end));
        json!({
            "physicalLocation": {
                "artifactLocation": { "uri": source.path },
                "region": {
                    "startLine": start.line,
                    "startColumn": start.column,
                    "endLine": end.line,
                    "endColumn": end.column,
                },
            },
        })
    }
}
