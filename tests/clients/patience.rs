//! A daemon that hangs, or an address behind which nothing answers, must not hold a script for ever.

use std::{
    net::TcpListener,
    os::unix::net::UnixListener,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::site::{Plot, Site};

/// Asks at an endpoint; returns exit code and error.
fn ask(endpoint: &str, line: &str) -> (Option<i32>, String, String) {
    let answer = Command::new(env!("CARGO_BIN_EXE_imagesetd"))
        .args(line.split(' '))
        .args(["--output", "json"])
        .env_clear()
        .env("IMAGESETD_ENDPOINT", endpoint)
        .env("IMAGESETD_REQUEST_TIMEOUT", "3s")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let word = |name: &str| document["error"][name].as_str().unwrap().to_owned();
    (answer.status.code(), word("code"), word("message"))
}

#[test]
fn a_daemon_that_never_answers_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.sock");
    // The kernel takes connections for who listens; nobody ever looks at them.
    let _socket = UnixListener::bind(&path).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let socket = format!("unix://{}", path.display());
    for endpoint in [socket.clone(), format!("http://127.0.0.1:{port}")] {
        let (exit, code, message) = ask(&endpoint, "status");
        assert_eq!((exit, code.as_str()), (Some(5), "REQUEST_TIMED_OUT"));
        assert_eq!(
            message,
            format!(
                "the daemon at {endpoint} did not answer within 3s; does it hang, or has it too much to do? --request-timeout waits longer"
            )
        );
    }
    // A plan may take long, so it is signs of life that count.
    let (exit, code, message) = ask(&socket, "plan");
    assert_eq!(
        (exit, code.as_str()),
        (Some(5), "CONNECTION_LOST"),
        "{message}"
    );
    let https = format!("https://127.0.0.1:{port}");
    // Some machines have no authorities of their own, and the handshake is not come to there.
    let ca = folder.path().join("ca.pem");
    let authority = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&ca, authority.cert.pem()).unwrap();
    let status = format!("status --ca-file {}", ca.display());
    let (exit, code, message) = ask(&https, &status);
    assert_eq!((exit, code.as_str()), (Some(5), "DAEMON_UNREACHABLE"));
    assert_eq!(
        message,
        format!(
            "no daemon answers at {https}: nothing came back within 4.5s; is it running, and does --endpoint name where it listens?"
        )
    );
    // Who waits asks again until the time is up.
    let (exit, code, _) = ask(&socket, "status --wait ready --timeout 8s");
    assert_eq!((exit, code.as_str()), (Some(5), "DAEMON_UNREACHABLE"));
}

#[test]
fn a_run_may_take_longer_than_an_answer() {
    let files = [(
        "slow.yaml",
        "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  additionalImages:\n  - name: GATE/team/slow:v1\n",
    )];
    let plot = Plot {
        settings: "apply: manual\n",
        ..Plot::default()
    };
    let site = Site::new(&files, &plot);
    let answer = site.cli("apply slow --request-timeout 10s --timeout 15s --output json");
    let document: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(answer.status.code(), Some(7), "{document}");
    assert_eq!(document["run"]["state"], "running");
}
