//! Who may do what over the API: rights, and the entries that give them.

use std::{fmt, str::FromStr};

use aws_lc_rs::{constant_time, digest};

/// What somebody may do; each right holds those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Look at everything.
    Read,
    /// Make plans, which costs requests upstream and changes nothing outside the state folder.
    Plan,
    /// Apply plans and cancel runs.
    Apply,
    /// What cannot be taken back by the next run: retiring published rules.
    Admin,
}

impl Right {
    /// All of them, the least first.
    pub const ALL: [Right; 4] = [Right::Read, Right::Plan, Right::Apply, Right::Admin];

    /// Returns the word that settings, tokens files and errors have for it.
    pub fn word(self) -> &'static str {
        match self {
            Right::Read => "read",
            Right::Plan => "plan",
            Right::Apply => "apply",
            Right::Admin => "admin",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why a text is none of the values here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Not a right.
    #[error("`{0}` is not a right: `read`, `plan`, `apply` or `admin` is expected")]
    Right(String),
    /// Not a token's name.
    #[error(
        "`{0}` is not the name of a token: 1 to 64 letters, digits, `.`, `_` and `-` are expected"
    )]
    Name(String),
    /// Not a hash. The text is not shown: it may be the token itself.
    #[error(
        "this is not the SHA-256 of a token: 64 hexadecimal digits are expected, as `imagesetd token new` prints them"
    )]
    Hash,
    /// Not a line of a tokens file. The line is not shown: it may be the token itself.
    #[error(
        "this is not a line of a tokens file: `NAME RIGHTS sha256:HASH` is expected, as `imagesetd token new` prints it"
    )]
    Line,
    /// One token twice.
    #[error("this token is there already, on line {0}; remove one of the two")]
    Twice(usize),
    /// More than anybody needs.
    #[error("there are more than {MOST_TOKENS} tokens")]
    Many,
}

/// Returns the beginning of what somebody wrote, for an error.
fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}

impl FromStr for Right {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let found = Right::ALL.into_iter().find(|right| right.word() == text);
        found.ok_or_else(|| AccessError::Right(shown(text)))
    }
}

/// The name of a token, which logs and errors say in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenName(String);

impl TokenName {
    /// Returns it as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TokenName {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let fits = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        match fits {
            true => Ok(TokenName(text.to_owned())),
            false => Err(AccessError::Name(shown(text))),
        }
    }
}

/// The SHA-256 of a token. Tokens are random and long, so that a plain hash of one gives nothing away.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Hashes a token.
    pub fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        TokenHash(hash)
    }

    /// Whether both are of one token, in a time that does not tell how much of them is the same.
    pub fn is(&self, other: &TokenHash) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash")
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for TokenHash {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(|_| AccessError::Hash)?;
        Ok(TokenHash(hash))
    }
}

/// A bearer token that the daemon knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is called. Two may have one name, while one takes over from the other.
    pub name: TokenName,
    /// What its bearer may do.
    pub rights: Right,
    /// What it is known by.
    pub hash: TokenHash,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} sha256:{}", self.name, self.rights, self.hash)
    }
}

impl FromStr for Token {
    type Err = AccessError;

    fn from_str(line: &str) -> Result<Self, AccessError> {
        let mut words = line.split_whitespace();
        let (Some(name), Some(rights), Some(hash), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(AccessError::Line);
        };
        let hash = hash.strip_prefix("sha256:").ok_or(AccessError::Line)?;
        // The hash first: what has none may be a secret, and is not shown.
        let hash = hash.parse()?;
        Ok(Token {
            name: name.parse()?,
            rights: rights.parse()?,
            hash,
        })
    }
}

/// The most tokens of a file; a request is compared with each.
pub const MOST_TOKENS: usize = 1000;

/// Reads a tokens file: a token a line, `#` begins a comment.
///
/// # Errors
///
/// The first line that is none, by its number.
pub fn read_tokens(text: &str) -> Result<Vec<Token>, (usize, AccessError)> {
    let mut found: Vec<(usize, Token)> = Vec::new();
    let lines = text.lines().map(str::trim).zip(1..);
    for (line, number) in lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')) {
        let token: Token = line.parse().map_err(|error| (number, error))?;
        if let Some((first, _)) = found.iter().find(|(_, other)| other.hash == token.hash) {
            return Err((number, AccessError::Twice(*first)));
        }
        if found.len() == MOST_TOKENS {
            return Err((number, AccessError::Many));
        }
        found.push((number, token));
    }
    Ok(found.into_iter().map(|(_, token)| token).collect())
}

