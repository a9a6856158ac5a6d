//! What keeps the daemon from opening a door, and the check that says so before.

use std::fs;

use crate::{
    house::{House, imagesetd, said},
    pki::{Ca, encrypt},
};

const TLS: &str = "listen: [{address: 'tcp://0.0.0.0:PORT', tls: {cert_file: tls.crt, key_file: tls.key, client_ca_file: clients-ca.pem}}]\n";

/// Sees that neither the daemon nor its check goes on with these settings, and returns what they say.
fn refused(house: &House, settings: &str) -> String {
    house.settings(&settings.replace("PORT", &house.tls.to_string()));
    let (code, said) = house.serve(&["--check"]);
    assert_eq!(code, Some(3), "{said}");
    let (code, said) = house.serve(&["--log-level", "off"]);
    assert_eq!(code, Some(3), "{said}");
    said.replace(&house.path("").display().to_string(), "FOLDER/")
}

#[test]
fn beyond_this_machine_there_is_no_door_without_tls_and_somebody_to_know() {
    let house = House::new();
    let told = refused(&house, "listen: ['tcp://0.0.0.0:PORT']\n");
    assert!(
        told.contains("can be reached from other machines, and without TLS that is refused\n    write `address` and `tls`"),
        "{told}"
    );
    let nobody =
        "listen: [{address: 'tcp://0.0.0.0:PORT', tls: {cert_file: tls.crt, key_file: tls.key}}]\n";
    let told = refused(&house, nobody);
    assert!(
        told.contains("has no way to tell who comes, so nobody could do anything there"),
        "{told}"
    );
    let told = refused(
        &house,
        &format!("{nobody}clients: {{tokens_file: tokens}}\n"),
    );
    assert_eq!(
        told,
        format!(
            "error: nobody could do anything at tcp://0.0.0.0:{}: there is no token in FOLDER/tokens; make one with `imagesetd token new`\n",
            house.tls
        )
    );
}

