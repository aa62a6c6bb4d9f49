//! The agent's side of a server: it dials, takes leases, executes them with `agent`, and tells results and logs until they are
//! acknowledged.
#![forbid(unsafe_code)]
