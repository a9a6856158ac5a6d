//! Reads Rust text just far enough for the rules: which paths and words it mentions on which lines, leaving out comments,
//! strings and test code.

/// What one file mentions outside its tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    /// Every path of two or more segments, `use` trees written out, `self` and `super` resolved to `crate`.
    pub(crate) paths: Vec<Mention>,
    /// Every identifier.
    pub(crate) words: Vec<Mention>,
    /// How many lines are not test code.
    pub(crate) lines: usize,
    /// Modules that are test code and stand in files of their own.
    pub(crate) test_modules: Vec<String>,
}

/// A name and the line it is on, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
}

impl Source {
    /// Reads the text of the file that is the module `module` (`["registry", "auth"]`, empty for the crate's root).
    pub(crate) fn read(text: &str, module: &[&str]) -> Source {
        let mut source = Source::default();
        let total = text.lines().count();
        let (tokens, test_lines) = without_tests(lex(text), total, &mut source.test_modules);
        source.lines = total - test_lines;
        source.words = tokens
            .iter()
            .filter(|t| t.is_word())
            .map(|t| Mention {
                line: t.line,
                path: vec![t.text.clone()],
            })
            .collect();
        source.paths = paths(&tokens, module);
        source
    }
}

/// A word, `::`, or one other character; a string is the token `"`, a lifetime the token `'`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(is_word)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn lex(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let (end, text) = token(&chars, at);
        if let Some(text) = text {
            tokens.push(Token { line, text });
        }
        line += chars[at..end].iter().filter(|&&c| c == '\n').count();
        at = end;
    }
    tokens
}

/// Returns where the token at `at` ends, and what it is; nothing for blanks and comments.
fn token(chars: &[char], at: usize) -> (usize, Option<String>) {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or('\0');
    match chars[at] {
        '/' if next(1) == '/' => (find(chars, at, "\n"), None),
        '/' if next(1) == '*' => (comment_end(chars, at), None),
        '"' => (string_end(chars, at), Some("\"".into())),
        '\'' => quote(chars, at),
        ':' if next(1) == ':' => (at + 2, Some("::".into())),
        c if is_word(c) => word(chars, at),
        c if c.is_whitespace() => (at + 1, None),
        c => (at + 1, Some(c.into())),
    }
}

/// Returns where `what` begins at or after `at`, or the end of the text.
fn find(chars: &[char], at: usize, what: &str) -> usize {
    let what: Vec<char> = what.chars().collect();
    (at..chars.len())
        .find(|&i| chars[i..].starts_with(&what))
        .unwrap_or(chars.len())
}

