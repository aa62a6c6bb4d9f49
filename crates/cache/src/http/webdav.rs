//! Files under names of the client's choice, as sccache and ccache keep them: `/dav/{instance}/…`.
//!
//! The first segment is the instance. One of several segments, or the one without a name, ends with `/-/`:
//! `/dav/team/main/-/6/b/a/…`, `/dav/-/6/b/a/…`. There are no folders; whoever asks for one is told that it is there,
//! because sccache makes three for each file.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};

use super::call::Call;
use super::kept::{self, Kept, Name, Notes};
use super::refusal::Refusal;
use crate::access::Access;

const KIND: &str = "dav";

/// Answers.
pub(crate) async fn answer(call: &Call, path: &[&str], body: Body) -> Result<Response, Refusal> {
    let (instance, path) = split(path);
    let access = call.admit(instance)?;
    let text = path.join("/");
    let name = Name { kind: KIND, name: &text };
    match call.method.as_str() {
        "OPTIONS" => Ok(options()),
        "GET" | "HEAD" => {
            let found = kept::look_up(&call.service, &access, &name).await;
            let found = found.ok_or_else(|| Refusal::missing(format!("there is no file {text}")))?;
            call.send(found.content, "application/octet-stream").await
        }
        "PUT" => {
            put(call, &access, &name, body).await?;
            Ok(StatusCode::CREATED.into_response())
        }
        "DELETE" => {
            let was = access.may_write_entries()? && kept::forget(&call.service, &access, &name).await?;
            let absent = || Refusal::missing(format!("there is no file {text}"));
            was.then(|| StatusCode::NO_CONTENT.into_response()).ok_or_else(absent)
        }
        "MKCOL" => {
            access.may_write_entries()?;
            Ok(StatusCode::CREATED.into_response())
        }
        "PROPFIND" => {
            call.drain(body).await?;
            let found = kept::look_up(&call.service, &access, &name).await;
            Ok(properties(&call.segments, found.as_ref()))
        }
        _ => Err(Refusal::method("GET, HEAD, PUT, DELETE, MKCOL, PROPFIND and OPTIONS")),
    }
}

/// The instance, and the path within it.
fn split<'a, 'b>(path: &'a [&'b str]) -> (&'a [&'b str], &'a [&'b str]) {
    match path.iter().position(|segment| *segment == "-") {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => path.split_at(path.len().min(1)),
    }
}

async fn put(call: &Call, access: &Access, name: &Name<'_>, body: Body) -> Result<(), Refusal> {
    if !access.may_write_entries()? {
        return call.drain(body).await;
    }
    let stored = call.receive_and_keep(body).await?;
    kept::keep(&call.service, access, name, &Notes::default(), stored).await
}

fn options() -> Response {
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert("dav", HeaderValue::from_static("1"));
    headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, PUT, DELETE, MKCOL, PROPFIND, OPTIONS"));
    response
}

/// A `multistatus` of one member, without those below it: whatever is no file is a folder.
fn properties(segments: &[String], found: Option<&Kept>) -> Response {
    let mut href = String::new();
    for segment in segments {
        href.push('/');
        href.push_str(&escaped(segment));
    }
    let is_file = found.is_some();
    let properties = match found {
        Some(kept) => format!("<D:resourcetype/><D:getcontentlength>{}</D:getcontentlength>", kept.content.size()),
        None => "<D:resourcetype><D:collection/></D:resourcetype>".to_string(),
    };
    let modified = http_date(found.map_or(0, |kept| kept.written));
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>{href}{}</D:href>\
         <D:propstat><D:prop>{properties}<D:getlastmodified>{modified}</D:getlastmodified></D:prop>\
         <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>\n",
        if is_file { "" } else { "/" },
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::MULTI_STATUS;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml; charset=utf-8"));
    response
}

/// A segment as it stands in a URL, which also makes it harmless in XML.
fn escaped(segment: &str) -> String {
    let mut text = String::new();
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// A time as HTTP writes it.
pub(crate) fn http_date(seconds: u64) -> String {
    let days = seconds / 86_400;
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let (year, month, day) = civil(days);
    let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][month];
    let of_day = seconds % 86_400;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Year, month from 0 and day from 1 of a day since 1970-01-01, in the proleptic Gregorian calendar.
pub(crate) fn civil(days: u64) -> (u64, usize, u64) {
    // Counted from 0000-03-01, so that the leap day is a year's last and months have a regular length.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + u64::from(month >= 10);
    (year, ((month + 2) % 12) as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_is_the_first_segment_or_what_stands_before_a_dash() {
        assert_eq!(split(&["main", "6", "b"]), (&["main"][..], &["6", "b"][..]));
        assert_eq!(split(&["team", "main", "-", "6"]), (&["team", "main"][..], &["6"][..]));
        assert_eq!(split(&["-", "6"]), (&[][..], &["6"][..]));
        assert_eq!(split(&[]), (&[][..], &[][..]));
    }

    #[test]
    fn times_are_written_as_http_writes_them() {
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(http_date(4_102_444_799), "Thu, 31 Dec 2099 23:59:59 GMT");
    }
}
