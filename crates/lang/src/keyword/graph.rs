//! `id`, `depends_on`, `when`, `if`, `allow_failure`: a step's place in the graph.

use model::When;

use super::{Entry, Keyword, Shape};
use crate::raw::RawStep;

pub(super) const ID: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "id",
        shape: Shape::Name,
        doc: "The step's name, unique in the pipeline: letters, digits, `_` and `-`.",
        example: "id: build",
        required: true,
        also: &["name", "key", "label", "step"],
    },
    read: |d, at, step| {
        if let Some(id) = d.filled(at, "a name") {
            d.name_fits(&id, "a step's id", true);
            // Kept even if it is wrong: those that depend on the step have no fault of their own.
            step.id = Some(id);
        }
    },
};

pub(super) const DEPENDS_ON: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "depends_on",
        shape: Shape::List(&Shape::Name),
        doc: "Ids of the steps that must end before this one starts. It sees what they wrote.",
        example: "depends_on: [build]",
        required: false,
        also: &["needs", "requires", "after", "depends", "dependsOn", "deps", "dependencies", "need"],
    },
    read: |d, at, step| step.depends_on = d.texts(at, "a list of step ids"),
};

pub(super) const WHEN: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "when",
        shape: Shape::Words(&["success", "failure", "always"]),
        doc: "Which ends of its dependencies let it run: all succeeded (`success`, the default), at least one failed (`failure`, \
              for notices), or whatever happened, also when the run is cancelled (`always`, for clean-up).",
        example: "when: always",
        required: false,
        also: &["run_on"],
    },
    read: |d, at, step| {
        step.when = d.word(at, &[("success", When::Success), ("failure", When::Failure), ("always", When::Always)]);
    },
};

pub(super) const IF: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "if",
        shape: Shape::Condition,
        doc: "An expression, without `${{ }}`. Where it is false the step is skipped, and so is what depends on it.",
        example: "if: event.kind == \"push\" && git.branch == \"main\"",
        required: false,
        also: &["condition", "rules", "only"],
    },
    read: |d, at, step| step.condition = d.filled(at, "an expression like `git.branch == \"main\"`"),
};

pub(super) const ALLOW_FAILURE: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "allow_failure",
        shape: Shape::Bool,
        doc: "`true`: if it fails, nobody minds; what depends on it runs, and the run stays green.",
        example: "allow_failure: true",
        required: false,
        also: &["continue-on-error", "continue_on_error", "soft_fail", "optional"],
    },
    read: |d, at, step| step.allow_failure = d.bool(at),
};
