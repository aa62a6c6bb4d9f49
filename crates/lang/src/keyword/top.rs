//! The keywords of a pipeline file, of an included file and of an expanded one.

use super::{Entry, Keyword, Shape, Table, codes, concurrency, defaults, env, files, on, params, sla, step, templates};
use crate::diagnostic::Diagnostic;
use crate::raw::RawFile;

/// The keys of a pipeline file, in the order of the reference.
pub(crate) const PIPELINE: Table<RawFile> = &[
    &NAME,
    &VERSION,
    &on::ON,
    &params::PARAMS,
    &env::PIPELINE_ENV,
    &defaults::DEFAULTS,
    &concurrency::CONCURRENCY,
    &sla::SLA,
    &files::INCLUDE,
    &step::STEPS,
    &templates::TEMPLATES,
];

/// The keys of an included file.
pub(crate) const INCLUDED: Table<RawFile> =
    &[&env::PIPELINE_ENV, &files::INCLUDE, &step::SOME_STEPS, &templates::TEMPLATES];

/// The keys of a file that an `expand` step reads.
pub(crate) const EXPANDED: Table<RawFile> =
    &[&env::PIPELINE_ENV, &defaults::DEFAULTS, &step::STEPS, &templates::TEMPLATES];

const NAME: Keyword<RawFile> = Keyword {
    entry: Entry {
        name: "name",
        shape: Shape::Text,
        doc: "The pipeline's name, as people see it.",
        example: "name: checkout",
        required: true,
        also: &["title"],
    },
    read: |d, at, file| file.name = d.filled(at, "a name"),
};

const VERSION: Keyword<RawFile> = Keyword {
    entry: Entry {
        name: "paceline",
        shape: Shape::Whole(1, 1),
        doc: "The version of the language the file is written in. Without it: 1, the only one so far.",
        example: "paceline: 1",
        required: false,
        also: &["version", "apiVersion"],
    },
    read: |d, at, _| {
        let Some(scalar) = d.scalar(at, "a version number") else { return };
        if scalar.as_int() != Some(1) {
            let shown: String = scalar.text.chars().take(40).collect();
            let message = format!("this pace does not know version `{shown}` of the language");
            let found = Diagnostic::error(&codes::VERSION, d.span(at), message, "it knows version 1");
            d.found(found.help("update pace, or leave the key out"));
        }
    },
};
