//! Credentials that change while the client runs.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{body::Body, http::Response};
use base64::{Engine, engine::general_purpose::STANDARD};
use imagesetd::{
    model::image::Digest,
    registry::{Client, Credentials, Options, Places},
};

use crate::{
    client, plain, repository,
    scripted::{Scripted, Seen, answer},
    shown, tag,
};

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("u:{password}")))
}

/// A registry that takes the user `u` with the password of the moment.
async fn with_password(password: &Arc<Mutex<String>>) -> Scripted {
    let password = password.clone();
    Scripted::start(move |seen: &Seen, _: &str| {
        let wanted = basic(&password.lock().unwrap());
        match seen.authorization() {
            Some(sent) if sent == wanted => found(),
            _ => answer(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
        }
    })
    .await
}

fn found() -> Response<Body> {
    let digest = Digest::of(b"x").to_string();
    answer(200, &[("docker-content-digest", &digest)], "")
}

/// A registry behind a token service that takes the user `u` with the password of the moment; tokens are of one password.
async fn with_service(password: &Arc<Mutex<String>>) -> Scripted {
    let password = password.clone();
    Scripted::start(move |seen: &Seen, host: &str| {
        let password = password.lock().unwrap().clone();
        if seen.line.contains("/token") {
            return match seen.authorization() {
                Some(sent) if sent == basic(&password) => {
                    answer(200, &[], format!(r#"{{"token":"for-{password}"}}"#))
                }
                _ => answer(401, &[], ""),
            };
        }
        if seen.authorization() == Some(&format!("Bearer for-{password}")) {
            return found();
        }
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="reg""#);
        answer(401, &[("www-authenticate", &challenge)], "")
    })
    .await
}

struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        File {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("auth.json")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    /// As `podman login` and Kubernetes do it.
    fn replace(&self, text: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    fn client(&self) -> Client {
        let places = Places::new(Some(self.path()), |_| None);
        client(Options {
            credentials: Credentials::load(&places).unwrap(),
            ..plain()
        })
    }
}

fn entry(host: &str, password: &str) -> String {
    format!(r#"{{"auths":{{"{host}":{{"username":"u","password":"{password}"}}}}}}"#)
}

async fn look(client: &Client, host: &str) -> Result<(), String> {
    let looked = client.head(&repository(host, "a"), &tag("v1")).await;
    match looked {
        Ok(_) => Ok(()),
        Err(error) => Err(shown(&error)),
    }
}

#[tokio::test]
async fn a_rotated_password_is_used_from_the_next_request_on() {
    let password = Arc::new(Mutex::new("old".to_owned()));
    for server in [
        with_password(&password).await,
        with_service(&password).await,
    ] {
        "old".clone_into(&mut password.lock().unwrap());
        let file = File::new();
        file.write(&entry(&server.host, "old"));
        let client = file.client();
        look(&client, &server.host).await.unwrap();
        // The same length, in the same moment: only reading it tells.
        "new".clone_into(&mut password.lock().unwrap());
        file.write(&entry(&server.host, "new"));
        look(&client, &server.host).await.unwrap();
        let asked = server.lines().len();
        look(&client, &server.host).await.unwrap();
        assert_eq!(server.lines().len(), asked + 1, "{:?}", server.lines());
        "old".clone_into(&mut password.lock().unwrap());
        file.replace(&entry(&server.host, "old"));
        look(&client, &server.host).await.unwrap();
    }
}

#[tokio::test]
async fn a_file_in_the_middle_of_a_rewrite_changes_nothing() {
    let password = Arc::new(Mutex::new("old".to_owned()));
    let server = with_password(&password).await;
    let file = File::new();
    let whole = entry(&server.host, "old");
    file.write(&whole);
    let client = file.client();
    for text in ["", "\n", "{", &whole[..whole.len() / 2], "[]"] {
        file.write(text);
        look(&client, &server.host).await.unwrap();
    }
    fs::remove_file(file.path()).unwrap();
    look(&client, &server.host).await.unwrap();
    // An empty list is a whole file: nobody is logged in any more.
    file.write("{}");
    let error = look(&client, &server.host).await.unwrap_err();
    assert!(error.contains("no entry for it is in"), "{error}");
}
