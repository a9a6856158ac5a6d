//! Messages: those that count, and a table of those that do not, each with its sentence and with what gpgv makes of it.

use std::io::Write as _;

use flate2::{Compression, write::DeflateEncoder};

use crate::{
    TEXT, judged,
    made::{Key, literal, packet},
    support::gpg::Gpg,
};

/// What gpgv makes of a message that we refuse.
#[derive(Debug, PartialEq)]
enum Gpgv {
    Refuses,
    /// We are stricter.
    Accepts,
}
use Gpgv::{Accepts, Refuses};

/// A key as it was long ago, in gpg's words.
const THEN: [&str; 2] = ["--faked-system-time", "20200101T000000"];

fn deflated(packets: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(vec![1], Compression::default());
    encoder.write_all(packets).unwrap();
    encoder.finish().unwrap()
}

/// Replaces what occurs once.
fn replaced(message: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = message.windows(old.len()).position(|w| w == old).unwrap();
    [&message[..at], new, &message[at + old.len()..]].concat()
}

#[test]
fn what_gpg_signs_counts_in_each_of_its_forms() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "rsa2048", "sign", "never", &[]);
    let keyring = gpg.export(&[&key]);
    let long: Vec<u8> = TEXT.iter().copied().cycle().take(40_000).collect();
    let forms: &[(&str, &[&str])] = &[
        ("as it comes", &[]),
        ("not compressed", &["--compress-algo", "none"]),
        ("zip", &["--compress-algo", "zip"]),
        ("zlib", &["--compress-algo", "zlib"]),
        ("sha384", &["--digest-algo", "SHA384"]),
        ("sha512", &["--digest-algo", "SHA512"]),
    ];
    for (name, more) in forms {
        for text in [TEXT, &long] {
            let message = gpg.sign_with(&key, more, text);
            let verdict = judged(&gpg, &keyring, &message);
            assert_eq!(verdict, (Ok(text.to_vec()), true), "{name}");
        }
    }
    let signature = gpg.sign_with(&key, &["--detach-sign"], TEXT);
    let old_style = [signature.as_slice(), &literal(TEXT)].concat();
    assert_eq!(
        judged(&gpg, &keyring, &old_style),
        (Ok(TEXT.to_vec()), true)
    );
    let packed = packet(8, &deflated(&old_style));
    assert_eq!(judged(&gpg, &keyring, &packed), (Ok(TEXT.to_vec()), true));
    let stored = packet(8, &[&[0], old_style.as_slice()].concat());
    assert_eq!(judged(&gpg, &keyring, &stored), (Ok(TEXT.to_vec()), true));
    // Keys in armour, several of them, with text around.
    let other = gpg.key("other", "rsa2048", "sign", "never", &[]);
    let armour = [&other, &key].map(|key| gpg.run(&["--armor", "--export", key], b""));
    let armour = armour.concat();
    let keys = imagesetd::model::openpgp::Keyring::parse(&[b"Keys:\n", armour.as_slice()].concat());
    let message = gpg.sign(&key, TEXT);
    let verified = keys
        .unwrap()
        .verify(&message, jiff::Timestamp::now())
        .unwrap();
    assert_eq!((verified.text.as_slice(), verified.signer), (TEXT, key));
}

#[test]
fn signatures_of_version_3_count() {
    let gpg = Gpg::new();
    let key = Key::new();
    let keyring = key.certificate(&[]);
    let message = [packet(2, &key.old_signature(TEXT)), literal(TEXT)].concat();
    assert_eq!(judged(&gpg, &keyring, &message), (Ok(TEXT.to_vec()), true));
    let other = replaced(&message, b"sha256:0", b"sha256:1");
    assert!(
        judged(&gpg, &keyring, &other)
            .0
            .unwrap_err()
            .contains("does not fit its text")
    );
    let mut later = message.clone();
    later[12] ^= 1;
    assert!(
        judged(&gpg, &keyring, &later)
            .0
            .unwrap_err()
            .contains("does not fit its text")
    );
}

