//! `reports`.

use model::ReportKind;

use super::{Entry, Keyword, MapShape, Shape, Table, entries};
use crate::raw::RawStep;

pub(super) const REPORTS: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "reports",
        shape: Shape::Map(&MapShape { name: "reports", entries: || entries(TABLE), rest: None }),
        doc: "Machine-readable results, format to path. They are kept with the run, also when the step fails.",
        example: "reports: { junit: target/junit.xml }",
        required: false,
        also: &["report", "test_results"],
    },
    read: |d, at, step| d.table(at, "`reports`", TABLE, step),
};

const TABLE: Table<RawStep> = &[&JUNIT, &GO_TEST, &GO_COVER, &LIBTEST, &LCOV, &COBERTURA, &SARIF];

macro_rules! report {
    ($name:ident, $kind:ident, $word:literal, $doc:literal) => {
        const $name: Keyword<RawStep> = Keyword {
            entry: Entry {
                name: $word,
                shape: Shape::Path,
                doc: $doc,
                example: concat!($word, ": report.out"),
                required: false,
                also: &[],
            },
            read: |d, at, step| {
                if let Some(path) = d.path(at) {
                    step.reports.insert(ReportKind::$kind, path);
                }
            },
        };
    };
}

report!(JUNIT, Junit, "junit", "JUnit XML.");
report!(GO_TEST, GoTest, "go_test", "The output of `go test -json`.");
report!(GO_COVER, GoCover, "go_cover", "A Go cover profile.");
report!(LIBTEST, Libtest, "libtest", "JSON of libtest or nextest.");
report!(LCOV, Lcov, "lcov", "LCOV.");
report!(COBERTURA, Cobertura, "cobertura", "Cobertura XML.");
report!(SARIF, Sarif, "sarif", "SARIF 2.1.0.");
