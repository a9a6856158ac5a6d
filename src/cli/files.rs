//! Image set files named on the command line, read for `validate` and for plans of files that are not in the watched directory.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use crate::{
    cli::{failure::Failure, output, problems},
    grpc::{convert, v1::File},
    model::imageset::{self, ImageSet, Severity, SourceFile},
};

/// The largest file that is read: what the reader of image sets takes, and a byte to see that there is more.
const LARGEST_FILE: u64 = (4 << 20) + 1;

/// How many files are read at most.
const MOST_FILES: usize = 1000;

/// How deep folders may nest.
const DEEPEST: usize = 16;

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Its path as people know it: as it was given, or below the folder that was.
    pub path: PathBuf,
    /// Its path relative to the folder that the image sets' names count from.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl Given {
    /// Makes it a file that is sent to the daemon.
    pub fn sent(self) -> Result<File, Failure> {
        Ok(File {
            content: text(self.bytes, &self.path.display())?,
            name: self.name,
        })
    }
}

impl From<Given> for SourceFile {
    fn from(given: Given) -> Self {
        SourceFile {
            path: given.path.display().to_string(),
            name: given.name,
            bytes: given.bytes,
        }
    }
}

/// Takes what a file holds for text; `shown` names the file where it is none.
pub fn text(bytes: Vec<u8>, shown: &dyn std::fmt::Display) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_| {
        let message = format!("{shown} is not text in UTF-8");
        Failure::precondition("FILE_UNREADABLE", message)
    })
}

/// Reads the image sets of files; any error in them ends it, since an answer for half of them would mislead.
pub fn image_sets(paths: &[PathBuf]) -> Result<Vec<ImageSet>, Failure> {
    let given = read(paths)?.into_iter();
    let read = imageset::read(&given.map(SourceFile::from).collect::<Vec<_>>());
    if read.problems.iter().any(|p| p.severity == Severity::Error) {
        let found: Vec<_> = read.problems.iter().map(convert::problem).collect();
        output::say(problems::text(&found).trim_end());
        let message = match paths {
            [_] => "the image set file is not valid",
            _ => "the image set files are not valid",
        };
        return Err(Failure::precondition("IMAGE_SET_INVALID", message).with_problems(found));
    }
    let sets = read.image_sets.into_iter();
    Ok(sets.filter_map(|found| found.image_set).collect())
}

/// Reads files, and every `.yaml` and `.yml` below folders, sorted by path. What begins with a dot is passed by.
///
/// A file below a given folder is named relative to that folder. A file given by itself keeps the relative path it was given by; an
/// absolute one, or one that leads out of here, is named by its last part.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Given>, Failure> {
    read_up_to(paths, LARGEST_FILE)
}

/// The same, with this many bytes of each file.
pub fn read_up_to(paths: &[PathBuf], limit: u64) -> Result<Vec<Given>, Failure> {
    let mut found = BTreeMap::new();
    for path in paths {
        match path.is_dir() {
            true => walk(path, path, DEEPEST, &mut found)?,
            false => {
                found.insert(path.clone(), own_name(path));
            }
        }
    }
    if found.is_empty() {
        let given = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(", ");
        return Err(Failure::precondition(
            "NO_FILES",
            format!("there is no .yaml or .yml file in {given}"),
        ));
    }
    if found.len() > MOST_FILES {
        return Err(Failure::precondition(
            "TOO_LARGE",
            format!(
                "{} files were given, and {MOST_FILES} are the most that are read at once",
                found.len()
            ),
        ));
    }
    found
        .into_iter()
        .map(|(path, name)| {
            let bytes = read_one(&path, limit)?;
            Ok(Given { path, name, bytes })
        })
        .collect()
}

fn walk(
    root: &Path,
    folder: &Path,
    depth: usize,
    found: &mut BTreeMap<PathBuf, String>,
) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::precondition(
            "FILE_UNREADABLE",
            format!("reading the folder {}: {error}", folder.display()),
        )
    };
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        {
            continue;
        }
        if path.is_dir() {
            if depth > 0 {
                walk(root, &path, depth - 1, found)?;
            }
        } else if path
            .extension()
            .is_some_and(|ext| ext == "yaml" || ext == "yml")
        {
            let name = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            found.insert(path, name);
        }
    }
    Ok(())
}

fn own_name(path: &Path) -> String {
    let parts: Vec<_> = path
        .components()
        .filter(|part| *part != Component::CurDir)
        .collect();
    let name: PathBuf = match parts
        .iter()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        true => parts.iter().collect(),
        false => path.file_name().map(PathBuf::from).unwrap_or_default(),
    };
    name.to_string_lossy().into_owned()
}

fn read_one(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| {
            Failure::precondition(
                "FILE_UNREADABLE",
                format!("reading {}: {error}", path.display()),
            )
        })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_from_the_folder_that_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("prod/.git")).unwrap();
        for name in [
            "prod/a.yaml",
            "b.yml",
            "prod/.git/c.yaml",
            ".d.yaml",
            "e.txt",
        ] {
            std::fs::write(at(name), name).unwrap();
        }
        let read = read(&[folder.path().to_owned()]).unwrap();
        let given = |name: &str| Given {
            path: at(name),
            name: name.to_owned(),
            bytes: name.into(),
        };
        assert_eq!(read, [given("b.yml"), given("prod/a.yaml")]);
    }

    #[test]
    fn a_file_by_itself_keeps_its_relative_path() {
        assert_eq!(own_name(Path::new("./prod/a.yaml")), "prod/a.yaml");
        assert_eq!(own_name(Path::new("/srv/prod/a.yaml")), "a.yaml");
        assert_eq!(own_name(Path::new("../a.yaml")), "a.yaml");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let failure = read(&["/nowhere/a.yaml".into()]).unwrap_err();
        assert!(
            failure.message.starts_with("reading /nowhere/a.yaml: "),
            "{failure}"
        );
    }
}
