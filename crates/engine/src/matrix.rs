//! The cells of a matrix: all combinations of its axes, without those that are excluded, with those that are included.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use model::Matrix;
use model::expr::Value;
use model::limits::MATRIX_CELLS_MAX;

use crate::PlanError;

/// A matrix cell: axis to value.
pub(crate) type Cell = BTreeMap<String, Value>;

/// Text of all cells of one step's matrix together; a thousand cells with a kilobyte each are more than a person writes.
const MATRIX_BYTES_MAX: usize = 4 << 20;
/// What an instance's name shows of one value.
const SHOWN_CHARS_MAX: usize = 60;

/// The cells of a step, in the order of the file (the last axis changes fastest); one empty cell without a matrix.
pub(crate) fn cells(step: &str, matrix: Option<&Matrix>) -> Result<Vec<Arc<Cell>>, PlanError> {
    let Some(matrix) = matrix else { return Ok(alloc::vec![Arc::new(Cell::new())]) };
    let combinations = matrix.axes.iter().try_fold(1usize, |all, (_, values)| all.checked_mul(values.len()));
    match combinations {
        Some(cells) if cells <= MATRIX_CELLS_MAX => {}
        _ => return Err(PlanError::MatrixTooLarge { step: step.to_string() }),
    }
    check_bytes(step, matrix, combinations.unwrap_or(0))?;
    let mut cells = combine(&matrix.axes);
    cells.retain(|cell| !matrix.exclude.iter().any(|pattern| covers(pattern, cell)));
    for added in &matrix.include {
        if !cells.contains(added) {
            cells.push(added.clone());
        }
    }
    match cells.len() {
        0 => Err(PlanError::MatrixEmpty { step: step.to_string() }),
        1..=MATRIX_CELLS_MAX => Ok(cells.into_iter().map(Arc::new).collect()),
        _ => Err(PlanError::MatrixTooLarge { step: step.to_string() }),
    }
}

fn check_bytes(step: &str, matrix: &Matrix, combinations: usize) -> Result<(), PlanError> {
    let size = |value: &Value| match value {
        Value::Text(text) => text.len(),
        _ => 8,
    };
    let bytes: usize = matrix
        .axes
        .iter()
        .map(|(_, values)| values.iter().map(size).sum::<usize>().saturating_mul(combinations / values.len().max(1)))
        .sum();
    match bytes <= MATRIX_BYTES_MAX {
        true => Ok(()),
        false => Err(PlanError::MatrixTooLarge { step: step.to_string() }),
    }
}

fn combine(axes: &[(String, Vec<Value>)]) -> Vec<Cell> {
    let mut cells = alloc::vec![Cell::new()];
    for (axis, values) in axes {
        cells = cells
            .iter()
            .flat_map(|cell| {
                values.iter().map(|value| {
                    let mut cell = cell.clone();
                    cell.insert(axis.clone(), value.clone());
                    cell
                })
            })
            .collect();
    }
    if axes.is_empty() { Vec::new() } else { cells }
}

fn covers(pattern: &Cell, cell: &Cell) -> bool {
    pattern.iter().all(|(axis, value)| cell.get(axis) == Some(value))
}

/// Names of the instances of a step: `test[go=1.23,race=true]`, `test[2/4]`, `test[go=1.23,2/4]`; each once.
pub(crate) fn names(prefix: &str, matrix: Option<&Matrix>, cells: &[Arc<Cell>], shards: u32) -> Vec<Arc<str>> {
    let mut taken = BTreeSet::new();
    let mut names = Vec::new();
    for cell in cells {
        let shown = show(matrix, cell);
        for shard in 1..=shards {
            names.push(unique(&mut taken, name(prefix, &shown, shard, shards)));
        }
    }
    names
}

fn name(prefix: &str, shown: &[String], shard: u32, shards: u32) -> String {
    let mut parts = shown.to_vec();
    if shards > 1 {
        parts.push(alloc::format!("{shard}/{shards}"));
    }
    if parts.is_empty() { prefix.to_string() } else { alloc::format!("{prefix}[{}]", parts.join(",")) }
}

