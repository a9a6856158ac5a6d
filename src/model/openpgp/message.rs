//! Signed messages: a text and one signature over it, one-pass or old-style, compressed or not (RFC 4880, section 11.3).

use std::io::{self, BufRead, Read};

use flate2::bufread::{DeflateDecoder, ZlibDecoder};

use super::{
    KeyId, MAX_MESSAGE, MAX_TEXT, Refusal,
    packet::{self, Packet, array, byte, bytes, tag},
    signature::{self, Signature},
};

/// A text and the signature over it, not verified yet.
pub(super) struct Signed {
    pub(super) text: Vec<u8>,
    pub(super) signature: Signature,
}

/// What a message may unpack to: the text, and some hundred bytes around it.
const MAX_UNPACKED: usize = MAX_TEXT + (16 << 10);

/// Reads a message to its very end.
pub(super) fn read(message: &[u8]) -> Result<Signed, Refusal> {
    match message {
        [] => return Err(Refusal::Empty),
        _ if message.len() > MAX_MESSAGE => return Err(Refusal::TooLarge),
        _ if message.starts_with(b"-----BEGIN PGP") => return Err(Refusal::Armoured),
        [first, ..] if first & 0x80 == 0 => return Err(Refusal::NotOpenPgp),
        _ => {}
    }
    let mut input = message;
    let first = packet::next(&mut input)?;
    if first.tag != tag::COMPRESSED {
        return signed(first, input);
    }
    if !input.is_empty() {
        return Err(Refusal::Trailing);
    }
    let unpacked = unpack(&first.body)?;
    let mut input = unpacked.as_slice();
    let first = packet::next(&mut input)?;
    signed(first, input)
}

/// Reads what is not compressed, or is not any more.
fn signed(first: Packet<'_>, mut input: &[u8]) -> Result<Signed, Refusal> {
    let signed = match first.tag {
        tag::ONE_PASS => {
            let announced = announcement(&first.body)?;
            let text = text(&mut input)?;
            let signature = signature_in(&mut input)?;
            if announced != Announced::of(&signature) {
                return Err(Refusal::Announcement);
            }
            Signed { text, signature }
        }
        tag::SIGNATURE => {
            let signature = signature::read(&first.body)?;
            if input.is_empty() {
                return Err(Refusal::Detached);
            }
            let text = text(&mut input)?;
            Signed { text, signature }
        }
        tag::LITERAL => return Err(Refusal::Unsigned),
        tag::COMPRESSED => return Err(Refusal::NestedTooDeep),
        1 | 3 | 9 | 18 | 20 => return Err(Refusal::Encrypted),
        other => return Err(Refusal::Unexpected(other)),
    };
    match input {
        [] => Ok(signed),
        _ => Err(Refusal::Trailing),
    }
}

/// Takes the literal packet and returns its text.
fn text(input: &mut &[u8]) -> Result<Vec<u8>, Refusal> {
    let packet = packet::next(input)?;
    match packet.tag {
        tag::LITERAL => literal(&packet.body),
        tag::ONE_PASS | tag::SIGNATURE => Err(Refusal::Several),
        tag::COMPRESSED => Err(Refusal::NestedTooDeep),
        other => Err(Refusal::Unexpected(other)),
    }
}

/// Returns the text of a literal packet (section 5.9). Its name and date stand outside of what is signed, and are not looked at.
fn literal(mut body: &[u8]) -> Result<Vec<u8>, Refusal> {
    if byte(&mut body)? != b'b' {
        return Err(Refusal::NotBinary);
    }
    let name = byte(&mut body)?;
    bytes(&mut body, name.into())?;
    array::<4>(&mut body)?;
    match body.len() {
        ..=MAX_TEXT => Ok(body.to_vec()),
        _ => Err(Refusal::Bomb),
    }
}

fn signature_in(input: &mut &[u8]) -> Result<Signature, Refusal> {
    let packet = packet::next(input)?;
    match packet.tag {
        tag::SIGNATURE => signature::read(&packet.body),
        other => Err(Refusal::Unexpected(other)),
    }
}

/// What a one-pass packet says of the signature to come.
#[derive(PartialEq)]
struct Announced {
    kind: u8,
    digest: u8,
    algorithm: u8,
    issuer: Option<KeyId>,
}

impl Announced {
    fn of(signature: &Signature) -> Self {
        Announced {
            kind: signature.kind,
            digest: signature.digest,
            algorithm: signature.algorithm,
            issuer: signature.issuer,
        }
    }
}

/// Reads a one-pass packet (section 5.4).
fn announcement(mut body: &[u8]) -> Result<Announced, Refusal> {
    let version = byte(&mut body)?;
    if version != 3 {
        return Err(Refusal::Version(version));
    }
    let announced = Announced {
        kind: byte(&mut body)?,
        digest: byte(&mut body)?,
        algorithm: byte(&mut body)?,
        issuer: Some(KeyId(array(&mut body)?)),
    };
    match (byte(&mut body)?, body) {
        (1, []) => Ok(announced),
        // Zero says that another one-pass packet follows.
        (0, []) => Err(Refusal::Several),
        _ => Err(Refusal::Malformed(
            "what announces the signature is not as it should be",
        )),
    }
}

/// Unpacks a compressed packet (section 5.6).
fn unpack(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut input = body;
    match byte(&mut input)? {
        0 => Ok(input.to_vec()),
        1 => drain(DeflateDecoder::new(input), DeflateDecoder::into_inner),
        2 => drain(ZlibDecoder::new(input), ZlibDecoder::into_inner),
        3 => Err(Refusal::UnknownCompression("BZip2".to_owned())),
        other => Err(Refusal::UnknownCompression(format!("algorithm {other}"))),
    }
}

/// Reads a decoder to the end of its data, which has to be the end of the packet.
fn drain<'a, D: Read>(
    mut decoder: D,
    rest: impl FnOnce(D) -> &'a [u8],
) -> Result<Vec<u8>, Refusal> {
    let mut unpacked = Vec::new();
    let read = decoder
        .by_ref()
        .take(MAX_UNPACKED as u64 + 1)
        .read_to_end(&mut unpacked);
    match read {
        Ok(_) if unpacked.len() > MAX_UNPACKED => return Err(Refusal::Bomb),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(Refusal::Truncated);
        }
        Err(_) if ended(&mut rest(decoder)) => return Err(Refusal::Truncated),
        Err(_) => return Err(Refusal::Compression),
    }
    match rest(decoder) {
        [] => Ok(unpacked),
        _ => Err(Refusal::Trailing),
    }
}

fn ended(input: &mut &[u8]) -> bool {
    input.fill_buf().is_ok_and(<[u8]>::is_empty)
}
