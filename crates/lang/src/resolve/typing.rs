//! Decoded steps to the steps of a pipeline: defaults are filled in, expressions are read and checked at their places.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::expr::{BinaryOp, Expr, ExprKind, Template, TemplatePart};
use model::{
    Approve, Artifact, CacheDir, CacheMode, CmdStep, Matrix, Network, ParamKind, Resources, Retry, Service, Shell,
    Span, Step, StepId, StepKind, Timeout, When,
};

use super::codes::{EXPANSION_CALL, UNTRUSTED_SHELL};
use super::graph::Graph;
use super::script;
use super::unfold::{Flat, Unfolded};
use super::with::{self, Bound};
use crate::decode::{FOUND_MAX, Text};
use crate::diagnostic::Diagnostic;
use crate::expr::{self, Trust, Type, Types};
use crate::keyword::Work;
use crate::keyword::codes::LIMIT;
use crate::raw::{RawMatrix, RawStep};
use crate::report::Sources;

static NO_NAMES: BTreeSet<String> = BTreeSet::new();
static NO_TYPES: BTreeMap<String, Type> = BTreeMap::new();
static NO_BINDINGS: BTreeMap<String, Expr> = BTreeMap::new();

/// Reads expressions and remembers the calls that must be answered before a run is planned.
pub(super) struct Reader<'a> {
    pub sources: &'a Sources,
    pub out: &'a mut Vec<Diagnostic>,
    hash_calls: BTreeSet<Vec<String>>,
    env_calls: BTreeSet<String>,
    /// Steps of an expanded file: such calls come too late.
    pub too_late: bool,
    /// What all that was read weighs, by [`expr::weight`].
    weight: usize,
}

/// What all expressions and texts of a pipeline may weigh, with what the parameters of templates stand for put in: ten
/// thousand steps with two hundred nodes each.
const WEIGHT_MAX: usize = 2_000_000;

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a Sources, out: &'a mut Vec<Diagnostic>) -> Self {
        Reader { sources, out, hash_calls: BTreeSet::new(), env_calls: BTreeSet::new(), too_late: false, weight: 0 }
    }

    /// Every `hash(…)` and every `env("…")` of what was read.
    pub(super) fn calls(self) -> (BTreeSet<Vec<String>>, BTreeSet<String>) {
        (self.hash_calls, self.env_calls)
    }

    /// A text with `${{ }}`.
    pub(super) fn template(&mut self, text: &Text, types: &Types<'_>) -> Option<Template> {
        if !text.value.contains("${{") {
            return self.carries(1 + text.value.len() / 16, text.span).then(|| Template::plain(text.value.as_str()));
        }
        if self.out.len() >= FOUND_MAX {
            return None;
        }
        let template = expr::template(&text.value, &text.map(self.sources), types, self.out)?;
        let fits = template.parts.iter().all(|part| match part {
            TemplatePart::Expr(expr) => self.remember(expr),
            TemplatePart::Text(plain) => self.carries(1 + plain.len() / 16, text.span),
        });
        fits.then_some(template)
    }

    /// A bare expression that yields true or false.
    pub(super) fn condition(&mut self, text: &Text, types: &Types<'_>) -> Option<Expr> {
        self.expression(&text.value, text, 0, Type::Bool, types)
    }

    /// The expression `source`, which begins at `offset` of `text`.
    pub(super) fn expression(
        &mut self,
        source: &str,
        text: &Text,
        offset: usize,
        want: Type,
        types: &Types<'_>,
    ) -> Option<Expr> {
        if self.out.len() >= FOUND_MAX {
            return None;
        }
        let map = text.map(self.sources).from(offset);
        let expr = expr::expression(source, &map, Some(want), types, self.out)?;
        self.remember(&expr).then_some(expr)
    }

    /// Counts something that steps hold. `false`: it is too much by now.
    pub(super) fn carries(&mut self, weight: usize, at: Span) -> bool {
        let before = self.weight;
        self.weight = before.saturating_add(weight);
        if before <= WEIGHT_MAX && self.weight > WEIGHT_MAX {
            let message = "with templates and parameters put in, the expressions of the pipeline are too large";
            let found = Diagnostic::error(&LIMIT, at, message, "here it is over");
            self.out.push(found.help("let a script compute what the expressions repeat"));
        }
        self.weight <= WEIGHT_MAX
    }

    fn remember(&mut self, expr: &Expr) -> bool {
        let (mut hashes, mut variables) = (BTreeSet::new(), BTreeSet::new());
        expr::collect_hash_calls(expr, &mut hashes);
        expr::collect_env_calls(expr, &mut variables);
        if self.too_late && !(hashes.is_empty() && variables.is_empty()) {
            let message = "steps of an expanded file cannot call `hash` or `env`";
            let found = Diagnostic::error(&EXPANSION_CALL, expr.span, message, "answered before the run starts");
            self.out.push(found.help("let the step that writes the file write the value into it"));
        }
        self.hash_calls.append(&mut hashes);
        self.env_calls.append(&mut variables);
        self.carries(expr::weight(expr), expr.span)
    }

    /// A map of variables.
    pub(super) fn env(&mut self, env: &[(Text, Text)], types: &Types<'_>) -> BTreeMap<String, Template> {
        env.iter().filter_map(|(name, text)| Some((name.value.clone(), self.template(text, types)?))).collect()
    }
}

