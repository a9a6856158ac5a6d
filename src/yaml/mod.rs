//! Reads a person's YAML with the places kept, so that what is wrong with it can be shown where it is.
//!
//! `documents` takes a file apart, `tree` makes nodes of a document, `scalar` says what a plain word means, `reader` hands a mapping's
//! fields to a schema, `report` collects the problems.
//!
//! **Invariant:** pure; whatever the bytes are, reading them neither panics nor takes more memory or time than the limits below allow.

pub mod problem;

mod documents;

mod node;

mod scalar;

mod tree;

pub mod suggest;

pub mod report;

pub mod reader;

pub mod pluck;

pub mod json;

pub use node::{Entry, Node, Pos, Scalar, Value};
pub use problem::{Problem, Severity};

/// The largest text of a file that is read, in bytes.
pub const MAX_TEXT: usize = 4 << 20;

/// The deepest nesting of lists and mappings.
pub const MAX_DEPTH: usize = 64;

/// The most values a document may have, what aliases repeat counted each time.
pub const MAX_NODES: usize = 500_000;

/// The most documents a file may have.
pub const MAX_DOCUMENTS: usize = 10_000;

/// A document of a file that is not empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Document<'a> {
    /// The line the document's text begins on, from 1.
    pub line: u32,
    /// The document's text.
    pub text: &'a str,
    /// The document's content, or nothing where its syntax is broken.
    pub root: Option<std::sync::Arc<Node>>,
    /// Broken syntax, or keys that are written twice.
    pub problems: Vec<Problem>,
}

/// Takes a file apart into its documents, those without content left out.
///
/// A document whose syntax is broken does not keep the ones after it from being read. `file` is what problems name.
///
/// # Errors
///
/// The one problem that keeps the file from being read at all: its size, its encoding, or too many documents.
pub fn parse<'a>(file: &str, bytes: &'a [u8]) -> Result<Vec<Document<'a>>, Problem> {
    let text = documents::decode(file, bytes)?;
    let pieces = documents::split(text);
    if pieces.len() > MAX_DOCUMENTS {
        return Err(documents::too_many(file, pieces.len()));
    }
    Ok(pieces
        .into_iter()
        .filter_map(|piece| read_document(file, piece))
        .collect())
}

/// Reads one piece; nothing where it holds only comments.
fn read_document<'a>(file: &str, piece: documents::Piece<'a>) -> Option<Document<'a>> {
    let document = |root, problems| Document {
        line: piece.line,
        text: piece.text,
        root,
        problems,
    };
    match tree::build(file, &piece) {
        Ok((None, problems)) if problems.is_empty() => None,
        Ok((root, problems)) => Some(document(root, problems)),
        Err(problem) => Some(document(None, vec![*problem])),
    }
}

