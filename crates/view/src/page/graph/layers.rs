//! Layers of a graph: each vertex one column right of the last one that it stands after, and an order within columns that
//! lets few edges cross.

use super::boxes::Edge;

/// Sweeps over the layers, down and up in turn; more change little.
const SWEEPS: usize = 8;
/// Bends of long edges in all. Beyond it edges that skip layers go straight.
const BENDS_MAX: usize = 20_000;

/// A graph in layers. Vertices from `count` on are bends: places where an edge passes a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layers {
    /// Vertices of each layer, top to bottom.
    pub layers: Vec<Vec<usize>>,
    /// Edges between neighbours in layers, bends included.
    pub links: Vec<Edge>,
    /// For each edge of the graph the vertices it passes, both ends included.
    pub ways: Vec<Vec<usize>>,
}

/// All vertices, each after those it stands after. A circle is broken at its smallest vertex.
pub fn order(count: usize, edges: &[Edge]) -> Vec<usize> {
    let (mut left, mut next) = (vec![0usize; count], vec![Vec::new(); count]);
    for (from, to) in edges {
        left[*to] += 1;
        next[*from].push(*to);
    }
    let mut free: std::collections::BTreeSet<usize> = (0..count).filter(|vertex| left[*vertex] == 0).collect();
    let (mut order, mut taken, mut first_open) = (Vec::with_capacity(count), vec![false; count], 0);
    while order.len() < count {
        let vertex = free.pop_first().unwrap_or_else(|| {
            first_open += taken[first_open..].iter().take_while(|taken| **taken).count();
            first_open
        });
        if std::mem::replace(&mut taken[vertex], true) {
            continue;
        }
        order.push(vertex);
        for to in &next[vertex] {
            left[*to] = left[*to].saturating_sub(1);
            if left[*to] == 0 && !taken[*to] {
                free.insert(*to);
            }
        }
    }
    order
}

/// The graph in layers.
pub fn layers(count: usize, edges: &[Edge]) -> Layers {
    let depth = depths(count, edges);
    let mut layers = vec![Vec::new(); depth.iter().max().map_or(0, |deepest| deepest + 1)];
    (0..count).for_each(|vertex| layers[depth[vertex]].push(vertex));
    let bends: usize = edges.iter().map(|(from, to)| depth[*to].saturating_sub(depth[*from] + 1)).sum();
    let (mut next, mut links, mut ways) = (count, Vec::new(), Vec::new());
    for (from, to) in edges.iter().filter(|(from, to)| depth[*from] < depth[*to]) {
        let mut way = vec![*from];
        if bends <= BENDS_MAX {
            for layer in &mut layers[depth[*from] + 1..depth[*to]] {
                layer.push(next);
                way.push(next);
                next += 1;
            }
        }
        way.push(*to);
        links.extend(way.windows(2).map(|pair| (pair[0], pair[1])));
        ways.push(way);
    }
    let mut layers = Layers { layers, links, ways };
    layers.untangle(next);
    layers
}

/// The longest way from a beginning to each vertex.
fn depths(count: usize, edges: &[Edge]) -> Vec<usize> {
    let order = order(count, edges);
    let (mut next, mut place, mut depth) = (vec![Vec::new(); count], vec![0; count], vec![0; count]);
    edges.iter().for_each(|(from, to)| next[*from].push(*to));
    order.iter().enumerate().for_each(|(at, vertex)| place[*vertex] = at);
    for vertex in &order {
        for to in next[*vertex].iter().filter(|to| place[**to] > place[*vertex]) {
            depth[*to] = depth[*to].max(depth[*vertex] + 1);
        }
    }
    depth
}

impl Layers {
    /// Orders each layer by where its neighbours stand.
    fn untangle(&mut self, vertices: usize) {
        let (mut before, mut after) = (vec![Vec::new(); vertices], vec![Vec::new(); vertices]);
        for (from, to) in &self.links {
            before[*to].push(*from);
            after[*from].push(*to);
        }
        let mut place = vec![0.0; vertices];
        self.layers.iter().for_each(|layer| number(layer, &mut place));
        for sweep in 0..SWEEPS {
            let (neighbours, layers): (_, Vec<usize>) = match sweep % 2 {
                0 => (&before, (0..self.layers.len()).collect()),
                _ => (&after, (0..self.layers.len()).rev().collect()),
            };
            for at in layers {
                let layer = &mut self.layers[at];
                let wish = |vertex: usize| mean(&neighbours[vertex], &place).unwrap_or(place[vertex]);
                let mut wishes: Vec<(f64, usize)> = layer.iter().map(|vertex| (wish(*vertex), *vertex)).collect();
                wishes.sort_by(|a, b| a.0.total_cmp(&b.0));
                *layer = wishes.into_iter().map(|(_, vertex)| vertex).collect();
                number(layer, &mut place);
            }
        }
    }
}

/// Places between 0 and 1, so that short layers and long ones compare.
fn number(layer: &[usize], place: &mut [f64]) {
    for (at, vertex) in layer.iter().enumerate() {
        place[*vertex] = (at as f64 + 0.5) / layer.len() as f64;
    }
}

fn mean(neighbours: &[usize], place: &[f64]) -> Option<f64> {
    let sum: f64 = neighbours.iter().map(|vertex| place[*vertex]).sum();
    (!neighbours.is_empty()).then(|| sum / neighbours.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vertex_stands_right_of_all_that_it_stands_after() {
        let layers = layers(5, &[(0, 2), (1, 2), (2, 3), (0, 4), (3, 4)]);
        let columns: Vec<Vec<usize>> =
            layers.layers.iter().map(|layer| layer.iter().copied().filter(|vertex| *vertex < 5).collect()).collect();
        assert_eq!(columns, [vec![0, 1], vec![2], vec![3], vec![4]]);
        assert!(layers.ways.iter().any(|way| way.len() == 4 && way[0] == 0 && way[3] == 4), "{:?}", layers.ways);
    }

    #[test]
    fn edges_that_cross_for_no_reason_are_untangled() {
        let layers = layers(6, &[(0, 5), (1, 4), (2, 3)]);
        assert_eq!(layers.layers, [vec![0, 1, 2], vec![5, 4, 3]]);
    }

    #[test]
    fn a_circle_ends() {
        assert_eq!(order(3, &[(0, 1), (1, 2), (2, 0)]), [0, 1, 2]);
        assert_eq!(layers(3, &[(0, 1), (1, 2), (2, 0)]).layers.len(), 3);
    }
}
