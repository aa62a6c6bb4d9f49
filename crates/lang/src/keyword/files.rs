//! `include` and `expand`: steps that stand in other files.

use super::{Entry, Keyword, Shape};
use crate::raw::{RawFile, RawStep};

pub(super) const INCLUDE: Keyword<RawFile> = Keyword {
    entry: Entry {
        name: "include",
        shape: Shape::List(&Shape::Path),
        doc: "Other files of the repository whose `steps`, `templates` and `env` are taken in as if they stood here. Paths \
              count from the repository's root. An included file may include others, at most 8 deep.",
        example: "include: [ci/common.yaml]",
        required: false,
        also: &["import", "imports", "includes", "extends"],
    },
    // Where a path leads is judged when it is followed: the fault of leaving the repository has its own code.
    read: |d, at, file| file.include = d.texts(at, "a list of files"),
};

pub(super) const EXPAND: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "expand",
        shape: Shape::Path,
        doc: "The path of a file that a former step wrote. Its `steps` become part of the run, checked like any others; their \
              ids carry this step's id before them: `more.build`.",
        example: "expand: ci/generated.yaml",
        required: false,
        also: &["dynamic", "generate", "trigger"],
    },
    read: |d, at, step| {
        let Some(text) = d.filled(at, "a path in the workspace") else { return };
        match crate::decode::path_fault(&text.value) {
            None => step.expand = Some(text),
            Some(why) => d.bad(at, why),
        }
    },
};
