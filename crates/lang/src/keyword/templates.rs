//! `templates`, `use` and `with`: steps written once and used often.

use std::rc::Rc;

use super::{Entry, Keyword, MapShape, Shape, Table, entries, params, step};
use crate::raw::{RawFile, RawStep, RawTemplate, With};
use crate::yaml::Kind;

pub(super) const TEMPLATES: Keyword<RawFile> = Keyword {
    entry: Entry {
        name: "templates",
        shape: Shape::Named(&Shape::Map(&MapShape { name: "template", entries: || entries(TABLE), rest: None })),
        doc: "Steps that are written once and used by name. Within a template, `params` are the template's own, and \
              `depends_on` names steps of the template.",
        example: "templates: { go-test: { params: { dir: { type: string } }, steps: [{ id: t, cmd: \"cd ${{ params.dir }} && go test ./...\" }] } }",
        required: false,
        also: &["anchors", "definitions", "components"],
    },
    read: |d, at, file| {
        for (name, value) in d.map(at, "a map of names to templates").unwrap_or_default() {
            if !d.name_fits(&name, "a template's name", true) {
                continue;
            }
            let mut template = RawTemplate { name, params: Default::default(), steps: Vec::new() };
            d.table(value, "a template", TABLE, &mut template);
            file.templates.push(Rc::new(template));
        }
    },
};

const TABLE: Table<RawTemplate> = &[&PARAMS, &STEPS];

const PARAMS: Keyword<RawTemplate> = Keyword {
    entry: Entry {
        name: "params",
        shape: params::PARAMS_SHAPE,
        doc: "What `with` sets, written like the pipeline's `params`.",
        example: "params: { dir: { type: string } }",
        required: false,
        also: &["parameters", "inputs"],
    },
    read: |d, at, template| template.params = params::read(d, at),
};

const STEPS: Keyword<RawTemplate> = Keyword {
    entry: Entry {
        name: "steps",
        shape: step::STEPS_SHAPE,
        doc: "Its steps. Where it is used as `u`, a step `t` of it is called `u.t`.",
        example: "steps: [{ id: t, cmd: go test ./... }]",
        required: true,
        also: &["jobs", "tasks"],
    },
    read: |d, at, template| template.steps = step::read(d, at, "a template"),
};

pub(super) const USE: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "use",
        shape: Shape::Name,
        doc: "The name of a template whose steps stand here. Its first steps wait for this step's `depends_on`; what depends on \
              this step waits for all of them. `if` holds for each of them, `when` for the first ones, `matrix` makes a set of \
              all of them for each cell.",
        example: "use: go-test",
        required: false,
        also: &["uses", "template", "extends"],
    },
    read: |d, at, step| step.uses = d.filled(at, "the name of a template"),
};

pub(super) const WITH: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "with",
        shape: Shape::Named(&Shape::Scalar),
        doc: "Values for the template's `params`; texts may hold `${{ }}`.",
        example: "with: { dir: svc/checkout }",
        required: false,
        also: &["args", "inputs", "parameters"],
    },
    read: |d, at, step| {
        for (name, value) in d.map(at, "a map of parameters to values").unwrap_or_default() {
            let Some(text) = d.text(value, "a text, a number, `true` or `false` for each parameter") else { continue };
            if let Kind::Scalar(scalar) = d.kind(value.node) {
                step.with.push((name, With { text, value: scalar.value() }));
            }
        }
    },
};
