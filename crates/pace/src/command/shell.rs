//! `pace shell`: the sandbox of a step, to look around in.

use std::os::fd::AsFd;

use agent::Shell;
use model::{OnFailure, RunNumber, Selection};
use view::json::Wire;

use crate::cli::{Cli, ShellArgs, TriggerArgs};
use crate::exit::{Ended, Exit, Failure};
use crate::prepare::Prepared;
use crate::project::Project;
use crate::rehearsal::rehearse;
use crate::relay::Relay;
use crate::screen::Screen;

/// Opens the kept sandbox of a failed attempt as it was, or else the sandbox that the step would get now.
pub fn run(cli: &Cli, args: &ShellArgs, screen: &mut Screen) -> Ended {
    let (number, step) = target(&args.target)?;
    let prepared = Prepared::new(Project::find(cli)?, &TriggerArgs::default(), screen)?;
    let context =
        prepared.context(RunNumber(0), &TriggerArgs::default(), Selection::default(), OnFailure::KeepGoing)?;
    let plan = std::sync::Arc::new(prepared.plan(context)?);
    let (agent, _reports) = prepared.agent(&plan, &args.execute, None)?;
    let kept = match prepared.history.find(number) {
        Ok(past) => past.events()?.iter().find_map(run_of).and_then(|run| agent.open_kept(&run, step).ok()),
        Err(failure) if number.is_some() => return Err(failure),
        Err(_) => None,
    };
    let shell = match kept {
        Some(shell) => shell,
        None => {
            let rehearsal = rehearse(plan.clone(), &prepared, &agent)?;
            let (spec, _) = rehearsal.spec(rehearsal.find(step)?)?;
            agent.open_shell(spec).map_err(|error| {
                Failure::infrastructure(error).help(format!("run what it needs first: pace run '{step}'"))
            })?
        }
    };
    let exit = open(shell, args.command.as_deref(), screen);
    agent.end(&plan.context.run);
    exit
}

fn open(mut shell: Shell, command: Option<&str>, screen: &mut Screen) -> Ended {
    for note in &shell.notes {
        screen.warning(note);
    }
    if let Some(command) = command {
        shell.spec.argv = ["sh", "-c", command].map(Into::into).to_vec();
    }
    let exit = match rustix::termios::isatty(std::io::stdin()) && rustix::termios::isatty(std::io::stdout()) {
        true => on_a_terminal(shell)?,
        false => on_pipes(shell)?,
    };
    match (exit, command) {
        (sandbox::Exit::Code(0), _) | (_, None) => Ok(Exit::Green),
        _ => Ok(Exit::StepFailed),
    }
}

/// With a terminal of its own, so that job control and full-screen programs work.
fn on_a_terminal(mut shell: Shell) -> Result<sandbox::Exit, Failure> {
    let cannot = |error: std::io::Error| Failure::internal(format!("cannot make a terminal for the shell: {error}"));
    let relay = Relay::open().map_err(cannot)?;
    let end = || relay.theirs.try_clone().map(Some).map_err(cannot);
    (shell.spec.stdin, shell.spec.stdout, shell.spec.stderr) = (end()?, end()?, end()?);
    shell.spec.terminal = true;
    let mut child = shell.spec.spawn().map_err(Failure::infrastructure)?;
    relay.run(|| matches!(child.try_wait(), Ok(Some(_)) | Err(_))).map_err(cannot)?;
    wait(&mut child)
}

fn on_pipes(mut shell: Shell) -> Result<sandbox::Exit, Failure> {
    let cannot = |error: std::io::Error| Failure::internal(format!("cannot hand over standard input: {error}"));
    shell.spec.stdin = Some(std::io::stdin().as_fd().try_clone_to_owned().map_err(cannot)?);
    shell.spec.stdout = Some(std::io::stdout().as_fd().try_clone_to_owned().map_err(cannot)?);
    shell.spec.stderr = Some(std::io::stderr().as_fd().try_clone_to_owned().map_err(cannot)?);
    shell.spec.terminal = false;
    let mut child = shell.spec.spawn().map_err(Failure::infrastructure)?;
    wait(&mut child)
}

fn wait(child: &mut sandbox::Child) -> Result<sandbox::Exit, Failure> {
    let (exit, _) = child.wait().map_err(|error| Failure::internal(format!("cannot wait for the shell: {error}")))?;
    Ok(exit)
}

fn target(words: &[String]) -> Result<(Option<u64>, &str), Failure> {
    match words {
        [step] => Ok((None, step)),
        [run, step] => {
            let number = run
                .trim_start_matches('#')
                .parse()
                .map_err(|_| Failure::usage(format!("`{run}` is not the number of a run")))?;
            Ok((Some(number), step))
        }
        _ => Err(Failure::usage("pace shell wants a step, or a run's number and a step")),
    }
}

fn run_of(event: &Wire) -> Option<model::RunId> {
    (!event.run.is_empty()).then(|| model::RunId::from(event.run.as_str()))
}
