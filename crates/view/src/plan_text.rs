//! The plan before it is carried out: what would run, what is cached, what is left out, and why.

use std::collections::BTreeMap;

use model::units::show_duration;
use model::{CachedFrom, Group, Need, NodeIx, Plan, PlannedSkip, StepKind};
use serde::Serialize;

use crate::ansi::{self, Paint, Style};
use crate::live::Symbol;
use crate::tree::{self, Place};

/// What the cache says about an instance. An instance without an answer depends on what runs before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hit {
    /// Its result is known.
    Cached(CachedFrom),
    /// It has to be executed: why, without a full stop.
    Runs(String),
    /// It would be left out: why, without a full stop.
    Skipped(String),
}

/// What becomes of an instance.
enum Verdict<'a> {
    Runs(String),
    Cached(&'a CachedFrom),
    Skipped(String),
    /// A template use: runs nothing.
    Silent,
}

/// The plan as a list in file order, lines ended by `\n`, names made harmless.
pub fn render(plan: &Plan, hits: &BTreeMap<NodeIx, Hit>, style: Style) -> String {
    let rows: Vec<Row> = tree::order(&plan.groups).iter().flat_map(|place| rows(plan, hits, place)).collect();
    let columns = rows.iter().map(|row| ansi::width(&row.name)).max().unwrap_or(0).min(NAME_COLUMNS_MAX);
    let mut text = format!("{}\n", style.paint(Paint::Bold, &title(plan, hits, style)));
    for row in &rows {
        let after = if row.after.is_empty() { String::new() } else { style.dim(&format!("  after {}", row.after)) };
        let (indent, name) = row.name.split_at(row.name.len() - row.name.trim_start().len());
        let name = ansi::pad(name, columns.saturating_sub(indent.len()));
        text.push_str(&format!("{indent}{} {name}  {}{after}", row.symbol.show(style), row.words));
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

const NAME_COLUMNS_MAX: usize = 60;

struct Row {
    symbol: Symbol,
    name: String,
    words: String,
    after: String,
}

fn title(plan: &Plan, hits: &BTreeMap<NodeIx, Hit>, style: Style) -> String {
    let (mut runs, mut cached, mut skipped) = (0, 0, 0);
    for node in 0..plan.nodes.len() as u32 {
        match verdict(plan, hits, NodeIx(node)) {
            Verdict::Runs(_) => runs += 1,
            Verdict::Cached(_) => cached += 1,
            Verdict::Skipped(_) => skipped += 1,
            Verdict::Silent => {}
        }
    }
    let parts = [format!("{} would run", runs), format!("{cached} cached"), format!("{skipped} skipped")];
    format!("{}: {}", ansi::strip(&plan.name), parts.join(style.dot()))
}

fn rows(plan: &Plan, hits: &BTreeMap<NodeIx, Hit>, place: &Place) -> Vec<Row> {
    let group = &plan.groups[place.group.at()];
    let id = group.step.id.as_str();
    let first = Row { name: indented(tree::short_name(group, id), place.depth), ..row(plan, hits, group.first) };
    if group.count == 1 {
        return vec![first];
    }
    let mut rows = vec![Row { symbol: Symbol::Waits, words: format!("{} instances", group.count), ..first }];
    rows.extend(plan.instances(place.group).map(|node| {
        let name = &*plan.nodes[node.at()].name;
        let cell = name.strip_prefix(id).unwrap_or(name);
        Row { name: indented(cell, place.depth + 1), after: String::new(), ..row(plan, hits, node) }
    }));
    rows
}

fn indented(name: &str, depth: usize) -> String {
    format!("{:1$}{2}", "", depth * 2, ansi::strip(name))
}

fn row(plan: &Plan, hits: &BTreeMap<NodeIx, Hit>, node: NodeIx) -> Row {
    let (symbol, words) = match verdict(plan, hits, node) {
        Verdict::Runs(why) if why.is_empty() => (Symbol::Busy, "would run".to_owned()),
        Verdict::Runs(why) => (Symbol::Busy, format!("would run: {}", ansi::strip(&why))),
        Verdict::Cached(from) => {
            (Symbol::Good, format!("cached (took {} in run {})", show_duration(from.took), from.number))
        }
        Verdict::Skipped(why) => (Symbol::Passed, format!("skipped: {why}")),
        Verdict::Silent => (Symbol::Waits, String::new()),
    };
    let after =
        if matches!(plan.step(node).kind, StepKind::Group) { String::new() } else { after(plan, node).join(", ") };
    Row { symbol, name: String::new(), words, after: ansi::strip(&after) }
}

fn after(plan: &Plan, node: NodeIx) -> Vec<String> {
    let needs = plan.nodes[node.at()].needs.iter();
    let names = needs.map(|need| match need {
        Need::All(group) => plan.groups[group.at()].step.id.as_str().to_owned(),
        Need::One(node) => plan.nodes[node.at()].name.to_string(),
    });
    names.collect()
}

fn verdict<'a>(plan: &Plan, hits: &'a BTreeMap<NodeIx, Hit>, node: NodeIx) -> Verdict<'a> {
    let (planned, step) = (&plan.nodes[node.at()], plan.step(node));
    match (&planned.skip, hits.get(&node)) {
        (Some(PlannedSkip::Condition), _) => Verdict::Skipped("its `if` is false".to_owned()),
        (Some(PlannedSkip::NotSelected), _) => Verdict::Skipped("not asked for".to_owned()),
        (None, _) if matches!(step.kind, StepKind::Group) => Verdict::Silent,
        (None, Some(Hit::Cached(from))) => Verdict::Cached(from),
        (None, Some(Hit::Runs(why))) => Verdict::Runs(why.clone()),
        (None, Some(Hit::Skipped(why))) => Verdict::Skipped(why.clone()),
        (None, None) if step.condition.is_some() => Verdict::Runs("if its `if` is true by then".to_owned()),
        (None, None) => Verdict::Runs(String::new()),
    }
}

