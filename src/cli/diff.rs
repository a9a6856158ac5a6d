//! A line diff of two documents, as `diff -u` writes its hunks.

/// How many unchanged lines stand around a change.
const CONTEXT: usize = 3;

/// The most cells of the table that finds common lines; beyond it the middle counts as replaced.
const LARGEST_TABLE: usize = 16_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Same(&'a str),
    Gone(&'a str),
    New(&'a str),
}

/// Returns how many lines were added and removed.
pub fn size(before: &str, after: &str) -> (usize, usize) {
    let lines = compare(before, after);
    let new = lines
        .iter()
        .filter(|line| matches!(line, Line::New(_)))
        .count();
    let gone = lines
        .iter()
        .filter(|line| matches!(line, Line::Gone(_)))
        .count();
    (new, gone)
}

/// Returns the changed lines with their surroundings, marked with `+`, `-` and a blank; `...` where lines are left out.
pub fn unified(before: &str, after: &str) -> String {
    let lines = compare(before, after);
    let changed: Vec<usize> = (0..lines.len())
        .filter(|&at| !matches!(lines[at], Line::Same(_)))
        .collect();
    let near = |at: usize| {
        let next = changed.partition_point(|&change| change + CONTEXT < at);
        changed
            .get(next)
            .is_some_and(|&change| change <= at + CONTEXT)
    };
    let mut text = String::new();
    let mut left_out = false;
    for (at, line) in lines.iter().enumerate() {
        if !near(at) {
            left_out = true;
            continue;
        }
        if std::mem::take(&mut left_out) {
            text += " ...\n";
        }
        let (mark, line) = match line {
            Line::Same(line) => (' ', line),
            Line::Gone(line) => ('-', line),
            Line::New(line) => ('+', line),
        };
        text.push(mark);
        text += line;
        text.push('\n');
    }
    text
}

fn compare<'a>(before: &'a str, after: &'a str) -> Vec<Line<'a>> {
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old.len().min(new.len()) - head;
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(rest)
        .take_while(|(a, b)| a == b)
        .count();
    let mut lines: Vec<Line> = old[..head].iter().map(|line| Line::Same(line)).collect();
    middle(
        &old[head..old.len() - tail],
        &new[head..new.len() - tail],
        &mut lines,
    );
    lines.extend(old[old.len() - tail..].iter().map(|line| Line::Same(line)));
    lines
}

/// Finds the longest common lines of what differs.
fn middle<'a>(old: &[&'a str], new: &[&'a str], lines: &mut Vec<Line<'a>>) {
    let width = new.len() + 1;
    let (mut at, mut to) = (0, 0);
    if old.len().saturating_mul(width) <= LARGEST_TABLE {
        let mut common = vec![0_u32; (old.len() + 1) * width];
        for a in (0..old.len()).rev() {
            for b in (0..new.len()).rev() {
                common[a * width + b] = match old[a] == new[b] {
                    true => common[(a + 1) * width + b + 1] + 1,
                    false => common[(a + 1) * width + b].max(common[a * width + b + 1]),
                };
            }
        }
        while at < old.len() && to < new.len() {
            if old[at] == new[to] {
                lines.push(Line::Same(old[at]));
                (at, to) = (at + 1, to + 1);
            } else if common[(at + 1) * width + to] >= common[at * width + to + 1] {
                lines.push(Line::Gone(old[at]));
                at += 1;
            } else {
                lines.push(Line::New(new[to]));
                to += 1;
            }
        }
    }
    lines.extend(old[at..].iter().map(|line| Line::Gone(line)));
    lines.extend(new[to..].iter().map(|line| Line::New(line)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_stands_in_its_surroundings() {
        let before = "1\n2\n3\n4\n5\nold\n6\n7\n8\n9\n10\n";
        let after = "1\n2\n3\n4\n5\nnew\n6\n7\n8\n9\n10\n11\n";
        assert_eq!(
            unified(before, after),
            " ...\n 3\n 4\n 5\n-old\n+new\n 6\n 7\n 8\n 9\n 10\n+11\n"
        );
        assert_eq!(size(before, after), (2, 1));
    }

    #[test]
    fn the_same_text_has_no_diff() {
        assert_eq!(unified("a\nb\n", "a\nb\n"), "");
    }

    #[test]
    fn a_new_document_is_all_new() {
        assert_eq!(unified("", "a\nb\n"), "+a\n+b\n");
        assert_eq!(unified("a\n", ""), "-a\n");
    }

    #[test]
    fn an_inserted_line_leaves_its_likes_alone() {
        assert_eq!(
            unified("- a\n- b\n", "- a\n- a\n- b\n"),
            " - a\n+- a\n - b\n"
        );
    }
}
