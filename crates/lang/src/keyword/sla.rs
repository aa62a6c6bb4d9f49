//! `sla`.

use model::Sla;

use super::{Entry, Keyword, MapShape, Shape, Table, entries};
use crate::raw::RawFile;

pub(super) const SLA: Keyword<RawFile> = Keyword {
    entry: Entry {
        name: "sla",
        shape: Shape::Map(&MapShape { name: "sla", entries: || entries(TABLE), rest: None }),
        doc: "How soon a run should start and end. The queue of a server looks at it; locally it is only shown.",
        example: "sla: { start_within: 30s, finish_within: 10m }",
        required: false,
        also: &["slo", "deadline"],
    },
    read: |d, at, file| d.table(at, "`sla`", TABLE, file.sla.get_or_insert_default()),
};

const TABLE: Table<Sla> = &[&START, &FINISH];

const START: Keyword<Sla> = Keyword {
    entry: Entry {
        name: "start_within",
        shape: Shape::Duration,
        doc: "From the request to the first attempt.",
        example: "start_within: 30s",
        required: false,
        also: &[],
    },
    read: |d, at, sla| sla.start_within = d.duration(at),
};

const FINISH: Keyword<Sla> = Keyword {
    entry: Entry {
        name: "finish_within",
        shape: Shape::Duration,
        doc: "From the request to the end.",
        example: "finish_within: 10m",
        required: false,
        also: &[],
    },
    read: |d, at, sla| sla.finish_within = d.duration(at),
};
