//! Writes ustar, with a pax header in front of an entry only where ustar has no room for what it says.

use std::io::{self, Read, Write};

use super::{BLOCK, Entry, Kind};

/// Writes entries to `inner`. The same entries make the same bytes.
pub(crate) struct Writer<W> {
    inner: W,
}

/// What the eleven octal digits of a size can say.
const OCTAL_SIZE_MAX: u64 = 0o777_7777_7777;
/// What the seven octal digits of an owner can say.
const OCTAL_OWNER_MAX: u64 = 0o777_7777;

impl<W: Write> Writer<W> {
    pub fn new(inner: W) -> Writer<W> {
        Writer { inner }
    }

    /// One entry; exactly `entry.size` bytes are taken from `content`.
    pub fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> io::Result<()> {
        let records = self.records(entry);
        if !records.is_empty() {
            let mut header = Header::new(b'x', b"PaxHeader", records.len() as u64);
            header.owner(0, 0);
            self.inner.write_all(&header.sealed())?;
            self.padded(records.len() as u64, &mut records.as_slice())?;
        }
        let size = if entry.kind == Kind::File { entry.size } else { 0 };
        let kind = match entry.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::Symlink => b'2',
            Kind::Dir => b'5',
            Kind::Special => return Err(io::Error::new(io::ErrorKind::InvalidInput, "devices are not written")),
        };
        let mut header = Header::new(kind, &entry.path, size);
        header.octal(100..107, u64::from(entry.mode));
        header.owner(entry.uid.min(OCTAL_OWNER_MAX), entry.gid.min(OCTAL_OWNER_MAX));
        header.octal(136..147, u64::try_from(entry.mtime.0).unwrap_or(0).min(OCTAL_SIZE_MAX));
        header.text(157..257, &entry.link);
        self.inner.write_all(&header.sealed())?;
        self.padded(size, content)
    }

    /// Ends the archive and gives the stream back.
    pub fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&[0; 2 * BLOCK])?;
        Ok(self.inner)
    }

    fn records(&self, entry: &Entry) -> Vec<u8> {
        let mut records = Vec::new();
        if entry.path.len() > 100 || !entry.path.is_ascii() {
            record(&mut records, b"path", &entry.path);
        }
        if entry.link.len() > 100 || !entry.link.is_ascii() {
            record(&mut records, b"linkpath", &entry.link);
        }
        if entry.size > OCTAL_SIZE_MAX {
            record(&mut records, b"size", entry.size.to_string().as_bytes());
        }
        for (name, owner) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
            if owner > OCTAL_OWNER_MAX {
                record(&mut records, name, owner.to_string().as_bytes());
            }
        }
        for (name, value) in &entry.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        records
    }

    fn padded(&mut self, size: u64, content: &mut dyn Read) -> io::Result<()> {
        if io::copy(&mut content.take(size), &mut self.inner)? != size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        let padding = (size.next_multiple_of(BLOCK as u64) - size) as usize;
        self.inner.write_all(&[0; BLOCK][..padding])
    }
}

/// The length of a record counts its own digits.
fn record(into: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let bare = key.len() + value.len() + 3;
    let mut length = bare + 1;
    while length != bare + length.to_string().len() {
        length = bare + length.to_string().len();
    }
    into.extend_from_slice(format!("{length} ").as_bytes());
    into.extend_from_slice(key);
    into.push(b'=');
    into.extend_from_slice(value);
    into.push(b'\n');
}

struct Header([u8; BLOCK]);

impl Header {
    fn new(kind: u8, path: &[u8], size: u64) -> Header {
        let mut header = Header([0; BLOCK]);
        header.text(0..100, path);
        header.octal(100..107, 0o644);
        header.octal(124..135, size.min(OCTAL_SIZE_MAX));
        header.octal(136..147, 0);
        header.0[156] = kind;
        header.text(257..265, b"ustar\x0000");
        header
    }

    fn owner(&mut self, uid: u64, gid: u64) {
        self.octal(108..115, uid);
        self.octal(116..123, gid);
    }

    fn text(&mut self, field: std::ops::Range<usize>, text: &[u8]) {
        let length = text.len().min(field.len());
        self.0[field][..length].copy_from_slice(&text[..length]);
    }

    fn octal(&mut self, field: std::ops::Range<usize>, number: u64) {
        let digits = format!("{number:0width$o}", width = field.len());
        self.text(field, digits.as_bytes());
    }

    fn sealed(mut self) -> [u8; BLOCK] {
        self.text(148..156, b"        ");
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.text(148..156, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::Reader;

    #[test]
    fn what_is_written_is_read_back() {
        let long = "dir/".repeat(60) + "name";
        let entries = [
            Entry { path: b"dir/".to_vec(), kind: Kind::Dir, mode: 0o755, mtime: (7, 0), ..Entry::default() },
            Entry {
                path: long.clone().into_bytes(),
                size: 5,
                mode: 0o640,
                uid: 1_000_620_000,
                gid: 33,
                xattrs: vec![(b"user.x".to_vec(), b"1\n\x002".to_vec())],
                ..Entry::default()
            },
            Entry {
                path: "ümlaut".into(),
                kind: Kind::Symlink,
                link: long.clone().into_bytes(),
                mode: 0o777,
                ..Entry::default()
            },
        ];
        let mut writer = Writer::new(Vec::new());
        for entry in &entries {
            writer.entry(entry, &mut &b"hello"[..]).expect("write");
        }
        let bytes = writer.finish().expect("finish");
        let mut reader = Reader::new(bytes.as_slice());
        for entry in &entries {
            let read = reader.next().expect("read").expect("entry");
            assert_eq!((&read.path, &read.link, read.kind), (&entry.path, &entry.link, entry.kind));
            assert_eq!((read.mode, read.uid, read.gid, read.mtime), (entry.mode, entry.uid, entry.gid, entry.mtime));
            assert_eq!(read.xattrs, entry.xattrs);
            let mut content = String::new();
            reader.read_to_string(&mut content).expect("content");
            assert_eq!(content, if entry.size > 0 { "hello" } else { "" });
        }
        assert!(reader.next().expect("end").is_none());
    }
}
