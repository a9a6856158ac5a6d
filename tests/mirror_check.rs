//! `imagesetd mirror check` against registries as people have them: good ones, and each of the usual mistakes.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::{fs, path::PathBuf, process::Command};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use serde_json::Value;
use support::registry::{Kind, Options, PASSWORD, Registry, SPARSE_INDEXES, USER};

/// A folder for files of certificates and credentials.
struct Desk(tempfile::TempDir);

/// What the check said.
struct Said {
    code: i32,
    mirror: Value,
}

impl Said {
    /// The outcome of a question.
    fn outcome(&self, id: &str) -> &str {
        self.check(id)["outcome"].as_str().unwrap()
    }

    fn message(&self, id: &str) -> &str {
        self.check(id)["message"].as_str().unwrap()
    }

    fn remedy(&self, id: &str) -> &str {
        self.check(id)["remedy"].as_str().unwrap()
    }

    fn check(&self, id: &str) -> &Value {
        let checks = self.mirror["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["id"] == id);
        found.unwrap_or_else(|| panic!("{id} was not asked: {}", self.mirror))
    }

    /// Every question with its outcome.
    fn all(&self) -> Vec<(&str, &str)> {
        let checks = self.mirror["checks"].as_array().unwrap().iter();
        checks
            .map(|c| (c["id"].as_str().unwrap(), c["outcome"].as_str().unwrap()))
            .collect()
    }
}

const ASKED: [&str; 7] = [
    "upload",
    "push",
    "overwrite_tag",
    "mount",
    "sparse_index",
    "nested_paths",
    "delete",
];

impl Desk {
    fn new() -> Self {
        Desk(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Runs the check of a place in a registry.
    fn check(&self, target: &str, more: &[&str]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_imagesetd"))
            .args(["mirror", "check", "--output", "json", "--to", target])
            .args(more)
            .env_clear()
            .env("HOME", self.0.path())
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let document: Value = serde_json::from_str(&text)
            .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(document["schema"], 1, "{document}");
        Said {
            code: output.status.code().unwrap(),
            mirror: document["mirrors"][0].clone(),
        }
    }

    /// Writes a certificate of the authority and returns the files of it and of its key.
    fn certificate(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Keys {
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name
            .push(DnType::CommonName, "authority of this test");
        let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut leaf);
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        self.write(&format!("{name}/certs/ca.crt"), &issuer.pem());
        Keys {
            certs: self.0.path().join(name).join("certs"),
            tls: (
                self.write(&format!("{name}/tls.crt"), &leaf.pem()),
                self.write(&format!("{name}/tls.key"), &key.serialize_pem()),
            ),
        }
    }
}

/// What a registry shows, and the folder of who vouches for it.
struct Keys {
    certs: PathBuf,
    tls: (PathBuf, PathBuf),
}

impl Keys {
    fn registry(&self) -> Registry {
        let options = Options {
            tls: Some(self.tls.clone()),
            ..Options::default()
        };
        Registry::start(Kind::Debian, options)
    }

    fn folder(&self) -> &str {
        self.certs.to_str().unwrap()
    }
}

fn place(registry: &Registry) -> String {
    format!("{}/ocp", registry.address())
}

const PLAIN: &[&str] = &["--dest-tls-verify=false"];

#[test]
fn a_good_registry_is_good_and_holds_no_manifest_afterwards() {
    let registry = Registry::start(
        Kind::Distribution3,
        Options {
            configuration: SPARSE_INDEXES.to_owned(),
            ..Options::default()
        },
    );
    let said = Desk::new().check(&place(&registry), PLAIN);
    assert_eq!(
        (said.code, &said.mirror["outcome"]),
        (0, &"good".into()),
        "{}",
        said.mirror
    );
    let expected: Vec<_> = ["connection", "credentials"]
        .into_iter()
        .chain(ASKED)
        .map(|id| (id, "good"))
        .collect();
    assert_eq!(said.all(), expected);
    let repositories = registry
        .storage()
        .join("docker/registry/v2/repositories/ocp");
    let mut names: Vec<String> = fs::read_dir(&repositories)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["imagesetd-mirror-check", "imagesetd-mirror-check-mount"]
    );
    let of = repositories.join("imagesetd-mirror-check/_manifests");
    let mut links = vec![];
    find(&of, "link", &mut links);
    assert_eq!(links, Vec::<PathBuf>::new());
    assert_eq!(said.mirror["left_behind"].as_array().unwrap().len(), 1);
}

/// Collects the files of a name.
fn find(folder: &std::path::Path, name: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true => find(&path, name, found),
            false if path.ends_with(name) => found.push(path),
            false => {}
        }
    }
}