/// What the expressions of a pipeline may name, place by place.
pub(super) struct Scene<'a> {
    pub unfolded: &'a Unfolded,
    pub graph: &'a Graph,
    /// The pipeline's own parameters.
    pub params: &'a BTreeMap<String, ParamKind>,
    all_steps: BTreeSet<String>,
    env: BTreeSet<String>,
    untrusted_env: BTreeSet<String>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(unfolded: &'a Unfolded, graph: &'a Graph, params: &'a BTreeMap<String, ParamKind>) -> Self {
        let all_steps = unfolded.flats.iter().map(|flat| flat.id.clone()).collect();
        Scene { unfolded, graph, params, all_steps, env: BTreeSet::new(), untrusted_env: BTreeSet::new() }
    }

    /// Adds variables that all steps see, and which of them hold what a stranger can set.
    pub(super) fn see_env(&mut self, names: BTreeSet<String>, untrusted: BTreeSet<String>) {
        self.env.extend(names);
        self.untrusted_env.extend(untrusted);
    }

    /// What may be named outside of all steps.
    pub(super) fn outside(&self) -> Types<'_> {
        Types {
            params: self.params,
            env: &NO_NAMES,
            matrix: &NO_TYPES,
            secrets: &NO_NAMES,
            ancestors: &NO_NAMES,
            all_steps: &self.all_steps,
            bindings: &NO_BINDINGS,
            scope: &self.unfolded.frames[0].prefix,
        }
    }

    /// All steps. `more_env`: variables of the file that steps carry themselves (of an expanded file).
    pub(super) fn steps(
        &self,
        defaults: &RawStep,
        more_env: &[(Text, Text)],
        reader: &mut Reader<'_>,
    ) -> Vec<Arc<Step>> {
        let bound = with::bind(self, reader);
        let mut steps = Vec::with_capacity(self.unfolded.flats.len());
        for flat in &self.unfolded.flats {
            let step = match flat.group {
                true => Some(self.group(flat)),
                false => self.step(flat, &bound[flat.frame], defaults, more_env, reader),
            };
            steps.extend(step.map(Arc::new));
        }
        steps
    }

    /// The step that a use leaves behind.
    fn group(&self, flat: &Flat) -> Step {
        Step {
            id: StepId::new(flat.id.as_str()),
            span: flat.raw.span,
            scope: self.unfolded.frames[flat.frame].scope.as_deref().map(StepId::new),
            kind: StepKind::Group,
            depends_on: ids(&flat.depends_on),
            when: When::Success,
            condition: None,
            allow_failure: false,
            matrix: boxed(flat),
            shards: 1,
            retry: Retry::default(),
            timeout: Timeout::default(),
            resources: Resources::default(),
            runs_on: Vec::new(),
        }
    }

    fn step(
        &self,
        flat: &Flat,
        bound: &Bound,
        defaults: &RawStep,
        more_env: &[(Text, Text)],
        reader: &mut Reader<'_>,
    ) -> Option<Step> {
        let raw = &flat.raw;
        let place = self.place(flat, bound, defaults, more_env);
        let inherited = bound.condition.as_ref();
        let mut condition = inherited.filter(|expr| reader.carries(expr::weight(expr), raw.head)).cloned();
        if let Some(text) = &raw.condition {
            condition = both(condition, reader.condition(text, &place.types(self, bound)));
        }
        let kind = self.kind(flat, bound, &place, defaults, more_env, reader)?;
        let retry = raw.retry.as_ref().or(defaults.retry.as_ref());
        Some(Step {
            id: StepId::new(flat.id.as_str()),
            span: raw.span,
            scope: self.unfolded.frames[flat.frame].scope.as_deref().map(StepId::new),
            kind,
            depends_on: ids(&flat.depends_on),
            when: self.when(flat),
            condition,
            allow_failure: raw.allow_failure.unwrap_or(false),
            matrix: boxed(flat),
            shards: raw.shards.unwrap_or(1),
            retry: retry.map_or_else(Retry::default, |retry| Retry {
                attempts: retry.attempts.unwrap_or(1),
                on: retry.on.clone(),
                backoff: retry.backoff.unwrap_or_default(),
            }),
            timeout: Timeout {
                total: raw.timeout.total.or(defaults.timeout.total),
                idle: raw.timeout.idle.or(defaults.timeout.idle),
            },
            resources: Resources {
                cpu_milli: raw.resources.cpu_milli.or(defaults.resources.cpu_milli),
                memory: raw.resources.memory.or(defaults.resources.memory),
                pids: raw.resources.pids.or(defaults.resources.pids),
                io_weight: raw.resources.io_weight.or(defaults.resources.io_weight),
                open_files: raw.resources.open_files.or(defaults.resources.open_files),
                file_size: raw.resources.file_size.or(defaults.resources.file_size),
                disk: raw.resources.disk.or(defaults.resources.disk),
                output: raw.resources.output.or(defaults.resources.output),
                best_effort: raw.resources.best_effort.or(defaults.resources.best_effort).unwrap_or(false),
            },
            runs_on: self.runs_on(raw, defaults, &place.types(self, bound), reader),
        })
    }

    /// Labels are looked at before the run starts: no step has ended then.
    fn runs_on(&self, raw: &RawStep, defaults: &RawStep, types: &Types<'_>, reader: &mut Reader<'_>) -> Vec<Template> {
        if raw.key(Work::Approve.word()).is_some() {
            return Vec::new();
        }
        let types = Types { ancestors: &NO_NAMES, secrets: &NO_NAMES, env: &NO_NAMES, ..*types };
        let labels = raw.runs_on.as_ref().or(defaults.runs_on.as_ref());
        labels.into_iter().flatten().filter_map(|label| reader.template(label, &types)).collect()
    }

    /// Its own `when`, or for the first steps of a use that of the use: further steps then follow the first ones.
    fn when(&self, flat: &Flat) -> When {
        let (mut when, mut frame, mut first) = (flat.raw.when, flat.frame, flat.first);
        while when.is_none() && first && frame != 0 {
            let around = &self.unfolded.frames[frame];
            when = around.of.as_ref().and_then(|(of, _)| of.when);
            (frame, first) = (around.parent, around.first);
        }
        when.unwrap_or(When::Success)
    }

    /// What a step's expressions may name.
    fn place(&self, flat: &Flat, bound: &Bound, defaults: &RawStep, more_env: &[(Text, Text)]) -> Place {
        let raw = &flat.raw;
        let mut texts = texts_of(raw);
        texts.extend(defaults.image.as_ref());
        texts.extend(defaults.runs_on.iter().flatten());
        texts.extend(more_env.iter().map(|(_, text)| text));
        let mut place = self.place_of(&texts, &flat.depends_on, &bound.prefix, flat.matrix.as_deref());
        if !raw.env.is_empty() || !more_env.is_empty() {
            let own = raw.env.iter().chain(more_env).map(|(name, _)| name.value.clone());
            let own: BTreeSet<String> = own.collect();
            place.env = Some(self.visible(own, &texts));
        }
        place.secrets = raw.secrets.iter().cloned().collect();
        place
    }

    /// A step's own variables and the pipeline's. Of these only the ones that are named: a copy of a thousand names for
    /// each of ten thousand steps would be too much. All of them, for the help, if a name is unknown.
    fn visible(&self, own: BTreeSet<String>, texts: &[&Text]) -> BTreeSet<String> {
        let reading = texts.iter().filter(|text| text.value.contains("env"));
        let named: BTreeSet<&str> = reading.flat_map(|text| words(&text.value)).collect();
        let after_env = named.iter().filter_map(|word| word.strip_prefix("env."));
        let known = after_env.into_iter().all(|name| own.contains(name) || self.env.contains(name));
        let around = self.env.iter().filter(|name| !known || named.contains(name.as_str()));
        around.cloned().chain(own).collect()
    }

    /// What texts may name that stand behind `depends_on`.
    pub(super) fn place_of(
        &self,
        texts: &[&Text],
        depends_on: &[(String, Span)],
        prefix: &str,
        matrix: Option<&RawMatrix>,
    ) -> Place {
        Place {
            env: None,
            matrix: matrix.map_or_else(BTreeMap::new, |matrix| axis_types(&matrix.matrix)),
            secrets: BTreeSet::new(),
            ancestors: self.named_ancestors(texts, depends_on, prefix),
        }
    }

    /// The ancestors that the texts name. Only these: a set of all for each of ten thousand steps would be too much.
    fn named_ancestors(&self, texts: &[&Text], depends_on: &[(String, Span)], prefix: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let asking = texts.iter().filter(|text| text.value.contains("steps"));
        let mut needs: Option<Vec<usize>> = None;
        for word in asking.flat_map(|text| words(&text.value)) {
            for id in [format!("{prefix}{word}"), word.to_string()] {
                let Some(at) = self.graph.position(&id) else { continue };
                let needs = needs
                    .get_or_insert_with(|| depends_on.iter().filter_map(|(id, _)| self.graph.position(id)).collect());
                if self.graph.is_before(at, needs) {
                    names.insert(id);
                }
            }
        }
        names
    }

    fn kind(
        &self,
        flat: &Flat,
        bound: &Bound,
        place: &Place,
        defaults: &RawStep,
        more_env: &[(Text, Text)],
        reader: &mut Reader<'_>,
    ) -> Option<StepKind> {
        let raw = &flat.raw;
        let types = place.types(self, bound);
        if raw.key(Work::Cmd.word()).is_some() {
            let outer = Types { env: &self.env, ..types };
            return self.cmd(raw, &types, &outer, defaults, more_env, reader).map(|cmd| StepKind::Cmd(Box::new(cmd)));
        }
        if let Some(approve) = &raw.approve {
            let message = approve.message.as_ref().map(|text| reader.template(text, &types));
            let approve = Approve { by: approve.by.clone(), message: message.flatten(), expires: approve.expires };
            return Some(StepKind::Approve(Box::new(approve)));
        }
        raw.expand.as_ref().map(|path| StepKind::Expand(path.value.trim_start_matches("./").to_string()))
    }

    fn cmd(
        &self,
        raw: &RawStep,
        types: &Types<'_>,
        outer: &Types<'_>,
        defaults: &RawStep,
        more_env: &[(Text, Text)],
        reader: &mut Reader<'_>,
    ) -> Option<CmdStep> {
        // A variable's own text sees the variables around the step, not its neighbours.
        let mut env = reader.env(more_env, outer);
        env.extend(reader.env(&raw.env, outer));
        let untrusted = self.untrusted(&env);
        let trust = Trust { params: self.params, untrusted_env: &untrusted };
        let shell = raw.shell.clone().or_else(|| defaults.shell.clone()).unwrap_or(Shell::Sh);
        let text = raw.cmd.as_ref()?;
        let script = reader.template(text, types)?;
        let (cmd, cmd_env) = script::hand_over(script, &shell, &trust, reader.out);
        let image = raw.image.as_ref().or(defaults.image.as_ref()).filter(|image| image.value != "host");
        Some(CmdStep {
            cmd,
            cmd_env,
            shell,
            env,
            pass_env: raw.pass_env.clone(),
            secrets: raw.secrets.clone(),
            image: image.and_then(|image| reader.template(image, types)),
            inputs: raw.inputs.clone(),
            outputs: raw.outputs.clone(),
            network: raw.network.clone().or_else(|| defaults.network.clone()).unwrap_or(Network::None),
            caches: raw.caches.iter().filter_map(|cache| caches(cache, types, reader)).collect(),
            services: raw.services.iter().filter_map(|raw| service(raw, types, &trust, reader)).collect(),
            reports: raw.reports.clone(),
            artifacts: raw.artifacts.iter().filter_map(|raw| artifact(raw, types, reader)).collect(),
            cache: raw.cache.or(defaults.cache).unwrap_or(CacheMode::Auto),
        })
    }

    /// The variables a step sees that hold what a stranger can set.
    fn untrusted(&self, own: &BTreeMap<String, Template>) -> BTreeSet<String> {
        let around = self.untrusted_env.iter().filter(|name| !own.contains_key(*name)).cloned();
        around.chain(untrusted_names(own, self.params, &self.untrusted_env)).collect()
    }
}

