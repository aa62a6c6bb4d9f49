//! An agent and a server that is the test's: leases, logs, results, and what must survive.

mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use link::Status;
use model::{AttemptEnd, AttemptSpec, Cause, NodeIx, Work};
use proto::{Draining, Known, ServerWord, Stop};
use world::{DEADLINE, World};

fn command(spec: &mut AttemptSpec, change: impl FnOnce(&mut model::CommandSpec)) {
    if let Work::Command(command) = &mut spec.work {
        change(Arc::make_mut(command));
    }
}

#[test]
fn an_attempt_is_executed_on_its_commit_and_told_with_its_log() {
    let mut w = World::new();
    let link = w.agent("a1");
    w.begin("run_1");
    let lease = w.execute_as(
        "run_1",
        0,
        "cat hello kept.log; echo $KEY",
        |spec| {
            command(spec, |command| command.secrets = vec!["KEY".into()]);
        },
        &[],
    );
    let ended = w.takes();
    assert_eq!(ended.result.end, AttemptEnd::Succeeded, "{:?}", ended.result);
    assert_eq!(ended.lease, lease);
    assert_eq!(w.log(&lease), "hello of the commit\ntracked though ignored\n***\n");
    assert_eq!(ended.log_bytes, w.log_length(&lease));
    let end = std::time::Instant::now() + DEADLINE;
    while link.held() > 0 {
        assert!(std::time::Instant::now() < end, "what is acknowledged is forgotten");
        std::thread::yield_now();
    }
    assert_eq!(link.status(), Status::Connected("a1".into()));
}

#[test]
fn a_cut_connection_loses_and_doubles_no_line_and_no_result() {
    let mut w = World::new();
    w.desk.takes_logs.store(false, Ordering::SeqCst);
    let _link = w.agent("a1");
    w.begin("run_1");
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; while [ ! -e $PACE_WORKSPACE/../x ]; do sleep 0.01; [ $i -gt 3300 ] && exit 0; echo line $i; i=$((i+1)); done";
    let lease = w.execute("run_1", 0, script);
    for at in ["line 10\n", "line 2900\n", "line 3100\n"] {
        w.log_has(&lease, at);
        w.cut();
        let (_, hello) = w.hello();
        assert_eq!(hello.held, std::slice::from_ref(&lease));
        w.desk.takes_logs.store(true, Ordering::SeqCst);
    }
    // Heard and not acknowledged, then cut: it is told again.
    let first = w.finished();
    w.cut();
    w.hello();
    let again = w.takes();
    assert_eq!((first.result.end, first.log_bytes), (again.result.end, again.log_bytes));
    let expected: String = (0..=3300).map(|n| format!("line {n}\n")).collect();
    assert_eq!(w.log(&lease), expected);
}

#[test]
fn a_server_that_lost_the_end_of_a_log_gets_it_again() {
    let mut w = World::new();
    let _link = w.agent("a1");
    w.begin("run_1");
    let lease = w.execute("run_1", 0, "echo one; echo two");
    let ended = w.finished();
    w.say(ServerWord::LogTaken(proto::LogTaken { lease: Some(lease.clone()), length: 0 }));
    let again = w.takes();
    assert_eq!(ended.log_bytes, again.log_bytes);
    assert_eq!(w.log(&lease), "one\ntwo\n");
}

#[test]
fn an_agent_that_is_started_again_tells_what_ended_and_what_was_lost() {
    let mut w = World::new();
    let link = w.agent("a1");
    w.begin("run_1");
    let done = w.execute("run_1", 0, "echo done");
    assert_eq!(w.finished().lease, done);
    let lost = w.execute("run_1", 1, "echo begun; sleep 600");
    w.log_has(&lost, "begun");
    drop(link);
    let _link = w.agent("a1");
    let mut ended = [w.takes(), w.takes()];
    ended.sort_by_key(|ended| ended.lease.node);
    assert_eq!((&ended[0].lease, &ended[0].result.end), (&done, &AttemptEnd::Succeeded));
    assert_eq!(ended[1].lease, lost);
    assert!(matches!(&ended[1].result.end, AttemptEnd::Failed(Cause::Lost(why)) if why.contains("started again")));
    assert_eq!(w.log(&lost), "begun\n");
}

