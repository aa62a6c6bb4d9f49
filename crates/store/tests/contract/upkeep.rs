//! Promises about the store as a whole: verified, made anew, moved, kept.

use std::io::Cursor;

use model::{ProjectId, RunId, RunOutcome, Timestamp};
use store::{Batch, Change, Expect, Settled, Store, StoreError};

use crate::backend::Home;
use crate::facts::*;
use crate::promises::{Toy, changes, delivery, errand, open, put};

/// A bit of everything.
fn lived(home: &Home) -> Store {
    let (store, epoch) = open(home);
    for number in 1..=30 {
        let run = format!("r{number}");
        store.append(epoch, facts([asked("web", &run, number).fact(), started("web", &run, 2)])).unwrap();
        let mut batch =
            facts([succeeded("web", &run, 0, number, &[("app", "1"), ("doc", "2")]), failed("web", &run, 1)]);
        batch.changes = vec![put(&format!("toy-{}", number % 7), "red", Expect::Any)];
        batch.changes.push(Change::note(Timestamp(1), "user:anna", "signed.in", "anna"));
        batch.logs = chunk(&run, 0, 0, format!("1 run {number}\n")).logs;
        batch.logs.extend(chunk(&run, 1, 0, vec![0xff; 2000]).logs);
        batch.deliveries = vec![delivery(&format!("d{number}"), number)];
        batch.errands = vec![errand(&format!("e{number}"), number, 3)];
        if number % 2 == 0 {
            batch.settled = vec![Settled { id: format!("d{number}"), at: Timestamp(9), outcome: run.clone() }];
            batch.facts.push(ended("web", &run, 100 + number, RunOutcome::Failed));
        }
        store.append(epoch, batch).unwrap();
    }
    let late = facts([succeeded("web", "r2", 1, 77, &[("late", "1")])]);
    store.append(epoch, late).unwrap();
    let remove = Change::remove::<Toy>(Timestamp(3), "user:anna", "toy.lost", "toy-3", Expect::Any);
    store.append(None, changes([remove])).unwrap();
    store.delete_before(epoch, &ProjectId::new("web"), Timestamp(110), Timestamp(500), "server").unwrap();
    store
}

/// All that a store answers.
fn seen(store: &Store) -> String {
    let facts = store.facts_after(0, 10_000).unwrap();
    let runs = store.runs(&store::RunQuery { max: 500, ..Default::default() }).unwrap();
    let toys = store.records::<Toy>("", "", 100).unwrap();
    let audit = store.audit(None, 1000).unwrap();
    let deliveries: Vec<_> = (1..=30).map(|number| store.delivery(&format!("d{number}")).unwrap()).collect();
    let errands = store.errands_due(Timestamp(u64::MAX), 100).unwrap();
    let logs: Vec<_> = runs.iter().map(|run| store.log(&log_id(run.value.run.as_str(), 1), 0, 9999).unwrap()).collect();
    let artifacts: Vec<_> = runs.iter().map(|run| store.artifacts_of(&run.value.run).unwrap()).collect();
    let verified = store.verify(&mut |_| {}).unwrap();
    assert_eq!(verified.broken, None);
    format!("{facts:?}{runs:?}{toys:?}{audit:?}{deliveries:?}{errands:?}{logs:?}{artifacts:?}{verified:?}")
}

pub fn a_changed_log_is_found_out(home: &mut Home) {
    let tampered: [(&str, u64, &str); 9] = [
        ("UPDATE entries SET at = at + 1 WHERE sequence = 5", 5, "it was edited, or is not in its place"),
        ("UPDATE entries SET kind = 'Started' WHERE sequence = 3", 3, "it was edited, or is not in its place"),
        ("UPDATE run_keys SET project = 'mine' WHERE run = 'r1'", 1, "it was edited, or is not in its place"),
        ("DELETE FROM entries WHERE sequence = 4", 4, "it was removed"),
        ("DELETE FROM entries WHERE sequence >= 7", 7, "it was removed, and all after it"),
        ("UPDATE head SET sequence = 6", 6, "it is not the entry that the log was closed with"),
        (
            "UPDATE entries SET encoding = 2, length = 0, payload = (SELECT hash FROM entries WHERE sequence = 2)
             WHERE sequence = 2",
            2,
            "it was edited, or is not in its place",
        ),
        (
            "UPDATE entries SET payload = (SELECT payload FROM entries WHERE sequence = 6), length = (SELECT length FROM
             entries WHERE sequence = 6) WHERE sequence = 5",
            5,
            "it was edited, or is not in its place",
        ),
        ("UPDATE entries SET sequence = -sequence WHERE sequence = 6", 6, "it was removed"),
    ];
    for (sql, at, why) in tampered {
        let home = home.another();
        let (store, epoch) = open(&home);
        store.append(epoch, facts([asked("web", "r1", 1).fact(), started("web", "r1", 2)])).unwrap();
        store.append(epoch, facts((0..5).map(|fence| leased("web", "r1", 0, fence)))).unwrap();
        store.append(None, changes([put("car", "red", Expect::Any)])).unwrap();
        drop(store);
        home.sql(sql);
        let verified = home.open().verify(&mut |_| {}).unwrap();
        assert_eq!(verified.broken, Some((at, why.to_owned())), "{sql}");
        assert_eq!(verified.entries, at.min(if why.contains("closed") { at } else { at - 1 }), "{sql}");
    }
}

