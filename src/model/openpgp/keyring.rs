//! Keys that are trusted, what they say of themselves, and whether one of them signed a message.

use jiff::Timestamp;

use super::{
    KeyId, KeyTrouble, MAX_KEYRING, Refusal, Verified, algorithm_name, armor,
    message::{self, Signed},
    packet::{self, Packet, tag},
    public_key::{self, PublicKey},
    signature::{self, Signature, ends, is_rsa, kind},
};

/// The keys of Red Hat that sign releases of OpenShift.
const RED_HAT: &[u8] = include_bytes!("redhat.asc");

/// Why a keyring cannot be used: a clause that follows its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// There is no key.
    #[error("holds no public key; export one with `gpg --armor --export`")]
    Empty,
    /// It is too large.
    #[error("has more than {MAX_KEYRING} bytes; export the keys that sign releases alone")]
    TooLarge,
    /// A secret is where a public key belongs.
    #[error(
        "holds a secret key, which has no business here; export the public one with `gpg --armor --export`"
    )]
    Secret,
    /// It is GnuPG's own database.
    #[error("is a keybox, GnuPG's own database; export the keys with `gpg --export`")]
    Keybox,
    /// The armour is damaged.
    #[error("cannot be read: {0}")]
    Armor(&'static str),
    /// A packet is damaged.
    #[error("cannot be read: it {0}")]
    Packet(Refusal),
    /// None of its keys can ever count.
    #[error("holds no key that can verify a signature: {0}")]
    Unusable(String),
}

/// Keys whose signatures count.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: Vec<Key>,
}

/// A primary key with everything that is said of it.
#[derive(Debug, Clone)]
struct Key {
    primary: PublicKey,
    /// What is said of the key itself: direct signatures and revocations.
    said: Vec<Signature>,
    names: Vec<Name>,
    subkeys: Vec<Subkey>,
}

/// A user ID or attribute as it is hashed, and what is said of it.
#[derive(Debug, Clone)]
struct Name {
    hashed: Vec<u8>,
    said: Vec<Signature>,
}

#[derive(Debug, Clone)]
struct Subkey {
    key: PublicKey,
    said: Vec<Signature>,
}

/// What the next signature is about while a keyring is read.
enum Last {
    Nothing,
    Primary,
    Name,
    Subkey,
}

impl Keyring {
    /// The keys of Red Hat that sign releases of OpenShift, which this program carries along.
    pub fn red_hat() -> Result<Self, KeyringError> {
        Keyring::parse(RED_HAT)
    }

