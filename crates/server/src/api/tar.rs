//! The few bytes that make a tar archive (POSIX ustar, with pax headers for long names) of files that are sent one after the
//! other.

const BLOCK: usize = 512;
/// Length of a name that stands in a header itself.
const NAME_BYTES_MAX: usize = 100;
/// The largest size that eleven octal digits hold.
const OCTAL_MAX: u64 = (1 << 33) - 1;

/// What stands before a file's content.
pub(super) fn header(path: &str, size: u64, executable: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut records = String::new();
    if path.len() > NAME_BYTES_MAX {
        records += &record("path", path);
    }
    if size > OCTAL_MAX {
        records += &record("size", &size.to_string());
    }
    if !records.is_empty() {
        bytes.extend(block("pax", records.len() as u64, 0o644, b'x'));
        bytes.extend(records.as_bytes());
        bytes.extend(padding(records.len() as u64));
    }
    bytes.extend(block(path, size.min(OCTAL_MAX), if executable { 0o755 } else { 0o644 }, b'0'));
    bytes
}

/// What fills a file's last block.
pub(super) fn padding(size: u64) -> Vec<u8> {
    vec![0; (BLOCK - (size % BLOCK as u64) as usize) % BLOCK]
}

/// What stands at the end.
pub(super) fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

fn block(name: &str, size: u64, mode: u32, kind: u8) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &name.as_bytes()[..name.len().min(NAME_BYTES_MAX)]);
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn tar_itself_reads_what_was_written() {
        let long = format!("dir/{}/file", "n".repeat(150));
        let mut archive = Vec::new();
        for (path, content, executable) in
            [("run.sh", &b"#!/bin/sh\n"[..], true), (&long, b"long", false), ("empty", b"", false)]
        {
            archive.extend(header(path, content.len() as u64, executable));
            archive.extend(content);
            archive.extend(padding(content.len() as u64));
        }
        archive.extend(end());
        let folder = tempfile::tempdir().expect("folder");
        let mut tar = Command::new("tar")
            .args(["-x", "-C"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .expect("tar is there");
        tar.stdin.take().expect("its input").write_all(&archive).expect("written");
        assert!(tar.wait().expect("it ends").success());
        assert_eq!(std::fs::read(folder.path().join(&long)).expect("there"), b"long");
        let script = folder.path().join("run.sh");
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&script).expect("there").permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::read(folder.path().join("empty")).expect("there"), b"");
    }
}
