//! `csvsum --column NAME [FILE]`: count, minimum, maximum, mean and median of one column.

mod column;
mod summary;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::process::ExitCode;

use lexopt::prelude::*;

const USAGE: &str = "usage: csvsum --column NAME [FILE]";

struct Request {
    column: String,
    file: Option<String>,
}

fn main() -> ExitCode {
    match request().and_then(|request| answer(&request)) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("csvsum: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn request() -> Result<Request, String> {
    let (mut column, mut file) = (None, None);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next().map_err(|error| error.to_string())? {
        match argument {
            Long("column") | Short('c') => {
                let value = arguments.value().map_err(|error| error.to_string())?;
                column = Some(value.string().map_err(|error| error.to_string())?);
            }
            Value(path) if file.is_none() => file = Some(path.string().map_err(|error| error.to_string())?),
            _ => return Err(USAGE.to_string()),
        }
    }
    Ok(Request { column: column.ok_or(USAGE)?, file })
}

fn answer(request: &Request) -> Result<String, String> {
    let input: Box<dyn Read> = match &request.file {
        Some(path) => Box::new(File::open(path).map_err(|error| format!("cannot read {path}: {error}"))?),
        None => Box::new(io::stdin()),
    };
    let numbers = column::read(BufReader::new(input), &request.column)?;
    let summary = summary::Summary::of(numbers).ok_or_else(|| format!("column {} is empty", request.column))?;
    Ok(summary.to_string())
}
