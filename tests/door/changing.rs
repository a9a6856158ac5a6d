//! Certificates and tokens that change while the daemon runs.

use std::fs;

use imagesetd::grpc::v1::{GetStatusRequest, WatchStatusRequest};
use serde_json::Value;
use tonic::Code;

use crate::{
    house::{House, Shown},
    pki::Ca,
    support::registry::wait_for,
};

fn conditions(status: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    status["daemon"]["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|condition| (text(&condition["type"]), text(&condition["message"])))
        .collect()
}

/// What is said of the files, if anything is.
fn trouble(house: &House) -> Option<String> {
    let conditions = conditions(&house.status());
    let found = conditions
        .into_iter()
        .find(|(kind, _)| kind == "AccessOutdated");
    found.map(|(_, message)| message)
}

#[test]
fn a_new_certificate_of_the_daemon_is_used_without_a_restart_and_a_broken_one_is_not() {
    let house = House::open();
    let reader = Shown::token(house.token_file("reader"));
    let other = Ca::new(house.path("other"));
    let by = |ca: &Ca| {
        let line = format!(
            "status --token-file {} --ca-file {}",
            house.token_file("reader").display(),
            ca.cert().display()
        );
        house.cli(&house.https(), &line).status.code()
    };
    assert_eq!((by(&house.ca), by(&other)), (Some(0), Some(5)));
    house.put("tls.crt", b"broken");
    let told = wait_for("the trouble to be said", || trouble(&house));
    assert_eq!(
        told,
        format!(
            "{} holds no certificate in PEM form; what was read before goes on to be used",
            house.path("tls.crt").display()
        )
    );
    assert!(house.call(&reader, "GetStatus").is_ok());
    house.install(&other.sign("daemon", "IP:127.0.0.1"));
    wait_for("the new certificate", || {
        (by(&other) == Some(0)).then_some(())
    });
    assert_eq!(by(&house.ca), Some(5));
    wait_for("the trouble to be over", || {
        trouble(&house).is_none().then_some(())
    });
    let log = house.log();
    assert!(log.contains("read again, since a file changed"), "{log}");
}

#[test]
fn tokens_come_and_go_without_a_restart() {
    let house = House::open();
    let reader = Shown::token(house.token_file("reader"));
    house.token("late", "read");
    let late = Shown::token(house.token_file("late"));
    wait_for("the new token", || house.call(&late, "GetStatus").ok());
    house.revoke("reader");
    let refusal = wait_for("the token to be gone", || {
        house.call(&reader, "GetStatus").err()
    });
    assert!(
        refusal.is(Code::Unauthenticated, "TOKEN_REFUSED"),
        "{refusal:?}"
    );
    let good = fs::read(house.path("tokens")).unwrap();
    house.put("tokens", b"late read sha256:canary\n");
    let told = wait_for("the trouble to be said", || trouble(&house));
    assert!(!told.contains("canary"), "{told}");
    assert!(house.call(&late, "GetStatus").is_ok());
    house.put("tokens", &good);
    wait_for("the trouble to be over", || {
        trouble(&house).is_none().then_some(())
    });
    fs::remove_file(house.path("tokens")).unwrap();
    wait_for("the trouble to be said", || trouble(&house));
    assert!(house.call(&late, "GetStatus").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_stream_ends_when_its_token_goes() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let house = House::open();
    let connection = house.connection(&Shown::token(house.token_file("reader")));
    let mut client = connection.connect().await.unwrap();
    let request = WatchStatusRequest::default();
    let mut stream = client.watch_status(request).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    house.token("another", "read");
    house.revoke("reader");
    let ended = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            other => break other.unwrap_err(),
        }
    };
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert!(
        ended.message().starts_with("the token is not one"),
        "{ended}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_open_is_not_known_any_more_when_the_ca_of_clients_changes() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let house = House::open();
    let connection = house.connection(&Shown::pair(house.ca.sign("ansible", "")));
    let mut client = connection.connect().await.unwrap();
    let status = client.get_status(GetStatusRequest::default()).await;
    assert!(status.is_ok());
    let other = Ca::new(house.path("other"));
    house.put("clients-ca.pem", &fs::read(other.cert()).unwrap());
    let mut refused = None;
    while refused.is_none() {
        let answer = client.get_status(GetStatusRequest::default()).await;
        refused = answer.err();
        tokio::task::yield_now().await;
    }
    let refused = refused.unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(
        refused
            .message()
            .starts_with("the client certificate is not accepted ("),
        "{refused}"
    );
    let new = Shown::pair(other.sign("ansible", ""));
    assert!(house.call(&new, "GetStatus").is_ok());
}
