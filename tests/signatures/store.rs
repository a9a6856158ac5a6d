//! Signature stores behind HTTP, against a small server of our own.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use imagesetd::{
    model::{
        image::Digest,
        imageset::ChannelType,
        openpgp::Keyring,
        release::signature::{MOST, Signatures},
    },
    resolve::{
        signature_store::{SignatureStores, Source},
        update_service::Options,
    },
};

use crate::support::gpg::Gpg;

/// Status, redirect, body.
type Scripted = (u16, Option<String>, Vec<u8>);

#[derive(Default)]
struct Script {
    /// One by one; then nothing is there any more.
    answers: VecDeque<Scripted>,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<Script>>;

struct Server {
    script: Shared,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start() -> Self {
        let script = Shared::default();
        let app = Router::new().fallback(answer).with_state(script.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Server {
            script,
            address,
            task,
        }
    }

    /// Asks for the signatures of a digest while the server answers so, and returns what came and what was asked.
    async fn asks(
        &self,
        digest: &Digest,
        keyring: &Keyring,
        answers: impl IntoIterator<Item = Scripted>,
    ) -> (Signatures, Vec<String>) {
        *self.script.lock().unwrap() = Script {
            answers: answers.into_iter().collect(),
            asked: vec![],
        };
        let store = format!("http://user:secret@{}/a/store/?token=secret", self.address);
        let found = stores(&store, keyring)
            .fetch(ChannelType::Ocp, digest)
            .await;
        let asked = std::mem::take(&mut self.script.lock().unwrap().asked);
        (found.unwrap(), asked)
    }
}

async fn answer(State(script): State<Shared>, request: Request) -> Response {
    let mut script = script.lock().unwrap();
    script.asked.push(request.uri().to_string());
    let (status, location, body) =
        script
            .answers
            .pop_front()
            .unwrap_or((404, None, b"no".to_vec()));
    let mut response = Response::builder().status(status);
    if let Some(location) = location {
        response = response.header("location", location);
    }
    response.body(Body::from(body)).unwrap()
}

fn stores(store: &str, keyring: &Keyring) -> SignatureStores {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let source = Source {
        store: store.parse().unwrap(),
        keyring: Some(keyring.clone()),
        names: vec![],
    };
    let options = Options {
        retries: 2,
        backoff: Duration::from_millis(1),
        ..Options::default()
    };
    SignatureStores::new(source.clone(), source, options).unwrap()
}

/// What came, as `name: what it claims or why it does not`.
fn told(signatures: &Signatures) -> Vec<String> {
    let found = signatures.found.iter();
    found
        .map(|f| match &f.claim {
            Ok(claim) => format!("{}: {}", f.name, claim.name),
            Err(why) => format!("{}: {why}", f.name),
        })
        .collect()
}

#[tokio::test]
async fn signatures_are_asked_for_until_one_is_missing() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "rsa2048", "sign", "never", &[]);
    let keyring = Keyring::parse(&gpg.export(&[&key])).unwrap();
    let digest = Digest::of(b"release");
    let hex = digest.hex();
    let text = format!(
        r#"{{"critical":{{"type":"atomic container signature","image":{{"docker-manifest-digest":"{digest}"}},"identity":{{"docker-reference":"q.io/r/x:1"}}}}}}"#
    );
    let message = gpg.sign(&key, text.as_bytes());
    let server = Server::start().await;
    let ok = |body: &[u8]| (200, None, body.to_vec());
    let place = |n: usize| format!("/a/store/sha256={hex}/signature-{n}?token=secret");

    let (found, asked) = server
        .asks(
            &digest,
            &keyring,
            [ok(&message), ok(b"<html>"), ok(&message)],
        )
        .await;
    let page = "signature-2: is no OpenPGP message; a proxy or a login page may have answered in the store's place";
    assert_eq!(
        told(&found),
        ["signature-1: q.io/r/x:1", page, "signature-3: q.io/r/x:1"]
    );
    assert_eq!(asked, [1, 2, 3, 4].map(place));
    assert_eq!(found.trouble, None);
    assert_eq!(found.store, format!("http://{}/a/store/", server.address));
    assert_eq!(found.found[0].message, message);

    let (found, asked) = server.asks(&digest, &keyring, vec![ok(b""); 99]).await;
    assert_eq!((found.found.len(), asked.len()), (MOST, MOST));
    let (found, _) = server
        .asks(&digest, &keyring, [ok(&vec![0x90; 5 << 20])])
        .await;
    assert_eq!(
        told(&found),
        ["signature-1: has more than 65536 bytes, which no release signature has"]
    );
    let (found, _) = server.asks(&digest, &keyring, [(410, None, vec![])]).await;
    assert_eq!((told(&found).len(), found.trouble), (0, None));
    let elsewhere = Some(format!("http://{}/else", server.address));
    let (found, asked) = server
        .asks(&digest, &keyring, [(302, elsewhere, vec![]), ok(&message)])
        .await;
    assert_eq!(told(&found), ["signature-1: q.io/r/x:1"]);
    assert_eq!(asked[..2], [place(1), "/else".to_owned()]);
}

#[tokio::test]
async fn a_store_that_fails_is_tried_again_and_what_came_before_counts() {
    let gpg = Gpg::new();
    let key = gpg.key("signer", "rsa2048", "sign", "never", &[]);
    let keyring = Keyring::parse(&gpg.export(&[&key])).unwrap();
    let digest = Digest::of(b"release");
    let server = Server::start().await;
    let busy = || (503, None, b"busy".to_vec());
    let good = || (200, None, gpg.sign(&key, b"{}"));

    let (found, asked) = server
        .asks(&digest, &keyring, [busy(), busy(), good()])
        .await;
    assert_eq!(
        (found.found.len(), asked.len(), found.trouble),
        (1, 4, None)
    );
    let (found, asked) = server
        .asks(&digest, &keyring, [good(), busy(), busy(), busy()])
        .await;
    assert_eq!((found.found.len(), asked.len()), (1, 4));
    let trouble = found.trouble.unwrap();
    let place = format!(
        "http://{}/a/store/sha256={}/signature-2",
        server.address,
        digest.hex()
    );
    assert_eq!(
        (trouble.reason, trouble.transient),
        (
            format!(
                "it is not mirrored, since asking the signature store for {place} was answered with 503 Service Unavailable: busy; try again later, or name another store"
            ),
            true
        )
    );
    let (found, asked) = server
        .asks(&digest, &keyring, [(403, None, b"<html>".to_vec())])
        .await;
    let trouble = found.trouble.unwrap();
    assert_eq!((asked.len(), trouble.transient), (1, false));
    assert!(trouble.reason.ends_with("was answered with 403 Forbidden; check that this host may ask it, and whether a proxy answers in its place"), "{}", trouble.reason);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_named_without_its_secrets() {
    let keyring = Keyring::red_hat().unwrap();
    // Nobody listens on a port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let store = format!("http://user:secret@{free}/s?token=secret");
    let found = stores(&store, &keyring)
        .fetch(ChannelType::Ocp, &Digest::of(b"x"))
        .await
        .unwrap();
    let trouble = found.trouble.unwrap();
    assert!(
        trouble.transient && trouble.reason.contains("failed after 3 attempts"),
        "{}",
        trouble.reason
    );
    assert!(
        !format!("{trouble:?}{}", found.store).contains("secret"),
        "{trouble:?}"
    );
}
