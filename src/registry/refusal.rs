//! Answers that mean no, and what a person can do about them.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::image::Digest,
    registry::{error::Task, protocol, quirks},
};

/// Who was said to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// Nobody: no entry fits, in any of these files.
    Anonymous(Vec<PathBuf>),
    /// This entry of this file.
    Entry(Arc<str>, PathBuf),
    /// What this credential helper gave for this entry, as this file says.
    Helper(Arc<str>, Arc<str>, PathBuf),
    /// Nobody: the request went where the registry's credentials are not sent.
    Elsewhere,
}

/// An answer that means no.
#[derive(Debug, Clone)]
pub struct Refused {
    /// What was asked.
    pub task: Task,
    /// Who answered, without path or query.
    pub host: String,
    /// The HTTP status.
    pub status: StatusCode,
    /// What the registry says, in its own words.
    pub diagnostics: Vec<Diagnostic>,
    /// How long it asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Who was said to ask.
    pub login: Login,
    /// Whether the token was accepted before and has run out, so that the same request with a new one may succeed.
    pub outlived: bool,
}

/// One of a registry's own errors (OCI distribution spec, "Error codes").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostic {
    /// For instance `MANIFEST_BLOB_UNKNOWN`; empty where the answer has only a text.
    pub code: String,
    /// Its text for people.
    pub message: String,
    /// The digests that its detail names.
    pub digests: Vec<Digest>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code.as_str(), self.message.as_str()) {
            (code, "") => f.write_str(code),
            ("", message) => f.write_str(message),
            (code, message) => write!(f, "{code}: {message}"),
        }
    }
}

/// How many of a registry's errors are kept: one a blob of a manifest, as Distribution lists them.
const MAX_DIAGNOSTICS: usize = 10_000;

/// How many of them a message shows.
const SHOWN: usize = 3;

/// How deep a detail is searched for digests.
const MAX_DETAIL_DEPTH: usize = 4;

impl Diagnostic {
    /// Reads the body of a refusal: the spec's `errors`, or the one text that token services and proxies give.
    pub(super) fn read(body: &[u8]) -> Vec<Self> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            errors: Vec<Value>,
            message: Option<Value>,
            details: Option<Value>,
            error_description: Option<Value>,
            error: Option<Value>,
        }
        let Ok(body) = serde_json::from_slice::<Body>(body) else {
            return Self::of_text(body);
        };
        if !body.errors.is_empty() {
            let errors = body.errors.iter().take(MAX_DIAGNOSTICS);
            let read = errors.map(Self::of_value);
            return read.filter(|d| *d != Diagnostic::default()).collect();
        }
        let texts = [
            body.message,
            body.details,
            body.error_description,
            body.error,
        ];
        let text = texts.iter().flatten().find_map(Value::as_str);
        text.map(|text| Self::of_text(text.as_bytes()))
            .unwrap_or_default()
    }

    fn of_value(value: &Value) -> Self {
        let text = |name: &str, max| {
            let text = value.get(name).and_then(Value::as_str).unwrap_or("");
            protocol::printable(text, max)
        };
        let mut digests = Vec::new();
        collect_digests(value.get("detail"), MAX_DETAIL_DEPTH, &mut digests);
        Diagnostic {
            code: text("code", 60),
            message: text("message", 200),
            digests,
        }
    }

    /// A plain text; a page of HTML says nothing in a message.
    fn of_text(body: &[u8]) -> Vec<Self> {
        let text = String::from_utf8_lossy(body);
        let message = protocol::printable(&text, 200);
        if message.is_empty() || message.starts_with('<') {
            return Vec::new();
        }
        vec![Diagnostic {
            code: String::new(),
            message,
            digests: Vec::new(),
        }]
    }
}

