//! Making room.

use std::time::Duration;

use crate::Error;
use crate::disk::Disk;

impl Disk {
    /// Sees to it that so many bytes more have room.
    pub(crate) fn make_room(&self, bytes: u64) -> Result<(), Error> {
        let bytes_max = self.options.bytes_max;
        if self.disk_bytes() + bytes <= bytes_max { Ok(()) } else { Err(Error::Full { bytes_max }) }
    }

    /// Makes room before somebody waits for it.
    pub(crate) fn make_headroom(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Drops what nobody asked for in so long.
    pub(crate) fn drop_aged(&self, _age_max: Option<Duration>) -> Result<(), Error> {
        Ok(())
    }
}
