//! Quantities with their units: time, sizes, places in a text.

use alloc::string::String;
use core::fmt;
use core::time::Duration;

/// Microseconds since 1970-01-01 UTC. Comes from outside as an argument; nothing in the core reads a clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time `by` later; stays at the end of time instead of overflowing.
    pub fn after(self, by: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// A size in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        for (name, size) in UNITS {
            if self.0 >= size {
                let tenths = u128::from(self.0) * 10 / u128::from(size);
                return match tenths % 10 {
                    0 => write!(f, "{} {name}", tenths / 10),
                    tenth => write!(f, "{}.{tenth} {name}", tenths / 10),
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// A half-open range of bytes in the text of one file of the pipeline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Span {
    /// Which file: an index into the list of files that `lang` read, 0 for the pipeline file itself.
    pub file: u16,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// Reads a duration as people write it: `250ms`, `10s`, `5m`, `1h30m`, `2d`. Units in falling order, each once.
///
/// # Errors
/// A sentence that says what a duration looks like.
pub fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const SHAPE: &str = "a duration is written like `250ms`, `10s`, `5m`, `1h30m` or `2d`";
    const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("ms", 1), ("m", 60_000), ("s", 1000)];
    let mut rest = text;
    let mut total_ms = 0u64;
    let mut smallest = u64::MAX;
    if rest.is_empty() {
        return Err(SHAPE);
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| SHAPE)?;
        rest = &rest[digits..];
        let (unit, scale) = UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit)).ok_or(SHAPE)?;
        if scale >= smallest {
            return Err(SHAPE);
        }
        smallest = scale;
        rest = &rest[unit.len()..];
        total_ms = number
            .checked_mul(scale)
            .and_then(|ms| total_ms.checked_add(ms))
            .filter(|ms| *ms <= crate::limits::DURATION_MAX.as_millis() as u64)
            .ok_or("a duration is at most 365 days")?;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration the way a person reads it: `0.4s`, `12s`, `3m04s`, `2h05m`, `350ms` below a tenth of a second.
pub fn show_duration(time: Duration) -> String {
    let ms = time.as_millis();
    let secs = time.as_secs();
    match secs {
        0 if ms < 100 => alloc::format!("{ms}ms"),
        0..10 => alloc::format!("{}.{}s", secs, ms % 1000 / 100),
        10..60 => alloc::format!("{secs}s"),
        60..3600 => alloc::format!("{}m{:02}s", secs / 60, secs % 60),
        _ => alloc::format!("{}h{:02}m", secs / 3600, secs % 3600 / 60),
    }
}

/// Reads a size: `512MiB`, `4GiB`, `1GB`, `100kB`, `4096` (bytes).
///
/// # Errors
/// A sentence that says what a size looks like.
pub fn parse_bytes(text: &str) -> Result<Bytes, &'static str> {
    const SHAPE: &str = "a size is written like `512MiB`, `4GiB`, `1GB` or `100kB`";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| SHAPE)?;
    let scale: u64 = match &text[digits..] {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(SHAPE),
    };
    number.checked_mul(scale).map(Bytes).ok_or("a size is at most 16 EiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2d"), Ok(Duration::from_secs(172_800)));
        for bad in ["", "5", "m", "5x", "1m1h", "1s1s", "-5s", "1.5s", "99999999999d", "400d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_show_in_one_short_word() {
        let shown = |ms| show_duration(Duration::from_millis(ms));
        assert_eq!(
            [shown(7), shown(420), shown(12_000), shown(184_000), shown(7_500_000)],
            ["7ms", "0.4s", "12s", "3m04s", "2h05m"]
        );
    }

    #[test]
    fn sizes_read_and_show() {
        assert_eq!(parse_bytes("4GiB"), Ok(Bytes(4 << 30)));
        assert_eq!(parse_bytes("1GB"), Ok(Bytes(1_000_000_000)));
        assert!(parse_bytes("4 GiB").is_err() && parse_bytes("GiB").is_err() && parse_bytes("99999999TiB").is_err());
        assert_eq!(alloc::format!("{} {} {}", Bytes(512), Bytes(1536), Bytes(4 << 30)), "512 B 1.5 KiB 4 GiB");
    }
}
