//! Names a state of the directory.

use std::fmt::{self, Write as _};

use crate::{gitops::File, model::image::Digest};

/// Which state of the directory was observed.
///
/// - `main@sha1:<commit>` in a Git work tree whose files are as committed; `HEAD@sha1:<commit>` where no branch is checked out;
///   `sha256:` instead of `sha1:` in a repository of that object format.
/// - the same with `+dirty` at its end where a considered file differs from the commit, is missing, or is not in it. Two dirty
///   states may carry the same revision and hold different files.
/// - `sha256:<hex>` elsewhere: over names and bytes, see [`Revision::of_files`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(String);

impl Revision {
    /// Returns the revision's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether files differ from the commit that this revision names.
    pub fn is_dirty(&self) -> bool {
        self.0.ends_with("+dirty")
    }

    /// Whether a Git commit vouches for the files: they cannot be half-written then.
    pub fn is_committed(&self) -> bool {
        !self.is_dirty() && self.0.contains('@')
    }

    /// Names a commit; `branch` is `HEAD` where none is checked out.
    pub(super) fn of_commit(branch: &str, commit: &str, dirty: bool) -> Self {
        let algorithm = if commit.len() == 64 { "sha256" } else { "sha1" };
        let mark = if dirty { "+dirty" } else { "" };
        Revision(format!("{branch}@{algorithm}:{commit}{mark}"))
    }

    /// Names files by what they hold.
    ///
    /// It is the SHA-256 of what coreutils' `sha256sum` prints for the files, sorted by name, bytewise: a line
    /// `<sha256>  <name>` for each, so that a person can compute it too:
    ///
    /// ```sh
    /// find -L * -name '*.yaml' -o -name '*.yml' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum
    /// ```
    ///
    /// Names that hold a backslash, a line feed or a carriage return are escaped as sha256sum does; an unreadable file counts as
    /// an empty one; of a file beyond the limit the part that was read counts.
    pub fn of_files(files: &[File]) -> Self {
        let mut lines = String::new();
        for file in files {
            let bytes = file.bytes.as_deref().unwrap_or_default();
            let name = escaped(&file.name);
            let mark = if name == file.name { "" } else { "\\" };
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{mark}{}  {name}", Digest::of(bytes).hex());
        }
        Revision(Digest::of(lines.as_bytes()).to_string())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, bytes: &str) -> File {
        File {
            path: format!("/sets/{name}"),
            name: name.into(),
            bytes: Ok(bytes.into()),
        }
    }

    #[test]
    fn files_are_named_as_sha256sum_names_them() {
        // printf A >a.yaml; printf B >b/c.yml; sha256sum a.yaml b/c.yml | sha256sum
        let files = [file("a.yaml", "A"), file("b/c.yml", "B")];
        let lines = format!(
            "{}  a.yaml\n{}  b/c.yml\n",
            Digest::of(b"A").hex(),
            Digest::of(b"B").hex()
        );
        assert_eq!(
            Revision::of_files(&files).as_str(),
            Digest::of(lines.as_bytes()).to_string()
        );
    }

    #[test]
    fn a_line_feed_in_a_name_cannot_forge_another_file() {
        let second = Digest::of(b"B").hex();
        let forged = [file(&format!("a.yaml\n{second}  b.yaml"), "A")];
        let honest = [file("a.yaml", "A"), file("b.yaml", "B")];
        assert_ne!(Revision::of_files(&forged), Revision::of_files(&honest));
    }

    #[test]
    fn a_commit_is_named_with_branch_format_and_mark() {
        let sha1 = "a".repeat(40);
        let sha256 = "b".repeat(64);
        let named = |branch, commit: &str, dirty| Revision::of_commit(branch, commit, dirty);
        assert_eq!(named("main", &sha1, false).0, format!("main@sha1:{sha1}"));
        assert_eq!(
            named("HEAD", &sha1, true).0,
            format!("HEAD@sha1:{sha1}+dirty")
        );
        assert_eq!(
            named("a/b", &sha256, false).0,
            format!("a/b@sha256:{sha256}")
        );
        assert!(named("main", &sha1, true).is_dirty());
        assert!(!named("main", &sha1, true).is_committed());
        assert!(!named("main", &sha1, false).is_dirty());
        assert!(named("main", &sha1, false).is_committed());
        assert!(!Revision::of_files(&[]).is_committed());
    }
}
