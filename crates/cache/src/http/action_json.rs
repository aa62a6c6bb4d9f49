//! Action results as JSON, in the form that the Protocol Buffers document for it: moon's over HTTP.
//!
//! Names are in camel case, numbers of 64 bits and bytes are texts, what has its default is left out. Auxiliary metadata,
//! which may be of any type, is left out too.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use bazel_remote_apis::google::protobuf;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::webdav::civil;

/// Reads one.
pub(crate) fn read(json: &[u8]) -> Result<api::ActionResult, serde_json::Error> {
    Ok(serde_json::from_slice::<Outcome>(json)?.into_api())
}

/// Writes one.
pub(crate) fn write(result: &api::ActionResult) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Outcome::of(result))
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Outcome {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    output_files: Vec<File>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    output_file_symlinks: Vec<Symlink>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    output_symlinks: Vec<Symlink>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    output_directories: Vec<Directory>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    output_directory_symlinks: Vec<Symlink>,
    #[serde(skip_serializing_if = "is_default")]
    exit_code: i32,
    #[serde(skip_serializing_if = "is_default")]
    stdout_raw: Base64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_digest: Option<Digest>,
    #[serde(skip_serializing_if = "is_default")]
    stderr_raw: Base64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_metadata: Option<Metadata>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    #[serde(skip_serializing_if = "is_default")]
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "is_default")]
    is_executable: bool,
    #[serde(skip_serializing_if = "is_default")]
    contents: Base64,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_properties: Option<Properties>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Symlink {
    #[serde(skip_serializing_if = "is_default")]
    path: String,
    #[serde(skip_serializing_if = "is_default")]
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_properties: Option<Properties>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Directory {
    #[serde(skip_serializing_if = "is_default")]
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tree_digest: Option<Digest>,
    #[serde(skip_serializing_if = "is_default")]
    is_topologically_sorted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_directory_digest: Option<Digest>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Digest {
    hash: String,
    #[serde(skip_serializing_if = "is_default")]
    size_bytes: Int64,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Properties {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unix_mode: Option<u32>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Property {
    name: String,
    value: String,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    #[serde(skip_serializing_if = "is_default")]
    worker: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued_timestamp: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_start_timestamp: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_completed_timestamp: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_fetch_start_timestamp: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_fetch_completed_timestamp: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_start_timestamp: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_completed_timestamp: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_execution_duration: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_upload_start_timestamp: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_upload_completed_timestamp: Option<Time>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A number of 64 bits: a text, because readers of JSON lose digits of large numbers. A number is understood too.
#[derive(Clone, Copy, Default, PartialEq)]
struct Int64(i64);

impl Serialize for Int64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string())
    }
}

impl<'de> Deserialize<'de> for Int64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Int64, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let number = value.as_i64().or_else(|| value.as_str()?.parse().ok());
        number.map(Int64).ok_or_else(|| D::Error::custom("not a number of 64 bits"))
    }
}

/// Bytes.
#[derive(Default, PartialEq)]
struct Base64(Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Base64, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Base64).map_err(D::Error::custom)
    }
}

/// A point in time: `2026-11-21T16:11:10.235054262+00:00`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Time(protobuf::Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Nothing that is cached was made before 1970.
        let seconds = u64::try_from(self.0.seconds).unwrap_or(0);
        let ((year, month, day), of_day) = (civil(seconds / 86_400), seconds % 86_400);
        serializer.serialize_str(&format!(
            "{year:04}-{:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
            month + 1,
            of_day / 3600,
            of_day / 60 % 60,
            of_day % 60,
            self.0.nanos.clamp(0, 999_999_999),
        ))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        timestamp(&text).map(Time).ok_or_else(|| D::Error::custom(format!("`{text}` is not a time as in RFC 3339")))
    }
}

fn timestamp(text: &str) -> Option<protobuf::Timestamp> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let signs = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if signs.iter().any(|(at, sign)| text.as_bytes().get(*at) != Some(sign)) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let zone = text.get(19..)?.find(['Z', '+', '-'])? + 19;
    let nanos = match text.get(19..zone)?.strip_prefix('.') {
        Some(digits) if digits.len() <= 9 => format!("{digits:0<9}").parse().ok()?,
        Some(_) => return None,
        None => 0,
    };
    let offset = match (text.get(zone..=zone)?, text.get(zone + 1..)?) {
        ("Z", "") => 0,
        (sign, clock) => {
            let (hours, minutes) = clock.split_once(':')?;
            let minutes = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            if sign == "-" { -minutes * 60 } else { minutes * 60 }
        }
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
    Some(protobuf::Timestamp { seconds, nanos })
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar, years counted from March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// A span of time: `1.5s`.
#[derive(Clone, Copy)]
struct Span(protobuf::Duration);

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}.{:09}s", self.0.seconds, self.0.nanos.unsigned_abs()))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = || {
            let (seconds, nanos) = text.strip_suffix('s')?.split_once('.').unwrap_or((text.strip_suffix('s')?, "0"));
            let nanos = format!("{nanos:0<9}").parse().ok().filter(|_| nanos.len() <= 9)?;
            Some(protobuf::Duration { seconds: seconds.parse().ok()?, nanos })
        };
        read().map(Span).ok_or_else(|| D::Error::custom(format!("`{text}` is not a span of time")))
    }
}

