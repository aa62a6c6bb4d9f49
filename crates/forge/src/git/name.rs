//! What git takes for a commit or a name, checked before git sees it: nothing that passes here can be an option.

/// Length of a ref in bytes.
const REF_BYTES_MAX: usize = 512;

/// A full commit id: 40 or 64 hexadecimal digits.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_hex(text)
}

/// The beginning of a commit id, or all of it: from 7 digits on.
pub fn is_abbreviated(text: &str) -> bool {
    (7..=64).contains(&text.len()) && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A full ref, `refs/…`, by the rules of git-check-ref-format(1), and no part of it begins with `-`.
pub fn is_ref_name(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("refs/") else { return false };
    let part = |part: &str| {
        !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with('.') && !part.ends_with(".lock")
    };
    text.len() <= REF_BYTES_MAX
        && rest.contains('/')
        && rest.split('/').all(part)
        && !text.contains("..")
        && !text.contains("@{")
        && !text.chars().any(|c| c.is_control() || " ~^:?*[\\".contains(c))
}

/// Whether a path inside a repository can be asked for: relative, plain, no way out.
pub(super) fn is_path(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 4096
        && !path.chars().any(char::is_control)
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_git_allows() {
        for good in ["refs/heads/main", "refs/heads/a/b-c", "refs/tags/v1.0", "refs/pull/12/head", "refs/heads/ü@x"] {
            assert!(is_ref_name(good), "{good}");
        }
        for bad in [
            "main",
            "refs/heads",
            "refs/heads/",
            "refs/heads/-x",
            "refs/heads//x",
            "refs/heads/a..b",
            "refs/heads/a b",
            "refs/heads/x.lock",
            "refs/heads/.x",
            "refs/heads/x@{1}",
            "refs/heads/x^",
            "refs/heads/x:y",
            "refs/heads/*",
            "--refs/heads/x",
            "refs/heads/x\n",
            "",
        ] {
            assert!(!is_ref_name(bad), "{bad:?}");
        }
        assert!(is_commit(&"a1".repeat(20)) && !is_commit("a1b2c3d") && is_abbreviated("a1b2c3d"));
        assert!(!is_commit(&"g".repeat(40)) && !is_abbreviated("--exec"));
    }

    #[test]
    fn paths_stay_inside() {
        assert!(is_path("a/b c.yaml"));
        for bad in ["", "/a", "a//b", "../a", "a/..", "./a", "a\nb"] {
            assert!(!is_path(bad), "{bad:?}");
        }
    }
}
