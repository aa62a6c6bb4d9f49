//! `matrix` and `shards`: several instances of one step.

use std::collections::BTreeMap;
use std::rc::Rc;

use model::Matrix;
use model::expr::Value;
use model::limits::{MATRIX_CELLS_MAX, SHARDS_MAX};

use super::{Entry, Keyword, MapShape, Shape, Table, codes, entries};
use crate::decode::{At, Decoder, Text};
use crate::diagnostic::{Diagnostic, nearest};
use crate::raw::{RawMatrix, RawStep};
use crate::yaml::{Kind, Scalar};

pub(super) const MATRIX: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "matrix",
        shape: Shape::Map(&MapShape {
            name: "matrix",
            entries: || entries(TABLE),
            rest: Some(&Shape::List(&Shape::Scalar)),
        }),
        doc: "One instance for each combination of the axes' values; expressions read them as `matrix.go`. `exclude` takes \
              combinations out, `include` adds some. At most 1,000 cells before anything is taken out.",
        example: "matrix: { go: [\"1.22\", \"1.23\"], race: [true, false], exclude: [{ go: \"1.22\", race: true }] }",
        required: false,
        also: &["strategy", "parallel"],
    },
    read: |d, at, step| {
        step.matrix = matrix(d, at).map(|matrix| {
            let cells = cell_count(&matrix);
            Rc::new(RawMatrix { matrix, cells, span: d.span(at) })
        });
    },
};

const TABLE: Table<Matrix> = &[&EXCLUDE, &INCLUDE];

const EXCLUDE: Keyword<Matrix> = Keyword {
    entry: Entry {
        name: "exclude",
        shape: Shape::List(&Shape::Named(&Shape::Scalar)),
        doc: "Combinations that are left out: those that have all of these values.",
        example: "exclude: [{ go: \"1.22\", race: true }]",
        required: false,
        also: &[],
    },
    read: |_, _, _| {},
};

const INCLUDE: Keyword<Matrix> = Keyword {
    entry: Entry {
        name: "include",
        shape: Shape::List(&Shape::Named(&Shape::Scalar)),
        doc: "Combinations that are added, each as written.",
        example: "include: [{ go: tip, race: false }]",
        required: false,
        also: &[],
    },
    read: |_, _, _| {},
};

fn matrix(d: &mut Decoder<'_>, at: At) -> Option<Matrix> {
    let entries = d.map(at, "a map of axes, each a list of values")?;
    let mut matrix = Matrix::default();
    let mut combinations = Vec::new();
    for (name, value) in entries {
        match name.value.as_str() {
            "exclude" => combinations.push((name, At { name: "exclude", ..value })),
            "include" => combinations.push((name, At { name: "include", ..value })),
            _ if !d.name_fits(&name, "a matrix axis", false) => {}
            _ => {
                let values = axis(d, &name, value);
                matrix.axes.push((name.value, values));
            }
        }
    }
    for (name, value) in combinations {
        let cells = cells(d, &name, value, &matrix);
        if name.value == "exclude" { matrix.exclude = cells } else { matrix.include = cells }
    }
    count_is_right(d, at, &matrix).then_some(matrix)
}

fn axis(d: &mut Decoder<'_>, name: &Text, at: At) -> Vec<Value> {
    let Some(items) =
        d.list(at, &format!("a list of values for `{}`", name.value.chars().take(60).collect::<String>()))
    else {
        return Vec::new();
    };
    if items.is_empty() {
        let message = format!("the matrix axis `{}` has no values", name.value);
        d.found(
            Diagnostic::error(&codes::BAD_MATRIX, d.span(at), message, "an empty list")
                .help("write at least one, or leave the axis out"),
        );
    }
    let mut values = Vec::with_capacity(items.len());
    for item in items {
        let Some(value) = cell_value(d, item) else { continue };
        if values.contains(&value) {
            let message = format!("the matrix axis `{}` has the value `{value}` twice", name.value);
            d.found(
                Diagnostic::error(&codes::BAD_MATRIX, d.span(item), message, "again").help("leave one of them out"),
            );
            continue;
        }
        // The list of seen values is searched for each further one; beyond the limit the count is an error anyway.
        if values.len() > MATRIX_CELLS_MAX {
            break;
        }
        values.push(value);
    }
    values
}

fn cell_value(d: &mut Decoder<'_>, at: At) -> Option<Value> {
    let wants = "a text, a number, `true` or `false` for each value";
    let Kind::Scalar(scalar) = d.kind(at.node) else {
        d.wrong(at, wants);
        return None;
    };
    if scalar.is_null() {
        d.wrong(at, wants);
        return None;
    }
    number_says_what_it_means(d, at, scalar);
    Some(scalar.value())
}

