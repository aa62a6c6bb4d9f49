//! Images that no tool would make: layouts with archives written byte by byte.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// One entry of an archive.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its path, as written.
    pub path: &'a str,
    /// The type flag: `0` file, `1` hard link, `2` symbolic link, `3` character device, `5` folder.
    pub kind: u8,
    /// Where a link leads.
    pub link: &'a str,
    /// Its mode.
    pub mode: u32,
    /// What is in it.
    pub data: &'a [u8],
    /// The size that it claims; `None` is the truth.
    pub claims: Option<u64>,
    /// An extended attribute.
    pub attribute: Option<(&'a str, &'a str)>,
}

impl<'a> Entry<'a> {
    /// A file.
    pub fn file(path: &'a str, data: &'a [u8]) -> Entry<'a> {
        Entry { path, kind: b'0', link: "", mode: 0o755, data, claims: None, attribute: None }
    }
    /// A folder.
    pub fn folder(path: &'a str) -> Entry<'a> {
        Entry { kind: b'5', ..Entry::file(path, b"") }
    }
    /// A symbolic link.
    pub fn link(path: &'a str, link: &'a str) -> Entry<'a> {
        Entry { kind: b'2', link, ..Entry::file(path, b"") }
    }

    fn write(&self, archive: &mut Vec<u8>) {
        if let Some((name, value)) = self.attribute {
            let text = record(&format!("SCHILY.xattr.{name}"), value);
            Entry { path: "pax", kind: b'x', ..Entry::file("", text.as_bytes()) }.write(archive);
        }
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, self.path);
        put(100, &format!("{:07o}", self.mode));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", self.claims.unwrap_or(self.data.len() as u64)));
        put(136, "00000000000");
        put(148, "        ");
        put(157, self.link);
        put(257, "ustar\x0000");
        put(329, "0000001");
        put(337, "0000001");
        header[156] = self.kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend(header);
        archive.extend(self.data);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
}

/// `LENGTH NAME=VALUE` and a line end, where the length counts itself.
fn record(name: &str, value: &str) -> String {
    let rest = format!(" {name}={value}\n");
    let mut length = rest.len() + 1;
    while format!("{length}{rest}").len() != length {
        length += 1;
    }
    format!("{length}{rest}")
}

/// Writes a layout with one layer of these entries into `folder`. `config` is merged into the image's own.
///
/// # Errors
/// The folder cannot be written.
pub fn layout(folder: &Path, entries: &[Entry], config: Value) -> io::Result<()> {
    let mut archive = Vec::new();
    entries.iter().for_each(|entry| entry.write(&mut archive));
    archive.resize(archive.len() + 1024, 0);
    fs::create_dir_all(folder.join("blobs/sha256"))?;
    let layer = blob(folder, &archive)?;
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": machine, "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = blob(folder, config.to_string().as_bytes())?;
    let kind = "application/vnd.oci.image";
    let typed = |mut blob: Value, name: &str| {
        blob["mediaType"] = format!("{kind}.{name}").into();
        blob
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": format!("{kind}.manifest.v1+json"),
        "config": typed(config, "config.v1+json"), "layers": [typed(layer, "layer.v1.tar")],
    });
    let manifest = typed(blob(folder, manifest.to_string().as_bytes())?, "manifest.v1+json");
    fs::write(folder.join("index.json"), json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string())?;
    fs::write(folder.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")
}

fn blob(folder: &Path, bytes: &[u8]) -> io::Result<Value> {
    let sum: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(folder.join("blobs/sha256").join(&sum), bytes)?;
    Ok(json!({ "digest": format!("sha256:{sum}"), "size": bytes.len() }))
}
