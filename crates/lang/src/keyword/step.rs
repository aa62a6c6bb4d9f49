//! `steps`: the keys of a step, and which of them go together.

use std::rc::Rc;

use super::{
    Entry, Keyword, MapShape, Shape, Table, approve, artifacts, caches, codes, entries, env, files, graph, matrix,
    reports, resources, retry, runs_on, script, services, templates, timeout,
};
use crate::decode::{At, Decoder};
use crate::diagnostic::{Diagnostic, nearest};
use crate::raw::{RawFile, RawStep};
use crate::yaml::Kind;

/// The keys of a step, in the order of the reference.
pub(crate) const STEP: Table<RawStep> = &[
    &graph::ID,
    &script::CMD,
    &templates::USE,
    &templates::WITH,
    &approve::APPROVE,
    &files::EXPAND,
    &graph::DEPENDS_ON,
    &graph::WHEN,
    &graph::IF,
    &graph::ALLOW_FAILURE,
    &matrix::MATRIX,
    &matrix::SHARDS,
    &script::SHELL,
    &env::STEP_ENV,
    &script::PASS_ENV,
    &script::SECRETS,
    &script::INPUTS,
    &script::OUTPUTS,
    &script::IMAGE,
    &script::NETWORK,
    &services::SERVICES,
    &caches::CACHES,
    &script::CACHE,
    &reports::REPORTS,
    &artifacts::ARTIFACTS,
    &retry::RETRY,
    &timeout::TIMEOUT,
    &resources::RESOURCES,
    &runs_on::RUNS_ON,
];

/// Kinds of steps that are reserved, so that no template or habit takes their names.
const LATER: [&str; 4] = ["gate", "deploy", "experiment", "plugin"];

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Cmd,
    Use,
    Approve,
    Expand,
}

