//! What a sandbox stands on: chosen parts of the host's file system, or an image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::{Image, User};
use model::Cause;
use sandbox::{Identity, ImageRoot, Root};

use crate::halt::Halt;
use crate::host::Host;
use crate::room::Room;
use crate::workspace::{make_dirs, work_dir};

/// An image that a sandbox is to stand on, unpacked, with the user that runs in it.
#[derive(Debug)]
pub(crate) struct Rooted {
    pub(crate) image: Image,
    user: User,
}

impl Rooted {
    /// # Errors
    /// The image's own user is not in its `/etc/passwd`.
    pub(crate) fn new(image: Image) -> Result<Rooted, Halt> {
        let user = image.config.user_in(&image.layers).map_err(|error| Cause::Refused(error.to_string()))?;
        Ok(Rooted { image, user })
    }
}

/// What a sandbox stands on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ground<'a> {
    Host(&'a Host),
    Image(&'a Rooted),
}

/// Where programs are looked for in an image that does not say.
const IMAGE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl<'a> Ground<'a> {
    /// The image where there is one, else the host.
    pub(crate) fn of(rooted: Option<&'a Rooted>, host: &'a Host) -> Ground<'a> {
        rooted.map_or(Ground::Host(host), Ground::Image)
    }

    /// The environment that comes with it.
    pub(crate) fn env(&self) -> BTreeMap<String, String> {
        match self {
            Ground::Host(host) => host.env.clone(),
            Ground::Image(rooted) => {
                let mut env = BTreeMap::from([("PATH".to_string(), IMAGE_PATH.to_string())]);
                env.extend(rooted.image.config.env.iter().cloned());
                env
            }
        }
    }

    /// What `$HOME` is.
    pub(crate) fn home(&self) -> &Path {
        match self {
            Ground::Host(host) => &host.home,
            Ground::Image(rooted) => Path::new(&rooted.user.home),
        }
    }

    /// As whom programs run.
    pub(crate) fn identity(&self) -> Identity {
        let Ground::Image(Rooted { user, .. }) = self else { return Identity::caller() };
        // Only root may map more users than itself; then the image's root may do to the image's files what root does.
        let range = rustix::process::geteuid().is_root();
        Identity { uid: user.uid, gid: user.gid, groups: user.groups.clone(), range, keep: range && user.uid == 0 }
    }

    /// Its root. What an image's programs write outside of the workspace is thrown away with the room.
    pub(crate) fn root(&self, room: &Room) -> Result<Root, Halt> {
        let rooted = match self {
            Ground::Host(host) => return Ok(Root::Host(host.view.clone())),
            Ground::Image(rooted) => rooted,
        };
        let upper = room.image_upper();
        make_dirs(&upper)?;
        let work = work_dir(&room.path, "image-work")?;
        Ok(Root::Image(ImageRoot { lower: rooted.image.layers.clone(), upper, work }))
    }

    /// Whether the home is a private folder of the room: an image has its own.
    pub(crate) fn has_private_home(&self) -> bool {
        matches!(self, Ground::Host(_))
    }

    /// Whether a program is at one of its usual places.
    pub(crate) fn has_program(&self, name: &str) -> bool {
        let roots: &[PathBuf] = match self {
            Ground::Host(_) => &[PathBuf::from("/")],
            Ground::Image(rooted) => &rooted.image.layers,
        };
        let places = ["bin", "usr/bin", "usr/local/bin"];
        roots.iter().any(|root| places.iter().any(|place| root.join(place).join(name).symlink_metadata().is_ok()))
    }

    /// What it runs when nobody says: an image's entrypoint with its arguments.
    pub(crate) fn command(&self) -> Vec<String> {
        match self {
            Ground::Host(_) => Vec::new(),
            Ground::Image(rooted) => [&rooted.image.config.entrypoint[..], &rooted.image.config.cmd].concat(),
        }
    }

    /// Where programs start that were not told: an image may say.
    pub(crate) fn work_dir(&self) -> Option<PathBuf> {
        match self {
            Ground::Host(_) => None,
            Ground::Image(rooted) => rooted.image.config.working_dir.as_ref().map(PathBuf::from),
        }
    }
}