#[test]
fn files_that_cannot_be_used_are_named_with_why() {
    let house = House::new();
    let settings = format!("{TLS}clients: {{tokens_file: tokens}}\n");
    house.token("a", "read");
    let good = |name: &str| fs::read(house.path(name)).unwrap();
    let (cert, key, ca) = (good("tls.crt"), good("tls.key"), good("clients-ca.pem"));
    encrypt(&house.path("tls.key"), &house.path("encrypted.key"));
    let other = Ca::new(house.path("other")).sign("other", "");
    let cases: [(&str, Vec<u8>, &str); 7] = [
        (
            "tls.crt",
            b"nothing".to_vec(),
            "error: FOLDER/tls.crt holds no certificate in PEM form\n",
        ),
        (
            "tls.key",
            b"nothing".to_vec(),
            "error: FOLDER/tls.key holds no key in PEM form\n",
        ),
        (
            "tls.key",
            good("encrypted.key"),
            "error: the key FOLDER/tls.key is encrypted, and nobody is there to say the passphrase; write it without one, readable for the daemon alone\n",
        ),
        (
            "tls.key",
            fs::read(other.key).unwrap(),
            "error: certificate FOLDER/tls.crt and key FOLDER/tls.key cannot be used: ",
        ),
        (
            "clients-ca.pem",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec(),
            "error: the CA of clients in FOLDER/clients-ca.pem cannot be used: ",
        ),
        (
            "tokens",
            b"ci plan canary".to_vec(),
            "error: FOLDER/tokens:1: this is not a line of a tokens file: `NAME RIGHTS sha256:HASH` is expected, as `imagesetd token new` prints it\n",
        ),
        (
            "tls.crt",
            vec![b'x'; 2 << 20],
            "error: FOLDER/tls.crt is larger than 1 MiB; is it the right file?\n",
        ),
    ];
    let tokens = good("tokens");
    for (name, bytes, sentence) in cases {
        for (name, bytes) in [
            ("tls.crt", &cert),
            ("tls.key", &key),
            ("clients-ca.pem", &ca),
            ("tokens", &tokens),
        ] {
            house.put(name, bytes);
        }
        house.put(name, &bytes);
        let told = refused(&house, &settings);
        let errors: String = told
            .lines()
            .filter(|line| line.starts_with("error"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(errors.starts_with(sentence), "{told}");
    }
    house.put("tls.crt", &cert);
    fs::remove_file(house.path("tokens")).unwrap();
    let told = refused(&house, &settings);
    assert!(
        told.contains("error: reading FOLDER/tokens: No such file or directory"),
        "{told}"
    );
}

#[test]
fn a_credential_of_systemd_is_found_where_it_says() {
    let mut house = House::new();
    let check = |house: &House, folder: Option<&str>| {
        let mut command = imagesetd();
        command.args(["serve", "--check", "--config"]);
        command.arg(house.path("imagesetd.yaml"));
        if let Some(folder) = folder {
            command.env("CREDENTIALS_DIRECTORY", house.path(folder));
        }
        let output = command.output().unwrap();
        (output.status.code(), said(&output))
    };
    house.token("a", "read");
    fs::create_dir(house.path("credentials")).unwrap();
    for name in ["tls.key", "tokens"] {
        fs::rename(house.path(name), house.path("credentials").join(name)).unwrap();
    }
    house.settings(&format!(
        "listen: ['unix://{}', {{address: 'tcp://0.0.0.0:{}', tls: {{cert_file: tls.crt, key_file: $CREDENTIALS_DIRECTORY/tls.key}}}}]\n\
         authfile: $CREDENTIALS_DIRECTORY/auth.json\n\
         clients: {{tokens_file: $CREDENTIALS_DIRECTORY/tokens}}\n",
        house.path("d.sock").display(),
        house.tls
    ));
    let (code, told) = check(&house, Some("credentials"));
    assert_eq!(code, Some(0), "{told}");
    assert!(!told.contains("CREDENTIALS_DIRECTORY"), "{told}");
    let (code, told) = check(&house, Some("nowhere"));
    assert_eq!(code, Some(3), "{told}");
    // Whoever checks the settings by hand has none of them.
    let (code, told) = check(&house, None);
    assert_eq!(code, Some(0), "{told}");
    for name in ["auth.json", "tokens"] {
        let warning = format!(
            "$CREDENTIALS_DIRECTORY/{name} is not looked at, since only the daemon's unit has it"
        );
        assert!(told.contains(&warning), "{told}");
    }
    let (code, told) = house.serve(&[]);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("the unit needs `LoadCredential=`; from a shell set CREDENTIALS_DIRECTORY to the folder that has the file"), "{told}");
    house.stop();
}

#[test]
fn what_is_open_to_everybody_on_this_machine_is_said() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::new();
    house.token("a", "read");
    fs::set_permissions(house.path("tls.key"), fs::Permissions::from_mode(0o644)).unwrap();
    house.settings(&format!(
        "listen: ['tcp://127.0.0.1:{}', {{address: 'tcp://0.0.0.0:{}', tls: {{cert_file: tls.crt, key_file: tls.key, client_ca_file: clients-ca.pem}}}}]\n\
         clients: {{certificates: [{{subject: a, rights: read}}], peers: [{{user: no-such-user-here, rights: read}}, {{group: no-such-group-here, rights: read}}]}}\n",
        house.plain, house.tls
    ));
    let (code, told) = house.serve(&["--check"]);
    assert_eq!(code, Some(0), "{told}");
    let warnings: Vec<&str> = told
        .lines()
        .filter(|line| line.starts_with("warning") && !line.contains("the directory"))
        .collect();
    assert_eq!(
        warnings,
        [
            format!(
                "warning: whoever is on this machine has the right `admin` at tcp://127.0.0.1:{}; make tokens (`clients`), or say it with `unnamed`",
                house.plain
            ),
            format!(
                "warning: everybody on this machine can read the key {}; take that right away",
                house.path("tls.key").display()
            ),
            "warning: there is no user no-such-user-here on this machine, and `clients.peers` gives rights to it".to_owned(),
            "warning: there is no group no-such-group-here on this machine, and `clients.peers` gives rights to it".to_owned(),
        ]
    );
}
