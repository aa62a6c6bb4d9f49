//! `artifacts`.

use super::{Entry, Keyword, MapShape, Shape, Table, codes, entries};
use crate::diagnostic::Diagnostic;
use crate::raw::{RawArtifact, RawStep};

pub(super) const ARTIFACTS: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "artifacts",
        shape: Shape::List(&Shape::Map(&MapShape { name: "artifact", entries: || entries(TABLE), rest: None })),
        doc: "Files or folders that outlive the run, by name.",
        example: "artifacts: [{ name: app, path: dist/app }]",
        required: false,
        also: &["artifact", "publish"],
    },
    read: |d, at, step| {
        for item in d.list(at, "a list of `{ name, path }`").unwrap_or_default() {
            let mut artifact = RawArtifact::default();
            d.table(item, "an artifact", TABLE, &mut artifact);
            if let Some(name) = &artifact.name {
                let earlier = step
                    .artifacts
                    .iter()
                    .filter_map(|other| other.name.as_ref())
                    .find(|other| other.value == name.value);
                if let Some(earlier) = earlier {
                    let message = format!("two artifacts are called `{}`", name.value);
                    let found = Diagnostic::error(&codes::DUPLICATE_NAME, name.span, message, "again");
                    d.found(found.also(earlier.span, "first here").help("give one of them another name"));
                }
            }
            step.artifacts.push(artifact);
        }
    },
};

const TABLE: Table<RawArtifact> = &[&NAME, &PATH, &VERSION];

const NAME: Keyword<RawArtifact> = Keyword {
    entry: Entry {
        name: "name",
        shape: Shape::Name,
        doc: "Its name.",
        example: "name: app",
        required: true,
        also: &["id"],
    },
    read: |d, at, artifact| {
        if let Some(name) = d.filled(at, "a name")
            && d.name_fits(&name, "an artifact's name", true)
        {
            artifact.name = Some(name);
        }
    },
};

const PATH: Keyword<RawArtifact> = Keyword {
    entry: Entry {
        name: "path",
        shape: Shape::Path,
        doc: "The file or folder, in the workspace.",
        example: "path: dist/app",
        required: true,
        also: &["file", "files", "paths"],
    },
    read: |d, at, artifact| artifact.path = d.path(at),
};

const VERSION: Keyword<RawArtifact> = Keyword {
    entry: Entry {
        name: "version",
        shape: Shape::Template,
        doc: "Its version.",
        example: "version: \"1.2.${{ run.number }}\"",
        required: false,
        also: &["tag"],
    },
    read: |d, at, artifact| artifact.version = d.filled(at, "a version, which may hold `${{ }}`"),
};
