//! The reference pages that the code writes about itself.

use crate::repository::{Problem, Repository};

/// Path and content of every generated file.
fn files() -> [(&'static str, String); 4] {
    [
        ("docs/reference/language.md", lang::reference()),
        ("docs/reference/errors.md", errors()),
        ("docs/reference/paceline.schema.json", lang::json_schema()),
        ("docs/reference/attacks.md", attacks::document::page()),
    ]
}

/// Every generated file is what the code would write now.
pub fn check(repository: &Repository) -> Vec<Problem> {
    files()
        .into_iter()
        .filter(|(path, content)| repository.text(path) != Some(&with_line_end(content)))
        .map(|(path, _)| Problem::of(path, "is not what the code says: run `cargo run -p xtask -- generate`"))
        .collect()
}

/// Writes every generated file.
///
/// # Errors
/// A sentence that names the file that cannot be written.
pub fn write(repository: &Repository) -> Result<(), String> {
    for (path, content) in files() {
        let path = repository.root.join(path);
        let folder = path.parent().unwrap_or(&repository.root);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, with_line_end(&content)))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Exactly one line end at the end.
fn with_line_end(content: &str) -> String {
    format!("{}\n", content.trim_end())
}

fn errors() -> String {
    let mut page = String::from(
        "# Diagnostics\n\nEvery diagnostic of `pace check` has a code that stays. `pace explain CODE` prints the same text.\n",
    );
    for (code, _) in lang::codes() {
        // Each text begins with its code and title as a heading of its own.
        let text = lang::explain(code).unwrap_or_default().trim();
        page.push_str(&format!("\n#{text}\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_on_the_page_of_diagnostics() {
        let page = errors();
        for (code, _) in lang::codes() {
            assert!(page.contains(&format!("\n## {code}: ")), "{code}");
        }
    }
}
