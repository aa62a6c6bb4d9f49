//! The promises themselves.

use std::sync::mpsc::channel;
use std::time::Duration;

use model::{ProjectId, Record, RunId, RunNumber, RunOutcome, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Batch, Change, Delivery, Epoch, Errand, Expect, RunQuery, Settled, Store, StoreError};

use crate::backend::Home;
use crate::facts::*;

pub fn open(home: &Home) -> (Store, Option<Epoch>) {
    let store = home.open();
    let epoch = store.lead("me").unwrap();
    assert!(epoch.is_some());
    (store, epoch)
}

pub fn numbers(store: &Store, query: &RunQuery) -> Vec<u64> {
    store.runs(query).unwrap().into_iter().map(|run| run.value.number.0).collect()
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Toy {
    pub name: String,
    pub colour: String,
}

impl Record for Toy {
    const KIND: &'static str = "toy";
    fn key(&self) -> String {
        self.name.clone()
    }
}

pub fn toy(name: &str, colour: &str) -> Toy {
    Toy { name: name.into(), colour: colour.into() }
}

pub fn put(name: &str, colour: &str, expect: Expect) -> Change {
    Change::put(Timestamp(7), "user:anna", "toy.painted", &toy(name, colour), expect)
}

pub fn changes(changes: impl IntoIterator<Item = Change>) -> Batch {
    Batch { changes: changes.into_iter().collect(), ..Batch::default() }
}

pub fn delivery(id: &str, at: u64) -> Delivery {
    let headers = vec![("x-event".to_owned(), "push".to_owned())];
    let body = vec![b'x'; 3000];
    Delivery {
        id: id.into(),
        project: ProjectId::new("web"),
        at: Timestamp(at),
        source: "github".into(),
        headers,
        body,
    }
}

pub fn errand(id: &str, due: u64, tries: u32) -> Errand {
    Errand { id: id.into(), kind: "status".into(), due: Timestamp(due), tries, body: serde_json::json!({ "n": tries }) }
}

pub fn a_new_store_is_empty(home: &mut Home) {
    let store = home.open();
    assert_eq!(store.last_sequence().unwrap(), 0);
    assert_eq!(store.active_runs().unwrap(), []);
    assert_eq!(store.run(&RunId::new("r")).unwrap(), None);
    assert_eq!(store.last_number(&ProjectId::new("web")).unwrap(), RunNumber(0));
    assert_eq!(store.facts_after(0, 10).unwrap(), []);
    assert_eq!(store.log(&log_id("r", 0), 0, 10).unwrap().length, 0);
    assert_eq!(store.verify(&mut |_| {}).unwrap().broken, None);
}

pub fn facts_come_back_in_order_and_with_their_numbers(home: &mut Home) {
    let (store, epoch) = open(home);
    let one = [asked("web", "r1", 1).fact(), started("web", "r1", 2), leased("web", "r1", 0, 3)];
    let two = [asked("api", "r2", 1).fact(), started("web", "r1", 4)];
    assert_eq!(store.append(epoch, facts(one.clone())).unwrap().sequence, 3);
    assert_eq!(store.append(epoch, facts(two.clone())).unwrap().sequence, 5);

    let of_one: Vec<_> = one.iter().chain(&two[1..]).map(|fact| fact.fact.clone()).collect();
    assert_eq!(store.facts_of(&RunId::new("r1")).unwrap(), of_one);
    let all = store.facts_after(0, 100).unwrap();
    assert_eq!(all.iter().map(|fact| fact.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(all.into_iter().map(|fact| fact.value).collect::<Vec<_>>(), [&one[..], &two[..]].concat());
    assert_eq!(store.facts_after(3, 1).unwrap()[0].value, two[0]);
    assert_eq!(store.last_sequence().unwrap(), 5);
}

pub fn lists_of_runs_answer_every_filter_and_page(home: &mut Home) {
    let (store, epoch) = open(home);
    for number in 1..=20 {
        let run = format!("r{number}");
        let branch = if number % 2 == 0 { "main" } else { "topic" };
        let pipeline = if number % 5 == 0 { "nightly" } else { "ci" };
        let commit = format!("{number:040}");
        let first = Asked { branch, commit: &commit, pipeline, ..asked("web", &run, number) }.fact();
        let mut batch = vec![first, started("web", &run, 100 + number)];
        if number <= 15 {
            let outcome = if number % 3 == 0 { RunOutcome::Failed } else { RunOutcome::Succeeded };
            batch.push(ended("web", &run, 200 + number, outcome));
        }
        store.append(epoch, facts(batch)).unwrap();
    }
    store.append(epoch, facts([asked("api", "other", 1).fact()])).unwrap();

    let web = RunQuery { project: Some(ProjectId::new("web")), ..RunQuery::default() };
    assert_eq!(numbers(&store, &web), (1..=20).rev().collect::<Vec<_>>());
    assert_eq!(numbers(&store, &RunQuery { branch: Some("main".into()), max: 3, ..web.clone() }), [20, 18, 16]);
    assert_eq!(numbers(&store, &RunQuery { pipeline: Some("nightly".into()), ..web.clone() }), [20, 15, 10, 5]);
    assert_eq!(numbers(&store, &RunQuery { outcome: Some(RunOutcome::Failed), ..web.clone() }), [15, 12, 9, 6, 3]);
    assert_eq!(numbers(&store, &RunQuery { active: true, ..web.clone() }), [20, 19, 18, 17, 16]);
    assert_eq!(numbers(&store, &RunQuery { commit: Some(format!("{:040}", 7)), ..RunQuery::default() }), [7]);
    let page = store.runs(&RunQuery { max: 4, ..web.clone() }).unwrap();
    let next = RunQuery { before: Some(page[3].sequence), max: 4, ..web };
    assert_eq!(numbers(&store, &next), [16, 15, 14, 13]);

    let six = store.run_numbered(&ProjectId::new("web"), RunNumber(6)).unwrap().unwrap();
    assert_eq!((six.run.as_str(), six.word(), six.author.as_str()), ("r6", "failure", "anna"));
    assert_eq!(store.run(&RunId::new("r20")).unwrap().unwrap().word(), "running");
    let active: Vec<_> = store.active_runs().unwrap().into_iter().map(|run| run.number.0).collect();
    assert_eq!(active, [16, 17, 18, 19, 20, 1]);
    assert_eq!(store.last_number(&ProjectId::new("web")).unwrap(), RunNumber(20));
    assert_eq!(store.counts().unwrap().active_runs, 6);
}

pub fn a_run_is_asked_for_once(home: &mut Home) {
    let (store, epoch) = open(home);
    store.append(epoch, facts([asked("web", "r1", 1).fact()])).unwrap();
    let twice = store.append(epoch, facts([asked("web", "r1", 2).fact()])).unwrap_err();
    assert_eq!(twice, StoreError::Illegal("run `r1` was asked for already".into()));
    store.append(epoch, facts([ended("web", "r1", 9, RunOutcome::Succeeded)])).unwrap();
    assert!(matches!(store.append(epoch, facts([asked("web", "r1", 3).fact()])), Err(StoreError::Illegal(_))));
    let in_one = store.append(epoch, facts([asked("web", "r2", 4).fact(), asked("web", "r2", 4).fact()]));
    assert!(matches!(in_one, Err(StoreError::Illegal(_))));
    assert_eq!(store.last_sequence().unwrap(), 2);
}

pub fn a_fact_of_an_unknown_run_is_refused(home: &mut Home) {
    let (store, epoch) = open(home);
    let unknown = store.append(epoch, facts([started("web", "r9", 1)])).unwrap_err();
    assert_eq!(unknown, StoreError::Illegal("there is no run `r9`".into()));
    assert!(matches!(store.append(epoch, chunk("r9", 0, 0, "1 a\n")), Err(StoreError::Illegal(_))));
}

pub fn facts_and_logs_need_the_leader_and_an_older_epoch_is_refused(home: &mut Home) {
    let store = home.open();
    let request = || facts([asked("web", "r1", 1).fact()]);
    assert_eq!(store.append(None, request()), Err(StoreError::NotLeader));
    assert_eq!(store.append(Some(Epoch(1)), request()), Err(StoreError::NotLeader));
    let first = store.lead("one").unwrap().unwrap();
    store.append(Some(first), request()).unwrap();
    assert_eq!(store.append(None, chunk("r1", 0, 0, "1 a\n")), Err(StoreError::NotLeader));
    store.step_down(first).unwrap();
    let second = store.lead("two").unwrap().unwrap();
    assert!(second > first);
    assert_eq!(store.append(Some(first), facts([started("web", "r1", 2)])), Err(StoreError::NotLeader));
    assert_eq!(store.append(Some(first), changes([put("a", "red", Expect::Any)])), Err(StoreError::NotLeader));
    store.append(Some(second), facts([started("web", "r1", 2)])).unwrap();
    store.append(None, changes([put("a", "red", Expect::Any)])).unwrap();
    store.step_down(second).unwrap();
    assert_eq!(store.append(Some(second), facts([started("web", "r1", 3)])), Err(StoreError::NotLeader));
    assert_eq!(store.last_sequence().unwrap(), 3);
}

pub fn an_epoch_is_never_given_twice(home: &mut Home) {
    let mut last = Epoch(0);
    for _ in 0..3 {
        let store = home.open();
        let epoch = store.lead("me").unwrap().unwrap();
        assert!(epoch > last);
        last = epoch;
        store.step_down(epoch).unwrap();
    }
}

pub fn a_refused_batch_changes_nothing_and_does_not_hurt_its_neighbours(home: &mut Home) {
    let (store, epoch) = open(home);
    store.append(epoch, facts([asked("web", "r1", 1).fact()])).unwrap();
    let (answer, answers) = channel();
    for number in 0..200u64 {
        let mut batch = changes([put(&format!("toy-{number:03}"), "red", Expect::Absent)]);
        batch.facts.push(leased("web", "r1", 0, number));
        if number % 3 == 0 {
            batch.changes.push(put("toy-never", "red", Expect::Version(1)));
        }
        let answer = answer.clone();
        store.append_then(epoch, batch, move |receipt| answer.send((number, receipt)).unwrap());
    }
    drop(answer);
    let mut entries = 1;
    for (number, receipt) in answers {
        match receipt {
            Ok(receipt) => {
                entries += 2;
                assert_eq!((number % 3 == 0, receipt.sequence), (false, entries));
            }
            Err(error) => {
                assert_eq!(error, StoreError::Conflict { kind: "toy".into(), key: "toy-never".into() });
                assert_eq!(number % 3, 0);
            }
        }
    }
    assert_eq!(store.last_sequence().unwrap(), entries);
    assert_eq!(store.facts_of(&RunId::new("r1")).unwrap().len(), 134);
    assert_eq!(store.records::<Toy>("", "", 1000).unwrap().len(), 133);
    assert_eq!(store.verify(&mut |_| {}).unwrap().broken, None);
}

pub fn records_are_changed_only_as_expected(home: &mut Home) {
    let store = home.open();
    let conflict = || Err(StoreError::Conflict { kind: "toy".into(), key: "car".into() });
    assert_eq!(store.append(None, changes([put("car", "red", Expect::Version(1))])), conflict());
    let first = store.append(None, changes([put("car", "red", Expect::Absent)])).unwrap().versions[0];
    assert_eq!(store.append(None, changes([put("car", "blue", Expect::Absent)])), conflict());
    let kept = store.record::<Toy>("car").unwrap().unwrap();
    assert_eq!((kept.value, kept.version), (toy("car", "red"), first));
    let second = store.append(None, changes([put("car", "blue", Expect::Version(first))])).unwrap().versions[0];
    assert!(second > first);
    assert_eq!(store.append(None, changes([put("car", "green", Expect::Version(first))])), conflict());
    let remove = |expect| changes([Change::remove::<Toy>(Timestamp(9), "user:anna", "toy.lost", "car", expect)]);
    assert_eq!(store.append(None, remove(Expect::Version(first))), conflict());
    assert_eq!(store.append(None, remove(Expect::Version(second))).unwrap().versions, [0]);
    assert_eq!(store.record::<Toy>("car").unwrap(), None);
    let again = store.append(None, changes([put("car", "red", Expect::Absent)])).unwrap().versions[0];
    assert!(again > second, "a version is not used again, so an old ETag never fits");
}

pub fn records_are_listed_by_prefix_and_page(home: &mut Home) {
    let store = home.open();
    for name in ["web/b", "web/a", "web", "wea", "web/ü", "api/a", "web/b/c"] {
        store.append(None, changes([put(name, "red", Expect::Absent)])).unwrap();
    }
    let list = |prefix, after, max| {
        let kept = store.records::<Toy>(prefix, after, max).unwrap();
        kept.into_iter().map(|kept| kept.value.name).collect::<Vec<_>>()
    };
    assert_eq!(list("web/", "", 10), ["web/a", "web/b", "web/b/c", "web/ü"]);
    assert_eq!(list("web/", "web/b", 1), ["web/b/c"]);
    assert_eq!(list("", "", 10), ["api/a", "wea", "web", "web/a", "web/b", "web/b/c", "web/ü"]);
}

pub fn a_delivery_is_kept_once_and_settled_once(home: &mut Home) {
    let store = home.open();
    let came = |deliveries: Vec<Delivery>| Batch { deliveries, ..Batch::default() };
    let receipt = store.append(None, came(vec![delivery("a", 1), delivery("b", 2), delivery("a", 3)])).unwrap();
    assert_eq!((receipt.sequence, receipt.fresh), (0, vec![true, true, false]));
    assert_eq!(store.append(None, came(vec![delivery("b", 4)])).unwrap().fresh, [false]);
    assert_eq!(store.open_deliveries(10).unwrap(), [delivery("a", 1), delivery("b", 2)]);
    assert_eq!(store.counts().unwrap().open_deliveries, 2);

    let flood = (0..30).map(|n| Delivery { project: ProjectId::new("away"), ..delivery(&format!("flood-{n}"), 9) });
    store.append(None, came(flood.chain([delivery("c", 10)]).collect())).unwrap();
    let open = store.open_deliveries(100).unwrap();
    assert_eq!((open.len(), open.last()), (23, Some(&delivery("c", 10))), "one project hides no other");
    for gone in open.iter().filter(|open| open.project.as_str() == "away" || open.id == "c") {
        let settled = vec![Settled { id: gone.id.clone(), at: Timestamp(11), outcome: "nothing".into() }];
        store.append(None, Batch { settled, ..Batch::default() }).unwrap();
    }
    for gone in store.open_deliveries(100).unwrap().iter().filter(|open| open.project.as_str() == "away") {
        let settled = vec![Settled { id: gone.id.clone(), at: Timestamp(11), outcome: "nothing".into() }];
        store.append(None, Batch { settled, ..Batch::default() }).unwrap();
    }

    let settle = |at, outcome: &str| {
        let settled = vec![Settled { id: "a".into(), at: Timestamp(at), outcome: outcome.into() }];
        store.append(None, Batch { settled, ..Batch::default() }).unwrap();
    };
    settle(5, "run web#1");
    settle(6, "again");
    assert_eq!(store.open_deliveries(10).unwrap(), [delivery("b", 2)]);
    let (raw, row) = store.delivery("a").unwrap().unwrap();
    assert_eq!((raw, row.settled), (delivery("a", 1), Some((Timestamp(5), "run web#1".into()))));
    let rows = store.deliveries(Some(&ProjectId::new("web")), None, 10).unwrap();
    assert_eq!(rows.iter().map(|row| row.value.id.as_str()).collect::<Vec<_>>(), ["c", "b", "a"]);
    assert_eq!(store.deliveries(None, Some(rows[1].sequence), 10).unwrap()[0].value.id, "a");
    assert_eq!(store.deliveries(Some(&ProjectId::new("api")), None, 10).unwrap(), []);
}

pub fn logs_take_overlaps_and_refuse_gaps(home: &mut Home) {
    let (store, epoch) = open(home);
    store.append(epoch, facts([asked("web", "r1", 1).fact()])).unwrap();
    store.append(epoch, chunk("r1", 0, 0, "1 one\n")).unwrap();
    store.append(epoch, chunk("r1", 0, 0, "1 one\n")).unwrap();
    store.append(epoch, chunk("r1", 0, 3, "ne\n2 two\n")).unwrap();
    let gap = store.append(epoch, chunk("r1", 0, 13, "4 four\n")).unwrap_err();
    assert_eq!(gap, StoreError::Gap { have: 12, got: 13 });
    let mut both = chunk("r1", 0, 12, "3 three\n");
    both.logs.extend(chunk("r1", 0, 20, "4 four\n").logs);
    both.logs.extend(chunk("r1", 1, 0, "9 other\n").logs);
    store.append(epoch, both).unwrap();

    let part = store.log(&log_id("r1", 0), 0, 1000).unwrap();
    assert_eq!(String::from_utf8(part.bytes).unwrap(), "1 one\n2 two\n3 three\n4 four\n");
    assert_eq!(part.length, 27);
    assert_eq!(store.log(&log_id("r1", 0), 4, 5).unwrap().bytes, b"e\n2 t");
    assert_eq!(store.log(&log_id("r1", 0), 27, 5).unwrap().bytes, b"");
    assert_eq!(store.log(&log_id("r1", 0), 99, 5).unwrap().length, 27);
    assert_eq!(store.log(&log_id("r1", 1), 0, 5).unwrap().bytes, b"9 oth");
}

pub fn a_large_log_is_read_in_parts(home: &mut Home) {
    let (store, epoch) = open(home);
    store.append(epoch, facts([asked("web", "r1", 1).fact()])).unwrap();
    let text: Vec<u8> = (0..60_000u32).flat_map(|line| format!("{line} line {}\n", line * 7).into_bytes()).collect();
    let mut offset = 0;
    for (at, part) in text.chunks(300_000).enumerate() {
        let mut batch = Batch::default();
        let small = if at == 1 { 100 } else { part.len() };
        for bytes in part.chunks(small) {
            batch.logs.extend(chunk("r1", 0, offset, bytes).logs);
            offset += bytes.len() as u64;
        }
        store.append(epoch, batch).unwrap();
    }
    assert_eq!(store.log(&log_id("r1", 0), 0, usize::MAX).unwrap().bytes, text);
    for (offset, max) in [(1, 10), (299_990, 20), (131_071, 2), (400_000, 500_000), (text.len() - 1, 10)] {
        let end = (offset + max).min(text.len());
        assert_eq!(store.log(&log_id("r1", 0), offset as u64, max).unwrap().bytes, &text[offset..end]);
    }
}

pub fn an_errand_replaces_the_one_before_it(home: &mut Home) {
    let store = home.open();
    let errands = |errands: Vec<Errand>| store.append(None, Batch { errands, ..Batch::default() }).unwrap();
    errands(vec![errand("b", 20, 0), errand("a", 10, 0), errand("c", 30, 0)]);
    errands(vec![errand("a", 25, 1)]);
    let due = |now| store.errands_due(Timestamp(now), 10).unwrap();
    assert_eq!(due(19), []);
    assert_eq!(due(25), [errand("b", 20, 0), errand("a", 25, 1)]);
    store.append(None, Batch { errands_done: vec!["b".into(), "never".into()], ..Batch::default() }).unwrap();
    assert_eq!(due(99), [errand("a", 25, 1), errand("c", 30, 0)]);
    assert_eq!(store.counts().unwrap().errands, 2);
}

pub fn artifacts_and_timings_follow_from_results(home: &mut Home) {
    let (store, epoch) = open(home);
    store.append(epoch, facts([asked("web", "r1", 1).fact()])).unwrap();
    store.append(epoch, facts([succeeded("web", "r1", 0, 1500, &[("app", "1.0"), ("doc", "1.0")])])).unwrap();
    drop(store);
    let (store, epoch) = open(home);
    store.append(epoch, facts([succeeded("web", "r1", 0, 700, &[("app", "1.1")]), failed("web", "r1", 1)])).unwrap();
    let artifacts = store.artifacts_of(&RunId::new("r1")).unwrap();
    let seen: Vec<_> =
        artifacts.iter().map(|kept| (kept.artifact.name.as_str(), kept.artifact.version.as_deref())).collect();
    assert_eq!(seen, [("app", Some("1.1")), ("doc", Some("1.0"))]);
    let timings = store.timings(&ProjectId::new("web")).unwrap();
    assert_eq!(timings.len(), 1);
    assert_eq!((timings[0].step.as_str(), timings[0].took), ("build", Duration::from_millis(700)));
}

pub fn everything_is_there_after_a_restart(home: &mut Home) {
    let (store, epoch) = open(home);
    let all = [asked("web", "r1", 1).fact(), started("web", "r1", 2)];
    let mut batch = facts(all.clone());
    batch.changes.push(put("car", "red", Expect::Absent));
    batch.deliveries.push(delivery("a", 1));
    batch.errands.push(errand("e", 5, 0));
    batch.logs = chunk("r1", 0, 0, "1 one\n").logs;
    store.append(epoch, batch).unwrap();
    drop(store);

    let (store, epoch) = open(home);
    assert_eq!(store.facts_of(&RunId::new("r1")).unwrap(), all.map(|fact| fact.fact));
    store.append(epoch, facts([ended("web", "r1", 3, RunOutcome::Succeeded)])).unwrap();
    store.append(epoch, chunk("r1", 0, 6, "2 two\n")).unwrap();
    assert_eq!(store.run(&RunId::new("r1")).unwrap().unwrap().word(), "success");
    assert_eq!(store.log(&log_id("r1", 0), 0, 99).unwrap().bytes, b"1 one\n2 two\n");
    assert_eq!(store.record::<Toy>("car").unwrap().unwrap().value, toy("car", "red"));
    assert_eq!(store.open_deliveries(9).unwrap().len(), 1);
    assert_eq!(store.errands_due(Timestamp(9), 9).unwrap().len(), 1);
    let verified = store.verify(&mut |_| {}).unwrap();
    assert_eq!((verified.entries, verified.broken), (4, None));
}

pub fn the_audit_tells_who_did_what(home: &mut Home) {
    let store = home.open();
    store.append(None, changes([put("car", "red", Expect::Any)])).unwrap();
    store.append(None, changes([Change::note(Timestamp(8), "user:ben", "signed.in", "ben")])).unwrap();
    let acts = store.audit(None, 10).unwrap();
    let told: Vec<_> =
        acts.iter().map(|act| (act.value.by.as_str(), act.value.act.as_str(), act.value.key.as_str())).collect();
    assert_eq!(told, [("user:ben", "signed.in", "ben"), ("user:anna", "toy.painted", "car")]);
    assert_eq!(store.audit(Some(acts[0].sequence), 10).unwrap(), acts[1..]);
    assert_eq!(store.record::<Toy>("ben").unwrap(), None);
}

pub fn the_chain_verifies_while_it_grows(home: &mut Home) {
    let (store, epoch) = open(home);
    store.append(epoch, facts([asked("web", "r1", 1).fact()])).unwrap();
    let growing = store.clone();
    let grown = std::thread::spawn(move || {
        for fence in 0..1000 {
            growing.append(epoch, facts([leased("web", "r1", 0, fence)])).unwrap();
        }
    });
    let mut heard = 0;
    while !grown.is_finished() {
        assert_eq!(store.verify(&mut |entries| heard = entries).unwrap().broken, None);
    }
    grown.join().unwrap();
    let verified = store.verify(&mut |entries| heard = entries).unwrap();
    assert_eq!((verified.entries, verified.broken, heard), (1001, None, 1001));
}

pub fn many_threads_append_at_once_and_nothing_is_lost(home: &mut Home) {
    let (store, epoch) = open(home);
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let store = store.clone();
            scope.spawn(move || {
                let run = format!("r{thread}");
                store.append(epoch, facts([asked("web", &run, thread).fact()])).unwrap();
                for fence in 0..50 {
                    store.append(epoch, facts([leased("web", &run, 0, fence)])).unwrap();
                }
            });
        }
    });
    assert_eq!(store.last_sequence().unwrap(), 16 * 51);
    for thread in 0..16 {
        assert_eq!(store.facts_of(&RunId::new(format!("r{thread}"))).unwrap().len(), 51);
    }
    assert_eq!(store.verify(&mut |_| {}).unwrap().broken, None);
}

