//! `pace explain`: a diagnostic at length; `pace schema`: the JSON Schema of pipeline files.

use crate::cli::ExplainArgs;
use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;

/// Explains one code, or lists all.
pub fn run(args: &ExplainArgs, screen: &mut Screen) -> Ended {
    match &args.code {
        None => {
            let list: String = lang::codes().map(|(code, title)| format!("{code}  {title}\n")).collect();
            screen.text(&list);
        }
        Some(code) => {
            let text = lang::explain(&code.to_ascii_uppercase()).ok_or_else(|| {
                Failure::usage(format!("there is no diagnostic `{code}`")).help("`pace explain` lists all of them")
            })?;
            screen.text(text);
        }
    }
    Ok(Exit::Green)
}

/// Prints the schema.
pub fn schema(screen: &mut Screen) -> Ended {
    screen.text(&lang::json_schema());
    Ok(Exit::Green)
}
