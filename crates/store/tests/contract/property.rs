//! Random batches: what is read back, made anew and verified is what was told when they were appended.

use std::collections::BTreeMap;

use model::{RunId, RunOutcome, RunSummary};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use store::{Batch, Expect, ProjectFact, StoreError};

use crate::backend::Home;
use crate::facts::*;
use crate::promises::{open, put};

/// What a batch may hold.
#[derive(Clone, Debug)]
enum Part {
    Ask(u8),
    Start(u8),
    Succeed(u8, u8),
    End(u8),
    Put(u8, Option<u8>),
    Log { run: u8, offset: u16, length: u16 },
}

fn part() -> impl Strategy<Value = Part> {
    let run = 0..4u8;
    prop_oneof![
        2 => run.clone().prop_map(Part::Ask),
        3 => run.clone().prop_map(Part::Start),
        3 => (run.clone(), 0..3u8).prop_map(|(run, node)| Part::Succeed(run, node)),
        1 => run.clone().prop_map(Part::End),
        3 => (0..3u8, proptest::option::of(0..12u8)).prop_map(|(toy, version)| Part::Put(toy, version)),
        3 => (run, 0..3000u16, 0..3000u16).prop_map(|(run, offset, length)| Part::Log { run, offset, length }),
    ]
}

fn fact(part: &Part) -> Option<ProjectFact> {
    let name = |run: &u8| format!("r{run}");
    Some(match part {
        Part::Ask(run) => asked("web", &name(run), u64::from(*run)).fact(),
        Part::Start(run) => started("web", &name(run), 5),
        Part::Succeed(run, node) => succeeded("web", &name(run), (*node).into(), 10, &[("app", "1")]),
        Part::End(run) => ended("web", &name(run), 9, RunOutcome::Succeeded),
        Part::Put(..) | Part::Log { .. } => return None,
    })
}

fn batch(parts: &[Part]) -> Batch {
    let mut batch = facts(parts.iter().filter_map(fact));
    for part in parts {
        match part {
            Part::Put(toy, version) => {
                let expect = version.map_or(Expect::Any, |version| Expect::Version(version.into()));
                batch.changes.push(put(&format!("toy-{toy}"), "red", expect));
            }
            Part::Log { run, offset, length } => {
                // The same place holds the same byte, as in a log that is sent again.
                let bytes: Vec<u8> = (*offset..*offset + *length).map(|at| (at % 251) as u8).collect();
                batch.logs.extend(chunk(&format!("r{run}"), 0, (*offset).into(), bytes).logs);
            }
            _ => {}
        }
    }
    batch
}

pub fn replay_equals_live_for_random_batches(home: &mut Home) {
    let batches = proptest::collection::vec(proptest::collection::vec(part(), 0..5), 0..30);
    let cases = match home.location {
        store::Location::Sqlite(_) => 32,
        store::Location::Postgres(_) => 12,
    };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let home = &*home;
    TestRunner::new(config)
        .run(&batches, |batches| {
            check(&home.another(), &batches);
            Ok(())
        })
        .unwrap();
}

fn check(home: &Home, batches: &[Vec<Part>]) {
    let (store, epoch) = open(home);
    let mut told: Vec<ProjectFact> = Vec::new();
    let mut ends: BTreeMap<RunId, u64> = BTreeMap::new();
    for parts in batches {
        let batch = batch(parts);
        let (facts, logs) = (batch.facts.clone(), batch.logs.clone());
        match store.append(epoch, batch) {
            Ok(_) => {
                told.extend(facts);
                for log in logs {
                    let end = ends.entry(log.log.run).or_default();
                    *end = (*end).max(log.offset + log.bytes.len() as u64);
                }
            }
            Err(StoreError::Illegal(_) | StoreError::Conflict { .. } | StoreError::Gap { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let kept: Vec<_> = store.facts_after(0, usize::MAX).unwrap().into_iter().map(|fact| fact.value).collect();
    assert_eq!(kept, told);
    let mut lines: BTreeMap<RunId, RunSummary> = BTreeMap::new();
    for told in &told {
        if let Some(line) = lines.get_mut(&told.fact.run) {
            line.fold(&told.fact);
        } else if let Some(line) = RunSummary::first(&told.project, &told.fact) {
            lines.insert(line.run.clone(), line);
        }
    }
    for (run, line) in lines {
        assert_eq!(store.run(&run).unwrap(), Some(line));
        let log = store.log(&log_id(run.as_str(), 0), 0, usize::MAX).unwrap();
        assert_eq!(log.length, ends.get(&run).copied().unwrap_or(0));
        assert!(log.bytes.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8));
    }
    assert_eq!(store.verify(&mut |_| {}).unwrap().broken, None);
    drop(store);
    let before = home.read_models();
    store::rebuild(&home.location).unwrap();
    assert_eq!(home.read_models(), before);
}
