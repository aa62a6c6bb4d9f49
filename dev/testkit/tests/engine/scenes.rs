//! One scene for each promise of the engine.

use std::sync::Arc;
use std::time::Duration;

use model::expr::Template;
use model::{
    AttemptEnd, AttemptResult, Capacity, Cause, Concurrency, ConcurrencyPolicy, Input, OnFailure, Outcome, Pipeline,
    RetryOn, RunEvent, Step, When, Work, expr::Value,
};
use testkit::{StepBuilder, World, is, no, outcome, pipeline, reads, step, value};

const SECOND: Duration = Duration::from_secs(1);

fn world(slots: u32) -> World {
    let mut w = World::with_agents([]);
    w.joins("a1", slots);
    w
}

fn built(steps: impl IntoIterator<Item = StepBuilder>) -> Vec<Arc<Step>> {
    steps.into_iter().map(StepBuilder::build).collect()
}

// ---- dependencies ----

#[test]
fn a_step_waits_for_what_it_depends_on_and_says_so() {
    let mut w = world(4);
    let run = w.runs(&pipeline([step("build"), step("test").after(&["build"])]));
    w.pass(12 * SECOND);
    w.sees("build", "running on a1");
    w.sees("test", "waits for `build` (running 12s)");
    w.passes("build");
    w.sees("test", "running on a1");
    w.passes("test");
    w.run_is(&run, "success");
}

#[test]
fn a_skipped_step_skips_what_depends_on_it_by_name() {
    let mut w = world(4);
    let run = w.runs(&pipeline([step("a").only_if(no()), step("b").after(&["a"]), step("c").after(&["b"]), step("d")]));
    w.sees("a", "skipped: its `if` is false");
    w.sees("b", "skipped: `a` was skipped");
    w.sees("c", "skipped: `b` was skipped");
    w.passes("d");
    w.run_is(&run, "success");
}

#[test]
fn a_condition_over_another_step_is_decided_when_that_has_ended() {
    let mut w = world(4);
    let runs_if = |word| step(word).after(&["a"]).when(When::Always).only_if(is(outcome("a"), word));
    w.runs(&pipeline([step("a").allow_failure(), runs_if("failure"), runs_if("success")]));
    w.sees("failure", "waits for `a` (running 0ms)");
    w.fails("a", 3);
    w.sees("a", "failed, as it may: exit code 3");
    w.sees("failure", "running on a1");
    w.sees("success", "skipped: its `if` is false");
}

#[test]
fn an_allowed_failure_stops_nothing() {
    let mut w = world(4);
    let run = w.runs(&pipeline([step("lint").allow_failure(), step("ship").after(&["lint"])]));
    w.fails("lint", 1);
    w.passes("ship");
    w.run_is(&run, "success");
}

#[test]
fn a_matrix_step_is_skipped_only_when_all_of_its_cells_are() {
    let mut w = world(4);
    let go = || model::expr::Expr {
        span: model::Span::default(),
        kind: model::expr::ExprKind::Context(model::expr::ContextPath::Of(model::expr::Root::Matrix, "go".into())),
    };
    let test = step("test").matrix("go", &["1.22", "1.23"]).only_if(is(go(), "1.23"));
    w.runs(&pipeline([test, step("ship").after(&["test"])]));
    w.sees("test[go=1.22]", "skipped: its `if` is false");
    w.sees("ship", "waits for `test` (1 of 2 done)");
    w.passes("test[go=1.23]");
    w.sees("ship", "running on a1");
}

#[test]
fn steps_of_one_template_use_follow_each_other_cell_by_cell() {
    let mut w = world(8);
    let inner = |id: &str| step(id).scope("x").matrix("os", &["a", "b"]);
    w.runs(&pipeline([
        inner("x.build"),
        inner("x.test").after(&["x.build"]),
        step("x").after(&["x.build", "x.test"]).group(),
        step("ship").after(&["x"]),
    ]));
    w.passes("x.build[os=a]");
    w.sees("x.test[os=a]", "running on a1");
    w.sees("x.test[os=b]", "waits for `x.build[os=b]` (running 0ms)");
    w.passes("x.build[os=b]");
    w.passes("x.test[os=b]");
    w.sees("ship", "waits for `x` (waiting)");
    w.passes("x.test[os=a]");
    w.sees("x", "passed");
    w.sees("ship", "running on a1");
}