fn collect_digests(value: Option<&Value>, depth: usize, found: &mut Vec<Digest>) {
    match value {
        Some(Value::String(text)) => found.extend(text.parse::<Digest>()),
        Some(Value::Array(items)) if depth > 0 => {
            for item in items {
                collect_digests(Some(item), depth - 1, found);
            }
        }
        Some(Value::Object(fields)) if depth > 0 => {
            for item in fields.values() {
                collect_digests(Some(item), depth - 1, found);
            }
        }
        _ => {}
    }
}

impl Refused {
    pub(super) fn has_code(&self, codes: &[&str]) -> bool {
        let mut diagnostics = self.diagnostics.iter();
        diagnostics.any(|d| codes.contains(&d.code.to_ascii_uppercase().as_str()))
    }

    /// Whether a server that speaks TLS was spoken to in the clear, as Go's and nginx's servers say it.
    fn wants_tls(&self) -> bool {
        let mut diagnostics = self.diagnostics.iter();
        self.status == StatusCode::BAD_REQUEST
            && diagnostics.any(|d| d.message.contains("HTTP request to an HTTPS server"))
    }

    fn remedy(&self) -> String {
        let host = self.task.repository().registry();
        match (self.status, &self.login) {
            _ if self.wants_tls() => "; it speaks TLS: do not set `plain_http` for it".to_owned(),
            _ if quirks::is_immutable(self) => {
                "; the tag names something else there and may not be moved: let the registry move it, or choose another `targetTag`".to_owned()
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, login) => {
                let known = matches!(login, Login::Entry(..) | Login::Helper(..));
                let absent = match known && quirks::may_be_absent(self) {
                    true => "; some registries say so too of what is not there: check the name",
                    false => "",
                };
                credentials_remedy(host.as_str(), login) + absent
            }
            (StatusCode::NOT_FOUND, _) if matches!(self.task, Task::BeginUpload(_) | Task::Mount(..)) => {
                "; check the name, and that the repository is there: some registries make none by themselves".to_owned()
            }
            (StatusCode::NOT_FOUND, Login::Anonymous(_)) => {
                "; check the name; some registries say so too where one has to log in".to_owned()
            }
            (StatusCode::NOT_FOUND, _) => {
                "; check the name, and that the account may see it".to_owned()
            }
            (StatusCode::PAYLOAD_TOO_LARGE, _) => {
                "; raise the body limit of the registry or of the proxy before it".to_owned()
            }
            _ => match self.retry_after {
                Some(wait) => format!("; it asks to wait {} seconds", wait.as_secs()),
                None => String::new(),
            },
        }
    }
}