#[test]
fn each_forged_message_is_refused_with_its_own_sentence() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "rsa2048", "sign", "never", &THEN);
    let stranger = gpg.key("stranger", "rsa2048", "sign", "never", &[]);
    let second = gpg.key("second", "rsa2048", "sign", "never", &[]);
    gpg.run(&["--quick-add-key", &second, "rsa2048", "encr"], b"");
    let keyring = gpg.export(&[&key, &second]);
    let sign = |more: &[&str]| gpg.sign_with(&key, more, TEXT);
    let plain = sign(&["--compress-algo", "none"]);
    let good = sign(&[]);
    let swapped = TEXT.iter().rev().copied().collect::<Vec<u8>>();
    let mut flipped = plain.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let of_stranger = gpg.sign(&stranger, TEXT);
    let signer_of = |key: &str| format!("is signed by the key {}, ", &key[24..]);
    let two = gpg.sign_with(&key, &["--local-user", &second], TEXT);
    let two_plain = gpg.sign_with(
        &key,
        &["--local-user", &second, "--compress-algo", "none"],
        TEXT,
    );
    let bad = format!(
        "does not fit its text: one of the two was changed, or it was not made with the key {}",
        &key[24..]
    );
    let again = deflated(&packet(8, &deflated(&plain)));
    let bomb = deflated(&[plain.as_slice(), &vec![0; 1 << 20]].concat());
    let encrypted = gpg.run(
        &[
            "--recipient",
            &second,
            "--local-user",
            &key,
            "--sign",
            "--encrypt",
        ],
        TEXT,
    );
    let future = sign(&["--faked-system-time", "20991231T000000!"]);
    let over = sign(&[
        "--default-sig-expire",
        "1d",
        "--faked-system-time",
        "20200102T000000",
    ]);
    let cases: Vec<(&str, Vec<u8>, &str, Gpgv)> = vec![
        (
            "another text under a good signature",
            replaced(&plain, TEXT, &swapped),
            &bad,
            Refuses,
        ),
        (
            "one letter",
            replaced(&plain, b"sha256:0", b"sha256:1"),
            &bad,
            Refuses,
        ),
        ("one bit of the signature", flipped, &bad, Refuses),
        (
            "a stranger's",
            of_stranger,
            "which is not in the keyring",
            Refuses,
        ),
        ("nothing", vec![], "is empty", Refuses),
        (
            "cut short",
            plain[..plain.len() - 1].to_vec(),
            "is cut short",
            Refuses,
        ),
        (
            "cut short, compressed",
            good[..good.len() - 9].to_vec(),
            "is cut short",
            Refuses,
        ),
        (
            "cut in the text",
            plain[..60].to_vec(),
            "is cut short",
            Refuses,
        ),
        (
            "bytes after it",
            [plain.as_slice(), b"\0"].concat(),
            "has bytes after its end that nobody signed",
            Refuses,
        ),
        (
            "bytes after it, compressed",
            [good.as_slice(), b"more"].concat(),
            "has bytes after its end that nobody signed",
            Accepts,
        ),
        (
            "bytes after it, inside",
            packet(8, &deflated(&[plain.as_slice(), b"\0"].concat())),
            "has bytes after its end that nobody signed",
            Refuses,
        ),
        (
            "twice the message",
            [plain.as_slice(), &plain].concat(),
            "has bytes after its end that nobody signed",
            Refuses,
        ),
        (
            "another text after it",
            [plain.as_slice(), &literal(b"{}")].concat(),
            "has bytes after its end that nobody signed",
            Refuses,
        ),
        (
            "no signature",
            gpg.run(&["--store"], TEXT),
            "is not signed: it holds a text alone",
            Refuses,
        ),
        (
            "no text",
            sign(&["--detach-sign"]),
            "holds a signature without the text that was signed",
            Refuses,
        ),
        (
            "text itself",
            TEXT.to_vec(),
            "is no OpenPGP message",
            Refuses,
        ),
        ("encrypted", encrypted, "is encrypted", Refuses),
        (
            "by a passphrase",
            gpg.run(&["--passphrase", "x", "--symmetric"], TEXT),
            "is encrypted",
            Refuses,
        ),
        (
            "armour",
            sign(&["--armor"]),
            "is armoured text, which clusters do not read",
            Accepts,
        ),
        (
            "clear text",
            sign(&["--clearsign"]),
            "is armoured text, which clusters do not read",
            Accepts,
        ),
        (
            "text mode",
            sign(&["--textmode", "--compress-algo", "none"]),
            "holds a text that is not marked as binary",
            Accepts,
        ),
        ("two signers", two, "holds more than one signature", Accepts),
        (
            "two signers, plain",
            two_plain,
            "holds more than one signature",
            Accepts,
        ),
        (
            "SHA-1",
            sign(&["--digest-algo", "SHA1"]),
            "is signed over a digest of SHA-1, which can be forged",
            Accepts,
        ),
        (
            "SHA-224",
            sign(&["--digest-algo", "SHA224"]),
            "is signed over a digest of SHA-224, which can be forged",
            Accepts,
        ),
        (
            "RIPEMD",
            sign(&["--digest-algo", "RIPEMD160"]),
            "is signed over a digest of RIPEMD-160, which can be forged",
            Accepts,
        ),
        (
            "BZip2",
            sign(&["--compress-algo", "bzip2"]),
            "is compressed in a way that is not read here (BZip2)",
            Accepts,
        ),
        (
            "twice compressed",
            packet(8, &again),
            "is compressed more than once",
            Accepts,
        ),
        (
            "a bomb",
            packet(8, &bomb),
            "unpacks to more than 65536 bytes",
            Refuses,
        ),
        (
            "the future",
            future,
            "was signed in the future, on 2099-12-31; check this host's clock",
            Accepts,
        ),
        ("over", over, "expired on 2020-01-03", Refuses),
    ];
    let mut told = Vec::new();
    for (name, message, sentence, gpgv) in cases {
        let (ours, witness) = judged(&gpg, &keyring, &message);
        let ours = ours.map(|_| "it counts".to_owned()).unwrap_or_else(|e| e);
        let found = if witness { Accepts } else { Refuses };
        if !ours.contains(sentence) || found != gpgv {
            told.push(format!("{name}: {ours}; gpgv {found:?}"));
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
    let stranger_is = judged(&gpg, &keyring, &gpg.sign(&stranger, TEXT))
        .0
        .unwrap_err();
    assert_eq!(
        stranger_is,
        format!("{}which is not in the keyring", signer_of(&stranger))
    );
}
