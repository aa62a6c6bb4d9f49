//! The reference page of the events, written from the shapes themselves: `docs/reference/events.md`.

use super::wire::*;

type Fields = &'static [(&'static str, &'static str, &'static str)];

/// Every event: its word, what it means, its fields.
const EVENTS: [(&str, &str, Fields); 18] = [
    ("run_requested", "A run was asked for.", RunRequested::FIELDS),
    ("run_released", "Somebody let a held run go.", RunReleased::FIELDS),
    ("run_prioritised", "Its place in the queue changed.", RunPrioritised::FIELDS),
    ("run_started", "It may start: its concurrency group is free.", &[]),
    ("sla_missed", "A bound of its `sla` passed.", SlaMissed::FIELDS),
    (
        "step_kept",
        "The result of an ended run was taken over: the step instance is not executed, and ends when the run starts.",
        StepKept::FIELDS,
    ),
    ("step_ready", "All that a step instance waited for is there.", StepReady::FIELDS),
    ("attempt_started", "An agent executes an attempt.", AttemptStarted::FIELDS),
    (
        "lease_extended",
        "The agent keeps the attempt for longer, because the server slept or its clock jumped.",
        LeaseExtended::FIELDS,
    ),
    ("attempt_ended", "An attempt ended.", AttemptEnded::FIELDS),
    ("retry_planned", "Another attempt will be made.", RetryPlanned::FIELDS),
    ("steps_added", "An `expand` step made steps.", StepsAdded::FIELDS),
    ("approval_opened", "An `approve` step asks.", ApprovalOpened::FIELDS),
    ("approval_given", "Somebody answered.", ApprovalGiven::FIELDS),
    ("step_ended", "A step instance ended, once and for all.", StepEnded::FIELDS),
    ("cancel_requested", "Somebody asked to stop.", CancelRequested::FIELDS),
    ("run_ended", "The run ended.", RunEnded::FIELDS),
    ("log", "A step printed a line.", Log::FIELDS),
];

/// What the fields are made of: how the type is called, what it means, its fields.
const PARTS: [(&str, &str, Fields); 11] = [
    ("planned step", "A step instance of the plan.", PlannedStep::FIELDS),
    ("cause", "Why something failed.", WireCause::FIELDS),
    ("traffic", "What an attempt reached over its network.", WireTraffic::FIELDS),
    ("host", "A host that an attempt reached.", WireHost::FIELDS),
    ("refusal", "Something that an attempt was not let reach.", WireRefusal::FIELDS),
    ("skip", "Why a step did not run.", WireSkip::FIELDS),
    ("cached", "The execution a cached result comes from.", WireCached::FIELDS),
    ("layer", "What an attempt wrote.", WireLayer::FIELDS),
    ("artifact", "A kept artifact.", WireArtifact::FIELDS),
    ("file", "A file of an artifact.", WireFile::FIELDS),
    ("report", "A kept report.", WireReport::FIELDS),
];

const HEAD: &str = "\
# Events

`pace run --output json` prints one JSON object a line, and the local history keeps the same lines. Fields are added over
time, never renamed or removed: pass over events and fields that you do not know. A field that has nothing to say may be
missing, `null` or empty.

This page is written from the shapes in `crates/view/src/json/wire.rs`; a test holds it to them.

Every event has

| field | type | meaning |
| --- | --- | --- |
| `at` | text | when: ISO 8601, UTC, with microseconds |
| `at_us` | number | when: microseconds since 1970-01-01 UTC |
| `run` | text | the run's id |
| `event` | text | what happened: one of the words below |
";

/// The page, in Markdown.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for (word, meaning, fields) in EVENTS {
        page.push_str(&format!("\n## `{word}`\n\n{meaning}\n"));
        page.push_str(&table(fields));
    }
    page.push_str("\n# Parts of events\n");
    for (name, meaning, fields) in PARTS {
        page.push_str(&format!("\n## {name}\n\n{meaning}\n"));
        page.push_str(&table(fields));
    }
    page
}

fn table(fields: Fields) -> String {
    if fields.is_empty() {
        return String::new();
    }
    let mut table = String::from("\n| field | type | meaning |\n| --- | --- | --- |\n");
    for (name, kind, meaning) in fields {
        table.push_str(&format!("| `{name}` | {} | {} |\n", type_words(kind), meaning.trim().trim_end_matches('.')));
    }
    table
}

fn type_words(kind: &str) -> String {
    let kind: String = kind.chars().filter(|c| !c.is_whitespace()).collect();
    if let Some(inner) = kind.strip_prefix("Option<").and_then(|kind| kind.strip_suffix('>')) {
        return format!("{} or null", type_words(inner));
    }
    if let Some(inner) = kind.strip_prefix("Vec<").and_then(|kind| kind.strip_suffix('>')) {
        return format!("list of {}", type_words(inner));
    }
    match kind.as_str() {
        "String" => "text".to_owned(),
        "bool" => "true or false".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "i32" => "number".to_owned(),
        "BTreeMap<String,String>" => "object of text".to_owned(),
        "PlannedStep" => "planned step".to_owned(),
        other => other.trim_start_matches("Wire").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scene::Scene;

    #[test]
    fn the_page_in_the_repository_is_the_one_the_shapes_write() {
        let page = include_str!("../../../../docs/reference/events.md");
        assert!(
            page == reference(),
            "docs/reference/events.md is old: `cargo run -p paceline-view --example events` prints it anew"
        );
    }

    #[test]
    fn every_event_that_is_written_has_its_fields_on_the_page() {
        let mut seen = BTreeSet::new();
        let text = Scene::every_event().json();
        for line in text.lines() {
            let object: serde_json::Value = serde_json::from_str(line).expect("an object");
            let word = object["event"].as_str().expect("a word").to_owned();
            let (_, _, fields) = EVENTS.into_iter().find(|(known, ..)| *known == word).expect("it is on the page");
            let head = ["at", "at_us", "run", "event"];
            let meant: BTreeSet<&str> = fields.iter().map(|(name, ..)| *name).chain(head).collect();
            let written: BTreeSet<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
            assert_eq!(written, meant, "{word}");
            seen.insert(word);
        }
        assert_eq!(seen.len(), EVENTS.len(), "{seen:?}");
    }

    #[test]
    fn every_part_that_a_field_names_is_on_the_page() {
        let simple = ["text", "number", "true or false", "object of text"];
        for (_, _, fields) in EVENTS.into_iter().chain(PARTS) {
            for (name, kind, _) in fields {
                let words = type_words(kind);
                let bare = words.trim_end_matches(" or null").trim_start_matches("list of ");
                assert!(simple.contains(&bare) || PARTS.iter().any(|(part, ..)| *part == bare), "{name}: {words}");
            }
        }
    }
}