/// `1.20` is the number 1.2, which is hardly ever what a list of versions means.
fn number_says_what_it_means(d: &mut Decoder<'_>, at: At, scalar: &Scalar) {
    let value = scalar.value();
    if matches!(value, Value::Float(_)) && value.to_string() != scalar.text {
        let message = format!("`{}` is the number {value}", scalar.text);
        let found = Diagnostic::warning(&codes::NUMBER_TEXT, d.span(at), message, "a number, not a text");
        d.found(found.help(format!("if a version is meant, put it in quotes: \"{}\"", scalar.text)));
    }
}

/// The combinations of `exclude` or `include`.
fn cells(d: &mut Decoder<'_>, name: &Text, at: At, matrix: &Matrix) -> Vec<BTreeMap<String, Value>> {
    let mut cells = Vec::new();
    for item in d.list(at, "a list of combinations").unwrap_or_default() {
        let mut cell = BTreeMap::new();
        for (axis, value) in d.map(item, "a map of axes to values in each place").unwrap_or_default() {
            let known = matrix.axes.iter().find(|(known, _)| *known == axis.value);
            if name.value == "exclude" && known.is_none() {
                let message = format!("the matrix has no axis `{}`", axis.value.chars().take(60).collect::<String>());
                let near = nearest(&axis.value, matrix.axes.iter().map(|(known, _)| known.as_str()));
                let found = Diagnostic::error(&codes::BAD_MATRIX, axis.span, message, "no such axis");
                d.found(found.help_if(near.map(|near| format!("there is an axis `{near}`"))));
                continue;
            }
            if known.is_none() && !d.name_fits(&axis, "a matrix axis", false) {
                continue;
            }
            let Some(found) = cell_value(d, value) else { continue };
            if name.value == "exclude" && known.is_some_and(|(_, values)| !values.contains(&found)) {
                let message = format!("the matrix axis `{}` has no value `{found}`", axis.value);
                d.found(Diagnostic::warning(&codes::BAD_MATRIX, d.span(value), message, "takes nothing out"));
            }
            cell.insert(axis.value, found);
        }
        cells.push(cell);
    }
    cells
}

fn count_is_right(d: &mut Decoder<'_>, at: At, matrix: &Matrix) -> bool {
    let combined = matrix.axes.iter().try_fold(1usize, |cells, (_, values)| cells.checked_mul(values.len()));
    let combined = if matrix.axes.is_empty() { Some(0) } else { combined };
    let Some(cells) =
        combined.and_then(|cells| cells.checked_add(matrix.include.len())).filter(|cells| *cells <= MATRIX_CELLS_MAX)
    else {
        let shown = combined.map_or("more cells than can be counted".to_string(), |cells| {
            format!("{} cells", cells + matrix.include.len())
        });
        let message = format!("the matrix has {shown}; a step has at most {MATRIX_CELLS_MAX}");
        d.found(
            Diagnostic::error(&codes::LIMIT, d.span(at), message, "too many")
                .help("make two steps of it, or fewer values"),
        );
        return false;
    };
    if cells > 0 && cell_count(matrix) == 0 || cells == 0 && matrix.axes.iter().all(|(_, values)| !values.is_empty()) {
        let found = Diagnostic::error(&codes::BAD_MATRIX, d.span(at), "the matrix has no cells", "nothing would run");
        d.found(found.help("give it an axis with values, or leave it out"));
        return false;
    }
    cells > 0
}

/// How many instances a matrix makes. Only for a matrix within [`MATRIX_CELLS_MAX`].
fn cell_count(matrix: &Matrix) -> usize {
    let mut cells: Vec<Vec<&Value>> = if matrix.axes.is_empty() { Vec::new() } else { vec![Vec::new()] };
    for (_, values) in &matrix.axes {
        cells = cells
            .iter()
            .flat_map(|cell| values.iter().map(move |value| [cell.as_slice(), &[value]].concat()))
            .collect();
    }
    let excluded = |cell: &Vec<&Value>| {
        matrix.exclude.iter().any(|out| {
            !out.is_empty()
                && out.iter().all(|(name, value)| {
                    matrix.axes.iter().zip(cell).any(|((axis, _), has)| axis == name && *has == value)
                })
        })
    };
    cells.iter().filter(|cell| !excluded(cell)).count() + matrix.include.len()
}

pub(super) const SHARDS: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "shards",
        shape: Shape::Whole(1, SHARDS_MAX as i64),
        doc: "Runs the step this many times side by side, with `PACE_SHARD_INDEX` (from 1) and `PACE_SHARD_TOTAL` set, for tools \
              that can split their work.",
        example: "shards: 4",
        required: false,
        also: &["parallelism", "split"],
    },
    read: |d, at, step| {
        step.shards = d.whole(at, 1, i64::from(SHARDS_MAX)).and_then(|shards| u32::try_from(shards).ok())
    },
};
