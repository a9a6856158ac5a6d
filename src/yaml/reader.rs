//! Hands a document's fields to a schema with the types it asks for, and collects what is wrong.
//!
//! A schema asks a mapping for each of its keys and ends with [`Fields::finish`], which reports the keys nobody asked for. Asking never
//! fails: what does not fit is reported and read as absent, so that all problems of a file are found at once.

use super::{
    Entry, Node, Pos, Severity, Value,
    report::{Dialect, Report},
    scalar::{Meaning, meaning},
    shorten,
    suggest::suggest,
    tree::join,
};

impl Report {
    /// The document's root as what a schema reads from.
    pub fn root<'a>(&'a self, node: &'a Node) -> At<'a> {
        At {
            report: self,
            node,
            path: String::new(),
        }
    }
}

/// A value, where it is, and where what is wrong with it is told.
#[derive(Debug, Clone)]
pub struct At<'a> {
    report: &'a Report,
    node: &'a Node,
    path: String,
}

impl<'a> At<'a> {
    /// Returns where the value begins.
    pub fn pos(&self) -> Pos {
        self.node.at
    }

    /// Returns where in the document the value is.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Reports that the value cannot be used.
    pub fn error(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Error, message.into(), hint.into());
    }

    /// Reports that the value may not mean what was meant.
    pub fn warn(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Warning, message.into(), hint.into());
    }

    fn add(&self, severity: Severity, message: String, hint: String) {
        self.report
            .add(severity, self.node.at, &self.path, message, hint);
    }

    /// Whether nothing is written here.
    pub fn is_null(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(scalar) if meaning(scalar) == Meaning::Null)
    }

    /// Whether a mapping is written here, where a schema takes a word or a mapping.
    pub fn is_mapping(&self) -> bool {
        matches!(&self.node.value, Value::Mapping(_))
    }

    /// Reads a text. An empty one is returned; a number is its own text, with a warning where oc-mirror refuses it.
    pub fn text(&self) -> Option<String> {
        let text = self.word()?;
        if self.report.dialect == Dialect::OcMirror && self.is_number() {
            let message = format!(
                "`{text}` is taken as a text here; oc-mirror reads a number and refuses it"
            );
            self.warn(message, format!("write it in quotes, `\"{text}\"`"));
        }
        Some(text)
    }

    fn is_number(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(scalar)
            if matches!(meaning(scalar), Meaning::Int(_) | Meaning::Float(_)))
    }

    /// Reads a text, a number as its own text without a remark.
    pub fn word(&self) -> Option<String> {
        let Value::Scalar(scalar) = &self.node.value else {
            return self.expected("a text");
        };
        if let Some(tag) = &scalar.tag
            && tag == "binary"
        {
            self.error("binary values are not read here", "write the text itself");
            return None;
        }
        let text = scalar.text.to_string();
        match meaning(scalar) {
            Meaning::Text | Meaning::Int(_) | Meaning::Float(_) => Some(text),
            Meaning::Bool(_) => {
                let message = format!("a text is expected here, and `{text}` means true or false");
                self.error(
                    message,
                    format!("write it in quotes, `\"{text}\"`, if it is a text"),
                );
                None
            }
            Meaning::Null => self.expected("a text"),
        }
    }

    /// Reads true or false.
    pub fn boolean(&self) -> Option<bool> {
        let Value::Scalar(scalar) = &self.node.value else {
            return self.expected("`true` or `false`");
        };
        match meaning(scalar) {
            Meaning::Bool(value) => {
                let word = &*scalar.text;
                if self.report.dialect == Dialect::OcMirror
                    && !word.eq_ignore_ascii_case("true")
                    && !word.eq_ignore_ascii_case("false")
                {
                    let message = format!("`{word}` is read as `{value}`, as oc-mirror does");
                    self.warn(message, format!("write `{value}`"));
                }
                Some(value)
            }
            Meaning::Text if matches!(&*scalar.text, "true" | "false") => {
                let message = "`true` or `false` is expected here, not a text in quotes";
                self.error(message, format!("write `{}` without quotes", scalar.text));
                None
            }
            _ => self.expected("`true` or `false`"),
        }
    }

    /// Reads a whole number from 0 on.
    pub fn integer(&self) -> Option<u64> {
        let Value::Scalar(scalar) = &self.node.value else {
            return self.expected("a whole number");
        };
        let value = match meaning(scalar) {
            Meaning::Int(value) => u64::try_from(value).ok(),
            // Go's JSON takes `4.0` and `1e3` for integers, as they are printed without fraction.
            Meaning::Float(value) if value.fract() == 0.0 && (0.0..1e15).contains(&value) => {
                Some(value as u64)
            }
            _ => return self.expected("a whole number"),
        };
        if value.is_none() {
            let text = shorten(&scalar.text);
            self.error(format!("`{text}` is not a number from 0 on"), "");
        }
        value
    }

    /// Reads a text that stands for a value; the error's message is what is reported.
    pub fn parsed<T>(&self) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.text()?;
        text.parse()
            .map_err(|error: T::Err| self.error(error.to_string(), ""))
            .ok()
    }

    /// Reads one of several words.
    pub fn choice<T: Clone>(&self, what: &str, words: &[(&str, T)]) -> Option<T> {
        let text = match &self.node.value {
            // A word that means true or false is as unfit as any other one, and better told what would fit.
            Value::Scalar(scalar) if !self.is_null() => scalar.text.to_string(),
            _ => return self.expected("a text"),
        };
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.error(
                format!("`{}` is not {what}", shorten(&text)),
                suggest(&text, &names),
            );
        }
        found.map(|(_, value)| value.clone())
    }

    /// Reads a list; what is no list is reported and read as an empty one.
    pub fn list(&self) -> Vec<At<'a>> {
        let Value::Sequence(items) = &self.node.value else {
            self.expected::<()>("a list");
            return Vec::new();
        };
        let item = |(index, node): (usize, &'a std::sync::Arc<Node>)| At {
            report: self.report,
            node,
            path: format!("{}[{index}]", self.path),
        };
        items.iter().enumerate().map(item).collect()
    }

    /// Reads a mapping; what is no mapping is reported. Nothing is read as a mapping without entries.
    pub fn fields(&self) -> Option<Fields<'a>> {
        let entries = match &self.node.value {
            Value::Mapping(entries) => entries.as_slice(),
            Value::Scalar(_) if self.is_null() => &[],
            _ => return self.expected("a mapping"),
        };
        Some(Fields {
            at: self.clone(),
            entries,
            used: vec![false; entries.len()],
            known: Vec::new(),
        })
    }

    /// Reads a mapping; what is none is passed over without a remark: somebody else's document.
    pub fn mapping(&self) -> Option<Fields<'a>> {
        matches!(&self.node.value, Value::Mapping(_)).then(|| self.fields())?
    }

    /// Reads a word or text as it is written; what is none is passed over without a remark: somebody else's document.
    pub fn scalar(&self) -> Option<String> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar.text.to_string()),
            Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    /// Reports a value of another kind than the one expected.
    fn expected<T>(&self, what: &str) -> Option<T> {
        let found = match &self.node.value {
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Scalar(scalar) => match meaning(scalar) {
                Meaning::Null => "nothing",
                Meaning::Bool(_) => "true or false",
                Meaning::Int(_) => "a number",
                Meaning::Float(_) => "a number with a fraction",
                Meaning::Text => "a text",
            },
        };
        self.error(format!("{what} is expected here, not {found}"), "");
        None
    }
}