impl Work {
    pub(crate) const ALL: [(&'static str, Work); 4] =
        [("cmd", Work::Cmd), ("use", Work::Use), ("approve", Work::Approve), ("expand", Work::Expand)];

    pub(crate) fn word(self) -> &'static str {
        Work::ALL.into_iter().find(|(_, work)| *work == self).map_or("", |(word, _)| word)
    }
}

/// Whether a key means something in a step of a kind.
fn fits(key: &str, work: Work) -> bool {
    match key {
        "id" | "depends_on" | "when" | "if" | "matrix" => true,
        "with" => work == Work::Use,
        "allow_failure" => work != Work::Use,
        "timeout" | "retry" | "resources" | "runs_on" => matches!(work, Work::Cmd | Work::Expand),
        _ => work == Work::Cmd || key == work.word(),
    }
}

pub(super) const STEPS_SHAPE: Shape =
    Shape::List(&Shape::Map(&MapShape { name: "step", entries: || entries(STEP), rest: None }));

const DOC: &str =
    "What the pipeline does. Steps without `depends_on` start at once; the order of the list means nothing else.";

pub(super) const STEPS: Keyword<RawFile> = Keyword {
    entry: Entry {
        name: "steps",
        shape: STEPS_SHAPE,
        doc: DOC,
        example: "steps: [{ id: build, cmd: make }]",
        required: true,
        also: &["jobs", "tasks", "stages", "pipeline"],
    },
    read: |d, at, file| file.steps = read(d, at, "a pipeline"),
};

/// An included file may have templates only.
pub(super) const SOME_STEPS: Keyword<RawFile> = Keyword {
    entry: Entry {
        name: "steps",
        shape: STEPS_SHAPE,
        doc: DOC,
        example: "steps: [{ id: build, cmd: make }]",
        required: false,
        also: &["jobs", "tasks", "stages", "pipeline"],
    },
    read: |d, at, file| file.steps = read(d, at, "a pipeline"),
};

/// Reads a list of steps.
pub(super) fn read(d: &mut Decoder<'_>, at: At, what: &str) -> Vec<Rc<RawStep>> {
    let items = match d.kind(at.node) {
        Kind::Map(_) => {
            d.wrong(at, "a list of steps, each with `- id:`");
            return Vec::new();
        }
        _ => d.list(at, "a list of steps").unwrap_or_default(),
    };
    if items.is_empty() && matches!(d.kind(at.node), Kind::List(_)) {
        let found =
            Diagnostic::error(&codes::NO_STEPS, d.span(at), format!("{what} has at least one step"), "none here");
        d.found(found.help("the smallest step is `{ id: build, cmd: make }`"));
    }
    items.into_iter().filter_map(|item| step(d, item).map(Rc::new)).collect()
}

fn step(d: &mut Decoder<'_>, at: At) -> Option<RawStep> {
    let Kind::Map(map) = d.kind(at.node) else {
        d.wrong(at, "a map in each place, with `id` and `cmd`");
        return None;
    };
    let mut raw =
        RawStep { span: d.doc.node(at.node).span, head: d.span(at), bytes: d.doc.bytes(at.node), ..RawStep::default() };
    let (mut later, mut meant) = (false, false);
    for (key, _) in map {
        let Kind::Scalar(name) = d.kind(*key) else { continue };
        let span = d.doc.node(*key).span;
        match STEP.iter().find(|keyword| keyword.entry.name == name.text) {
            Some(keyword) => raw.keys.push((keyword.entry.name, span)),
            None if LATER.contains(&name.text.as_str()) => {
                later = true;
                let message = format!("`{}` steps come with a later version of pace", name.text);
                let found = Diagnostic::error(&codes::LATER, span, message, "not yet");
                d.found(found.help("until then write it as a script, with `cmd`"));
            }
            // `run` or `cmdd`: the unknown key is told of, and the step does not do nothing.
            None => meant |= means_work(&name.text),
        }
    }
    if later {
        // Its other keys belong to a kind of step that nobody can check yet; its id must be known to those that need it.
        let id = map.iter().find(|(key, _)| matches!(d.kind(*key), Kind::Scalar(name) if name.text == "id"));
        if let Some((_, value)) = id {
            (graph::ID.read)(d, At { name: "id", node: *value }, &mut raw);
        }
        return Some(raw);
    }
    d.table(at, "a step", STEP, &mut raw);
    if !meant {
        kind_is_one(d, &raw);
    }
    Some(raw)
}

fn means_work(key: &str) -> bool {
    let works = STEP.iter().filter(|keyword| Work::ALL.iter().any(|(word, _)| *word == keyword.entry.name));
    nearest(key, Work::ALL.map(|(word, _)| word)).is_some()
        || works.into_iter().any(|keyword| keyword.entry.also.contains(&key))
}

/// A step does exactly one thing, and has only keys that belong to it.
fn kind_is_one(d: &mut Decoder<'_>, raw: &RawStep) {
    let works: Vec<(Work, model::Span)> =
        Work::ALL.into_iter().filter_map(|(word, work)| raw.key(word).map(|span| (work, span))).collect();
    let name = raw.id.as_ref().map_or(String::new(), |id| format!(" `{}`", id.value));
    match works.as_slice() {
        [] => {
            let found = Diagnostic::error(&codes::STEP_KIND, raw.head, format!("step{name} does nothing"), "this step");
            d.found(found.help("give it one of `cmd`, `use`, `approve` or `expand`"));
        }
        [(work, _)] => keys_fit(d, raw, *work),
        [(first, _), (second, _), ..] => {
            let message = format!("step{name} does two things: `{}` and `{}`", first.word(), second.word());
            let mut found = Diagnostic::error(&codes::STEP_KIND, raw.head, message, "this step");
            for (work, span) in works.iter().filter(|(_, span)| *span != raw.head) {
                found = found.also(*span, format!("`{}`", work.word()));
            }
            d.found(found.help("make it two steps, the second with `depends_on` the first"));
        }
    }
}

fn keys_fit(d: &mut Decoder<'_>, raw: &RawStep, work: Work) {
    for (key, span) in raw.keys.iter().filter(|(key, _)| !fits(key, work)) {
        let message = format!("`{key}` means nothing in a step with `{}`", work.word());
        let found = Diagnostic::error(&codes::KEY_DOES_NOT_FIT, *span, message, "this key");
        let help = match (*key, work) {
            ("with", _) => "`with` sets parameters of a template; it goes with `use`".to_string(),
            (_, Work::Use) => "write it at the steps of the template".to_string(),
            _ => format!("leave it out; a step with `{}` runs no script", work.word()),
        };
        d.found(found.help(help));
    }
}