#[test]
fn who_depends_on_a_template_use_hears_which_step_of_it_failed() {
    let mut w = world(8);
    w.runs(&pipeline([
        step("x.build"),
        step("x").after(&["x.build"]).group(),
        step("ship").after(&["x"]),
        step("notice").after(&["x"]).when(When::Failure),
    ]));
    w.fails("x.build", 1);
    w.sees("ship", "skipped: `x.build` failed");
    w.sees("notice", "running on a1");
}

// ---- failures ----

#[test]
fn after_a_failure_nothing_new_starts_and_what_runs_may_end() {
    let mut w = world(2);
    let run = w.runs(&pipeline([
        step("test"),
        step("slow"),
        step("later"),
        step("deploy").after(&["test"]),
        step("smoke").after(&["deploy"]),
    ]));
    w.fails("test", 1);
    w.sees("deploy", "skipped: `test` failed");
    w.sees("smoke", "skipped: `deploy` was skipped");
    w.sees("later", "skipped: `test` failed, and the run stops at the first failure (--keep-going goes on)");
    w.sees("slow", "running on a1");
    assert!(w.stopped().is_empty());
    w.passes("slow");
    w.run_is(&run, "failure");
}

#[test]
fn keep_going_runs_all_that_does_not_depend_on_the_failure() {
    let mut w = world(1);
    let steps = pipeline([step("test"), step("later"), step("deploy").after(&["test"])]);
    let run = w.runs_with(&steps, |context| context.on_failure = OnFailure::KeepGoing);
    w.fails("test", 1);
    w.sees("deploy", "skipped: `test` failed");
    w.passes("later");
    w.run_is(&run, "failure");
}

#[test]
fn fail_fast_stops_what_runs_but_not_the_clean_up() {
    let mut w = world(4);
    let steps = pipeline([step("test"), step("slow"), step("watch").when(When::Always)]);
    let run = w.runs_with(&steps, |context| context.on_failure = OnFailure::FailFast);
    w.fails("test", 1);
    assert_eq!(w.stopped(), ["slow"]);
    w.ends("slow", AttemptEnd::Cancelled);
    w.sees("slow", "cancelled");
    w.passes("watch");
    w.run_is(&run, "failure");
}

#[test]
fn notices_and_clean_up_run_after_a_failure() {
    let mut w = world(4);
    let run = w.runs(&pipeline([
        step("test"),
        step("deploy").after(&["test"]),
        step("notice").after(&["deploy"]).when(When::Failure),
        step("clean").after(&["deploy"]).when(When::Always),
    ]));
    w.fails("test", 1);
    w.sees("notice", "running on a1");
    w.sees("clean", "running on a1");
    w.passes("notice");
    w.passes("clean");
    w.run_is(&run, "failure");
}

#[test]
fn a_notice_of_failure_is_skipped_when_nothing_failed() {
    let mut w = world(4);
    w.runs(&pipeline([step("test"), step("notice").after(&["test"]).when(When::Failure)]));
    w.passes("test");
    w.sees("notice", "skipped: nothing failed");
}

#[test]
fn the_kind_of_all_failures_is_the_kind_of_the_run() {
    for (cause, word) in [
        (Cause::Infrastructure("the disk is full".into()), "infrastructure"),
        (Cause::Lost("gone".into()), "infrastructure"),
        (Cause::Refused("images come later".into()), "refused"),
        (Cause::Broken("two steps wrote `x`".into()), "failure"),
    ] {
        let mut w = world(1);
        let run = w.runs(&pipeline([step("a")]));
        w.ends("a", AttemptEnd::Failed(cause));
        w.run_is(&run, word);
    }
    let mut w = world(2);
    let run = w.runs(&pipeline([step("a"), step("b")]));
    w.ends("a", AttemptEnd::Failed(Cause::Lost("gone".into())));
    w.fails("b", 1);
    w.run_is(&run, "failure");
}

