//! The kernel's archive of first files: `cpio` in its `newc` form.

/// Files in the order in which they are unpacked.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    count: u32,
}

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const END: &str = "TRAILER!!!";

impl Archive {
    /// A folder; those above it come first.
    pub fn folder(&mut self, path: &str) -> &mut Archive {
        self.entry(path, FOLDER | 0o755, b"")
    }

    /// A file.
    pub fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) -> &mut Archive {
        self.entry(path, FILE | mode, &content)
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, to: &str) -> &mut Archive {
        self.entry(path, LINK | 0o777, to.as_bytes())
    }

    /// As it is written.
    pub fn bytes(mut self) -> Vec<u8> {
        self.entry(END, 0, b"");
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> &mut Archive {
        self.count += 1;
        let (length, name) = (content.len() as u32, path.len() as u32 + 1);
        // Inode, mode, owner, group, links, time, length, device of the file, device it is, length of the name, check sum.
        let numbers = [self.count, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name, 0];
        self.bytes.extend(b"070701");
        numbers.iter().for_each(|number| self.bytes.extend(format!("{number:08x}").bytes()));
        self.bytes.extend(path.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_contents_are_padded_to_four_bytes() {
        let mut archive = Archive::default();
        archive.folder("a").file("a/b", 0o644, b"12345".into());
        let bytes = archive.bytes();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let starts: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(starts, [0, 112, 236], "header of 110, names of 2 and 4, content of 5");
    }
}
