//! The clusters of the settings and the pictures of them.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{Error, Handle, InlineFile, Inner, Pictured};
use crate::{
    cluster::{
        hold::Picture,
        objects::{File, Objects},
        snapshot::{self, COMMAND},
    },
    settings::Cluster,
    yaml::{MAX_TEXT, Severity},
};

/// More files than this are not read of a folder that is a picture.
const MAX_FILES: usize = 1000;

impl Handle {
    /// Takes the picture of a cluster that was sent in place of the one before. Documents that wait are looked at again.
    pub async fn put_snapshot(
        &self,
        name: &str,
        files: Vec<InlineFile>,
    ) -> Result<Pictured, Error> {
        let cluster = self.inner.cluster(name)?;
        if let Some(file) = &cluster.snapshot {
            return Err(Error::Unfit(format!(
                "the picture of cluster {name} is {}, as the settings say; write that file anew, or take `snapshot` out of the settings",
                file.display()
            )));
        }
        let files: Vec<File> = files.into_iter().map(File::from).collect();
        let kept = snapshot::keep(&files).map_err(|problems| {
            let errors = problems.iter().filter(|p| p.severity == Severity::Error);
            let told: Vec<String> = errors.take(5).map(ToString::to_string).collect();
            Error::Unfit(format!("the picture cannot be read: {}", told.join("; ")))
        })?;
        let objects = kept.objects;
        let nothing = objects.sets.is_empty()
            && objects.pools.is_empty()
            && objects.image.is_none()
            && objects.disruption.is_none();
        if nothing {
            return Err(Error::Unfit(format!(
                "nothing in the files says how a cluster takes mirror rules; take the picture with `{COMMAND}`"
            )));
        }
        let path = self.inner.picture_file(&cluster.name);
        let written =
            tokio::task::spawn_blocking(move || write(&path, &kept.text).map_err(|e| (path, e)));
        written.await?.map_err(|(path, error)| Error::Picture {
            path: path.display().to_string(),
            error,
        })?;
        tracing::info!(
            cluster = name,
            rules = objects.sets.len(),
            "picture of a cluster taken"
        );
        self.inner.hurry_held();
        self.inner.wake.notify_one();
        Ok(Pictured {
            mirror_objects: objects.sets.len(),
            pools: objects.pools.len(),
            image_config: objects.image.is_some(),
            machine_configuration: objects.disruption.is_some(),
            passed_by: kept.passed_by,
        })
    }
}

impl Inner {
    fn cluster(&self, name: &str) -> Result<&Cluster, Error> {
        let clusters = &self.settings.clusters;
        if let Some(found) = clusters.iter().find(|cluster| cluster.name == name) {
            return Ok(found);
        }
        let known: Vec<&str> = clusters.iter().map(|c| c.name.as_str()).collect();
        Err(Error::NoCluster {
            name: name.to_owned(),
            known: match known.is_empty() {
                true => "none".to_owned(),
                false => known.join(", "),
            },
        })
    }

    /// Where the picture of a cluster is kept that was sent.
    fn picture_file(&self, name: &str) -> PathBuf {
        self.settings
            .state
            .join("clusters")
            .join(format!("{name}.json"))
    }

    /// The clusters of the settings with the pictures of them as they are now.
    pub(super) async fn pictures(&self) -> Result<Vec<Picture>, Error> {
        if self.settings.clusters.is_empty() {
            return Ok(Vec::new());
        }
        let clusters = self.settings.clusters.iter();
        let places: Vec<(Cluster, PathBuf)> = clusters
            .map(|cluster| {
                let own = || self.picture_file(&cluster.name);
                (
                    cluster.clone(),
                    cluster.snapshot.clone().unwrap_or_else(own),
                )
            })
            .collect();
        let read = move || places.iter().map(|(c, path)| picture(c, path)).collect();
        Ok(tokio::task::spawn_blocking(read).await?)
    }
}