#[test]
fn an_approval_without_a_server_is_refused_with_the_reason() {
    let mut w = world(1);
    let run = w.runs(&pipeline([step("ship").approve()]));
    w.sees(
        "ship",
        "failed: step `ship` waits for an approval, and on a desk nobody is there to give it; `pace server` asks people",
    );
    w.run_is(&run, "refused");
}

// ---- attempts ----

#[test]
fn a_retry_waits_longer_each_time_and_says_how_long() {
    let mut w = world(1);
    let run = w.runs(&pipeline([step("test").retry(3, &[RetryOn::Exit(75)])]));
    w.fails("test", 75);
    w.sees("test", "waits 1.0s before attempt 2 of 3 (exit code 75)");
    w.pass(SECOND);
    w.sees("test", "running on a1 (attempt 2 of 3)");
    let Work::Command(command) = &w.spec("test").work else { panic!("a command") };
    assert!(command.fresh, "a retry is not taken from the cache");
    w.fails("test", 75);
    w.pass(SECOND);
    w.sees("test", "waits 1.0s before attempt 3 of 3 (exit code 75)");
    w.pass(SECOND);
    w.fails("test", 75);
    w.sees("test", "failed: exit code 75");
    w.run_is(&run, "failure");
}

#[test]
fn a_cause_that_retry_does_not_name_fails_at_once() {
    let mut w = world(1);
    w.runs(&pipeline([step("test").retry(3, &[RetryOn::Exit(75)])]));
    w.fails("test", 1);
    w.sees("test", "failed: exit code 1");
}

#[test]
fn a_lost_agent_gives_the_step_back() {
    let mut w = World::with_agents(["a1", "a2"]);
    w.runs(&pipeline([step("test").retry(3, &[RetryOn::Lost])]));
    let (agent, _) = w.executing().next().map(|(agent, spec)| (agent.clone(), spec.clone())).expect("it runs");
    w.vanishes(agent.as_str());
    w.pass(SECOND);
    let other = if agent.as_str() == "a1" { "a2" } else { "a1" };
    w.sees("test", &format!("running on {other} (attempt 2 of 3)"));
}

#[test]
fn a_lost_agent_without_attempts_left_is_infrastructure() {
    let mut w = world(1);
    let run = w.runs(&pipeline([step("test")]));
    w.vanishes("a1");
    w.sees("test", "failed: lost: agent a1 is gone");
    w.run_is(&run, "infrastructure");
}

#[test]
fn an_agent_that_never_answers_loses_its_lease() {
    let mut w = world(1);
    w.runs(&pipeline([step("test").timeout(60 * SECOND)]));
    w.pass(359 * SECOND);
    w.sees("test", "running on a1");
    w.pass(2 * SECOND);
    w.sees("test", "failed: lost: agent a1 did not answer until the lease ran out");
    assert_eq!(w.stopped(), ["test!"]);
}

#[test]
fn a_late_answer_changes_nothing_and_says_so() {
    let mut w = World::with_agents(["a1"]);
    w.runs(&pipeline([step("test").retry(2, &[])]));
    let old = w.spec("test");
    w.vanishes("a1");
    w.joins("a2", 1);
    w.pass(SECOND);
    let decision = w.reports(&old, AttemptResult::ended(AttemptEnd::Succeeded));
    assert!(decision.events.is_empty() && decision.commands.is_empty());
    assert_eq!(w.because(), ["a report with fencing number 1 comes too late or twice: ignored"]);
    w.sees("test", "running on a2 (attempt 2 of 2)");
}

