//! `resources`.

use super::{Entry, Keyword, MapShape, Shape, Table, entries};
use crate::raw::{RawResources, RawStep};

/// More processors than any machine of the next years has.
const CPU_MAX: f64 = 1024.0;
/// The kernel's own bound for process ids on 64-bit machines.
const PIDS_MAX: i64 = 1 << 22;

/// The kernel's bound for `fs.nr_open` on most machines.
const OPEN_FILES_MAX: i64 = 1 << 20;

pub(super) const RESOURCES: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "resources",
        shape: Shape::Map(&MapShape { name: "resources", entries: || entries(TABLE), rest: None }),
        doc: "What the step asks for and may not exceed.",
        example: "resources: { cpu: 2, memory: 4GiB, pids: 4096 }",
        required: false,
        also: &["limits", "requests"],
    },
    read: |d, at, step| d.table(at, "`resources`", TABLE, &mut step.resources),
};

const TABLE: Table<RawResources> =
    &[&CPU, &MEMORY, &PIDS, &IO_WEIGHT, &OPEN_FILES, &FILE_SIZE, &DISK, &OUTPUT, &ENFORCE];

const CPU: Keyword<RawResources> = Keyword {
    entry: Entry {
        name: "cpu",
        shape: Shape::Number(0.001, CPU_MAX),
        doc: "Processors; parts of one are allowed.",
        example: "cpu: 0.5",
        required: false,
        also: &["cpus", "cores"],
    },
    read: |d, at, resources| {
        // Within the bounds, a thousand times the number fits well.
        resources.cpu_milli = d.number(at, 0.001, CPU_MAX).map(|cpu| (cpu * 1000.0).round() as u32);
    },
};

const MEMORY: Keyword<RawResources> = Keyword {
    entry: Entry {
        name: "memory",
        shape: Shape::Size,
        doc: "Memory.",
        example: "memory: 4GiB",
        required: false,
        also: &["mem", "ram"],
    },
    read: |d, at, resources| resources.memory = d.size(at),
};

const PIDS: Keyword<RawResources> = Keyword {
    entry: Entry {
        name: "pids",
        shape: Shape::Whole(1, PIDS_MAX),
        doc: "Processes and threads at one time.",
        example: "pids: 4096",
        required: false,
        also: &["processes", "nproc"],
    },
    read: |d, at, resources| resources.pids = d.whole(at, 1, PIDS_MAX).and_then(|pids| u32::try_from(pids).ok()),
};

const IO_WEIGHT: Keyword<RawResources> = Keyword {
    entry: Entry {
        name: "io_weight",
        shape: Shape::Whole(1, 10_000),
        doc: "Its share of the disks when others want them too; everybody else has 100.",
        example: "io_weight: 50",
        required: false,
        also: &["blkio_weight", "ionice"],
    },
    read: |d, at, resources| {
        resources.io_weight = d.whole(at, 1, 10_000).and_then(|weight| u16::try_from(weight).ok());
    },
};

const OPEN_FILES: Keyword<RawResources> = Keyword {
    entry: Entry {
        name: "open_files",
        shape: Shape::Whole(16, OPEN_FILES_MAX),
        doc: "Files that one process may have open.",
        example: "open_files: 1024",
        required: false,
        also: &["nofile", "fds"],
    },
    read: |d, at, resources| {
        resources.open_files = d.whole(at, 16, OPEN_FILES_MAX).and_then(|files| u32::try_from(files).ok());
    },
};

const FILE_SIZE: Keyword<RawResources> = Keyword {
    entry: Entry {
        name: "file_size",
        shape: Shape::Size,
        doc: "Size of any file that it writes.",
        example: "file_size: 2GiB",
        required: false,
        also: &["fsize"],
    },
    read: |d, at, resources| resources.file_size = d.size(at),
};

const DISK: Keyword<RawResources> = Keyword {
    entry: Entry {
        name: "disk",
        shape: Shape::Size,
        doc: "What it may write to its workspace, home, image and caches together. `/tmp` is memory and counts there.",
        example: "disk: 20GiB",
        required: false,
        also: &["storage", "disk_size"],
    },
    read: |d, at, resources| resources.disk = d.size(at),
};

const OUTPUT: Keyword<RawResources> = Keyword {
    entry: Entry {
        name: "output",
        shape: Shape::Size,
        doc: "What it may print. Without it a step prints as much as it likes, and its log keeps the first 256 MiB.",
        example: "output: 10MiB",
        required: false,
        also: &["log", "log_size"],
    },
    read: |d, at, resources| resources.output = d.size(at),
};

const ENFORCE: Keyword<RawResources> = Keyword {
    entry: Entry {
        name: "enforce",
        shape: Shape::Words(&["strict", "best_effort"]),
        doc: "What happens on a machine that cannot hold the limits: the step is refused (`strict`, the default) or runs without \
              them (`best_effort`).",
        example: "enforce: best_effort",
        required: false,
        also: &["mode"],
    },
    read: |d, at, resources| resources.best_effort = d.word(at, &[("strict", false), ("best_effort", true)]),
};
