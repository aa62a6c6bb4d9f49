//! Reads ustar, GNU and pax archives as a stream. Sizes of headers are bounded before anything is read.

use std::io::{self, Read};

use super::{BLOCK, EXTENDED_BYTES_MAX, PATH_BYTES_MAX};

/// One entry; its content is read from the reader before the next one.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// As written, perhaps with `/` at its ends.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Bytes of content that follow.
    pub size: u64,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Seconds since 1970-01-01 UTC, and nanoseconds below a second.
    pub mtime: (i64, u32),
    /// Where a link points.
    pub link: Vec<u8>,
    /// Extended attributes: name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    File,
    HardLink,
    Symlink,
    Dir,
    /// Devices and pipes.
    Special,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error("{0}")]
    Malformed(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A stream of entries.
pub(crate) struct Reader<R> {
    inner: R,
    /// Content of the current entry that was not read yet, and what fills its last block.
    left: u64,
    padding: u64,
}

/// What extended headers say about the next entry.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> Reader<R> {
    pub fn new(inner: R) -> Reader<R> {
        Reader { inner, left: 0, padding: 0 }
    }

    /// The next entry; what was left of the one before is skipped. `None` at the end.
    pub fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extended = Extended::default();
        // Each entry has at most one header of each kind; more of them only keep us busy.
        for _ in 0..8 {
            self.skip_rest()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = number(&header[124..136])?;
            match header[156] {
                b'x' => self.pax(size, &mut extended)?,
                b'g' => drop(self.extended(size)?),
                b'L' => extended.path = Some(self.long_name(size)?),
                b'K' => extended.link = Some(self.long_name(size)?),
                kind => return self.entry(&header, kind, size, extended).map(Some),
            }
        }
        Err(TarError::Malformed("an entry has more than eight headers"))
    }

    /// What the entries are read from, to look at.
    pub fn position(&self) -> &R {
        &self.inner
    }

    /// What the entries are read from.
    pub fn into_inner(self) -> R {
        self.inner
    }

    fn entry(&mut self, header: &[u8; BLOCK], kind: u8, size: u64, extended: Extended) -> Result<Entry, TarError> {
        let mut path = extended.path.unwrap_or_else(|| short_path(header));
        if path.len() > PATH_BYTES_MAX {
            return Err(TarError::Malformed("a path is longer than 4096 bytes"));
        }
        let kind = match kind {
            // Before there was a type for directories, they were files whose name ends with a slash.
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Dir,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' | b'4' | b'6' => Kind::Special,
            b'5' => Kind::Dir,
            b'S' => return Err(TarError::Malformed("sparse files are not read; make the archive without them")),
            _ => return Err(TarError::Malformed("an entry is of a kind that tar does not know")),
        };
        // Only files have content, whatever the header says; all readers that images are made for agree on that.
        let size = if kind == Kind::File { extended.size.unwrap_or(size) } else { 0 };
        let link = extended.link.unwrap_or_else(|| until_nul(&header[157..257]));
        if link.len() > PATH_BYTES_MAX {
            return Err(TarError::Malformed("a link points to a path that is longer than 4096 bytes"));
        }
        if path.contains(&0) || link.contains(&0) {
            return Err(TarError::Malformed("a path has a NUL in it"));
        }
        if path.is_empty() {
            path.push(b'.');
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(Entry {
            path,
            kind,
            size,
            mode: number(&header[100..108])? as u32,
            uid: extended.uid.map_or_else(|| number(&header[108..116]), Ok)?,
            gid: extended.gid.map_or_else(|| number(&header[116..124]), Ok)?,
            mtime: extended.mtime.map_or_else(|| signed(&header[136..148]).map(|seconds| (seconds, 0)), Ok)?,
            link,
            xattrs: extended.xattrs,
        })
    }

    /// The next block that is a header; two empty blocks, or the end of the stream, end the archive.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0u8; BLOCK];
        for _ in 0..2 {
            if !self.block(&mut block)? {
                return Ok(None);
            }
            if block.iter().any(|byte| *byte != 0) {
                check_sum(&block)?;
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(TarError::Malformed("it ends within a header")),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let rest = self.left.saturating_add(std::mem::take(&mut self.padding));
        self.left = 0;
        if rest > 0 && io::copy(&mut (&mut self.inner).take(rest), &mut io::sink())? < rest {
            return Err(TarError::Malformed("it ends within an entry"));
        }
        Ok(())
    }

    fn extended(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > EXTENDED_BYTES_MAX {
            return Err(TarError::Malformed("an extended header is larger than 1 MiB"));
        }
        let mut bytes = vec![0; size as usize];
        self.inner.read_exact(&mut bytes).map_err(ends_early)?;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        Ok(until_nul(&self.extended(size)?))
    }

    /// Records are `LENGTH KEY=VALUE\n`, the length counting itself.
    fn pax(&mut self, size: u64, into: &mut Extended) -> Result<(), TarError> {
        const WRONG: TarError = TarError::Malformed("an extended header is not made of records");
        let bytes = self.extended(size)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && rest[0] != 0 {
            let space = rest.iter().take(20).position(|byte| *byte == b' ').ok_or(WRONG)?;
            let length = decimal(&rest[..space]).and_then(|length| usize::try_from(length).ok()).ok_or(WRONG)?;
            let record = rest.get(space + 1..length).ok_or(WRONG)?;
            rest = &rest[length..];
            let record = record.strip_suffix(b"\n").ok_or(WRONG)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(WRONG)?;
            into.take_in(&record[..equals], &record[equals + 1..])?;
        }
        Ok(())
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.inner.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within an entry"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

impl Extended {
    fn take_in(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        const WRONG: TarError = TarError::Malformed("a number in an extended header is none");
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value).ok_or(WRONG)?),
            b"uid" => self.uid = Some(decimal(value).ok_or(WRONG)?),
            b"gid" => self.gid = Some(decimal(value).ok_or(WRONG)?),
            b"mtime" => self.mtime = Some(time(value).ok_or(WRONG)?),
            key if key.starts_with(b"GNU.sparse") => {
                return Err(TarError::Malformed("sparse files are not read; make the archive without them"));
            }
            key => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn ends_early(error: io::Error) -> TarError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => TarError::Malformed("it ends within a header"),
        _ => error.into(),
    }
}

fn until_nul(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

fn short_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[..100]);
    let prefix = if &header[257..263] == b"ustar\0" { until_nul(&header[345..500]) } else { Vec::new() };
    if prefix.is_empty() { name } else { [prefix, name].join(&b'/') }
}