#[test]
fn every_input_may_come_twice() {
    let mut w = world(1);
    let steps = pipeline([step("test"), step("next").after(&["test"])]);
    let run = w.runs(&steps);
    let plan = w.engine().run(&run).expect("it was asked for").plan().clone();
    assert!(w.give(Input::RunRequested { plan }).events.is_empty());
    let spec = w.spec("test");
    w.passes("test");
    assert!(w.reports(&spec, AttemptResult::ended(AttemptEnd::Failed(Cause::Exit(1)))).events.is_empty());
    w.joins("a1", 1);
    w.cancels("Ctrl-C", false);
    let before = w.facts().len();
    w.cancels("Ctrl-C", false);
    w.give(Input::Tick);
    assert_eq!(w.facts().len(), before);
}

// ---- agents ----

#[test]
fn the_longest_way_to_the_end_goes_first_then_the_order_of_the_file() {
    let mut w = World::with_agents([]);
    w.runs(&pipeline([step("short"), step("short2"), step("long"), step("after").after(&["long"])]));
    w.sees("short", "waits for an agent: none is there");
    w.joins("a1", 2);
    w.sees("long", "running on a1");
    w.sees("short", "running on a1");
    w.sees("short2", "waits for a free slot: 2 of 2 busy with `short`, `long`");
}

#[test]
fn steps_share_cpus_and_memory_and_one_that_asks_too_much_runs_alone() {
    let mut w = World::with_agents([]);
    w.joins_with("a1", Capacity { slots: 4, cpu_milli: 4000, memory: 8 << 30 });
    w.runs(&pipeline([
        step("half").cpu(2000),
        step("most").cpu(3000),
        step("little").memory(1 << 30),
        step("huge").cpu(64_000),
    ]));
    w.sees("half", "running on a1");
    w.sees("most", "waits for 3 CPUs, now used by `half`, `little`");
    w.passes("half");
    w.sees("most", "running on a1");
    w.sees("huge", "waits for 64 CPUs, now used by `most`, `little`");
    w.passes("most");
    w.passes("little");
    w.sees("huge", "running on a1");
}

// ---- cancelling ----

#[test]
fn cancelling_stops_what_runs_and_lets_clean_up_go_on() {
    let mut w = world(1);
    let run = w.runs(&pipeline([
        step("test").retry(3, &[]),
        step("later"),
        step("clean").after(&["test"]).when(When::Always),
    ]));
    w.cancels("Ctrl-C", false);
    assert_eq!(w.stopped(), ["test"]);
    w.sees("later", "cancelled");
    w.sees("clean", "waits for `test` (running 0ms)");
    w.ends("test", AttemptEnd::Cancelled);
    w.sees("test", "cancelled");
    w.passes("clean");
    w.run_is(&run, "cancelled");
}

#[test]
fn cancelling_twice_kills_the_clean_up_too() {
    let mut w = world(2);
    let run = w.runs(&pipeline([
        step("test"),
        step("clean").when(When::Always),
        step("last").after(&["clean"]).when(When::Always),
    ]));
    w.cancels("Ctrl-C", false);
    assert_eq!(w.stopped(), ["test"]);
    w.cancels("Ctrl-C", true);
    assert_eq!(w.stopped(), ["test", "test!", "clean!"]);
    w.sees("last", "cancelled");
    w.ends("test", AttemptEnd::Cancelled);
    w.ends("clean", AttemptEnd::Cancelled);
    w.run_is(&run, "cancelled");
}

#[test]
fn a_waiting_retry_is_cancelled_at_once() {
    let mut w = world(1);
    let run = w.runs(&pipeline([step("test").retry(3, &[])]));
    w.fails("test", 1);
    w.cancels("Ctrl-C", false);
    w.sees("test", "cancelled");
    w.run_is(&run, "cancelled");
}

// ---- concurrency groups ----

fn grouped(policy: ConcurrencyPolicy) -> Pipeline {
    let mut grouped = pipeline([step("deploy")]);
    grouped.concurrency = Some(Concurrency { group: Template::plain("prod"), policy });
    grouped
}

