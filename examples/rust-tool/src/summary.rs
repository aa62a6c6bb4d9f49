//! What is said about a column.

use std::fmt;

/// Count, minimum, maximum, mean and median of at least one number.
#[derive(Debug, PartialEq)]
pub struct Summary {
    count: usize,
    min: f64,
    max: f64,
    mean: f64,
    median: f64,
}

impl Summary {
    /// `None` for no numbers.
    pub fn of(mut numbers: Vec<f64>) -> Option<Summary> {
        numbers.sort_by(f64::total_cmp);
        let (min, max) = (*numbers.first()?, *numbers.last()?);
        let count = numbers.len();
        let middle = count / 2;
        let median = match count % 2 {
            0 => (numbers[middle - 1] + numbers[middle]) / 2.0,
            _ => numbers[middle],
        };
        Some(Summary { count, min, max, mean: numbers.iter().sum::<f64>() / count as f64, median })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { count, min, max, mean, median } = self;
        write!(f, "count {count}\nmin {min}\nmax {max}\nmean {mean:.3}\nmedian {median}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_count_has_its_median_between() {
        let summary = Summary::of(vec![4.0, 1.0, 2.0, 3.0]).expect("four numbers");
        assert_eq!(summary, Summary { count: 4, min: 1.0, max: 4.0, mean: 2.5, median: 2.5 });
    }

    #[test]
    fn nothing_has_no_summary() {
        assert_eq!(Summary::of(Vec::new()), None);
    }
}
