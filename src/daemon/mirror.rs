//! Tries out a mirror registry, reached as the daemon reaches it.

use super::{Error, Sides, Site, client};
use crate::{
    model::{checkup::Checkup, policy::Target},
    registry::Circumstances,
    settings::Settings,
};

/// Tries out a place in a mirror registry; with `writes`, also what has to be pushed for it.
pub async fn check_mirror(
    settings: &Settings,
    sides: &Sides,
    target: &Target,
    writes: bool,
) -> Result<Checkup, Error> {
    let site = Site::of(settings)?;
    // A person waits: what does not answer the second time is told.
    let settings = Settings {
        retries: settings.retries.min(1),
        ..settings.clone()
    };
    let mirror = client(&settings, &site, &sides.mirror)?.direct();
    let with = Circumstances {
        now: jiff::Timestamp::now().as_second(),
        nonce: fastrand::u64(..),
        writes,
    };
    Ok(mirror.check_up(target, with).await)
}
