//! An attempt, with every expression rendered: executing it leaves no choice open.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use model::expr::{EvalError, Scope, Template, render};
use model::limits::TIMEOUT_DEFAULT;
use model::{
    ArtifactSpec, AttemptNo, AttemptSpec, CacheMode, CacheSpec, Cause, CmdStep, CommandSpec, Fence, Need, NodeIx,
    ServiceSpec, StepKind, When, Work,
};

use crate::run::RunState;
use crate::scope;
use crate::step::StepState;
use crate::verdict::facts;

/// The attempt of an instance; the cause of its failure when an expression has no value.
pub(crate) fn attempt(
    run: &RunState<'_>,
    node: NodeIx,
    attempt: AttemptNo,
    fence: Fence,
) -> Result<AttemptSpec, Cause> {
    let step = run.definition(node);
    let work = match &step.kind {
        StepKind::Cmd(cmd) => Work::Command(Arc::new(command(run, node, attempt, cmd)?)),
        StepKind::Expand(path) => Work::ReadFile(path.clone()),
        StepKind::Approve(_) | StepKind::Group => {
            return Err(Cause::Infrastructure(alloc::format!("step `{}` has nothing to execute", step.id)));
        }
    };
    Ok(AttemptSpec {
        run: run.id().clone(),
        number: run.number(),
        node,
        name: run.name(node).clone(),
        attempt,
        fence,
        needs: layers(run, node),
        work,
        timeout_total: step.timeout.total.unwrap_or(TIMEOUT_DEFAULT),
        timeout_idle: step.timeout.idle,
        resources: step.resources,
    })
}

fn command(run: &RunState<'_>, node: NodeIx, attempt: AttemptNo, cmd: &CmdStep) -> Result<CommandSpec, Cause> {
    let plan = run.plan();
    let no_value = |what: &str, error: EvalError| {
        Cause::Expression(alloc::format!("{what} of step `{}`: {}", run.name(node), error.message))
    };
    let steps = |id: &str| facts(run, node, id);
    let env = run.head.graph.env.as_ref();
    let mut env = scope::env(plan, node, env, &steps).map_err(|error| no_value("`env`", error))?;
    let rendered = scope::with_env(plan, node, &env, &steps, |scope| Rendered::of(cmd, scope));
    let Rendered { script, cmd_env, image, services, caches, artifacts } =
        rendered.map_err(|(what, error)| no_value(what, error))?;
    if !cmd_env.is_empty() {
        Arc::make_mut(&mut env).extend(cmd_env);
    }
    Ok(CommandSpec {
        script,
        shell: cmd.shell.clone(),
        step: plan.step(node).id.clone(),
        shard: plan.nodes[node.at()].shard,
        env,
        run_env: run.head.graph.run_env.clone(),
        pass_env: cmd.pass_env.clone(),
        secrets: cmd.secrets.clone(),
        image,
        inputs: cmd.inputs.clone(),
        outputs: cmd.outputs.clone(),
        network: cmd.network.clone(),
        caches,
        services,
        reports: cmd.reports.clone(),
        artifacts,
        cache: cache_mode(cmd, plan.step(node).when),
        fresh: plan.nodes[node.at()].fresh || attempt.0 > 1,
        verify: plan.context.selection.verify,
        has_dependants: run.head.graph.has_dependants(run.head.graph.group(node)),
    })
}

/// The templates of a command, each with its value.
struct Rendered {
    script: String,
    cmd_env: BTreeMap<String, String>,
    image: Option<String>,
    services: Vec<ServiceSpec>,
    caches: Vec<CacheSpec>,
    artifacts: Vec<ArtifactSpec>,
}

impl Rendered {
    fn of(cmd: &CmdStep, scope: &Scope<'_>) -> Result<Rendered, (&'static str, EvalError)> {
        let value = |what: &'static str, template: &Template| render(template, scope).map_err(|error| (what, error));
        let maybe = |what, template: &Option<Template>| template.as_ref().map(|it| value(what, it)).transpose();
        let cmd_env = cmd.cmd_env.iter().map(|(name, it)| Ok((name.clone(), value("`cmd`", it)?)));
        let caches = cmd.caches.iter().map(|cache| {
            let fallback = cache.fallback.iter().map(|prefix| value("`caches`", prefix)).collect::<Result<_, _>>()?;
            Ok(CacheSpec { path: cache.path.clone(), key: value("`caches`", &cache.key)?, fallback })
        });
        let artifacts = cmd.artifacts.iter().map(|artifact| {
            let version = maybe("`artifacts`", &artifact.version)?;
            Ok(ArtifactSpec { name: artifact.name.clone(), path: artifact.path.clone(), version })
        });
        let services = cmd.services.iter().map(|service| {
            let env = service.env.iter().map(|(name, it)| Ok((name.clone(), value("`services`", it)?)));
            Ok(ServiceSpec {
                id: service.id.clone(),
                image: maybe("`services`", &service.image)?,
                cmd: maybe("`services`", &service.cmd)?,
                env: env.collect::<Result<_, _>>()?,
                ready: service.ready.clone(),
            })
        });
        Ok(Rendered {
            script: value("`cmd`", &cmd.cmd)?,
            cmd_env: cmd_env.collect::<Result<_, _>>()?,
            image: maybe("`image`", &cmd.image)?,
            services: services.collect::<Result<_, _>>()?,
            caches: caches.collect::<Result<_, _>>()?,
            artifacts: artifacts.collect::<Result<_, _>>()?,
        })
    }
}

/// Whose layers an instance sees: those it needs that ended well. What a template use or an `expand` step stands for is
/// the steps inside it; the first steps of an expansion see what their maker saw.
fn layers(run: &RunState<'_>, node: NodeIx) -> Vec<NodeIx> {
    let mut found = Vec::new();
    let mut asked = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = Some(node);
    while let Some(asker) = next {
        let maker = run.head.graph.group(asker).made_by.filter(|_| run.plan().nodes[asker.at()].needs.is_empty());
        asked.extend(maker.filter(|maker| seen.insert(*maker)));
        let mut take = |needed: NodeIx| match run.definition(needed).kind {
            StepKind::Cmd(_) if has_layer(run, needed) => found.push(needed),
            StepKind::Group if seen.insert(needed) => asked.push(needed),
            StepKind::Expand(_) => expanded_layers(run, needed, &mut found),
            StepKind::Cmd(_) | StepKind::Group | StepKind::Approve(_) => {}
        };
        for need in run.plan().nodes[asker.at()].needs.iter() {
            match *need {
                Need::All(group) => run.plan().instances(group).for_each(&mut take),
                Need::One(node) => take(node),
            }
        }
        next = asked.pop();
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn expanded_layers(run: &RunState<'_>, maker: NodeIx, found: &mut Vec<NodeIx>) {
    for node in run.head.graph.made_by(maker).flat_map(|group| run.plan().instances(group)) {
        match run.definition(node).kind {
            StepKind::Expand(_) => expanded_layers(run, node, found),
            _ if has_layer(run, node) => found.push(node),
            _ => {}
        }
    }
}

fn has_layer(run: &RunState<'_>, node: NodeIx) -> bool {
    let done = match run.step(node) {
        Some(StepState::Done { outcome, .. }) => outcome.lets_pass(),
        _ => false,
    };
    done && matches!(run.definition(node).kind, StepKind::Cmd(_))
}

/// Clean-up and notices are for what happened this time: from the cache they would not happen at all.
fn cache_mode(cmd: &CmdStep, when: When) -> CacheMode {
    match when {
        When::Success => cmd.cache,
        When::Failure | When::Always => CacheMode::Never,
    }
}
