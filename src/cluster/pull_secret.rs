//! Pull secrets: `{"auths":{"host":{"auth":"base64(user:password)"}}}`.
//!
//! **Invariant:** no error and no note holds any part of a credential.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use crate::model::image::{Registry, check_path};

/// The largest secret that is read; an object of a cluster has at most 1 MiB of data.
pub const MAX_BYTES: usize = 1 << 20;

/// What merging gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    /// The secret on one line, as install-config.yaml takes it.
    pub text: String,
    /// The names of its credentials.
    pub kept: Vec<String>,
    /// The names of those that were left out.
    pub dropped: Vec<String>,
    /// What a person should know, sentences.
    pub notes: Vec<String>,
}

/// Merges secrets: the union of their credentials, where the later one wins, with all other keys kept.
///
/// `mirror` keeps only the credentials that pulling from this `host[:port][/path]` uses.
///
/// # Errors
///
/// Sentences for every file that is no pull secret and every credential that is none, by file and name.
pub fn merge(files: &[(String, Vec<u8>)], mirror: Option<&str>) -> Result<Merged, Vec<String>> {
    let (mut auths, mut others) = (Map::new(), Map::new());
    let (mut wrong, mut notes) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let secret = match read(name, bytes) {
            Ok(secret) => secret,
            Err(why) => {
                wrong.push(why);
                continue;
            }
        };
        for (key, value) in secret {
            if key != "auths" {
                others.insert(key, value);
                continue;
            }
            for (host, credential) in value.as_object().cloned().unwrap_or_default() {
                if let Err(why) = check(&host, &credential) {
                    wrong.push(format!("{name}: {why}"));
                }
                if auths.get(&host).is_some_and(|known| *known != credential) {
                    notes.push(format!(
                        "`{host}` is there before; the one of {name} counts"
                    ));
                }
                auths.insert(host, credential);
            }
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let needed = |host: &String| mirror.is_none_or(|mirror| serves(host, mirror));
    let (kept, dropped): (Vec<String>, Vec<String>) = auths.keys().cloned().partition(needed);
    auths.retain(|host, _| needed(host));
    if let Some(mirror) = mirror.filter(|_| kept.is_empty()) {
        return Err(vec![format!(
            "none of the secrets has a credential for `{mirror}`"
        )]);
    }
    let mut whole = Map::new();
    whole.insert("auths".into(), Value::Object(auths));
    if mirror.is_none() {
        whole.extend(others);
    }
    Ok(Merged {
        text: Value::Object(whole).to_string(),
        kept,
        dropped,
        notes,
    })
}

fn read(name: &str, bytes: &[u8]) -> Result<Map<String, Value>, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("{name}: it is larger than any pull secret"));
    }
    // What the parser says may quote the text.
    let value: Value = serde_json::from_slice(bytes).map_err(|e| {
        format!(
            "{name}: line {}, column {}: this is not JSON",
            e.line(),
            e.column()
        )
    })?;
    match value {
        Value::Object(secret) if secret.get("auths").is_some_and(Value::is_object) => Ok(secret),
        _ => Err(format!(
            "{name}: this is not a pull secret, which is `{{\"auths\":{{\"host\":{{\"auth\":\"...\"}}}}}}`"
        )),
    }
}

