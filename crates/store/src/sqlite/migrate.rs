//! Tables of SQLite, version by version.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::told;
use crate::StoreError;
use crate::entry::sha256;

/// In order. A migration that was released is never changed; a new one is a new line.
const MIGRATIONS: &[&str] = &[include_str!("001_tables.sql")];
/// `PACE` in ASCII: how `file` and we know what this is.
const APPLICATION: i64 = 0x5041_4345;

/// Brings the tables up to date, all of it or nothing.
pub(super) fn run(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let application = pragma(connection, "application_id")?;
    let tables: i64 = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(told)?;
    if application != APPLICATION && tables > 0 {
        return Err(StoreError::Damaged(format!("{} is a database of something else", path.display())));
    }
    let done = usize::try_from(pragma(connection, "user_version")?).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(StoreError::Unavailable(format!(
            "{} was written by a newer version of pace (tables {done}, this one knows {}); install that version, or restore \
             a backup from before",
            path.display(),
            MIGRATIONS.len()
        )));
    }
    if done == MIGRATIONS.len() {
        return check(connection, done);
    }
    check(connection, done)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(told)?;
    let apply = || {
        let table = "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, checksum BLOB NOT NULL) STRICT";
        transaction.execute_batch(table)?;
        for (number, sql) in MIGRATIONS.iter().enumerate().skip(done) {
            transaction.execute_batch(sql)?;
            let applied = "INSERT INTO migrations VALUES (?1, ?2)";
            transaction.execute(applied, (number as i64 + 1, sha256(sql.as_bytes())))?;
        }
        transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.commit()
    };
    apply().map_err(told)
}

/// Holds what was applied against what we would have applied.
fn check(connection: &Connection, done: usize) -> Result<(), StoreError> {
    for (at, sql) in MIGRATIONS.iter().enumerate().take(done) {
        let checksum = "SELECT checksum FROM migrations WHERE number = ?1";
        let applied: Vec<u8> = connection.query_row(checksum, [at as i64 + 1], |row| row.get(0)).map_err(told)?;
        if applied != sha256(sql.as_bytes()) {
            let number = at + 1;
            return Err(StoreError::Damaged(format!("migration {number} of the tables is not the one that we know")));
        }
    }
    Ok(())
}

fn pragma(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    connection.pragma_query_value(None, name, |row| row.get(0)).map_err(told)
}
