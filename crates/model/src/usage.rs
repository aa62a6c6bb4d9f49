//! What an attempt used of its machine and of the network, and which of its limits it hit.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::Bytes;

/// What an attempt used. Zero where the host cannot count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// CPU time, user and system, of all its processes.
    pub cpu: Duration,
    /// How long it was held back by its `cpu` limit.
    pub throttled: Duration,
    /// Peak memory in bytes: of all its processes with what they wrote to memory-backed folders, or, on a host without
    /// control groups, of the largest process.
    pub memory_peak: u64,
    /// Most processes and threads at one time.
    pub pids_peak: u32,
    /// Bytes read from disks.
    pub io_read: u64,
    /// Bytes written to disks.
    pub io_written: u64,
}

/// A limit that an attempt went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum LimitHit {
    /// `resources.memory`; `None` when the machine itself had no more.
    Memory(Option<Bytes>),
    /// `resources.pids`.
    Pids(u32),
    /// `resources.file_size`.
    FileSize(Bytes),
    /// `resources.disk`.
    Disk(Bytes),
    /// The disk of the host would have become full: so much is left.
    HostDisk(Bytes),
    /// `resources.output`.
    Output(Bytes),
}

impl LimitHit {
    /// Its name in the language, and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            LimitHit::Memory(_) => "memory",
            LimitHit::Pids(_) => "pids",
            LimitHit::FileSize(_) => "file_size",
            LimitHit::Disk(_) => "disk",
            LimitHit::HostDisk(_) => "host_disk",
            LimitHit::Output(_) => "output",
        }
    }
}

impl fmt::Display for LimitHit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitHit::Memory(Some(limit)) => write!(f, "out of memory: it needed more than its limit of {limit}"),
            LimitHit::Memory(None) => f.write_str("out of memory: the machine had no more to give"),
            LimitHit::Pids(limit) => write!(f, "too many processes: it started more than its limit of {limit}"),
            LimitHit::FileSize(limit) => write!(f, "a file became larger than its limit of {limit}"),
            LimitHit::Disk(limit) => write!(f, "it wrote more to disk than its limit of {limit}"),
            LimitHit::HostDisk(left) => write!(f, "stopped before the host's disk was full: {left} are left"),
            LimitHit::Output(limit) => write!(f, "it printed more than its limit of {limit}"),
        }
    }
}

/// What an attempt reached over its network, and what it was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Traffic {
    /// Hosts that it reached, in order of name.
    pub hosts: Vec<HostTraffic>,
    /// What it was refused, in order of first try; at most [`crate::limits::REFUSALS_MAX`].
    pub refused: Vec<Refusal>,
    /// Refusals that found no place there.
    pub refused_more: u64,
}

/// Bytes from and to one host.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostTraffic {
    /// Its name, or its address where only that is known.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Connections.
    pub connections: u64,
    /// Bytes that the step received.
    pub received: u64,
    /// Bytes that the step sent.
    pub sent: u64,
}

/// Something that a step tried to reach and was not let.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refusal {
    /// `host:port`, or a name alone when it did not get further than asking for its address.
    pub what: String,
    /// Why not, as a clause: `not in the list`.
    pub why: String,
    /// How often.
    pub count: u64,
}