#[test]
fn who_vouches_for_the_registry_has_to_be_known() {
    let desk = Desk::new();
    let keys = desk.certificate("good", |_| {});
    let registry = keys.registry();
    let said = desk.check(&place(&registry), &["--dest-cert-dir", keys.folder()]);
    assert_eq!(said.code, 0, "{}", said.mirror);
    assert_eq!(
        said.message("certificate_chain"),
        format!(
            "{}/ca.crt vouches for 127.0.0.1, which shows its own certificate alone; the system's authorities do not",
            keys.folder()
        )
    );
    let certificate = [
        "certificate_name",
        "certificate_expiry",
        "certificate_usage",
    ];
    assert_eq!(certificate.map(|id| said.outcome(id)), ["good"; 3]);

    let said = desk.check(&place(&registry), &[]);
    assert_eq!((said.code, said.outcome("certificate_chain")), (5, "bad"));
    assert!(
        said.message("certificate_chain")
            .contains("no others are named"),
        "{}",
        said.mirror
    );
    assert!(said.remedy("certificate_chain").contains("ca_file"));
    assert_eq!(ASKED.map(|id| said.outcome(id)), ["skipped"; 7]);

    let other = desk.certificate("other", |_| {});
    let said = desk.check(&place(&registry), &["--dest-cert-dir", other.folder()]);
    assert_eq!((said.code, said.outcome("certificate_chain")), (5, "bad"));

    // What is not looked at is in nobody's way.
    let said = desk.check(&place(&registry), PLAIN);
    assert_eq!(
        (said.code, said.outcome("certificate_chain")),
        (0, "warning")
    );
    desk.write(
        ".config/containers/registries.conf",
        &format!(
            "[[registry]]\nlocation = '{}'\ninsecure = true\n",
            registry.address()
        ),
    );
    let said = desk.check(&place(&registry), &[]);
    assert_eq!(
        (said.code, said.outcome("certificate_chain")),
        (0, "warning")
    );
    let remedy = said.remedy("certificate_chain");
    let why = "it is not looked at, as `insecure = true` of registries.conf says";
    assert!(remedy.ends_with(why), "{remedy}");
}

