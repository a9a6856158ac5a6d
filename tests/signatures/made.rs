//! Keys and signatures that no tool makes, made by hand.

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaEncoding},
};

/// When the keys here were made: 2020-09-13.
pub(crate) const MADE: u32 = 1_600_000_000;

/// An RSA key of one's own.
pub(crate) struct Key {
    pair: KeyPair,
    pub(crate) body: Vec<u8>,
    pub(crate) id: [u8; 8],
}

/// A packet of the new format.
pub(crate) fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0xc0 | tag, 0xff], length.as_slice(), body].concat()
}

pub(crate) fn literal(text: &[u8]) -> Vec<u8> {
    packet(11, &[b"b\x00\x00\x00\x00\x00".as_slice(), text].concat())
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let bytes = &bytes[zeros..];
    let bits = bytes.len() * 8 - bytes[0].leading_zeros() as usize;
    [&u16::try_from(bits).unwrap().to_be_bytes(), bytes].concat()
}

/// A subpacket.
pub(crate) fn part(kind: u8, data: &[u8]) -> Vec<u8> {
    [&[u8::try_from(data.len() + 1).unwrap(), kind], data].concat()
}

/// The subpacket that says when a signature was made.
pub(crate) fn at(seconds: u32) -> Vec<u8> {
    part(2, &seconds.to_be_bytes())
}

impl Key {
    pub(crate) fn new() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        // RSAPublicKey: a sequence of the modulus, behind a zero that keeps it positive, and of the exponent 65537.
        let public = pair.public_key().as_ref();
        let (n, e) = (&public[9..9 + 256], &public[public.len() - 3..]);
        let body = [
            &[4],
            MADE.to_be_bytes().as_slice(),
            &[1],
            &integer(n),
            &integer(e),
        ]
        .concat();
        let mut key = Key {
            pair,
            body,
            id: [0; 8],
        };
        let print = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &key.hashed());
        key.id.copy_from_slice(&print.as_ref()[12..]);
        key
    }

    /// How the key is hashed where something is said of it.
    pub(crate) fn hashed(&self) -> Vec<u8> {
        let length = u16::try_from(self.body.len()).unwrap().to_be_bytes();
        [&[0x99], length.as_slice(), &self.body].concat()
    }

    fn raw(&self, signed: &[u8]) -> Vec<u8> {
        let mut value = vec![0; self.pair.public_modulus_len()];
        let padding: &'static dyn RsaEncoding = &RSA_PKCS1_SHA256;
        self.pair
            .sign(padding, &SystemRandom::new(), signed, &mut value)
            .unwrap();
        let hash = digest::digest(&digest::SHA256, signed);
        [&hash.as_ref()[..2], &integer(&value)].concat()
    }

    /// Returns the body of a signature of version 4.
    pub(crate) fn signature(&self, kind: u8, hashed: &[u8], signed: &[u8]) -> Vec<u8> {
        let length = u16::try_from(hashed.len()).unwrap().to_be_bytes();
        let head = [&[4, kind, 1, 8], length.as_slice(), hashed].concat();
        let end = u32::try_from(head.len()).unwrap().to_be_bytes();
        let all = [signed, &head, &[4, 0xff], &end].concat();
        let issuer = part(16, &self.id);
        let length = u16::try_from(issuer.len()).unwrap().to_be_bytes();
        [head.as_slice(), &length, &issuer, &self.raw(&all)].concat()
    }

    /// Returns the body of a signature of version 3 over a document.
    pub(crate) fn old_signature(&self, text: &[u8]) -> Vec<u8> {
        let hashed = [&[0], (MADE + 9).to_be_bytes().as_slice()].concat();
        let value = self.raw(&[text, &hashed].concat());
        [&[3, 5], hashed.as_slice(), &self.id, &[1, 8], &value].concat()
    }

    /// Returns a public key with a name, of which the key says these subpackets.
    pub(crate) fn certificate(&self, says: &[u8]) -> Vec<u8> {
        let name = b"made by hand";
        let length = u32::try_from(name.len()).unwrap().to_be_bytes();
        let about = [self.hashed().as_slice(), &[0xb4], &length, name].concat();
        let signature = self.signature(0x13, &[at(MADE + 1).as_slice(), says].concat(), &about);
        [
            packet(6, &self.body),
            packet(13, name),
            packet(2, &signature),
        ]
        .concat()
    }

    /// Signs a document in the old style: the signature, then the text.
    pub(crate) fn message(&self, hashed: &[u8], text: &[u8]) -> Vec<u8> {
        let hashed = [at(MADE + 9).as_slice(), hashed].concat();
        let signature = self.signature(0, &hashed, text);
        [packet(2, &signature), literal(text)].concat()
    }
}
