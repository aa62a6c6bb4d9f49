//! `runs_on`.

use model::limits::{LABEL_BYTES_MAX, LABELS_MAX};

use super::{Entry, Keyword, Shape};
use crate::raw::RawStep;

pub(super) const RUNS_ON: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "runs_on",
        shape: Shape::List(&Shape::Template),
        doc: "Labels that the agent must have, all of them. Without it: any agent. Expressions may name what is known before \
              the run, such as `matrix`, and not `steps`. `pace run` has one agent, this machine, and does not look at labels.",
        example: "runs_on: [linux, gpu]",
        required: false,
        also: &["runs-on", "labels", "tags", "agents", "agent", "node", "pool", "runner", "resource_class"],
    },
    read: |d, at, step| {
        let labels = d.texts(at, "a list of labels");
        if labels.len() > LABELS_MAX {
            return d.bad(at, format_args!("more than {LABELS_MAX} labels"));
        }
        if labels.iter().any(|label| !label.value.contains("${{") && !model::is_label(&label.value)) {
            let wanted = "a label has letters, digits, `-`, `_`, `.`, `:`, `/` and `=`";
            return d.bad(at, format_args!("{wanted}, at most {LABEL_BYTES_MAX}"));
        }
        step.runs_on = Some(labels);
    },
};
