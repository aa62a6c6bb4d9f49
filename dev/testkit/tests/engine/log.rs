//! Facts as a log keeps them: as JSON, which is read again years later.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{Fact, Input, RunEvent};
use testkit::{World, step};

const PIPELINE: &str = r#"
name: everything
params: { version: { type: string, default: "1.0.0" }, deep: { type: boolean, default: true } }
env: { MODE: "${{ params.deep ? 'deep' : 'flat' }}" }
concurrency: { group: "g-${{ git.branch }}", policy: cancel-queued }
sla: { start_within: 10s, finish_within: 20s }
steps:
  - id: build
    cmd: make ${{ git.branch }} ${{ hash("src/**", "!src/old") }}
    matrix: { size: [0.1, 1e300, 3], os: [linux, mac], exclude: [{ size: 3, os: mac }], include: [{ size: 7, os: "x" }] }
    runs_on: ["${{ matrix.os }}"]
    inputs: ["src/**", "!src/old/"]
    outputs: ["bin/*"]
    retry: { attempts: 2, backoff: { initial: 1s, factor: 1.1, max: 3s, jitter: 0.3 } }
    resources: { cpu: 0.5, memory: 1MiB }
  - id: test
    cmd: make test
    shards: 2
    if: "[1.5, 2.0].exists(x, x > 1.0) && event.kind != 'push'"
    allow_failure: true
  - id: ship
    depends_on: [test]
    approve: { by: [team:release], message: "Ship ${{ params.version }}?", expires: 1h }
  - { id: more, cmd: "true", when: always }
"#;

fn back(fact: &Fact) -> Fact {
    let text = serde_json::to_string(fact).expect("a fact can be written");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A run in which everything happens that can happen.
fn told() -> Vec<Fact> {
    let mut w = World::serving([]);
    let mut pipeline = testkit::text(PIPELINE);
    pipeline.steps.push(step("dynamic").expand("x.yaml").build());
    let params = engine::params::resolve(&pipeline, &Default::default()).expect("all have defaults");
    let run = w.runs_with(&pipeline, |context| {
        context.params = params;
        context.hashes = pipeline.hash_calls.iter().map(|globs| (globs.clone(), "abc".into())).collect();
        context.terms.held = Some("a fork".into());
        context.on_failure = model::OnFailure::KeepGoing;
    });
    w.give(Input::Released { run: run.clone(), by: "user:anna".into() });
    w.give(Input::Prioritised { run: run.clone(), priority: -7, by: "user:anna".into() });
    w.pass(Duration::from_secs(30));
    w.joins_labelled("a1", 20, &["linux"]);
    w.expands("dynamic", Ok(vec![step("dynamic.a").build()]));
    w.passes("dynamic.a");
    w.fails("build[size=3,os=linux]", 1);
    w.answers("more", {
        let mut result = model::AttemptResult::ended(model::AttemptEnd::Succeeded);
        result.values.insert("k".into(), "v\u{1}\u{2028}".into());
        result
    });
    w.passes("test[1/2]");
    w.fails("test[2/2]", 2);
    w.answers_approval("ship", "user:anna", true, "ja");
    w.clock_jumps_to(Duration::from_secs(40_000));
    w.give(Input::Tick);
    w.cancels("user:anna", true);
    let open: Vec<_> = w.executing().map(|(_, spec)| spec.clone()).collect();
    for spec in open {
        w.forgets(spec.fence);
        w.reports(&spec, model::AttemptResult::ended(model::AttemptEnd::Cancelled));
    }
    w.run_is(&run, "cancelled");
    w.again(&run, &engine::again::Which::Failed).expect("it was cancelled");
    w.facts().to_vec()
}

#[test]
fn every_fact_comes_back_from_the_log_as_it_was() {
    let facts = told();
    let kinds: BTreeSet<String> = facts.iter().map(|fact| kind(&fact.event)).collect();
    assert_eq!(kinds.len(), 17, "every kind of event is told: {kinds:?}");
    for fact in &facts {
        assert_eq!(back(fact), *fact);
    }
}

fn kind(event: &RunEvent) -> String {
    let text = format!("{event:?}");
    text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_owned()
}

#[test]
fn a_log_of_an_older_version_is_read() {
    let facts = told();
    let mut value = serde_json::to_value(&facts[0]).expect("a fact can be written");
    strip(&mut value, &["terms", "runs_on"]);
    let old: Fact = serde_json::from_value(value).expect("an older fact");
    let RunEvent::Requested { plan } = &old.event else { panic!("the request is first") };
    assert_eq!(plan.context.terms, model::Terms::default());
    assert!(plan.nodes.iter().all(|node| node.runs_on.is_none()));
}

/// Takes out fields that were not there.
fn strip(value: &mut serde_json::Value, names: &[&str]) {
    match value {
        serde_json::Value::Object(fields) => {
            names.iter().for_each(|name| drop(fields.remove(*name)));
            fields.values_mut().for_each(|field| strip(field, names));
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| strip(item, names)),
        _ => {}
    }
}
