//! Reads certificates and tokens again when their files change.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio_util::sync::CancellationToken;

use crate::{
    grpc::{access::Access, tls::Keys},
    model::sentence,
};

/// How often files are looked at: without file events, since those do not tell of links that are swapped, as secrets of Kubernetes are.
const LOOK: Duration = Duration::from_secs(1);

/// How a file was: device, inode, size, and times of content and inode. Nothing where there is none.
type Look = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// What is read again as one.
enum Source {
    Tokens(Arc<Access>),
    Keys(Arc<Keys>, Arc<Access>),
}

impl Source {
    fn paths(&self) -> Vec<PathBuf> {
        match self {
            Source::Tokens(access) => access.tokens_file().cloned().into_iter().collect(),
            Source::Keys(keys, _) => keys.paths(),
        }
    }

    fn reload(&self) -> Result<(), String> {
        match self {
            Source::Tokens(access) => access.reload().map_err(|error| sentence(&error)),
            Source::Keys(keys, access) => {
                keys.reload().map_err(|error| sentence(&error))?;
                // Another CA may not know who is connected.
                access.note_change();
                Ok(())
            }
        }
    }
}

/// A source as it was at the last look.
struct Watched {
    source: Source,
    looks: Vec<Look>,
    /// Whether it may have changed since without looking different.
    again: bool,
    trouble: Option<String>,
}

impl Watched {
    fn new(source: Source) -> Self {
        Watched {
            looks: look(&source),
            source,
            again: true,
            trouble: None,
        }
    }

    /// Reads it again if it is not as it was.
    fn renew(&mut self) {
        let looks = look(&self.source);
        let is_other = looks != self.looks;
        if !is_other && !self.again {
            return;
        }
        self.again = looks.iter().flatten().any(is_fresh);
        self.looks = looks;
        match self.source.reload() {
            Ok(()) if is_other || self.trouble.is_some() => {
                tracing::info!(files = self.files(), "read again, since a file changed");
                self.trouble = None;
            }
            Ok(()) => {}
            Err(error) => {
                let trouble = format!("{error}; what was read before goes on to be used");
                if self.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!(files = self.files(), "{trouble}");
                }
                self.trouble = Some(trouble);
            }
        }
    }

    fn files(&self) -> String {
        let paths = self.source.paths();
        let paths: Vec<String> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        paths.join(", ")
    }
}

fn look(source: &Source) -> Vec<Look> {
    let of = |path: PathBuf| {
        let meta = fs::metadata(path).ok()?;
        let (modified, changed) = (
            (meta.mtime(), meta.mtime_nsec()),
            (meta.ctime(), meta.ctime_nsec()),
        );
        Some((meta.dev(), meta.ino(), meta.size(), modified, changed))
    };
    source.paths().into_iter().map(of).collect()
}

/// Whether a file changed so lately that it may change again without looking different.
fn is_fresh(look: &(u64, u64, u64, (i64, i64), (i64, i64))) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    look.4.0 >= now.saturating_sub(1)
}

/// Looks at the files until `stop` is cancelled; `tell` is told what is wrong with them, whenever that changes.
pub async fn run(
    access: Arc<Access>,
    keys: Vec<Arc<Keys>>,
    tell: impl Fn(Option<String>),
    stop: CancellationToken,
) {
    let with_access = |keys| Source::Keys(keys, Arc::clone(&access));
    let sources = keys.into_iter().map(with_access);
    let sources = sources.chain([Source::Tokens(Arc::clone(&access))]);
    let mut watched: Vec<Watched> = sources
        .filter(|source| !source.paths().is_empty())
        .map(Watched::new)
        .collect();
    let mut told = None;
    while !watched.is_empty() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        // A network's file system may let this wait.
        let looking = tokio::task::spawn_blocking(move || {
            watched.iter_mut().for_each(Watched::renew);
            watched
        });
        let Ok(looked) = looking.await else { return };
        watched = looked;
        let troubles: Vec<&str> = watched
            .iter()
            .filter_map(|w| w.trouble.as_deref())
            .collect();
        let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
        if trouble != told {
            tell(trouble.clone());
            told = trouble;
        }
    }
}