#[test]
fn a_run_waits_for_its_concurrency_group() {
    let mut w = world(4);
    let deploy = grouped(ConcurrencyPolicy::Queue);
    let (first, second) = (w.runs(&deploy), w.runs(&deploy));
    w.run_is(&second, "queued");
    w.sees("deploy", "waits for concurrency group `prod`, held by run #1");
    w.passes("deploy");
    w.run_is(&first, "success");
    w.sees("deploy", "running on a1");
    w.passes("deploy");
    w.run_is(&second, "success");
}

#[test]
fn a_newer_run_cancels_the_older_ones_of_its_group() {
    let mut w = world(4);
    let deploy = grouped(ConcurrencyPolicy::CancelRunning);
    let (first, second, third) = (w.runs(&deploy), w.runs(&deploy), w.runs(&deploy));
    assert_eq!(w.stopped(), ["deploy"]);
    w.run_is(&first, "running");
    w.run_is(&second, "cancelled");
    w.run_is(&third, "queued");
    w.ends("deploy", AttemptEnd::Cancelled);
    w.run_is(&first, "cancelled");
    w.sees("deploy", "running on a1");
    w.passes("deploy");
    w.run_is(&third, "success");
}

#[test]
fn a_queued_run_that_is_cancelled_ends_without_starting() {
    let mut w = world(4);
    let deploy = grouped(ConcurrencyPolicy::Queue);
    let (_, second) = (w.runs(&deploy), w.runs(&deploy));
    w.cancels("a person", false);
    w.run_is(&second, "cancelled");
}

// ---- values and expressions ----

#[test]
fn values_of_a_step_reach_the_commands_that_depend_on_it() {
    let mut w = world(4);
    w.runs(&pipeline([
        step("build").matrix("os", &["a", "b"]),
        step("ship")
            .after(&["build"])
            .cmd(reads("ship ", value("build", "image")))
            .env("V", reads("v", value("build", "v"))),
    ]));
    w.says("build[os=b]", &[("image", "b"), ("v", "2")]);
    w.says("build[os=a]", &[("image", "a")]);
    let spec = w.spec("ship");
    let Work::Command(command) = &spec.work else { panic!("a command") };
    assert_eq!(command.script, "ship b", "the last instance in the plan wins, not the last to end");
    assert_eq!(command.env["V"], "v2");
    let (keyed, unkeyed) = (command.keyed_env(), command.unkeyed_env(spec.attempt));
    let names: Vec<&str> = keyed.keys().map(String::as_str).collect();
    assert_eq!(names, ["CI", "PACE", "PACE_STEP", "V"]);
    assert_eq!((&*keyed["CI"], &*keyed["PACE_STEP"]), ("true", "ship"));
    let names: Vec<&str> = unkeyed.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["PACE_ATTEMPT", "PACE_BRANCH", "PACE_COMMIT", "PACE_EVENT", "PACE_RUN_ID", "PACE_RUN_NUMBER", "PACE_TAG"]
    );
    assert_eq!((&*unkeyed["PACE_RUN_NUMBER"], &*unkeyed["PACE_ATTEMPT"]), ("1", "1"));
    assert_eq!(spec.needs, [model::NodeIx(0), model::NodeIx(1)]);
}

#[test]
fn a_value_that_was_never_written_fails_the_step_that_reads_it() {
    let mut w = world(4);
    let run =
        w.runs(&pipeline([step("build"), step("ship").after(&["build"]).cmd(reads("", value("build", "image")))]));
    w.passes("build");
    let shown = w.shows("ship");
    assert!(shown.starts_with("failed: `cmd` of step `ship`: step `build` wrote no value `image`"), "{shown}");
    w.run_is(&run, "failure");
}