fn picture(cluster: &Cluster, path: &Path) -> Picture {
    let name = &cluster.name;
    let (objects, taken) = match read(path) {
        Ok((files, taken)) => (understood(path, &files), taken),
        Err(error) if error.kind() == io::ErrorKind::NotFound && cluster.snapshot.is_none() => {
            let why = format!(
                "there is no picture of it yet; `imagesetd cluster snapshot {name} FILE` gives one"
            );
            (Err(why), None)
        }
        Err(error) => {
            let why = format!("its picture {} cannot be read: {error}", path.display());
            (Err(why), None)
        }
    };
    Picture {
        cluster: name.clone(),
        image_sets: cluster.image_sets.clone(),
        objects,
        taken,
    }
}

fn understood(path: &Path, files: &[File]) -> Result<Objects, String> {
    let objects = Objects::read(files);
    let error = objects
        .problems
        .iter()
        .find(|p| p.severity == Severity::Error);
    match error {
        None => Ok(objects),
        Some(first) => Err(format!(
            "its picture {} has a mistake: {first}",
            path.display()
        )),
    }
}

/// Reads a file, or the files of a folder, and when the newest of them was written.
fn read(path: &Path) -> io::Result<(Vec<File>, Option<Timestamp>)> {
    let paths = match fs::metadata(path)?.is_dir() {
        true => listed(path)?,
        false => vec![path.to_owned()],
    };
    let mut files = Vec::new();
    let mut taken = None;
    for path in paths {
        let file = fs::File::open(&path)?;
        let written = file.metadata()?.modified().ok();
        taken = taken.max(written.and_then(|at| Timestamp::try_from(at).ok()));
        let mut bytes = Vec::new();
        file.take(MAX_TEXT as u64 + 1).read_to_end(&mut bytes)?;
        files.push(File {
            name: path.display().to_string(),
            bytes,
        });
    }
    Ok((files, taken))
}

fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_document = |e: &std::ffi::OsStr| e == "yaml" || e == "yml" || e == "json";
        if path.extension().is_some_and(is_document) && path.is_file() {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(io::Error::other(format!(
                "it holds more than {MAX_FILES} files"
            )));
        }
    }
    paths.sort();
    Ok(paths)
}

/// Writes a picture so that it is there whole or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(text.as_bytes())?;
    draft.as_file().sync_all()?;
    draft.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(snapshot: Option<PathBuf>) -> Cluster {
        Cluster {
            name: "prod-a".to_owned(),
            image_sets: vec!["**".to_owned()],
            snapshot,
        }
    }

    #[test]
    fn a_picture_that_is_not_there_is_told_with_what_gives_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clusters/prod-a.json");
        let seen = picture(&cluster(None), &path);
        assert_eq!(
            seen.objects.unwrap_err(),
            "there is no picture of it yet; `imagesetd cluster snapshot prod-a FILE` gives one"
        );
        let named = picture(&cluster(Some(path.clone())), &path);
        let why = named.objects.unwrap_err();
        assert!(why.contains("prod-a.json cannot be read"), "{why}");
        write(&path, "{}\n").unwrap();
        let seen = picture(&cluster(None), &path);
        assert_eq!(seen.objects.unwrap().others, 1);
        assert!(seen.taken.is_some());
        write(&path, "a: [").unwrap();
        let why = picture(&cluster(None), &path).objects.unwrap_err();
        assert!(why.contains("has a mistake"), "{why}");
    }

    #[test]
    fn a_folder_is_a_picture_too() {
        let folder = tempfile::tempdir().unwrap();
        let pool = |name: &str| {
            format!(
                "apiVersion: machineconfiguration.openshift.io/v1\nkind: MachineConfigPool\nmetadata: {{name: {name}}}\n"
            )
        };
        for (file, text) in [
            ("b.yaml", pool("b")),
            ("a.json", pool("a")),
            ("README.md", "[".to_owned()),
        ] {
            fs::write(folder.path().join(file), text).unwrap();
        }
        let seen = picture(&cluster(Some(folder.path().to_owned())), folder.path());
        let pools: Vec<String> = seen
            .objects
            .unwrap()
            .pools
            .into_iter()
            .map(|p| p.name)
            .collect();
        assert_eq!(pools, ["a", "b"]);
    }
}
