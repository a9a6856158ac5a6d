//! `imagesetd cluster` through the real program: what people type, and what they read.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod checking;

mod covering;

mod explaining;

mod forecasting;

mod installing;

mod rendering;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// A folder of files, and the program in it.
struct Desk(tempfile::TempDir);

/// How a call ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Desk {
    fn new(files: &[(&str, &str)]) -> Self {
        let desk = Desk(tempfile::tempdir().unwrap());
        for (name, text) in files {
            desk.write(name, text);
        }
        desk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Runs `imagesetd cluster WORDS`.
    fn run(&self, words: &[&str]) -> Ended {
        self.fed(words, "")
    }

    /// Runs `imagesetd cluster WORDS` with a text on standard input.
    fn fed(&self, words: &[&str], input: &str) -> Ended {
        let mut child = Command::new(env!("CARGO_BIN_EXE_imagesetd"))
            .arg("cluster")
            .args(words)
            .current_dir(self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that reads nothing may have ended.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code().unwrap(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Runs it and returns the JSON document, with the exit code.
    fn json(&self, words: &[&str]) -> (i32, Value) {
        let ended = self.run(&[words, &["-o", "json"]].concat());
        let value = serde_json::from_str(&ended.out);
        (
            ended.code,
            value.unwrap_or_else(|e| panic!("{e}: {}{}", ended.out, ended.err)),
        )
    }
}

/// A mirror object of a short text: `d` for a digest rule, `t` for a tag rule, `i` for one of the old kind, `!` after the source for
/// NeverContactSource: `d q.io/a! m.io/a n.io/a`.
fn object(name: &str, rules: &[&str]) -> String {
    let kind = rules[0].chars().next().unwrap();
    let (api, object, list) = match kind {
        'd' => (
            "config.openshift.io/v1",
            "ImageDigestMirrorSet",
            "imageDigestMirrors",
        ),
        't' => (
            "config.openshift.io/v1",
            "ImageTagMirrorSet",
            "imageTagMirrors",
        ),
        _ => (
            "operator.openshift.io/v1alpha1",
            "ImageContentSourcePolicy",
            "repositoryDigestMirrors",
        ),
    };
    let mut text = format!(
        "---\napiVersion: {api}\nkind: {object}\nmetadata:\n  name: {name}\nspec:\n  {list}:\n"
    );
    for rule in rules {
        let mut words = rule.split(' ').skip(1);
        let source = words.next().unwrap();
        let never = source.ends_with('!');
        let source = source.trim_end_matches('!');
        text += &format!("  - source: '{source}'\n");
        if never {
            text += "    mirrorSourcePolicy: NeverContactSource\n";
        }
        let mirrors: Vec<_> = words.map(|m| format!("'{m}'")).collect();
        text += &format!("    mirrors: [{}]\n", mirrors.join(", "));
    }
    text
}
