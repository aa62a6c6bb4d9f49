//! Writing all of a store. What comes in meanwhile is not in it.

use std::io::Write;

use model::Timestamp;

use super::{Content, DeliveryLine, EntryLine, Line, RunLine, VERSION, hex};
use crate::StoreError;
use crate::batch::Errand;
use crate::cell::{Param, Row, int, text};
use crate::read::Reader;

/// Rows that are read at once; of logs a tenth, for each may be 128 KiB.
const PAGE: i64 = 500;

/// Writes all of a store. Returns how many lines that were.
pub(crate) fn export(reader: &Reader, out: &mut dyn Write) -> Result<u64, StoreError> {
    let mut to = To { out, lines: 0 };
    let head = reader.query("SELECT sequence, epoch FROM head", &[])?.into_iter().next();
    let (last, epoch) = head.map_or(Ok((0, 0)), |mut row| Ok((row.int()?, row.int()?)))?;
    to.line(&Line::PacelineStore { version: VERSION, epoch })?;
    entries(reader, last, &mut to)?;
    deliveries(reader, &mut to)?;
    logs(reader, last, &mut to)?;
    errands(reader, &mut to)?;
    let lines = to.lines;
    to.line(&Line::End { lines })?;
    to.out.flush().map_err(|error| unwritten(&error))?;
    Ok(to.lines)
}

struct To<'a> {
    out: &'a mut dyn Write,
    lines: u64,
}

impl To<'_> {
    fn line(&mut self, line: &Line) -> Result<(), StoreError> {
        self.lines += 1;
        let json = serde_json::to_vec(line)
            .map_err(|error| StoreError::Damaged(format!("something in it is no JSON: {error}")))?;
        self.out.write_all(&json).and_then(|()| self.out.write_all(b"\n")).map_err(|error| unwritten(&error))
    }
}

fn entries(reader: &Reader, last: u64, to: &mut To<'_>) -> Result<(), StoreError> {
    let sql =
        "SELECT e.sequence, e.at, e.run, k.run, k.project, k.number, e.run_sequence, e.kind, e.encoding, e.length,
               e.payload, e.hash FROM entries e LEFT JOIN run_keys k ON k.key = e.run
               WHERE e.sequence > ?1 AND e.sequence <= ?2 ORDER BY e.sequence LIMIT ?3";
    let mut after = 0;
    while after < last {
        let page = reader.query(sql, &[Param::Int(int(after)), Param::Int(int(last)), Param::Int(PAGE)])?;
        if page.is_empty() {
            return Err(StoreError::Damaged(format!("entry {} is missing; see pace audit verify", after + 1)));
        }
        for mut row in page {
            let entry = entry_line(&mut row)?;
            after = entry.sequence;
            to.line(&Line::Entry(Box::new(entry)))?;
        }
    }
    Ok(())
}

fn entry_line(row: &mut Row) -> Result<EntryLine, StoreError> {
    let (sequence, at, key) = (row.int()?, row.int()?, row.maybe_int()?);
    let (run, project, number) = (row.maybe_text()?, row.maybe_text()?, row.maybe_int()?);
    let run_sequence = row.int()?;
    let run = key.map(|key| RunLine {
        key,
        run: run.unwrap_or_default(),
        project: project.unwrap_or_default(),
        number: number.unwrap_or_default(),
        sequence: run_sequence,
    });
    let kind = row.text()?;
    let says = Content::of(row.packed()?)?;
    Ok(EntryLine { sequence, at, run, kind, says, hash: hex(&row.hash()?) })
}

fn deliveries(reader: &Reader, to: &mut To<'_>) -> Result<(), StoreError> {
    let sql = "SELECT sequence, id, project, at, source, headers, settled, outcome, encoding, length, body
               FROM deliveries WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
    let mut after = 0;
    loop {
        let page = reader.query(sql, &[Param::Int(int(after)), Param::Int(PAGE)])?;
        if page.is_empty() {
            return Ok(());
        }
        for mut row in page {
            after = row.int()?;
            let (id, project, at, source, headers) = (row.text()?, row.text()?, row.int()?, row.text()?, row.json()?);
            let (settled, outcome) = (row.maybe_int()?, row.maybe_text()?);
            let settled = settled.map(|at| (at, outcome.unwrap_or_default()));
            let body = Content::of(row.packed()?)?;
            to.line(&Line::Delivery(Box::new(DeliveryLine { id, project, at, source, headers, body, settled })))?;
        }
    }
}

fn logs(reader: &Reader, last: u64, to: &mut To<'_>) -> Result<(), StoreError> {
    let sql = "SELECT p.run, k.run, p.node, p.attempt, p.begins, p.encoding, p.length, p.bytes
               FROM pieces p JOIN run_keys k ON k.key = p.run
               WHERE p.run <= ?1 AND (p.run, p.node, p.attempt, p.begins) > (?2, ?3, ?4, ?5)
               ORDER BY p.run, p.node, p.attempt, p.begins LIMIT ?6";
    let mut after = [0, 0, 0, 0];
    loop {
        let [run, node, attempt, begins] = after.map(|part| Param::Int(int(part)));
        let page = reader.query(sql, &[Param::Int(int(last)), run, node, attempt, begins, Param::Int(PAGE / 10)])?;
        if page.is_empty() {
            return Ok(());
        }
        for mut row in page {
            let (key, run) = (row.int()?, row.text()?);
            let (node, attempt, offset) = (row.int()?, row.int()?, row.int()?);
            after = [key, node, attempt, offset];
            let node = u32::try_from(node).unwrap_or(u32::MAX);
            let attempt = u16::try_from(attempt).unwrap_or(u16::MAX);
            to.line(&Line::Log { run, node, attempt, offset, output: Content::of(row.packed()?)? })?;
        }
    }
}

fn errands(reader: &Reader, to: &mut To<'_>) -> Result<(), StoreError> {
    let sql = "SELECT id, kind, due, tries, body FROM errands WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut after = String::new();
    loop {
        let page = reader.query(sql, &[text(&after), Param::Int(PAGE)])?;
        if page.is_empty() {
            return Ok(());
        }
        for mut row in page {
            let (id, kind, due) = (row.text()?, row.text()?, Timestamp(row.int()?));
            let tries = u32::try_from(row.int()?).unwrap_or(u32::MAX);
            after.clone_from(&id);
            to.line(&Line::Errand(Errand { id, kind, due, tries, body: row.json()? }))?;
        }
    }
}

fn unwritten(error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("the export cannot be written: {error}"))
}
