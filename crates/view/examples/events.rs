//! Prints `docs/reference/events.md`.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

fn main() {
    print!("{}", view::json::reference());
}
