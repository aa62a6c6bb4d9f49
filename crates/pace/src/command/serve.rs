//! `pace cache serve`: a shared cache until Ctrl-C.

use std::path::Path;
use std::time::Duration;

use model::units::parse_bytes;

use crate::cli::ServeArgs;
use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;
use crate::signals::Stops;

/// Serves until a signal comes.
pub fn run(args: &ServeArgs, cache_root: &Path, screen: &mut Screen) -> Ended {
    let bytes_max =
        parse_bytes(&args.max_size).map_err(|why| Failure::usage(format!("--max-size {}: {why}", args.max_size)))?.0;
    let config = cache::Config {
        listen: args.listen,
        data: args.data.clone().unwrap_or_else(|| cache_root.join("served")),
        store: blobs::Options { bytes_max, ..blobs::Options::default() },
    };
    let stops = Stops::listen().map_err(Failure::infrastructure)?;
    let running = cache::serve(&config).map_err(Failure::infrastructure)?;
    screen.text(&format!("serving the cache in {} on {}", config.data.display(), running.address));
    while stops.count() == 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    running.stop(Duration::from_secs(10));
    Ok(Exit::Green)
}
