//! The documents of an image: index, manifest, config; the shapes on the wire and what we take from them.

use std::collections::BTreeMap;

use model::Digest;
use serde::{Deserialize, Serialize};

use crate::error::malformed;
use crate::{ImageConfig, ImageError, Platform, Sum};

/// A manifest or an index: what registries agree to carry.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// A config.
pub const CONFIG_BYTES_MAX: usize = 4 << 20;
/// Layers of one image: overlays take no more lower directories than some hundred.
pub const LAYERS_MAX: usize = 256;
/// Manifests that one index lists.
pub const INDEX_ENTRIES_MAX: usize = 1024;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What is asked for: all four, the newer ones first.
pub(crate) const ACCEPTED: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];

/// A pointer to a blob or a manifest, as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireDescriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<WirePlatform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WirePlatform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireIndex {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: Option<String>,
    pub manifests: Vec<WireDescriptor>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireManifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: Option<String>,
    pub config: WireDescriptor,
    pub layers: Vec<WireDescriptor>,
}

/// The type that a manifest or an index is sent with: the one it names, when it is one of the four.
pub(crate) fn media_type(bytes: &[u8], document: &Document) -> &'static str {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        #[serde(default)]
        media_type: String,
    }
    let named = serde_json::from_slice::<Probe>(bytes).map(|probe| probe.media_type).unwrap_or_default();
    let fallback = if matches!(document, Document::Index(_)) { OCI_INDEX } else { OCI_MANIFEST };
    ACCEPTED.into_iter().find(|known| *known == named).unwrap_or(fallback)
}

/// Which of the two a document is.
pub(crate) enum Document {
    Index(WireIndex),
    Manifest(Manifest),
}

/// A manifest that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The config's blob.
    pub config: Digest,
    /// The layers' blobs as they are stored, mostly compressed; the lowest first.
    pub layers: Vec<Digest>,
}

impl WireDescriptor {
    pub(crate) fn new(media_type: &str, digest: &Digest) -> WireDescriptor {
        let sum = Sum::from(*digest).to_string();
        WireDescriptor {
            media_type: media_type.into(),
            digest: sum,
            size: digest.size,
            platform: None,
            annotations: None,
        }
    }
    /// Its digest, if it is one that can be checked.
    pub(crate) fn digest(&self, what: &str) -> Result<Digest, ImageError> {
        let sum = Sum::parse(&self.digest)
            .ok_or_else(|| malformed(what, format!("`{}` is not a SHA-256 digest", printable(&self.digest))))?;
        Ok(sum.sized(self.size))
    }
}

/// Reads a manifest or an index; what it is shows in what it holds, because media types are left out or wrong often.
pub(crate) fn read(bytes: &[u8], what: &str) -> Result<Document, ImageError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        schema_version: u32,
        #[serde(default)]
        manifests: Option<serde::de::IgnoredAny>,
    }
    let wrong = |error: serde_json::Error| malformed(what, error.to_string());
    let probe: Probe = serde_json::from_slice(bytes).map_err(wrong)?;
    if probe.schema_version != 2 {
        let why = format!("it has schema version {}, and only 2 is read", probe.schema_version);
        return Err(malformed(what, why));
    }
    if probe.manifests.is_some() {
        let index: WireIndex = serde_json::from_slice(bytes).map_err(wrong)?;
        if index.manifests.len() > INDEX_ENTRIES_MAX {
            return Err(ImageError::TooLarge { what: what.into(), bound: format!("{INDEX_ENTRIES_MAX} manifests") });
        }
        return Ok(Document::Index(index));
    }
    let manifest: WireManifest = serde_json::from_slice(bytes).map_err(wrong)?;
    if manifest.layers.len() > LAYERS_MAX {
        return Err(ImageError::TooLarge { what: what.into(), bound: format!("{LAYERS_MAX} layers") });
    }
    let layers = manifest.layers.iter().map(|layer| layer.digest(what)).collect::<Result<_, _>>()?;
    Ok(Document::Manifest(Manifest { config: manifest.config.digest(what)?, layers }))
}

