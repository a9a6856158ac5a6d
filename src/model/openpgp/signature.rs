//! Signature packets of versions 3 and 4 (RFC 4880, section 5.2).

use aws_lc_rs::{digest, signature::RsaParameters};
use jiff::Timestamp;

use super::{
    KeyId, Refusal,
    packet::{array, byte, bytes, integer, number},
};

/// Types of signatures (section 5.2.1).
pub(super) mod kind {
    pub(in crate::model::openpgp) const DOCUMENT: u8 = 0x00;
    pub(in crate::model::openpgp) const CERTIFICATIONS: std::ops::RangeInclusive<u8> = 0x10..=0x13;
    pub(in crate::model::openpgp) const SUBKEY_BINDING: u8 = 0x18;
    pub(in crate::model::openpgp) const PRIMARY_BINDING: u8 = 0x19;
    pub(in crate::model::openpgp) const DIRECT: u8 = 0x1f;
    pub(in crate::model::openpgp) const KEY_REVOCATION: u8 = 0x20;
    pub(in crate::model::openpgp) const SUBKEY_REVOCATION: u8 = 0x28;
    pub(in crate::model::openpgp) const CERTIFICATION_REVOCATION: u8 = 0x30;
}

/// Types of subpackets (section 5.2.3.1, and RFC 9580 for 33).
mod subpacket {
    pub(super) const CREATED: u8 = 2;
    pub(super) const EXPIRES: u8 = 3;
    pub(super) const KEY_EXPIRES: u8 = 9;
    pub(super) const ISSUER: u8 = 16;
    pub(super) const KEY_FLAGS: u8 = 27;
    pub(super) const EMBEDDED: u8 = 32;
    pub(super) const FINGERPRINT: u8 = 33;
    /// Those that may be critical since their meaning is heeded, or has none for who verifies: preferences, features, the name of
    /// the signer, whether it may be exported or revoked, why it was revoked, which name is the primary one, who else may revoke.
    pub(super) const KNOWN: [u8; 18] = [
        CREATED,
        EXPIRES,
        4,
        7,
        KEY_EXPIRES,
        11,
        12,
        ISSUER,
        21,
        22,
        23,
        25,
        KEY_FLAGS,
        28,
        29,
        30,
        EMBEDDED,
        FINGERPRINT,
    ];
}

/// The flag of a key that may sign documents (section 5.2.3.21).
const MAY_SIGN: u8 = 0x02;

/// A signature as it stands in its packet.
#[derive(Debug, Clone)]
pub(super) struct Signature {
    pub(super) kind: u8,
    pub(super) algorithm: u8,
    pub(super) digest: u8,
    pub(super) issuer: Option<KeyId>,
    pub(super) created: Timestamp,
    /// When it is over.
    pub(super) expires: Option<Timestamp>,
    /// How many seconds the key it is about lasts from when it was made.
    pub(super) key_lasts: Option<u32>,
    /// Whether the key it is about may sign documents, where it says so or not.
    pub(super) may_sign: Option<bool>,
    /// The signature of a subkey over its primary key.
    pub(super) embedded: Option<Box<Signature>>,
    /// A critical part that is not known.
    pub(super) critical: Option<u8>,
    fingerprint: Option<Vec<u8>>,
    /// What is hashed after that which was signed.
    trailer: Vec<u8>,
    /// The first two bytes of the hash.
    beginning: [u8; 2],
    /// The one number of an RSA signature.
    value: Vec<u8>,
}

/// Reads the body of a signature packet.
pub(super) fn read(body: &[u8]) -> Result<Signature, Refusal> {
    read_at(body, 0)
}

fn read_at(body: &[u8], depth: u8) -> Result<Signature, Refusal> {
    let mut input = body;
    let mut signature = match byte(&mut input)? {
        3 => version_3(&mut input)?,
        4 => version_4(body, &mut input, depth)?,
        other => return Err(Refusal::Version(other)),
    };
    signature.beginning = array(&mut input)?;
    // Other algorithms have other numbers; that they are others is said when one is to count.
    if is_rsa(signature.algorithm) {
        signature.value = integer(&mut input)?.to_vec();
        if !input.is_empty() {
            return Err(Refusal::Malformed(
                "bytes follow the signature in its packet",
            ));
        }
    }
    Ok(signature)
}

