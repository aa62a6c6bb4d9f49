//! `concurrency`.

use model::ConcurrencyPolicy;

use super::{Entry, Keyword, MapShape, Shape, Table, entries};
use crate::raw::{RawConcurrency, RawFile};

pub(super) const CONCURRENCY: Keyword<RawFile> = Keyword {
    entry: Entry {
        name: "concurrency",
        shape: Shape::Map(&MapShape { name: "concurrency", entries: || entries(TABLE), rest: None }),
        doc: "At most one run of a group at a time.",
        example: "concurrency: { group: \"checkout-${{ git.branch }}\", policy: cancel-running }",
        required: false,
        also: &[],
    },
    read: |d, at, file| d.table(at, "`concurrency`", TABLE, file.concurrency.get_or_insert_default()),
};

const TABLE: Table<RawConcurrency> = &[&GROUP, &POLICY];

const GROUP: Keyword<RawConcurrency> = Keyword {
    entry: Entry {
        name: "group",
        shape: Shape::Template,
        doc: "The group's name. Runs with the same name are of one group.",
        example: "group: \"deploy-${{ git.branch }}\"",
        required: true,
        also: &["name", "key"],
    },
    read: |d, at, it| it.group = d.filled(at, "a name, which may hold `${{ }}`"),
};

const POLICY: Keyword<RawConcurrency> = Keyword {
    entry: Entry {
        name: "policy",
        shape: Shape::Words(&["queue", "cancel-running", "cancel-queued"]),
        doc: "What a newer run does when the group is taken: wait (`queue`, the default), end the older (`cancel-running`), or \
              wait and end the older that wait as well (`cancel-queued`): then the newest alone is next.",
        example: "policy: queue",
        required: false,
        also: &["mode", "cancel-in-progress"],
    },
    read: |d, at, it| {
        let words = [
            ("queue", ConcurrencyPolicy::Queue),
            ("cancel-running", ConcurrencyPolicy::CancelRunning),
            ("cancel-queued", ConcurrencyPolicy::CancelQueued),
        ];
        it.policy = d.word(at, &words);
    },
};
