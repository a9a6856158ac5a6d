//! Who asks: tokens, their scopes, and where credentials go.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use axum::{body::Body, http::Response};
use futures_util::future::join_all;
use imagesetd::{
    model::image::Digest,
    registry::{Begun, Client, Options},
};

use crate::{
    blob, client, credentials, pieces, plain, read, repository,
    scripted::{Scripted, Seen, answer},
    shown, tag,
};

/// What a registry behind a token service answers to who comes with the token `good-N`, N not less than `oldest`.
fn guarded(
    seen: &Seen,
    host: &str,
    oldest: usize,
    open: impl Fn(&Seen) -> Response<Body>,
) -> Response<Body> {
    let number = seen
        .authorization()
        .and_then(|a| a.strip_prefix("Bearer good-")?.parse::<usize>().ok());
    if number.is_some_and(|n| n >= oldest) {
        return open(seen);
    }
    let challenge =
        format!(r#"Bearer realm="http://{host}/token",service="reg",scope="repository:a:pull""#);
    answer(401, &[("www-authenticate", &challenge)], "")
}

fn head_ok() -> Response<Body> {
    let digest = Digest::of(b"x").to_string();
    answer(200, &[("docker-content-digest", &digest)], "")
}

/// A registry with a token service, whose first tokens are refused from the moment `oldest` is raised.
async fn with_tokens(oldest: Arc<AtomicUsize>, expires_in: u64) -> Scripted {
    let issued = Arc::new(AtomicUsize::new(0));
    Scripted::start(move |seen: &Seen, host: &str| {
        if seen.line.contains("/token") {
            let n = issued.fetch_add(1, SeqCst);
            let body = format!(r#"{{"token":"good-{n}","expires_in":{expires_in}}}"#);
            return answer(200, &[], body);
        }
        guarded(seen, host, oldest.load(SeqCst), |seen| match &seen.line {
            line if line.starts_with("POST") => {
                answer(202, &[("location", "/upload?_state=x%3D")], "")
            }
            line if line.starts_with("PUT") => answer(201, &[], ""),
            line if line.contains("/blobs/") => answer(200, &[], "layer"),
            _ => head_ok(),
        })
    })
    .await
}

fn count(server: &Scripted, begins: &str) -> usize {
    server
        .lines()
        .iter()
        .filter(|l| l.starts_with(begins))
        .count()
}

async fn look(client: &Client, host: &str) {
    let found = client.head(&repository(host, "a"), &tag("v1")).await;
    assert_eq!(found.unwrap().unwrap().digest, Digest::of(b"x"));
}

#[tokio::test]
async fn many_at_once_cost_one_question_and_one_token() {
    let server = with_tokens(Arc::default(), 300).await;
    let client = client(plain());
    join_all((0..32).map(|_| look(&client, &server.host))).await;
    assert_eq!(count(&server, "GET /token"), 1);
    // One that is refused and learns, then one for each.
    assert_eq!(count(&server, "HEAD"), 33);
    look(&client, &server.host).await;
    assert_eq!(server.lines().len(), 35);
    assert_eq!(
        server.lines()[1],
        "GET /token?service=reg&scope=repository%3Aa%3Apull"
    );
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once_by_all_who_had_it() {
    let oldest = Arc::new(AtomicUsize::new(0));
    let server = with_tokens(oldest.clone(), 300).await;
    let client = client(plain());
    look(&client, &server.host).await;
    oldest.store(1, SeqCst);
    join_all((0..8).map(|_| look(&client, &server.host))).await;
    assert_eq!(count(&server, "GET /token"), 2);
    let (bytes, error) = read(&client, &repository(&server.host, "a"), &blob(b"layer")).await;
    assert!(error.is_none() && bytes == b"layer");
    oldest.store(2, SeqCst);
    let (bytes, error) = read(&client, &repository(&server.host, "a"), &blob(b"layer")).await;
    assert!(error.is_none() && bytes == b"layer");
    assert_eq!(count(&server, "GET /token"), 3);
}

#[tokio::test]
async fn a_token_near_its_end_is_renewed_before_it_is_refused() {
    let server = with_tokens(Arc::default(), 1).await;
    let client = client(plain());
    look(&client, &server.host).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    look(&client, &server.host).await;
    assert_eq!(count(&server, "GET /token"), 2);
    // The one refusal is the very first request's.
    assert_eq!(count(&server, "HEAD"), 3);
}

#[tokio::test]
async fn a_registry_that_always_refuses_ends_the_matter() {
    let server = with_tokens(Arc::new(AtomicUsize::new(usize::MAX)), 300).await;
    let client = client(plain());
    let error = client
        .head(&repository(&server.host, "a"), &tag("v1"))
        .await
        .unwrap_err();
    assert!(
        error.is_authentication() && !error.is_transient(),
        "{error}"
    );
    assert_eq!(server.lines().len(), 3);
    // The token it has is refused, and so is a new one.
    let error = client
        .head(&repository(&server.host, "a"), &tag("v1"))
        .await
        .unwrap_err();
    assert!(error.is_authentication());
    assert!(server.lines().len() <= 7, "{:?}", server.lines());
    assert!(!shown(&error).contains("good-"));
}

#[tokio::test]
async fn an_upload_whose_token_ran_out_says_that_it_can_be_repeated() {
    let oldest = Arc::new(AtomicUsize::new(0));
    let server = with_tokens(oldest.clone(), 300).await;
    let (client, a) = (client(plain()), repository(&server.host, "a"));
    let begin = async || match client.begin_upload(&a, None).await.unwrap() {
        Begun::Upload(upload) => upload,
        Begun::Mounted | Begun::Taken => panic!("nothing was to be mounted"),
    };
    let upload = begin().await;
    oldest.store(1, SeqCst);
    let error = client
        .upload(&upload, &blob(b"layer"), pieces(b"layer", 9))
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    client
        .upload(&begin().await, &blob(b"layer"), pieces(b"layer", 9))
        .await
        .unwrap();
    let put = server
        .seen()
        .into_iter()
        .rfind(|s| s.line.starts_with("PUT"))
        .unwrap();
    let digest = Digest::of(b"layer");
    assert_eq!(put.line, format!("PUT /upload?_state=x%3D&digest={digest}"));
    assert_eq!(put.headers["content-length"], "5");
    assert_eq!(put.body.as_deref(), Some(&b"layer"[..]));
    let post = server
        .seen()
        .into_iter()
        .find(|s| s.line.starts_with("POST"))
        .unwrap();
    assert_eq!(post.headers["content-length"], "0");
}

#[tokio::test]
async fn a_mount_asks_one_token_for_both_repositories() {
    let server = with_tokens(Arc::default(), 300).await;
    let client = client(plain());
    let (a, b) = (repository(&server.host, "a"), repository(&server.host, "b"));
    client
        .begin_upload(&b, Some((&Digest::of(b"x"), &a)))
        .await
        .unwrap();
    assert_eq!(
        server.lines()[1],
        "GET /token?service=reg&scope=repository%3Aa%3Apull&scope=repository%3Ab%3Apull%2Cpush"
    );
}

#[tokio::test]
async fn a_token_service_is_told_who_asks_and_an_identity_token_is_posted() {
    let server = with_tokens(Arc::default(), 300).await;
    let with = |entry: &str| {
        let text = format!(r#"{{"auths":{{"{}/a":{entry}}}}}"#, server.host);
        client(Options {
            credentials: credentials(&text),
            ..plain()
        })
    };
    look(&with(r#"{"username":"u","password":"p:w"}"#), &server.host).await;
    let asked = &server.seen()[1];
    assert_eq!(asked.authorization(), Some("Basic dTpwOnc="));
    assert!(asked.line.ends_with("&account=u"), "{}", asked.line);

    look(&with(r#"{"identitytoken":"s3cret+/="}"#), &server.host).await;
    let posted = server
        .seen()
        .into_iter()
        .find(|s| s.line == "POST /token")
        .unwrap();
    assert_eq!(posted.authorization(), None);
    assert_eq!(
        String::from_utf8(posted.body.unwrap()).unwrap(),
        "grant_type=refresh_token&refresh_token=s3cret%2B%2F%3D&client_id=imagesetd&service=reg&scope=repository%3Aa%3Apull"
    );
}

#[tokio::test]
async fn a_token_service_that_refuses_is_named_once_for_all_who_waited() {
    let server = Scripted::start(|seen: &Seen, host: &str| {
        if seen.line.contains("/token") {
            return answer(401, &[], r#"{"details":"incorrect username or password"}"#);
        }
        guarded(seen, host, 0, |_| head_ok())
    })
    .await;
    let text = format!(
        r#"{{"auths":{{"{}":{{"username":"u","password":"hunter2"}}}}}}"#,
        server.host
    );
    let client = client(Options {
        credentials: credentials(&text),
        ..plain()
    });
    let a = repository(&server.host, "a");
    let error = client.head(&a, &tag("v1")).await.unwrap_err();
    assert!(error.is_authentication() && !error.is_not_found() && !error.is_transient());
    let begin = format!(
        "asking {0} for a token for {0}/a: {0} answered 401 Unauthorized (incorrect username or password); it was asked with the entry `{0}` of ",
        server.host
    );
    assert!(error.to_string().starts_with(&begin), "{error}");
    assert!(!shown(&error).contains("hunter2"));
}

#[tokio::test]
async fn a_token_service_that_fails_for_a_moment_is_asked_again() {
    let failures = Arc::new(AtomicUsize::new(0));
    let server = Scripted::start(move |seen: &Seen, host: &str| {
        if !seen.line.contains("/token") {
            return guarded(seen, host, 0, |_| head_ok());
        }
        match failures.fetch_add(1, SeqCst) {
            0 => answer(503, &[("retry-after", "0")], ""),
            _ => answer(200, &[], r#"{"access_token":"good-0"}"#),
        }
    })
    .await;
    look(&client(plain()), &server.host).await;
    assert_eq!(count(&server, "GET /token"), 2);
}

#[tokio::test]
async fn a_password_is_tried_once_and_its_absence_not_at_all() {
    let server = Scripted::start(|_: &Seen, _: &str| {
        answer(401, &[("www-authenticate", "Basic realm=\"x\"")], "")
    })
    .await;
    let a = repository(&server.host, "a");
    let nobody = client(plain()).tags(&a).await.unwrap_err();
    assert!(nobody.is_authentication());
    assert_eq!(server.lines().len(), 1);
    let text = format!(
        r#"{{"auths":{{"{}":{{"username":"u","password":"hunter2"}}}}}}"#,
        server.host
    );
    let wrong = client(Options {
        credentials: credentials(&text),
        ..plain()
    });
    assert!(wrong.tags(&a).await.unwrap_err().is_authentication());
    assert_eq!(server.lines().len(), 3, "one that asks, one that says who");
    // Many wrong passwords lock accounts: what is known to be asked for is sent once a call.
    assert!(wrong.tags(&a).await.unwrap_err().is_authentication());
    assert_eq!(server.lines().len(), 4);
}

#[tokio::test]
async fn credentials_are_not_carried_to_another_host() {
    let elsewhere = Scripted::start(|seen: &Seen, _: &str| match &seen.line {
        line if line.starts_with("PUT") => answer(201, &[], ""),
        _ => answer(200, &[], "layer"),
    })
    .await;
    let away = elsewhere.host.clone();
    let server = Scripted::start(move |seen: &Seen, _: &str| {
        let to = format!("http://{away}/store?signature=hunter3");
        match (seen.authorization(), &seen.line) {
            (None, _) => answer(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
            (_, line) if line.starts_with("POST") => answer(202, &[("location", &to)], ""),
            _ => answer(307, &[("location", &to)], ""),
        }
    })
    .await;
    let text = format!(
        r#"{{"auths":{{"{}":{{"username":"u","password":"hunter2"}}}}}}"#,
        server.host
    );
    let client = client(Options {
        credentials: credentials(&text),
        ..plain()
    });
    let a = repository(&server.host, "a");
    assert_eq!(read(&client, &a, &blob(b"layer")).await.0, b"layer");
    let Begun::Upload(upload) = client.begin_upload(&a, None).await.unwrap() else {
        panic!("nothing was to be mounted");
    };
    client
        .upload(&upload, &blob(b"layer"), pieces(b"layer", 2))
        .await
        .unwrap();
    let seen = elsewhere.seen();
    assert_eq!(seen.len(), 2);
    for request in &seen {
        assert_eq!(request.authorization(), None, "{}", request.line);
        assert!(!request.headers.contains_key("referer"));
    }
    assert!(
        seen[1].line.contains("signature=hunter3&digest=sha256:"),
        "{}",
        seen[1].line
    );
}
