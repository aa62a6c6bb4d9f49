//! Container images without a daemon: fetch, verify, unpack, lock, build, push.
//!
//! Nothing that a registry, an archive or a layer says is believed before its digest was compared, and nothing that a
//! layer holds can end anywhere but below the layer's own folder.
#![forbid(unsafe_code)]

mod build;
mod bundle;
mod config;
mod credentials;
mod decode;
mod document;
mod error;
mod images;
mod layers;
mod local;
mod lock;
mod platform;
mod reference;
mod registry;
mod sum;
mod tar;
mod through;
mod unpack;
mod user;

pub use build::{Add, Recipe};
pub use bundle::Bundle;
pub use config::ImageConfig;
pub use credentials::Credentials;
pub use document::{LAYERS_MAX, MANIFEST_BYTES_MAX, Manifest};
pub use error::{ImageError, Refusal};
pub use images::{Image, Images, Options, Progress, Resolved, Watch};
pub use layers::{Keep, Kept, Usage};
pub use lock::{LOCK_FILE, Lock};
pub use platform::Platform;
pub use reference::{Name, Place, Reference};
pub use sum::Sum;
pub use unpack::{Bounds, Owners, Unpacked, unpack};
pub use user::{User, find as find_user};
