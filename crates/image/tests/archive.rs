//! Tar archives as no honest program writes them.

use std::io::Write;

/// Builds a tar entry by entry.
#[derive(Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Tar {
        Tar::default()
    }
    pub fn file(self, path: &str, text: &str) -> Tar {
        self.entry(b'0', path, 0o644, "", text.as_bytes())
    }
    pub fn dir(self, path: &str) -> Tar {
        self.entry(b'5', path, 0o755, "", b"")
    }
    pub fn symlink(self, path: &str, target: &str) -> Tar {
        self.entry(b'2', path, 0o777, target, b"")
    }
    pub fn hard_link(self, path: &str, target: &str) -> Tar {
        self.entry(b'1', path, 0o644, target, b"")
    }
    pub fn xattr(self, name: &str, value: &str) -> Tar {
        self.pax(&format!("SCHILY.xattr.{name}"), value)
    }
    /// An extended header for the next entry.
    pub fn pax(self, key: &str, value: &str) -> Tar {
        let bare = key.len() + value.len() + 3;
        let mut length = bare + 1;
        while length != bare + length.to_string().len() {
            length = bare + length.to_string().len();
        }
        let record = format!("{length} {key}={value}\n");
        self.entry(b'x', "pax", 0o644, "", record.as_bytes())
    }
    pub fn entry(self, kind: u8, path: &str, mode: u32, link: &str, content: &[u8]) -> Tar {
        let size = content.len() as u64;
        self.owned(kind, path, mode, (0, 0), link, size, content)
    }
    /// One whose header says `size`, whatever comes.
    #[allow(clippy::too_many_arguments)]
    pub fn owned(
        mut self,
        kind: u8,
        path: &str,
        mode: u32,
        owner: (u32, u32),
        link: &str,
        size: u64,
        content: &[u8],
    ) -> Tar {
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, &path.as_bytes()[..path.len().min(100)]);
        put(100, format!("{mode:07o}\0").as_bytes());
        put(108, format!("{:07o}\0{:07o}\0", owner.0, owner.1).as_bytes());
        put(124, format!("{size:011o}\0").as_bytes());
        put(136, format!("{:011o}\0", 1_500_000_000).as_bytes());
        put(148, b"        ");
        put(156, &[kind]);
        put(157, &link.as_bytes()[..link.len().min(100)]);
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
    pub fn raw(mut self, bytes: &[u8]) -> Tar {
        self.0.extend_from_slice(bytes);
        self
    }
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("packed");
    encoder.finish().expect("packed")
}
