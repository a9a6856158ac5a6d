//! Who may do what: grpcurl, Python and the command line, by certificate, by token, by nothing.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tonic::Code;

use crate::{
    house::{House, Refusal, SERVICE, Shown, imagesetd, said},
    pki::Ca,
    support::tool,
};

fn reason(answer: Result<Value, Refusal>) -> (u64, String) {
    let refusal = answer.unwrap_err();
    (refusal.code, refusal.reason)
}

fn denied() -> (u64, String) {
    (Code::PermissionDenied as u64, "RIGHTS_MISSING".to_owned())
}

fn unknown(reason: &str) -> (u64, String) {
    (Code::Unauthenticated as u64, reason.to_owned())
}

/// What an applier is told of a plan that is not there: the call came through.
fn came_through() -> (u64, String) {
    (Code::NotFound as u64, "PLAN_NOT_FOUND".to_owned())
}

const NO_PLAN: &str = r#"{"plan_id": "77"}"#;

#[test]
fn a_client_certificate_gives_the_rights_of_its_names() {
    let house = House::open();
    let by = |name: &str, alternative: &str| Shown::pair(house.ca.sign(name, alternative));
    let ansible = by("ansible", "");
    assert!(house.call(&ansible, "GetStatus").is_ok());
    assert_eq!(
        reason(house.call_with(&ansible, "ApplyPlan", NO_PLAN)),
        came_through()
    );
    assert_eq!(
        house
            .call_with(&ansible, "RetireResources", r#"{"image_set": "a"}"#)
            .unwrap_err(),
        Refusal {
            code: Code::PermissionDenied as u64,
            reason: "RIGHTS_MISSING".to_owned(),
            message: "certificate ansible has the right `apply` here, and RetireResources needs `admin`; rights are given in the daemon's settings (clients.certificates)".to_owned(),
        }
    );
    let monitor = by("m", "DNS:monitor.test");
    assert!(house.call(&monitor, "GetStatus").is_ok());
    assert_eq!(
        reason(house.call_with(&monitor, "ApplyPlan", NO_PLAN)),
        denied()
    );
    let planner = by("p", "URI:spiffe://site/planner");
    assert!(house.call(&planner, "CreatePlan").is_ok());
    assert_eq!(
        reason(house.call_with(&planner, "ApplyPlan", NO_PLAN)),
        denied()
    );
    let foreign = Ca::new(house.path("foreign")).sign("ansible", "");
    assert_eq!(
        reason(house.call(&Shown::pair(foreign), "GetStatus")),
        unknown("CERTIFICATE_REFUSED")
    );
    let nobody = by("nobody", "DNS:ansible.test");
    assert_eq!(
        house.call(&nobody, "GetStatus").unwrap_err().message,
        "certificate nobody has no rights here, and GetStatus needs `read`; rights are given in the daemon's settings (clients.certificates)"
    );
}

#[test]
fn a_token_gives_its_rights_and_none_gives_none() {
    let house = House::open();
    let with = |name: &str| Shown::token(house.token_file(name));
    assert!(house.call(&with("reader"), "GetStatus").is_ok());
    assert_eq!(
        reason(house.call_with(&with("reader"), "ApplyPlan", NO_PLAN)),
        denied()
    );
    assert_eq!(reason(house.call(&with("reader"), "CreatePlan")), denied());
    assert!(house.call(&with("planner"), "CreatePlan").is_ok());
    assert_eq!(
        reason(house.call_with(&with("planner"), "ApplyPlan", NO_PLAN)),
        denied()
    );
    assert_eq!(
        reason(house.call_with(&with("applier"), "ApplyPlan", NO_PLAN)),
        came_through()
    );
    for rpc in ["GetStatus", "ApplyPlan", "NoSuchCall"] {
        if rpc != "NoSuchCall" {
            assert_eq!(
                reason(house.call(&Shown::nothing(), rpc)),
                unknown("NO_CREDENTIALS")
            );
        }
    }
    fs::write(house.token_file("stranger"), "imagesetd_00").unwrap();
    assert_eq!(
        reason(house.call(&with("stranger"), "GetStatus")),
        unknown("TOKEN_REFUSED")
    );
    // A token counts for more than a certificate, for less rights and for none.
    let pair = house.ca.sign("ansible", "");
    let both = |name: &str| Shown {
        pair: Some(pair.clone()),
        ..with(name)
    };
    assert_eq!(
        reason(house.call_with(&both("reader"), "ApplyPlan", NO_PLAN)),
        denied()
    );
    assert_eq!(
        reason(house.call(&both("stranger"), "GetStatus")),
        unknown("TOKEN_REFUSED")
    );
}

#[test]
fn health_is_for_all_and_the_description_for_readers() {
    let house = House::open();
    let health = house.grpcurl(&Shown::nothing(), "grpc.health.v1.Health/Check", "{}");
    assert_eq!(health, Ok(json!({"status": "SERVING"})));
    let list = |with: &[&str]| {
        Command::new(tool::find("grpcurl"))
            .arg("-cacert")
            .arg(house.ca.cert())
            .args(with)
            .arg(format!("127.0.0.1:{}", house.tls))
            .arg("list")
            .output()
            .unwrap()
    };
    let refused = said(&list(&[]));
    assert!(
        refused.contains("nothing says who calls; send a bearer token"),
        "{refused}"
    );
    let token = fs::read_to_string(house.token_file("reader")).unwrap();
    let told = list(&["-H", &format!("authorization: Bearer {}", token.trim())]);
    assert!(said(&told).lines().any(|line| line == SERVICE), "{told:?}");
}

#[test]
fn the_command_line_shows_what_it_has_and_says_what_it_lacks() {
    let house = House::open();
    let https = house.https();
    let code = |line: &str| house.cli(&https, line).status.code();
    let token = |name: &str| format!("--token-file {}", house.token_file(name).display());
    assert_eq!(code(&format!("status {}", token("reader"))), Some(0));
    let refused = house.cli(&https, &format!("apply 77 {} -o json", token("reader")));
    let document: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(
        (refused.status.code(), &document["error"]),
        (
            Some(4),
            &json!({
                "code": "RIGHTS_MISSING", "grpc_code": "PERMISSION_DENIED",
                "message": "token reader has the right `read` here, and ApplyPlan needs `apply`; rights are given in the daemon's settings (the tokens file)",
                "details": {},
            })
        )
    );
    assert_eq!(code("status"), Some(4));
    let pair = house.ca.sign("ansible", "");
    let shows = |pair: &crate::pki::Pair| {
        format!(
            "status --client-cert {} --client-key {}",
            pair.cert.display(),
            pair.key.display()
        )
    };
    assert_eq!(code(&shows(&pair)), Some(0));
    let foreign = Ca::new(house.path("foreign")).sign("ansible", "");
    let refused = house.cli(&https, &shows(&foreign));
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    assert_eq!(
        said(&refused),
        "error: the client certificate is not accepted (invalid peer certificate: BadSignature); it has to be of the daemon's `client_ca_file`, and within its time\n"
    );
    let secret = fs::read_to_string(house.token_file("reader")).unwrap();
    let by_environment = imagesetd()
        .arg("status")
        .env("IMAGESETD_ENDPOINT", &https)
        .env("IMAGESETD_CA_FILE", house.ca.cert())
        .env("IMAGESETD_TOKEN", secret.trim())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(by_environment.status.success(), "{}", said(&by_environment));
}

#[test]
fn python_comes_in_with_a_token_and_with_a_certificate() {
    let house = House::open();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/client.py");
    let call = |with: &[(&str, &Path)], method: &str| -> Value {
        let output = Command::new(tool::find_installed("python-grpc"))
            .arg(&script)
            .args([&format!("127.0.0.1:{}", house.tls), method, NO_PLAN])
            .env("CA_FILE", house.ca.cert())
            .envs(with.iter().copied())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)))
    };
    let code = |answer: &Value| (answer["code"].clone(), answer["reason"].clone());
    let reader = house.token_file("reader");
    let refused = call(&[("TOKEN_FILE", &reader)], "ApplyPlan");
    assert_eq!(
        code(&refused),
        (json!("PERMISSION_DENIED"), json!("RIGHTS_MISSING"))
    );
    assert_eq!(
        refused["details"],
        json!([{"reason": "RIGHTS_MISSING", "domain": "imagesetd"}])
    );
    let pair = house.ca.sign("ansible", "");
    let with = [
        ("CLIENT_CERT", pair.cert.as_path()),
        ("CLIENT_KEY", pair.key.as_path()),
    ];
    assert_eq!(
        code(&call(&with, "ApplyPlan")),
        (json!("NOT_FOUND"), json!("PLAN_NOT_FOUND"))
    );
}

