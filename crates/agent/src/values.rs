//! The `key=value` lines that a step leaves in the file that `$PACE_VALUES` names.

use std::collections::BTreeMap;
use std::path::Path;

use model::Cause;
use model::limits::{VALUES_BYTES_MAX, VALUES_MAX};

use crate::mask::Masker;
use crate::regular::read_regular;

/// Reads and checks the file; no file is no values. A later line wins over an earlier one with its key.
pub(crate) fn read(path: &Path, masker: &Masker) -> Result<BTreeMap<String, String>, Cause> {
    let bytes = match read_regular(path, VALUES_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(broken(&error.to_string())),
    };
    let text = String::from_utf8(bytes).map_err(|_| broken("it is not UTF-8"))?;
    // Masked as a whole: a complaint quotes the beginning of a line, which may be the beginning of a secret.
    parse(&masker.text(&text))
}

fn broken(why: &str) -> Cause {
    Cause::Broken(format!("the file of $PACE_VALUES cannot be read: {why}"))
}

fn parse(text: &str) -> Result<BTreeMap<String, String>, Cause> {
    let mut values = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .filter(|(key, _)| is_key(key))
            .ok_or_else(|| Cause::Broken(malformed(number + 1, line)))?;
        values.insert(key.to_string(), value.to_string());
        if values.len() > VALUES_MAX {
            return Err(broken(&format!("a step hands on at most {VALUES_MAX} values")));
        }
    }
    Ok(values)
}

fn is_key(key: &str) -> bool {
    let mut chars = key.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

fn malformed(number: usize, line: &str) -> String {
    let shown: String = line.chars().take(60).collect();
    format!(
        "line {number} of the file of $PACE_VALUES is `{shown}`; a line is `key=value`, the key of letters, digits, \
         `_` and `-`, beginning with a letter or `_`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_line_wins_and_a_value_may_hold_anything_but_a_line_end() {
        let values = parse("a=1\n\nb-c=x=y z\na=2\n_d=\n").expect("values");
        let shown: Vec<_> = values.iter().map(|(k, v)| format!("{k}:{v}")).collect();
        assert_eq!(shown, ["_d:", "a:2", "b-c:x=y z"]);
    }

    #[test]
    fn a_malformed_line_is_named() {
        for (text, line) in [("a=1\nnonsense", 2), ("1a=2", 1), ("=x", 1), ("a b=c", 1)] {
            let Err(Cause::Broken(why)) = parse(text) else { panic!("{text} was taken") };
            assert!(why.starts_with(&format!("line {line} ")), "{why}");
        }
    }

    #[test]
    fn a_quoted_line_and_a_key_show_no_part_of_a_secret() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("values");
        let secret = "c2VjcmV0".repeat(8);
        let masker = Masker::new([secret.as_str()]);
        for text in [format!("KEY=-----BEGIN KEY-----\n{secret}\n"), format!("{secret}=1\n")] {
            std::fs::write(&path, text).expect("values");
            let Err(Cause::Broken(why)) = read(&path, &masker) else { panic!("taken") };
            assert!(why.contains("***") && !why.contains("c2Vj"), "{why}");
        }
        std::fs::write(&path, format!("a=<{secret}>\n")).expect("values");
        assert_eq!(read(&path, &masker).expect("values")["a"], "<***>");
    }

    #[test]
    fn too_many_values_are_refused() {
        let text: String = (0..=VALUES_MAX).map(|n| format!("k{n}=v\n")).collect();
        assert!(matches!(parse(&text), Err(Cause::Broken(why)) if why.contains("at most 256")));
    }
}
