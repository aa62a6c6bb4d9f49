//! `approve`.

use super::{Entry, Keyword, MapShape, Shape, Table, entries};
use crate::raw::{RawApprove, RawStep};

pub(super) const APPROVE: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "approve",
        shape: Shape::Map(&MapShape { name: "approve", entries: || entries(TABLE), rest: None }),
        doc: "Waits until a person says yes; a no fails the step. Needs `pace server`. Steps that depend on it read who answered in \
              `steps.<id>.values.by`, and what they said in `values.comment`.",
        example: "approve: { by: [team:release], message: \"Ship it?\", expires: 24h }",
        required: false,
        also: &["approval", "manual", "input", "block"],
    },
    read: |d, at, step| d.table(at, "`approve`", TABLE, step.approve.get_or_insert_default()),
};

const TABLE: Table<RawApprove> = &[&BY, &MESSAGE, &EXPIRES];

const BY: Keyword<RawApprove> = Keyword {
    entry: Entry {
        name: "by",
        shape: Shape::List(&Shape::Text),
        doc: "Who may say yes: `user:NAME` or `team:NAME`, each is enough.",
        example: "by: [team:release]",
        required: true,
        also: &["approvers", "reviewers", "users"],
    },
    read: |d, at, approve| {
        let items = d.list(at, "a list of `user:NAME` and `team:NAME`").unwrap_or_default();
        for item in items {
            let Some(text) = d.filled(item, "`user:NAME` or `team:NAME` in each place") else { continue };
            let name = text.value.strip_prefix("user:").or_else(|| text.value.strip_prefix("team:"));
            if name.is_some_and(|name| !name.trim().is_empty()) {
                approve.by.push(text.value);
            } else {
                d.bad(
                    item,
                    format_args!(
                        "`{}` is neither `user:NAME` nor `team:NAME`",
                        text.value.chars().take(60).collect::<String>()
                    ),
                );
            }
        }
    },
};

const MESSAGE: Keyword<RawApprove> = Keyword {
    entry: Entry {
        name: "message",
        shape: Shape::Template,
        doc: "What the person is asked.",
        example: "message: \"Ship ${{ git.short_sha }}?\"",
        required: false,
        also: &["text", "prompt", "description"],
    },
    read: |d, at, approve| approve.message = d.filled(at, "a sentence"),
};

const EXPIRES: Keyword<RawApprove> = Keyword {
    entry: Entry {
        name: "expires",
        shape: Shape::Duration,
        doc: "After how long without an answer the step fails; 30 days if not written.",
        example: "expires: 24h",
        required: false,
        also: &["timeout", "within"],
    },
    read: |d, at, approve| approve.expires = d.duration(at),
};