fn credentials_remedy(host: &str, login: &Login) -> String {
    match login {
        Login::Entry(entry, file) => format!(
            "; it was asked with the entry `{entry}` of {}: log in again with `podman login {host}`, or have the account allowed to do this",
            file.display()
        ),
        Login::Helper(helper, server, file) => format!(
            "; it was asked with what `docker-credential-{helper}` gave for `{server}`, as {} says: log in again where that helper gets it from, or have the account allowed to do this",
            file.display()
        ),
        Login::Anonymous(files) if files.is_empty() => {
            format!("; no credentials file is in use: log in with `podman login {host}`")
        }
        Login::Anonymous(files) => {
            let files: Vec<_> = files.iter().map(|f| f.display().to_string()).collect();
            format!(
                "; no entry for it is in {}: log in with `podman login {host}`, or name the file that has one",
                files.join(", ")
            )
        }
        Login::Elsewhere => {
            "; the registry sent the request there, and its credentials are not carried along"
                .to_owned()
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} answered {}", self.task, self.host, self.status)?;
        let shown: Vec<_> = self
            .diagnostics
            .iter()
            .take(SHOWN)
            .map(|d| d.to_string())
            .collect();
        if !shown.is_empty() {
            let more = self.diagnostics.len().saturating_sub(SHOWN);
            let more = if more > 0 {
                format!(", and {more} more")
            } else {
                String::new()
            };
            write!(f, " ({}{more})", shown.join(", "))?;
        }
        f.write_str(&self.remedy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{error::Error, protocol::Selector};

    const D: &str = "sha256:0da6316466d60a3a4535d5fed3589feb0391989982fba59d47d4c729912d6363";

    fn refused(status: u16, body: &str, login: Login, index: bool) -> Error {
        Error::Refused(Box::new(Refused {
            task: Task::PushManifest {
                repository: "reg.lan/a".parse().unwrap(),
                name: Selector::Tag("v1".parse().unwrap()),
                index,
            },
            host: "reg.lan".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            diagnostics: Diagnostic::read(body.as_bytes()),
            retry_after: None,
            login,
            outlived: false,
        }))
    }

    #[test]
    fn a_refusal_says_what_who_why_and_what_to_do() {
        let body = r#"{"errors":[{"code":"DENIED","message":"not\nallowed","detail":[{"Type":"repository"}]}]}"#;
        let entry = Login::Entry("reg.lan".into(), "/run/auth.json".into());
        assert_eq!(
            refused(403, body, entry, false).to_string(),
            "pushing manifest reg.lan/a:v1: reg.lan answered 403 Forbidden (DENIED: not allowed); it was asked with the entry \
             `reg.lan` of /run/auth.json: log in again with `podman login reg.lan`, or have the account allowed to do this"
        );
        let nobody = Login::Anonymous(vec!["/a".into(), "/b".into()]);
        assert_eq!(
            refused(401, "<html>no</html>", nobody, false).to_string(),
            "pushing manifest reg.lan/a:v1: reg.lan answered 401 Unauthorized; no entry for it is in /a, /b: log in with \
             `podman login reg.lan`, or name the file that has one"
        );
    }

    #[test]
    fn missing_blobs_are_found_in_either_form_of_detail() {
        let other = D.replace('0', "1");
        let body = format!(
            r#"{{"errors":[{{"code":"MANIFEST_BLOB_UNKNOWN","message":"m","detail":"{D}"}},
                {{"code":"MANIFEST_BLOB_UNKNOWN","detail":{{"Digest":"{other}","digest":"{D}"}}}},
                {{"code":"OTHER","detail":"{}"}}]}}"#,
            D.replace('0', "2")
        );
        let error = refused(400, &body, Login::Elsewhere, true);
        let mut expected: Vec<Digest> = vec![D.parse().unwrap(), other.parse().unwrap()];
        expected.sort();
        assert_eq!(error.missing_blobs(), expected);
        assert!(error.is_sparse_index_refusal() && !error.is_transient());
        assert!(!refused(400, &body, Login::Elsewhere, false).is_sparse_index_refusal());
        assert!(!refused(500, &body, Login::Elsewhere, true).is_sparse_index_refusal());
    }

    #[test]
    fn bodies_that_are_not_the_specifications_are_read_for_their_text() {
        let text = |body: &str| {
            let found = Diagnostic::read(body.as_bytes());
            found.iter().map(Diagnostic::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            text(r#"{"details":"incorrect username or password"}"#),
            ["incorrect username or password"]
        );
        assert_eq!(
            text(r#"{"error":"invalid_grant","error_description":"gone"}"#),
            ["gone"]
        );
        assert_eq!(text("too many requests\n"), ["too many requests"]);
        assert_eq!(text(r#"{"errors":[{"code":"X"},7]}"#), ["X"]);
        for silent in ["", "<html><body>502</body></html>", "{}", "{\"errors\":[]}"] {
            assert!(text(silent).is_empty(), "{silent}");
        }
    }

    #[test]
    fn a_long_list_of_reasons_is_counted() {
        let one =
            format!(r#"{{"code":"MANIFEST_BLOB_UNKNOWN","message":"unknown","detail":"{D}"}}"#);
        let body = format!(r#"{{"errors":[{}]}}"#, vec![one; 40].join(","));
        let message = refused(400, &body, Login::Elsewhere, true).to_string();
        assert!(message.ends_with("unknown, and 37 more)"), "{message}");
    }
}
