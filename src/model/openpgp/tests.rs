use proptest::prelude::*;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// A packet of the new format.
fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0xc0 | tag, 0xff], length.as_slice(), body].concat()
}

fn literal(text: &[u8]) -> Vec<u8> {
    packet(11, &[b"b\x00\x00\x00\x00\x00".as_slice(), text].concat())
}

/// A signature packet of version 4 that nobody made.
fn signature(kind: u8, algorithm: u8, digest: u8, hashed: &[u8]) -> Vec<u8> {
    let mut body = vec![4, kind, algorithm, digest];
    body.extend(u16::try_from(hashed.len()).unwrap().to_be_bytes());
    body.extend_from_slice(hashed);
    body.extend([0, 0, 0x12, 0x34, 0, 8, 0xff]);
    packet(2, &body)
}

const CREATED: [u8; 6] = [5, 2, 0x60, 0, 0, 0];
const ISSUER: [u8; 10] = [9, 16, 0x19, 0x9e, 0x2f, 0x91, 0xfd, 0x43, 0x1d, 0x51];

fn refused(message: &[u8]) -> Refusal {
    let keyring = Keyring::red_hat().unwrap();
    keyring.verify(message, now()).unwrap_err()
}

#[test]
fn red_hats_keys_are_carried_along_and_count() {
    let keyring = Keyring::red_hat().unwrap();
    assert_eq!(
        keyring.fingerprints(),
        [
            "567E347AD0044ADE55BA8A5F199E2F91FD431D51",
            "B08B659EE86AF623BC90E8DB938A80CAF21541EB"
        ]
    );
}

