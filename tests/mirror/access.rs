//! Registries that ask who is there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    fixture::{image::Image, place::Placed},
    site::Site,
    support::registry::{Kind, Options, PASSWORD, Registry, USER},
};

fn site() -> (Site, Image) {
    let options = Options {
        password: true,
        ..Options::default()
    };
    let site = Site::with_mirror(Registry::start(Kind::Debian, options));
    let image = Image::simple("app");
    site.publish(&[Placed::tagged("team/app", "1", &image)]);
    site.additional(&["team/app:1"]);
    (site, image)
}

fn authfile(site: &Site, password: &str) -> PathBuf {
    let file = site.path("auth.json");
    let auth = STANDARD.encode(format!("{USER}:{password}"));
    let text = format!(
        r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#,
        site.mirror.address()
    );
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn mirror_with_a_password_is_filled_with_the_authfiles() {
    let (site, image) = site();
    let authfile = authfile(&site, PASSWORD);
    let ended = site.done(&[
        "--authfile",
        authfile.to_str().unwrap(),
        "--log-level=trace",
    ]);
    assert_eq!(site.tags("team/app"), ["1"]);
    let blob = crate::site::blob_file(&site.mirror, image.digest());
    assert_eq!(fs::read(blob).unwrap(), image.manifest.raw);
    assert_secret(&site, &format!("{ended:?}"), PASSWORD);
}

#[test]
fn wrong_password_is_told_with_the_registry_and_the_remedy_and_without_the_password() {
    let (site, _) = site();
    let wrong = "a-wrong-secret";
    let authfile = authfile(&site, wrong);
    let ended = site.once(&[
        "--authfile",
        authfile.to_str().unwrap(),
        "--log-level=trace",
    ]);
    assert_eq!(ended.code, 4, "{ended:#?}");
    let told = ended
        .stderr
        .lines()
        .find(|line| line.starts_with("error"))
        .unwrap();
    assert!(told.contains(site.mirror.address()), "{told}");
    assert!(
        told.contains("auth.json") || told.contains("login"),
        "{told}"
    );
    assert_secret(&site, &format!("{ended:?}"), wrong);
}

#[test]
fn upstream_that_wants_a_login_is_told_by_the_exit() {
    let options = Options {
        password: true,
        ..Options::default()
    };
    let site = Site {
        upstream: Registry::start(Kind::Debian, options),
        ..Site::new()
    };
    site.additional(&["team/app:1"]);
    let ended = site.once(&[]);
    assert_eq!(ended.code, 4, "{ended:#?}");
    ended.says(&[site.upstream.address(), "team/app:1"]);
}

#[test]
fn missing_password_is_told_with_the_remedy() {
    let (site, _) = site();
    let ended = site.once(&[]);
    assert_eq!(ended.code, 4, "{ended:#?}");
    let told = ended
        .stderr
        .lines()
        .find(|line| line.starts_with("error"))
        .unwrap();
    assert!(told.contains(site.mirror.address()), "{told}");
    assert!(
        told.contains("--authfile") || told.contains("login"),
        "{told}"
    );
    assert_eq!(site.documents_or_none(), 0);
}

/// Checks that a password is nowhere in what was said or written, plain or as registries are sent it.
fn assert_secret(site: &Site, said: &str, password: &str) {
    let sent = STANDARD.encode(format!("{USER}:{password}"));
    for secret in [password, &sent] {
        assert!(!said.contains(secret), "{said}");
        for folder in ["state", "resources"] {
            assert_absent(&site.path(folder), secret.as_bytes());
        }
    }
}

fn assert_absent(path: &Path, secret: &[u8]) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            assert_absent(&entry.unwrap().path(), secret);
        }
    } else if let Ok(bytes) = fs::read(path) {
        let found = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!found, "{} holds the password", path.display());
    }
}

impl Site {
    fn documents_or_none(&self) -> usize {
        match self.path("resources").exists() {
            true => self.documents().len(),
            false => 0,
        }
    }
}
