//! Where an entry goes: its path as bare names below the layer's root.

/// The names on the way, the entry's own last; none for the root itself.
pub(super) type Components<'a> = Vec<&'a [u8]>;

/// Takes a path apart. `/` in front means the image's root, as for everybody who reads layers, and so means nothing.
pub(super) fn components(path: &[u8], depth_max: usize) -> Result<Components<'_>, &'static str> {
    let parts: Components<'_> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err("it leaves its directory with `..`");
    }
    if parts.iter().any(|part| part.len() > 255) {
        return Err("a part of its name is longer than 255 bytes");
    }
    if path.contains(&0) {
        return Err("its name has a NUL in it");
    }
    if parts.len() > depth_max + 1 {
        return Err("it lies in more directories within directories than are allowed");
    }
    Ok(parts)
}