/// The fields of a mapping, each to be asked for once.
#[derive(Debug)]
#[must_use = "unknown keys are reported by `finish`"]
pub struct Fields<'a> {
    at: At<'a>,
    entries: &'a [Entry],
    used: Vec<bool>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Returns the mapping itself, to report what concerns more than one field.
    pub fn at(&self) -> &At<'a> {
        &self.at
    }

    /// Asks for a field; nothing where it is absent or has no value.
    pub fn get(&mut self, key: &'static str) -> Option<At<'a>> {
        self.known.push(key);
        #[cfg(test)]
        self.note_asked(key);
        self.peek(key).filter(|at| !at.is_null())
    }

    #[cfg(test)]
    fn note_asked(&self, key: &str) {
        let path: String = self
            .at
            .path
            .chars()
            .filter(|c| !c.is_ascii_digit())
            .collect();
        let path = join(&path, key);
        self.at.report.asked.borrow_mut().insert(path);
    }

    /// Asks for a field without making its name one that is suggested.
    pub fn peek(&mut self, key: &str) -> Option<At<'a>> {
        let lenient = self.at.report.dialect == Dialect::OcMirror;
        let mut found = self.entries.iter().position(|entry| &*entry.key == key);
        for (index, entry) in self.entries.iter().enumerate() {
            if lenient && &*entry.key != key && same_letters(&entry.key, key) {
                self.used[index] = true;
                self.other_case(entry, key, found.map(|first| &self.entries[first]));
                found = found.or(Some(index));
            }
        }
        let index = found?;
        self.used[index] = true;
        Some(At {
            report: self.at.report,
            node: &self.entries[index].value,
            path: join(&self.at.path, key),
        })
    }

    /// Reports a key in another letter case, which Go's JSON takes all the same.
    fn other_case(&self, entry: &Entry, key: &str, first: Option<&Entry>) {
        let path = join(&self.at.path, &entry.key);
        let written = &entry.key;
        let add = |severity, message, hint| {
            self.at.report.add(severity, entry.at, &path, message, hint);
        };
        match first {
            None => add(
                Severity::Warning,
                format!("`{written}` is read as `{key}`, as oc-mirror does"),
                format!("write `{key}`"),
            ),
            Some(first) => add(
                Severity::Error,
                format!(
                    "`{written}` is `{key}` again, first on line {}, column {}",
                    first.at.line, first.at.column
                ),
                "remove one of the two".to_owned(),
            ),
        }
    }

    /// Asks for a text; an empty one is read as absent.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        self.get(key)?.text().filter(|text| !text.is_empty())
    }

    /// Asks for a value that must be there; `hint` says what to write.
    pub fn required(&mut self, key: &'static str, hint: &str) -> Option<At<'a>> {
        let found = self.get(key).filter(|at| !at.is_empty_text());
        if found.is_none() {
            self.missing(key, hint);
        }
        found
    }

    /// Reports that a key is missing.
    pub fn missing(&self, key: &str, hint: &str) {
        let message = format!("`{key}` is missing");
        self.at.note(Severity::Error, key, &message, hint);
    }

    /// Whether the mapping has no entries at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a key is written here in whatever letter case, with a value or without.
    pub fn has(&self, key: &str) -> bool {
        self.entries
            .iter()
            .any(|entry| same_letters(&entry.key, key))
    }

    /// Asks for true or false; `false` where absent.
    pub fn flag(&mut self, key: &'static str) -> bool {
        self.get(key).and_then(|at| at.boolean()).unwrap_or(false)
    }

    /// Asks for a text that stands for a value.
    pub fn parsed<T>(&mut self, key: &'static str) -> Option<T>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        self.get(key)
            .filter(|at| !at.is_empty_text())
            .and_then(|at| at.parsed())
    }

    /// Asks for a list; empty where absent.
    pub fn list(&mut self, key: &'static str) -> Vec<At<'a>> {
        self.get(key).map(|at| at.list()).unwrap_or_default()
    }

    /// Asks for a list of texts; empty where absent.
    pub fn texts(&mut self, key: &'static str) -> Vec<String> {
        self.list(key).iter().filter_map(At::text).collect()
    }

    /// Asks for a mapping.
    pub fn fields(&mut self, key: &'static str) -> Option<Fields<'a>> {
        self.get(key)?.fields()
    }

    /// Reports a key that belongs elsewhere, where it is written.
    pub fn refuse(&mut self, key: &str, message: &str, hint: &str) {
        self.remark(Severity::Error, key, message, hint);
    }

    /// Reports a key that has no effect, where it is written.
    pub fn ignore(&mut self, key: &str, message: &str, hint: &str) {
        self.remark(Severity::Warning, key, message, hint);
    }

    fn remark(&mut self, severity: Severity, key: &str, message: &str, hint: &str) {
        let Some(at) = self.peek(key) else { return };
        let place = self
            .entries
            .iter()
            .find(|entry| same_letters(&entry.key, key))
            .map_or(at.pos(), |entry| entry.at);
        at.report.add(
            severity,
            place,
            &at.path,
            message.to_owned(),
            hint.to_owned(),
        );
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        for (entry, used) in self.entries.iter().zip(&self.used) {
            if !used {
                let name = shorten(&entry.key);
                self.at.report.add(
                    Severity::Error,
                    entry.at,
                    &join(&self.at.path, &name),
                    format!("`{name}` is not a key that is known here"),
                    suggest(&entry.key, &self.known),
                );
            }
        }
    }
}

impl At<'_> {
    /// Whether this is a text without characters, which Go's JSON reads as absent.
    pub fn is_empty_text(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(scalar) if scalar.text.is_empty())
    }

    /// Whether this is a list or mapping without entries.
    pub fn is_empty(&self) -> bool {
        match &self.node.value {
            Value::Sequence(items) => items.is_empty(),
            Value::Mapping(entries) => entries.is_empty(),
            Value::Scalar(_) => false,
        }
    }

    /// Reports something about a key of this mapping that is not there.
    pub fn note(&self, severity: Severity, key: &str, message: &str, hint: &str) {
        let path = join(&self.path, key);
        self.report.add(
            severity,
            self.node.at,
            &path,
            message.to_owned(),
            hint.to_owned(),
        );
    }
}

