//! `env`, of the pipeline and of a step.

use super::{Entry, Keyword, Shape};
use crate::raw::{RawFile, RawStep};

const DOC: &str = "Environment variables: a map of names to texts, which may hold `${{ }}`. A step's own `env` wins over the pipeline's. \
A step sees these, the variables every step gets, and nothing else of the caller's environment.";

pub(super) const PIPELINE_ENV: Keyword<RawFile> = Keyword {
    entry: Entry {
        name: "env",
        shape: Shape::Named(&Shape::Template),
        doc: DOC,
        example: "env: { CGO_ENABLED: \"0\" }",
        required: false,
        also: &["environment", "variables"],
    },
    read: |d, at, file| file.env = d.env(at),
};

pub(super) const STEP_ENV: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "env",
        shape: Shape::Named(&Shape::Template),
        doc: DOC,
        example: "env: { GOOS: linux }",
        required: false,
        also: &["environment", "variables"],
    },
    read: |d, at, step| step.env = d.env(at),
};
