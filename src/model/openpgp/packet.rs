//! Packets: where each begins and ends (RFC 4880, section 4).

use std::borrow::Cow;

use super::Refusal;

/// Tags of packets that are looked at here.
pub(super) mod tag {
    pub(in crate::model::openpgp) const SIGNATURE: u8 = 2;
    pub(in crate::model::openpgp) const ONE_PASS: u8 = 4;
    pub(in crate::model::openpgp) const SECRET_KEY: u8 = 5;
    pub(in crate::model::openpgp) const PUBLIC_KEY: u8 = 6;
    pub(in crate::model::openpgp) const SECRET_SUBKEY: u8 = 7;
    pub(in crate::model::openpgp) const COMPRESSED: u8 = 8;
    pub(in crate::model::openpgp) const LITERAL: u8 = 11;
    pub(in crate::model::openpgp) const TRUST: u8 = 12;
    pub(in crate::model::openpgp) const USER_ID: u8 = 13;
    pub(in crate::model::openpgp) const PUBLIC_SUBKEY: u8 = 14;
    pub(in crate::model::openpgp) const USER_ATTRIBUTE: u8 = 17;
}

/// The shortest first piece of a body that comes in pieces.
const SHORTEST_PIECE: usize = 512;

/// One packet.
pub(super) struct Packet<'a> {
    pub(super) tag: u8,
    pub(super) body: Cow<'a, [u8]>,
}

/// How long a body is, as its header says.
enum Length {
    Known(usize),
    /// A piece of this length, after which another length stands.
    Piece(usize),
    /// To the end.
    Rest,
}

/// Takes the next packet from `input`.
pub(super) fn next<'a>(input: &mut &'a [u8]) -> Result<Packet<'a>, Refusal> {
    let first = byte(input)?;
    if first & 0x80 == 0 {
        return Err(Refusal::Malformed("no packet begins where one should"));
    }
    let (tag, length) = match first & 0x40 {
        0 => ((first >> 2) & 0x0f, old_length(first & 3, input)?),
        _ => (first & 0x3f, new_length(input)?),
    };
    let streamed = matches!(tag, tag::COMPRESSED | tag::LITERAL);
    let body = match length {
        Length::Known(length) => Cow::Borrowed(bytes(input, length)?),
        Length::Rest if tag == tag::COMPRESSED => Cow::Borrowed(std::mem::take(input)),
        // Whatever follows would be taken for its body: for the text, also the signature.
        Length::Rest => return Err(Refusal::Malformed("a packet does not say where it ends")),
        Length::Piece(length) if streamed && length >= SHORTEST_PIECE => {
            Cow::Owned(pieces(length, input)?)
        }
        Length::Piece(_) => {
            return Err(Refusal::Malformed("a packet comes in pieces that may not"));
        }
    };
    Ok(Packet { tag, body })
}

fn pieces(first: usize, input: &mut &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut body = bytes(input, first)?.to_vec();
    loop {
        match new_length(input)? {
            Length::Piece(length) => body.extend_from_slice(bytes(input, length)?),
            Length::Known(length) => {
                body.extend_from_slice(bytes(input, length)?);
                return Ok(body);
            }
            Length::Rest => return Err(Refusal::Malformed("a length is missing")),
        }
    }
}

fn old_length(kind: u8, input: &mut &[u8]) -> Result<Length, Refusal> {
    Ok(match kind {
        0 => Length::Known(byte(input)?.into()),
        1 => Length::Known(number(input, 2)?),
        2 => Length::Known(number(input, 4)?),
        _ => Length::Rest,
    })
}

fn new_length(input: &mut &[u8]) -> Result<Length, Refusal> {
    let first = usize::from(byte(input)?);
    Ok(match first {
        ..192 => Length::Known(first),
        192..224 => Length::Known(((first - 192) << 8) + usize::from(byte(input)?) + 192),
        224..255 => Length::Piece(1 << (first & 0x1f)),
        _ => Length::Known(number(input, 4)?),
    })
}

/// Takes one byte.
pub(super) fn byte(input: &mut &[u8]) -> Result<u8, Refusal> {
    let (first, rest) = input.split_first().ok_or(Refusal::Truncated)?;
    *input = rest;
    Ok(*first)
}

/// Takes `length` bytes.
pub(super) fn bytes<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], Refusal> {
    let (taken, rest) = input.split_at_checked(length).ok_or(Refusal::Truncated)?;
    *input = rest;
    Ok(taken)
}

/// Takes exactly as many bytes as the array has.
pub(super) fn array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Refusal> {
    let (taken, rest) = input.split_first_chunk::<N>().ok_or(Refusal::Truncated)?;
    *input = rest;
    Ok(*taken)
}

/// Takes a number of up to four bytes, the highest first.
pub(super) fn number(input: &mut &[u8], length: usize) -> Result<usize, Refusal> {
    let taken = bytes(input, length)?;
    Ok(taken.iter().fold(0, |sum, b| (sum << 8) | usize::from(*b)))
}

/// Takes a multiprecision integer (section 3.2) without leading zeros.
pub(super) fn integer<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Refusal> {
    let bits = number(input, 2)?;
    let value = bytes(input, bits.div_ceil(8))?;
    let found = value.first().map_or(0, |first| {
        value.len() * 8 - usize::try_from(first.leading_zeros()).unwrap_or(0)
    });
    if found != bits || bits == 0 {
        return Err(Refusal::Malformed(
            "a number does not have the length it says",
        ));
    }
    Ok(value)
}
