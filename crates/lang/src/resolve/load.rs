//! `load`: a pipeline file and what it includes, all the way.

use std::collections::BTreeSet;

use model::limits::STEPS_MAX;
use model::{Concurrency, ConcurrencyPolicy, Pipeline, Span};

use super::codes::{UNTRUSTED_QUOTED, UNTRUSTED_SHELL};
use super::graph::Graph;
use super::include::{self, ReadError};
use super::typing::{Reader, Scene, mentions, untrusted_names};
use super::unfold::{self, Unfolded};
use crate::decode::{At, Decoder};
use crate::diagnostic::Diagnostic;
use crate::keyword::codes::LIMIT;
use crate::keyword::{PIPELINE, Table};
use crate::raw::RawFile;
use crate::report::{Report, Sources};
use crate::yaml;

/// Reads and checks a pipeline. `read(path)` gives the bytes of another file of the repository, for `include`; the
/// caller does the IO, and refuses paths that leave the repository, also through links.
///
/// There is a pipeline exactly if the report has no errors.
pub fn load(
    path: &str,
    bytes: &[u8],
    read: &mut dyn FnMut(&str) -> Result<Vec<u8>, ReadError>,
) -> (Option<Pipeline>, Report) {
    let mut sources = Sources::default();
    let mut out = Vec::new();
    let pipeline = assemble(path, bytes, read, &mut sources, &mut out);
    let report = Report::new(sources, out);
    (pipeline.filter(|_| !report.has_errors()), report)
}

fn assemble(
    path: &str,
    bytes: &[u8],
    read: &mut dyn FnMut(&str) -> Result<Vec<u8>, ReadError>,
    sources: &mut Sources,
    out: &mut Vec<Diagnostic>,
) -> Option<Pipeline> {
    let mut file = decode(path, bytes, "a pipeline", PIPELINE, sources, out)?;
    include::follow(path, &mut file, read, sources, out);
    let unfolded = unfold::unfold(&file.steps, &file.templates, "", out);
    let graph = Graph::of(&unfolded, out);
    if !bounded(&unfolded, out) {
        return None;
    }
    let params = file.params.iter().map(|(name, param)| (name.clone(), param.kind)).collect();
    let mut scene = Scene::new(&unfolded, &graph, &params);
    let mut reader = Reader::new(sources, out);
    let env = reader.env(&file.env, &scene.outside());
    let untrusted = untrusted_names(&env, &params, &BTreeSet::new());
    // Every name counts, also one whose text has a fault: those who read it have none.
    scene.see_env(file.env.iter().map(|(name, _)| name.value.clone()).collect(), untrusted);
    let concurrency = file.concurrency.take().and_then(|raw| {
        let group = reader.template(&raw.group?, &scene.outside())?;
        Some(Concurrency { group, policy: raw.policy.unwrap_or(ConcurrencyPolicy::Queue) })
    });
    let steps = scene.steps(&file.defaults, &[], &mut reader);
    let (hash_calls, env_calls) = reader.calls();
    unused_templates(&file, &unfolded, sources, out);
    let name = file.name?.value;
    Some(Pipeline {
        name,
        on: file.on,
        params: file.params,
        env,
        concurrency,
        sla: file.sla,
        steps,
        hash_calls,
        env_calls,
    })
}

/// Checks the templates that nothing uses, with parameters of their types in place of values. Those that read a matrix
/// are left out, because it comes from the use, and so are findings that depend on the values.
fn unused_templates(file: &RawFile, unfolded: &Unfolded, sources: &Sources, out: &mut Vec<Diagnostic>) {
    let used: BTreeSet<&str> = unfolded
        .frames
        .iter()
        .filter_map(|frame| frame.of.as_ref())
        .map(|(_, template)| template.name.value.as_str())
        .collect();
    let env: BTreeSet<String> = file.env.iter().map(|(name, _)| name.value.clone()).collect();
    for template in &file.templates {
        if used.contains(template.name.value.as_str()) || template.steps.iter().any(|step| mentions(step, "matrix")) {
            continue;
        }
        let mut found = Vec::new();
        let unfolded = unfold::unfold(&template.steps, &file.templates, "", &mut found);
        let graph = Graph::of(&unfolded, &mut found);
        let params = template.params.iter().map(|(name, param)| (name.clone(), param.kind)).collect();
        let mut scene = Scene::new(&unfolded, &graph, &params);
        scene.see_env(env.clone(), BTreeSet::new());
        scene.steps(&file.defaults, &[], &mut Reader::new(sources, &mut found));
        found.retain(|found| found.code != UNTRUSTED_QUOTED.code && found.code != UNTRUSTED_SHELL.code);
        out.append(&mut found);
    }
}

/// Bytes to a decoded file. `None`: it is not YAML at all.
pub(super) fn decode(
    path: &str,
    bytes: &[u8],
    what: &'static str,
    table: Table<RawFile>,
    sources: &mut Sources,
    out: &mut Vec<Diagnostic>,
) -> Option<RawFile> {
    let number = yaml::text_of(sources, path, bytes, out)?;
    let document = yaml::parse(number, sources.text(number), out)?;
    let mut raw = RawFile::default();
    let root = At { name: what, node: document.root };
    let mut decoder = Decoder { doc: &document, out };
    if !matches!(decoder.kind(root.node), yaml::Kind::Map(_)) {
        decoder.not_a_map(root, what);
        return None;
    }
    decoder.table(root, what, table, &mut raw);
    Some(raw)
}

/// Whether all instances of all steps are within the bound; if not, going on would be work for nothing.
pub(super) fn bounded(unfolded: &Unfolded, out: &mut Vec<Diagnostic>) -> bool {
    let mut instances = 0usize;
    for flat in &unfolded.flats {
        let cells = flat.matrix.as_ref().map_or(1, |matrix| matrix.cells);
        let shards = flat.raw.shards.unwrap_or(1) as usize;
        instances = instances.saturating_add(cells.saturating_mul(shards));
        if instances > STEPS_MAX {
            over(flat.raw.head, "step instances, with matrices, shards and templates counted", out);
            return false;
        }
    }
    !unfolded.full
}

/// Says that the pipeline has more than [`STEPS_MAX`] of something.
pub(super) fn over(at: Span, what: &str, out: &mut Vec<Diagnostic>) {
    let message = format!("the pipeline has more than {STEPS_MAX} {what}");
    out.push(
        Diagnostic::error(&LIMIT, at, message, "here it is over").help("make two pipelines of it, or fewer steps"),
    );
}
