//! What the service manager is told, where there is one.

use sd_notify::NotifyState;

/// The agent works.
pub fn ready() {
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// The agent drains.
pub fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}