/// The names whose text holds what a stranger can set.
pub(super) fn untrusted_names(
    env: &BTreeMap<String, Template>,
    params: &BTreeMap<String, ParamKind>,
    around: &BTreeSet<String>,
) -> BTreeSet<String> {
    let trust = Trust { params, untrusted_env: around };
    let untrusted = env.iter().filter(|(_, template)| expr::template_is_untrusted(template, &trust));
    untrusted.map(|(name, _)| name.clone()).collect()
}

/// The sets that [`Types`] of one place borrows.
pub(super) struct Place {
    env: Option<BTreeSet<String>>,
    matrix: BTreeMap<String, Type>,
    secrets: BTreeSet<String>,
    ancestors: BTreeSet<String>,
}

impl Place {
    pub(super) fn types<'b>(&'b self, scene: &'b Scene<'_>, bound: &'b Bound) -> Types<'b> {
        Types {
            params: &bound.params,
            env: self.env.as_ref().unwrap_or(&scene.env),
            matrix: &self.matrix,
            secrets: &self.secrets,
            ancestors: &self.ancestors,
            all_steps: &scene.all_steps,
            bindings: &bound.bindings,
            scope: &bound.prefix,
        }
    }
}

fn caches(raw: &crate::raw::RawCache, types: &Types<'_>, reader: &mut Reader<'_>) -> Option<CacheDir> {
    let fallback = raw.fallback.iter().filter_map(|text| reader.template(text, types)).collect();
    Some(CacheDir { path: raw.path.clone()?, key: reader.template(raw.key.as_ref()?, types)?, fallback })
}