#[test]
fn an_agent_that_hears_nothing_for_the_time_of_a_lease_stops_what_it_runs() {
    let mut w = World::new();
    w.set_lease(Duration::from_millis(1500));
    let _link = w.agent("a1");
    w.begin("run_1");
    let done = w.execute("run_1", 0, "echo done");
    assert_eq!(w.finished().lease, done);
    let lease = w.execute("run_1", 1, "echo begun; sleep 600");
    w.log_has(&lease, "begun");
    w.desk.answers.store(false, Ordering::SeqCst);
    let ended = w.takes();
    assert_eq!(ended.lease, lease);
    assert!(matches!(&ended.result.end, AttemptEnd::Failed(Cause::Lost(why)) if why.contains("no word")), "{ended:?}");
    // What had ended before is still offered on the next connection.
    w.desk.answers.store(true, Ordering::SeqCst);
    w.cut();
    w.hello();
    assert_eq!(w.takes().lease, done);
}

#[test]
fn a_lease_that_is_void_is_stopped() {
    let mut w = World::new();
    let _link = w.agent("a1");
    w.begin("run_1");
    let lease = w.execute("run_1", 0, "echo begun; sleep 600");
    w.log_has(&lease, "begun");
    w.set_void(&lease);
    w.cut();
    w.hello();
    let ended = w.takes();
    assert!(matches!(&ended.result.end, AttemptEnd::Failed(Cause::Lost(why)) if why.contains("another agent")));
}

#[test]
fn a_stopped_attempt_is_cancelled() {
    let mut w = World::new();
    let _link = w.agent("a1");
    w.begin("run_1");
    let lease = w.execute("run_1", 0, "echo begun; sleep 600");
    w.log_has(&lease, "begun");
    w.say(ServerWord::Stop(Stop { lease: Some(lease), force: false }));
    assert_eq!(w.takes().result.end, AttemptEnd::Cancelled);
}

#[test]
fn a_drained_agent_finishes_what_it_has() {
    let mut w = World::new();
    let link = w.agent("a1");
    w.begin("run_1");
    let lease = w.execute(
        "run_1",
        0,
        "echo begun; while [ ! -e /tmp/never ]; do sleep 0.05; n=$((n+1)); [ $n -gt 20 ] && exit 0; done",
    );
    w.log_has(&lease, "begun");
    w.say(ServerWord::Drain(Draining { why: "maintenance".into() }));
    assert_eq!(w.finished().result.end, AttemptEnd::Succeeded);
    assert_ne!(link.status(), Status::Drained, "its result is not acknowledged yet");
    w.say(ServerWord::ResultTaken(lease));
    assert_eq!(link.wait(DEADLINE, |status| *status == Status::Drained), Status::Drained);
}

#[test]
fn what_one_agent_wrote_another_sees() {
    let mut w = World::new();
    let _one = w.agent("a1");
    w.begin("run_1");
    w.execute_as(
        "run_1",
        0,
        "mkdir out; echo made by one > out/file",
        |spec| {
            command(spec, |command| command.has_dependants = true);
        },
        &[],
    );
    let first = w.takes().result;
    let _two = w.agent("a2");
    w.begin("run_1");
    let (layer, action) = (first.layer, first.action);
    let known = [Known { node: NodeIx(0), name: "step-0".into(), needs: Vec::new(), layer, action }];
    let lease = w.execute_as("run_1", 1, "cat out/file hello", |spec| spec.needs = vec![NodeIx(0)], &known);
    let second = w.takes();
    assert_eq!(second.result.end, AttemptEnd::Succeeded, "{:?}", second.result);
    assert_eq!(w.log(&lease), "made by one\nhello of the commit\n");
}

#[test]
fn a_commit_that_is_not_to_be_had_fails_the_step_and_says_why() {
    let mut w = World::new();
    let _link = w.agent("a1");
    w.commit = "0123456789".repeat(4);
    w.begin("run_1");
    w.execute("run_1", 0, "true");
    let ended = w.takes().result.end;
    assert!(
        matches!(&ended, AttemptEnd::Failed(Cause::Infrastructure(why)) if why.contains("cannot check out") && why.contains("git says")),
        "{ended:?}"
    );
}

#[test]
fn a_token_is_changed_into_a_credential_that_is_kept() {
    let w = World::new();
    let config = || link::Config { credential: None, ..w.config("a1") };
    let connected = |status: &Status| matches!(status, Status::Connected(_));
    drop({
        let link = link::start(config()).expect("an agent");
        assert!(connected(&link.wait(DEADLINE, connected)));
        link
    });
    // The token is used up; the credential is not.
    let link = link::start(link::Config { token: None, ..config() }).expect("an agent");
    assert!(connected(&link.wait(DEADLINE, connected)));
}

