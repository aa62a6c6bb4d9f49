//! `timeout`.

use model::Timeout;

use super::{Entry, Keyword, MapShape, Shape, Table, entries};
use crate::raw::RawStep;
use crate::yaml::Kind;

pub(super) const TIMEOUT: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "timeout",
        shape: Shape::Either(&[
            Shape::Duration,
            Shape::Map(&MapShape { name: "timeout", entries: || entries(TABLE), rest: None }),
        ]),
        doc: "How long one attempt may take: a duration, or `total` and `idle` apart. Without it: 6 hours.",
        example: "timeout: { total: 15m, idle: 2m }",
        required: false,
        also: &["timeout-minutes", "timeout_minutes", "time_limit"],
    },
    read: |d, at, step| match d.kind(at.node) {
        Kind::Map(_) => d.table(at, "`timeout`", TABLE, &mut step.timeout),
        _ => step.timeout.total = d.duration(at),
    },
};

const TABLE: Table<Timeout> = &[&TOTAL, &IDLE];

const TOTAL: Keyword<Timeout> = Keyword {
    entry: Entry {
        name: "total",
        shape: Shape::Duration,
        doc: "From start to end.",
        example: "total: 15m",
        required: false,
        also: &["max"],
    },
    read: |d, at, timeout| timeout.total = d.duration(at),
};

const IDLE: Keyword<Timeout> = Keyword {
    entry: Entry {
        name: "idle",
        shape: Shape::Duration,
        doc: "Without a byte of output.",
        example: "idle: 2m",
        required: false,
        also: &["no_output", "silent"],
    },
    read: |d, at, timeout| timeout.idle = d.duration(at),
};
