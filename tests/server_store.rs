//! `pace store` and `pace audit` on a store as a server leaves it.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

use model::Timestamp;
use store::{Batch, Change, Delivery, Location, Store};

fn pace(data: &Path, args: &[&str]) -> Output {
    let mut pace = Command::new("timeout");
    pace.arg("60").arg(env!("CARGO_BIN_EXE_pace")).args(args);
    pace.env("PACE_DATA", data).env_remove("PACE_DATABASE").output().unwrap()
}

fn says(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A store in which three things happened.
fn lived(data: &Path) -> Store {
    let store = Store::open(&Location::Sqlite(data.join("paceline.db"))).unwrap();
    for name in ["anna", "ben", "cleo"] {
        let changes = vec![Change::note(Timestamp(1_700_000_000_000_000), "user:anna", "user.invited", name)];
        store.append(None, Batch { changes, ..Batch::default() }).unwrap();
    }
    let id = "web/github/1".to_owned();
    let (project, source) = (model::ProjectId::new("web"), "github".to_owned());
    let deliveries =
        vec![Delivery { id, project, at: Timestamp(5), source, headers: Vec::new(), body: b"{}".to_vec() }];
    store.append(None, Batch { deliveries, ..Batch::default() }).unwrap();
    store
}

#[test]
fn a_store_is_backed_up_while_it_is_used_and_restored_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let _in_use = lived(&old);
    let file = folder.path().join("backup");
    let kept = pace(&old, &["store", "backup", file.to_str().unwrap()]);
    assert!(kept.status.success(), "{}", says(&kept));
    let restored = pace(&new, &["store", "restore", file.to_str().unwrap()]);
    assert_eq!(says(&restored), "restored: 3 entries\n");
    let again = pace(&new, &["store", "restore", file.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(13), "{}", says(&again));
    assert_eq!(pace(&new, &["audit", "log"]).stdout, pace(&old, &["audit", "log"]).stdout);
}

#[test]
fn an_export_goes_through_a_pipe_into_another_store() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    drop(lived(&old));
    let file = folder.path().join("lines");
    let exported = pace(&old, &["store", "export", file.to_str().unwrap(), "--output", "json"]);
    assert_eq!(says(&exported), "{\"exported\":{\"lines\":6}}\n");
    assert_eq!(pace(&old, &["store", "export"]).stdout, std::fs::read(&file).unwrap());
    let imported = pace(&new, &["store", "import", file.to_str().unwrap()]);
    assert_eq!(says(&imported), "imported: 6 lines\n");
    assert_eq!(says(&pace(&new, &["store", "rebuild"])), "rebuilt: 3 entries\n");
    let store = Store::open_reading(&Location::Sqlite(new.join("paceline.db"))).unwrap();
    assert_eq!(store.open_deliveries(9).unwrap().len(), 1);
}

#[test]
fn an_edited_log_is_told_with_the_number_of_the_entry() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    drop(lived(data));
    let green = pace(data, &["audit", "verify"]);
    assert!(says(&green).starts_with("3 entries, each as it was written; head "), "{}", says(&green));
    let file = data.join("paceline.db");
    let edit = "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute('UPDATE entries SET at=1 WHERE sequence=2'); c.commit()";
    assert!(Command::new("python3").args(["-c", edit]).arg(&file).status().unwrap().success());
    let red = pace(data, &["audit", "verify"]);
    assert_eq!(red.status.code(), Some(11));
    assert!(says(&red).contains("entry 2: it was edited, or is not in its place"), "{}", says(&red));
    let json = pace(data, &["audit", "verify", "--output", "json"]);
    let line: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((line["broken"]["entry"].as_u64(), line["entries"].as_u64()), (Some(2), Some(1)));
}

#[test]
fn the_log_of_acts_is_shown_newest_first() {
    let folder = tempfile::tempdir().unwrap();
    drop(lived(folder.path()));
    let log = pace(folder.path(), &["audit", "log", "--max", "2"]);
    let shown = "       3  2023-11-14T22:13:20Z  user:anna  user.invited  cleo\n       \
                 2  2023-11-14T22:13:20Z  user:anna  user.invited  ben\n";
    assert_eq!(says(&log), shown);
}

#[test]
fn a_store_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let output = pace(folder.path(), &["audit", "verify"]);
    assert_eq!(output.status.code(), Some(11));
    assert!(says(&output).contains("paceline.db is not there"), "{}", says(&output));
}