fn version_3(input: &mut &[u8]) -> Result<Signature, Refusal> {
    if byte(input)? != 5 {
        return Err(Refusal::Malformed(
            "a length in the signature is not what it has to be",
        ));
    }
    let trailer = bytes(input, 5)?;
    let mut hashed = trailer;
    let kind = byte(&mut hashed)?;
    let created = time(u32::from_be_bytes(array(&mut hashed)?));
    let issuer = KeyId(array(input)?);
    Ok(Signature {
        issuer: Some(issuer),
        trailer: trailer.to_vec(),
        ..Signature::new(kind, byte(input)?, byte(input)?, created)
    })
}

fn version_4(body: &[u8], input: &mut &[u8], depth: u8) -> Result<Signature, Refusal> {
    let (kind, algorithm, digest) = (byte(input)?, byte(input)?, byte(input)?);
    let mut signature = Signature::new(kind, algorithm, digest, Timestamp::UNIX_EPOCH);
    let length = number(input, 2)?;
    let hashed = bytes(input, length)?;
    let length = number(input, 2)?;
    let unhashed = bytes(input, length)?;
    let mut created = None;
    let mut lasts = None;
    for part in parts(hashed)? {
        let [critical, data] = [part.critical, part.data.len() == 4];
        let seconds =
            || -> Result<u32, Refusal> { Ok(u32::from_be_bytes(array(&mut { part.data })?)) };
        match part.kind {
            subpacket::CREATED | subpacket::EXPIRES | subpacket::KEY_EXPIRES if !data => {
                return Err(Refusal::Malformed(
                    "a time in the signature has the wrong length",
                ));
            }
            subpacket::CREATED => once(&mut created, seconds()?)?,
            subpacket::EXPIRES => once(&mut lasts, seconds()?)?,
            subpacket::KEY_EXPIRES => once(&mut signature.key_lasts, seconds()?)?,
            subpacket::KEY_FLAGS => {
                let flags = part.data.first().copied().unwrap_or(0);
                once(&mut signature.may_sign, flags & MAY_SIGN != 0)?;
            }
            other if critical && !subpacket::KNOWN.contains(&other) => {
                signature.critical = Some(other);
            }
            _ => signature.name_issuer(&part, depth)?,
        }
    }
    for part in parts(unhashed)? {
        signature.name_issuer(&part, depth)?;
    }
    let created = created.ok_or(Refusal::Malformed(
        "the signature does not say when it was made",
    ))?;
    signature.created = time(created);
    signature.expires = ends(created, lasts);
    let covered = body.len() - input.len() - 2 - unhashed.len();
    signature.trailer = body[..covered].to_vec();
    signature.trailer.extend([4, 0xff]);
    let length = u32::try_from(covered).map_err(|_| Refusal::TooLarge)?;
    signature.trailer.extend(length.to_be_bytes());
    Ok(signature)
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Refusal> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Refusal::Malformed("the signature says something twice")),
    }
}

/// A subpacket.
struct Part<'a> {
    kind: u8,
    critical: bool,
    data: &'a [u8],
}

fn parts(mut area: &[u8]) -> Result<Vec<Part<'_>>, Refusal> {
    let mut found = Vec::new();
    while !area.is_empty() {
        let first = usize::from(byte(&mut area)?);
        let length = match first {
            ..192 => first,
            192..255 => ((first - 192) << 8) + usize::from(byte(&mut area)?) + 192,
            _ => number(&mut area, 4)?,
        };
        let mut part = bytes(&mut area, length)?;
        let kind = byte(&mut part)?;
        found.push(Part {
            kind: kind & 0x7f,
            critical: kind & 0x80 != 0,
            data: part,
        });
    }
    Ok(found)
}

