//! The published keys and the published signature of OpenShift 4.15.0.

use std::fs;

use imagesetd::model::{openpgp::Keyring, release::signature::look};
use jiff::Timestamp;

use crate::support::{self, gpg::Gpg};

const HEX: &str = "0da6316466d60a3a4535d5fed3589feb0391989982fba59d47d4c729912d6363";

#[test]
fn real_signature_counts_and_no_bit_of_it_can_change_what_it_says() {
    let Some(data) =
        support::real_data("real_signature_counts_and_no_bit_of_it_can_change_what_it_says")
    else {
        return;
    };
    let data = data.join("signatures");
    let message = fs::read(data.join(format!("release/sha256={HEX}/signature-1"))).unwrap();
    let keyring = Keyring::red_hat().unwrap();
    let published = fs::read(data.join("redhat-release-key.asc")).unwrap();
    let published = Keyring::parse(&published).unwrap();
    assert_eq!(keyring.fingerprints(), published.fingerprints());

    let now = Timestamp::now();
    let digest = format!("sha256:{HEX}").parse().unwrap();
    let claim = look(&message, &digest, &keyring, now).unwrap();
    assert_eq!(
        claim.name.to_string(),
        "quay.io/openshift-release-dev/ocp-release:4.15.0-x86_64"
    );
    assert_eq!(claim.signer, "567E347AD0044ADE55BA8A5F199E2F91FD431D51");
    let other = imagesetd::model::image::Digest::of(b"another release");
    let why = look(&message, &other, &keyring, now).unwrap_err();
    assert_eq!(why, format!("is for another image, {digest}"));

    let gpg = Gpg::new();
    let file = gpg.file(
        "redhat",
        &gpg.run(
            &["--dearmor"],
            &fs::read(data.join("redhat-release-key.asc")).unwrap(),
        ),
    );
    assert!(gpg.witness(&file, &message));
    let text = keyring.verify(&message, now).unwrap().text;
    let mut count = 0;
    for bit in 0..message.len() * 8 {
        let mut changed = message.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let Ok(verified) = keyring.verify(&changed, now) else {
            continue;
        };
        assert_eq!(verified.text, text, "bit {bit}");
        assert!(gpg.witness(&file, &changed), "gpgv refuses bit {bit}");
        count += 1;
    }
    println!(
        "of {} changes of one bit, {count} hit what nobody reads",
        message.len() * 8
    );
    assert!((1..400).contains(&count), "{count}");
}
