//! Small parts that many pages have: states, times, texts of strangers, fields of forms.

use std::time::Duration;

use maud::{Markup, html};
use model::units::show_duration;
use model::{Outcome, RunSummary, Timestamp};

use crate::{StepState, StepView, ansi, json};

/// What a state means to somebody who only glances at it: colour and symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It is as it should be.
    Good,
    /// Somebody must look at it.
    Bad,
    /// It did not work, and nobody minds; or it is not about the pipeline.
    Warn,
    /// It is being worked on.
    Busy,
    /// It waits.
    Wait,
    /// It did not happen.
    Quiet,
}

impl Tone {
    /// The name of its class and symbol.
    pub fn name(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Bad => "bad",
            Tone::Warn => "warn",
            Tone::Busy => "busy",
            Tone::Wait => "wait",
            Tone::Quiet => "quiet",
        }
    }

    /// Of a run, by its [`RunSummary::word`].
    pub fn of_run(word: &str) -> Tone {
        match word {
            "success" => Tone::Good,
            "failure" => Tone::Bad,
            "infrastructure" | "refused" => Tone::Warn,
            "running" => Tone::Busy,
            "queued" | "held" | "asking" => Tone::Wait,
            _ => Tone::Quiet,
        }
    }

    /// Of a step instance.
    pub fn of_step(state: &StepState) -> Tone {
        match state {
            StepState::Running { .. } => Tone::Busy,
            StepState::Done { outcome, .. } => match outcome {
                Outcome::Succeeded { .. } => Tone::Good,
                Outcome::Failed { allowed: false, .. } => Tone::Bad,
                Outcome::Failed { allowed: true, .. } => Tone::Warn,
                Outcome::Skipped(_) | Outcome::Cancelled => Tone::Quiet,
            },
            _ => Tone::Wait,
        }
    }
}

/// The word for the state of a step instance.
pub fn step_word(step: &StepView) -> &'static str {
    match &step.state {
        StepState::Waiting => "waiting",
        StepState::Ready { .. } => "ready",
        StepState::Asking { .. } => "waiting for approval",
        StepState::Running { .. } => "running",
        StepState::Retrying { .. } => "retrying",
        StepState::Done { outcome, .. } => match outcome {
            Outcome::Succeeded { cached: true } => "cached",
            Outcome::Failed { allowed: true, .. } => "failure allowed",
            other => other.word(),
        },
    }
}

/// A symbol; what it means must stand beside it.
pub fn icon(tone: Tone) -> Markup {
    let name = tone.name();
    html! { svg class={ "icon " (name) } viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" { use href={ "#i-" (name) } {} } }
}

/// A symbol and its word.
pub fn state(tone: Tone, word: &str) -> Markup {
    html! { span class={ "state " (tone.name()) } { (icon(tone)) (word) } }
}

/// The state of a run.
pub fn run_state(run: &RunSummary) -> Markup {
    state(Tone::of_run(run.word()), run.word())
}

/// A text that a stranger wrote, harmless.
pub fn said(text: &str) -> Markup {
    html! { bdi { (ansi::strip(text)) } }
}

/// Several lines that a stranger wrote, harmless; they keep their breaks where the class `lines` is.
pub fn said_lines(text: &str) -> Markup {
    html! { bdi { (ansi::strip_lines(text)) } }
}

/// How long ago, with the exact time on demand.
pub fn when(at: Timestamp, now: Timestamp) -> Markup {
    let exact = json::iso(at);
    html! { time datetime=(exact) title=(second(&exact)) { (ago(now.since(at), &exact)) } }
}

/// `2026-11-21 09:58:02 UTC`.
fn second(iso: &str) -> String {
    format!("{} UTC", iso.get(..19).unwrap_or(iso).replace('T', " "))
}

/// In how long, with the exact time on demand.
pub fn until(at: Timestamp, now: Timestamp) -> Markup {
    let exact = json::iso(at);
    html! { time datetime=(exact) title=(second(&exact)) {
        @if at <= now { "expired" } @else { "in " (coarse(at.since(now))) }
    } }
}

fn ago(time: Duration, exact: &str) -> String {
    const DAYS_SHOWN_MAX: u64 = 30;
    match time.as_secs() {
        0..5 => "just now".to_owned(),
        secs if secs < DAYS_SHOWN_MAX * 86_400 => format!("{} ago", coarse(time)),
        _ => exact.get(..10).unwrap_or(exact).to_owned(),
    }
}

fn coarse(time: Duration) -> String {
    match time.as_secs() {
        secs @ 0..60 => format!("{secs}s"),
        secs @ 60..3600 => format!("{}m", secs / 60),
        secs @ 3600..86_400 => format!("{}h", secs / 3600),
        secs => format!("{}d", secs / 86_400),
    }
}

/// How long something took.
pub fn took(time: Option<Duration>) -> Markup {
    html! { @match time { Some(time) => span .num { (show_duration(time)) }, None => span .muted { "–" } } }
}

/// `3 runs`, `1 run`.
pub fn count(number: usize, one: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {one}s"),
    }
}