fn comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < chars.len() {
        match &chars[i..chars.len().min(i + 2)] {
            ['/', '*'] => (depth, i) = (depth + 1, i + 2),
            ['*', '/'] if depth == 1 => return i + 2,
            ['*', '/'] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    i
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    chars.len().min(i + 1)
}

/// A character or a lifetime.
fn quote(chars: &[char], at: usize) -> (usize, Option<String>) {
    let token = Some("'".to_owned());
    if chars.get(at + 1) == Some(&'\\') {
        return (chars.len().min(find(chars, at + 3, "'") + 1), token);
    }
    if chars.get(at + 2) == Some(&'\'') {
        return (at + 3, token);
    }
    let length = chars[at + 1..].iter().take_while(|&&c| is_word(c)).count();
    (at + 1 + length, token)
}

/// A word, or a string with a prefix such as `b"` or `r#"`.
fn word(chars: &[char], at: usize) -> (usize, Option<String>) {
    let end = at + chars[at..].iter().take_while(|&&c| is_word(c)).count();
    let text: String = chars[at..end].iter().collect();
    let hashes = chars[end..].iter().take_while(|&&c| c == '#').count();
    let quoted = chars.get(end + hashes) == Some(&'"');
    match text.as_str() {
        "r" | "br" | "cr" if quoted => {
            let close = format!("\"{}", "#".repeat(hashes));
            let inside = end + hashes + 1;
            let close_at = find(chars, inside, &close) + close.len();
            (chars.len().min(close_at), Some("\"".into()))
        }
        "b" | "c" if quoted && hashes == 0 => (string_end(chars, end), Some("\"".into())),
        "b" if chars.get(end) == Some(&'\'') => quote(chars, end),
        "r" if hashes == 1 => word(chars, end + 1),
        _ => (end, Some(text)),
    }
}

/// Leaves out every item under `#[cfg(test)]`; returns the rest and how many lines went.
fn without_tests(
    tokens: Vec<Token>,
    total: usize,
    test_modules: &mut Vec<String>,
) -> (Vec<Token>, usize) {
    let (mut kept, mut at, mut lines) = (Vec::new(), 0, 0);
    while at < tokens.len() {
        match cfg_test(&tokens[at..]) {
            Some(Scope::File) => return (Vec::new(), total),
            Some(Scope::Item) => {
                let end = item_end(&tokens, attribute_end(&tokens, at));
                test_modules.extend(module_elsewhere(&tokens[at..end]));
                lines += tokens[end - 1].line - tokens[at].line + 1;
                at = end;
            }
            None => {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    (kept, lines)
}

/// How far a `cfg(test)` reaches.
enum Scope {
    File,
    Item,
}

fn cfg_test(tokens: &[Token]) -> Option<Scope> {
    let begins = |text: &[&str]| {
        tokens.len() >= text.len() && tokens.iter().zip(text).all(|(t, text)| t.text == *text)
    };
    if begins(&["#", "!", "[", "cfg", "(", "test", ")", "]"]) {
        Some(Scope::File)
    } else if begins(&["#", "[", "cfg", "(", "test", ")", "]"]) {
        Some(Scope::Item)
    } else {
        None
    }
}

/// Returns where the attribute that begins at `at` ends.
fn attribute_end(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "[" => depth += 1,
            "]" if depth == 1 => return i + 1,
            "]" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Returns where the item, field or statement at `at` ends, attributes before it included.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|t| t.text == "#") {
        at = attribute_end(tokens, at);
    }
    // A generic item has commas of its own before its body; what is no item ends at one.
    const ITEMS: [&str; 13] = [
        "pub", "mod", "use", "fn", "struct", "enum", "impl", "const", "static", "type", "trait",
        "async", "unsafe",
    ];
    let item = tokens
        .get(at)
        .is_some_and(|t| ITEMS.contains(&t.text.as_str()));
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" if depth == 1 => return i + 1,
            "}" | ")" | "]" if depth == 0 => return i,
            "}" | ")" | "]" => depth -= 1,
            ";" if depth == 0 => return i + 1,
            "," if depth == 0 && !item => return i + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Returns the name of a module that is declared here and stands in a file of its own.
fn module_elsewhere(item: &[Token]) -> Option<String> {
    let at = item.iter().position(|t| t.text == "mod")?;
    match &item[at..] {
        [_, name, end] if end.text == ";" => Some(name.text.clone()),
        _ => None,
    }
}

fn paths(tokens: &[Token], module: &[&str]) -> Vec<Mention> {
    let mut scope: Vec<String> = module.iter().map(|s| (*s).to_owned()).collect();
    let mut inline: Vec<usize> = Vec::new();
    let (mut found, mut depth, mut at) = (Vec::new(), 0, 0);
    while at < tokens.len() {
        let begin = found.len();
        let text = |n: usize| tokens.get(at + n).map_or("", |t| t.text.as_str());
        let mut step = 1;
        match text(0) {
            "mod" if text(2) == "{" => {
                scope.push(text(1).to_owned());
                inline.push(depth);
            }
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if inline.last() == Some(&depth) {
                    inline.pop();
                    scope.pop();
                }
            }
            "use" if text(1) != "<" => step = 1 + tree(&tokens[at + 1..], &[], &mut found),
            _ if tokens[at].is_word() && text(1) == "::" => step = path(&tokens[at..], &mut found),
            _ => {}
        }
        for mention in &mut found[begin..] {
            mention.path = absolute(&mention.path, &scope);
        }
        at += step;
    }
    found
}

/// Reads a path in an expression or a type; returns its length in tokens.
fn path(tokens: &[Token], found: &mut Vec<Mention>) -> usize {
    let mut path = vec![tokens[0].text.clone()];
    let mut at = 1;
    while let [separator, segment, ..] = &tokens[at..]
        && separator.text == "::"
        && segment.is_word()
    {
        path.push(segment.text.clone());
        at += 2;
    }
    found.push(Mention {
        line: tokens[0].line,
        path,
    });
    at
}

/// Reads a `use` tree below `prefix`; returns its length in tokens.
fn tree(tokens: &[Token], prefix: &[String], found: &mut Vec<Mention>) -> usize {
    let mut path = prefix.to_vec();
    let mut line = tokens.first().map_or(0, |t| t.line);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "{" => return at + group(&tokens[at..], &path, found),
            ";" | "," | "}" => break,
            "as" => {
                at += 2;
                continue;
            }
            "self" if !path.is_empty() => {}
            "*" => path.push("*".into()),
            _ if token.is_word() => path.push(token.text.clone()),
            _ => {}
        }
        line = token.line;
        at += 1;
    }
    found.push(Mention { line, path });
    at
}

/// Reads the braces of a `use` tree; returns their length in tokens.
fn group(tokens: &[Token], prefix: &[String], found: &mut Vec<Mention>) -> usize {
    let mut at = 1;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "}" => return at + 1,
            "," => at += 1,
            _ => at += tree(&tokens[at..], prefix, found).max(1),
        }
    }
    at
}

