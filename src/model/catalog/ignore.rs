//! `.indexignore`: which files of a catalog do not count, in the words of `.gitignore`.
//!
//! Source: `joelanford/ignore`, which `operator-registry` uses.

use regex::Regex;

/// The name of such a file.
pub const FILE: &str = ".indexignore";

/// The largest one that is read.
pub const MAX_BYTES: usize = 1 << 20;

/// The most patterns of a catalog that count.
const MAX_PATTERNS: usize = 10_000;

/// The patterns of all such files of a catalog.
#[derive(Debug, Default)]
pub struct Ignored {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    /// The folder of its file, with a slash at its end; empty for the catalog's root.
    folder: String,
    regex: Regex,
    negated: bool,
    only_folders: bool,
}

impl Ignored {
    /// Takes in a file. Files have to come from the root down, folder by folder: what is deeper counts more.
    pub fn add(&mut self, folder: &str, text: &str) {
        let folder = match folder {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        let room = MAX_PATTERNS - self.patterns.len().min(MAX_PATTERNS);
        let patterns = text.lines().filter_map(|line| pattern(&folder, line));
        self.patterns.extend(patterns.take(room));
    }

    /// Whether a file does not count: a pattern names it, or a folder that it is in.
    pub fn covers(&self, path: &str) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let folders = path.match_indices('/').map(|(end, _)| (&path[..end], true));
        folders
            .chain([(path, false)])
            .any(|(path, is_folder)| self.names(path, is_folder))
    }

    /// Whether the last pattern that fits a path takes it out.
    fn names(&self, path: &str, is_folder: bool) -> bool {
        let fits = |pattern: &&Pattern| {
            path.strip_prefix(&pattern.folder).is_some_and(|rest| {
                (is_folder || !pattern.only_folders) && pattern.regex.is_match(rest)
            })
        };
        let last = self.patterns.iter().rev().find(fits);
        last.is_some_and(|pattern| !pattern.negated)
    }
}

fn pattern(folder: &str, line: &str) -> Option<Pattern> {
    let line = line.trim_end_matches(['\r', ' ', '\t']);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (negated, line) = match line.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (only_folders, line) = match line.strip_suffix('/') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    // A slash before the end ties a pattern to its file's folder.
    let tied = line.contains('/');
    let body = translated(line.strip_prefix('/').unwrap_or(line));
    let start = if tied { "" } else { "(?:.*/)?" };
    let regex = Regex::new(&format!("^{start}{body}$")).ok()?;
    Some(Pattern {
        folder: folder.to_owned(),
        regex,
        negated,
        only_folders,
    })
}

/// Writes a glob as a regular expression.
fn translated(glob: &str) -> String {
    let mut regex = String::new();
    let mut rest = glob;
    while let Some(first) = rest.chars().next() {
        let (text, length): (String, usize) = if rest.starts_with("**/") {
            ("(?:.*/)?".into(), 3)
        } else if rest.starts_with("**") {
            (".*".into(), 2)
        } else {
            match first {
                '*' => ("[^/]*".into(), 1),
                '?' => ("[^/]".into(), 1),
                '[' => match rest.find(']').filter(|end| *end > 1) {
                    Some(end) => {
                        let inner = rest[1..end].replacen(
                            '!',
                            "^",
                            usize::from(rest[1..].starts_with('!')),
                        );
                        (format!("[{}]", inner.replace('\\', "\\\\")), end + 1)
                    }
                    None => ("\\[".into(), 1),
                },
                '\\' => {
                    let escaped = rest.chars().nth(1).unwrap_or('\\');
                    let length = (1 + escaped.len_utf8()).min(rest.len());
                    (regex::escape(&escaped.to_string()), length)
                }
                other => (regex::escape(&other.to_string()), other.len_utf8()),
            }
        };
        regex += &text;
        rest = &rest[length..];
    }
    regex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_ignored_as_git_ignores_them() {
        let mut ignored = Ignored::default();
        ignored.add(
            "",
            "# comment\n\n*.md\n/top.json\nbuild/\n!keep.md\na/**/z.json\n[xy]?.yaml\r\n",
        );
        ignored.add("deep", "only.json\n!other.md\nsub/*.json\n");
        for (path, covered) in [
            ("README.md", true),
            ("p/README.md", true),
            ("p/keep.md", false),
            ("top.json", true),
            ("p/top.json", false),
            ("build/x.json", true),
            ("p/build/deep/x.json", true),
            ("build", false),
            ("a/z.json", true),
            ("a/b/c/z.json", true),
            ("b/a/z.json", false),
            ("xa.yaml", true),
            ("p/y1.yaml", true),
            ("za.yaml", false),
            ("deep/only.json", true),
            ("deep/er/only.json", true),
            ("only.json", false),
            ("deep/other.md", false),
            ("deep/sub/x.json", true),
            ("deep/sub/er/x.json", false),
        ] {
            assert_eq!(ignored.covers(path), covered, "{path}");
        }
        assert!(!Ignored::default().covers("README.md"));
    }

    #[test]
    fn odd_patterns_do_no_harm() {
        for text in ["[", "[]", "[z-a]", "\\", "!", "/", "***", "(", "a\\"] {
            let mut ignored = Ignored::default();
            ignored.add("", text);
            let _ = ignored.covers("a/b");
        }
    }
}
