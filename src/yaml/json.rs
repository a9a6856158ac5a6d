//! A foreign YAML document as JSON text, written event by event: no tree of it is made.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::{
    Scalar,
    scalar::{Meaning, meaning},
    tree::tag_name,
};

/// How deep lists and mappings may nest.
const MAX_DEPTH: usize = 100;

/// A collection that is open.
struct Open {
    mapping: bool,
    /// How many keys, values or items came so far.
    count: usize,
    anchor: usize,
    start: usize,
}

/// Returns the first document of a text as compact JSON of at most `limit` bytes; `None` where it has no content. Words mean what
/// they mean to `sigs.k8s.io/yaml`, which is how Kubernetes reads YAML.
///
/// # Errors
///
/// A clause that says what is in the way: broken syntax, too much depth or text, keys that are no words, `<<`.
pub fn convert(text: &str, limit: usize) -> Result<Option<Vec<u8>>, String> {
    let mut writer = Writer {
        json: Vec::new(),
        open: Vec::new(),
        anchors: HashMap::new(),
        limit,
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| error.to_string())?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        writer
            .take(event)
            .map_err(|why| format!("line {}: {why}", span.start.line()))?;
    }
    Ok(match writer.json.as_slice() {
        b"" | b"null" => None,
        _ => Some(writer.json),
    })
}

struct Writer {
    json: Vec<u8>,
    open: Vec<Open>,
    /// Where in the JSON the value of an anchor is.
    anchors: HashMap<usize, (usize, usize)>,
    limit: usize,
}

impl Writer {
    fn take(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::MappingStart(anchor, _) => self.start(true, anchor)?,
            Event::SequenceStart(anchor, _) => self.start(false, anchor)?,
            Event::MappingEnd | Event::SequenceEnd => self.end(),
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = Scalar {
                    text: text.as_ref().into(),
                    plain: style == ScalarStyle::Plain,
                    tag: tag.as_deref().map(tag_name),
                };
                self.scalar(&scalar, anchor)?;
            }
            Event::Alias(anchor) => self.alias(anchor)?,
            _ => {}
        }
        match self.json.len() > self.limit {
            true => Err(format!("it has more than {} MiB", self.limit >> 20)),
            false => Ok(()),
        }
    }

    fn start(&mut self, mapping: bool, anchor: usize) -> Result<(), String> {
        if self.is_key() {
            return Err("a list or mapping is a key".to_owned());
        }
        if self.open.len() == MAX_DEPTH {
            return Err(format!("it is deeper than {MAX_DEPTH} levels"));
        }
        self.separate();
        let start = self.json.len();
        self.json.push(if mapping { b'{' } else { b'[' });
        self.open.push(Open {
            mapping,
            count: 0,
            anchor,
            start,
        });
        Ok(())
    }

    fn end(&mut self) {
        if let Some(open) = self.open.pop() {
            self.json.push(if open.mapping { b'}' } else { b']' });
            self.anchored(open.anchor, open.start);
        }
    }

    fn scalar(&mut self, scalar: &Scalar, anchor: usize) -> Result<(), String> {
        let key = self.is_key();
        if key && scalar.plain && &*scalar.text == "<<" {
            return Err("`<<` is not read in catalogs; write the keys out".to_owned());
        }
        self.separate();
        let start = self.json.len();
        match meaning(scalar) {
            _ if key => self.text(&scalar.text)?,
            Meaning::Text => self.text(&scalar.text)?,
            Meaning::Null => self.json.extend(b"null"),
            Meaning::Bool(value) => self.json.extend(value.to_string().bytes()),
            Meaning::Int(value) => self.json.extend(value.to_string().bytes()),
            Meaning::Float(value) if value.is_finite() => self.value(&value)?,
            Meaning::Float(_) => return Err(format!("JSON has no number `{}`", scalar.text)),
        }
        self.anchored(anchor, start);
        Ok(())
    }

    fn alias(&mut self, anchor: usize) -> Result<(), String> {
        let Some((start, end)) = self.anchors.get(&anchor).copied() else {
            return Err("an alias names what has not ended yet".to_owned());
        };
        if self.is_key() && self.json.get(start) != Some(&b'"') {
            return Err("an alias that is a key names no text".to_owned());
        }
        if self.json.len() + (end - start) > self.limit {
            return Err(format!("it has more than {} MiB", self.limit >> 20));
        }
        self.separate();
        self.json.extend_from_within(start..end);
        Ok(())
    }

    fn anchored(&mut self, anchor: usize, start: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, (start, self.json.len()));
        }
    }

    fn is_key(&self) -> bool {
        self.open
            .last()
            .is_some_and(|open| open.mapping && open.count.is_multiple_of(2))
    }

    /// Writes what stands before the next key, value or item.
    fn separate(&mut self) {
        let Some(open) = self.open.last_mut() else {
            return;
        };
        let mark = match (open.mapping, open.count) {
            (_, 0) => None,
            (true, count) if !count.is_multiple_of(2) => Some(b':'),
            _ => Some(b','),
        };
        open.count += 1;
        self.json.extend(mark);
    }

    fn text(&mut self, text: &str) -> Result<(), String> {
        self.value(text)
    }

    fn value(&mut self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), String> {
        serde_json::to_writer(&mut self.json, value).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<Option<String>, String> {
        let converted = convert(text, 1 << 20)?;
        Ok(converted.map(|json| String::from_utf8(json).unwrap()))
    }

    #[test]
    fn a_document_is_written_as_kubernetes_reads_it() {
        let text = "a: [yes, 'yes', 1, 1.5, ~, \"x\\\"\", 2024-01-01, 0x10]\n? b\n: {c: {}, d: []}\n1: &e\n  - f\ng: *e\nh: |\n  i\n  j\ntrue: !!str 5\n";
        assert_eq!(
            json(text).unwrap().unwrap(),
            r#"{"a":[true,"yes",1,1.5,null,"x\"","2024-01-01",16],"b":{"c":{},"d":[]},"1":["f"],"g":["f"],"h":"i\nj\n","true":"5"}"#
        );
        for empty in ["", "# nothing\n", "~"] {
            assert_eq!(json(empty), Ok(None), "{empty}");
        }
    }

    #[test]
    fn what_json_cannot_say_and_what_is_too_much_is_refused() {
        for (text, why) in [
            ("? [a]\n: b", "line 1: a list or mapping is a key"),
            ("a: .nan", "line 1: JSON has no number `.nan`"),
            (
                "a:\n  <<: {b: c}",
                "line 2: `<<` is not read in catalogs; write the keys out",
            ),
            ("&a [*a]", "line 1: an alias names what has not ended yet"),
            (
                "&a {b: c, *a : d}",
                "line 1: an alias names what has not ended yet",
            ),
        ] {
            assert_eq!(json(text), Err(why.to_owned()), "{text}");
        }
        assert!(json(&"[".repeat(1 << 16)).is_err());
        assert!(json(&"- ".repeat(1 << 16)).is_err());
        let mut laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for n in 1..20 {
            let list = format!("*a{}, ", n - 1).repeat(8);
            laughs += &format!("a{n}: &a{n} [{}]\n", list.trim_end_matches(", "));
        }
        assert!(
            json(&laughs)
                .unwrap_err()
                .ends_with("it has more than 1 MiB")
        );
    }
}
