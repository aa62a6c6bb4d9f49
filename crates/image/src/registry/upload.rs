//! Blobs and manifests to a registry.

use std::fs::File;

use model::Digest;

use super::http::{self, Ask, Body, Stop};
use super::{Registry, Want};
use crate::error::Refusal;
use crate::{ImageError, Name, Sum};

impl Registry {
    /// Sends a blob unless the repository has it; taken over from `from`, a repository of the same registry, when that
    /// has it. Returns whether its bytes had to travel.
    pub fn put_blob(
        &self,
        name: &Name,
        digest: &Digest,
        open: &dyn Fn() -> Result<File, ImageError>,
        from: Option<&Name>,
        stop: Stop<'_>,
    ) -> Result<bool, ImageError> {
        let sum = Sum::from(*digest);
        let act = format!("push blob {} to {}/{}", sum.short(), name.registry, name.repository);
        let head = Ask::new("HEAD", self.address(name, &format!("blobs/{sum}")));
        let there = self.http.persist(&act, stop, || {
            Ok(self.ask(name, Want::Push, &head, &act)?.expect(&[200, 404], &act)?.status == 200)
        })?;
        if there {
            return Ok(false);
        }
        self.http.persist(&act, stop, || {
            let mount = from.filter(|from| from.registry == name.registry && from.repository != name.repository);
            let mount = mount.map(|from| format!("?mount={sum}&from={}", http::encoded(&from.repository)));
            let start = self.address(name, &format!("blobs/uploads/{}", mount.unwrap_or_default()));
            let begun = Ask::new("POST", start.clone()).body(Body::Bytes(&[]));
            let begun = self.ask(name, Want::Push, &begun, &act)?.expect(&[201, 202], &act)?;
            if begun.status == 201 {
                return Ok(false);
            }
            let location = begun.header("location").and_then(|location| http::join(&start, location));
            let location = location
                .ok_or_else(|| http::refused(&act, "the registry does not say where to send it", Refusal::Broken))?;
            if location.starts_with("http://") && start.starts_with("https://") {
                return Err(http::refused(&act, "it wants the bytes without encryption", Refusal::Broken));
            }
            let mark = if location.contains('?') { '&' } else { '?' };
            let put = Ask::new("PUT", format!("{location}{mark}digest={}", http::encoded(&sum.to_string())))
                .header("content-type", "application/octet-stream")
                .body(Body::Blob(open, digest.size));
            self.ask(name, Want::Push, &put, &act)?.expect(&[201, 202, 204], &act)?;
            Ok(true)
        })
    }

    /// Sends a manifest or an index under a tag or its own digest.
    pub fn put_manifest(
        &self,
        name: &Name,
        version: &str,
        media_type: &str,
        bytes: &[u8],
        stop: Stop<'_>,
    ) -> Result<(), ImageError> {
        let act = format!("push the manifest of {}/{} {version}", name.registry, name.repository);
        let put = Ask::new("PUT", self.address(name, &format!("manifests/{version}")))
            .header("content-type", media_type)
            .body(Body::Bytes(bytes));
        self.http
            .persist(&act, stop, || self.ask(name, Want::Push, &put, &act)?.expect(&[200, 201, 202], &act).map(drop))
    }
}
