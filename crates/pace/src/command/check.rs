//! `pace check`: all diagnostics of one or more pipeline files.

use crate::cli::{CheckArgs, Cli, Output};
use crate::exit::{Ended, Exit};
use crate::project::{self, Project};
use crate::screen::Screen;

/// Checks every file; exit 3 if one has an error.
pub fn run(cli: &Cli, args: &CheckArgs, screen: &mut Screen) -> Ended {
    let here = project::start(cli)?;
    let projects = match args.files.is_empty() {
        true => Project::find_all(cli)?,
        false => args.files.iter().map(|file| Project::of_file(&here.join(file))).collect::<Result<_, _>>()?,
    };
    let mut errors = 0;
    let mut reports = Vec::new();
    for project in &projects {
        let (pipeline, report) = project.load()?;
        errors += report.errors();
        if args.sarif {
            reports.push(report);
            continue;
        }
        project::show(&report, screen);
        if let (Some(pipeline), false, false) = (pipeline, report.has_errors(), screen.output == Output::Json) {
            let steps = pipeline.steps.len();
            screen.text(&format!("{}: ok, {steps} step{}", project.file, if steps == 1 { "" } else { "s" }));
        }
    }
    if args.sarif {
        screen.text(&lang::sarif(&reports));
    }
    Ok(if errors == 0 { Exit::Green } else { Exit::Invalid })
}