    /// Reads a keyring as `gpg --export` writes it, in armour or not.
    ///
    /// # Errors
    ///
    /// Where it is damaged, holds a secret key, or has no key that could count at any time.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        if bytes.len() > MAX_KEYRING {
            return Err(KeyringError::TooLarge);
        }
        if bytes.get(8..12) == Some(b"KBXf") {
            return Err(KeyringError::Keybox);
        }
        let joined;
        let binary = match bytes.first() {
            Some(first) if first & 0x80 != 0 && !armor::is_armor(bytes) => bytes,
            _ => {
                joined = armor::blocks(bytes)?;
                &joined
            }
        };
        let keyring = Keyring::read(binary)?;
        let fits = |key: &Key| {
            let all = key.subkeys.iter().map(|s| &s.key).chain([&key.primary]);
            all.map(PublicKey::fits).find(Result::is_ok).is_some()
        };
        match keyring.keys.first() {
            None => Err(KeyringError::Empty),
            Some(first) if !keyring.keys.iter().any(fits) => {
                let why = first.primary.fits().err();
                let why =
                    why.map_or_else(String::new, |why| format!("{}, {why}", first.primary.id));
                Err(KeyringError::Unusable(why))
            }
            Some(_) => Ok(keyring),
        }
    }

    fn read(mut input: &[u8]) -> Result<Self, KeyringError> {
        let mut keyring = Keyring::default();
        let mut last = Last::Nothing;
        while !input.is_empty() {
            let packet = packet::next(&mut input).map_err(KeyringError::Packet)?;
            last = keyring.take(&packet, last)?;
        }
        Ok(keyring)
    }

    /// Takes in one packet; returns what the signatures after it are about.
    fn take(&mut self, packet: &Packet<'_>, last: Last) -> Result<Last, KeyringError> {
        let body = packet.body.as_ref();
        let key = |body| public_key::read(body).map_err(KeyringError::Packet);
        Ok(match (packet.tag, self.keys.last_mut()) {
            (tag::SECRET_KEY | tag::SECRET_SUBKEY, _) => return Err(KeyringError::Secret),
            (tag::PUBLIC_KEY, _) => match key(body)? {
                Some(primary) => {
                    self.begin(primary);
                    Last::Primary
                }
                None => Last::Nothing,
            },
            // Of what follows a key that is not read, nothing is.
            (tag::PUBLIC_SUBKEY | tag::USER_ID | tag::USER_ATTRIBUTE | tag::SIGNATURE, _)
                if matches!(last, Last::Nothing) =>
            {
                Last::Nothing
            }
            (tag::PUBLIC_SUBKEY, Some(of)) => match key(body)? {
                Some(key) => {
                    let said = Vec::new();
                    of.subkeys.push(Subkey { key, said });
                    Last::Subkey
                }
                // What is said of it is not said of the one before.
                None => Last::Primary,
            },
            (tag::USER_ID, Some(of)) => of.name(0xb4, body),
            (tag::USER_ATTRIBUTE, Some(of)) => of.name(0xd1, body),
            (tag::SIGNATURE, Some(of)) => {
                // Of signatures by others, in formats to come, nothing is needed.
                if let Ok(signature) = signature::read(body) {
                    of.hear(signature, &last);
                }
                last
            }
            (tag::TRUST, _) | (60..=63, _) => last,
            (other, _) => return Err(KeyringError::Packet(Refusal::Unexpected(other))),
        })
    }

    /// Begins a key. One that is there already goes on: what either copy says counts, revocations above all.
    fn begin(&mut self, primary: PublicKey) {
        let same = |key: &Key| key.primary.fingerprint == primary.fingerprint;
        let key = match self.keys.iter().position(same) {
            Some(at) => self.keys.remove(at),
            None => Key {
                primary,
                said: Vec::new(),
                names: Vec::new(),
                subkeys: Vec::new(),
            },
        };
        self.keys.push(key);
    }

    /// Returns the fingerprints of the primary keys, in capital hexadecimal digits.
    pub fn fingerprints(&self) -> Vec<String> {
        let keys = self.keys.iter();
        keys.map(|key| hex::encode_upper(&key.primary.fingerprint))
            .collect()
    }

    /// Says who signed a message, and what.
    ///
    /// # Errors
    ///
    /// With the reason why the message counts for nothing at this time.
    pub fn verify(&self, message: &[u8], now: Timestamp) -> Result<Verified, Refusal> {
        let Signed { text, signature } = message::read(message)?;
        if signature.kind != kind::DOCUMENT {
            return Err(Refusal::Type(signature.kind));
        }
        if let Some(part) = signature.critical {
            return Err(Refusal::Critical(part));
        }
        if !is_rsa(signature.algorithm) {
            let name = algorithm_name(signature.algorithm);
            return Err(Refusal::UnknownAlgorithm(name));
        }
        signature.parameters()?;
        let issuer = signature.issuer.ok_or(Refusal::NoIssuer)?;
        let signer = self.signer(issuer, &signature, &text)?;
        signer
            .counts(now)
            .map_err(|why| Refusal::Key(issuer, why))?;
        if signature.created > now {
            return Err(Refusal::Future(signature.created));
        }
        if signature.created < signer.key().created() {
            return Err(Refusal::BeforeItsKey);
        }
        if let Some(end) = signature.expires.filter(|end| *end <= now) {
            return Err(Refusal::Expired(end));
        }
        Ok(Verified {
            text,
            signer: hex::encode_upper(&signer.of.primary.fingerprint),
            signed: signature.created,
        })
    }

    /// Finds the key of this name that made the signature.
    fn signer(
        &self,
        issuer: KeyId,
        signature: &Signature,
        text: &[u8],
    ) -> Result<Signer<'_>, Refusal> {
        let all = self.keys.iter().flat_map(Key::signers);
        let named: Vec<Signer<'_>> = all.filter(|s| s.key().id == issuer).collect();
        let Some(first) = named.first() else {
            return Err(Refusal::UnknownKey(issuer));
        };
        first
            .key()
            .fits()
            .map_err(|why| Refusal::Key(issuer, why))?;
        for signer in named {
            if signer.key().made(signature, &[text])? {
                return Ok(signer);
            }
        }
        Err(Refusal::Bad(issuer))
    }
}

