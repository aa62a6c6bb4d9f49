//! The reference page: every keyword with its type, its meaning and an example, from the tables the decoder uses.

use std::fmt::Write;

use crate::keyword::{Entry, MapShape, PIPELINE, Shape, entries};

/// The reference of all keywords, as Markdown.
pub fn reference() -> String {
    let mut text = String::from(
        "# Reference of the pipeline language\n\nMade from the tables that the decoder reads. Every other key is an error.\n",
    );
    let mut maps: Vec<&'static MapShape> = Vec::new();
    section(&mut text, "A pipeline", &entries(PIPELINE), None, &mut maps);
    let mut at = 0;
    while at < maps.len() {
        let map = maps[at];
        section(&mut text, &title(map.name), &(map.entries)(), map.rest, &mut maps);
        at += 1;
    }
    text
}

fn section(
    text: &mut String,
    title: &str,
    entries: &[&'static Entry],
    rest: Option<&'static Shape>,
    maps: &mut Vec<&'static MapShape>,
) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "\n## {title}");
    for entry in entries {
        let required = if entry.required { ", required" } else { "" };
        let kind = words(&entry.shape, maps);
        let _ = writeln!(
            text,
            "\n### `{}`\n\n*{kind}{required}*\n\n{}\n\n```yaml\n{}\n```",
            entry.name, entry.doc, entry.example
        );
    }
    if let Some(rest) = rest {
        let kind = words(rest, maps);
        let _ = writeln!(text, "\nEvery other key is a name of your own: *{kind}*.");
    }
}

/// The shape in words; maps it names are noted for sections of their own.
fn words(shape: &'static Shape, maps: &mut Vec<&'static MapShape>) -> String {
    match shape {
        Shape::Text => "text".into(),
        Shape::Template => "text with `${{ }}`".into(),
        Shape::Condition => "expression".into(),
        Shape::Name => "name".into(),
        Shape::Bool => "`true` or `false`".into(),
        Shape::Whole(min, max) => format!("whole number from {min} to {max}"),
        Shape::Number(min, max) => format!("number from {min} to {max}"),
        Shape::Duration => "duration".into(),
        Shape::Size => "size".into(),
        Shape::Glob => "pattern".into(),
        Shape::Path => "path".into(),
        Shape::Scalar => "text, number, `true` or `false`".into(),
        Shape::Nothing => "nothing".into(),
        Shape::Words(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "),
        Shape::List(of) => format!("list of: {}", words(of, maps)),
        Shape::Named(of) => format!("map of names to: {}", words(of, maps)),
        Shape::Map(map) => {
            if !maps.iter().any(|known| known.name == map.name) {
                maps.push(map);
            }
            format!("[{}](#{})", map.name, title(map.name).to_lowercase().replace(' ', "-"))
        }
        Shape::Either(shapes) => shapes.iter().map(|of| words(of, maps)).collect::<Vec<_>>().join(", or "),
    }
}

fn title(name: &str) -> String {
    match name {
        "step" | "template" | "filter" | "cause" | "service" | "cache" | "parameter" | "schedule entry" => {
            format!("A {name}")
        }
        "artifact" => "An artifact".to_string(),
        _ => format!("Map {name}"),
    }
}