/// Returns the token that a request came with. All are looked at, whichever it is.
pub fn find_token<'a>(
    tokens: impl IntoIterator<Item = &'a Token>,
    presented: &str,
) -> Option<&'a Token> {
    let presented = TokenHash::of(presented);
    let mut found = None;
    for token in tokens {
        if token.hash.is(&presented) {
            found = Some(token);
        }
    }
    found
}

/// An entry of `clients.certificates`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRule {
    /// The common name, or a DNS name or URI of the alternative names; `*` is every certificate of the CA.
    pub subject: String,
    /// What its holder may do.
    pub rights: Right,
}

/// Returns what the holder of a certificate with these names may do, by the first entry that fits.
pub fn certificate_rights(rules: &[CertificateRule], names: &[String]) -> Option<Right> {
    let fits = |rule: &&CertificateRule| rule.subject == "*" || names.contains(&rule.subject);
    rules.iter().find(fits).map(|rule| rule.rights)
}

/// Whom an entry of `clients.peers` is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerName {
    /// A user by name.
    User(String),
    /// The members of a group by name.
    Group(String),
    /// A user by number.
    Uid(u32),
    /// The members of a group by number.
    Gid(u32),
}

/// An entry of `clients.peers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRule {
    /// Who.
    pub who: PeerName,
    /// What they may do.
    pub rights: Right,
}

/// Who is at the other end of a Unix socket, as the kernel and the system's databases say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// The user's number.
    pub uid: u32,
    /// The user's name, where there is one.
    pub user: Option<String>,
    /// All groups that the user is in, by number.
    pub gids: Vec<u32>,
    /// Their names.
    pub groups: Vec<String>,
}