fn service(
    raw: &crate::raw::RawService,
    types: &Types<'_>,
    trust: &Trust<'_>,
    reader: &mut Reader<'_>,
) -> Option<Service> {
    let cmd = raw.cmd.as_ref().and_then(|text| reader.template(text, types));
    if let (Some(cmd), Some(text)) = (&cmd, &raw.cmd)
        && expr::template_is_untrusted(cmd, trust)
    {
        let message = "a stranger can set a value in this command";
        let found = Diagnostic::error(&UNTRUSTED_SHELL, text.span, message, "of a service");
        reader.out.push(found.help("put the value into the service's `env` and let the command read the variable"));
    }
    Some(Service {
        id: raw.id.as_ref()?.value.clone(),
        image: raw.image.as_ref().and_then(|text| reader.template(text, types)),
        cmd,
        env: reader.env(&raw.env, types),
        ready: raw.ready.clone(),
    })
}

fn artifact(raw: &crate::raw::RawArtifact, types: &Types<'_>, reader: &mut Reader<'_>) -> Option<Artifact> {
    let version = raw.version.as_ref().and_then(|text| reader.template(text, types));
    Some(Artifact { name: raw.name.as_ref()?.value.clone(), path: raw.path.clone()?, version })
}

/// `a && b`, where there are both.
pub(super) fn both(a: Option<Expr>, b: Option<Expr>) -> Option<Expr> {
    match (a, b) {
        (Some(a), Some(b)) => {
            Some(Expr { span: b.span, kind: ExprKind::Binary(BinaryOp::And, Box::new(a), Box::new(b)) })
        }
        (a, b) => a.or(b),
    }
}

