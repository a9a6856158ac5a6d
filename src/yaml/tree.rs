//! A document's events as a tree of nodes that know their places.

use std::{collections::HashMap, sync::Arc};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{
    Entry, MAX_DEPTH, MAX_NODES, MAX_TEXT, Node, Pos, Problem, Scalar, Severity, Value,
    documents::{Piece, clamp},
    shorten,
};

/// What became of a document: its root, where it has content, and its small problems.
type Built = Result<(Option<Arc<Node>>, Vec<Problem>), Box<Problem>>;

/// Builds the tree of one document; nothing where the document has no content.
///
/// The problems beside it are keys that are written twice or are no text. The error is what ends the reading.
pub(super) fn build(file: &str, piece: &Piece<'_>) -> Built {
    let mut builder = Builder {
        file,
        first_line: piece.line,
        stack: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        repeated: 0,
        root: None,
        problems: Vec::new(),
    };
    let mut parser = Parser::new_from_str(piece.text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| builder.syntax(&error))?;
        builder.take(event, span)?;
    }
    let root = builder.root.filter(|node| !node.is_empty_word());
    Ok((root, builder.problems))
}

/// A list or mapping whose end has not come yet.
enum Open {
    List(Vec<Arc<Node>>),
    Mapping(Box<OpenMapping>),
}

/// A mapping whose end has not come yet.
#[derive(Default)]
struct OpenMapping {
    entries: Vec<Entry>,
    places: HashMap<Arc<str>, Pos>,
    /// The key whose value comes next.
    key: Option<Key>,
    /// The values of `<<`.
    merges: Vec<(Pos, Arc<Node>)>,
}

/// What stands before a colon.
enum Key {
    Text(Arc<str>, Pos),
    Merge(Pos),
    /// Not a text: reported, its value is left out.
    Unfit(Pos),
}

/// An open collection, with where it begins and its anchor.
struct Frame {
    at: Pos,
    anchor: usize,
    open: Open,
}

struct Builder<'a> {
    file: &'a str,
    first_line: u32,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Arc<Node>>,
    nodes: usize,
    repeated: usize,
    root: Option<Arc<Node>>,
    problems: Vec<Problem>,
}

