//! `clients`: who may do what over the API.

use std::path::{Path, PathBuf};

use super::{Clients, parse::word};
use crate::{
    model::access::{CertificateRule, MOST_TOKENS, PeerName, PeerRule, Right, Token},
    yaml::{
        self,
        reader::{At, Fields},
    },
};

/// What a path begins with that systemd's `LoadCredential=` provides.
pub(super) const CREDENTIALS: &str = "$CREDENTIALS_DIRECTORY/";

const RIGHTS_HINT: &str = "write `read`, `plan`, `apply` or `admin`";

/// Reads a path that may be one of systemd's credentials.
pub(super) fn credential(
    fields: &mut Fields<'_>,
    key: &'static str,
    folder: &Path,
) -> Option<PathBuf> {
    let text = word(fields, key)?;
    Some(match text.starts_with(CREDENTIALS) {
        true => PathBuf::from(text),
        false => folder.join(text),
    })
}

/// Reads `clients`.
pub(super) fn clients(top: &mut Fields<'_>, folder: &Path) -> Clients {
    let Some(mut fields) = top.fields("clients") else {
        return Clients::default();
    };
    let clients = Clients {
        tokens_file: credential(&mut fields, "tokens_file", folder),
        tokens: tokens(&mut fields),
        certificates: certificates(&mut fields),
        peers: peers(&mut fields),
    };
    fields.finish();
    clients
}

fn rights(fields: &mut Fields<'_>) -> Option<Right> {
    let at = fields.required("rights", RIGHTS_HINT)?;
    at.choice("a right", &Right::ALL.map(|right| (right.word(), right)))
}

/// Reads `clients.tokens`.
fn tokens(fields: &mut Fields<'_>) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::new();
    for at in fields.list("tokens") {
        let Some(token) = token(&at) else { continue };
        if found.iter().any(|other| other.hash == token.hash) {
            at.error("this token is there twice", "remove one of the two");
        } else if found.len() == MOST_TOKENS {
            at.error(format!("there are more than {MOST_TOKENS} tokens"), "");
            break;
        } else {
            found.push(token);
        }
    }
    found
}

fn token(at: &At<'_>) -> Option<Token> {
    let mut fields = at.fields()?;
    let name = fields.required("name", "name the token as logs are to say it");
    let name = name.and_then(|at| at.parsed());
    let hash = fields.required("sha256", "write the hash that `imagesetd token new` prints");
    let hash = hash.and_then(|at| at.parsed());
    let rights = rights(&mut fields);
    fields.finish();
    Some(Token {
        name: name?,
        rights: rights?,
        hash: hash?,
    })
}

/// Reads `clients.certificates`.
fn certificates(fields: &mut Fields<'_>) -> Vec<CertificateRule> {
    let mut found: Vec<CertificateRule> = Vec::new();
    for at in fields.list("certificates") {
        let Some(rule) = certificate(&at) else {
            continue;
        };
        if found.iter().any(|other| other.subject == rule.subject) {
            let shown = yaml::shorten(&rule.subject);
            at.error(
                format!("`{shown}` is there twice"),
                "the first counts; remove one of the two",
            );
        } else {
            found.push(rule);
        }
    }
    found
}

fn certificate(at: &At<'_>) -> Option<CertificateRule> {
    let mut fields = at.fields()?;
    let subject = fields.required(
        "subject",
        "write the certificate's common name, or a DNS name or URI of its alternative names; `*` is every certificate of the CA",
    );
    let subject = subject.and_then(|at| at.text());
    let rights = rights(&mut fields);
    fields.finish();
    Some(CertificateRule {
        subject: subject?,
        rights: rights?,
    })
}

/// Reads `clients.peers`; an empty list leaves nobody but root and the daemon's own user.
fn peers(fields: &mut Fields<'_>) -> Option<Vec<PeerRule>> {
    let at = fields.get("peers")?;
    Some(at.list().iter().filter_map(peer).collect())
}

fn peer(at: &At<'_>) -> Option<PeerRule> {
    let mut fields = at.fields()?;
    let names = [
        word(&mut fields, "user").map(PeerName::User),
        word(&mut fields, "group").map(PeerName::Group),
        number(&mut fields, "uid").map(PeerName::Uid),
        number(&mut fields, "gid").map(PeerName::Gid),
    ];
    let keys = ["user", "group", "uid", "gid"].map(|key| fields.has(key));
    let rights = rights(&mut fields);
    fields.finish();
    if keys.iter().filter(|is_there| **is_there).count() != 1 {
        at.error(
            "an entry is about a user or a group",
            "write one of `user`, `group`, `uid` and `gid`",
        );
        return None;
    }
    Some(PeerRule {
        who: names.into_iter().flatten().next()?,
        rights: rights?,
    })
}

fn number(fields: &mut Fields<'_>, key: &'static str) -> Option<u32> {
    let at = fields.get(key)?;
    let number = u32::try_from(at.integer()?).ok();
    if number.is_none() {
        at.error(format!("`{key}` is more than Linux knows"), "");
    }
    number
}