#[test]
fn a_token_that_was_used_is_refused_plainly() {
    let w = World::new();
    let config = link::Config { credential: None, token: Some("used".into()), ..w.config("a1") };
    let link = link::start(config).expect("an agent");
    let refused = link.wait(DEADLINE, |status| matches!(status, Status::Refused(_)));
    assert_eq!(refused, Status::Refused("this token was used before".into()));
}

#[test]
fn two_agents_do_not_share_a_state_folder() {
    let mut w = World::new();
    let _link = w.agent("a1");
    let error = link::start(w.config("a1")).expect_err("refused").to_string();
    assert!(error.contains("another agent works there"), "{error}");
}

#[test]
fn an_agent_waits_for_a_server_that_is_not_there_yet() {
    let w = World::new();
    let mut config = w.config("a1");
    config.server = "http://127.0.0.1:9".into();
    let link = link::start(config).expect("an agent");
    let status = link.wait(DEADLINE, |status| matches!(status, Status::Connecting(why) if !why.is_empty()));
    assert!(matches!(&status, Status::Connecting(why) if why.contains("refused")), "{status:?}");
}

#[test]
fn a_log_that_cannot_be_written_fails_the_step_and_the_agent_lives() {
    let mut w = World::new();
    let _link = w.agent("a1");
    // Where the folder of the run's logs would be.
    std::fs::write(w.path("a1/state/spool/run_1"), "in the way").expect("file");
    w.begin("run_1");
    w.execute("run_1", 0, "echo hello");
    let ended = w.takes().result.end;
    assert!(matches!(&ended, AttemptEnd::Failed(Cause::Infrastructure(why)) if why.contains("log")), "{ended:?}");
    w.begin("run_2");
    w.execute("run_2", 0, "echo hello");
    assert_eq!(w.takes().result.end, AttemptEnd::Succeeded);
}

/// Not a test of its own: what [`an_agent_that_is_killed_tells_afterwards_what_ended_and_what_was_lost`] kills.
#[test]
fn an_agent_in_a_process_of_its_own() {
    let Some((url, folder)) = world::asked_to_be_an_agent() else { return };
    let link = link::start(world::config_at(&url, &folder)).expect("an agent");
    link.wait(Duration::from_secs(600), |status| *status == Status::Drained);
}

#[test]
fn an_agent_that_is_killed_tells_afterwards_what_ended_and_what_was_lost() {
    let mut w = World::new();
    let mut agent = w.process("a1");
    w.begin("run_1");
    let done = w.execute("run_1", 0, "echo done");
    assert_eq!(w.finished().lease, done);
    let lost = w.execute("run_1", 1, "echo begun; sleep 600");
    w.log_has(&lost, "begun");
    agent.kill();
    let _agent = w.process("a1");
    let mut ended = [w.takes(), w.takes()];
    ended.sort_by_key(|ended| ended.lease.node);
    assert_eq!((&ended[0].lease, &ended[0].result.end), (&done, &AttemptEnd::Succeeded));
    assert_eq!((&ended[1].lease, w.log(&lost).as_str()), (&lost, "begun\n"));
    assert!(matches!(&ended[1].result.end, AttemptEnd::Failed(Cause::Lost(_))), "{:?}", ended[1]);
    w.begin("run_2");
    w.execute("run_2", 0, "echo on it goes");
    assert_eq!(w.takes().result.end, AttemptEnd::Succeeded);
}

#[test]
fn memory_does_not_grow_with_output() {
    const BYTES: u64 = 200 << 20;
    let mut w = World::new();
    w.desk.keeps_logs.store(false, Ordering::SeqCst);
    let agent = w.process("a1");
    w.begin("run_1");
    w.execute("run_1", 0, "true");
    w.takes();
    let before = agent.memory_peak();
    w.execute("run_1", 1, &format!("yes 'a line of the output of a step that says very much' | head -c {BYTES}"));
    let ended = w.takes();
    assert_eq!(ended.result.end, AttemptEnd::Succeeded);
    assert!(ended.log_bytes > BYTES, "{}", ended.log_bytes);
    let grown = agent.memory_peak() - before;
    assert!(grown < 64 << 20, "it grew by {} MiB", grown >> 20);
}
