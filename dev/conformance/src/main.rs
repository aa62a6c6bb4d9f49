//! `conformance`: runs the checks against a server and says what came of them.

use std::process::ExitCode;

use clap::Parser;
use conformance::{Level, Outcome, Server, Target};

/// Checks whether a server keeps to the Bazel Remote Execution API. Ends with 1 if a MUST failed.
#[derive(Debug, Parser)]
struct Arguments {
    /// The server: grpc://HOST:PORT
    #[arg(long)]
    target: String,
    /// The name of the instance
    #[arg(long, default_value = "")]
    instance: String,
    /// The bearer token
    #[arg(long)]
    token: Option<String>,
    /// Only checks whose `group/promise` contains this; may be given more than once
    #[arg(long)]
    only: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted = |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|part| name.contains(part));
    let checks: Vec<_> = conformance::all().into_iter().filter(|check| wanted(&check.name())).collect();
    let target = Target { address: arguments.target, instance: arguments.instance, token: arguments.token };
    let server = match Server::connect(&target).await {
        Ok(server) => server,
        Err(why) => {
            eprintln!("conformance: {why}");
            return ExitCode::from(2);
        }
    };
    let results = conformance::run(&server, &checks).await;
    if arguments.json {
        println!("{}", conformance::json(&results));
    } else {
        print!("{}", conformance::table(&results));
    }
    let broken =
        |result: &conformance::Result| result.check.level == Level::Must && matches!(result.outcome, Outcome::Fail(_));
    ExitCode::from(u8::from(results.iter().any(broken)))
}