impl Outcome {
    fn of(result: &api::ActionResult) -> Outcome {
        #[allow(deprecated)] // Old clients still look there.
        let (file_symlinks, directory_symlinks) = (&result.output_file_symlinks, &result.output_directory_symlinks);
        Outcome {
            output_files: result.output_files.iter().map(File::of).collect(),
            output_file_symlinks: file_symlinks.iter().map(Symlink::of).collect(),
            output_symlinks: result.output_symlinks.iter().map(Symlink::of).collect(),
            output_directories: result.output_directories.iter().map(Directory::of).collect(),
            output_directory_symlinks: directory_symlinks.iter().map(Symlink::of).collect(),
            exit_code: result.exit_code,
            stdout_raw: Base64(result.stdout_raw.clone()),
            stdout_digest: result.stdout_digest.as_ref().map(Digest::of),
            stderr_raw: Base64(result.stderr_raw.clone()),
            stderr_digest: result.stderr_digest.as_ref().map(Digest::of),
            execution_metadata: result.execution_metadata.as_ref().map(Metadata::of),
        }
    }

    #[allow(deprecated)] // Old clients still look there.
    fn into_api(self) -> api::ActionResult {
        let symlinks = |list: Vec<Symlink>| list.into_iter().map(Symlink::into_api).collect();
        api::ActionResult {
            output_files: self.output_files.into_iter().map(File::into_api).collect(),
            output_file_symlinks: symlinks(self.output_file_symlinks),
            output_symlinks: symlinks(self.output_symlinks),
            output_directories: self.output_directories.into_iter().map(Directory::into_api).collect(),
            output_directory_symlinks: symlinks(self.output_directory_symlinks),
            exit_code: self.exit_code,
            stdout_raw: self.stdout_raw.0,
            stdout_digest: self.stdout_digest.map(Digest::into_api),
            stderr_raw: self.stderr_raw.0,
            stderr_digest: self.stderr_digest.map(Digest::into_api),
            execution_metadata: self.execution_metadata.map(Metadata::into_api),
        }
    }
}

impl File {
    fn of(file: &api::OutputFile) -> File {
        File {
            path: file.path.clone(),
            digest: file.digest.as_ref().map(Digest::of),
            is_executable: file.is_executable,
            contents: Base64(file.contents.clone()),
            node_properties: file.node_properties.as_ref().map(Properties::of),
        }
    }
    fn into_api(self) -> api::OutputFile {
        api::OutputFile {
            path: self.path,
            digest: self.digest.map(Digest::into_api),
            is_executable: self.is_executable,
            contents: self.contents.0,
            node_properties: self.node_properties.map(Properties::into_api),
        }
    }
}

impl Symlink {
    fn of(symlink: &api::OutputSymlink) -> Symlink {
        Symlink {
            path: symlink.path.clone(),
            target: symlink.target.clone(),
            node_properties: symlink.node_properties.as_ref().map(Properties::of),
        }
    }
    fn into_api(self) -> api::OutputSymlink {
        let node_properties = self.node_properties.map(Properties::into_api);
        api::OutputSymlink { path: self.path, target: self.target, node_properties }
    }
}

impl Directory {
    fn of(directory: &api::OutputDirectory) -> Directory {
        Directory {
            path: directory.path.clone(),
            tree_digest: directory.tree_digest.as_ref().map(Digest::of),
            is_topologically_sorted: directory.is_topologically_sorted,
            root_directory_digest: directory.root_directory_digest.as_ref().map(Digest::of),
        }
    }
    fn into_api(self) -> api::OutputDirectory {
        api::OutputDirectory {
            path: self.path,
            tree_digest: self.tree_digest.map(Digest::into_api),
            is_topologically_sorted: self.is_topologically_sorted,
            root_directory_digest: self.root_directory_digest.map(Digest::into_api),
        }
    }
}

impl Digest {
    fn of(digest: &api::Digest) -> Digest {
        Digest { hash: digest.hash.clone(), size_bytes: Int64(digest.size_bytes) }
    }
    fn into_api(self) -> api::Digest {
        api::Digest { hash: self.hash, size_bytes: self.size_bytes.0 }
    }
}