/// Whether two keys differ in letter case at most.
fn same_letters(a: &str, b: &str) -> bool {
    a.len() <= 64 && (a.eq_ignore_ascii_case(b) || a.to_lowercase() == b.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{Problem, report::MAX_PROBLEMS};

    /// What a schema that asks for `count` numbers and a flag tells.
    fn told(text: &str, dialect: Dialect) -> Vec<String> {
        let documents = crate::yaml::parse("f", text.as_bytes()).unwrap();
        let report = Report::new("f", dialect, &documents[0]);
        let root = documents[0].root.as_deref().unwrap();
        let mut fields = report.root(root).fields().unwrap();
        fields.list("flags").iter().for_each(|at| {
            at.boolean();
        });
        fields.texts("texts");
        fields.get("count").map(|at| at.integer());
        fields.finish();
        let problems = report.into_problems();
        let show = |p: &Problem| format!("{:?} {}: {}", p.severity, p.path, p.message);
        problems.iter().map(show).collect()
    }

    #[test]
    fn an_error_is_not_lost_behind_a_thousand_warnings() {
        let text = format!("flags: [{}]\ncount: x\nother: y\n", "yes,".repeat(1200));
        let told = told(&text, Dialect::OcMirror);
        let (errors, warnings): (Vec<_>, Vec<_>) =
            told.iter().partition(|line| line.starts_with("Error"));
        assert_eq!(warnings.len(), MAX_PROBLEMS + 1);
        assert_eq!(
            errors,
            ["Error count: there is more to tell than the first 1000 problems"]
        );
    }

    #[test]
    fn our_own_files_take_yes_and_numbers_without_a_remark_and_no_other_letter_case() {
        let text = "flags: [yes, off, True]\ntexts: [4.20, 0x1F, ~]\nCount: 4\n";
        assert_eq!(
            told(text, Dialect::Own),
            [
                "Error texts[2]: a text is expected here, not nothing",
                "Error Count: `Count` is not a key that is known here",
            ]
        );
        assert_eq!(
            told(text, Dialect::OcMirror),
            [
                "Warning flags[0]: `yes` is read as `true`, as oc-mirror does",
                "Warning flags[1]: `off` is read as `false`, as oc-mirror does",
                "Warning texts[0]: `4.20` is taken as a text here; oc-mirror reads a number and refuses it",
                "Warning texts[1]: `0x1F` is taken as a text here; oc-mirror reads a number and refuses it",
                "Error texts[2]: a text is expected here, not nothing",
                "Warning Count: `Count` is read as `count`, as oc-mirror does",
            ]
        );
    }

    #[test]
    fn whole_numbers_are_read_as_go_reads_them() {
        let number = |text: &str| {
            let text = format!("count: {text}\n");
            let documents = crate::yaml::parse("f", text.as_bytes()).unwrap();
            let report = Report::new("f", Dialect::OcMirror, &documents[0]);
            let root = documents[0].root.as_deref().unwrap();
            let mut fields = report.root(root).fields().unwrap();
            let read = fields.get("count").and_then(|at| at.integer());
            fields.finish();
            assert_eq!(read.is_none(), report.has_errors());
            read
        };
        for (text, read) in [
            ("4", Some(4)),
            ("4.0", Some(4)),
            ("1e3", Some(1000)),
            ("017", Some(15)),
            ("1_000", Some(1000)),
            ("!!int \"5\"", Some(5)),
            ("\"4\"", None),
            ("4.5", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("yes", None),
            ("[4]", None),
        ] {
            assert_eq!(number(text), read, "{text}");
        }
    }
}