/// A key that may have signed: a primary key, or one of its subkeys.
struct Signer<'a> {
    of: &'a Key,
    subkey: Option<&'a Subkey>,
}

impl Signer<'_> {
    fn key(&self) -> &PublicKey {
        self.subkey.map_or(&self.of.primary, |subkey| &subkey.key)
    }

    /// Whether what it signs counts now.
    fn counts(&self, now: Timestamp) -> Result<(), KeyTrouble> {
        let words = self.of.words(now)?;
        match self.subkey {
            Some(subkey) => self.of.vouches_for(subkey, now),
            None if words.iter().all(|word| word.may_sign.unwrap_or(true)) => Ok(()),
            None => Err(KeyTrouble::NotForSigning),
        }
    }
}

impl Key {
    fn signers(&self) -> impl Iterator<Item = Signer<'_>> {
        let subkeys = self.subkeys.iter().map(Some);
        std::iter::once(None)
            .chain(subkeys)
            .map(|subkey| Signer { of: self, subkey })
    }

    /// Begins a name; how it is hashed is its packet of version 3 (RFC 4880, section 5.2.4).
    fn name(&mut self, first: u8, body: &[u8]) -> Last {
        let Ok(length) = u32::try_from(body.len()) else {
            return Last::Primary;
        };
        let hashed = [&[first], length.to_be_bytes().as_slice(), body].concat();
        let said = Vec::new();
        self.names.push(Name { hashed, said });
        Last::Name
    }

    /// Takes in what is said of the key, its last name or its last subkey.
    fn hear(&mut self, signature: Signature, last: &Last) {
        let said = match (signature.kind, last) {
            // Of the key itself, wherever it stands.
            (kind::DIRECT | kind::KEY_REVOCATION, _) | (_, Last::Primary | Last::Nothing) => {
                &mut self.said
            }
            (_, Last::Name) => match self.names.last_mut() {
                Some(name) => &mut name.said,
                None => return,
            },
            (_, Last::Subkey) => match self.subkeys.last_mut() {
                Some(subkey) => &mut subkey.said,
                None => return,
            },
        };
        said.push(signature);
    }

    /// Returns what the key says of itself last, where it counts now: several where they were said in the same second.
    fn words(&self, now: Timestamp) -> Result<Vec<&Signature>, KeyTrouble> {
        let key = &self.primary;
        key.fits()?;
        if key.created() > now {
            return Err(KeyTrouble::Future);
        }
        let revocations = self.said.iter().filter(|s| s.kind == kind::KEY_REVOCATION);
        not_revoked(key, revocations, &[&key.hashed])?;
        let mut weak = None;
        let mut own = |signature: &Signature, about: &[&[u8]]| match key.made(signature, about) {
            Ok(made) => made && signature.counts(now),
            Err(Refusal::WeakDigest(name)) if signature.names(key.id, &key.fingerprint) => {
                weak = Some(name);
                false
            }
            Err(_) => false,
        };
        let mut words: Vec<&Signature> = Vec::new();
        let direct = self.said.iter().filter(|s| s.kind == kind::DIRECT);
        words.extend(direct.filter(|s| own(s, &[&key.hashed])));
        for name in &self.names {
            let about: [&[u8]; 2] = [&key.hashed, &name.hashed];
            let is = |wished: u8| move |s: &&Signature| s.kind == wished;
            let mut taken_back = name.said.iter().filter(is(kind::CERTIFICATION_REVOCATION));
            if taken_back.any(|s| own(s, &about)) {
                continue;
            }
            let certified = name.said.iter();
            let certified = certified.filter(|s| kind::CERTIFICATIONS.contains(&s.kind));
            words.extend(certified.filter(|s| own(s, &about)));
        }
        let Some(newest) = words.iter().map(|s| s.created).max() else {
            return Err(match weak {
                Some(name) => KeyTrouble::WeakSelfSignature(name),
                None => KeyTrouble::NoSelfSignature,
            });
        };
        words.retain(|s| s.created == newest);
        for word in &words {
            expired(key, word, now)?;
        }
        Ok(words)
    }

    /// Whether the key and its subkey vouch for one another, and the subkey may sign.
    fn vouches_for(&self, subkey: &Subkey, now: Timestamp) -> Result<(), KeyTrouble> {
        let key = &subkey.key;
        key.fits()?;
        let about: [&[u8]; 2] = [&self.primary.hashed, &key.hashed];
        let of = |wished: u8| subkey.said.iter().filter(move |s| s.kind == wished);
        not_revoked(&self.primary, of(kind::SUBKEY_REVOCATION), &about)?;
        let mut weak = None;
        let bindings = of(kind::SUBKEY_BINDING).filter(|s| match self.primary.made(s, &about) {
            Ok(made) => made && s.counts(now),
            Err(Refusal::WeakDigest(name)) => {
                weak = Some(name);
                false
            }
            Err(_) => false,
        });
        let newest = bindings.max_by_key(|s| s.created);
        let binding = match (newest, weak) {
            (Some(binding), _) => binding,
            (None, Some(name)) => return Err(KeyTrouble::WeakSelfSignature(name)),
            (None, None) => return Err(KeyTrouble::NotBound),
        };
        if key.created() > now {
            return Err(KeyTrouble::Future);
        }
        expired(key, binding, now)?;
        if binding.may_sign != Some(true) {
            return Err(KeyTrouble::NotForSigning);
        }
        let back = binding.embedded.as_ref();
        let back = back.filter(|s| s.kind == kind::PRIMARY_BINDING && s.counts(now));
        match back.map(|s| key.made(s, &about)) {
            Some(Ok(true)) => Ok(()),
            _ => Err(KeyTrouble::NotBound),
        }
    }
}

/// Whether a key has no revocation. One by another key may be by one that is entitled to it; that cannot be told here, so it
/// counts as well.
fn not_revoked<'a>(
    primary: &PublicKey,
    revocations: impl Iterator<Item = &'a Signature>,
    about: &[&[u8]],
) -> Result<(), KeyTrouble> {
    let own = |revocation| matches!(primary.made(revocation, about), Ok(true));
    match revocations.map(own).max() {
        None => Ok(()),
        Some(true) => Err(KeyTrouble::Revoked),
        Some(false) => Err(KeyTrouble::MaybeRevoked),
    }
}

/// Whether a key is over, by what is said of it.
fn expired(key: &PublicKey, word: &Signature, now: Timestamp) -> Result<(), KeyTrouble> {
    match ends(key.seconds, word.key_lasts).filter(|end| *end <= now) {
        Some(end) => Err(KeyTrouble::Expired(end)),
        None => Ok(()),
    }
}

impl Signature {
    /// Whether what it says of a key may count now; that it was made is another question.
    fn counts(&self, now: Timestamp) -> bool {
        let over = self.expires.is_some_and(|end| end <= now);
        self.created <= now && !over && self.critical.is_none()
    }
}