/// The entry of an index that is for `platform`: the best match, the first one of equals.
pub(crate) fn choose<'a>(
    index: &'a WireIndex,
    platform: &Platform,
    what: &str,
) -> Result<&'a WireDescriptor, ImageError> {
    let fits = |entry: &&WireDescriptor| match &entry.platform {
        Some(offered) => platform.fit(&Platform::from_wire(offered)),
        // An index of one that says nothing is the image itself.
        None if index.manifests.len() == 1 => 1,
        None => 0,
    };
    let best = index.manifests.iter().rev().max_by_key(fits).filter(|entry| fits(entry) > 0);
    best.ok_or_else(|| {
        let offered: Vec<String> = index
            .manifests
            .iter()
            .filter_map(|entry| entry.platform.as_ref().map(|p| Platform::from_wire(p).to_string()))
            .filter(|name| name != "unknown/unknown")
            .take(32)
            .collect();
        let offered = if offered.is_empty() { "no platforms".into() } else { printable(&offered.join(", ")) };
        ImageError::NoPlatform { image: what.into(), wanted: platform.to_string(), offered }
    })
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct WireConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(default)]
    pub config: Option<WireRuntime>,
    pub rootfs: WireRootfs,
    #[serde(default)]
    pub history: Option<Vec<WireHistory>>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct WireRuntime {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct WireRootfs {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub diff_ids: Vec<String>,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct WireHistory {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub empty_layer: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The config and the sums of its layers as they are unpacked, the lowest first: one for each of `layers`.
pub(crate) fn read_config(bytes: &[u8], layers: usize) -> Result<(ImageConfig, Vec<Sum>), ImageError> {
    const WHAT: &str = "the image's config";
    let wire: WireConfig = serde_json::from_slice(bytes).map_err(|error| malformed(WHAT, error.to_string()))?;
    let ids: Option<Vec<Sum>> = wire.rootfs.diff_ids.iter().map(|id| Sum::parse(id)).collect();
    let ids = ids.ok_or_else(|| malformed(WHAT, "one of its `diff_ids` is not a SHA-256 digest"))?;
    if ids.len() != layers {
        return Err(malformed(WHAT, format!("it names {} layers, the manifest {layers}", ids.len())));
    }
    Ok((ImageConfig::from_wire(wire)?, ids))
}

/// A stranger's text for an error message: cut, without control characters.
pub(crate) fn printable(text: &str) -> String {
    let clean: String = text.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(200).is_some() { clean + "…" } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[(&str, &str, Option<&str>)]) -> WireIndex {
        let manifests = platforms.iter().map(|(os, architecture, variant)| WireDescriptor {
            platform: Some(WirePlatform {
                architecture: (*architecture).into(),
                os: (*os).into(),
                variant: variant.map(str::to_owned),
            }),
            ..WireDescriptor::new(OCI_MANIFEST, &Sum::of(format!("{os}{architecture}{variant:?}").as_bytes()).sized(1))
        });
        WireIndex { schema_version: 2, media_type: None, manifests: manifests.collect() }
    }

    fn chosen(index: &WireIndex, platform: &str) -> Result<String, ImageError> {
        let platform = Platform::parse(platform).expect("platform");
        choose(index, &platform, "x")
            .map(|entry| Platform::from_wire(entry.platform.as_ref().expect("set")).to_string())
    }

    #[test]
    fn an_index_gives_the_manifest_of_this_machine() {
        let list = index(&[
            ("unknown", "unknown", None),
            ("linux", "arm", Some("v6")),
            ("linux", "arm", Some("v7")),
            ("linux", "arm64", Some("v8")),
            ("linux", "amd64", None),
            ("windows", "amd64", None),
        ]);
        assert_eq!(chosen(&list, "linux/amd64").expect("amd64"), "linux/amd64");
        assert_eq!(chosen(&list, "linux/arm64").expect("arm64"), "linux/arm64");
        assert_eq!(chosen(&list, "linux/arm/v7").expect("v7"), "linux/arm/v7");
        assert_eq!(chosen(&list, "linux/arm/v6").expect("v6"), "linux/arm/v6");
        let error = chosen(&list, "linux/s390x").expect_err("not there").to_string();
        assert_eq!(
            error,
            "x has nothing for linux/s390x; it has linux/arm/v6, linux/arm/v7, linux/arm64, linux/amd64, windows/amd64"
        );
    }

    #[test]
    fn documents_that_are_none_are_refused() {
        let sum = Sum::of(b"x");
        let layers = format!("[{}]", vec![format!(r#"{{"digest":"{sum}","size":1}}"#); LAYERS_MAX + 1].join(","));
        let entries =
            format!("[{}]", vec![format!(r#"{{"digest":"{sum}","size":1}}"#); INDEX_ENTRIES_MAX + 1].join(","));
        let bad = [
            "".to_string(),
            "[]".into(),
            "{}".into(),
            r#"{"schemaVersion":1}"#.into(),
            r#"{"schemaVersion":2}"#.into(),
            r#"{"schemaVersion":2,"config":{"digest":"md5:1","size":1},"layers":[]}"#.into(),
            format!(r#"{{"schemaVersion":2,"config":{{"digest":"{sum}","size":-1}},"layers":[]}}"#),
            format!(r#"{{"schemaVersion":2,"config":{{"digest":"{sum}","size":1}},"layers":{layers}}}"#),
            format!(r#"{{"schemaVersion":2,"manifests":{entries}}}"#),
            "[".repeat(100_000),
        ];
        for text in bad {
            assert!(read(text.as_bytes(), "x").is_err(), "{}", printable(&text));
        }
    }

    #[test]
    fn a_config_names_exactly_the_layers_of_the_manifest() {
        let sum = Sum::of(b"x");
        let text =
            format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{sum}"]}}}}"#);
        assert_eq!(read_config(text.as_bytes(), 1).expect("config").1, [sum]);
        let error = read_config(text.as_bytes(), 2).expect_err("two").to_string();
        assert_eq!(error, "the image's config is malformed: it names 1 layers, the manifest 2");
    }
}