pub fn read_models_made_anew_equal_the_tables(home: &mut Home) {
    drop(lived(home));
    let before = home.read_models();
    home.sql("DELETE FROM artifacts");
    home.sql("UPDATE runs SET summary = '{}'");
    home.sql("UPDATE records SET body = 'x'");
    assert_eq!(store::rebuild(&home.location).unwrap(), 30 * 6 + 15 + 3);
    assert_eq!(home.read_models(), before);
    let (store, epoch) = open(home);
    store.append(epoch, facts([started("web", "r1", 9)])).unwrap();
    assert_eq!(store.verify(&mut |_| {}).unwrap().broken, None);
}

pub fn an_export_is_imported_into_either_backend(home: &mut Home) {
    let store = lived(home);
    let before = seen(&store);
    let mut lines = Vec::new();
    let written = store::export(&home.location, &mut lines).unwrap();
    let last = store.lead("me").unwrap().unwrap();
    for other in [Some(Home::sqlite()), Home::postgres()].into_iter().flatten() {
        assert_eq!(store::import(&other.location, Cursor::new(lines.clone())).unwrap(), written);
        let (moved, epoch) = open(&other);
        assert_eq!(seen(&moved), before);
        assert!(epoch >= Some(last), "an epoch of the old place is never given again");
        moved.append(epoch, facts([started("web", "r1", 9)])).unwrap();
        moved.append(epoch, chunk("r29", 1, 2000, "1 more\n")).unwrap();
        drop(moved);
        let full = store::import(&other.location, Cursor::new(lines.clone())).unwrap_err();
        assert_eq!(full.to_string(), "the store has something in it already; import into an empty one");
    }
}

pub fn an_export_that_was_edited_or_cut_is_refused(home: &mut Home) {
    drop(lived(home));
    let mut lines = Vec::new();
    store::export(&home.location, &mut lines).unwrap();
    let text = String::from_utf8(lines).unwrap();
    let without = |gone: usize| {
        let left = text.lines().enumerate().filter(|(at, _)| *at != gone);
        left.map(|(_, line)| format!("{line}\n")).collect::<String>()
    };
    let last = text.lines().count() - 1;
    let cases = [
        (text.replacen("user:anna", "user:ben", 1), "was edited"),
        (without(7), "line 8 of the export: the entry was edited, or is not in its place"),
        (without(last), "it is cut off here"),
        (without(last - 1), "lines are missing before it"),
        (text[..text.len() / 2].to_owned(), "it is cut off here"),
        (without(0), "line 1 of the export: it is no export of a store"),
        ("hello\n".to_owned(), "line 1 of the export: it makes no sense"),
    ];
    for (bad, why) in cases {
        let other = home.another();
        let refused = store::import(&other.location, Cursor::new(bad)).unwrap_err();
        assert!(refused.to_string().contains(why), "{refused} does not say: {why}");
        let store = other.open();
        assert_eq!((store.last_sequence().unwrap(), store.facts_after(0, 9).unwrap().len()), (0, 0));
    }
}

pub fn a_backup_of_a_busy_store_is_restored(home: &mut Home) {
    let store = lived(home);
    let epoch = store.lead("me").unwrap();
    let file = home.file("backup");
    let busy = store.clone();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writes = std::thread::spawn(move || {
        let mut fence = 0;
        while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
            busy.append(epoch, facts([leased("web", "r1", 0, fence)])).unwrap();
            fence += 1;
        }
    });
    let before = store.last_sequence().unwrap();
    store::backup(&home.location, &file).unwrap();
    drop(stop);
    writes.join().unwrap();
    for other in [Some(Home::sqlite()), Home::postgres()].into_iter().flatten() {
        store::restore(&other.location, &file).unwrap();
        let restored = other.open();
        assert!(restored.last_sequence().unwrap() >= before);
        assert_eq!(restored.verify(&mut |_| {}).unwrap().broken, None);
        assert_eq!(restored.run(&RunId::new("r20")).unwrap(), store.run(&RunId::new("r20")).unwrap());
        assert_eq!(restored.log(&log_id("r20", 0), 0, 99).unwrap(), store.log(&log_id("r20", 0), 0, 99).unwrap());
        assert_eq!(restored.open_deliveries(99).unwrap(), store.open_deliveries(99).unwrap());
    }
    let onto_itself = store::restore(&home.another().location, &home.file("absent")).unwrap_err();
    assert!(onto_itself.to_string().contains("cannot be read"), "{onto_itself}");
}

pub fn a_store_that_is_read_only_writes_nothing(home: &mut Home) {
    let written = lived(home);
    let store = Store::open_reading(&home.location).unwrap();
    assert_eq!(seen(&store), seen(&written));
    let refused = store.append(None, Batch::default()).unwrap_err();
    assert_eq!(refused, StoreError::Unavailable("it was opened for reading only".into()));
}