/// Writes a path from the crate's root where it begins with `self` or `super`.
fn absolute(path: &[String], scope: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|s| *s == "super").count();
    let rest = match path.first().map(String::as_str) {
        Some("super") => &path[ups..],
        Some("self") => &path[1..],
        _ => return path.to_vec(),
    };
    let base = &scope[..scope.len().saturating_sub(ups)];
    let root = ["crate".to_owned()];
    root.iter().chain(base).chain(rest).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths_of(text: &str, module: &[&str]) -> Vec<String> {
        let source = Source::read(text, module);
        source
            .paths
            .iter()
            .map(|m| format!("{}:{}", m.line, m.path.join("::")))
            .collect()
    }

    #[test]
    fn use_trees_are_written_out_with_their_lines() {
        let text = "use std::{\n    fs,\n    io::{self, Read as _},\n};\npub use crate::a::*;\nuse ::tokio as t;";
        assert_eq!(
            paths_of(text, &[]),
            [
                "2:std::fs",
                "3:std::io",
                "3:std::io::Read",
                "5:crate::a::*",
                "6:tokio"
            ]
        );
    }

    #[test]
    fn self_and_super_are_resolved_also_in_inline_modules() {
        let text = "use super::copy; use self::x; mod inner { use super::y; fn f() { super::super::z::g() } } use super::w;";
        assert_eq!(
            paths_of(text, &["registry", "auth"]),
            [
                "1:crate::registry::copy",
                "1:crate::registry::auth::x",
                "1:crate::registry::auth::y",
                "1:crate::registry::z::g",
                "1:crate::registry::w"
            ]
        );
    }

    #[test]
    fn paths_in_code_attributes_and_macros_count() {
        let text = "#[tokio::main]\nfn f<'a>(x: &'a redb::Table) -> Vec<u8> {\n  tracing::info!(\"x\"); $crate::store::get::<u8>(b'\\'')\n}";
        assert_eq!(
            paths_of(text, &[]),
            [
                "1:tokio::main",
                "2:redb::Table",
                "3:tracing::info",
                "3:crate::store::get"
            ]
        );
    }

    #[test]
    fn comments_and_strings_do_not_count() {
        let text = r####"
// crate::a::b
/* crate::a /* nested */ crate::b::c */
/// [`crate::d::e`]
const A: &str = "crate::f::g \" crate::h::i";
const B: &str = r#"crate::j::k " "#;
const C: &[u8] = b"crate::l::m"; const D: char = '"'; const E: char = '\''; const F: char = '\u{22}';
use crate::n::o;
"####;
        assert_eq!(paths_of(text, &[]), ["8:crate::n::o"]);
    }

    #[test]
    fn test_code_does_not_count_and_what_follows_does() {
        let text = "#[cfg(test)]\nuse crate::a::b;\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n  use crate::c::d;\n  fn f() {}\n}\nuse crate::e::f;\nstruct S {\n  #[cfg(test)]\n  g: crate::g::H,\n  i: crate::i::J,\n}\n";
        let source = Source::read(text, &[]);
        assert_eq!(paths_of(text, &[]), ["9:crate::e::f", "13:crate::i::J"]);
        assert_eq!(source.lines, 14 - 2 - 6 - 2);
        assert_eq!(Source::read("#![cfg(test)]\nuse a::b;\n", &[]).lines, 0);
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_named() {
        let source = Source::read("#[cfg(test)]\nmod golden;\nmod real;\n", &[]);
        assert_eq!(source.test_modules, ["golden"]);
    }
}
