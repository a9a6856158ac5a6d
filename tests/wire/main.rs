//! The command line against a server with canned answers: what travels, what is printed, how it ends.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot arrange its stage may panic"
)]

mod canned;
mod reflection;

#[path = "../support/tool.rs"]
#[allow(dead_code, unreachable_pub, reason = "a part of it is used here")]
mod tool;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
    sync::Arc,
};

use imagesetd::grpc::{
    access::{Access, Rules},
    door::Door,
    listen,
    server::serve,
};
use imagesetd::model::access::Right;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use canned::Canned;

/// A server at a socket and at loopback TCP; it ends with the test's runtime.
struct Server {
    folder: tempfile::TempDir,
    tcp: SocketAddr,
    stopping: CancellationToken,
    _socket: listen::Socket,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (unix, socket) = listen::unix(&folder.path().join("s.sock"), None)
            .await
            .unwrap();
        let tcp = listen::tcp("127.0.0.1:0".parse().unwrap(), false)
            .await
            .unwrap();
        let address = tcp.local_addr().unwrap();
        let tcp = Door::Tcp {
            listener: tcp,
            keys: None,
            unnamed: Some(Right::Admin),
        };
        let doors = vec![Door::Unix(unix), tcp];
        let access = Arc::new(Access::load(Rules::default()).unwrap());
        let stopping = CancellationToken::new();
        let never = CancellationToken::new();
        tokio::spawn(serve(Canned, doors, access, never, stopping.clone()));
        Server {
            folder,
            tcp: address,
            stopping,
            _socket: socket,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s.sock")
    }
}

async fn at(endpoint: &str, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_imagesetd"))
        .args(line.split_whitespace())
        .env_clear()
        .env("IMAGESETD_ENDPOINT", endpoint)
        .output()
        .await
        .unwrap()
}

async fn imagesetd(server: &Server, line: &str) -> Output {
    at(&format!("unix://{}", server.socket().display()), line).await
}

fn document(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn an_error_of_the_daemon_is_one_document_with_its_reason() {
    let server = Server::start().await;
    let output = imagesetd(&server, "apply 0000ff --output json").await;
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        document(&output),
        json!({"schema": 1, "error": {
            "code": "STALE_PLAN", "grpc_code": "FAILED_PRECONDITION", "message": "plan 0000ff is stale: plan again", "details": {},
        }})
    );
}

#[tokio::test]
async fn an_error_for_people_goes_to_stderr_alone() {
    let server = Server::start().await;
    let output = imagesetd(&server, "runs show nothing").await;
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        (text(&output.stdout), text(&output.stderr)),
        (String::new(), "error: there is no run nothing\n".to_owned())
    );
}

#[tokio::test]
async fn applying_ends_as_the_run_did() {
    let server = Server::start().await;
    let output = imagesetd(&server, "apply partial --output json").await;
    assert_eq!(output.status.code(), Some(6));
    let document = document(&output);
    assert_eq!(
        (
            &document["run"]["id"],
            &document["run"]["state"],
            &document["run"]["failures"][0]["attempts"]
        ),
        (&json!("9a3c"), &json!("partial"), &json!(3))
    );
    let output = imagesetd(&server, "apply good").await;
    assert_eq!(output.status.code(), Some(0));
    assert!(
        text(&output.stdout).starts_with("Run 9a3c of good succeeded\n"),
        "{}",
        text(&output.stdout)
    );
}

