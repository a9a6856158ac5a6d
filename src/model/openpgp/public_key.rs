//! Public keys of version 4, and the RSA in them (RFC 4880, sections 5.5.2 and 12.2).

use aws_lc_rs::{digest, rsa::PublicKeyComponents};
use jiff::Timestamp;

use super::{
    KeyId, KeyTrouble, Refusal, algorithm_name,
    packet::{array, byte, integer},
    signature::{Signature, is_rsa, time},
};

/// A primary key or a subkey.
#[derive(Debug, Clone)]
pub(super) struct PublicKey {
    pub(super) fingerprint: Vec<u8>,
    pub(super) id: KeyId,
    pub(super) seconds: u32,
    algorithm: u8,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    /// How it is hashed where something is said of it.
    pub(super) hashed: Vec<u8>,
}

/// Reads the body of a key packet; nothing where the key is of another version or too large to be one.
pub(super) fn read(body: &[u8]) -> Result<Option<PublicKey>, Refusal> {
    let Ok(length) = u16::try_from(body.len()) else {
        return Ok(None);
    };
    let mut input = body;
    if byte(&mut input)? != 4 {
        return Ok(None);
    }
    let seconds = u32::from_be_bytes(array(&mut input)?);
    let algorithm = byte(&mut input)?;
    let (mut modulus, mut exponent) = (Vec::new(), Vec::new());
    if is_rsa(algorithm) {
        modulus = integer(&mut input)?.to_vec();
        exponent = integer(&mut input)?.to_vec();
        if !input.is_empty() {
            return Err(Refusal::Malformed("bytes follow the key in its packet"));
        }
    }
    let mut hashed = vec![0x99];
    hashed.extend(length.to_be_bytes());
    hashed.extend_from_slice(body);
    // A fingerprint is a SHA-1 whatever is thought of SHA-1: it names a key of a keyring that is trusted.
    let fingerprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &hashed);
    let fingerprint = fingerprint.as_ref().to_vec();
    let id = array(&mut &fingerprint[12..])?;
    Ok(Some(PublicKey {
        fingerprint,
        id: KeyId(id),
        seconds,
        algorithm,
        modulus,
        exponent,
        hashed,
    }))
}

impl PublicKey {
    pub(super) fn created(&self) -> Timestamp {
        time(self.seconds)
    }

    /// What keeps the key from being looked at at all.
    pub(super) fn fits(&self) -> Result<(), KeyTrouble> {
        if self.algorithm == 2 {
            return Err(KeyTrouble::NotForSigning);
        }
        if !is_rsa(self.algorithm) {
            return Err(KeyTrouble::UnknownAlgorithm(algorithm_name(self.algorithm)));
        }
        let first = self.modulus.first().map_or(8, |b| b.leading_zeros());
        let bits = (self.modulus.len() * 8).saturating_sub(usize::try_from(first).unwrap_or(0));
        match bits {
            2048..=8192 => Ok(()),
            bits => Err(KeyTrouble::Size(bits)),
        }
    }

    /// Whether this key made `signature` over `signed`, all parts of it joined.
    pub(super) fn made(&self, signature: &Signature, signed: &[&[u8]]) -> Result<bool, Refusal> {
        if !is_rsa(signature.algorithm) {
            return Err(Refusal::UnknownAlgorithm(algorithm_name(
                signature.algorithm,
            )));
        }
        let (algorithm, parameters) = signature.parameters()?;
        let hashed = signature.hashed(signed);
        if !signature.begins(digest::digest(algorithm, &hashed).as_ref())
            || !signature.names(self.id, &self.fingerprint)
            || self.fits().is_err()
        {
            return Ok(false);
        }
        // A signature is as long as the modulus; as a number it has lost its leading zeros.
        let missing = self.modulus.len().checked_sub(signature.value().len());
        let Some(missing) = missing else {
            return Ok(false);
        };
        let value = [vec![0; missing].as_slice(), signature.value()].concat();
        let key = PublicKeyComponents {
            n: &self.modulus,
            e: &self.exponent,
        };
        Ok(key.verify(parameters, &hashed, &value).is_ok())
    }
}
