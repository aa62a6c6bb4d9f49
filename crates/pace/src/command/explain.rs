//! `pace explain`: a diagnostic at length; `pace schema`: the JSON Schema of pipeline files.

use crate::cli::{ExplainArgs, Output};
use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;

/// Explains one code, or lists all.
pub fn run(args: &ExplainArgs, screen: &mut Screen) -> Ended {
    match &args.code {
        None => {
            let list: String = lang::codes().map(|(code, title)| line(screen, code, title)).collect();
            screen.text(&list);
        }
        Some(code) => {
            let text = lang::explain(code).ok_or_else(|| unknown(code))?;
            match screen.output {
                Output::Json => {
                    let object = serde_json::json!({ "code": code.to_ascii_uppercase(), "text": text });
                    screen.text(&object.to_string());
                }
                _ => screen.text(text),
            }
        }
    }
    Ok(Exit::Green)
}

fn line(screen: &Screen, code: &str, title: &str) -> String {
    match screen.output {
        Output::Json => format!("{}\n", serde_json::json!({ "code": code, "title": title })),
        _ => format!("{code}  {title}\n"),
    }
}

/// A code is remembered by its number: `104` and `p104` mean P0104.
fn unknown(code: &str) -> Failure {
    let digits: String = code.chars().filter(char::is_ascii_digit).collect();
    let near = lang::codes().find(|(known, _)| !digits.is_empty() && *known == format!("P{digits:0>4}"));
    let help = match near {
        Some((near, title)) => format!("`pace explain {near}`: {title}"),
        None => "`pace explain` lists all of them".into(),
    };
    Failure::usage(format!("there is no diagnostic `{code}`")).help(help)
}

/// Prints the schema.
pub fn schema(screen: &mut Screen) -> Ended {
    screen.text(&lang::json_schema());
    Ok(Exit::Green)
}
