//! One file a command.

pub mod agent;
pub mod agents;
pub mod artifacts;
pub mod cache;
pub mod check;
pub mod completions;
pub mod doctor;
pub mod explain;
pub mod image;
pub mod init;
pub mod login;
pub mod logs;
pub mod oidc;
pub mod people;
pub mod plan;
pub mod projects;
pub mod run;
pub mod runs;
pub mod secrets;
pub mod serve;
pub mod server;
pub mod shell;
pub mod steer;
pub mod trigger;

pub mod store;
pub mod why;

use serde_json::Value;

use crate::cli::Output;
use crate::screen::Screen;
use crate::team::text;

/// Things of a server's list that are shown at most.
const LIST_MAX: usize = 10_000;

/// A list of a server: one JSON object a line, or columns under their names.
fn rows(items: &[Value], columns: &[&str], screen: &mut Screen) {
    if screen.output == Output::Json {
        return items.iter().for_each(|item| screen.text(&item.to_string()));
    }
    let cells: Vec<Vec<String>> =
        items.iter().map(|item| columns.iter().map(|name| text(item, name)).collect()).collect();
    let head: Vec<String> = columns.iter().map(|name| name.to_uppercase()).collect();
    let width = |at: usize| {
        let all = cells.iter().chain([&head]).map(|row| row[at].chars().count());
        all.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    for row in [&head].into_iter().chain(&cells) {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        screen.text(padded.collect::<Vec<_>>().join("  ").trim_end());
    }
}
