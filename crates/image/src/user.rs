//! Who a program of an image runs as: the numbers behind the names in the image's own `/etc/passwd` and `/etc/group`.

use std::path::PathBuf;

use crate::document::printable;
use crate::through::Through;
use crate::{ImageConfig, ImageError};

/// `/etc/passwd` or `/etc/group`.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Groups of one user beside the first.
const GROUPS_MAX: usize = 64;
/// The highest number that the sandbox has room for.
const ID_MAX: u32 = 65_534;

/// A user of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number in the image.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// Its other groups, ascending.
    pub groups: Vec<u32>,
    /// Its home folder; `/` when the image does not say.
    pub home: String,
    /// Its name, when the image knows one.
    pub name: Option<String>,
}

impl ImageConfig {
    /// Who the image's programs run as. `layers` are the unpacked ones, the topmost first.
    ///
    /// # Errors
    /// The image does not know the user, or its files are malformed.
    pub fn user_in(&self, layers: &[PathBuf]) -> Result<User, ImageError> {
        find(&self.user, layers)
    }
}

/// As [`ImageConfig::user_in`], for `user`, `uid`, `user:group` or `uid:gid`.
///
/// # Errors
/// As there.
pub fn find(user: &str, layers: &[PathBuf]) -> Result<User, ImageError> {
    let wrong = |why: String| ImageError::User { user: printable(user), why };
    let through = Through::new(layers).map_err(|error| wrong(format!("its layers cannot be read: {error}")))?;
    let read = |path: &str| {
        let bytes =
            through.read(path, FILE_BYTES_MAX).map_err(|error| wrong(format!("{path} cannot be read: {error}")))?;
        Ok::<String, ImageError>(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    };
    let (who, group) = match user.split_once(':') {
        Some((who, group)) => (who, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let who = if who.is_empty() { "0" } else { who };
    let known = passwd(&read("/etc/passwd")?, who);
    let mut found = match (known, number(who)) {
        (Some(known), _) => known,
        (None, Some(uid)) => User { uid, gid: 0, groups: Vec::new(), home: "/".into(), name: None },
        (None, None) => return Err(wrong("its /etc/passwd does not have that name".into())),
    };
    match group {
        Some(group) => {
            let in_file =
                groups(&read("/etc/group")?).find(|(name, gid, _)| name == group || number(group) == Some(*gid));
            let gid = in_file.map(|(_, gid, _)| gid).or_else(|| number(group));
            found.gid = gid.ok_or_else(|| wrong("its /etc/group does not have that group".into()))?;
        }
        None => {
            if let Some(name) = &found.name {
                let text = read("/etc/group")?;
                let mine = groups(&text).filter(|(_, _, members)| members.iter().any(|member| member == name));
                found.groups = mine.map(|(_, gid, _)| gid).filter(|gid| *gid != found.gid).take(GROUPS_MAX).collect();
                found.groups.sort_unstable();
                found.groups.dedup();
            }
        }
    }
    if found.uid > ID_MAX || found.gid > ID_MAX || found.groups.iter().any(|gid| *gid > ID_MAX) {
        return Err(wrong(format!("its number is above {ID_MAX}, the highest that the sandbox has room for")));
    }
    Ok(found)
}

fn passwd(text: &str, who: &str) -> Option<User> {
    let users = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else { return None };
        let home = if home.starts_with('/') && !home.contains("..") { home } else { "/" };
        let name = (!name.is_empty()).then(|| (*name).to_owned());
        Some(User { uid: number(uid)?, gid: number(gid)?, groups: Vec::new(), home: home.into(), name })
    });
    let named = users.clone().find(|user| user.name.as_deref() == Some(who));
    named.or_else(|| users.clone().find(|user| number(who) == Some(user.uid)))
}

fn groups(text: &str) -> impl Iterator<Item = (String, u32, Vec<String>)> + '_ {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, rest @ ..] = fields.as_slice() else { return None };
        let members = rest.first().map(|members| members.split(',').map(str::to_owned).collect()).unwrap_or_default();
        Some(((*name).to_owned(), number(gid)?, members))
    })
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn layer(root: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let layer = root.join(name);
        for (path, text) in files {
            let path = layer.join(path);
            fs::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs::write(path, text).expect("file");
        }
        layer
    }

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbad line\nodd:x:7:7::../..:\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:app,other\nwheel:x:10:app\napp:x:1001:app\n";

    #[test]
    fn a_user_is_found_by_number_and_by_name() {
        let dir = tempfile::tempdir().expect("folder");
        let layers = [layer(dir.path(), "a", &[("etc/passwd", PASSWD), ("etc/group", GROUP)])];
        let app =
            User { uid: 1000, gid: 1001, groups: vec![10, 50], home: "/home/app".into(), name: Some("app".into()) };
        assert_eq!(find("app", &layers).expect("name"), app);
        assert_eq!(find("1000", &layers).expect("number"), app);
        assert_eq!(find("app:staff", &layers).expect("group"), User { gid: 50, groups: vec![], ..app.clone() });
        assert_eq!(find("app:77", &layers).expect("group number"), User { gid: 77, groups: vec![], ..app });
        assert_eq!(find("", &layers).expect("root").home, "/root");
        let unknown = User { uid: 4711, gid: 0, groups: vec![], home: "/".into(), name: None };
        assert_eq!(find("4711", &layers).expect("unknown number"), unknown);
        assert_eq!(find("odd", &layers).expect("odd home").home, "/");
        for bad in ["nobody", "app:nogroup", "-1", "4294967295", "70000", "app:70000", "+5"] {
            assert!(matches!(find(bad, &layers), Err(ImageError::User { .. })), "{bad}");
        }
        assert_eq!(find("5", &[]).expect("no layers at all").uid, 5);
    }

    #[test]
    fn upper_layers_decide_and_deletions_count() {
        let dir = tempfile::tempdir().expect("folder");
        let low = layer(dir.path(), "low", &[("etc/passwd", PASSWD), ("etc/group", GROUP)]);
        let top = layer(dir.path(), "top", &[("etc/passwd", "app:x:5:6::/app:\n")]);
        let found = find("app", &[top, low.clone()]).expect("upper");
        assert_eq!((found.uid, found.groups), (5, vec![10, 50, 1001]));
        let gone = layer(dir.path(), "gone", &[("etc/other", "")]);
        cas::layer::make_whiteout(&gone.join("etc/passwd")).expect("whiteout");
        assert!(find("app", &[gone, low.clone()]).is_err());
        let fresh = layer(dir.path(), "fresh", &[("etc/other", "")]);
        rustix::fs::setxattr(fresh.join("etc"), "user.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
            .expect("opaque");
        assert!(find("app", &[fresh, low]).is_err());
    }

    #[test]
    fn links_are_followed_within_the_image_and_never_out_of_it() {
        let dir = tempfile::tempdir().expect("folder");
        fs::write(dir.path().join("passwd"), "host:x:1:1::/:\n").expect("outside");
        let low = layer(dir.path(), "low", &[("usr/etc/passwd", PASSWD)]);
        let top = layer(dir.path(), "top", &[("x", "")]);
        symlink("/usr/etc", top.join("etc")).expect("link");
        assert_eq!(find("app", &[top, low]).expect("through the link").uid, 1000);
        for (name, target) in [("up", "../../../passwd"), ("abs", "/passwd"), ("circle", "passwd")] {
            let layer = layer(dir.path(), name, &[("etc/x", "")]);
            symlink(target, layer.join("etc/passwd")).expect("link");
            assert!(find("host", &[layer]).is_err(), "{name}");
        }
        let huge = layer(dir.path(), "huge", &[("etc/passwd", &"x".repeat(2 << 20))]);
        assert!(find("app", &[huge]).is_err());
    }
}
