//! Which lines of a log look like the reason of a failure.

/// Bytes of a line that are looked at: what a line is about stands at its beginning.
const LOOK_BYTES: usize = 400;

/// Words that stand alone: `error: x`, `error[E0308]`, `2 failed`, but not `error_handler` or `0 failed`.
const WORDS: [&str; 9] = ["error", "errors", "failed", "fail", "failure", "failures", "fatal", "panicked", "traceback"];

/// Ends of words that name an exception: `AssertionError: x`, `java.lang.NullPointerException: y`.
const ENDINGS: [&str; 3] = ["Error:", "Exception:", "Exception in thread"];

/// How tools mark a failing line: TAP, pytest, Go, mocha and node.
const BEGINNINGS: [&str; 5] = ["not ok ", "E   ", "--- FAIL", "✗", "✖"];

/// Whether the line, without colours, looks like the reason of a failure.
pub fn looks_like_error(line: &str) -> bool {
    let line = crate::ansi::head(line, LOOK_BYTES);
    let trimmed = line.trim_start();
    BEGINNINGS.iter().any(|beginning| trimmed.starts_with(beginning))
        || ENDINGS.iter().any(|ending| line.contains(ending))
        || says_error(&line.to_ascii_lowercase())
}

fn says_error(line: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let mut before = "";
    for word in line.split(|c: char| !is_word(c)).filter(|word| !word.is_empty()) {
        if WORDS.contains(&word) && !matches!(before, "0" | "no" | "without") {
            return true;
        }
        before = word;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::looks_like_error;

    #[test]
    fn the_lines_that_matter_are_found() {
        for line in [
            "error[E0308]: mismatched types",
            "  Error: cannot find module 'x'",
            "FAIL\tgithub.com/x/y\t0.01s",
            "--- FAIL: TestX (0.00s)",
            "thread 'main' panicked at src/main.rs:2:5:",
            "Traceback (most recent call last):",
            "AssertionError: 1 != 2",
            "E   assert 1 == 2",
            "test result: FAILED. 3 passed; 1 failed",
            "make: *** [Makefile:2: all] Error 1",
            "not ok 3 - adds",
            "fatal: not a git repository",
        ] {
            assert!(looks_like_error(line), "{line}");
        }
    }

    #[test]
    fn good_news_is_not_an_error() {
        for line in [
            "test result: ok. 5 passed; 0 failed; 0 ignored",
            "no errors found",
            "Compiling error-chain v0.12.4",
            "test error_handler::works ... ok",
            "0 errors, 0 failures",
            "finished without error",
        ] {
            assert!(!looks_like_error(line), "{line}");
        }
    }
}
