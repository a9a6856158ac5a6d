//! Writes values as YAML that every reader takes for the same, YAML 1.1 readers (Ansible's, for one) included.
//!
//! **Invariant:** what is a string is read back as that string: whatever could pass for something else is quoted.

use std::fmt::Write;

use serde_json::{Number, Value};

/// Returns `value` as one YAML document in block style, keys in the order they stand, a line feed at the end.
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0);
    out
}

/// Writes a value whose lines begin at `indent`; the first line's indent is already there.
fn block(out: &mut String, value: &Value, indent: usize) {
    let mut first = true;
    let mut begin = |out: &mut String| {
        if !std::mem::take(&mut first) {
            out.extend(std::iter::repeat_n(' ', indent));
        }
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                begin(out);
                out.push_str(&string(key));
                out.push(':');
                under_key(out, value, indent + 2);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for value in list {
                begin(out);
                out.push_str("- ");
                block(out, value, indent + 2);
            }
        }
        _ => {
            out.push_str(&scalar(value));
            out.push('\n');
        }
    }
}

/// Writes what follows a key's colon.
fn under_key(out: &mut String, value: &Value, indent: usize) {
    let several_lines = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    if several_lines {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent));
    } else {
        out.push(' ');
    }
    block(out, value, indent);
}

/// Returns a value that takes one line.
fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => self::number(number),
        Value::String(text) => string(text),
        Value::Array(_) => "[]".into(),
        Value::Object(_) => "{}".into(),
    }
}

/// Returns a number; YAML 1.1 takes a float for one only with a dot, and an exponent only with a sign.
fn number(number: &Number) -> String {
    let text = number.to_string();
    if !number.is_f64() {
        return text;
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text.as_str(), None),
    };
    let dot = if mantissa.contains('.') { "" } else { ".0" };
    match exponent {
        None => format!("{mantissa}{dot}"),
        Some(exponent) if exponent.starts_with(['+', '-']) => format!("{mantissa}{dot}e{exponent}"),
        Some(exponent) => format!("{mantissa}{dot}e+{exponent}"),
    }
}

/// Returns a string, plain where that is beyond doubt.
fn string(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// Whether a text, written plainly, is a string to every reader: it begins with a letter, holds nothing but letters, digits and
/// harmless marks, and is no word that stands for something else. All numbers, dates and times begin otherwise.
fn is_plain(text: &str) -> bool {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let harmless = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    begins && text.chars().all(harmless) && !text.ends_with(':') && !is_reserved(text)
}

/// The words of YAML 1.1's `bool`, `null` and `float`, in any letter case.
fn is_reserved(text: &str) -> bool {
    const WORDS: [&str; 11] = [
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf",
    ];
    WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Returns a text in double quotes, with what is not seen, or breaks lines, escaped.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_unseen(c) => match u32::from(c) {
                // Writing to a String cannot fail.
                code @ ..=0xffff => _ = write!(out, "\\u{code:04x}"),
                code => _ = write!(out, "\\U{code:08x}"),
            },
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Characters that YAML does not print, breaks lines at, or that hide in a diff.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{a0}' | '\u{ad}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || u32::from(c) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_are_indented_by_two() {
        let value = json!({
            "kind": "X", "empty": {}, "none": [], "null": null, "n": -3, "f": 1e100, "yes": true,
            "metadata": {"name": "a", "labels": {"b/c": "d"}},
            "spec": [{"source": "10.0.0.1:5000/a", "mirrors": ["m.lan:5000/a", "no"]}, [[1, "2"], []], "x: y"],
        });
        let expected = "\
kind: X
empty: {}
none: []
\"null\": null
\"n\": -3
f: 1.0e+100
\"yes\": true
metadata:
  name: a
  labels:
    b/c: d
spec:
  - source: \"10.0.0.1:5000/a\"
    mirrors:
      - m.lan:5000/a
      - \"no\"
  - - - 1
      - \"2\"
    - []
  - \"x: y\"
";
        assert_eq!(document(&value), expected);
    }

    #[test]
    fn yaml_1_1_traps_are_quoted() {
        for trap in [
            "y",
            "Y",
            "n",
            "N",
            "yes",
            "Yes",
            "YES",
            "no",
            "No",
            "NO",
            "on",
            "On",
            "ON",
            "off",
            "Off",
            "OFF",
            "true",
            "True",
            "TRUE",
            "false",
            "False",
            "FALSE",
            "null",
            "Null",
            "NULL",
            "~",
            "",
            " ",
            " a",
            "a ",
            "0",
            "1",
            "-1",
            "+1",
            "0o7",
            "007",
            "0x1F",
            "0b1",
            "1_000",
            "1.5",
            ".5",
            "1e3",
            "1E+3",
            ".inf",
            "-.INF",
            "+.inf",
            ".nan",
            ".NaN",
            "12:30:45",
            "190:20:30",
            "1:30",
            "2001-12-14",
            "2001-12-14t21:59:43.10-05:00",
            "=",
            "<<",
            "-",
            "?",
            ":",
            "- a",
            "? a",
            "a: b",
            "a:",
            ": a",
            "a #b",
            "#a",
            "&a",
            "*a",
            "!a",
            "|",
            ">",
            "'a'",
            "\"a\"",
            "%a",
            "@a",
            "`a",
            "[a",
            "]",
            "{a",
            "}",
            ",",
            "a\nb",
            "a\tb",
            "---",
            "...",
            "4.16",
            "v1\u{85}",
            "\u{feff}x",
            "prod#2",
            "a, b",
        ] {
            assert!(string(trap).starts_with('"'), "{trap:?} is not quoted");
        }
        for plain in [
            "registry.lan:5000/mirror/a_b",
            "v1.2.3-x86_64",
            "config.openshift.io/v1",
            "NeverContactSource",
        ] {
            assert_eq!(string(plain), plain);
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            any::<String>(),
            "[ -~]{0,6}",
            "[-0-9._:eExoynfalst~ ]{0,6}",
            Just("\u{85}\u{2028}\u{feff}".into())
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e30..1e30f64).prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..5)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_is_read_back(value in any_value()) {
            let text = document(&value);
            let read: Value = serde_yaml::from_str(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
            prop_assert_eq!(read, value, "{}", text);
        }
    }
}
