//! `pace store` and `pace audit`: what is done to the store of a server as a whole, and whether its log is what it was.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use store::{Location, Store, StoreError};

use crate::cli::{Cli, Output};
use crate::exit::{Ended, Exit, Failure};
use crate::folders::Folders;
use crate::screen::Screen;

/// Which store: without any of these, that of `pace server` without any of these.
#[derive(Debug, Args, Default)]
pub struct WhichArgs {
    /// The data folder of the server [default: `server` in the state's folder]
    #[arg(long, value_name = "FOLDER", env = "PACE_DATA")]
    pub data: Option<PathBuf>,
    /// The database of the server: postgres://… or sqlite:PATH
    #[arg(long, value_name = "URL", env = "PACE_DATABASE", hide_env_values = true)]
    pub database: Option<String>,
}

/// `pace store`.
#[derive(Debug, Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    what: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Write all of the store as lines of JSON, while a server may use it
    Export {
        /// Where to [default: standard output]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Fill an empty store with an export, of SQLite or PostgreSQL alike; the chain is checked as it comes
    Import {
        /// Where from [default: standard input]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Make lists, records and artifacts anew from the log, while no server uses the store
    Rebuild {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Keep all of the store in a file, while a server may use it
    Backup {
        /// The file; it is replaced once the new one is whole
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Fill an empty store with a backup, of SQLite or PostgreSQL alike
    Restore {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        which: WhichArgs,
    },
}

/// `pace audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    what: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Read the whole log and find an entry that was edited, removed or put elsewhere
    Verify {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Show who changed what, newest first
    Log {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        max: u32,
        /// Only what is older than this number
        #[arg(long, value_name = "NUMBER")]
        before: Option<u64>,
        #[command(flatten)]
        which: WhichArgs,
    },
}

/// One of the commands of `pace store`.
pub fn run(cli: &Cli, args: &StoreArgs, screen: &mut Screen) -> Ended {
    let json = cli.output == Some(Output::Json);
    match &args.what {
        StoreCommand::Export { file, which } => {
            let location = location(which)?;
            let Some(file) = file else {
                store::export(&location, &mut BufWriter::new(std::io::stdout().lock())).map_err(failed)?;
                return Ok(Exit::Green);
            };
            let mut out = BufWriter::new(File::create(file).map_err(|error| on(file, &error))?);
            let lines = store::export(&location, &mut out).map_err(failed)?;
            out.flush().and_then(|()| out.get_ref().sync_all()).map_err(|error| on(file, &error))?;
            done(screen, json, "exported", &[("lines", lines.to_string())]);
        }
        StoreCommand::Import { file, which } => {
            let input: Box<dyn BufRead + Send> = match file {
                Some(file) => Box::new(BufReader::new(File::open(file).map_err(|error| on(file, &error))?)),
                None => Box::new(BufReader::new(std::io::stdin())),
            };
            let lines = store::import(&location(which)?, input).map_err(failed)?;
            done(screen, json, "imported", &[("lines", lines.to_string())]);
        }
        StoreCommand::Rebuild { which } => {
            let entries = store::rebuild(&location(which)?).map_err(failed)?;
            done(screen, json, "rebuilt", &[("entries", entries.to_string())]);
        }
        StoreCommand::Backup { file, which } => {
            store::backup(&location(which)?, file).map_err(failed)?;
            let bytes = file.metadata().map_err(|error| on(file, &error))?.len();
            done(screen, json, "backed up", &[("bytes", bytes.to_string())]);
        }
        StoreCommand::Restore { file, which } => {
            let location = location(which)?;
            store::restore(&location, file).map_err(failed)?;
            let entries = Store::open_reading(&location).and_then(|store| store.last_sequence()).map_err(failed)?;
            done(screen, json, "restored", &[("entries", entries.to_string())]);
        }
    }
    Ok(Exit::Green)
}

/// One of the commands of `pace audit`.
pub fn audit(cli: &Cli, args: &AuditArgs, screen: &mut Screen) -> Ended {
    let json = cli.output == Some(Output::Json);
    match &args.what {
        AuditCommand::Verify { which } => verify(&location(which)?, json, screen),
        AuditCommand::Log { max, before, which } => {
            let store = Store::open_reading(&location(which)?).map_err(failed)?;
            for act in store.audit(*before, *max as usize).map_err(failed)? {
                screen.text(&act_line(&act, json));
            }
            Ok(Exit::Green)
        }
    }
}

fn verify(location: &Location, json: bool, screen: &mut Screen) -> Ended {
    let store = Store::open_reading(location).map_err(failed)?;
    let verified = store.verify(&mut |_| {}).map_err(failed)?;
    if json {
        let broken = verified.broken.as_ref().map(|(entry, why)| serde_json::json!({ "entry": entry, "why": why }));
        let line = serde_json::json!({ "entries": verified.entries, "head": verified.head, "broken": broken });
        screen.text(&line.to_string());
    }
    match verified.broken {
        None if json => Ok(Exit::Green),
        None => {
            screen.text(&format!("{} entries, each as it was written; head {}", verified.entries, verified.head));
            Ok(Exit::Green)
        }
        Some((entry, why)) => Err(Failure::infrastructure(format!("the log is not what it was: entry {entry}: {why}"))
            .help("compare with a backup; entries before it are as they were written")),
    }
}

fn act_line(act: &store::Sequenced<store::Audited>, json: bool) -> String {
    let store::Audited { at, by, act: what, kind, key } = &act.value;
    let time = i64::try_from(at.0).ok().and_then(|at| jiff::Timestamp::from_microsecond(at).ok()).unwrap_or_default();
    if json {
        let number = act.sequence;
        let line = serde_json::json!({
            "number": number, "at": time.to_string(), "by": by, "act": what, "kind": kind, "key": key,
        });
        return line.to_string();
    }
    let about = if kind.is_empty() { key.clone() } else { format!("{kind} {key}") };
    format!("{:>8}  {time:.0}  {by}  {what}  {about}", act.sequence)
}

fn done(screen: &mut Screen, json: bool, what: &str, counts: &[(&str, String)]) {
    if json {
        let counts: serde_json::Map<_, _> = counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), count.parse::<u64>().unwrap_or_default().into()))
            .collect();
        screen.text(&serde_json::json!({ what: counts }).to_string());
    } else {
        let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        screen.text(&format!("{what}: {}", counts.join(", ")));
    }
}

fn location(which: &WhichArgs) -> Result<Location, Failure> {
    if let Some(url) = &which.database {
        return super::server::database(url);
    }
    let data = match &which.data {
        Some(data) => data.clone(),
        None => Folders::find()?.state.join("server"),
    };
    Ok(Location::Sqlite(data.join("paceline.db")))
}

fn failed(error: StoreError) -> Failure {
    match error {
        StoreError::Illegal(_) => Failure::refused(error),
        _ => Failure::infrastructure(error),
    }
}

fn on(file: &Path, error: &std::io::Error) -> Failure {
    Failure::infrastructure(format!("{}: {error}", file.display()))
}
