//! What a step may reach: a gate between its network namespace and the host's network.
//!
//! The step's namespace has nothing but loopback, where every address there is arrives at listeners of ours. They were
//! made inside and are served from outside: for a connection that the [`Policy`] allows, the gate makes one of its own
//! in the host's network and passes the bytes on. So it is the same for root and for ordinary users, no packet of a step
//! is ever routed, and every host, byte and refusal is known by name. Names are answered inside, with addresses that
//! mean something to the gate alone.
#![forbid(unsafe_code)]

mod address;
mod bucket;
mod connection;
mod dial;
mod dns;
mod forward;
mod gate;
mod ledger;
mod lookup;
mod names;
mod netlink;
mod nft;
mod open;
mod policy;
mod proxy;
mod quiet;
mod relay;
mod route;
mod routed;
mod server_name;
mod stop;

pub use gate::{Gate, hosts_file};
pub use model::{Host, HostPort, HostPortError};
pub use open::{NetworkError, open, open_by_port};
pub use policy::{Allow, CONNECTIONS_MAX, Policy};
pub use quiet::Quiet;
pub use routed::{Routed, routed, why_not_routed};