pub fn names_that_no_index_takes_are_refused(home: &mut Home) {
    let (store, epoch) = open(home);
    let long = "x".repeat(2049);
    for name in ["zero\0byte", long.as_str()] {
        assert!(matches!(store.append(epoch, facts([asked("web", name, 1).fact()])), Err(StoreError::Illegal(_))));
        let deliveries = vec![delivery(name, 1)];
        assert!(matches!(store.append(None, Batch { deliveries, ..Batch::default() }), Err(StoreError::Illegal(_))));
        let errands = vec![errand(name, 1, 0)];
        assert!(matches!(store.append(None, Batch { errands, ..Batch::default() }), Err(StoreError::Illegal(_))));
        assert_eq!(store.record::<Toy>(name).unwrap(), None);
    }
    let branch = format!("{}\0", "long/".repeat(2000));
    let first = Asked { branch: &branch, ..asked("web", "r1", 1) };
    store.append(epoch, facts([first.fact()])).unwrap();
    assert_eq!(numbers(&store, &RunQuery { branch: Some(branch.clone()), ..RunQuery::default() }), [1]);
    assert_eq!(store.run(&RunId::new("r1")).unwrap().unwrap().branch, branch);
    store.append(None, Batch { deliveries: vec![delivery("a", 1)], ..Batch::default() }).unwrap();
    let settled = vec![Settled { id: "a".into(), at: Timestamp(2), outcome: "odd\0".repeat(5000) }];
    store.append(None, Batch { settled, ..Batch::default() }).unwrap();
}

