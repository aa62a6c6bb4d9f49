//! Ended runs that are done again.

use engine::again::{AgainError, Which};
use model::{AttemptEnd, AttemptResult, Cause, Digest, LayerRef, OnFailure, RunEvent};
use testkit::{World, pipeline, reads, step, value};

/// What was executed for a run, by name.
fn executed(w: &World, run: &model::RunId) -> Vec<String> {
    w.attempts().iter().filter(|spec| spec.run == *run).map(|spec| spec.name.to_string()).collect()
}

#[test]
fn only_what_failed_is_done_again_and_the_rest_hands_on_what_it_wrote() {
    let mut w = World::serving(["a1"]);
    let test = step("test").after(&["build"]).cmd(reads("v ", value("build", "v")));
    let first = w.runs(&pipeline([step("build"), test, step("ship").after(&["test"])]));
    let digest = Digest { hash: [7; 32], size: 9 };
    let mut built = AttemptResult::ended(AttemptEnd::Succeeded);
    built.values.insert("v".into(), "1".into());
    built.layer = Some(LayerRef { digest, files: 1, bytes: 2 });
    built.tail = vec!["compiled".into()];
    w.answers("build", built);
    w.fails("test", 1);
    w.run_is(&first, "failure");

    let second = w.again(&first, &Which::Failed).expect("it failed");
    w.sees("build", "cached");
    let spec = w.spec("test");
    let model::Work::Command(command) = &spec.work else { panic!("a command") };
    assert_eq!((command.script.as_str(), spec.needs.as_slice()), ("v 1", &[model::NodeIx(0)][..]));
    let kept = w.facts().iter().find_map(|fact| match &fact.event {
        RunEvent::StepKept { from, result, .. } => Some((from.run.clone(), result.layer, result.tail.len())),
        _ => None,
    });
    assert_eq!(kept, Some((first.clone(), Some(LayerRef { digest, files: 1, bytes: 2 }), 0)));
    w.passes("test");
    w.passes("ship");
    w.run_is(&second, "success");
    assert_eq!(executed(&w, &second), ["test", "ship"]);
    assert_eq!(w.again(&second, &Which::Failed), Err(AgainError::NothingFailed));

    // The third rests on the first through the second.
    let third = w.again(&second, &Which::From("ship".into())).expect("there is such a step");
    let from: Vec<_> = w
        .facts()
        .iter()
        .filter(|fact| fact.run == third)
        .filter_map(|fact| match &fact.event {
            RunEvent::StepKept { from, .. } => Some(from.run.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(from, [first, second]);
    w.passes("ship");
    assert_eq!(executed(&w, &third), ["ship"]);
}

#[test]
fn from_a_step_on_everything_that_depends_on_it_is_executed_without_the_cache() {
    let mut w = World::serving(["a1"]);
    let first = w.runs(&pipeline([step("a"), step("b").after(&["a"]), step("c").after(&["b"]), step("d")]));
    ["a", "b", "c", "d"].iter().for_each(|step| w.passes(step));
    let second = w.again(&first, &Which::From("b".into())).expect("there is such a step");
    let spec = w.spec("b");
    let model::Work::Command(command) = &spec.work else { panic!("a command") };
    assert!(command.fresh);
    w.passes("b");
    w.passes("c");
    w.run_is(&second, "success");
    assert_eq!(executed(&w, &second), ["b", "c"]);
    let unknown = w.again(&second, &Which::From("e".into())).expect_err("there is none");
    assert_eq!(unknown.to_string(), "no step is called `e`; there is `a`");
}

#[test]
fn all_of_a_run_is_done_again() {
    let mut w = World::serving(["a1"]);
    let first = w.runs(&pipeline([step("a"), step("b").after(&["a"])]));
    w.passes("a");
    assert_eq!(w.again(&first, &Which::All), Err(AgainError::NotEnded));
    w.passes("b");
    let second = w.again(&first, &Which::All).expect("it ended");
    w.passes("a");
    w.passes("b");
    w.run_is(&second, "success");
    assert_eq!(executed(&w, &second), ["a", "b"]);
}

#[test]
fn an_approval_that_is_needed_again_is_asked_again() {
    let mut w = World::serving(["a1"]);
    let steps = [step("look"), step("ship").after(&["look"]).approve(), step("deploy").after(&["ship"])];
    let first = w.runs(&pipeline(steps));
    w.passes("look");
    w.answers_approval("ship", "user:anna", true, "");
    w.fails("deploy", 1);
    w.run_is(&first, "failure");
    w.again(&first, &Which::Failed).expect("it failed");
    w.sees("look", "cached");
    w.sees("ship", "waits 720h00m for team:release to say yes");
}

#[test]
fn what_an_expand_step_made_is_made_again_if_it_is_needed() {
    let mut w = World::serving(["a1"]);
    let first = w.runs(&pipeline([step("more").expand("m.yaml"), step("after").after(&["more"]), step("other")]));
    w.expands("more", Ok(vec![step("more.x").build()]));
    w.passes("other");
    w.passes("more.x");
    w.fails("after", 1);
    w.run_is(&first, "failure");
    let second = w.again(&first, &Which::Failed).expect("it failed");
    w.sees("other", "cached");
    w.expands("more", Ok(vec![step("more.x").build()]));
    w.passes("more.x");
    w.passes("after");
    w.run_is(&second, "success");
}

#[test]
fn kept_results_survive_a_failover_and_wait_for_the_group() {
    let mut w = World::serving(["a1"]);
    let mut deploy = pipeline([step("a"), step("b").after(&["a"])]);
    deploy.concurrency =
        Some(model::Concurrency { group: model::expr::Template::plain("g"), policy: model::ConcurrencyPolicy::Queue });
    let first = w.runs_with(&deploy, |context| context.on_failure = OnFailure::KeepGoing);
    w.passes("a");
    w.ends("b", AttemptEnd::Failed(Cause::Exit(1)));
    let holder = w.runs(&deploy);
    let again = w.again(&first, &Which::Failed).expect("it failed");
    w.run_is(&again, "queued");
    w.fails_over();
    w.comes_back("a1", 1);
    w.passes("a");
    w.passes("b");
    w.run_is(&holder, "success");
    w.sees("a", "cached");
    w.passes("b");
    w.run_is(&again, "success");
}
