//! Takes one text out of a foreign YAML document.
//!
//! The document is read as a stream of events that ends where the text is found or the depth is too much: deserialising all of
//! it would take libyaml a time that grows with the square of its depth, and follow its aliases.

use saphyr_parser::{Event, Parser};

/// No manifest of Kubernetes comes near this.
const MAX_DEPTH: usize = 32;

/// A collection that is open.
enum Open {
    /// A mapping, with the key whose value comes next; nothing where a key comes next.
    Mapping(Option<String>),
    Sequence,
}

/// Returns the text at a path of keys in the first document; an error is a clause.
pub fn text_at(document: &str, path: &[&str]) -> Result<String, String> {
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(document) {
        let (event, _) = event.map_err(|error| error.to_string())?;
        match event {
            Event::MappingStart(..) => open.push(Open::Mapping(None)),
            Event::SequenceStart(..) => open.push(Open::Sequence),
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
                ended(&mut open, None);
            }
            Event::Scalar(text, ..) => {
                if leads_to(&open, path) {
                    return Ok(text.into_owned());
                }
                ended(&mut open, Some(text.into_owned()));
            }
            Event::Alias(_) => ended(&mut open, None),
            Event::DocumentEnd => break,
            _ => {}
        }
        if open.len() > MAX_DEPTH {
            return Err(format!("it is deeper than {MAX_DEPTH} levels"));
        }
    }
    Err(format!("it has no `{}`", path.join(".")))
}

/// A node has ended, a key or a value; a collection that is a key has no text, and so leads nowhere.
fn ended(open: &mut [Open], text: Option<String>) {
    if let Some(Open::Mapping(key)) = open.last_mut() {
        *key = match key {
            Some(_) => None,
            None => Some(text.unwrap_or_default()),
        };
    }
}

fn leads_to(open: &[Open], path: &[&str]) -> bool {
    open.len() == path.len()
        && open
            .iter()
            .zip(path)
            .all(|(open, name)| matches!(open, Open::Mapping(Some(key)) if key == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: [&str; 2] = ["data", "stream"];

    #[test]
    fn text_is_found_at_its_path_only() {
        let found = |text: &str| text_at(text, &PATH);
        assert_eq!(
            found("data:\n  a: b\n  stream: |\n    x\n    y\n"),
            Ok("x\ny\n".to_owned())
        );
        assert_eq!(
            found("{a: [data, {stream: 1}], data: {b: {c: d}, stream: x}}"),
            Ok("x".to_owned())
        );
        assert_eq!(
            found("{? [k]: v, ? {data: x}: {stream: y}, data: {stream: z}}"),
            Ok("z".to_owned())
        );
        assert_eq!(
            found("a: &a b\nc: *a\ndata: {stream: x}"),
            Ok("x".to_owned())
        );
        for text in [
            "",
            "data: stream",
            "stream: x",
            "data: {a: {stream: x}}",
            "- data: {stream: x}",
            "a: b\n---\ndata: {stream: x}",
        ] {
            assert_eq!(
                found(text),
                Err("it has no `data.stream`".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn deep_and_broken_documents_are_errors_soon() {
        let deep = "[".repeat(1 << 20);
        assert!(text_at(&deep, &PATH).is_err());
        assert!(text_at(&"- ".repeat(1 << 20), &PATH).is_err());
        assert!(text_at("data: {stream: [}", &PATH).is_err());
    }
}