/// Axes in the order of the file, then what `include` added beside them.
fn show(matrix: Option<&Matrix>, cell: &Cell) -> Vec<String> {
    let axes: Vec<&String> = matrix.iter().flat_map(|matrix| matrix.axes.iter().map(|(axis, _)| axis)).collect();
    let others = cell.keys().filter(|key| !axes.contains(key));
    axes.iter()
        .copied()
        .chain(others)
        .filter_map(|axis| {
            let value: String = cell.get(axis)?.to_string().chars().take(SHOWN_CHARS_MAX).collect();
            Some(alloc::format!("{axis}={value}"))
        })
        .collect()
}

/// The text `1` and the number 1 read alike; the second of a kind gets a number.
fn unique(taken: &mut BTreeSet<String>, name: String) -> Arc<str> {
    let mut tried = name.clone();
    let mut nth = 1;
    while !taken.insert(tried.clone()) {
        nth += 1;
        tried = alloc::format!("{name}#{nth}");
    }
    tried.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn text(value: &str) -> Value {
        Value::Text(value.into())
    }

    fn matrix() -> Matrix {
        Matrix {
            axes: vec![
                ("go".into(), vec![text("1.22"), text("1.23")]),
                ("race".into(), vec![Value::Bool(true), Value::Bool(false)]),
            ],
            exclude: vec![Cell::from([("go".into(), text("1.22")), ("race".into(), Value::Bool(true))])],
            include: vec![Cell::from([("go".into(), text("tip")), ("arch".into(), text("arm64"))])],
        }
    }

    #[test]
    fn excluded_cells_are_left_out_and_included_ones_added() {
        let matrix = matrix();
        let cells = cells("test", Some(&matrix)).expect("four cells");
        let names = names("test", Some(&matrix), &cells, 1);
        assert_eq!(
            names.iter().map(|name| &**name).collect::<Vec<_>>(),
            [
                "test[go=1.22,race=false]",
                "test[go=1.23,race=true]",
                "test[go=1.23,race=false]",
                "test[go=tip,arch=arm64]"
            ]
        );
    }

    #[test]
    fn shards_are_counted_from_one_in_each_cell() {
        let matrix = Matrix { axes: vec![("a".into(), vec![text("x")])], ..Matrix::default() };
        let one = cells("t", Some(&matrix)).expect("one cell");
        let names = names("t", Some(&matrix), &one, 2);
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["t[a=x,1/2]", "t[a=x,2/2]"]);
    }

    #[test]
    fn values_that_read_alike_still_give_different_names() {
        let matrix = Matrix { axes: vec![("v".into(), vec![text("1"), Value::Int(1)])], ..Matrix::default() };
        let two = cells("t", Some(&matrix)).expect("two cells");
        let names = names("t", Some(&matrix), &two, 1);
        assert_eq!(names.iter().map(|name| &**name).collect::<Vec<_>>(), ["t[v=1]", "t[v=1]#2"]);
    }

    #[test]
    fn a_matrix_is_bounded_in_cells_and_bytes_and_never_empty() {
        let axis = |values: usize| (0..values).map(|at| Value::Int(at as i64)).collect::<Vec<_>>();
        let of = |axes| Matrix { axes, ..Matrix::default() };
        let large = of(vec![("a".into(), axis(1001))]);
        assert!(matches!(cells("t", Some(&large)), Err(PlanError::MatrixTooLarge { .. })));
        let product = of(vec![("a".into(), axis(100)), ("b".into(), axis(100))]);
        assert!(matches!(cells("t", Some(&product)), Err(PlanError::MatrixTooLarge { .. })));
        let heavy = of(vec![("a".into(), vec![text(&"x".repeat(1 << 19))]), ("b".into(), axis(1000))]);
        assert!(matches!(cells("t", Some(&heavy)), Err(PlanError::MatrixTooLarge { .. })));
        let mut none = matrix();
        none.exclude = vec![Cell::new()];
        none.include.clear();
        assert!(matches!(cells("t", Some(&none)), Err(PlanError::MatrixEmpty { .. })));
    }
}