impl Properties {
    fn of(properties: &api::NodeProperties) -> Properties {
        let property = |is: &api::NodeProperty| Property { name: is.name.clone(), value: is.value.clone() };
        Properties {
            properties: properties.properties.iter().map(property).collect(),
            mtime: properties.mtime.map(Time),
            unix_mode: properties.unix_mode.map(|mode| mode.value),
        }
    }
    fn into_api(self) -> api::NodeProperties {
        let property = |is: Property| api::NodeProperty { name: is.name, value: is.value };
        api::NodeProperties {
            properties: self.properties.into_iter().map(property).collect(),
            mtime: self.mtime.map(|time| time.0),
            unix_mode: self.unix_mode.map(|value| protobuf::UInt32Value { value }),
        }
    }
}

impl Metadata {
    fn of(metadata: &api::ExecutedActionMetadata) -> Metadata {
        Metadata {
            worker: metadata.worker.clone(),
            queued_timestamp: metadata.queued_timestamp.map(Time),
            worker_start_timestamp: metadata.worker_start_timestamp.map(Time),
            worker_completed_timestamp: metadata.worker_completed_timestamp.map(Time),
            input_fetch_start_timestamp: metadata.input_fetch_start_timestamp.map(Time),
            input_fetch_completed_timestamp: metadata.input_fetch_completed_timestamp.map(Time),
            execution_start_timestamp: metadata.execution_start_timestamp.map(Time),
            execution_completed_timestamp: metadata.execution_completed_timestamp.map(Time),
            virtual_execution_duration: metadata.virtual_execution_duration.map(Span),
            output_upload_start_timestamp: metadata.output_upload_start_timestamp.map(Time),
            output_upload_completed_timestamp: metadata.output_upload_completed_timestamp.map(Time),
        }
    }
    fn into_api(self) -> api::ExecutedActionMetadata {
        let time = |time: Option<Time>| time.map(|time| time.0);
        api::ExecutedActionMetadata {
            worker: self.worker,
            queued_timestamp: time(self.queued_timestamp),
            worker_start_timestamp: time(self.worker_start_timestamp),
            worker_completed_timestamp: time(self.worker_completed_timestamp),
            input_fetch_start_timestamp: time(self.input_fetch_start_timestamp),
            input_fetch_completed_timestamp: time(self.input_fetch_completed_timestamp),
            execution_start_timestamp: time(self.execution_start_timestamp),
            execution_completed_timestamp: time(self.execution_completed_timestamp),
            virtual_execution_duration: self.virtual_execution_duration.map(|span| span.0),
            output_upload_start_timestamp: time(self.output_upload_start_timestamp),
            output_upload_completed_timestamp: time(self.output_upload_completed_timestamp),
            auxiliary_metadata: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOON: &str = r#"{"outputFiles":[{"path":"app/out/a.txt","digest":{"hash":"98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4","sizeBytes":"3"},"nodeProperties":{"mtime":"2026-11-21T16:11:10.235054262+00:00","unixMode":33188}}],"stdoutDigest":{"hash":"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03","sizeBytes":6},"exitCode":3,"stdoutRaw":"aGk=","executionMetadata":{"worker":"moon","virtualExecutionDuration":"1.5s"},"notKnownYet":{}}"#;

    #[test]
    fn what_moon_writes_is_read_and_written_as_moon_reads_it() {
        let result = read(MOON.as_bytes()).unwrap();
        let file = &result.output_files[0];
        assert_eq!((file.path.as_str(), file.digest.as_ref().unwrap().size_bytes), ("app/out/a.txt", 3));
        let properties = file.node_properties.as_ref().unwrap();
        assert_eq!(properties.unix_mode.unwrap().value, 33188);
        assert_eq!(properties.mtime.unwrap(), protobuf::Timestamp { seconds: 1_795_277_470, nanos: 235_054_262 });
        assert_eq!((result.exit_code, &result.stdout_raw[..]), (3, &b"hi"[..]));
        let duration = result.execution_metadata.as_ref().unwrap().virtual_execution_duration.unwrap();
        assert_eq!((duration.seconds, duration.nanos), (1, 500_000_000));
        let written = write(&result).unwrap();
        assert_eq!(read(&written).unwrap(), result);
        let text = String::from_utf8(written).unwrap();
        assert!(
            text.contains(r#""sizeBytes":"3"},"nodeProperties":{"mtime":"2026-11-21T16:11:10.235054262Z""#),
            "{text}"
        );
        assert!(!text.contains("outputSymlinks"), "{text}");
    }

    #[test]
    fn times_have_a_zone_and_no_more_than_nanoseconds() {
        let seconds = |text: &str| timestamp(text).map(|time| time.seconds);
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2000-02-29T12:00:00+01:30"), Some(951_820_200));
        assert_eq!(seconds("2000-02-29T12:00:00-01:30"), Some(951_831_000));
        for wrong in
            ["", "1970-01-01", "1970-01-01T00:00:00", "1970-01-01T00:00:00.0123456789Z", "x970-01-01T00:00:00Z"]
        {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
