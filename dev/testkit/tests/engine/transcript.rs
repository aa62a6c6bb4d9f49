//! Scheduling policy as text: a change of policy is a diff of these timelines.

use std::time::Duration;

use model::{RetryOn, When};
use testkit::{World, pipeline, step};

#[test]
fn two_slots_and_a_failure() {
    let mut w = World::with_agents(["a1", "a2"]);
    w.runs(&pipeline([
        step("lint").allow_failure(),
        step("build"),
        step("unit").after(&["build"]).retry(2, &[RetryOn::Exit(75)]),
        step("e2e").after(&["build"]),
        step("ship").after(&["unit", "e2e"]),
        step("clean").after(&["ship"]).when(When::Always),
    ]));
    w.pass(Duration::from_secs(2));
    w.fails("lint", 1);
    w.pass(Duration::from_secs(1));
    w.passes("build");
    w.pass(Duration::from_secs(4));
    w.fails("unit", 75);
    w.pass(Duration::from_secs(3));
    w.fails("e2e", 1);
    w.pass(Duration::from_secs(1));
    w.passes("unit");
    w.passes("clean");
    insta::assert_snapshot!(w.timeline(), @"
       0.0s  run #1 asked for: 6 steps
       0.0s  run #1 starts
       0.0s  build: attempt 1 on a1
       0.0s  lint: attempt 1 on a2
       2.0s  lint: exit code 1
       2.0s  lint: failed, as it may: exit code 1
       3.0s  build: passed
       3.0s  unit: attempt 1 on a1
       3.0s  e2e: attempt 1 on a2
       7.0s  unit: exit code 75
       7.0s  unit: again in 1.0s
       8.0s  unit: attempt 2 on a1
      10.0s  e2e: exit code 1
      10.0s  e2e: failed: exit code 1
      10.0s  ship: skipped: `e2e` failed
      10.0s  clean: attempt 1 on a2
      11.0s  unit: passed
      11.0s  clean: passed
      11.0s  run #1 ends: failure
    ");
}
