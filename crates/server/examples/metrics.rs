//! Prints `docs/server/metrics.md`.
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

fn main() {
    print!("{}", server::observe::table::page());
}