#[test]
fn shards_know_their_number_and_how_many_there_are() {
    let mut w = world(4);
    w.runs(&pipeline([step("test").shards(3)]));
    let Work::Command(command) = &w.spec("test[3/3]").work else { panic!("a command") };
    let env = command.keyed_env();
    assert_eq!((&*env["PACE_SHARD_INDEX"], &*env["PACE_SHARD_TOTAL"]), ("3", "3"));
}

#[test]
fn only_a_step_with_dependants_must_keep_its_layer() {
    let mut w = world(4);
    w.runs(&pipeline([step("a"), step("x").after(&["a"]).group(), step("b"), step("c").after(&["b"])]));
    let kept = |name| match &w.spec(name).work {
        Work::Command(command) => command.has_dependants,
        Work::ReadFile(_) => panic!("a command"),
    };
    assert!(!kept("a"), "only the mark of the template use depends on it, and nobody on that");
    assert!(kept("b"));
}

// ---- expansion ----

#[test]
fn an_expansion_runs_the_steps_it_made_before_what_depends_on_it() {
    let mut w = world(4);
    let run = w.runs(&pipeline([
        step("gen"),
        step("more").after(&["gen"]).expand("ci/more.yaml"),
        step("end").after(&["more"]),
    ]));
    w.passes("gen");
    assert!(matches!(&w.spec("more").work, Work::ReadFile(path) if path == "ci/more.yaml"));
    w.expands("more", Ok(built([step("more.a"), step("more.b").after(&["more.a"])])));
    w.sees("more", "waits for the steps it made: `more.a` (running 0ms), `more.b` (waiting)");
    w.sees("end", "waits for `more` (running the steps it made)");
    assert_eq!(w.spec("more.a").needs, [model::NodeIx(0)], "it sees what its maker saw");
    w.passes("more.a");
    w.passes("more.b");
    w.sees("more", "passed");
    assert_eq!(w.spec("end").needs, [model::NodeIx(3), model::NodeIx(4)]);
    w.passes("end");
    w.run_is(&run, "success");
}

#[test]
fn an_expansion_fails_with_the_steps_it_made() {
    let mut w = world(4);
    let run = w.runs(&pipeline([step("more").expand("m.yaml"), step("end").after(&["more"])]));
    w.expands("more", Ok(built([step("more.a"), step("more.b").allow_failure()])));
    w.fails("more.b", 2);
    w.fails("more.a", 1);
    w.sees("more", "failed: exit code 1");
    w.sees("end", "skipped: `test` failed".replace("test", "more").as_str());
    w.run_is(&run, "failure");
}

#[test]
fn a_file_that_is_no_pipeline_fails_its_step_with_the_report() {
    let mut w = world(4);
    w.runs(&pipeline([step("more").expand("m.yaml")]));
    w.expands("more", Err("error: unknown key `stpes`"));
    w.sees("more", "failed: error: unknown key `stpes`");
}

#[test]
fn expansions_end_at_their_depth_and_at_the_number_of_steps() {
    let mut w = world(4);
    w.runs(&pipeline([step("e").expand("e.yaml")]));
    let mut id = "e".to_string();
    for _ in 0..4 {
        let inner = format!("{id}.e");
        w.expands(&id, Ok(built([step(&inner).expand("e.yaml")])));
        id = inner;
    }
    assert!(w.shows(&id).starts_with("failed: step `e.e.e.e.e` is expanded 4 times deep already"), "{}", w.shows(&id));

    let mut w = world(4);
    w.runs(&pipeline([step("e").expand("e.yaml")]));
    w.expands("e", Ok(built((0..10_000).map(|at| step(&format!("e.{at}"))))));
    w.sees("e", "failed: matrix and shards make more than 10000 step instances; split the pipeline");
}

#[test]
fn cancelling_reaches_the_steps_of_an_expansion() {
    let mut w = world(4);
    let run = w.runs(&pipeline([step("more").expand("m.yaml")]));
    w.expands("more", Ok(built([step("more.a"), step("more.b").after(&["more.a"])])));
    w.cancels("Ctrl-C", false);
    w.ends("more.a", AttemptEnd::Cancelled);
    w.sees("more.b", "cancelled");
    w.sees("more", "cancelled");
    w.run_is(&run, "cancelled");
}

