//! Cuts the bytes of a catalog's file into documents while they come: JSON as it is, YAML turned into JSON.
//!
//! **Invariant:** no more than one document is held, and none larger than [`MAX_DOCUMENT`].

use super::MAX_DOCUMENT;

/// How deep a document may nest: what the JSON reader takes.
const MAX_DEPTH: u32 = 120;

/// Why a file cannot be read, as a clause after the file's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Something stands between or after documents that begins none.
    #[error("is neither JSON nor YAML: `{0}` stands where a document should begin")]
    Stray(String),
    /// Brackets that do not match.
    #[error("is not JSON: a `{0}` closes what it did not open")]
    Unbalanced(char),
    /// The end came too early.
    #[error("ends in the middle of a document")]
    Cut,
    /// Too deep.
    #[error("nests deeper than {MAX_DEPTH} levels, which no catalog does")]
    Deep,
    /// A document is too large.
    #[error("holds a document of more than {} MiB, which no catalog has", MAX_DOCUMENT >> 20)]
    Large,
    /// YAML that cannot be read.
    #[error("is not YAML that can be read: {0}")]
    Yaml(String),
}

/// Cuts one file. Every document is handed over as JSON.
#[derive(Debug, Default)]
pub struct Splitter {
    form: Form,
    document: Vec<u8>,
}

#[derive(Debug, Default)]
enum Form {
    /// Nothing but white space came so far.
    #[default]
    Unknown,
    Json(Json),
    Yaml,
}

/// Where in a JSON text one is.
#[derive(Debug, Default)]
struct Json {
    /// The brackets that are open: a bit each, set for a mapping.
    open: u128,
    depth: u32,
    string: bool,
    escaped: bool,
}

impl Splitter {
    /// Takes the next bytes, and hands over every document that ends in them.
    ///
    /// # Errors
    ///
    /// The file is broken; nothing more of it can be read. What `sink` refuses ends it too.
    pub fn push<E: From<SplitError>>(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            bytes = match &mut self.form {
                Form::Unknown => self.begin(bytes),
                Form::Json(_) => self.json(bytes, sink)?,
                Form::Yaml => self.yaml(bytes, sink)?,
            };
        }
        Ok(())
    }

    /// The file is at its end.
    ///
    /// # Errors
    ///
    /// As [`Splitter::push`].
    pub fn finish<E: From<SplitError>>(
        mut self,
        sink: &mut impl FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        match &self.form {
            Form::Json(json) if json.depth > 0 => Err(SplitError::Cut.into()),
            Form::Yaml => self.yaml_document(sink),
            _ => Ok(()),
        }
    }

    /// Looks for the first byte that tells JSON from YAML.
    fn begin<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let blank = bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
        let line = bytes[..blank].iter().rposition(|b| *b == b'\n');
        if line.is_some() {
            self.document.clear();
        }
        // The indentation of YAML's first line counts; a long one is none.
        let indentation = &bytes[line.map_or(0, |at| at + 1)..blank];
        if self.document.len() + indentation.len() < MAX_DOCUMENT {
            self.document.extend_from_slice(indentation);
        }
        match bytes.get(blank) {
            None => {}
            Some(b'{') => {
                self.document.clear();
                self.form = Form::Json(Json::default());
            }
            Some(_) => self.form = Form::Yaml,
        }
        &bytes[blank..]
    }

    /// Reads to the end of the bytes or of a document.
    fn json<'b, E: From<SplitError>>(
        &mut self,
        bytes: &'b [u8],
        sink: &mut impl FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<&'b [u8], E> {
        let Form::Json(json) = &mut self.form else {
            return Ok(bytes);
        };
        let mut bytes = bytes;
        if json.depth == 0 {
            let blank = bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
            bytes = &bytes[blank..];
            match bytes.first() {
                None => return Ok(bytes),
                Some(b'{') => {}
                Some(_) => {
                    let found: String = String::from_utf8_lossy(&bytes[..bytes.len().min(16)])
                        .chars()
                        .take(8)
                        .collect();
                    return Err(SplitError::Stray(crate::yaml::shorten(&found)).into());
                }
            }
        }
        let (length, ended) = json.scan(bytes)?;
        if self.document.len() + length > MAX_DOCUMENT {
            return Err(SplitError::Large.into());
        }
        self.document.extend_from_slice(&bytes[..length]);
        if ended {
            sink(std::mem::take(&mut self.document))?;
        }
        Ok(&bytes[length..])
    }

    /// Collects lines up to one that begins with `---`, which ends a document.
    fn yaml<'b, E: From<SplitError>>(
        &mut self,
        bytes: &'b [u8],
        sink: &mut impl FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<&'b [u8], E> {
        let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        let (line, rest) = bytes.split_at(end);
        if self.document.len() + line.len() > MAX_DOCUMENT {
            return Err(SplitError::Large.into());
        }
        self.document.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            return Ok(rest);
        }
        // The line may have come in pieces: it is looked for in what is collected.
        let before = &self.document[..self.document.len() - 1];
        let start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        if self.document[start..].starts_with(b"---") {
            self.document.truncate(start);
            self.yaml_document(sink)?;
        }
        Ok(rest)
    }

    fn yaml_document<E: From<SplitError>>(
        &mut self,
        sink: &mut impl FnMut(Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let document = std::mem::take(&mut self.document);
        let text = std::str::from_utf8(&document)
            .map_err(|_| SplitError::Yaml("it is not UTF-8".to_owned()))?;
        match crate::yaml::json::convert(text, MAX_DOCUMENT).map_err(SplitError::Yaml)? {
            Some(json) => sink(json),
            None => Ok(()),
        }
    }
}

