//! How numbers, ids and digests look to people.

/// Returns a size in binary units with three digits at most (`18.2 GiB`).
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.5 would print as 1024.
    while size >= 1023.5 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let decimals = if size < 99.95 { 1 } else { 0 };
    format!("{size:.decimals$} {}", UNITS[unit])
}

/// Returns a number of things (`1 image`, `189 images`).
pub fn count(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// Returns a span of seconds by its two largest units (`1h02m`, `3m20s`, `45s`).
pub fn seconds(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest:02}s"),
        _ => format!("{hours}h{minutes:02}m"),
    }
}

/// Returns a time in UTC to the second; `-` where there is none.
pub fn time(time: Option<&prost_types::Timestamp>) -> String {
    time.and_then(|time| jiff::Timestamp::from_second(time.seconds).ok())
        .map_or_else(|| "-".to_owned(), |time| time.to_string())
}

/// Returns `sha256:` and the first 12 digits of a digest, all else as it is.
pub fn digest(text: &str) -> &str {
    match text.strip_prefix("sha256:") {
        Some(hex) if hex.len() > 12 && hex.is_ascii() => &text[.."sha256:".len() + 12],
        _ => text,
    }
}

/// Returns a revision with its commit or digest shortened to 12 digits (`main@sha1:1d2c3b4a5f60`).
pub fn revision(text: &str) -> String {
    let Some((head, rest)) = text.rsplit_once(':') else {
        return text.to_owned();
    };
    let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
    if digits <= 12 {
        return text.to_owned();
    }
    format!("{head}:{}{}", &rest[..12], &rest[digits..])
}

/// The fewest digits of an id that people are shown.
const SHORTEST: usize = 6;

/// Returns the beginning of `id` that none of `others` shares, six digits at least.
pub fn short<'a, 'b>(id: &'a str, others: impl IntoIterator<Item = &'b str>) -> &'a str {
    let shared = others
        .into_iter()
        .filter(|other| *other != id)
        .map(|other| {
            id.bytes()
                .zip(other.bytes())
                .take_while(|(a, b)| a == b)
                .count()
        })
        .max()
        .unwrap_or(0);
    id.get(..SHORTEST.max(shared + 1)).unwrap_or(id)
}

/// Lays rows out in columns two blanks apart, the last column as long as it is.
pub fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let pad = widths[column] + 2 - cell.chars().count();
            line += cell;
            line.extend(std::iter::repeat_n(' ', pad));
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Returns text from elsewhere without control characters, which could rewrite a terminal.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let sizes = [
            0,
            1023,
            1024,
            1_048_575,
            19_542_101_196,
            107_374_182_400,
            u64::MAX,
        ];
        assert_eq!(
            sizes.map(bytes),
            [
                "0 B", "1023 B", "1.0 KiB", "1.0 MiB", "18.2 GiB", "100 GiB", "16.0 EiB"
            ]
        );
    }

    #[test]
    fn spans_have_two_units() {
        assert_eq!(
            [0, 45, 200, 3720, 90_000].map(seconds),
            ["0s", "45s", "3m20s", "1h02m", "25h00m"]
        );
    }

    #[test]
    fn ids_are_as_long_as_they_must_be() {
        assert_eq!(short("4f1c9a77", ["4f1c9a77"]), "4f1c9a");
        assert_eq!(short("4f1c9a77", ["4f1c9a78", "00"]), "4f1c9a77");
        assert_eq!(short("4f1", []), "4f1");
    }

    #[test]
    fn revisions_keep_their_branch_and_mark() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(
            revision(&format!("main@sha1:{commit}+dirty")),
            "main@sha1:0123456789ab+dirty"
        );
        assert_eq!(revision("main@sha1:1d2c"), "main@sha1:1d2c");
        assert_eq!(revision(""), "");
    }

    #[test]
    fn tables_line_up_without_trailing_blanks() {
        let rows = [["a", "long", ""], ["four", "b", "c"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "a     long\nfour  b     c\n");
    }

    #[test]
    fn a_message_from_elsewhere_cannot_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r\n"), "a\u{fffd}[2Jb\u{fffd}\n");
    }
}
