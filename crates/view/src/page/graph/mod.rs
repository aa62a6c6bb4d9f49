//! The graph of a run as SVG: one box for each step (all instances of a matrix share one), left to right. Steps that stand
//! at the same place of a large graph are drawn as one.

mod boxes;
mod layers;
mod place;

use maud::{Markup, html};
use model::NodeIx;

use super::part::Tone;
use crate::RunView;
use boxes::{Card, cards};
use place::{Point, place};

/// Boxes that are drawn. What is larger is only listed.
const CARDS_MAX: usize = 3_000;
/// Size of a box, in pixels.
const WIDTH: i32 = 184;
const HEIGHT: i32 = 44;
/// Characters of a name that fit in a box.
const NAME_CHARS_MAX: usize = 19;
/// Characters of the line below it.
const NOTE_CHARS_MAX: usize = 24;
const MARGIN: i32 = 8;

/// The graph; `None` for one that is too large to be looked at, or of nothing. `link` says where an instance is shown.
pub fn svg(view: &RunView, now: model::Timestamp, link: impl Fn(NodeIx) -> String) -> Option<Markup> {
    let (cards, edges) = cards(view, now);
    if cards.is_empty() || cards.len() > CARDS_MAX {
        return None;
    }
    let placed = place(cards.len(), &edges);
    let (width, height) = (placed.width + 2 * MARGIN, placed.height + 2 * MARGIN);
    Some(html! {
        div .graph tabindex="0" role="group" aria-label="Graph of the steps" {
            svg viewBox={ "0 0 " (width) " " (height) } width=(width) height=(height) {
                @for (from, line) in &placed.lines { path class={ "edge " (cards[*from].tone.name()) } d=(curve(line)) {} }
                @for (card, at) in cards.iter().zip(&placed.at) { (drawn(card, *at, &link)) }
            }
        }
    })
}

fn drawn(card: &Card, at: Point, link: impl Fn(NodeIx) -> String) -> Markup {
    let (x, y) = (at.x + MARGIN, at.y + MARGIN);
    let href = if card.count == 1 { link(card.node) } else { "#steps".to_owned() };
    html! {
        a href=(href) class={ "card " (card.tone.name()) } {
            title { (card.title) }
            @if card.count > 1 { rect .behind x=(x + 4) y=(y + 4) width=(WIDTH) height=(HEIGHT) rx="7" {} }
            rect x=(x) y=(y) width=(WIDTH) height=(HEIGHT) rx="7" {}
            use href={ "#i-" (card.tone.name()) } x=(x + 10) y=(y + 14) width="16" height="16" class={ "icon " (card.tone.name()) } {}
            text .name x=(x + 34) y=(y + 19) { (cut(&card.name, NAME_CHARS_MAX)) }
            text .note x=(x + 34) y=(y + 34) { (cut(&card.note, NOTE_CHARS_MAX)) }
        }
    }
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some(_) => text.chars().take(chars - 1).chain(['…']).collect(),
    }
}

/// A line through these points, level wherever it passes a box.
fn curve(points: &[Point]) -> String {
    use std::fmt::Write;
    let mut path = String::with_capacity(points.len() * 40);
    for (i, at) in points.iter().enumerate() {
        let (x, y) = (at.x + MARGIN, at.y + MARGIN + HEIGHT / 2);
        // Writing to a String cannot fail.
        let _ = match i.checked_sub(1).map(|before| points[before]) {
            None => write!(path, "M{x} {y}"),
            Some(before) if before.y == at.y => write!(path, "L{x} {y}"),
            Some(before) => {
                let (from, middle) = (before.y + MARGIN + HEIGHT / 2, (before.x + at.x) / 2 + MARGIN);
                write!(path, "C{middle} {from} {middle} {y} {x} {y}")
            }
        };
    }
    path
}

/// The louder of two: what a box of several shows.
pub fn louder(one: Tone, other: Tone) -> Tone {
    const LOUD: [Tone; 6] = [Tone::Bad, Tone::Busy, Tone::Wait, Tone::Warn, Tone::Good, Tone::Quiet];
    let place = |tone: Tone| LOUD.iter().position(|known| *known == tone);
    if place(other) < place(one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Scene;

    fn drawn_of(scene: &mut Scene) -> String {
        let link = |node: NodeIx| format!("/steps/{}", node.0);
        svg(scene.view(), scene.now(), link).expect("small enough").into_string()
    }

    #[test]
    fn a_matrix_is_one_box_with_its_counts() {
        let mut scene = Scene::new("deps test[8]:deps");
        scene.request().leases("deps").succeeds("deps").leases("test[1/8]").succeeds("test[1/8]").leases("test[2/8]");
        let html = drawn_of(&mut scene);
        assert_eq!(html.matches("<a href").count(), 2, "{html}");
        assert!(html.contains("1 of 8 done, 1 running"), "{html}");
        assert!(html.contains("class=\"edge good\""), "{html}");
    }

    #[test]
    fn a_name_cannot_break_out_of_the_picture() {
        let mut scene = Scene::new("a</text><script>x");
        let html = drawn_of(scene.request());
        assert!(!html.contains("<script>") && html.contains("&lt;script&gt;"), "{html}");
    }

    #[test]
    fn five_hundred_steps_at_the_same_place_are_one_box() {
        let middle: Vec<String> = (0..500).map(|i| format!("w{i}:start")).collect();
        let names: Vec<String> = (0..500).map(|i| format!("w{i}")).collect();
        let mut scene = Scene::new(&format!("start {} end:{}", middle.join(" "), names.join(",")));
        let html = drawn_of(scene.request());
        assert_eq!(html.matches("<a href").count(), 3, "{html}");
        assert!(html.contains("500 steps"), "{html}");
    }

    #[test]
    fn a_thousand_steps_are_drawn_and_every_box_has_its_own_place() {
        let steps: Vec<String> = (0..1000usize)
            .map(|i| match i {
                0..10 => format!("s{i}"),
                _ => format!("s{i}:s{},s{},s{}", i - 10, (i * 7 + 3) % i, (i * 31 + 11) % i),
            })
            .collect();
        let mut scene = Scene::new(&steps.join(" "));
        let html = drawn_of(scene.request());
        assert_eq!(html.matches("<a href").count(), 1000);
        assert!(html.len() < 2 << 20, "{} bytes", html.len());
    }
}
