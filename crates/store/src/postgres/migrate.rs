//! Tables of PostgreSQL, version by version.

use tokio_postgres::Client;

use super::told;
use crate::StoreError;
use crate::entry::sha256;

/// In order. A migration that was released is never changed; a new one is a new line.
const MIGRATIONS: &[&str] = &[include_str!("001_tables.sql")];
/// Any number that is always the same: replicas that start at once wait for each other.
const LOCK: i64 = 0x5041_4345;

/// Brings the tables up to date, all of it or nothing.
pub(super) async fn run(client: &mut Client) -> Result<(), StoreError> {
    let failed = |error: tokio_postgres::Error| told(&error);
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await.map_err(failed)?;
    let table = "CREATE TABLE IF NOT EXISTS migrations (number BIGINT PRIMARY KEY, checksum BYTEA NOT NULL)";
    transaction.batch_execute(table).await.map_err(failed)?;
    let applied = transaction.query("SELECT checksum FROM migrations ORDER BY number", &[]).await.map_err(failed)?;
    if applied.len() > MIGRATIONS.len() {
        return Err(StoreError::Unavailable(format!(
            "the database was written by a newer version of pace (tables {}, this one knows {}); install that version, or \
             restore a backup from before",
            applied.len(),
            MIGRATIONS.len()
        )));
    }
    for (number, sql) in (1i64..).zip(MIGRATIONS) {
        let checksum = sha256(sql.as_bytes()).to_vec();
        match usize::try_from(number - 1).ok().and_then(|at| applied.get(at)) {
            Some(row) if row.get::<_, Vec<u8>>(0) == checksum => {}
            Some(_) => {
                return Err(StoreError::Damaged(format!(
                    "migration {number} of the tables is not the one that we know"
                )));
            }
            None => {
                transaction.batch_execute(sql).await.map_err(failed)?;
                let done = "INSERT INTO migrations VALUES ($1, $2)";
                transaction.execute(done, &[&number, &checksum]).await.map_err(failed)?;
            }
        }
    }
    transaction.commit().await.map_err(failed)
}