/// The field that shows that a form is ours.
pub fn csrf(token: &str) -> Markup {
    html! { input type="hidden" name="csrf" value=(token); }
}

/// A form of nothing but a button.
pub fn button(csrf_token: &str, action: &str, class: &str, label: &str, confirm: &str) -> Markup {
    html! {
        form method="post" action=(action) .inline data-confirm=[(!confirm.is_empty()).then_some(confirm)] {
            (csrf(csrf_token))
            button class=(class) type="submit" { (label) }
        }
    }
}

/// A field of text with its label and a word of help; `extra` says more for browsers.
pub struct Field<'a> {
    /// Its name in the form; also its id.
    pub name: &'a str,
    /// What it is.
    pub label: &'a str,
    /// What stands in it.
    pub value: &'a str,
    /// A sentence below it.
    pub help: &'a str,
    /// `text`, `password`, `number`.
    pub kind: &'a str,
    /// It must be filled in.
    pub required: bool,
    /// What browsers may fill in: `username`, `off`.
    pub autocomplete: &'a str,
}

impl<'a> Field<'a> {
    /// A field of text that may stay empty.
    pub fn text(name: &'a str, label: &'a str, value: &'a str) -> Field<'a> {
        Field { name, label, value, help: "", kind: "text", required: false, autocomplete: "off" }
    }

    /// The field.
    pub fn html(&self) -> Markup {
        let help = format!("{}-help", self.name);
        html! {
            div .field {
                label for=(self.name) { (self.label) }
                input id=(self.name) name=(self.name) type=(self.kind) value=(self.value) required[self.required]
                    autocomplete=(self.autocomplete) spellcheck="false"
                    aria-describedby=[(!self.help.is_empty()).then_some(&help)];
                @if !self.help.is_empty() { p .help id=(help) { (self.help) } }
            }
        }
    }
}

/// A choice of several with its label.
pub fn select(name: &str, label: &str, chosen: &str, options: &[(&str, &str)]) -> Markup {
    html! {
        div .field {
            label for=(name) { (label) }
            select id=(name) name=(name) {
                @for (value, shown) in options { option value=(value) selected[*value == chosen] { (ansi::strip(shown)) } }
            }
        }
    }
}

/// A box to tick with its label.
pub fn tick(name: &str, label: &str, ticked: bool, help: &str) -> Markup {
    html! {
        div .field.tick {
            input id=(name) name=(name) type="checkbox" value="true" checked[ticked];
            label for=(name) { (label) }
            @if !help.is_empty() { p .help { (help) } }
        }
    }
}

/// What a form could not do, above it.
pub fn trouble(text: &str) -> Markup {
    html! { @if !text.is_empty() { div .notice.bad role="alert" { p .lines { (said_lines(text)) } } } }
}

/// The link to what is older.
pub fn older(href: Option<&str>) -> Markup {
    html! { @if let Some(href) = href { nav .pager aria-label="Pages" { a rel="next" href=(href) { "Older" } } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_wrote_is_shown_and_does_nothing() {
        let shown = said("<script>alert(1)</script>\x1b[2J\u{202e}gpj.exe\"'&").into_string();
        assert_eq!(shown, "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;&lt;202e&gt;gpj.exe&quot;'&amp;</bdi>");
    }

    #[test]
    fn times_are_said_the_way_people_do() {
        let now = Timestamp(1_795_255_082_000_000);
        let ago = |secs: u64| {
            let html = when(Timestamp(now.0 - secs * 1_000_000), now).into_string();
            html.split_once('>').and_then(|(_, rest)| rest.split_once('<')).expect("a text").0.to_owned()
        };
        let shown = [1, 59, 61, 7199, 90_000, 40 * 86_400].map(ago);
        assert_eq!(shown, ["just now", "59s ago", "1m ago", "1h ago", "1d ago", "2026-10-12"]);
    }

    #[test]
    fn a_state_is_a_word_and_not_a_colour_only() {
        let shown = state(Tone::Bad, "failure").into_string();
        assert!(shown.contains("aria-hidden") && shown.ends_with("failure</span>"), "{shown}");
    }
}
