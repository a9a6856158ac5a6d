//! Tells whether a file has changed, without reading it.

use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How a file looks from outside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stamp {
    /// It is not there, or cannot be looked at.
    Absent,
    /// Device, inode, length, and when content and entry were changed.
    Present {
        file: (u64, u64),
        size: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
}

/// For so long after a change another one may leave the same times behind: file systems count in steps of up to two seconds.
const GRAIN: Duration = Duration::from_secs(2);

impl Stamp {
    /// Looks at a file, through links.
    pub(super) fn of(path: &Path) -> Self {
        let Ok(found) = std::fs::metadata(path) else {
            return Stamp::Absent;
        };
        Stamp::Present {
            file: (found.dev(), found.ino()),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Returns the stamp where it will differ from that of any later content; `now` is when the file has been read.
    pub(super) fn settled(&self, now: SystemTime) -> Option<Self> {
        let Stamp::Present { changed, .. } = self else {
            return Some(self.clone());
        };
        let since = Duration::from_secs(u64::try_from(changed.0).unwrap_or(0));
        let age = now.duration_since(UNIX_EPOCH + since).unwrap_or_default();
        (age > GRAIN).then(|| self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_shows_and_a_fresh_one_is_not_relied_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        assert_eq!(Stamp::of(&file), Stamp::Absent);
        std::fs::write(&file, "1").unwrap();
        let first = Stamp::of(&file);
        assert_eq!(first, Stamp::of(&file));
        std::fs::write(&file, "12").unwrap();
        assert_ne!(first, Stamp::of(&file));
        let now = SystemTime::now();
        assert_eq!(first.settled(now), None);
        assert_eq!(first.settled(now + GRAIN * 2), Some(first.clone()));
        // A clock that runs behind relies on nothing.
        assert_eq!(first.settled(now - GRAIN * 9), None);
    }
}