#[test]
fn on_this_machine_a_token_is_asked_for_once_there_are_any() {
    let house = House::open();
    let plain = format!("http://127.0.0.1:{}", house.plain);
    assert_eq!(house.cli(&plain, "status").status.code(), Some(4));
    let line = format!(
        "status --token-file {}",
        house.token_file("reader").display()
    );
    assert_eq!(house.cli(&plain, &line).status.code(), Some(0));
    let stranger = house.path("stranger.token");
    fs::write(&stranger, "imagesetd_00").unwrap();
    let line = format!("status --token-file {}", stranger.display());
    // A token that is not known is refused where nobody would need one, too.
    assert_eq!(house.cli(&house.socket(), &line).status.code(), Some(4));
    assert_eq!(house.cli(&house.socket(), "status").status.code(), Some(0));
}

#[test]
fn users_of_the_socket_have_the_rights_of_their_entry() {
    let mut house = House::new();
    let uid = nix::unistd::geteuid();
    house.settings(&format!(
        "listen: ['unix://{}', {{address: 'tcp://127.0.0.1:{}', unnamed: plan}}]\nclients: {{peers: [{{uid: {uid}, rights: read}}]}}\n",
        house.path("d.sock").display(),
        house.plain,
    ));
    house.start();
    let refused = house.cli(&house.socket(), "apply 77");
    assert_eq!(refused.status.code(), Some(4));
    let user = nix::unistd::User::from_uid(uid).unwrap().unwrap().name;
    assert_eq!(
        said(&refused),
        format!(
            "error: user {user} has the right `read` here, and ApplyPlan needs `apply`; rights are given in the daemon's settings (clients.peers)\n"
        )
    );
    let plain = format!("http://127.0.0.1:{}", house.plain);
    assert_eq!(house.cli(&plain, "plan").status.code(), Some(0));
    let refused = house.cli(&plain, "apply 77");
    assert_eq!(
        said(&refused),
        "error: unnamed has the right `plan` here, and ApplyPlan needs `apply`; rights are given in the daemon's settings (listen[].unnamed)\n"
    );
}