impl Signature {
    fn new(kind: u8, algorithm: u8, digest: u8, created: Timestamp) -> Self {
        Signature {
            kind,
            algorithm,
            digest,
            issuer: None,
            created,
            expires: None,
            key_lasts: None,
            may_sign: None,
            embedded: None,
            critical: None,
            fingerprint: None,
            trailer: Vec::new(),
            beginning: [0; 2],
            value: Vec::new(),
        }
    }

    /// Takes in what may stand in either area: who signed, and a subkey's signature, which both prove themselves.
    fn name_issuer(&mut self, part: &Part<'_>, depth: u8) -> Result<(), Refusal> {
        let short = Refusal::Malformed("the name of the key that signed has the wrong length");
        match part.kind {
            subpacket::ISSUER => {
                let id = part.data.try_into().map_err(|_| short)?;
                self.agree(KeyId(id))?;
            }
            subpacket::FINGERPRINT => {
                let [4, fingerprint @ ..] = part.data else {
                    return Err(short);
                };
                let id = fingerprint.last_chunk::<8>().ok_or(short)?;
                self.agree(KeyId(*id))?;
                self.fingerprint = Some(fingerprint.to_vec());
            }
            subpacket::EMBEDDED if depth == 0 => {
                // One that cannot be read binds nothing.
                self.embedded = read_at(part.data, depth + 1).ok().map(Box::new);
            }
            _ => {}
        }
        Ok(())
    }

    fn agree(&mut self, id: KeyId) -> Result<(), Refusal> {
        match self.issuer.replace(id) {
            Some(other) if other != id => Err(Refusal::Malformed(
                "the signature names two keys that made it",
            )),
            _ => Ok(()),
        }
    }

    /// Whether it says that the key with this fingerprint made it, as far as it says anything.
    pub(super) fn names(&self, id: KeyId, fingerprint: &[u8]) -> bool {
        self.issuer.is_none_or(|issuer| issuer == id)
            && self.fingerprint.as_deref().is_none_or(|f| f == fingerprint)
    }

    /// How its digest is verified; a refusal where it is weak or not known.
    pub(super) fn parameters(
        &self,
    ) -> Result<(&'static digest::Algorithm, &'static RsaParameters), Refusal> {
        use aws_lc_rs::signature as rsa;
        match self.digest {
            8 => Ok((&digest::SHA256, &rsa::RSA_PKCS1_2048_8192_SHA256)),
            9 => Ok((&digest::SHA384, &rsa::RSA_PKCS1_2048_8192_SHA384)),
            10 => Ok((&digest::SHA512, &rsa::RSA_PKCS1_2048_8192_SHA512)),
            1 => Err(Refusal::WeakDigest("MD5")),
            2 => Err(Refusal::WeakDigest("SHA-1")),
            3 => Err(Refusal::WeakDigest("RIPEMD-160")),
            11 => Err(Refusal::WeakDigest("SHA-224")),
            other => Err(Refusal::UnknownDigest(other)),
        }
    }

    /// Returns what is hashed: that which was signed, and what the signature says of itself.
    pub(super) fn hashed(&self, signed: &[&[u8]]) -> Vec<u8> {
        let mut hashed = signed.concat();
        hashed.extend_from_slice(&self.trailer);
        hashed
    }

    /// Whether the hash begins as the signature says.
    pub(super) fn begins(&self, hash: &[u8]) -> bool {
        hash.starts_with(&self.beginning)
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.value
    }
}

/// Whether an algorithm is RSA for signing (section 9.1).
pub(super) fn is_rsa(algorithm: u8) -> bool {
    matches!(algorithm, 1 | 3)
}

/// Returns a time of OpenPGP: seconds from 1970.
pub(super) fn time(seconds: u32) -> Timestamp {
    // All of them lie within what a timestamp can be.
    Timestamp::from_second(seconds.into()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Returns when something ends that lasts so long; zero and nothing stand for never.
pub(super) fn ends(from: u32, lasts: Option<u32>) -> Option<Timestamp> {
    let lasts = lasts.filter(|seconds| *seconds > 0)?;
    Timestamp::from_second(i64::from(from) + i64::from(lasts)).ok()
}