type Step = Result<(), Box<Problem>>;

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Step {
        let at = self.place(span.start.line(), span.start.col());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = Scalar {
                    text: text.as_ref().into(),
                    plain: style == ScalarStyle::Plain,
                    tag: tag.map(|tag| tag_name(&tag)),
                };
                self.scalar(scalar, at, anchor)
            }
            Event::Alias(id) => self.alias(id, at),
            Event::SequenceStart(anchor, _) => self.open(at, anchor, Open::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.open(at, anchor, Open::Mapping(Box::default())),
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::DocumentStart(_) if self.root.is_some() => Err(self.fatal(
                at,
                "another document begins here without `---` before it".to_owned(),
                "put a line `---` between documents",
            )),
            _ => Ok(()),
        }
    }

    fn scalar(&mut self, scalar: Scalar, at: Pos, anchor: usize) -> Step {
        // The parser puts an empty value where the next token is, often lines below; its key is what a person looks for.
        let at = match self.awaited() {
            Some(key) if scalar.text.is_empty() && scalar.plain => key,
            _ => at,
        };
        let node = Arc::new(Node {
            at,
            height: 0,
            nodes: 1,
            bytes: scalar.text.len(),
            value: Value::Scalar(scalar),
        });
        self.remember(anchor, &node);
        self.count(1, 0, at)?;
        self.put(node, at)
    }

    fn alias(&mut self, id: usize, at: Pos) -> Step {
        let Some(node) = self.anchors.get(&id).cloned() else {
            let message = "this alias is part of the value it repeats".to_owned();
            return Err(self.fatal(at, message, "write the value out"));
        };
        if self.stack.len() + node.height > MAX_DEPTH {
            return Err(self.too_deep(at));
        }
        self.count(node.nodes, node.bytes, at)?;
        self.put(node, at)
    }

    fn open(&mut self, at: Pos, anchor: usize, open: Open) -> Step {
        if self.stack.len() == MAX_DEPTH {
            return Err(self.too_deep(at));
        }
        self.count(1, 0, at)?;
        self.stack.push(Frame { at, anchor, open });
        Ok(())
    }

    fn close(&mut self) -> Step {
        let Some(frame) = self.stack.pop() else {
            return Ok(());
        };
        let at = frame.at;
        let value = match frame.open {
            Open::List(items) => Value::Sequence(items),
            Open::Mapping(mapping) => Value::Mapping(self.merge(*mapping)?),
        };
        let node = Arc::new(Node::collection(at, value));
        self.remember(frame.anchor, &node);
        self.put(node, at)
    }

    /// Hands a finished value to what it is part of.
    fn put(&mut self, node: Arc<Node>, at: Pos) -> Step {
        match self.stack.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Mapping(mapping)) => match mapping.key.take() {
                None => self.key(&node, at),
                Some(Key::Text(key, at)) => self.entry(Entry {
                    key,
                    at,
                    value: node,
                }),
                Some(Key::Merge(at)) => mapping.merges.push((at, node)),
                Some(Key::Unfit(_)) => {}
            },
        }
        Ok(())
    }

    /// Takes a mapping's next key.
    fn key(&mut self, node: &Node, at: Pos) {
        let key = match &node.value {
            Value::Scalar(scalar) if scalar.plain && &*scalar.text == "<<" => Key::Merge(at),
            Value::Scalar(scalar) => Key::Text(Arc::clone(&scalar.text), at),
            _ => {
                let message = "a key must be a text, not a list or a mapping".to_owned();
                self.report(at, self.path(), message, "write a word before the colon");
                Key::Unfit(at)
            }
        };
        if let Some(mapping) = self.mapping() {
            mapping.key = Some(key);
        }
    }

    /// Adds an entry to the open mapping, unless its key is there already.
    fn entry(&mut self, entry: Entry) {
        let Some(mapping) = self.mapping() else {
            return;
        };
        if let Some(first) = mapping.places.get(&entry.key).copied() {
            let name = shorten(&entry.key);
            let message = format!(
                "`{name}` is there twice, first on line {}, column {}",
                first.line, first.column
            );
            let path = join(&self.path(), &name);
            self.report(entry.at, path, message, "remove one of the two");
        } else {
            mapping.places.insert(Arc::clone(&entry.key), entry.at);
            mapping.entries.push(entry);
        }
    }

    /// Adds what `<<` brings in; keys that are written out win, then what comes first.
    fn merge(&mut self, mut mapping: OpenMapping) -> Result<Vec<Entry>, Box<Problem>> {
        for (at, node) in std::mem::take(&mut mapping.merges) {
            for source in self.merged(at, &node)? {
                for entry in source {
                    if !mapping.places.contains_key(&entry.key) {
                        self.count(entry.value.nodes, entry.value.bytes, at)?;
                        mapping.places.insert(Arc::clone(&entry.key), entry.at);
                        mapping.entries.push(entry.clone());
                    }
                }
            }
        }
        Ok(mapping.entries)
    }

    /// The mappings that a value of `<<` names.
    fn merged<'n>(&self, at: Pos, node: &'n Node) -> Result<Vec<&'n [Entry]>, Box<Problem>> {
        let entries = |node: &'n Node| match &node.value {
            Value::Mapping(entries) => Some(entries.as_slice()),
            _ => None,
        };
        let found = match &node.value {
            Value::Sequence(items) => items.iter().map(|item| entries(item)).collect(),
            _ => entries(node).map(|entries| vec![entries]),
        };
        found.ok_or_else(|| {
            let message = "`<<` takes a mapping, or a list of mappings, in".to_owned();
            self.fatal(
                at,
                message,
                "give it an alias of a mapping, as in `<<: *name`",
            )
        })
    }

    /// Counts values, and text that is repeated, against the limits.
    fn count(&mut self, nodes: usize, repeated: usize, at: Pos) -> Step {
        self.nodes = self.nodes.saturating_add(nodes);
        self.repeated = self.repeated.saturating_add(repeated);
        if self.nodes <= MAX_NODES && self.repeated <= MAX_TEXT {
            return Ok(());
        }
        let message = format!(
            "the document grows beyond {MAX_NODES} values or {MAX_TEXT} bytes here, its aliases written out"
        );
        Err(self.fatal(at, message, "split it into several files"))
    }

    fn remember(&mut self, anchor: usize, node: &Arc<Node>) {
        if anchor != 0 {
            self.anchors.insert(anchor, Arc::clone(node));
        }
    }

    fn mapping(&mut self) -> Option<&mut OpenMapping> {
        match self.stack.last_mut().map(|frame| &mut frame.open) {
            Some(Open::Mapping(mapping)) => Some(mapping),
            _ => None,
        }
    }

    /// Where the key is whose value comes next.
    fn awaited(&mut self) -> Option<Pos> {
        match self.mapping()?.key.as_ref()? {
            Key::Text(_, at) | Key::Merge(at) | Key::Unfit(at) => Some(*at),
        }
    }

    /// Where in the document the innermost open collection is.
    fn path(&self) -> String {
        let mut path = String::new();
        let inner = self.stack.len().saturating_sub(1);
        for frame in &self.stack[..inner] {
            match &frame.open {
                Open::List(items) => path.push_str(&format!("[{}]", items.len())),
                Open::Mapping(mapping) => match &mapping.key {
                    Some(Key::Text(key, _)) => path = join(&path, &shorten(key)),
                    Some(Key::Merge(_)) => path = join(&path, "<<"),
                    Some(Key::Unfit(_)) | None => {}
                },
            }
        }
        path
    }

    fn place(&self, line: usize, column: usize) -> Pos {
        Pos {
            line: clamp(line).saturating_add(self.first_line) - 1,
            column: clamp(column).saturating_add(1),
        }
    }

    fn problem(&self, at: Pos, path: String, message: String, hint: &str) -> Problem {
        Problem {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            severity: Severity::Error,
            path,
            message,
            hint: hint.to_owned(),
        }
    }

    fn report(&mut self, at: Pos, path: String, message: String, hint: &str) {
        if self.problems.len() < super::report::MAX_PROBLEMS {
            self.problems.push(self.problem(at, path, message, hint));
        }
    }

    fn fatal(&self, at: Pos, message: String, hint: &str) -> Box<Problem> {
        Box::new(self.problem(at, String::new(), message, hint))
    }

    fn too_deep(&self, at: Pos) -> Box<Problem> {
        let message = format!("lists and mappings are more than {MAX_DEPTH} levels deep here");
        self.fatal(at, message, "")
    }

    fn syntax(&self, error: &saphyr_parser::ScanError) -> Box<Problem> {
        let at = self.place(error.marker().line(), error.marker().col());
        let message = format!("this is not YAML: {}", shorten(error.info()));
        let hint = "check indentation, quotes, brackets and colons here and on the line before";
        self.fatal(at, message, hint)
    }
}

/// Appends a key to a path in a document.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The name that a tag of YAML's own goes by, or the whole of another one.
pub(super) fn tag_name(tag: &saphyr_parser::Tag) -> String {
    if tag.is_yaml_core_schema() || tag.handle == "!!" {
        tag.suffix.clone()
    } else {
        tag.to_string()
    }
}