#[test]
fn each_way_of_being_no_signed_message_is_named() {
    let hashed = [CREATED.as_slice(), &ISSUER].concat();
    let signed = |signature: Vec<u8>| [signature, literal(b"{}")].concat();
    let good = signature(0, 1, 8, &hashed);
    let one_pass = |last: u8, version: u8| {
        let body = [&[version, 0, 8, 1], &ISSUER[2..], &[last]].concat();
        packet(4, &body)
    };
    let nested = packet(8, &[&[0], packet(8, &[0, 1]).as_slice()].concat());
    let key = KeyId(*ISSUER.last_chunk().unwrap());
    let cases: Vec<(&str, Vec<u8>, Refusal)> = vec![
        ("nothing", vec![], Refusal::Empty),
        ("a page", b"<html>".to_vec(), Refusal::NotOpenPgp),
        (
            "armour",
            b"-----BEGIN PGP MESSAGE-----".to_vec(),
            Refusal::Armoured,
        ),
        ("much", vec![0xff; MAX_MESSAGE + 1], Refusal::TooLarge),
        ("a text", literal(b"{}"), Refusal::Unsigned),
        ("a signature", good.clone(), Refusal::Detached),
        ("encrypted", packet(1, &[]), Refusal::Encrypted),
        ("a marker", packet(10, b"PGP"), Refusal::Unexpected(10)),
        ("twice compressed", nested, Refusal::NestedTooDeep),
        (
            "bzip2",
            packet(8, &[3, 1]),
            Refusal::UnknownCompression("BZip2".into()),
        ),
        (
            "no compression known",
            packet(8, &[9, 1]),
            Refusal::UnknownCompression("algorithm 9".into()),
        ),
        (
            "damaged deflate",
            packet(8, &[1, 0xff, 0xff, 0xff]),
            Refusal::Compression,
        ),
        ("half a packet", good[..9].to_vec(), Refusal::Truncated),
        (
            "two one-pass",
            [one_pass(0, 3), literal(b"")].concat(),
            Refusal::Several,
        ),
        (
            "one-pass to come",
            [one_pass(1, 6), literal(b"")].concat(),
            Refusal::Version(6),
        ),
        (
            "two signatures",
            [good.clone(), signed(good.clone())].concat(),
            Refusal::Several,
        ),
        (
            "more after it",
            [signed(good.clone()), vec![0]].concat(),
            Refusal::Trailing,
        ),
        (
            "a text signature",
            signed(signature(1, 1, 8, &hashed)),
            Refusal::Type(1),
        ),
        (
            "md5",
            signed(signature(0, 1, 1, &hashed)),
            Refusal::WeakDigest("MD5"),
        ),
        (
            "sha1",
            signed(signature(0, 1, 2, &hashed)),
            Refusal::WeakDigest("SHA-1"),
        ),
        (
            "a digest to come",
            signed(signature(0, 1, 99, &hashed)),
            Refusal::UnknownDigest(99),
        ),
        (
            "dsa",
            signed(signature(0, 17, 8, &hashed)),
            Refusal::UnknownAlgorithm("DSA".into()),
        ),
        (
            "nobody",
            signed(signature(0, 1, 8, &CREATED)),
            Refusal::NoIssuer,
        ),
        (
            "version 6",
            signed(packet(2, &[6, 0, 1, 8])),
            Refusal::Version(6),
        ),
        (
            "a critical part",
            signed(signature(
                0,
                1,
                8,
                &[hashed.as_slice(), &[2, 0x80 | 100, 0]].concat(),
            )),
            Refusal::Critical(100),
        ),
        (
            "no time",
            signed(signature(0, 1, 8, &ISSUER)),
            Refusal::Malformed("the signature does not say when it was made"),
        ),
        ("made up", signed(good), Refusal::Bad(key)),
    ];
    for (name, message, refusal) in cases {
        assert_eq!(refused(&message), refusal, "{name}");
    }
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(vec![1], flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    // 64 MiB in less than 64 KiB.
    (0..56).for_each(|_| encoder.write_all(&zeros).unwrap());
    let packed = encoder.finish().unwrap();
    assert!(packed.len() < MAX_MESSAGE - 100, "{}", packed.len());
    assert_eq!(refused(&packet(8, &packed)), Refusal::Bomb);
    let large = literal(&vec![b' '; MAX_TEXT + 1]);
    let hashed = [CREATED.as_slice(), &ISSUER].concat();
    let stored = [&[0], signature(0, 1, 8, &hashed).as_slice(), &large].concat();
    assert_eq!(refused(&packet(8, &stored)), Refusal::TooLarge);
}

#[test]
fn what_is_no_keyring_is_named() {
    let refused = |bytes: &[u8]| Keyring::parse(bytes).unwrap_err();
    let block = |kind: &str, data: &str| {
        format!("-----BEGIN PGP {kind}-----\n\n{data}\n-----END PGP {kind}-----\n")
    };
    let public = |data: &str| refused(block("PUBLIC KEY BLOCK", data).as_bytes());
    assert_eq!(refused(b""), KeyringError::Empty);
    assert_eq!(refused(b"hello"), KeyringError::Empty);
    assert_eq!(refused(&vec![0; MAX_KEYRING + 1]), KeyringError::TooLarge);
    assert_eq!(
        refused(b"\0\0\0\x20\x01\x01\0\x02KBXf\0\0"),
        KeyringError::Keybox
    );
    assert_eq!(
        refused(block("PRIVATE KEY BLOCK", "").as_bytes()),
        KeyringError::Secret
    );
    assert_eq!(refused(&packet(5, &[])), KeyringError::Secret);
    assert_eq!(
        refused(block("MESSAGE", "").as_bytes()),
        KeyringError::Armor("a block of it holds no public keys")
    );
    assert_eq!(public("!"), KeyringError::Armor("a block of it is damaged"));
    assert_eq!(
        public("mQ==\n=AAAA"),
        KeyringError::Armor("a block of it does not fit its checksum")
    );
    assert_eq!(public("mQ=="), KeyringError::Packet(Refusal::Truncated));
    let ed25519 = packet(6, &[4, 0, 0, 0, 1, 22, 9]);
    let why = refused(&ed25519).to_string();
    assert!(why.contains("which is of the kind EdDSA"), "{why}");
    let older = packet(6, &[3, 0, 0, 0, 1, 0, 0, 1]);
    assert_eq!(refused(&older), KeyringError::Empty);
}

#[test]
fn every_refusal_is_a_clause() {
    let day: Timestamp = "2020-02-03T04:05:06Z".parse().unwrap();
    let id = KeyId([0xab; 8]);
    let texts = [
        Refusal::Expired(day).to_string(),
        Refusal::Key(id, KeyTrouble::Expired(day)).to_string(),
        Refusal::UnknownKey(id).to_string(),
    ];
    assert_eq!(
        texts,
        [
            "expired on 2020-02-03",
            "is signed by the key ABABABABABABABAB, which expired on 2020-02-03; if its owner prolonged it, take the new copy into the keyring",
            "is signed by the key ABABABABABABABAB, which is not in the keyring",
        ]
    );
}

proptest! {
    #[test]
    fn random_bytes_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let keyring = Keyring::red_hat().unwrap();
        prop_assert!(keyring.verify(&bytes, now()).is_err());
        let _ = Keyring::parse(&bytes);
    }

    #[test]
    fn random_packets_are_refused_and_never_panic(
        parts in prop::collection::vec((0_u8..64, prop::collection::vec(any::<u8>(), 0..60)), 0..5),
        pack in any::<bool>(),
    ) {
        let joined: Vec<u8> = parts.iter().flat_map(|(tag, body)| packet(*tag, body)).collect();
        let message = match pack {
            true => packet(8, &[&[0], joined.as_slice()].concat()),
            false => joined.clone(),
        };
        let keyring = Keyring::red_hat().unwrap();
        prop_assert!(keyring.verify(&message, now()).is_err());
        let _ = Keyring::parse(&joined);
    }

    #[test]
    fn random_subpackets_are_refused_and_never_panic(
        start in prop::collection::vec(any::<u8>(), 0..40),
        version in 2_u8..6,
    ) {
        let mut body = signature(0, 1, 8, &start)[6..].to_vec();
        body[0] = version;
        let keyring = Keyring::red_hat().unwrap();
        let message = [packet(2, &body), literal(b"{}")].concat();
        prop_assert!(keyring.verify(&message, now()).is_err());
    }
}
