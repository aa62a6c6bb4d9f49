//! Which machines an image is for.

use std::fmt;

use crate::ImageError;
use crate::document::WirePlatform;

/// An operating system and a processor, in the words of images: `linux/amd64`, `linux/arm/v7`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `v7` of `arm`; nothing where there is only one.
    pub variant: Option<String>,
}

impl Platform {
    /// The machine that this runs on.
    pub fn here() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.map(str::to_owned) }
    }
    /// Reads `os/architecture` or `os/architecture/variant`.
    ///
    /// # Errors
    /// It has another form.
    pub fn parse(text: &str) -> Result<Platform, ImageError> {
        let parts: Vec<&str> = text.split('/').collect();
        let word =
            |part: &&str| !part.is_empty() && part.len() <= 32 && part.bytes().all(|b| b.is_ascii_alphanumeric());
        match parts.as_slice() {
            [os, architecture, variant @ ..] if variant.len() < 2 && parts.iter().all(word) => {
                Ok(Platform::new(os, architecture, variant.first().copied()))
            }
            _ => Err(ImageError::Reference {
                text: text.chars().take(200).collect(),
                why: "a platform is written like `linux/amd64` or `linux/arm/v7`",
            }),
        }
    }
    pub(crate) fn from_wire(wire: &WirePlatform) -> Platform {
        Platform::new(&wire.os, &wire.architecture, wire.variant.as_deref())
    }
    pub(crate) fn to_wire(&self) -> WirePlatform {
        let Platform { os, architecture, variant } = self.clone();
        WirePlatform { architecture, os, variant }
    }
    /// How well `offered` suits this machine; 0 is not at all.
    pub(crate) fn fit(&self, offered: &Platform) -> u32 {
        if self.os != offered.os || self.architecture != offered.architecture {
            return 0;
        }
        match (&self.variant, &offered.variant) {
            (ours, theirs) if ours == theirs => 1000,
            (_, None) => 1,
            // A machine runs what is for older ones: v7 runs v6, never v8.
            (Some(ours), Some(theirs)) => match (level(ours), level(theirs)) {
                (Some(ours), Some(theirs)) if theirs <= ours => 1 + theirs.min(900),
                _ => 0,
            },
            // Without knowing our own level, only the lowest one is safe.
            (None, Some(theirs)) => u32::from(theirs == "v1") * 2,
        }
    }
    /// `arm64/v8` and `amd64/v1` are the plain ones: there is no lower.
    fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let variant = match (architecture, variant) {
            ("arm64", Some("v8")) | ("amd64", Some("v1")) | (_, Some("")) => None,
            (_, variant) => variant,
        };
        Platform { os: os.into(), architecture: architecture.into(), variant: variant.map(str::to_owned) }
    }
}

fn level(variant: &str) -> Option<u32> {
    variant.strip_prefix('v')?.parse().ok()
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}
