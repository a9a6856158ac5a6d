//! Keys that do not count any more, or never did.

use crate::{
    TEXT, judged,
    made::{Key, MADE, at, packet, part},
    support::gpg::Gpg,
};

/// A key as it was long ago, in gpg's words.
const THEN: [&str; 2] = ["--faked-system-time", "20200101T000000"];

#[test]
fn keys_that_are_over_revoked_or_unfit_are_named() {
    let gpg = Gpg::new();
    let over = gpg.key("over", "rsa2048", "sign", "2021-01-01", &THEN);
    let by_over = gpg.sign_with(&over, &THEN, TEXT);
    let revoked = gpg.key("revoked", "rsa2048", "sign", "never", &[]);
    let by_revoked = gpg.sign(&revoked, TEXT);
    let before = gpg.export(&[&revoked]);
    gpg.revoke(&revoked);
    let short = gpg.key("short", "rsa1024", "sign", "never", &[]);
    let curve = gpg.key("curve", "ed25519", "sign", "never", &[]);
    let dsa = gpg.key("dsa", "dsa2048", "sign", "never", &[]);
    let future = gpg.key(
        "future",
        "rsa2048",
        "sign",
        "never",
        &["--faked-system-time", "20990101T000000"],
    );
    let by_future = gpg.sign_with(&future, &["--faked-system-time", "20990102T000000"], TEXT);
    let weak = gpg.key(
        "weak",
        "rsa2048",
        "sign",
        "never",
        &["--cert-digest-algo", "SHA1"],
    );
    let good = gpg.key("good", "rsa2048", "sign", "never", &[]);
    let keyring = |key: &str| gpg.export(&[&good, key]);
    let cases = [
        (
            "over",
            keyring(&over),
            by_over,
            "which expired on 2021-01-01; if its owner prolonged it, take the new copy into the keyring",
            false,
        ),
        (
            "revoked",
            keyring(&revoked),
            by_revoked.clone(),
            "which is revoked",
            false,
        ),
        // What either copy of a key says counts; gpgv looks at the first one.
        (
            "revoked in one copy",
            [before, gpg.export(&[&revoked])].concat(),
            by_revoked,
            "which is revoked",
            true,
        ),
        (
            "short",
            keyring(&short),
            gpg.sign(&short, TEXT),
            "which has 1024 bits; 2048 to 8192 are taken",
            true,
        ),
        (
            "a curve",
            keyring(&curve),
            gpg.sign(&curve, TEXT),
            "is signed with EdDSA; RSA is what is verified here",
            true,
        ),
        (
            "DSA",
            keyring(&dsa),
            gpg.sign(&dsa, TEXT),
            "is signed with DSA; RSA is what is verified here",
            true,
        ),
        (
            "the future",
            keyring(&future),
            by_future,
            "which was made in the future; check this host's clock",
            false,
        ),
        (
            "weak",
            keyring(&weak),
            gpg.sign(&weak, TEXT),
            "which vouches for itself over a digest of SHA-1",
            true,
        ),
    ];
    let mut told = Vec::new();
    for (name, keyring, message, sentence, gpgv) in cases {
        let (ours, witness) = judged(&gpg, &keyring, &message);
        let ours = ours.map(|_| "it counts".to_owned()).unwrap_or_else(|e| e);
        if !ours.contains(sentence) || witness != gpgv {
            told.push(format!("{name}: {ours}; gpgv accepts: {witness}"));
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn an_expiry_that_was_moved_counts_as_it_was_said_last() {
    let gpg = Gpg::new();
    let key = gpg.key("moved", "rsa2048", "sign", "2021-01-01", &THEN);
    let message = gpg.sign_with(&key, &THEN, TEXT);
    gpg.run(&["--quick-set-expire", &key, "0"], b"");
    let prolonged = gpg.export(&[&key]);
    assert_eq!(
        judged(&gpg, &prolonged, &message),
        (Ok(TEXT.to_vec()), true)
    );
}

#[test]
fn subkeys_count_where_both_keys_vouch_for_one_another() {
    let gpg = Gpg::new();
    let primary = gpg.key("site", "rsa2048", "cert", "never", &[]);
    gpg.run(
        &["--quick-add-key", &primary, "rsa2048", "sign", "never"],
        b"",
    );
    let subkey = gpg.fingerprints("site").remove(1);
    let message = gpg.sign(&subkey, TEXT);
    let keyring = gpg.export(&[&primary]);
    assert_eq!(judged(&gpg, &keyring, &message), (Ok(TEXT.to_vec()), true));
    gpg.run(&["--quick-set-expire", &primary, "seconds=1", &subkey], b"");
    let over = gpg.export(&[&primary]);
    let made = imagesetd::model::openpgp::Keyring::parse(&over).unwrap();
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let why = made.verify(&message, later).unwrap_err().to_string();
    assert!(why.contains("which expired on"), "{why}");
    // Another key takes it for its own: without its subkey's word that is nothing.
    let (taker, taken) = (Key::new(), Key::new());
    let about = [taker.hashed(), taken.hashed()].concat();
    let sign = part(27, &[2]);
    let cert = taker.certificate(&part(27, &[3]));
    let by_taken = taken.message(&[], TEXT);
    let bound = |says: &[u8]| {
        let binding = taker.signature(0x18, &[at(MADE + 2), says.to_vec()].concat(), &about);
        [
            cert.as_slice(),
            &packet(14, &taken.body),
            &packet(2, &binding),
        ]
        .concat()
    };
    let verdict = |keyring: &[u8]| {
        let (ours, gpgv) = judged(&gpg, keyring, &by_taken);
        assert!(!gpgv || ours.is_ok(), "gpgv accepts: {ours:?}");
        ours.map_err(|why| why.split_once(", ").unwrap_or_default().1.to_owned())
    };
    let not_bound =
        Err("which is a subkey that is not bound to its primary key in both directions".to_owned());
    assert_eq!(verdict(&bound(&sign)), not_bound);
    // A word of the taker in the subkey's place.
    let word = taker.signature(0x19, &at(MADE + 2), &about);
    assert_eq!(
        verdict(&bound(&[sign.as_slice(), &long_part(32, &word)].concat())),
        not_bound
    );
    let word = taken.signature(0x19, &at(MADE + 2), &about);
    let both = [sign.as_slice(), &long_part(32, &word)].concat();
    assert_eq!(verdict(&bound(&both)), Ok(TEXT.to_vec()));
    let encrypts = [part(27, &[12]).as_slice(), &long_part(32, &word)].concat();
    assert_eq!(
        verdict(&bound(&encrypts)),
        Err("which is not meant for signing documents".to_owned())
    );
    let revocation = taker.signature(0x28, &at(MADE + 3), &about);
    let revoked = [bound(&both).as_slice(), &packet(2, &revocation)].concat();
    assert_eq!(verdict(&revoked), Err("which is revoked".to_owned()));
    let without = [cert.as_slice(), &packet(14, &taken.body)].concat();
    assert_eq!(verdict(&without), not_bound);
}

/// A subpacket of more than 191 bytes.
fn long_part(kind: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 1).unwrap().to_be_bytes();
    [&[0xff], length.as_slice(), &[kind], data].concat()
}

#[test]
fn what_a_key_says_of_itself_is_verified() {
    let gpg = Gpg::new();
    let (key, other) = (Key::new(), Key::new());
    let message = key.message(&[], TEXT);
    let verdict = |keyring: &[u8]| {
        let (ours, gpgv) = judged(&gpg, keyring, &message);
        assert!(ours.is_err() || gpgv, "only we accept");
        ours.map_err(|why| why.split_once(", ").unwrap_or_default().1.to_owned())
    };
    let good = Ok(TEXT.to_vec());
    let lasts = |seconds: u32| part(9, &seconds.to_be_bytes());
    assert_eq!(verdict(&key.certificate(&part(27, &[2]))), good);
    assert_eq!(verdict(&key.certificate(&[])), good);
    assert_eq!(verdict(&key.certificate(&lasts(0))), good);
    let says = |verdict: Result<Vec<u8>, String>, part: &str| {
        let why = verdict.unwrap_err();
        assert!(why.contains(part), "{part}: {why}");
    };
    says(
        verdict(&key.certificate(&part(27, &[1]))),
        "not meant for signing",
    );
    says(
        verdict(&key.certificate(&lasts(86_400))),
        "which expired on 2020-09-14",
    );
    // Another key's word for it, or one that was changed, is nothing.
    let foreign = [
        packet(6, &key.body),
        other.certificate(&[])[packet(6, &other.body).len()..].to_vec(),
    ]
    .concat();
    says(verdict(&foreign), "no good signature of its own");
    let mut changed = key.certificate(&lasts(86_400));
    let at_flag = changed.len() - 300;
    changed[at_flag] ^= 1;
    says(verdict(&changed), "no good signature of its own");
    // The last word counts: an expiry that was taken back, and one that was set.
    let direct = |seconds: u32, says: &[u8]| {
        let signature = key.signature(
            0x1f,
            &[at(MADE + seconds), says.to_vec()].concat(),
            &key.hashed(),
        );
        packet(2, &signature)
    };
    let with = |cert: Vec<u8>, more: Vec<u8>| {
        let first = packet(6, &key.body).len();
        [&cert[..first], &more, &cert[first..]].concat()
    };
    let set = with(key.certificate(&[]), direct(5, &lasts(86_400)));
    says(verdict(&set), "which expired on");
    let taken_back = with(key.certificate(&lasts(86_400)), direct(5, &[]));
    let ours = judged(&gpg, &taken_back, &message).0;
    assert_eq!(ours, good);
    let revocation = key.signature(0x20, &at(MADE + 5), &key.hashed());
    says(
        verdict(&with(key.certificate(&[]), packet(2, &revocation))),
        "which is revoked",
    );
    let by_other = other.signature(0x20, &at(MADE + 5), &key.hashed());
    says(
        verdict(&with(key.certificate(&[]), packet(2, &by_other))),
        "it may be revoked",
    );
}

#[test]
fn what_a_signature_says_of_itself_is_heeded() {
    let gpg = Gpg::new();
    let key = Key::new();
    let keyring = key.certificate(&[]);
    let verdict = |hashed: &[u8]| judged(&gpg, &keyring, &key.message(hashed, TEXT));
    assert_eq!(verdict(&[]), (Ok(TEXT.to_vec()), true));
    let expires = part(3, &86_400_u32.to_be_bytes());
    let (ours, gpgv) = verdict(&expires);
    assert_eq!(
        (ours.unwrap_err().as_str(), gpgv),
        ("expired on 2020-09-14", false)
    );
    // A part that whoever does not know it must not pass over.
    let (ours, gpgv) = verdict(&part(0x80 | 60, &[1]));
    assert_eq!(
        (ours.unwrap_err().contains("critical part"), gpgv),
        (true, false)
    );
    assert!(verdict(&part(60, &[1])).0.is_ok());
    let early = key.signature(0, &at(MADE - 5), TEXT);
    let early = [packet(2, &early), crate::made::literal(TEXT)].concat();
    let (ours, gpgv) = judged(&gpg, &keyring, &early);
    assert_eq!(
        (ours.unwrap_err().as_str(), gpgv),
        ("was signed before its key was made", false)
    );
    let certifies = key.signature(0x10, &at(MADE + 9), TEXT);
    let certifies = [packet(2, &certifies), crate::made::literal(TEXT)].concat();
    let (ours, gpgv) = judged(&gpg, &keyring, &certifies);
    assert_eq!(
        (ours.unwrap_err().contains("type 0x10"), gpgv),
        (true, false)
    );
}
