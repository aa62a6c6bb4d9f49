//! Real clients of the shared cache: build, delete what is local, build again, and count that nothing was executed.
//!
//! `dev/tools.sh` installs them. Several of them hide a cache that does not work behind a build that does, so no exit code
//! is taken for proof: what an action writes is the time, and a second one would be another.

#[path = "cache_clients/bazel.rs"]
mod bazel;
#[path = "cache_clients/buildstream.rs"]
mod buildstream;
#[path = "cache_clients/casd.rs"]
mod casd;
#[path = "cache_clients/execution.rs"]
mod execution;
#[path = "cache_clients/moon.rs"]
mod moon;
#[path = "cache_clients/pants.rs"]
mod pants;
#[path = "cache_clients/scene.rs"]
mod scene;