#[tokio::test]
async fn when_the_time_runs_out_the_document_is_the_run_that_goes_on() {
    let server = Server::start().await;
    let output = imagesetd(&server, "apply endless --timeout 300ms --output json").await;
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(document(&output)["run"]["state"], json!("running"));
    assert!(
        text(&output.stderr).contains("imagesetd runs watch 9a3c"),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test]
async fn time_counts_while_the_daemon_plans_and_then_no_run_goes_on() {
    let server = Server::start().await;
    let output = imagesetd(&server, "apply thinking --timeout 300ms --output json").await;
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(
        document(&output)["error"],
        json!({
            "code": "TIMED_OUT", "grpc_code": "DEADLINE_EXCEEDED", "details": {},
            "message": "the time ran out while the daemon was planning, and no run has begun; call again with more time",
        })
    );
}

#[tokio::test]
async fn detaching_leaves_the_run_to_the_daemon() {
    let server = Server::start().await;
    let output = imagesetd(&server, "apply endless --detach -o json").await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(document(&output)["run"]["id"], json!("9a3c"));
}

#[tokio::test]
async fn plans_of_files_carry_them_and_name_problems_by_the_path_given() {
    let server = Server::start().await;
    let file = server.folder.path().join("a.yaml");
    std::fs::write(&file, "kind: x\n").unwrap();
    let output = imagesetd(&server, &format!("plan -c {} -o json", file.display())).await;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let document = document(&output);
    assert_eq!(
        document["problems"][0]["file"],
        json!(file.display().to_string())
    );
    assert_eq!(
        document["problems"][0]["message"],
        json!("8 bytes of a.yaml")
    );
    assert_eq!(document["unplanned"][0]["image_set"], json!("a"));
}

#[tokio::test]
async fn plan_ends_with_the_shortest_command_that_is_unique() {
    let server = Server::start().await;
    let output = imagesetd(&server, "plan good").await;
    assert!(
        text(&output.stdout).ends_with("To apply it:\n  imagesetd apply 4f1c9a77\n"),
        "{}",
        text(&output.stdout)
    );
}

#[tokio::test]
async fn steps_of_all_pages_are_listed() {
    let server = Server::start().await;
    let output = imagesetd(&server, "plan show 4f1c9a77 --steps -o json").await;
    let numbers: Vec<u64> = document(&output)["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["number"].as_u64())
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test]
async fn waiting_ends_when_ready_or_when_the_time_is_over() {
    let server = Server::start().await;
    let output = imagesetd(&server, "status good --wait ready --timeout 1m -o json").await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        document(&output)["image_sets"][0]["conditions"][0]["status"],
        json!("true")
    );
    let output = imagesetd(
        &server,
        "status endless --wait ready --timeout 300ms -o json",
    )
    .await;
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(
        document(&output)["image_sets"][0]["conditions"][0]["status"],
        json!("false")
    );
}

#[tokio::test]
async fn tcp_answers_as_the_socket_does() {
    let server = Server::start().await;
    let output = at(&format!("http://{}", server.tcp), "version -o json").await;
    assert_eq!(document(&output)["daemon"], json!({"version": "9.9.9"}));
}

#[tokio::test]
async fn health_says_that_the_daemon_is_stopping_while_it_still_answers() {
    let server = Server::start().await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.tcp));
    let mut health = HealthClient::new(channel.unwrap().connect().await.unwrap());
    let mut watched = Vec::new();
    for service in ["", "imageset.v1.MirrorService"] {
        let service = service.to_owned();
        let told = health.watch(HealthCheckRequest { service }).await.unwrap();
        let mut told = told.into_inner();
        let now = told.message().await.unwrap().unwrap();
        assert_eq!(now.status(), ServingStatus::Serving);
        watched.push(told);
    }
    server.stopping.cancel();
    for mut told in watched {
        let now = told.message().await.unwrap().unwrap();
        assert_eq!(now.status(), ServingStatus::NotServing);
    }
    let output = at(&format!("http://{}", server.tcp), "version -o json").await;
    assert_eq!(document(&output)["daemon"], json!({"version": "9.9.9"}));
}

#[tokio::test]
async fn no_daemon_is_unavailable_and_a_wrong_word_is_usage() {
    let output = at("unix:///nowhere/x.sock", "status -o json").await;
    assert_eq!(
        (
            output.status.code(),
            document(&output)["error"]["grpc_code"].clone()
        ),
        (Some(5), json!("UNAVAILABLE"))
    );
    let output = at("unix:///nowhere/x.sock", "statos -o json").await;
    assert_eq!(
        (
            output.status.code(),
            document(&output)["error"]["code"].clone()
        ),
        (Some(2), json!("USAGE"))
    );
    let message = document(&output)["error"]["message"].clone();
    let message = message.as_str().unwrap();
    assert!(message.starts_with("unrecognized subcommand"), "{message}");
}

#[tokio::test]
async fn resources_are_yaml_that_other_tools_read() {
    let server = Server::start().await;
    let output = imagesetd(&server, "resources good").await;
    assert_eq!(text(&output.stdout), "---\nkind: ImageDigestMirrorSet\n");
}

#[tokio::test]
async fn nobody_is_asked_where_nobody_is() {
    let server = Server::start().await;
    for line in ["apply", "resources retire good", "resources publish held"] {
        let output = imagesetd(&server, line).await;
        assert_eq!(
            output.status.code(),
            Some(2),
            "{line}: {}",
            text(&output.stderr)
        );
    }
}

/// Asks openssl for a CA and a certificate for `localhost`, each valid for a day.
fn certificates(folder: &Path) {
    let script = "openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 1 -subj /CN=test-ca -addext keyUsage=keyCertSign,cRLSign 2>&1 && \
        openssl req -newkey rsa:2048 -nodes -keyout key.pem -out csr.pem -subj /CN=x 2>&1 && \
        printf 'subjectAltName=DNS:mirror.test' > ext && \
        openssl x509 -req -in csr.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 1 -extfile ext 2>&1";
    let made = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stdout));
}

#[tokio::test]
async fn https_trusts_the_ca_it_is_given_and_looks_at_the_name() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let identity = tonic::transport::Identity::from_pem(read("cert.pem"), read("key.pem"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let service = imagesetd::grpc::v1::mirror_service_server::MirrorServiceServer::new(Canned);
    let server = tonic::transport::Server::builder()
        .tls_config(tonic::transport::ServerTlsConfig::new().identity(identity))
        .unwrap()
        .add_service(service);
    tokio::spawn(server.serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener)));
    let ca = folder.path().join("ca.pem");
    let ca = ca.display();
    let trusted = at(
        &endpoint,
        &format!("version -o json --ca-file {ca} --server-name mirror.test"),
    )
    .await;
    assert_eq!(
        document(&trusted)["daemon"],
        json!({"version": "9.9.9"}),
        "{}",
        text(&trusted.stderr)
    );
    let wrong_name = at(
        &endpoint,
        &format!("status -o json --ca-file {ca} --server-name other.test"),
    )
    .await;
    assert_eq!(wrong_name.status.code(), Some(5));
    let unknown_ca = at(&endpoint, "status -o json --server-name mirror.test").await;
    assert_eq!(unknown_ca.status.code(), Some(5));
}
