//! Secrets are replaced by `***` before a byte of output leaves the agent, also where a secret lies across the border
//! of two reads.

use aho_corasick::{AhoCorasick, MatchKind};

/// Secrets shorter than this are not masked: every second line would be stars, and the stars would tell the secret.
pub(crate) const MASKED_BYTES_MIN: usize = 4;
const MASK: &[u8] = b"***";

/// Knows all secrets of one attempt in the forms in which they show up in output.
#[derive(Debug, Default)]
pub(crate) struct Masker {
    automaton: Option<AhoCorasick>,
    patterns: Vec<Vec<u8>>,
}

impl Masker {
    /// Of these values. Patterns never span lines, so that a line can be judged when it is whole.
    pub(crate) fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Masker {
        let mut patterns: Vec<Vec<u8>> = values.into_iter().flat_map(forms).collect();
        patterns.retain(|pattern| pattern.len() >= MASKED_BYTES_MIN);
        patterns.sort();
        patterns.dedup();
        if patterns.is_empty() {
            return Masker::default();
        }
        // It fails only for more patterns than 32-bit states can hold; without an automaton nothing may pass.
        let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&patterns);
        Masker { automaton: Some(automaton.expect("a few kilobytes of patterns make a small automaton")), patterns }
    }

    /// Masks a text that is whole.
    pub(crate) fn text(&self, text: &str) -> String {
        if self.automaton.is_none() {
            return text.to_string();
        }
        let mut out = Vec::with_capacity(text.len());
        let mut stream = Stream::default();
        stream.push(self, text.as_bytes(), &mut out);
        stream.finish(self, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Where the longest tail begins that may become a secret with the bytes to come.
    fn hold_from(&self, bytes: &[u8]) -> usize {
        let longest = self.patterns.iter().map(Vec::len).max().unwrap_or(0);
        let first = bytes.len().saturating_sub(longest.saturating_sub(1));
        (first..bytes.len())
            .find(|&at| self.patterns.iter().any(|p| p.len() > bytes.len() - at && p.starts_with(&bytes[at..])))
            .unwrap_or(bytes.len())
    }
}

/// The forms in which a value shows up: itself and each of its lines, as they are, quoted for JSON and for URLs, in
/// base64.
fn forms(value: &str) -> Vec<Vec<u8>> {
    if value.len() < MASKED_BYTES_MIN {
        return Vec::new();
    }
    let mut forms = Vec::new();
    for text in value.lines().map(str::trim).chain([value]) {
        forms.push(text.as_bytes().to_vec());
        forms.push(url_encoded(text));
        forms.extend(serde_json::to_string(text).ok().map(|quoted| quoted.as_bytes()[1..quoted.len() - 1].to_vec()));
        forms.extend(base64_forms(text.as_bytes()));
    }
    forms.retain(|form| !form.contains(&b'\n'));
    forms
}

fn url_encoded(value: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            _ => out.extend(format!("%{byte:02X}").bytes()),
        }
    }
    out
}

/// Base64 of the value alone and inside of something longer (`user:token`): at each of the three alignments, without
/// the characters at both ends that its neighbours share.
fn base64_forms(value: &[u8]) -> Vec<Vec<u8>> {
    const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if value.len() < MASKED_BYTES_MIN {
        return Vec::new();
    }
    let mut forms = Vec::new();
    for alphabet in [STANDARD, URL_SAFE] {
        for shift in 0..3usize {
            let mut shifted = vec![0; shift];
            shifted.extend(value);
            let bits = shifted.len() * 8;
            let digits = |i: usize| {
                let byte = |at: usize| u32::from(shifted.get(at).copied().unwrap_or(0));
                let at = i * 6;
                let word = byte(at / 8) << 8 | byte(at / 8 + 1);
                alphabet[(word >> (10 - at % 8) & 63) as usize]
            };
            // Six-bit digits that lie wholly in the value.
            forms.push(((shift * 8).div_ceil(6)..bits / 6).map(digits).collect());
        }
    }
    forms
}

/// Masks bytes that come in pieces.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pending: Vec<u8>,
    /// So many of the first pending bytes belong to a secret whose stars are already written.
    covered: usize,
}

