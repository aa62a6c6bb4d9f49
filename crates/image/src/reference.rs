//! Names of images: in a registry, in a folder, in an archive.

use std::fmt;
use std::path::PathBuf;

use crate::{ImageError, Sum};

/// Where names without a host live: the convention of the whole field.
const REGISTRY_DEFAULT: &str = "docker.io";
/// The host that answers for it.
const REGISTRY_DEFAULT_HOST: &str = "registry-1.docker.io";
/// Length of a reference. Repository names end at 255, tags at 128.
const REFERENCE_BYTES_MAX: usize = 1024;

/// A name of an image. Its `Display` is canonical: two texts that mean one image show as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// In a registry: `[host[:port]/]path[:tag][@sha256:…]`.
    Registry(Name),
    /// An OCI image layout: `oci:FOLDER[:tag]`.
    Layout(Place),
    /// An OCI image layout in a tar: `oci-archive:FILE[:tag]`.
    Archive(Place),
    /// What `docker save` writes: `docker-archive:FILE[:name:tag]`.
    DockerArchive(Place),
}

/// A name in a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// `host` or `host:port`, as written in references.
    pub registry: String,
    /// The path below it: lower-case segments.
    pub repository: String,
    /// The tag; `latest` when neither a tag nor a digest was written.
    pub tag: Option<String>,
    /// The digest that the manifest or index must have.
    pub sum: Option<Sum>,
}

/// A place in the file system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// As written; relative to the repository.
    pub path: PathBuf,
    /// Which of several images.
    pub tag: Option<String>,
}

impl Reference {
    /// Reads a reference.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Reference, ImageError> {
        let wrong = |why| ImageError::Reference { text: text.chars().take(200).collect(), why };
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(wrong("it is longer than 1024 bytes"));
        }
        let read = match text.split_once(':') {
            Some(("oci", rest)) => place(rest).map(Reference::Layout),
            Some(("oci-archive", rest)) => place(rest).map(Reference::Archive),
            Some(("docker-archive", rest)) => place(rest).map(Reference::DockerArchive),
            _ => name(text).map(Reference::Registry),
        };
        read.map_err(wrong)
    }
    /// Its name in a registry, when it is in one.
    pub fn name(&self) -> Option<&Name> {
        match self {
            Reference::Registry(name) => Some(name),
            _ => None,
        }
    }
}

impl Name {
    /// Where its registry answers.
    pub fn host(&self) -> &str {
        if self.registry == REGISTRY_DEFAULT { REGISTRY_DEFAULT_HOST } else { &self.registry }
    }
    /// What stands behind `manifests/` in the registry's address: the digest, else the tag.
    pub fn version(&self) -> String {
        match (&self.sum, &self.tag) {
            (Some(sum), _) => sum.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".into(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, place) = match self {
            Reference::Registry(name) => return name.fmt(f),
            Reference::Layout(place) => ("oci", place),
            Reference::Archive(place) => ("oci-archive", place),
            Reference::DockerArchive(place) => ("docker-archive", place),
        };
        write!(f, "{kind}:{}", place.path.display())?;
        place.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.sum.iter().try_for_each(|sum| write!(f, "@{sum}"))
    }
}

fn place(text: &str) -> Result<Place, &'static str> {
    let (path, tag) = match text.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (text, None),
    };
    if path.is_empty() || path.contains('\0') {
        return Err("the path is missing");
    }
    if tag.is_some_and(|tag| tag.is_empty() || !tag.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Err("the tag behind the path is empty or not printable");
    }
    Ok(Place { path: PathBuf::from(path), tag: tag.map(str::to_owned) })
}

fn name(text: &str) -> Result<Name, &'static str> {
    let (rest, sum) = match text.split_once('@') {
        Some((rest, sum)) => (rest, Some(Sum::parse(sum).ok_or("a digest is `@sha256:` and 64 hexadecimal digits")?)),
        None => (text, None),
    };
    let (registry, rest) = match rest.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (REGISTRY_DEFAULT, rest),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    // Official images of the default registry live below `library`.
    let alone = registry == REGISTRY_DEFAULT && !path.contains('/');
    let repository = if alone { format!("library/{path}") } else { path.to_owned() };
    if !is_registry(registry) {
        return Err("the host before the first `/` is not one");
    }
    if path.is_empty() || repository.len() > 255 || !repository.split('/').all(is_segment) {
        return Err("a repository is made of lower-case letters, digits, `.`, `_`, `-` and `/`");
    }
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("a tag is made of at most 128 letters, digits, `.`, `_` and `-`");
    }
    let tag = tag.map(str::to_owned).or_else(|| sum.is_none().then(|| "latest".to_owned()));
    Ok(Name { registry: registry.to_owned(), repository, tag, sum })
}

fn is_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':'])
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_is_one = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_one = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
                && !host.contains("..")
        }
    };
    port_is_one && host_is_one && text.len() <= 255
}

fn is_segment(segment: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    edge(segment.bytes().next())
        && edge(segment.bytes().last())
        && segment.bytes().all(inner)
        && !segment.contains("..")
}

pub(crate) fn is_tag(tag: &str) -> bool {
    let first = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    first && tag.len() <= 128 && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Reference::parse(text).expect(text).to_string()
    }

    #[test]
    fn texts_that_mean_one_image_show_as_one() {
        assert_eq!(shown("debian:12"), "docker.io/library/debian:12");
        assert_eq!(shown("debian"), "docker.io/library/debian:latest");
        assert_eq!(shown("grafana/loki"), "docker.io/grafana/loki:latest");
        assert_eq!(shown("localhost/a"), "localhost/a:latest");
        assert_eq!(shown("127.0.0.1:5000/a/b:1.2"), "127.0.0.1:5000/a/b:1.2");
        assert_eq!(shown("[::1]:5000/a"), "[::1]:5000/a:latest");
        let sum = format!("@sha256:{}", "ab".repeat(32));
        assert_eq!(shown(&format!("r.example.com/x{sum}")), format!("r.example.com/x{sum}"));
        assert_eq!(shown(&format!("r.example.com/x:1{sum}")), format!("r.example.com/x:1{sum}"));
        assert_eq!(shown("oci:dist/image:v1"), "oci:dist/image:v1");
        assert_eq!(shown("oci-archive:a.tar"), "oci-archive:a.tar");
        assert_eq!(shown("docker-archive:a.tar:app:1"), "docker-archive:a.tar:app:1");
        let hub = Reference::parse("debian").expect("reference");
        assert_eq!(hub.name().expect("name").host(), "registry-1.docker.io");
    }

    #[test]
    fn what_names_no_image_is_refused_with_the_reason() {
        let long = "a".repeat(2000);
        let bad = [
            "",
            "UPPER",
            "a b",
            "host.example/",
            "a//b",
            "a/../b",
            "x:",
            "x:ta g",
            "x@sha256:12",
            "x@md5:0",
            "oci:",
            "oci:x:",
            "ex ample.com/x",
            "h.example:99999/x",
            "-a",
            "a..b/c",
            "http://h.example/x",
            &long,
            "x:\n",
        ];
        for text in bad {
            assert!(matches!(Reference::parse(text), Err(ImageError::Reference { .. })), "{text}");
        }
        let error = Reference::parse("x@sha256:12").expect_err("short").to_string();
        assert_eq!(error, "`x@sha256:12` names no image: a digest is `@sha256:` and 64 hexadecimal digits");
    }
}