/// Cuts a text that stands in a message, so that hostile input does not fill a screen.
pub fn shorten(text: &str) -> String {
    let line = text.replace(char::is_control, " ");
    match line.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one document of a text, which has no problems.
    fn root(text: &str) -> std::sync::Arc<Node> {
        let mut documents = parse("f", text.as_bytes()).unwrap();
        assert_eq!(documents.len(), 1, "{text}");
        let document = documents.remove(0);
        assert_eq!(document.problems, [], "{text}");
        document.root.unwrap()
    }

    /// Writes a node as `line:column` and its value, keys with their places before them.
    fn shown(node: &Node) -> String {
        let value = match &node.value {
            Value::Scalar(scalar) => format!("{:?}", &*scalar.text),
            Value::Sequence(items) => {
                let items: Vec<String> = items.iter().map(|item| shown(item)).collect();
                format!("[{}]", items.join(" "))
            }
            Value::Mapping(entries) => {
                let entry = |e: &Entry| {
                    format!(
                        "{}:{} {}={}",
                        e.at.line,
                        e.at.column,
                        e.key,
                        shown(&e.value)
                    )
                };
                let entries: Vec<String> = entries.iter().map(entry).collect();
                format!("{{{}}}", entries.join(", "))
            }
        };
        format!("{}:{} {value}", node.at.line, node.at.column)
    }

    /// The problems of a text as `line:column path: message`.
    fn problems(text: &str) -> Vec<String> {
        let documents = parse("f", text.as_bytes()).unwrap();
        let all = documents.iter().flat_map(|document| &document.problems);
        all.map(|p| format!("{}:{} {}: {}", p.line, p.column, p.path, p.message))
            .collect()
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        assert_eq!(
            shown(&root("\u{feff}a: b\r\n\"é\": [ü, \"x y\"]\n")),
            r#"1:1 {1:1 a=1:4 "b", 2:1 é=2:6 [2:7 "ü" 2:10 "x y"]}"#
        );
        assert_eq!(
            shown(&root("# c\n---\nl:\n- a: 1\n  b: |\n    t\n-  - x\n")),
            r#"3:1 {3:1 l=4:3 [4:3 {4:3 a=4:6 "1", 5:3 b=6:5 "t\n"} 7:4 [7:6 "x"]]}"#
        );
    }

    #[test]
    fn an_empty_value_is_where_its_key_is() {
        assert_eq!(
            shown(&root("a:\n\n# c\nb: ~\n")),
            r#"1:1 {1:1 a=1:1 "", 4:1 b=4:4 "~"}"#
        );
    }

    #[test]
    fn aliases_repeat_and_merges_yield_to_what_is_written() {
        assert_eq!(
            shown(&root("a: &x [1]\nb: *x\n")),
            r#"1:1 {1:1 a=1:4 [1:8 "1"], 2:1 b=1:4 [1:8 "1"]}"#
        );
        assert_eq!(
            shown(&root(
                "<<: [{a: 1, b: 2}, {b: 3, c: 4}]\na: 5\n<<: {c: 6, d: 7}\n\"<<\": 8\n"
            )),
            r#"1:1 {2:1 a=2:4 "5", 4:1 <<=4:7 "8", 1:13 b=1:16 "2", 1:27 c=1:30 "4", 3:12 d=3:15 "7"}"#
        );
        for text in ["<<: x\n", "<<: [x]\n", "<<: [[]]\n", "<<:\n"] {
            assert_eq!(
                problems(text),
                ["1:1 : `<<` takes a mapping, or a list of mappings, in"],
                "{text}"
            );
        }
    }

    #[test]
    fn keys_that_are_there_twice_or_no_text_are_told() {
        assert_eq!(
            problems("a:\n- b: 1\n- b: 1\n  c: 2\n  'b': 3\n  b: 4\na: 1\n"),
            [
                "5:3 a[1].b: `b` is there twice, first on line 3, column 3",
                "6:3 a[1].b: `b` is there twice, first on line 3, column 3",
                "7:1 a: `a` is there twice, first on line 1, column 1",
            ]
        );
        assert_eq!(
            problems("a:\n  ? [x]\n  : y\n  {}: z\n"),
            [
                "2:5 a: a key must be a text, not a list or a mapping",
                "4:3 a: a key must be a text, not a list or a mapping",
            ]
        );
    }

    #[test]
    fn documents_do_not_share_anchors_or_syntax_errors() {
        let text = "a: &x 1\n---\nb: *x\n---\nc: [\n---\nd: 1\n";
        assert_eq!(
            problems(text),
            [
                "3:4 : this is not YAML: while parsing node, found unknown anchor",
                "6:1 : this is not YAML: while parsing a node, did not find expected node content",
            ]
        );
        let documents = parse("f", text.as_bytes()).unwrap();
        let whole: Vec<bool> = documents.iter().map(|d| d.root.is_some()).collect();
        assert_eq!(whole, [true, false, false, true]);
        assert_eq!(documents[3].line, 6);
    }

    #[test]
    fn brackets_and_comments_may_stand_where_people_put_them() {
        for text in [
            "a:\n  b: [\n    x,\n    y,\n  ]\n  c: {\n    k: v,\n  }\nd: [\n x\n]\n",
            "a:\n# left\n  b:\n      # right\n  - x\n  # end\n  -   y \t\n#\n",
            "a: # why\n  - b: c # d\n\n\n    e: 'f # g'\n",
            "a: b\t\nc: d\t# e\n",
            "a: b\r\nc:\r\n  - d\r\n",
            "{\"a\": [1, 2], \"b\": {\"c\": null}}\n",
            "{\n\t\"a\": [\n\t\t1\n\t]\n}\n",
            "a: b\n...\n# after\n",
            "%YAML 1.1\n---\na: b\n",
            "a: {b: c,d: e}\nf: [g,h]\n",
            "a: http://x/y:z#t\n",
            "a: >-\n  b\n\n  c\nd: |2\n   e\n",
        ] {
            root(text);
        }
    }

    #[test]
    fn documents_end_at_their_limit() {
        let many = |count: usize| parse("f", "--- a\n".repeat(count).as_bytes()).map(|d| d.len());
        assert_eq!(many(MAX_DOCUMENTS), Ok(MAX_DOCUMENTS));
        assert_eq!(
            many(MAX_DOCUMENTS + 1).unwrap_err().message,
            "the file has 10001 documents, more than the 10000 that are read"
        );
    }

    #[test]
    fn nesting_ends_at_its_limit() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(problems(&nested(MAX_DEPTH)), Vec::<String>::new());
        let deep = "lists and mappings are more than 64 levels deep here";
        assert_eq!(problems(&nested(MAX_DEPTH + 1)), [format!("1:65 : {deep}")]);
        let block: String = (0..70).map(|n| " ".repeat(n) + "a:\n").collect();
        assert_eq!(problems(&block), [format!("65:65 : {deep}")]);
        let by_alias = format!(
            "a: &x {}\nb: {}*x{}\n",
            nested(40),
            "[".repeat(30),
            "]".repeat(30)
        );
        assert_eq!(problems(&by_alias), [format!("2:34 : {deep}")]);
    }

    #[test]
    fn expansion_ends_at_its_limits() {
        let grows = "the document grows beyond 500000 values or 4194304 bytes here, its aliases written out";
        let laughs: String = (0..10)
            .map(|n| match n {
                0 => "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(),
                n => format!(
                    "a{n}: &a{n} [{}]\n",
                    vec![format!("*a{}", n - 1); 10].join(",")
                ),
            })
            .collect();
        assert_eq!(problems(&laughs), [format!("6:22 : {grows}")]);
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(5));
        assert_eq!(problems(&long), [format!("2:17 : {grows}")]);
        let merged: String = (0..40)
            .map(|n| match n {
                0 => "a0: &a0 {k: v}\n".to_owned(),
                n => format!("a{n}: &a{n} {{<<: *a{}, k{n}: *a{}}}\n", n - 1, n - 1),
            })
            .collect();
        assert_eq!(problems(&merged).len(), 1);
        assert!(problems(&merged)[0].ends_with(grows));
    }

    #[test]
    fn large_files_of_every_shape_are_read_or_refused() {
        let shapes = [
            "a",
            "a: b\n",
            "- ",
            "-\n",
            "[",
            "{a: ",
            "[],",
            "\"",
            "'a\n",
            "? ",
            "&a ",
            "*a ",
            "!!str ",
            "#",
            "# c\n",
            "|\n ",
            "---\n",
            "...\n",
            "--- a\n",
            "%T a\n",
            "\t",
            " ",
            "\n",
            ": ",
            "a: &a\n",
            "<<: *a\n",
            "a,",
            "\"\\x41\",",
            "é: ü\n",
        ];
        for shape in shapes {
            for before in ["", "x: ", "[", "x: |\n ", "- "] {
                let text = before.to_owned() + &shape.repeat((1 << 16) / shape.len());
                for document in parse("f", text.as_bytes()).unwrap_or_default() {
                    assert!(document.problems.len() <= report::MAX_PROBLEMS);
                }
            }
        }
    }
}