impl Stream {
    /// Takes bytes in and writes what can be decided to `out`.
    pub(crate) fn push(&mut self, masker: &Masker, bytes: &[u8], out: &mut Vec<u8>) {
        if masker.automaton.is_none() {
            out.extend_from_slice(bytes);
            return;
        }
        self.pending.extend_from_slice(bytes);
        let hold = masker.hold_from(&self.pending);
        self.write_until(masker, hold, out);
    }

    /// Writes the rest.
    pub(crate) fn finish(&mut self, masker: &Masker, out: &mut Vec<u8>) {
        self.write_until(masker, self.pending.len(), out);
    }

    fn write_until(&mut self, masker: &Masker, hold: usize, out: &mut Vec<u8>) {
        if hold == 0 {
            return;
        }
        let mut from = 0;
        let mut covered = 0;
        for (start, end) in self.secrets(masker) {
            if start >= hold {
                break;
            }
            out.extend_from_slice(&self.pending[from..start]);
            if start > 0 || self.covered == 0 {
                out.extend_from_slice(MASK);
            }
            covered = end.saturating_sub(hold);
            from = end.min(hold);
        }
        out.extend_from_slice(&self.pending[from..hold]);
        self.pending.drain(..hold);
        self.covered = covered;
    }

    /// The stretches that secrets cover; overlapping ones are one, so that no end of a secret sticks out of another.
    fn secrets(&self, masker: &Masker) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        if self.covered > 0 {
            found.push((0, self.covered));
        }
        let Some(automaton) = &masker.automaton else { return found };
        for hit in automaton.find_overlapping_iter(&self.pending) {
            let (mut start, mut end) = (hit.start(), hit.end());
            while let Some(&(before, until)) = found.last() {
                if until <= start {
                    break;
                }
                start = start.min(before);
                end = end.max(until);
                found.pop();
            }
            found.push((start, end));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked_in_pieces(masker: &Masker, text: &str, piece: usize) -> String {
        let (mut out, mut stream) = (Vec::new(), Stream::default());
        for bytes in text.as_bytes().chunks(piece) {
            stream.push(masker, bytes, &mut out);
        }
        stream.finish(masker, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_secret_across_any_border_is_masked() {
        let masker = Masker::new(["hunter2hunter2", "s3cr3t"]);
        let text = "a hunter2hunter2 b s3cr3t c hunter2hunter hunter2hunter2s3cr3t s3cr3";
        for piece in 1..text.len() {
            assert_eq!(masked_in_pieces(&masker, text, piece), "a *** b *** c hunter2hunter ****** s3cr3", "{piece}");
        }
    }

    #[test]
    fn overlapping_secrets_leave_no_end_behind() {
        let masker = Masker::new(["abcdef", "defghi", "aaaa"]);
        for piece in 1..12 {
            assert_eq!(masked_in_pieces(&masker, "-abcdefghi-", piece), "-***-", "{piece}");
            assert_eq!(masked_in_pieces(&masker, &"a".repeat(40), piece), "***", "{piece}");
        }
    }

    #[test]
    fn other_forms_of_a_secret_are_masked() {
        let masker = Masker::new(["pa ss/wo+rd!", "line one\nline \"two\""]);
        // `printf 'pa ss/wo+rd!' | base64`, then `printf 'me:pa ss/wo+rd!' | base64`.
        for form in ["cGEgc3Mvd28rcmQh", "pa%20ss%2Fwo%2Brd%21", "line one", "line \\\"two\\\""] {
            assert!(masker.text(&format!("<{form}>")).contains("***"), "{form}");
        }
        let inside = masker.text("bWU6cGEgc3Mvd28rcmQh");
        assert!(inside.contains("***") && !inside.contains("c3Mvd28r"), "{inside}");
    }

    #[test]
    fn without_a_possible_secret_nothing_is_held_back() {
        let masker = Masker::new(["secret"]);
        let (mut out, mut stream) = (Vec::new(), Stream::default());
        stream.push(&masker, b"progress 10%", &mut out);
        assert_eq!(out, b"progress 10%");
        stream.push(&masker, b" sec", &mut out);
        assert_eq!(out, b"progress 10% ");
    }
}
