//! `defaults`.

use super::{Entry, Keyword, MapShape, Shape, Table, entries, resources, retry, runs_on, script, timeout};
use crate::raw::{RawFile, RawStep};

pub(super) const DEFAULTS: Keyword<RawFile> = Keyword {
    entry: Entry {
        name: "defaults",
        shape: Shape::Map(&MapShape { name: "defaults", entries: || entries(TABLE), rest: None }),
        doc: "What steps have that do not say otherwise. Of `timeout` and `resources` each part counts by itself.",
        example: "defaults: { timeout: 10m, resources: { cpu: 1, memory: 1GiB } }",
        required: false,
        also: &["default"],
    },
    read: |d, at, file| d.table(at, "`defaults`", TABLE, &mut file.defaults),
};

/// The keys of a step that make sense for all of them.
const TABLE: Table<RawStep> = &[
    &timeout::TIMEOUT,
    &resources::RESOURCES,
    &retry::RETRY,
    &script::SHELL,
    &script::NETWORK,
    &script::IMAGE,
    &script::CACHE,
    &runs_on::RUNS_ON,
];
