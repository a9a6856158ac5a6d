//! A file's bytes as text, and the text's documents.

use super::{MAX_DOCUMENTS, MAX_TEXT, Problem, Severity};

/// The text of one document, with the comments and directives before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// The line of the piece's first character in the file, from 1.
    pub(super) line: u32,
    /// The text.
    pub(super) text: &'a str,
}

/// Checks size and characters, and leaves out a byte order mark.
pub(super) fn decode<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Problem> {
    let problem = |place, message, hint| problem(file, place, message, hint);
    if bytes.len() > MAX_TEXT {
        let message = format!(
            "the file has {} bytes, more than the {MAX_TEXT} that are read",
            bytes.len()
        );
        return Err(problem((0, 0), message, "split it into several files"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let place = place_after(std::str::from_utf8(good).unwrap_or_default());
        let hint = "save it as UTF-8 without other encodings in it";
        problem(place, "the file is not UTF-8 here".to_owned(), hint)
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.char_indices().find(|&(_, c)| !is_printable(c)) {
        None => Ok(text),
        Some((index, c)) => {
            let message = format!(
                "the invisible character U+{:04X} is not taken in YAML",
                u32::from(c)
            );
            Err(problem(place_after(&text[..index]), message, "remove it"))
        }
    }
}

/// Refuses a file with too many documents.
pub(super) fn too_many(file: &str, count: usize) -> Problem {
    let message =
        format!("the file has {count} documents, more than the {MAX_DOCUMENTS} that are read");
    problem(file, (0, 0), message, "split it into several files")
}

fn problem(file: &str, (line, column): (u32, u32), message: String, hint: &str) -> Problem {
    Problem {
        file: file.to_owned(),
        line,
        column,
        severity: Severity::Error,
        path: String::new(),
        message,
        hint: hint.to_owned(),
    }
}

/// Whether a character may stand in a text and means the same to everyone.
///
/// YAML 1.1, oc-mirror's, ends a line at U+0085, U+2028 and U+2029 too; to YAML 1.2, ours, they are letters. Invisible as they are, they are
/// refused before the two can read one text differently.
fn is_printable(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => true,
        '\u{2028}' | '\u{2029}' => false,
        c => !c.is_control(),
    }
}

/// The line and column of what follows `text`.
fn place_after(text: &str) -> (u32, u32) {
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().unwrap_or(text).chars().count() + 1;
    (clamp(line), clamp(column))
}

/// A count as it is shown; texts are too short to be cut here.
pub(super) fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Cuts a text at its document markers.
///
/// `---` and `...` at the beginning of a line are markers wherever they stand, also within quotes and block text (YAML 1.2,
/// `c-forbidden`), so this needs no knowledge of what is between them.
pub(super) fn split(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut start, mut line) = (0, 1);
    let (mut has_content, mut offset) = (false, 0);
    for (index, row) in text.split_inclusive('\n').enumerate() {
        if is_marker(row, "---") && has_content {
            pieces.push(Piece {
                line,
                text: &text[start..offset],
            });
            (start, line) = (offset, clamp(index + 1));
        }
        offset += row.len();
        has_content |= is_marker(row, "---") || is_content(row);
        if is_marker(row, "...") {
            pieces.push(Piece {
                line,
                text: &text[start..offset],
            });
            (start, line, has_content) = (offset, clamp(index + 2), false);
        }
    }
    if has_content {
        pieces.push(Piece {
            line,
            text: &text[start..],
        });
    }
    pieces
}

/// Whether a line is this document marker, perhaps with something after it.
fn is_marker(row: &str, marker: &str) -> bool {
    row.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether a line says something, other than a comment or a directive.
fn is_content(row: &str) -> bool {
    let trimmed = row.trim_start();
    !trimmed.is_empty() && !trimmed.starts_with('#') && !row.starts_with('%')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<(u32, &str)> {
        split(text).iter().map(|p| (p.line, p.text)).collect()
    }

    #[test]
    fn documents_are_cut_at_markers_with_their_comments_and_directives() {
        assert_eq!(pieces(""), vec![]);
        assert_eq!(pieces("# only a comment\n\n"), vec![]);
        assert_eq!(pieces("a: 1"), vec![(1, "a: 1")]);
        assert_eq!(
            pieces("# x\n---\na: 1\n---\nb: 2\n"),
            vec![(1, "# x\n---\na: 1\n"), (4, "---\nb: 2\n")]
        );
        assert_eq!(
            pieces("a: 1\r\n...\r\n%YAML 1.1\r\n---\r\nb: 2"),
            vec![(1, "a: 1\r\n...\r\n"), (3, "%YAML 1.1\r\n---\r\nb: 2")]
        );
        assert_eq!(
            pieces("--- a\n--- b\n"),
            vec![(1, "--- a\n"), (2, "--- b\n")]
        );
        assert_eq!(pieces("a: ---\n----\n"), vec![(1, "a: ---\n----\n")]);
    }

    #[test]
    fn encoding_problems_name_their_place() {
        let at = |bytes: &[u8]| {
            let problem = decode("f", bytes).unwrap_err();
            (problem.line, problem.column, problem.message)
        };
        assert_eq!(
            at(b"a\n\xc3\xa9 \xff"),
            (2, 3, "the file is not UTF-8 here".to_owned())
        );
        assert_eq!(
            at(b"a: \x01"),
            (
                1,
                4,
                "the invisible character U+0001 is not taken in YAML".to_owned()
            )
        );
        for sign in ["\u{85}", "\u{2028}", "\u{2029}", "\u{7f}", "\0"] {
            assert_eq!(
                (1, 2),
                (
                    at(format!("é{sign}").as_bytes()).0,
                    at(format!("é{sign}").as_bytes()).1
                )
            );
        }
        assert_eq!(
            at(&vec![b'a'; MAX_TEXT + 1]),
            (
                0,
                0,
                "the file has 4194305 bytes, more than the 4194304 that are read".to_owned()
            )
        );
        assert!(decode("f", &vec![b'a'; MAX_TEXT]).is_ok());
        assert_eq!(decode("f", "\u{feff}a".as_bytes()), Ok("a"));
    }
}
