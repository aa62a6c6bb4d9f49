//! Names and paths that clients send: everything that could lead out of the workspace is refused.

/// Bytes of a path below the workspace: the kernel allows 4,096, and the folder before it takes some.
pub(crate) const PATH_BYTES_MAX: usize = 3_000;
/// Bytes of one name: the kernel's own bound.
const NAME_BYTES_MAX: usize = 255;

/// Why this cannot be the name of a file, if so.
pub(crate) fn name_problem(name: &str) -> Option<String> {
    let why = match name {
        "" => "is empty",
        "." | ".." => "leads out of its directory",
        _ if name.contains('/') => "has a slash",
        _ if name.contains('\0') => "has a NUL byte",
        _ if name.len() > NAME_BYTES_MAX => "has more than 255 bytes",
        _ => return None,
    };
    let shown: String = name.chars().take(100).collect();
    Some(format!("the name {shown:?} {why}"))
}

/// Why this cannot be a path below the workspace, if so. The empty path is the workspace itself.
pub(crate) fn path_problem(path: &str) -> Option<String> {
    if path.len() > PATH_BYTES_MAX {
        return Some(format!("a path has {} bytes, and at most {PATH_BYTES_MAX} are allowed", path.len()));
    }
    if path.is_empty() {
        return None;
    }
    let problem = path.split('/').find_map(name_problem)?;
    Some(format!("{path:?} is no path below the workspace: {problem}"))
}

/// A path below a directory that may be the workspace itself.
pub(crate) fn join(folder: &str, name: &str) -> String {
    match (folder, name) {
        ("", name) => name.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, name) => format!("{folder}/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_of_the_workspace_is_no_path() {
        for path in ["/etc", "..", "a/../b", "a//b", "a/", "./a", "a\0b", &"a/".repeat(2000), &"a".repeat(256)] {
            assert!(path_problem(path).is_some(), "{path}");
        }
        for path in ["", "a", "a/b.c/d", "...", "a b", &"a".repeat(255)] {
            assert_eq!(path_problem(path), None, "{path}");
        }
    }
}