fn boxed(flat: &Flat) -> Option<Box<Matrix>> {
    flat.matrix.as_ref().map(|matrix| Box::new(matrix.matrix.clone()))
}

fn ids(depends_on: &[(String, Span)]) -> Vec<StepId> {
    depends_on.iter().map(|(id, _)| StepId::new(id.as_str())).collect()
}

/// The type of each axis, added cells included.
fn axis_types(matrix: &Matrix) -> BTreeMap<String, Type> {
    let mut types: BTreeMap<String, Type> = BTreeMap::new();
    let of_axes = matrix.axes.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    for (name, value) in of_axes.chain(matrix.include.iter().flatten()) {
        let found = Type::of_value(value);
        match types.get_mut(name) {
            Some(known) if *known != found => *known = Type::Dyn,
            Some(_) => {}
            None => {
                types.insert(name.clone(), found);
            }
        }
    }
    types
}

/// Every text of a step that may hold an expression.
fn texts_of(raw: &RawStep) -> Vec<&Text> {
    let mut texts: Vec<&Text> = Vec::new();
    texts.extend(raw.cmd.iter().chain(&raw.condition).chain(&raw.image));
    texts.extend(raw.env.iter().map(|(_, text)| text));
    texts.extend(raw.runs_on.iter().flatten());
    texts.extend(raw.approve.iter().filter_map(|approve| approve.message.as_ref()));
    for cache in &raw.caches {
        texts.extend(cache.key.iter().chain(&cache.fallback));
    }
    for service in &raw.services {
        texts.extend(service.image.iter().chain(&service.cmd).chain(service.env.iter().map(|(_, text)| text)));
    }
    texts.extend(raw.artifacts.iter().filter_map(|artifact| artifact.version.as_ref()));
    texts
}

/// Whether an expression of the step may read something, by its word.
pub(super) fn mentions(raw: &RawStep, word: &str) -> bool {
    let with = raw.with.iter().map(|(_, with)| &with.text);
    texts_of(raw).into_iter().chain(with).any(|text| text.value.contains(word))
}

/// Whatever could be a step's id in a text: runs of its letters, and their parts between dots.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    text.split(move |c| !is_id(c))
        .flat_map(|run| std::iter::once(run).chain(run.split('.')))
        .filter(|word| !word.is_empty())
}