#[derive(Serialize)]
struct PlanOut<'a> {
    pipeline: &'a str,
    run: &'a str,
    number: u64,
    steps: Vec<StepOut<'a>>,
}

#[derive(Serialize)]
struct StepOut<'a> {
    step: &'a str,
    node: u32,
    id: &'a str,
    needs: Vec<String>,
    /// `runs`, `cached`, `skipped` or `none`.
    verdict: &'static str,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_from: Option<crate::json::WireCached>,
}

/// The plan as one JSON object on one line.
pub fn json(plan: &Plan, hits: &BTreeMap<NodeIx, Hit>) -> String {
    let steps = plan.groups.iter().flat_map(|group: &Group| (group.first.0..group.first.0 + group.count).map(NodeIx));
    let steps = steps.map(|node| {
        let (verdict, why, from) = match verdict(plan, hits, node) {
            Verdict::Runs(why) => ("runs", why, None),
            Verdict::Cached(from) => ("cached", String::new(), Some(from)),
            Verdict::Skipped(why) => ("skipped", why, None),
            Verdict::Silent => ("none", String::new(), None),
        };
        let (name, id) = (&*plan.nodes[node.at()].name, plan.step(node).id.as_str());
        let cached_from = from.map(Into::into);
        StepOut { step: name, node: node.0, id, needs: after(plan, node), verdict, why, cached_from }
    });
    let (run, number) = (plan.context.run.as_str(), plan.context.number.0);
    crate::json::line(&PlanOut { pipeline: &plan.name, run, number, steps: steps.collect() })
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::scene::Scene;

    fn hits() -> BTreeMap<NodeIx, Hit> {
        let from =
            CachedFrom { run: "r11".into(), number: model::RunNumber(11), took: std::time::Duration::from_secs(3) };
        [(NodeIx(0), Hit::Cached(from)), (NodeIx(1), Hit::Runs("`go.sum` changed since run #11".into()))].into()
    }

    #[test]
    fn the_plan_says_what_would_happen_and_why() {
        let mut scene = Scene::new("deps build:deps test[3]:build deploy:build deploy.push:build ship:test");
        scene.inside("deploy.push", "deploy").leaves_out("ship");
        assert_snapshot!(render(&scene.plan(), &hits(), Style { color: false, unicode: true }), @"
        ci-build: 5 would run · 1 cached · 1 skipped
        ✓ deps     cached (took 3.0s in run #11)
        ● build    would run: `go.sum` changed since run #11  after deps
        ○ test     3 instances  after build
          ● [1/3]  would run
          ● [2/3]  would run
          ● [3/3]  would run
        ○ deploy
          ● push   would run  after build
        ⤼ ship     skipped: not asked for  after test
        ");
    }

    #[test]
    fn the_plan_is_one_json_object() {
        let text = json(&Scene::new("deps build:deps").plan(), &hits());
        assert_snapshot!(text, @r#"{"pipeline":"ci-build","run":"r12","number":12,"steps":[{"step":"deps","node":0,"id":"deps","needs":[],"verdict":"cached","why":"","cached_from":{"run":"r11","number":11,"took_us":3000000}},{"step":"build","node":1,"id":"build","needs":["deps"],"verdict":"runs","why":"`go.sum` changed since run #11"}]}"#);
    }
}