pub fn retention_removes_what_old_runs_left_and_the_chain_still_verifies(home: &mut Home) {
    let (store, epoch) = open(home);
    for number in 1..=120 {
        let run = format!("r{number}");
        let mut batch = facts([
            asked("web", &run, number).fact(),
            succeeded("web", &run, 0, 5, &[("app", "1")]),
            ended("web", &run, 1000 + number, RunOutcome::Succeeded),
        ]);
        batch.logs = chunk(&run, 0, 0, "1 one\n").logs;
        batch.deliveries = vec![delivery(&format!("d{number}"), 1000 + number)];
        batch.settled = vec![Settled { id: format!("d{number}"), at: Timestamp(2000), outcome: run.clone() }];
        store.append(epoch, batch).unwrap();
    }
    store.append(epoch, facts([asked("web", "active", 121).fact(), asked("api", "other", 1).fact()])).unwrap();
    let web = ProjectId::new("web");
    let removed = store.delete_before(epoch, &web, Timestamp(1110), Timestamp(3000), "server").unwrap();
    assert_eq!(removed, 109);
    assert_eq!(store.delete_before(epoch, &web, Timestamp(1110), Timestamp(3000), "server").unwrap(), 0);

    let left = numbers(&store, &RunQuery { project: Some(web.clone()), ..RunQuery::default() });
    assert_eq!(left, (110..=121).rev().collect::<Vec<_>>());
    let (gone, kept) = (RunId::new("r109"), RunId::new("r110"));
    assert_eq!((store.run(&gone).unwrap(), store.facts_of(&gone).unwrap().len()), (None, 0));
    assert_eq!((store.artifacts_of(&gone).unwrap().len(), store.artifacts_of(&kept).unwrap().len()), (0, 1));
    assert_eq!((store.log(&log_id("r109", 0), 0, 9).unwrap().length, store.facts_of(&kept).unwrap().len()), (0, 3));
    assert_eq!(store.delivery("d109").unwrap().unwrap().0.body, b"");
    assert_eq!(store.delivery("d110").unwrap().unwrap().0.body.len(), 3000);
    assert_eq!(store.facts_after(0, 1000).unwrap().len(), 11 * 3 + 2);
    assert_eq!(store.verify(&mut |_| {}).unwrap().broken, None);

    assert_eq!(
        store.append(None, Batch { deliveries: vec![delivery("d1", 1)], ..Batch::default() }).unwrap().fresh,
        [false]
    );
    assert!(matches!(store.append(epoch, facts([asked("web", "r1", 1).fact()])), Err(StoreError::Illegal(_))));
    assert!(matches!(store.append(epoch, facts([started("web", "r1", 1)])), Err(StoreError::Illegal(_))));
    assert_eq!(store.last_number(&web).unwrap(), RunNumber(121));
}
