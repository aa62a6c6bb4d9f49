//! Where the boxes of a graph stand, in pixels.

use super::boxes::Edge;
use super::layers::{Layers, layers};
use super::{HEIGHT, WIDTH};

/// Between columns and between boxes of one.
const COLUMN_GAP: i32 = 48;
const ROW_GAP: i32 = 14;
/// What an edge takes where it passes a column.
const BEND_HEIGHT: i32 = 10;
/// Times that boxes are drawn to their neighbours; more change little.
const PULLS: usize = 6;

/// A place: left and upper edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// From the left.
    pub x: i32,
    /// From the top.
    pub y: i32,
}

/// A graph with places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// Of each box.
    pub at: Vec<Point>,
    /// Edges: the box they come from, and the points they pass.
    pub lines: Vec<(usize, Vec<Point>)>,
    /// Of the whole picture.
    pub width: i32,
    /// Of the whole picture.
    pub height: i32,
}

/// Places boxes and edges.
pub fn place(count: usize, edges: &[Edge]) -> Placed {
    let layers = layers(count, edges);
    let middles = middles(count, &layers);
    let mut column = vec![0; middles.len()];
    for (at, layer) in layers.layers.iter().enumerate() {
        layer.iter().for_each(|vertex| column[*vertex] = at as i32);
    }
    let upper = |vertex: usize| middles[vertex].round() as i32 - HEIGHT / 2;
    let point = |vertex: usize| Point { x: column[vertex] * (WIDTH + COLUMN_GAP), y: upper(vertex) };
    let columns = layers.layers.len() as i32;
    let lowest = (0..middles.len()).map(|vertex| upper(vertex) + HEIGHT).max().unwrap_or(0);
    Placed {
        at: (0..count).map(point).collect(),
        lines: layers.ways.iter().map(|way| (way[0], line(way, count, point))).collect(),
        width: columns * WIDTH + (columns - 1).max(0) * COLUMN_GAP,
        height: lowest,
    }
}

/// From the right edge of the first box to the left edge of the last; level along each column in between.
fn line(way: &[usize], count: usize, point: impl Fn(usize) -> Point) -> Vec<Point> {
    let mut points = Vec::with_capacity(way.len() * 2);
    for (at, vertex) in way.iter().enumerate() {
        let left = point(*vertex);
        let right = Point { x: left.x + WIDTH, ..left };
        match at {
            0 => points.push(right),
            _ if *vertex < count => points.push(left),
            _ => points.extend([left, right]),
        }
    }
    points
}

/// The middle of each vertex from the top: as near to its neighbours' as the order in its column allows.
fn middles(count: usize, layers: &Layers) -> Vec<f64> {
    let vertices = layers.layers.iter().map(Vec::len).sum();
    let mut near = vec![Vec::new(); vertices];
    for (from, to) in &layers.links {
        near[*from].push(*to);
        near[*to].push(*from);
    }
    let high = |vertex: usize| f64::from(if vertex < count { HEIGHT + ROW_GAP } else { BEND_HEIGHT });
    let mut middle = vec![0.0; vertices];
    for layer in &layers.layers {
        let wishes = vec![0.0; layer.len()];
        settle(layer, &wishes, high, &mut middle);
    }
    for pull in 0..PULLS {
        let down: Vec<&Vec<usize>> = layers.layers.iter().collect();
        let order: Vec<&Vec<usize>> = if pull % 2 == 0 { down } else { down.into_iter().rev().collect() };
        for layer in order {
            let wish = |vertex: &usize| {
                let near = &near[*vertex];
                let sum: f64 = near.iter().map(|other| middle[*other]).sum();
                if near.is_empty() { middle[*vertex] } else { sum / near.len() as f64 }
            };
            let wishes: Vec<f64> = layer.iter().map(wish).collect();
            settle(layer, &wishes, high, &mut middle);
        }
    }
    let top = (0..vertices).map(|vertex| middle[vertex] - f64::from(HEIGHT) / 2.0).fold(f64::INFINITY, f64::min);
    middle.iter().map(|middle| middle - top).collect()
}

/// Gives each vertex of a column the place nearest to its wish while none overlaps the next: the least sum of squares, by
/// pooling neighbours whose wishes collide.
fn settle(layer: &[usize], wishes: &[f64], high: impl Fn(usize) -> f64, middle: &mut [f64]) {
    let mut offset = Vec::with_capacity(layer.len());
    let mut at = 0.0;
    for (i, vertex) in layer.iter().enumerate() {
        at += if i == 0 { 0.0 } else { (high(layer[i - 1]) + high(*vertex)) / 2.0 };
        offset.push(at);
    }
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (wish, offset) in wishes.iter().zip(&offset) {
        let (mut sum, mut many) = (wish - offset, 1);
        while let Some((last_sum, last_many)) = pools.last().copied() {
            if last_sum / last_many as f64 <= sum / many as f64 {
                break;
            }
            pools.pop();
            (sum, many) = (sum + last_sum, many + last_many);
        }
        pools.push((sum, many));
    }
    let settled = pools.iter().flat_map(|(sum, many)| std::iter::repeat_n(sum / *many as f64, *many));
    for ((vertex, base), offset) in layer.iter().zip(settled).zip(offset) {
        middle[*vertex] = base + offset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_a_straight_line() {
        let placed = place(3, &[(0, 1), (1, 2)]);
        assert!(placed.at.iter().all(|at| at.y == 0), "{placed:?}");
        assert_eq!(placed.height, HEIGHT);
        assert_eq!(placed.width, 3 * WIDTH + 2 * COLUMN_GAP);
    }

    #[test]
    fn a_step_stands_in_the_middle_of_those_it_waits_for() {
        let placed = place(4, &[(0, 3), (1, 3), (2, 3)]);
        assert_eq!(placed.at[3].y, placed.at[1].y);
    }

    proptest::proptest! {
        #[test]
        fn no_box_lies_on_another_and_all_lie_in_the_picture(
            edges in proptest::collection::vec((0usize..30, 0usize..30), 0..80)
        ) {
            let edges: Vec<_> = edges.into_iter().filter(|(from, to)| from < to).collect();
            let placed = place(30, &edges);
            for (i, a) in placed.at.iter().enumerate() {
                proptest::prop_assert!(a.x >= 0 && a.y >= 0 && a.x + WIDTH <= placed.width && a.y + HEIGHT <= placed.height);
                for b in &placed.at[i + 1..] {
                    proptest::prop_assert!(a.x != b.x || (a.y - b.y).abs() >= HEIGHT, "{:?} {:?}", a, b);
                }
            }
            for (from, to) in edges {
                proptest::prop_assert!(placed.at[from].x < placed.at[to].x);
            }
        }
    }
}
