//! Resource names of ByteStream: which blob is meant, in which instance, and in what form its bytes travel.

use std::fmt;

use blobs::{Function, Key};

/// Length of a resource name in bytes: an instance, an id, a digest and whatever a client adds for its own use.
const NAME_BYTES_MAX: usize = 4096;
/// Segments that no instance may contain, so that a name can be taken apart in one way only.
const KEYWORDS: [&str; 7] =
    ["blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs"];
/// Digest functions that a client may know and this server does not.
const OTHER_FUNCTIONS: [&str; 8] = ["sha1", "md5", "vso", "sha384", "sha512", "murmur3", "sha256tree", "gitsha1"];

const READ_FORM: &str = "[instance/](blobs|compressed-blobs/zstd)/[blake3/]{hash}/{size}";
const UPLOAD_FORM: &str = "[instance/]uploads/{uuid}/(blobs|compressed-blobs/zstd)/[blake3/]{hash}/{size}[/anything]";

/// A blob as a resource name gives it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Resource {
    /// Segments joined by single slashes; may be empty.
    pub(crate) instance: String,
    /// Its bytes travel as zstd frames.
    pub(crate) zstd: bool,
    /// The blob; of the bytes as they are, not as they travel.
    pub(crate) key: Key,
}

/// A blob that is being sent, told from other uploads of the same blob by an id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Upload {
    pub(crate) resource: Resource,
    /// By the rules a UUID; anything that is one segment is taken.
    pub(crate) id: String,
}

/// A name that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("resource name `{name}` {why}; expected {form}")]
pub(crate) struct BadName {
    name: String,
    why: String,
    form: &'static str,
}

impl Resource {
    /// Reads the name of a blob to download. Leading and doubled slashes do not count; what follows the size is ignored.
    ///
    /// # Errors
    /// It is not such a name.
    pub(crate) fn parse(name: &str) -> Result<Resource, BadName> {
        let bad = |why: String| bad(name, why, READ_FORM);
        let segments = segments(name).map_err(bad)?;
        let at = segments.iter().position(|segment| KEYWORDS.contains(segment));
        let at = at.ok_or_else(|| bad("has neither `blobs` nor `compressed-blobs`".into()))?;
        blob(&segments[..at], &segments[at..]).map_err(bad)
    }
}

impl Upload {
    /// Reads the name of a blob to upload. Leading and doubled slashes do not count; what follows the size is ignored.
    ///
    /// # Errors
    /// It is not such a name.
    pub(crate) fn parse(name: &str) -> Result<Upload, BadName> {
        let bad = |why: String| bad(name, why, UPLOAD_FORM);
        let segments = segments(name).map_err(bad)?;
        let at = segments.iter().position(|segment| KEYWORDS.contains(segment));
        let at = at.filter(|at| segments[*at] == "uploads").ok_or_else(|| bad("does not begin an upload".into()))?;
        let id = segments.get(at + 1).ok_or_else(|| bad("ends after `uploads`".into()))?;
        let resource = blob(&segments[..at], &segments[at + 2..]).map_err(bad)?;
        Ok(Upload { resource, id: (*id).to_owned() })
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.instance.is_empty() {
            write!(f, "{}/", self.instance)?;
        }
        self.write_blob(f)
    }
}

impl fmt::Display for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.resource.instance.is_empty() {
            write!(f, "{}/", self.resource.instance)?;
        }
        write!(f, "uploads/{}/", self.id)?;
        self.resource.write_blob(f)
    }
}

impl Resource {
    fn write_blob(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", if self.zstd { "compressed-blobs/zstd" } else { "blobs" }, self.key)
    }
}

fn segments(name: &str) -> Result<Vec<&str>, String> {
    match name.len() <= NAME_BYTES_MAX {
        true => Ok(name.split('/').filter(|segment| !segment.is_empty()).collect()),
        false => Err(format!("has {} bytes, and at most {NAME_BYTES_MAX} are allowed", name.len())),
    }
}

fn bad(name: &str, why: String, form: &'static str) -> BadName {
    BadName { name: name.chars().take(300).collect(), why, form }
}

/// Reads what follows the instance: the form, the function, the hash and the size.
fn blob(instance: &[&str], rest: &[&str]) -> Result<Resource, String> {
    let (zstd, rest) = match rest {
        ["blobs", rest @ ..] => (false, rest),
        ["compressed-blobs", "zstd", rest @ ..] => (true, rest),
        ["compressed-blobs", other, ..] => {
            return Err(format!("asks for the compressor `{other}`, and only `zstd` is known here"));
        }
        [other, ..] => return Err(format!("has `{other}` where `blobs` or `compressed-blobs` belongs")),
        [] => return Err("ends before `blobs`".into()),
    };
    let (function, rest) = match rest {
        ["blake3", rest @ ..] => (Function::Blake3, rest),
        ["sha256", rest @ ..] => (Function::Sha256, rest),
        [other, ..] if OTHER_FUNCTIONS.contains(other) => {
            return Err(format!("is hashed by `{other}`, and only SHA-256 and BLAKE3 are known here"));
        }
        rest => (Function::Sha256, rest),
    };
    let [hash, size, ..] = rest else {
        return Err("ends before its hash and size".into());
    };
    let size = parse_size(size).ok_or_else(|| format!("has `{size}` where a size in bytes belongs"))?;
    let key = Key::from_hex(function, hash, size)
        .ok_or_else(|| format!("has `{hash}` where a hash of 64 lower-case hexadecimal digits belongs"))?;
    Ok(Resource { instance: instance.join("/"), zstd, key })
}