impl Json {
    /// Returns how many bytes belong to the document, and whether it ends with them.
    fn scan(&mut self, bytes: &[u8]) -> Result<(usize, bool), SplitError> {
        let mut at = 0;
        while at < bytes.len() {
            if self.escaped {
                self.escaped = false;
                at += 1;
                continue;
            }
            if self.string {
                // Nearly all of a catalog is the inside of strings.
                let Some(next) = memchr::memchr2(b'"', b'\\', &bytes[at..]) else {
                    return Ok((bytes.len(), false));
                };
                at += next + 1;
                match bytes[at - 1] {
                    b'"' => self.string = false,
                    _ => self.escaped = true,
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            match byte {
                b'"' => self.string = true,
                b'{' | b'[' => self.deeper(byte == b'{')?,
                b'}' | b']' => {
                    self.higher(byte)?;
                    if self.depth == 0 {
                        return Ok((at, true));
                    }
                }
                _ => {}
            }
        }
        Ok((at, false))
    }

    fn deeper(&mut self, mapping: bool) -> Result<(), SplitError> {
        if self.depth == MAX_DEPTH {
            return Err(SplitError::Deep);
        }
        self.open = self.open << 1 | u128::from(mapping);
        self.depth += 1;
        Ok(())
    }

    fn higher(&mut self, byte: u8) -> Result<(), SplitError> {
        if self.open & 1 != u128::from(byte == b'}') {
            return Err(SplitError::Unbalanced(byte.into()));
        }
        self.open >>= 1;
        self.depth -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts a text that comes in pieces of one length.
    fn split(text: &[u8], piece: usize) -> Result<Vec<String>, SplitError> {
        let mut found = Vec::new();
        let mut sink = |document: Vec<u8>| {
            found.push(String::from_utf8(document).unwrap());
            Ok(())
        };
        let mut splitter = Splitter::default();
        for piece in text.chunks(piece) {
            splitter.push(piece, &mut sink)?;
        }
        splitter.finish(&mut sink)?;
        Ok(found)
    }

    #[test]
    fn documents_are_cut_wherever_the_pieces_end() {
        let json = br#" {"a": "}\"{\\", "b": [{}, []]}{"c": 1}

            {"d": "\u007d"}
        "#;
        let yaml = b"# a comment\n---\na: b\n---\n---   \n# nothing\n---\nc: [d, 1, 'yes']\n--- x\ne: |\n  --- f\n";
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(
                split(json, piece).unwrap(),
                [
                    r#"{"a": "}\"{\\", "b": [{}, []]}"#,
                    r#"{"c": 1}"#,
                    r#"{"d": "\u007d"}"#
                ]
            );
            assert_eq!(
                split(yaml, piece).unwrap(),
                [
                    r#"{"a":"b"}"#,
                    r#"{"c":["d",1,"yes"]}"#,
                    r#"{"e":"--- f\n"}"#
                ]
            );
            assert_eq!(split(b" \n ", piece).unwrap(), [""; 0]);
            assert_eq!(
                split(b"\n  a: 1\n  b: 2\n", piece).unwrap(),
                [r#"{"a":1,"b":2}"#]
            );
        }
    }

    #[test]
    fn what_is_no_document_ends_in_a_sentence() {
        let said = |text: &[u8]| split(text, 5).unwrap_err().to_string();
        assert_eq!(
            said(b"{} x"),
            "is neither JSON nor YAML: `x` stands where a document should begin"
        );
        assert_eq!(
            said(b"{]"),
            "is not JSON: a `]` closes what it did not open"
        );
        assert_eq!(said(b"{\"a\": [1"), "ends in the middle of a document");
        let deep = format!("{{\"a\":{}", "[".repeat(1 << 20));
        assert_eq!(
            said(deep.as_bytes()),
            "nests deeper than 120 levels, which no catalog does"
        );
        let long = format!("{{\"a\": \"{}", "x".repeat(MAX_DOCUMENT));
        assert_eq!(
            split(long.as_bytes(), 1 << 16).unwrap_err(),
            SplitError::Large
        );
        assert!(said(b"a: [").starts_with("is not YAML that can be read: "));
        assert_eq!(
            said(b"\xff\xfe: a"),
            "is not YAML that can be read: it is not UTF-8"
        );
    }

    #[test]
    fn what_is_refused_by_the_taker_ends_the_reading() {
        let mut taken = 0;
        let result = Splitter::default().push(b"{}{}{}", &mut |_| {
            taken += 1;
            match taken {
                2 => Err(SplitError::Cut),
                _ => Ok(()),
            }
        });
        assert_eq!((result, taken), (Err(SplitError::Cut), 2));
    }
}
