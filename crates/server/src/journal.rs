//! What a server says of itself: lines on standard error, as text or as JSON.

use tracing::Level;
use tracing_subscriber::fmt;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text {
        /// With colours.
        color: bool,
    },
    /// One object a line.
    Json,
}

/// Begins to write. The first call in a process counts.
pub fn start(format: Format) {
    let lines = fmt().with_writer(std::io::stderr).with_max_level(Level::INFO).with_target(false);
    // Whoever was first stays: tests start several servers in one process.
    let _ = match format {
        Format::Json => tracing::subscriber::set_global_default(lines.json().flatten_event(true).finish()),
        Format::Text { color } => tracing::subscriber::set_global_default(lines.with_ansi(color).finish()),
    };
}
