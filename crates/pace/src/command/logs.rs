//! `pace logs`: what steps printed, from the files that their runs left.

mod far;

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use view::json::{Wire, WireEvent};

use crate::cli::{Cli, LogsArgs};
use crate::exit::{Ended, Exit, Failure};
use crate::folders::Folders;
use crate::history::{History, PastRun, cannot};
use crate::project::Project;
use crate::screen::Screen;

/// How often a log that still grows is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Text printed at once.
const CHUNK_BYTES: usize = 64 << 10;

/// An attempt's log.
struct Log {
    step: String,
    attempt: u16,
    path: PathBuf,
    read: u64,
}

impl Log {
    /// That of a service beside the attempt, if there was one.
    fn of_service(&self, service: &str) -> Option<Log> {
        let path = self.path.with_extension(format!("{service}.log"));
        path.is_file().then(|| Log { step: format!("{}/{service}", self.step), attempt: self.attempt, path, read: 0 })
    }

    /// Ids of the services that left a log beside the attempt's.
    fn services(&self) -> Vec<String> {
        let prefix = self.path.file_stem().map(|stem| format!("{}.", stem.to_string_lossy())).unwrap_or_default();
        let entries =
            self.path.parent().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| Some(name.strip_prefix(&prefix)?.strip_suffix(".log")?.to_string())).collect()
    }
}

fn no_service(service: &str, events: &[Wire], step: Option<&str>, past: &PastRun) -> Failure {
    let mut known: Vec<String> = wanted(events, step, past).iter().flat_map(Log::services).collect();
    known.sort();
    known.dedup();
    let failure = Failure::usage(format!("run {} has no log of a service `{service}`", past.number));
    match known.is_empty() {
        true => failure.help("no step that was asked for had services"),
        false => failure.help(format!("there are: {}", known.join(", "))),
    }
}

/// Prints the logs of the attempts that are meant, in the order they started; with `--follow` until the run ends.
pub fn run(cli: &Cli, args: &LogsArgs, screen: &mut Screen) -> Ended {
    if far::is_meant(args) {
        return far::run(args, screen);
    }
    let (number, step) = target(&args.target)?;
    let history = History::open(&Folders::find()?, &Project::find_all(cli)?[0])?;
    let past = history.find(number)?;
    let mut logs: Vec<Log> = Vec::new();
    loop {
        let live = past.is_live();
        let events = past.events()?;
        if let Some(step) = step {
            known(&events, step, &past)?;
        }
        let mut meant = wanted(&events, step, &past);
        if let Some(service) = &args.service {
            meant = meant.iter().filter_map(|log| log.of_service(service)).collect();
            if meant.is_empty() && !(args.follow && live) {
                return Err(no_service(service, &events, step, &past));
            }
        }
        for log in meant {
            if !logs.iter().any(|known| known.path == log.path) {
                logs.push(log);
            }
        }
        let several = logs.len() > 1 || (args.follow && step.is_none());
        for log in &mut logs {
            print(log, several, args.timestamps, screen)?;
        }
        if !args.follow || !live {
            return Ok(Exit::Green);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn known(events: &[Wire], step: &str, past: &PastRun) -> Result<(), Failure> {
    let planned = events.iter().any(|event| match &event.event {
        WireEvent::RunRequested(run) => run.steps.iter().any(|planned| planned.step == step || planned.id == step),
        WireEvent::StepReady(ready) => ready.step == step,
        WireEvent::StepEnded(ended) => ended.step == step,
        _ => false,
    });
    match planned {
        true => Ok(()),
        false => {
            Err(Failure::usage(format!("run {} has no step `{step}`", past.number)).help("`pace plan` lists the steps"))
        }
    }
}

fn wanted(events: &[Wire], step: Option<&str>, past: &PastRun) -> Vec<Log> {
    let is_meant = |name: &str| {
        step.is_none_or(|step| name == step || name.strip_prefix(step).is_some_and(|rest| rest.starts_with('[')))
    };
    let started = events.iter().filter_map(|event| match &event.event {
        WireEvent::AttemptStarted(started) if is_meant(&started.step) => Some(started),
        _ => None,
    });
    started
        .map(|started| Log {
            step: started.step.clone(),
            attempt: started.attempt,
            path: past.log_folder().join(format!("{}-{}.log", started.node, started.attempt)),
            read: 0,
        })
        .collect()
}

/// Prints what is new in a log: whole lines of `<milliseconds> <text>`.
fn print(log: &mut Log, several: bool, timestamps: bool, screen: &mut Screen) -> Result<(), Failure> {
    let Ok(mut file) = File::open(&log.path) else { return Ok(()) };
    file.seek(SeekFrom::Start(log.read)).map_err(|error| cannot("read", &log.path, &error))?;
    let mut reader = BufReader::new(file);
    let mut out = String::new();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(|error| cannot("read", &log.path, &error))? > 0 {
        if line.last() != Some(&b'\n') {
            break;
        }
        log.read += line.len() as u64;
        let text = String::from_utf8_lossy(&line);
        let (millis, text) = text.trim_end_matches('\n').split_once(' ').unwrap_or(("0", ""));
        if timestamps {
            out.push_str(&super::runs::local_time(millis.parse::<u64>().unwrap_or(0).saturating_mul(1000)));
            out.push(' ');
        }
        if several {
            let attempt = if log.attempt > 1 { format!(" (attempt {})", log.attempt) } else { String::new() };
            out.push_str(&format!("{}{attempt} | ", log.step));
        }
        out.push_str(&view::ansi::clean(text, screen.style()));
        out.push('\n');
        if out.len() > CHUNK_BYTES {
            screen.text(&std::mem::take(&mut out));
        }
        line.clear();
    }
    screen.text(&out);
    Ok(())
}

fn target(words: &[String]) -> Result<(Option<u64>, Option<&str>), Failure> {
    let number = |word: &str| word.trim_start_matches('#').parse::<u64>();
    match words {
        [] => Ok((None, None)),
        [one] => Ok(number(one).map_or((None, Some(one.as_str())), |number| (Some(number), None))),
        [run, step] => Ok((
            Some(number(run).map_err(|_| Failure::usage(format!("`{run}` is not the number of a run")))?),
            Some(step),
        )),
        _ => Err(Failure::usage("pace logs wants at most a run's number and a step")),
    }
}
