//! `cargo run -p xtask -- tidy | generate | picture | vm`: holds the repository to what its documents say.

mod crates;
mod docs;
mod generated;
mod picture;
mod repository;
mod rules;
mod text;
mod vm;

use std::process::ExitCode;

use repository::{Problem, Repository};

const USAGE: &str = "usage: cargo run -p xtask -- COMMAND
  tidy       say what in the repository does not keep its rules
  generate   write docs/reference from the code
  picture    make an SVG of the terminal's text on standard input
  vm [TEST]  run the sandbox's tests in a virtual machine with control groups version 2";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let done = match command.as_str() {
        "tidy" => Repository::open().map(|repository| tidy(&repository)),
        "generate" => Repository::open().and_then(|repository| generated::write(&repository)).map(|()| Vec::new()),
        "vm" => Repository::open().and_then(|repository| machine(&repository)),
        "picture" => draw().map(|()| Vec::new()),
        _ => Err(USAGE.to_string()),
    };
    match done {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            problems.iter().for_each(|problem| println!("{problem}"));
            println!("{} problems", problems.len());
            ExitCode::FAILURE
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// The tests in a virtual machine.
fn machine(repository: &Repository) -> Result<Vec<Problem>, String> {
    let tests: Vec<String> = std::env::args().skip(2).collect();
    match vm::run(repository, &tests)? {
        true => Ok(Vec::new()),
        false => Err("tests failed in the virtual machine".into()),
    }
}

/// Standard input as a picture on standard output.
fn draw() -> Result<(), String> {
    let text =
        std::io::read_to_string(std::io::stdin()).map_err(|error| format!("cannot read standard input: {error}"))?;
    print!("{}", picture::svg(&text));
    Ok(())
}

/// Everything that does not keep the rules, in the order of the checks.
fn tidy(repository: &Repository) -> Vec<Problem> {
    let checks: [fn(&Repository) -> Vec<Problem>; 5] =
        [rules::check, crates::check, text::check, generated::check, docs::check];
    checks.iter().flat_map(|check| check(repository)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_keeps_its_rules() {
        let repository = Repository::open().expect("the workspace is readable");
        let problems: Vec<String> = tidy(&repository).iter().map(Problem::to_string).collect();
        assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
    }
}
