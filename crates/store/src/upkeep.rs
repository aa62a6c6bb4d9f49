//! What is done to a store as a whole, by commands.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use crate::rebuild::Fold;
use crate::transfer::{self, Import};
use crate::{Location, Store, StoreError, sqlite};

/// How every file of SQLite begins.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// Writes all of a store as lines of JSON, while a server may use it. Returns how many lines.
///
/// # Errors
/// The store is not there, or one of both cannot be read or written.
pub fn export(location: &Location, out: &mut dyn Write) -> Result<u64, StoreError> {
    let store = Store::open_reading(location)?;
    transfer::export(&store.reader, out)
}

/// Fills an empty store with what [`export`] wrote, on whichever backend. Returns how many lines were read.
///
/// # Errors
/// The store is not empty or has another process, or what is read is no whole export with a chain that verifies: then nothing
/// is written.
pub fn import(location: &Location, input: impl BufRead + Send + 'static) -> Result<u64, StoreError> {
    let store = Store::open(location)?;
    let counts = store.counts()?;
    if counts.entries > 0 || counts.open_deliveries > 0 || counts.errands > 0 {
        return Err(StoreError::Illegal("the store has something in it already; import into an empty one".into()));
    }
    let mut import = Import::new(input);
    let lines = store.writer()?.call(move |backend| {
        backend.transact(&mut || import.next())?;
        Ok(import.lines)
    })?;
    fold(&store)?;
    Ok(lines)
}

/// Makes the read models of a store anew from its log, while no server uses it. Returns how many entries were read.
///
/// # Errors
/// The store has another process, or what is in the log makes no sense: then nothing is changed.
pub fn rebuild(location: &Location) -> Result<u64, StoreError> {
    fold(&Store::open(location)?)
}

fn fold(store: &Store) -> Result<u64, StoreError> {
    let reader = store.reader.clone();
    store.writer()?.call(move |backend| {
        let mut fold = Fold::new(&reader);
        backend.transact(&mut || fold.next())?;
        Ok(fold.entries)
    })
}

/// Keeps all of a store in a file, while a server may use it: a copy of the file of SQLite, an [`export`] of PostgreSQL. A file
/// that is there already is replaced once the new one is whole.
///
/// # Errors
/// One of both cannot be read or written.
pub fn backup(location: &Location, file: &Path) -> Result<(), StoreError> {
    let path = match location {
        Location::Sqlite(path) => {
            Store::open_reading(location)?;
            return sqlite::copy(path, file);
        }
        Location::Postgres(_) => file,
    };
    let unwritten = |error| StoreError::Unavailable(format!("{} cannot be written: {error}", path.display()));
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let mut out = BufWriter::new(File::create(&part).map_err(unwritten)?);
    export(location, &mut out)?;
    let out = out.into_inner().map_err(|error| unwritten(error.into_error()))?;
    out.sync_all().map_err(unwritten)?;
    std::fs::rename(&part, path).map_err(unwritten)
}

/// Fills an empty store with what [`backup`] kept, whichever backend it was of.
///
/// # Errors
/// The store is not empty, has another process, or the file is no backup.
pub fn restore(location: &Location, file: &Path) -> Result<(), StoreError> {
    let unread = |error| StoreError::Unavailable(format!("{} cannot be read: {error}", file.display()));
    let mut input = BufReader::new(File::open(file).map_err(unread)?);
    if !input.fill_buf().map_err(unread)?.starts_with(SQLITE) {
        return import(location, input).map(drop);
    }
    match location {
        Location::Sqlite(path) if !path.exists() => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(unread)?;
            }
            sqlite::copy(file, path)?;
            Store::open(location).map(drop)
        }
        _ => move_over(file, location),
    }
}

/// From a file of SQLite into another store, through an export that is never written down.
fn move_over(file: &Path, location: &Location) -> Result<(), StoreError> {
    let broken = |error: std::io::Error| StoreError::Unavailable(format!("no pipe can be made: {error}"));
    let (reads, writes) = std::io::pipe().map_err(broken)?;
    let source = Location::Sqlite(file.into());
    let exporting = std::thread::spawn(move || export(&source, &mut BufWriter::new(writes)));
    let imported = import(location, BufReader::new(reads));
    let exported = exporting.join().unwrap_or_else(|_| Err(StoreError::Damaged("the backup cannot be read".into())));
    // Whoever reads no further breaks the pipe of whoever writes: the reader's sentence is the one to tell.
    imported.and(exported).map(drop)
}