/// Only digits, and not more than the protocol's signed 64 bits hold.
fn parse_size(size: &str) -> Option<u64> {
    let digits = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
    size.parse().ok().filter(|size| digits && i64::try_from(*size).is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b";

    fn resource(instance: &str, zstd: bool, function: Function) -> Resource {
        Resource { instance: instance.into(), zstd, key: Key::from_hex(function, HASH, 42).expect("hex") }
    }

    #[test]
    fn every_form_that_real_clients_send_is_read() {
        let plain = resource("", false, Function::Sha256);
        for name in ["blobs/H/42", "/blobs/H/42", "//blobs//H/42/", "blobs/sha256/H/42", "blobs/H/42/a/blobs/b"] {
            assert_eq!(Resource::parse(&name.replace('H', HASH)), Ok(plain.clone()), "{name}");
        }
        let named = resource("team/main/pr/17", true, Function::Blake3);
        let name = format!("/team//main/pr/17/compressed-blobs/zstd/blake3/{HASH}/42");
        assert_eq!(Resource::parse(&name), Ok(named.clone()));
        let name = format!("/team//main/pr/17/uploads/0-1/compressed-blobs/zstd/blake3/{HASH}/42/some/file.o");
        assert_eq!(Upload::parse(&name), Ok(Upload { resource: named, id: "0-1".into() }));
        let name = format!("/uploads/u/blobs/{HASH}/42");
        assert_eq!(Upload::parse(&name), Ok(Upload { resource: plain, id: "u".into() }));
    }

    #[test]
    fn a_name_that_cannot_be_read_says_what_was_expected() {
        let table = [
            ("", "has neither"),
            ("main", "has neither"),
            ("blobs", "ends before its hash"),
            ("blobs/H", "ends before its hash"),
            ("blobs/H/", "ends before its hash"),
            ("blobs/H/-1", "size in bytes"),
            ("blobs/H/+1", "size in bytes"),
            ("blobs/H/0x1", "size in bytes"),
            ("blobs/H/9223372036854775808", "size in bytes"),
            ("blobs/H/99999999999999999999999", "size in bytes"),
            ("blobs/H0/1", "hexadecimal digits"),
            ("blobs/../1", "hexadecimal digits"),
            ("blobs/sha1/H/1", "only SHA-256 and BLAKE3"),
            ("compressed-blobs/H/1", "compressor"),
            ("compressed-blobs/deflate/H/1", "compressor"),
            ("compressed-blobs/identity/H/1", "compressor"),
            ("uploads/u/blobs/H/1", "has `uploads` where"),
            ("main/actions/blobs/H/1", "has `actions` where"),
        ];
        for (name, why) in table {
            let told = Resource::parse(&name.replace('H', HASH)).expect_err(name).to_string();
            assert!(told.contains(why) && told.contains("expected [instance/](blobs"), "{name}: {told}");
        }
        for (name, why) in [
            ("blobs/H/1", "does not begin an upload"),
            ("uploads", "ends after"),
            ("uploads/u", "ends before `blobs`"),
            ("uploads//blobs/H/1", "where `blobs` or"),
            ("blobs/uploads/u/blobs/H/1", "does not begin an upload"),
        ] {
            let told = Upload::parse(&name.replace('H', HASH)).expect_err(name).to_string();
            assert!(told.contains(why) && told.contains("expected [instance/]uploads"), "{name}: {told}");
        }
        assert!(Resource::parse(&"a/".repeat(4000)).expect_err("long").to_string().len() < 600);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            instance in "([a-z0-9._-]{1,8}(/[a-z0-9._-]{1,8}){0,3})?",
            id in "[0-9a-f-]{1,36}",
            zstd: bool,
            blake: bool,
            hash: [u8; 32],
            size in 0..=i64::MAX as u64,
        ) {
            prop_assume!(!instance.split('/').any(|segment| KEYWORDS.contains(&segment)));
            let function = if blake { Function::Blake3 } else { Function::Sha256 };
            let resource = Resource { instance, zstd, key: Key { function, hash, size } };
            prop_assert_eq!(Resource::parse(&resource.to_string()), Ok(resource.clone()));
            let upload = Upload { resource, id };
            prop_assert_eq!(Upload::parse(&upload.to_string()), Ok(upload));
        }

        #[test]
        fn no_name_is_too_strange_to_refuse(name in "([/a-z0-9 -]|blobs/|uploads/|compressed-blobs/|zstd/|\\PC){0,40}") {
            let _ = (Resource::parse(&name), Upload::parse(&name));
        }
    }
}