#[test]
fn a_certificate_of_the_wrong_name_time_or_use_is_told_apart() {
    let desk = Desk::new();
    let wrong_name = desk.certificate("name", |leaf| {
        *leaf = CertificateParams::new(vec!["mirror.lan".to_owned()]).unwrap();
    });
    let expired = desk.certificate("expired", |leaf| {
        leaf.not_before = date_time_ymd(2024, 1, 1);
        leaf.not_after = date_time_ymd(2025, 1, 1);
    });
    let for_clients = desk.certificate("clients", |leaf| {
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let own_authority = desk.certificate("own", |leaf| {
        leaf.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let cases = [
        (
            &wrong_name,
            "certificate_name",
            "the certificate is not for 127.0.0.1; it is for mirror.lan",
        ),
        (
            &expired,
            "certificate_expiry",
            "the certificate of 127.0.0.1 ended on 2025-01-01",
        ),
        (
            &for_clients,
            "certificate_usage",
            "the certificate of 127.0.0.1 is not for servers: its extended key usage lacks `serverAuth`",
        ),
        (
            &own_authority,
            "certificate_chain",
            "127.0.0.1 shows the certificate of an authority as its own (`CA:TRUE`), which clients do not take",
        ),
    ];
    for (keys, id, message) in cases {
        let registry = keys.registry();
        let said = desk.check(&place(&registry), &["--dest-cert-dir", keys.folder()]);
        assert_eq!(
            (said.code, said.message(id)),
            (5, message),
            "{}",
            said.mirror
        );
        assert_eq!(said.outcome("connection"), "bad");
        let bad = said
            .all()
            .into_iter()
            .filter(|(_, outcome)| *outcome == "bad");
        let bad: Vec<&str> = bad.map(|(id, _)| id).collect();
        assert_eq!(bad, [id, "connection"], "{}", said.mirror);
    }
}

#[test]
fn credentials_are_tried() {
    let registry = Registry::start(
        Kind::Debian,
        Options {
            password: true,
            ..Options::default()
        },
    );
    let desk = Desk::new();
    let said = desk.check(&place(&registry), PLAIN);
    assert_eq!(
        (said.code, said.outcome("credentials")),
        (4, "bad"),
        "{}",
        said.mirror
    );
    assert_eq!(ASKED.map(|id| said.outcome(id)), ["skipped"; 7]);
    let entry = |password: &str| {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let auth = STANDARD.encode(format!("{USER}:{password}"));
        format!(
            r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#,
            registry.address()
        )
    };
    let wrong = desk.write("wrong.json", &entry("wrong"));
    let said = desk.check(
        &place(&registry),
        &[PLAIN[0], "--authfile", wrong.to_str().unwrap()],
    );
    assert_eq!((said.code, said.outcome("credentials")), (4, "bad"));
    assert!(
        said.message("credentials").contains("wrong.json"),
        "{}",
        said.mirror
    );
    let right = desk.write("right.json", &entry(PASSWORD));
    let said = desk.check(
        &place(&registry),
        &[PLAIN[0], "--authfile", right.to_str().unwrap()],
    );
    assert_eq!(
        (said.code, said.outcome("upload")),
        (0, "good"),
        "{}",
        said.mirror
    );
}

#[test]
fn a_registry_that_takes_nothing_or_keeps_everything_says_so() {
    let desk = Desk::new();
    let read_only = Registry::start(
        Kind::Debian,
        Options {
            read_only: true,
            ..Options::default()
        },
    );
    let said = desk.check(&place(&read_only), PLAIN);
    assert_eq!(
        (said.code, said.outcome("upload")),
        (3, "bad"),
        "{}",
        said.mirror
    );
    assert!(
        said.remedy("upload").contains("read-only"),
        "{}",
        said.mirror
    );

    let keeping = Registry::start(
        Kind::Debian,
        Options {
            no_delete: true,
            ..Options::default()
        },
    );
    let said = desk.check(&place(&keeping), PLAIN);
    assert_eq!(
        (said.code, said.outcome("delete")),
        (0, "warning"),
        "{}",
        said.mirror
    );
    let left = said.mirror["left_behind"].as_array().unwrap();
    let manifests = left
        .iter()
        .filter(|l| l.as_str().unwrap().starts_with("the manifest"));
    assert_eq!(manifests.count(), 3, "{left:?}");
    // To look only, nothing is pushed.
    let other = Registry::debian();
    let said = desk.check(&place(&other), &[PLAIN[0], "--read-only"]);
    assert_eq!(
        (said.code, ASKED.map(|id| said.outcome(id))),
        (0, ["skipped"; 7])
    );
    assert!(!other.storage().join("docker").exists());
}

#[test]
fn a_registry_that_wants_whole_indexes_says_so() {
    for registry in [Registry::debian(), Registry::distribution3()] {
        let said = Desk::new().check(&place(&registry), PLAIN);
        let expected: Vec<_> = ["connection", "credentials"]
            .into_iter()
            .chain(ASKED)
            .map(|id| match id {
                "sparse_index" => (id, "warning"),
                id => (id, "good"),
            })
            .collect();
        assert_eq!((said.code, said.all()), (0, expected), "{}", said.mirror);
        assert!(
            said.remedy("sparse_index")
                .contains("validation.manifests.indexes.platforms")
        );
    }
}

#[test]
fn nobody_there_is_told_with_what_to_look_at() {
    let mut registry = Registry::debian();
    registry.stop();
    let said = Desk::new().check(&place(&registry), &[]);
    assert_eq!(
        (said.code, said.outcome("connection")),
        (5, "bad"),
        "{}",
        said.mirror
    );
}
