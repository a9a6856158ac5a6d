//! The update service's client and the `releases` verbs, against a small update service of our own.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
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
use clap::{FromArgMatches as _, Subcommand as _};
use imagesetd::{
    cli::releases::{self, Releases, ReleasesError, ReleasesOutput},
    model::{
        image::Digest,
        imageset::{Channel, ChannelType, Helm, ImageSet, PlatformSpec, SetName},
        release::select::GraphKey,
    },
    resolve::update_service::{Error, Options, UpdateService},
};
use serde_json::{Value, json};

/// What the service does, and what it was asked.
#[derive(Default)]
struct Script {
    /// By channel; every other channel is empty.
    graphs: BTreeMap<String, Value>,
    /// Answers that come first.
    before: Vec<Scripted>,
    asked: Vec<(String, Vec<(String, String)>)>,
}

/// Status, header, body.
type Scripted = (u16, Option<(&'static str, String)>, Vec<u8>);

type Shared = Arc<Mutex<Script>>;

struct Service {
    script: Shared,
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    async fn start(script: Script) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let script = Arc::new(Mutex::new(script));
        let app = Router::new().fallback(answer).with_state(script.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Service {
            script,
            address,
            task,
        }
    }

    fn url(&self) -> String {
        format!("http://{}/graph", self.address)
    }

    fn client(&self) -> UpdateService {
        client(&self.url())
    }

    /// The channels and architectures asked for, sorted.
    fn asked(&self) -> Vec<String> {
        let script = self.script.lock().unwrap();
        let queries = script.asked.iter().map(|(_, query)| {
            let pairs: Vec<String> = query.iter().map(|(k, v)| format!("{k}={v}")).collect();
            pairs.join("&")
        });
        let mut asked: Vec<String> = queries.collect();
        asked.sort();
        asked
    }
}

fn client(base: &str) -> UpdateService {
    let options = Options {
        retries: 2,
        backoff: Duration::from_millis(1),
        ..Options::default()
    };
    let base: url::Url = base.parse().unwrap();
    UpdateService::new(base.clone(), base, options).unwrap()
}

async fn answer(State(script): State<Shared>, request: Request) -> Response {
    let mut script = script.lock().unwrap();
    let uri = format!("http://h{}", request.uri());
    let query: Vec<(String, String)> = url::Url::parse(&uri)
        .unwrap()
        .query_pairs()
        .into_owned()
        .collect();
    let accept = request.headers().get("accept").map(|v| v.to_str().unwrap());
    script
        .asked
        .push((accept.unwrap_or_default().to_owned(), query.clone()));
    if !script.before.is_empty() {
        let (status, header, body) = script.before.remove(0);
        let mut response = Response::builder().status(status);
        if let Some((name, value)) = header {
            response = response.header(name, value);
        }
        return response.body(Body::from(body)).unwrap();
    }
    let channel = query.iter().find(|(name, _)| name == "channel");
    let empty = json!({"version": 1, "nodes": [], "edges": [], "conditionalEdges": []});
    let graph = channel.and_then(|(_, channel)| script.graphs.get(channel));
    Response::new(Body::from(graph.unwrap_or(&empty).to_string()))
}

fn payload(version: &str) -> String {
    let digest = Digest::of(version.as_bytes());
    format!("quay.io/openshift-release-dev/ocp-release@{digest}")
}

fn graph(nodes: &[&str], edges: &[[usize; 2]], conditional: &[(&str, &str, &str)]) -> Value {
    let nodes = nodes
        .iter()
        .map(|v| json!({"version": v, "payload": payload(v)}));
    let conditional = conditional.iter().map(|(from, to, risk)| {
        json!({"edges": [{"from": from, "to": to}], "risks": [{"name": risk, "url": "https://r", "message": "It may."}]})
    });
    json!({"nodes": nodes.collect::<Vec<_>>(), "edges": edges, "conditionalEdges": conditional.collect::<Vec<_>>()})
}

fn key(channel: &str) -> GraphKey {
    GraphKey {
        channel_type: ChannelType::Ocp,
        channel: channel.to_owned(),
        arch: "amd64".to_owned(),
    }
}

fn two_channels() -> Script {
    let low = graph(&["4.1.0", "4.1.1"], &[[0, 1]], &[]);
    let high = graph(
        &["4.1.1", "4.2.0", "4.2.1"],
        &[[0, 1]],
        &[("4.2.0", "4.2.1", "Leak")],
    );
    Script {
        graphs: [
            ("stable-4.1".to_owned(), low),
            ("stable-4.2".to_owned(), high),
        ]
        .into(),
        ..Script::default()
    }
}

#[tokio::test]
async fn question_is_channel_and_architecture_and_asks_for_json() {
    let service = Service::start(two_channels()).await;
    let graph = service.client().graph(&key("stable-4.1")).await.unwrap();
    assert_eq!(graph.nodes().len(), 2);
    let asked = service.script.lock().unwrap().asked.clone();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let query = vec![pair("channel", "stable-4.1"), pair("arch", "amd64")];
    assert_eq!(asked, [("application/json".to_owned(), query)]);
}

#[tokio::test]
async fn transient_refusals_are_asked_again() {
    let mut script = two_channels();
    let wait = Some(("retry-after", "0".to_owned()));
    script.before = vec![(503, None, vec![]), (429, wait, vec![])];
    let service = Service::start(script).await;
    let graph = service.client().graph(&key("stable-4.1")).await.unwrap();
    assert_eq!((graph.nodes().len(), service.asked().len()), (2, 3));
}

#[tokio::test]
async fn lasting_refusals_are_asked_once_and_quoted() {
    let body = br#"{"kind":"invalid_params","value":"invalid channel"}"#.to_vec();
    let service = Service::start(Script {
        before: vec![(400, None, body)],
        ..Script::default()
    })
    .await;
    let base = service.url().replace("http://", "http://user:secret@");
    let error = client(&base).graph(&key("stable-4.1")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "asking {}?channel=stable-4.1&arch=amd64 was answered with 400 Bad Request: invalid channel; check the URL of the update service and the names of channel and architecture",
            service.url()
        )
    );
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    assert_eq!(service.asked().len(), 1);
}

#[tokio::test]
async fn service_that_stays_away_is_told_with_attempts_and_remedy() {
    let service = Service::start(Script {
        before: vec![(502, None, b"<html>".to_vec()); 9],
        ..Script::default()
    })
    .await;
    let error = service.client().graph(&key("c")).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("502 Bad Gateway; try again later")
    );
    assert_eq!(service.asked().len(), 3);

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!(
        "http://user:secret@{}/graph",
        listener.local_addr().unwrap()
    );
    drop(listener);
    let error = client(&gone).graph(&key("c")).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("failed after 3 attempts"), "{text}");
    assert!(
        text.contains("refused") && text.contains("HTTPS_PROXY"),
        "{text}"
    );
    assert!(!format!("{text}{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn page_in_place_of_a_graph_is_told() {
    let service = Service::start(Script {
        before: vec![(200, None, b"<html>log in</html>".to_vec())],
        ..Script::default()
    })
    .await;
    let error = service.client().graph(&key("c")).await.unwrap_err();
    assert!(matches!(error, Error::Graph { .. }));
    assert!(
        error
            .to_string()
            .contains("whether a proxy answers in its place")
    );
}

#[tokio::test]
async fn endless_answer_is_cut_off() {
    let service = Service::start(Script {
        before: vec![(200, None, vec![b' '; (64 << 20) + 1])],
        ..Script::default()
    })
    .await;
    let error = service.client().graph(&key("c")).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(service.asked().len(), 1);
}

#[tokio::test]
async fn graph_that_fails_is_a_sentence_beside_the_others() {
    let mut script = two_channels();
    script.before = vec![(404, None, vec![])];
    let service = Service::start(script).await;
    let keys = BTreeSet::from([key("stable-4.1"), key("stable-4.2")]);
    let graphs = service.client().graphs(keys).await;
    assert_eq!(graphs.values().filter(|g| g.is_ok()).count(), 1);
}

/// Runs a `releases` verb as the command line would.
async fn run(
    service: &Service,
    args: &[&str],
    sets: &[ImageSet],
) -> Result<ReleasesOutput, ReleasesError> {
    let command = Releases::augment_subcommands(clap::Command::new("releases"));
    let url = service.url();
    let all = ["releases"].iter().chain(args).copied();
    let matches = command
        .try_get_matches_from(all.chain(["--update-url", url.as_str()]))
        .unwrap();
    releases::run(&Releases::from_arg_matches(&matches).unwrap(), sets).await
}

fn json_of(output: &ReleasesOutput) -> Value {
    serde_json::to_value(output).unwrap()
}

#[tokio::test]
async fn list_of_a_channel_has_the_shape_scripts_read() {
    let service = Service::start(two_channels()).await;
    let output = run(&service, &["list", "--channel", "stable-4.2"], &[])
        .await
        .unwrap();
    let listed = |version: &str, arch: &str| json!({"version": version, "channel": "stable-4.2", "arch": arch, "image": payload(version)});
    assert_eq!(
        json_of(&output),
        json!({"schema": 1, "releases": [listed("4.2.1", "amd64")], "conditional": [], "unresolved": [], "warnings": []})
    );
    assert_eq!(
        output.text(),
        format!(
            "VERSION  CHANNEL     ARCH   IMAGE\n4.2.1    stable-4.2  amd64  {}\n",
            payload("4.2.1")
        )
    );
    let args = [
        "list",
        "--channel",
        "stable-4.2",
        "--min",
        "4.1.5",
        "--max",
        "4.2.0",
        "--arch",
        "amd64,aarch64",
    ];
    let output = run(&service, &args, &[]).await.unwrap();
    assert_eq!(
        json_of(&output)["releases"],
        json!([listed("4.2.0", "amd64"), listed("4.2.0", "arm64")])
    );
    let output = run(
        &service,
        &["list", "--channel", "stable-4.2", "--full"],
        &[],
    )
    .await
    .unwrap();
    assert_eq!(json_of(&output)["releases"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn list_without_an_answer_is_an_error_of_a_kind() {
    let service = Service::start(two_channels()).await;
    let args = [
        "list",
        "--channel",
        "stable-4.2",
        "--min",
        "4.1.5",
        "--max",
        "4.1.5",
    ];
    let error = run(&service, &args, &[]).await.unwrap_err();
    assert!(matches!(error, ReleasesError::Precondition(_)));
    assert!(
        error
            .to_string()
            .contains("the nearest versions are 4.1.1 and 4.2.0"),
        "{error}"
    );
    let error = run(&service, &["list", "--channel", "stable-9.9"], &[])
        .await
        .unwrap_err();
    assert!(matches!(error, ReleasesError::Precondition(_)));
    let args = ["list", "--channel", "c", "--min", "4.2.0", "--max", "4.1.0"];
    let error = run(&service, &args, &[]).await.unwrap_err();
    assert!(matches!(error, ReleasesError::Usage(_)));
    service.script.lock().unwrap().before = vec![(404, None, vec![])];
    let error = run(&service, &["list", "--channel", "stable-4.2"], &[])
        .await
        .unwrap_err();
    assert!(matches!(error, ReleasesError::Unavailable(_)));
}

fn set(name: &str, channels: &[&str]) -> ImageSet {
    let channel = |name: &&str| Channel {
        name: (*name).to_owned(),
        channel_type: ChannelType::Ocp,
        min_version: None,
        max_version: None,
        shortest_path: false,
        full: false,
    };
    ImageSet {
        name: SetName(name.to_owned()),
        archive_size: None,
        platform: PlatformSpec {
            channels: channels.iter().map(channel).collect(),
            ..PlatformSpec::default()
        },
        operators: vec![],
        additional_images: vec![],
        helm: Helm::default(),
        blocked_images: vec![],
    }
}

#[tokio::test]
async fn list_of_image_sets_names_each_release_once_and_what_is_missing() {
    let service = Service::start(two_channels()).await;
    let sets = [
        set("a", &["stable-4.1"]),
        set("b", &["stable-4.1", "stable-9.9"]),
    ];
    let output = run(&service, &["list", "-c", "x.yaml"], &sets)
        .await
        .unwrap();
    assert!(output.is_partial());
    let document = json_of(&output);
    assert_eq!(document["releases"].as_array().unwrap().len(), 1);
    assert_eq!(
        document["unresolved"][0]["subject"],
        "b: channel stable-9.9 for amd64"
    );
    assert_eq!(service.asked().len(), 2, "{:?}", service.asked());
}

#[tokio::test]
async fn path_has_the_shape_scripts_read() {
    let service = Service::start(two_channels()).await;
    let args = [
        "path",
        "--channel",
        "stable-4.1",
        "--from",
        "4.1.0",
        "--to",
        "4.1.1",
    ];
    let output = run(&service, &args, &[]).await.unwrap();
    assert_eq!(
        json_of(&output),
        json!({"schema": 1, "path": ["4.1.0", "4.1.1"], "conditional": []})
    );
    assert_eq!(output.text(), "4.1.0\n4.1.1\n");
}

#[tokio::test]
async fn path_across_channels_tells_its_risks_where_they_are_allowed() {
    let service = Service::start(two_channels()).await;
    let args = [
        "path",
        "--channel",
        "stable-4.1",
        "--to-channel",
        "stable-4.2",
        "--from",
        "4.1.0",
        "--to",
        "4.2.1",
    ];
    let error = run(&service, &args, &[]).await.unwrap_err();
    assert!(matches!(error, ReleasesError::Precondition(_)));
    assert!(
        error.to_string().contains("4.2.0 -> 4.2.1 (Leak)"),
        "{error}"
    );
    assert!(
        error.to_string().contains("`--allow-conditional`"),
        "{error}"
    );
    let args = [&args[..], &["--allow-conditional"]].concat();
    let output = run(&service, &args, &[]).await.unwrap();
    assert_eq!(
        json_of(&output),
        json!({"schema": 1, "path": ["4.1.0", "4.1.1", "4.2.0", "4.2.1"],
            "conditional": [{"from": "4.2.0", "to": "4.2.1", "risks": [{"name": "Leak", "url": "https://r", "message": "It may."}]}]})
    );
    assert!(
        output
            .text()
            .ends_with("\n4.2.0 -> 4.2.1 has known risks:\n  Leak: It may.\n    https://r\n")
    );
}

#[tokio::test]
async fn path_asks_for_the_channels_between() {
    let service = Service::start(Script {
        graphs: [
            ("eus-4.2".to_owned(), graph(&["4.2.0"], &[], &[])),
            (
                "stable-4.3".to_owned(),
                graph(&["4.2.0", "4.3.0"], &[[0, 1]], &[]),
            ),
            (
                "stable-4.4".to_owned(),
                graph(&["4.3.0", "4.4.0"], &[[0, 1]], &[]),
            ),
        ]
        .into(),
        ..Script::default()
    })
    .await;
    let args = [
        "path",
        "--channel",
        "eus-4.2",
        "--to-channel",
        "stable-4.4",
        "--from",
        "4.2.0",
        "--to",
        "4.4.0",
    ];
    let output = run(&service, &args, &[]).await.unwrap();
    assert_eq!(json_of(&output)["path"], json!(["4.2.0", "4.3.0", "4.4.0"]));
    assert_eq!(
        service.asked(),
        [
            "channel=eus-4.2&arch=amd64",
            "channel=eus-4.3&arch=amd64",
            "channel=stable-4.3&arch=amd64",
            "channel=stable-4.4&arch=amd64"
        ]
    );
}

#[tokio::test]
async fn path_that_is_not_there_says_how_far_one_gets() {
    let service = Service::start(two_channels()).await;
    let path = |to: &'static str| {
        let args = [
            "path",
            "--channel",
            "stable-4.2",
            "--from",
            "4.1.1",
            "--to",
            to,
        ];
        let service = &service;
        async move { run(service, &args, &[]).await.unwrap_err() }
    };
    let text = path("4.2.1").await.to_string();
    assert!(
        text.contains("from 4.1.1 one gets as far as 4.2.0"),
        "{text}"
    );
    let text = path("4.2.7").await.to_string();
    assert!(
        text.contains("no 4.2.7 is there; the nearest version is 4.2.1"),
        "{text}"
    );
}

#[test]
fn either_image_sets_or_a_channel_is_listed() {
    let parse = |args: &[&str]| {
        let command = Releases::augment_subcommands(clap::Command::new("releases"));
        let all = ["releases", "list"].iter().chain(args).copied();
        command.try_get_matches_from(all).is_ok()
    };
    assert!(parse(&["-c", "a.yaml", "-c", "b.yaml"]));
    assert!(parse(&["--channel", "c", "--type", "okd"]));
    assert!(!parse(&[]));
    assert!(!parse(&["-c", "a.yaml", "--channel", "c"]));
    assert!(!parse(&["-c", "a.yaml", "--min", "4.1.0"]));
    assert!(!parse(&["--channel", "c", "--type", "other"]));
    assert!(!parse(&["--channel", "c", "--min", "4.1"]));
}