/// Returns what a peer may do: all where nothing is said of peers, as whoever may open the socket then may, else by the first entry that
/// fits. Root and the daemon's own user, who could write the settings anew, may do all where no entry is about them.
pub fn peer_rights(rules: Option<&[PeerRule]>, peer: &Peer, daemon_uid: u32) -> Option<Right> {
    let Some(rules) = rules else {
        return Some(Right::Admin);
    };
    let fits = |rule: &&PeerRule| match &rule.who {
        PeerName::User(name) => peer.user.as_ref() == Some(name),
        PeerName::Uid(uid) => peer.uid == *uid,
        PeerName::Group(name) => peer.groups.contains(name),
        PeerName::Gid(gid) => peer.gids.contains(gid),
    };
    let owns = peer.uid == 0 || peer.uid == daemon_uid;
    let found = rules.iter().find(fits).map(|rule| rule.rights);
    found.or(owns.then_some(Right::Admin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, rights: Right, secret: &str) -> Token {
        Token {
            name: name.parse().unwrap(),
            rights,
            hash: TokenHash::of(secret),
        }
    }

    #[test]
    fn each_right_holds_those_before_it() {
        assert!(Right::ALL.is_sorted());
        for right in Right::ALL {
            assert_eq!(right.word().parse(), Ok(right));
        }
        assert_eq!(
            "write".parse::<Right>().unwrap_err().to_string(),
            "`write` is not a right: `read`, `plan`, `apply` or `admin` is expected"
        );
    }

    #[test]
    fn what_a_token_is_written_as_is_read_again() {
        let tokens = [
            token("ci", Right::Plan, "a"),
            token("ops-2.x", Right::Admin, "b"),
        ];
        let text = format!("# who may come in\n\n  {}\n{}\n", tokens[0], tokens[1]);
        assert_eq!(read_tokens(&text), Ok(tokens.to_vec()));
        assert_eq!(read_tokens("# nobody\n"), Ok(vec![]));
    }

    #[test]
    fn a_line_that_is_no_token_is_named_and_never_shown() {
        let hash = TokenHash::of("a");
        let told = |text: &str| {
            let (line, error) = read_tokens(text).unwrap_err();
            assert!(!error.to_string().contains("canary"), "{error}");
            (line, error)
        };
        for text in [
            "canary",
            "ci plan canary",
            "ci plan sha256:canary more",
            "canary plan",
        ] {
            assert_eq!(told(text), (1, AccessError::Line), "{text}");
        }
        assert_eq!(told("\nci plan sha256:canary"), (2, AccessError::Hash));
        assert_eq!(
            told(&format!("ci write sha256:{hash}")),
            (1, AccessError::Right("write".to_owned()))
        );
        assert_eq!(
            told(&format!("c/i read sha256:{hash}")),
            (1, AccessError::Name("c/i".to_owned()))
        );
        let twice = format!("a read sha256:{hash}\n#\nb plan sha256:{hash}\n");
        assert_eq!(told(&twice), (3, AccessError::Twice(1)));
        let many: String = (0..=MOST_TOKENS)
            .map(|n| format!("{}\n", token("t", Right::Read, &n.to_string())))
            .collect();
        assert_eq!(told(&many), (MOST_TOKENS + 1, AccessError::Many));
    }

    #[test]
    fn a_token_is_found_by_itself_alone() {
        let tokens = [
            token("a", Right::Read, "one"),
            token("b", Right::Plan, "two"),
        ];
        let named = |secret: &str| find_token(&tokens, secret).map(|t| t.name.as_str());
        assert_eq!(named("one"), Some("a"));
        assert_eq!(named("two"), Some("b"));
        for secret in ["", "three", "on", "one ", &tokens[0].hash.to_string()] {
            assert_eq!(named(secret), None, "{secret}");
        }
    }

    #[test]
    fn a_certificate_has_the_rights_of_the_first_entry_that_fits() {
        let rule = |subject: &str, rights| CertificateRule {
            subject: subject.to_owned(),
            rights,
        };
        let rules = [
            rule("ansible", Right::Apply),
            rule("ci.lan", Right::Plan),
            rule("*", Right::Read),
        ];
        let of = |rules: &[CertificateRule], names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            certificate_rights(rules, &names)
        };
        assert_eq!(of(&rules, &["x", "ci.lan", "ansible"]), Some(Right::Apply));
        assert_eq!(of(&rules, &["ci.lan"]), Some(Right::Plan));
        assert_eq!(of(&rules, &[]), Some(Right::Read));
        assert_eq!(of(&rules[..2], &["ansible.lan", "*", "Ansible"]), None);
    }

    #[test]
    fn a_peer_has_the_rights_of_the_first_entry_that_fits() {
        let rule = |who, rights| PeerRule { who, rights };
        let rules = [
            rule(PeerName::User("eve".to_owned()), Right::Read),
            rule(PeerName::Group("ops".to_owned()), Right::Apply),
            rule(PeerName::Gid(7), Right::Plan),
            rule(PeerName::Uid(8), Right::Admin),
        ];
        let of = |peer: &Peer| peer_rights(Some(&rules), peer, 990);
        let peer = |uid, user: &str, gids: &[u32], groups: &[&str]| Peer {
            uid,
            user: Some(user.to_owned()),
            gids: gids.to_vec(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        };
        let eve = peer(5, "eve", &[7], &["ops"]);
        assert_eq!(of(&eve), Some(Right::Read));
        assert_eq!(of(&peer(6, "bob", &[1], &["x", "ops"])), Some(Right::Apply));
        assert_eq!(of(&peer(6, "bob", &[1, 7], &[])), Some(Right::Plan));
        assert_eq!(of(&peer(8, "ann", &[], &[])), Some(Right::Admin));
        assert_eq!(of(&peer(9, "tim", &[2], &["eve"])), None);
        assert_eq!(of(&peer(0, "root", &[], &[])), Some(Right::Admin));
        assert_eq!(of(&peer(990, "imagesetd", &[], &[])), Some(Right::Admin));
        let root_reads = [rule(PeerName::Uid(0), Right::Read)];
        assert_eq!(
            peer_rights(Some(&root_reads), &peer(0, "root", &[], &[]), 990),
            Some(Right::Read)
        );
        assert_eq!(peer_rights(None, &eve, 990), Some(Right::Admin));
        assert_eq!(peer_rights(Some(&[]), &eve, 990), None);
    }
}