fn check_sum(header: &[u8; BLOCK]) -> Result<(), TarError> {
    let plain = |range: std::ops::Range<usize>| header[range].iter().map(|byte| i64::from(*byte)).sum::<i64>();
    let odd = |range: std::ops::Range<usize>| header[range].iter().map(|byte| i64::from(*byte as i8)).sum::<i64>();
    let spaces = 8 * i64::from(b' ');
    let said = number(&header[148..156])? as i64;
    // Some old archivers summed signed bytes.
    if said == plain(0..148) + spaces + plain(156..512) || said == odd(0..148) + spaces + odd(156..512) {
        return Ok(());
    }
    Err(TarError::Malformed("the check sum of a header is wrong"))
}

/// Octal digits, or base 256 behind a byte with the highest bit.
fn number(field: &[u8]) -> Result<u64, TarError> {
    u64::try_from(signed(field)?).map_err(|_| TarError::Malformed("a number in a header is negative"))
}

fn signed(field: &[u8]) -> Result<i64, TarError> {
    const WRONG: TarError = TarError::Malformed("a number in a header is none");
    if field[0] & 0x80 != 0 {
        let start = i128::from(if field[0] & 0x40 != 0 { -1i8 } else { 0 });
        let first = start << 6 | i128::from(field[0] & 0x3f);
        let all = field[1..].iter().try_fold(first, |all, byte| all.checked_mul(256)?.checked_add(i128::from(*byte)));
        return all.and_then(|all| i64::try_from(all).ok()).ok_or(WRONG);
    }
    let digits = field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| !matches!(**byte, 0 | b' '));
    digits.copied().try_fold(0i64, |all, digit| match digit {
        b'0'..=b'7' => all.checked_mul(8).and_then(|all| all.checked_add(i64::from(digit - b'0'))).ok_or(WRONG),
        _ => Err(WRONG),
    })
}

fn decimal(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// Seconds with perhaps a fraction: `-1.25`, `1700000000.123456789`.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok()? } else { return None };
    match (whole.starts_with('-'), nanos) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
        _ => Some((seconds, nanos)),
    }
}