/// Checks the form of a credential, without a word of it in what is said.
fn check(host: &str, credential: &Value) -> Result<(), String> {
    let shown: String = host.chars().take(120).collect();
    let (name, path) = host.split_once('/').unwrap_or((host, ""));
    let is_host = name.parse::<Registry>().is_ok() && (path.is_empty() || check_path(path).is_ok());
    // Docker's own name for its registry is an address.
    if !is_host && host != "https://index.docker.io/v1/" {
        return Err(format!(
            "`{shown}` is not `host[:port]` or `host[:port]/path`; nodes look credentials up by that"
        ));
    }
    let of = |key: &str| credential.get(key).and_then(Value::as_str);
    if of("identitytoken").is_some_and(|token| !token.is_empty()) {
        return Ok(());
    }
    let Some(auth) = of("auth").filter(|auth| !auth.is_empty()) else {
        return Err(format!("the credential for `{shown}` has no `auth`"));
    };
    let decoded = STANDARD.decode(auth).map_err(|_| {
        format!("the `auth` of `{shown}` is not base64; make it with `printf %s USER:PASSWORD | base64 -w0`")
    })?;
    let parted = decoded.iter().position(|b| *b == b':');
    match parted {
        None => Err(format!(
            "the `auth` of `{shown}` does not hold `user:password`"
        )),
        Some(0) => Err(format!("the `auth` of `{shown}` has no user")),
        Some(at) if at + 1 == decoded.len() => {
            Err(format!("the `auth` of `{shown}` has no password"))
        }
        Some(_) if decoded.last() == Some(&b'\n') => Err(format!(
            "the password for `{shown}` ends with a line feed, as `echo` adds one; use `printf %s`"
        )),
        Some(_) => Ok(()),
    }
}

/// Whether a credential is used for what lies at a mirror: its name is the mirror's, a part of that, or lies below it.
fn serves(name: &str, mirror: &str) -> bool {
    let below = |narrow: &str, wide: &str| {
        narrow
            .strip_prefix(wide)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(name, mirror) || below(mirror, name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(name: &str, value: &Value) -> (String, Vec<u8>) {
        (name.to_owned(), value.to_string().into_bytes())
    }

    fn auth(credential: &str) -> Value {
        json!({"auth": STANDARD.encode(credential)})
    }

    #[test]
    fn the_later_one_wins_and_other_keys_stay() {
        let one = json!({"auths": {"quay.io": auth("a:1"), "m.lan:5000": auth("b:2")}, "credsStore": "x"});
        let two = json!({"auths": {"m.lan:5000": auth("c:3"), "n.lan/ocp": auth("d:4")}});
        let merged = merge(&[file("one", &one), file("two", &two)], None).unwrap();
        assert_eq!(
            merged.text,
            json!({"auths": {"quay.io": auth("a:1"), "m.lan:5000": auth("c:3"), "n.lan/ocp": auth("d:4")}, "credsStore": "x"})
                .to_string()
        );
        assert_eq!(
            merged.notes,
            ["`m.lan:5000` is there before; the one of two counts"]
        );
        let mirror = merge(
            &[file("one", &one), file("two", &two)],
            Some("m.lan:5000/ocp"),
        )
        .unwrap();
        assert_eq!(
            mirror.text,
            json!({"auths": {"m.lan:5000": auth("c:3")}}).to_string()
        );
        assert_eq!(mirror.dropped, ["quay.io", "n.lan/ocp"]);
        assert!(merge(&[file("one", &one)], Some("z.lan")).is_err());
    }

    #[test]
    fn what_is_no_credential_is_named_and_never_shown() {
        let secret = "hunter2";
        let bad = json!({"auths": {
            "https://quay.io": auth("a:b"),
            "a.io": {},
            "b.io": {"auth": format!("!{secret}")},
            "c.io": auth(secret),
            "d.io": auth(&format!(":{secret}")),
            "e.io": auth(&format!("{secret}:")),
            "f.io": auth(&format!("a:{secret}\n")),
        }});
        let wrong = merge(
            &[
                file("f", &bad),
                ("g".to_owned(), secret.into()),
                file("h", &json!({})),
            ],
            None,
        )
        .unwrap_err();
        assert_eq!(wrong.len(), 9);
        for (line, part) in wrong.iter().zip([
            "`https://quay.io` is not `host[:port]`",
            "no `auth`",
            "not base64",
            "does not hold `user:password`",
            "has no user",
            "has no password",
            "ends with a line feed",
            "g: line 1, column 1: this is not JSON",
            "h: this is not a pull secret",
        ]) {
            assert!(line.contains(part), "{line}");
            assert!(
                !line.contains(secret) && !line.contains(&STANDARD.encode(secret)),
                "{line}"
            );
        }
    }
}