// ---- selection ----

#[test]
fn only_what_was_asked_for_runs_with_what_it_needs() {
    let mut w = world(4);
    let steps = pipeline([step("build"), step("test").after(&["build"]), step("lint"), step("ship").after(&["test"])]);
    let run = w.runs_with(&steps, |context| context.selection.only = vec!["test".into()]);
    w.sees("lint", "skipped: not asked for");
    w.sees("ship", "skipped: not asked for");
    w.passes("build");
    w.passes("test");
    w.run_is(&run, "success");
}

#[test]
fn the_log_replays_to_the_live_state() {
    let mut w = world(2);
    w.runs(&pipeline([step("a").retry(2, &[]), step("b"), step("c").after(&["a", "b"])]));
    w.fails("a", 1);
    engine::invariant::replay_equals(w.engine(), w.facts()).expect("replay equals live");
    w.pass(SECOND);
    w.passes("a");
    w.passes("b");
    w.passes("c");
    engine::invariant::replay_equals(w.engine(), w.facts()).expect("replay equals live");
}

#[test]
fn a_fact_that_cannot_happen_is_an_error_and_changes_nothing() {
    let mut w = world(1);
    let run = w.runs(&pipeline([step("a")]));
    w.passes("a");
    let mut world = w.engine().clone();
    let event = RunEvent::StepEnded { node: model::NodeIx(0), outcome: Outcome::Cancelled, values: Default::default() };
    let refused = world.fold(&model::Fact { at: w.now(), run, event }).expect_err("the run has ended");
    assert!(refused.to_string().contains("`step ended` cannot happen to `a`, which is success"), "{refused}");
    engine::invariant::replay_equals(&world, w.facts()).expect("nothing changed");
}

#[test]
fn only_a_run_that_has_ended_can_be_forgotten() {
    let mut w = world(1);
    let run = w.runs(&pipeline([step("a")]));
    let mut world = w.engine().clone();
    assert!(!world.forget(&run));
    w.passes("a");
    let mut world = w.engine().clone();
    assert!(world.forget(&run) && world.run(&run).is_none() && !world.forget(&run));
}

#[test]
fn a_parameter_is_checked_against_what_the_pipeline_declares() {
    let mut checked = pipeline([step("a")]);
    let param = |kind, pattern: Option<&str>, choices: &[&str]| model::Param {
        kind,
        default: None,
        pattern: pattern.map(Into::into),
        choices: choices.iter().map(|choice| choice.to_string()).collect(),
        description: None,
    };
    checked.params.insert("version".into(), param(model::ParamKind::String, Some(r"^\d+\.\d+"), &[]));
    checked.params.insert("count".into(), param(model::ParamKind::Integer, None, &[]));
    checked.params.insert("env".into(), param(model::ParamKind::String, None, &["dev", "prod"]));
    checked.params.insert("fast".into(), param(model::ParamKind::Boolean, None, &[]));
    let give = |given: &[(&str, &str)]| {
        let given = given.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        engine::params::resolve(&checked, &given)
    };
    let good = give(&[("version", "1.2"), ("count", "-3"), ("env", "dev"), ("fast", "true")]).expect("all are right");
    assert_eq!((&good["count"], &good["fast"]), (&Value::Int(-3), &Value::Bool(true)));
    assert_eq!(
        give(&[("versoin", "1"), ("version", "x"), ("count", "1.5"), ("env", "test")]).expect_err("all are wrong"),
        [
            "there is no parameter `versoin`; there is `version`",
            "parameter `count` is a whole number of 64 bits, not `1.5`",
            "parameter `env` is one of dev, prod, not `test`",
            "parameter `fast` has no default and must be given: --param fast=…",
            r"parameter `version` is `x`, which does not match its pattern `^\d+\.\d+`",
        ]
    );
}
