//! Answers that are wrong, late, too long, or not there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{body::Body, http::Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use imagesetd::{
    model::{image::Digest, manifest::MAX_MANIFEST_BYTES},
    registry::{Begun, Error, Fault, Options, Problem, Selector, Timeouts},
};

use crate::{
    blob, client, index, manifest, pieces, plain, read, repository,
    scripted::{Scripted, Seen, answer},
    shown, tag,
};

/// How long nothing may come in tests of slow servers: twenty times what lies between two pieces, so that a busy machine makes
/// none of them silent.
const IDLE: Duration = Duration::from_secs(2);

/// Pieces of one byte that take longer altogether than [`IDLE`].
const SLOW: usize = 23;

fn slow() -> impl stream::Stream<Item = Bytes> + Send + 'static {
    stream::unfold(0, |n| async move {
        tokio::time::sleep(IDLE / 20).await;
        (n < SLOW).then(|| (Bytes::from_static(b"x"), n + 1))
    })
}

/// A client for which silence begins after this long.
fn patient_for(idle: Duration) -> imagesetd::registry::Client {
    client(Options {
        timeouts: Timeouts {
            idle,
            ..Timeouts::default()
        },
        ..plain()
    })
}

/// A body of these pieces, then, where `breaks`, an end in mid-air.
fn body(parts: &[&[u8]], breaks: bool) -> Body {
    let parts: Vec<Result<Bytes, std::io::Error>> = parts
        .iter()
        .map(|p| Ok(Bytes::copy_from_slice(p)))
        .collect();
    let cut = stream::once(async {
        // What is there is sent before the end comes.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("cut"))
    });
    Body::from_stream(stream::iter(parts).chain(cut.take(usize::from(breaks))))
}

async fn serving(f: impl Fn(&Seen) -> Response<Body> + Clone + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |seen: &Seen, _: &str| f(seen)).await
}

fn problem(error: Option<Error>) -> Problem {
    match error {
        Some(Error::Answer { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_error_that_may_pass() {
    let server = serving(|_| answer(200, &[], body(&[b"0123", b"4567"], false))).await;
    let (got, error) = read(
        &client(plain()),
        &repository(&server.host, "a"),
        &blob(b"0123456789"),
    )
    .await;
    assert!(error.as_ref().unwrap().is_transient());
    assert_eq!(
        problem(error),
        Problem::Truncated {
            got: 8,
            expected: 10
        }
    );
    assert_eq!(got, b"01234567");

    let server =
        serving(|_| answer(200, &[("content-length", "10")], body(&[b"0123"], true))).await;
    let (_, error) = read(
        &client(plain()),
        &repository(&server.host, "a"),
        &blob(b"0123456789"),
    )
    .await;
    let error = error.unwrap();
    assert!(
        matches!(
            error,
            Error::Unreachable {
                fault: Fault::Broken,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.is_transient());
    let asked: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| seen.headers.get("range").cloned())
        .collect();
    let rest = Some("bytes=4-".parse().unwrap());
    assert_eq!(asked, [None, rest.clone(), rest], "and then no more");
}

/// Serves `0123456789` in such a way that the first answer breaks after four bytes; the others are up to `answer`.
async fn broken_once(
    answers: impl Fn(&str) -> Response<Body> + Clone + Send + Sync + 'static,
) -> Scripted {
    serving(move |seen| match seen.headers.get("range") {
        None => answer(200, &[("content-length", "10")], body(&[b"0123"], true)),
        Some(range) => answers(range.to_str().unwrap()),
    })
    .await
}

#[tokio::test]
async fn a_download_goes_on_where_it_broke_and_the_digest_is_of_the_whole() {
    let part = |range: &str, parts: &'static [&'static [u8]]| {
        answer(206, &[("content-range", range)], body(parts, false))
    };
    let server = broken_once(move |_| part("bytes 4-9/10", &[b"456", b"789"])).await;
    let a = repository(&server.host, "a");
    let (got, error) = read(&client(plain()), &a, &blob(b"0123456789")).await;
    assert!(error.is_none() && got == b"0123456789", "{error:?} {got:?}");
    assert_eq!(server.lines().len(), 2);

    // A server that knows no ranges sends all of it again.
    let server = broken_once(|_| answer(200, &[], body(&[b"01", b"23456", b"789"], false))).await;
    let a = repository(&server.host, "a");
    let (got, error) = read(&client(plain()), &a, &blob(b"0123456789")).await;
    assert!(error.is_none() && got == b"0123456789", "{error:?} {got:?}");

    // Two halves of two different things are not one thing.
    let server = broken_once(move |_| part("bytes 4-9/10", &[b"XXXXXX"])).await;
    let a = repository(&server.host, "a");
    let (got, error) = read(&client(plain()), &a, &blob(b"0123456789")).await;
    assert_eq!(got, b"0123");
    assert!(matches!(problem(error), Problem::WrongDigest { .. }));
}

#[tokio::test]
async fn another_part_than_was_asked_for_is_refused() {
    for wrong in [
        "bytes 0-9/10",
        "bytes 5-9/10",
        "bytes 4-9/11",
        "bytes 4-9/*",
        "",
    ] {
        let server = broken_once(move |_| answer(206, &[("content-range", wrong)], "456789")).await;
        let a = repository(&server.host, "a");
        let (got, error) = read(&client(plain()), &a, &blob(b"0123456789")).await;
        assert_eq!(got, b"0123", "{wrong}");
        assert_eq!(problem(error), Problem::WrongRange { from: 4 }, "{wrong}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_after_its_last_byte_is_whole() {
    let server = serving(|_| answer(200, &[], body(&[b"0123456789"], true))).await;
    let a = repository(&server.host, "a");
    let (got, error) = read(&client(plain()), &a, &blob(b"0123456789")).await;
    assert!(error.is_none() && got == b"0123456789", "{error:?}");
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_lost_after_the_body_is_looked_up_before_anything_is_sent_again() {
    for (there, expected) in [(200, true), (404, false)] {
        let server = serving(move |seen| match seen.line.split(' ').next().unwrap() {
            "POST" => answer(202, &[("location", "/up")], ""),
            "HEAD" => answer(there, &[], ""),
            _ => answer(504, &[], ""),
        })
        .await;
        let (client, a) = (client(plain()), repository(&server.host, "a"));
        let Begun::Upload(upload) = client.begin_upload(&a, None).await.unwrap() else {
            panic!("nothing was to be mounted");
        };
        let blob = blob(b"layer");
        let sent = client.upload(&upload, &blob, pieces(b"layer", 2)).await;
        assert_eq!(sent.is_ok(), expected, "{sent:?}");
        let asked = format!("HEAD /v2/a/blobs/{}", blob.digest);
        assert_eq!(server.lines()[2..], [asked]);
    }
}

#[tokio::test]
async fn a_list_of_repositories_saves_questions_and_is_never_needed() {
    let server = serving(|seen| {
        let link = [("link", r#"</v2/_catalog?last=b>; rel="next""#)];
        match seen.line.as_str() {
            "GET /v2/_catalog?n=1000" => answer(200, &link, r#"{"repositories":["b"]}"#),
            "GET /v2/_catalog?last=b" => answer(200, &[], r#"{"repositories":["c/d"]}"#),
            line => panic!("{line}"),
        }
    })
    .await;
    let (client, a) = (client(plain()), repository(&server.host, "a"));
    let found = client.repositories(&a, 2).await.unwrap();
    assert_eq!(
        found.iter().map(String::as_str).collect::<Vec<_>>(),
        ["b", "c/d"]
    );
    assert_eq!(
        client.repositories(&a, 1).await,
        None,
        "there are more pages than that"
    );
}

#[tokio::test]
async fn a_registry_that_keeps_its_repositories_to_itself_is_asked_once() {
    for (status, body) in [(401, ""), (403, ""), (404, ""), (405, ""), (200, "<html>")] {
        let server = serving(move |_| answer(status, &[], body)).await;
        let (client, a) = (client(plain()), repository(&server.host, "a"));
        assert_eq!(client.repositories(&a, 9).await, None);
        assert_eq!(client.repositories(&a, 9).await, None);
        assert_eq!(server.lines().len(), 1, "{status}");
    }
    let server = serving(|_| answer(500, &[], "")).await;
    let a = repository(&server.host, "a");
    assert_eq!(client(plain()).repositories(&a, 9).await, None);
    assert_eq!(
        server.lines().len(),
        1,
        "what it would save is not worth another try"
    );
}

#[tokio::test]
async fn a_blob_goes_with_the_question_where_the_registry_takes_it() {
    let server = serving(|seen| match seen.line.contains("/takes/") {
        true => answer(201, &[], ""),
        false => answer(202, &[("location", "/up")], ""),
    })
    .await;
    let blob = blob(b"layer");
    for (path, taken) in [
        ("takes/a", true),
        ("ignores/a", false),
        ("ignores/b", false),
    ] {
        let client = client(plain());
        let a = repository(&server.host, path);
        let registry = a.registry();
        assert!(client.takes_at_once(registry, 1) && !client.takes_at_once(registry, 1 << 20));
        let begun = client.upload_at_once(&a, &blob, pieces(b"layer", 2)).await;
        assert_eq!(matches!(begun.unwrap(), Begun::Taken), taken);
        assert_eq!(client.takes_at_once(registry, 1 << 30), taken);
        assert_eq!(client.takes_at_once(registry, 1), taken);
    }
}

#[tokio::test]
async fn the_last_piece_of_wrong_bytes_is_never_handed_over() {
    let server = serving(|_| answer(200, &[], body(&[b"01234", b"5678X"], false))).await;
    let (got, error) = read(
        &client(plain()),
        &repository(&server.host, "a"),
        &blob(b"0123456789"),
    )
    .await;
    let expected = Digest::of(b"0123456789");
    assert_eq!(
        problem(error),
        Problem::WrongDigest {
            expected,
            encoding: None
        }
    );
    assert_eq!(got, b"01234");
}

#[tokio::test]
async fn a_longer_body_is_cut_off_before_its_last_right_piece() {
    let server = serving(|_| answer(200, &[], body(&[b"01234", b"56789", b"!"], false))).await;
    let (got, error) = read(
        &client(plain()),
        &repository(&server.host, "a"),
        &blob(b"0123456789"),
    )
    .await;
    let expected = Problem::WrongLength {
        got: 11,
        expected: 10,
        encoding: None,
    };
    assert_eq!(problem(error), expected);
    assert_eq!(got, b"01234");
}

#[tokio::test]
async fn a_corrupt_download_makes_the_upload_it_feeds_fail() {
    let source = serving(|_| answer(200, &[], body(&[b"01234", b"5678X"], false))).await;
    let target = serving(|seen| match seen.line.starts_with("POST") {
        true => answer(202, &[("location", "/up")], ""),
        false => answer(201, &[], ""),
    })
    .await;
    let client = client(plain());
    let (from, to) = (repository(&source.host, "a"), repository(&target.host, "a"));
    let blob = blob(b"0123456789");
    let Begun::Upload(upload) = client.begin_upload(&to, None).await.unwrap() else {
        panic!("nothing was to be mounted");
    };
    let body = client.blob(&from, &blob).await.unwrap();
    let error = client.upload(&upload, &blob, body).await.unwrap_err();
    // It is the source that is to blame, and the error says so.
    assert!(
        error
            .to_string()
            .starts_with(&format!("reading blob {} of {from}", blob.digest)),
        "{error}"
    );
    assert!(matches!(problem(Some(error)), Problem::WrongDigest { .. }));
    let whole = target
        .seen()
        .into_iter()
        .any(|s| s.line.starts_with("PUT") && s.body.is_some());
    assert!(!whole, "the target got a body that looked whole");
}

#[tokio::test]
async fn a_missing_digest_is_computed_from_the_manifest() {
    let image = manifest(b"{}", &[b"layer"]);
    let (raw, media_type) = (image.raw.clone(), image.media_type.clone());
    let server = serving(move |_| answer(200, &[("content-type", &media_type)], raw.clone())).await;
    let (client, a) = (client(plain()), repository(&server.host, "a"));
    let head = client.head(&a, &tag("v1")).await.unwrap().unwrap();
    assert_eq!(head.digest, image.digest);
    assert_eq!(
        server.lines(),
        ["HEAD /v2/a/manifests/v1", "GET /v2/a/manifests/v1"]
    );
    // What is named by digest needs no second look.
    let name = Selector::Digest(image.digest.clone());
    assert_eq!(
        client.head(&a, &name).await.unwrap().unwrap().digest,
        image.digest
    );
    assert_eq!(server.lines().len(), 3);
}

#[tokio::test]
async fn another_manifest_than_was_asked_for_is_refused() {
    let (image, other) = (manifest(b"{}", &[b"layer"]), index(&[]));
    let (raw, says) = (other.raw.clone(), image.digest.to_string());
    let server = serving(move |_| {
        answer(
            200,
            &[
                ("docker-content-digest", &says),
                ("content-encoding", "gzip"),
            ],
            raw.clone(),
        )
    })
    .await;
    let (client, a) = (client(plain()), repository(&server.host, "a"));
    for name in [tag("v1"), Selector::Digest(image.digest.clone())] {
        let wrong = Problem::WrongDigest {
            expected: image.digest.clone(),
            encoding: Some("gzip".to_owned()),
        };
        assert_eq!(problem(client.manifest(&a, &name).await.err()), wrong);
    }
    let asked = Selector::Digest(other.digest.clone());
    let says_other = Problem::OtherDigest {
        expected: other.digest.clone(),
        got: image.digest.clone(),
    };
    assert_eq!(problem(client.head(&a, &asked).await.err()), says_other);
    assert_eq!(
        problem(client.put_manifest(&a, &tag("v1"), &other).await.err()),
        says_other
    );
    // Nothing asked for may come encoded.
    assert!(
        server
            .seen()
            .iter()
            .all(|s| s.headers["accept-encoding"] == "identity")
    );
}

#[tokio::test]
async fn pages_that_are_no_registrys_are_sentences() {
    let server =
        serving(|_| answer(200, &[("content-type", "text/html")], "<html>log in</html>")).await;
    let (client, a) = (client(plain()), repository(&server.host, "a"));
    let layer = Digest::of(b"layer");
    let read = client.manifest(&a, &tag("v1")).await.unwrap_err();
    assert!(
        read.to_string().contains("the manifest is not readable"),
        "{read}"
    );
    assert!(client.head(&a, &tag("v1")).await.is_err());
    assert!(
        client
            .head(&a, &Selector::Digest(layer.clone()))
            .await
            .is_err()
    );
    assert_eq!(problem(client.tags(&a).await.err()), Problem::NotTags);
    let begun = client.begin_upload(&a, Some((&layer, &a))).await;
    assert!(matches!(problem(begun.err()), Problem::Unexpected(status) if status == 200));
}

#[tokio::test]
async fn an_upload_without_a_location_is_a_sentence() {
    let server = serving(|_| answer(202, &[], "")).await;
    let begun = client(plain())
        .begin_upload(&repository(&server.host, "a"), None)
        .await;
    assert_eq!(problem(begun.err()), Problem::NoLocation);
}

#[tokio::test]
async fn a_mount_that_is_refused_outright_is_asked_as_an_upload() {
    let server = serving(|seen| match seen.line.contains("mount=") {
        true => answer(405, &[], ""),
        false => answer(202, &[("location", "/up")], ""),
    })
    .await;
    let (client, a) = (client(plain()), repository(&server.host, "a"));
    let begun = client
        .begin_upload(&a, Some((&Digest::of(b"x"), &a)))
        .await
        .unwrap();
    assert!(matches!(begun, Begun::Upload(_)));
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn a_manifest_larger_than_manifests_are_is_not_read() {
    let server = serving(|seen| match seen.line.contains("announced") {
        true => answer(200, &[], vec![b' '; MAX_MANIFEST_BYTES + 1]),
        false => answer(
            200,
            &[],
            body(&[&vec![b' '; MAX_MANIFEST_BYTES + 1]], false),
        ),
    })
    .await;
    let (client, a) = (client(plain()), repository(&server.host, "a"));
    for name in ["announced", "unannounced"] {
        let error = client.manifest(&a, &tag(name)).await.err();
        let limit = MAX_MANIFEST_BYTES;
        assert_eq!(problem(error), Problem::TooLarge { limit }, "{name}");
    }
}

#[tokio::test]
async fn tags_are_gathered_over_pages_and_a_loop_ends() {
    let server = serving(|seen| {
        let page = |tags: &str, next: &str| {
            let link = format!("<{next}>; rel=\"next\"");
            answer(200, &[("link", &link)], format!(r#"{{"tags":[{tags}]}}"#))
        };
        match seen.line.as_str() {
            "GET /v2/a/tags/list?n=1000" => page(r#""c","b""#, "/v2/a/tags/list?last=b"),
            "GET /v2/a/tags/list?last=b" => answer(200, &[], r#"{"tags":["a","b"]}"#),
            "GET /v2/loop/tags/list?n=1000" => page(r#""x""#, "?n=1000"),
            line if line.contains("/grow/") => page(r#""x""#, &format!("{}x", &line[4..])),
            line if line.contains("/away/") => page("", "http://evil.lan/steal"),
            line => panic!("{line}"),
        }
    })
    .await;
    let client = client(plain());
    let tags = async |path: &str| client.tags(&repository(&server.host, path)).await;
    assert_eq!(
        format!("{:?}", tags("a").await.unwrap().unwrap()),
        "[a, b, c]"
    );
    assert_eq!(problem(tags("loop").await.err()), Problem::EndlessPages(1));
    assert_eq!(problem(tags("grow").await.err()), Problem::EndlessPages(1));
    let away = Problem::ForeignPage("evil.lan".to_owned());
    assert_eq!(problem(tags("away").await.err()), away);
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_when_it_says() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let server = serving(move |_| match counted.fetch_add(1, SeqCst) {
        0 => answer(429, &[("retry-after", "0")], "slow down"),
        1 => answer(503, &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], ""),
        _ => answer(200, &[], r#"{"tags":["a"]}"#),
    })
    .await;
    let (client, a) = (client(plain()), repository(&server.host, "a"));
    assert_eq!(client.tags(&a).await.unwrap().unwrap().len(), 1);
    assert_eq!(asked.load(SeqCst), 3);
}

#[tokio::test]
async fn a_wish_to_wait_for_an_hour_is_passed_on_at_once() {
    let server = serving(|_| answer(429, &[("retry-after", "3600")], "slow down")).await;
    let error = client(plain())
        .tags(&repository(&server.host, "a"))
        .await
        .unwrap_err();
    assert!(error.is_transient());
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3600)));
    assert!(
        error
            .to_string()
            .ends_with("429 Too Many Requests (slow down); it asks to wait 3600 seconds"),
        "{error}"
    );
    assert_eq!(server.lines().len(), 1);
}

#[tokio::test]
async fn retries_have_a_bound() {
    let server = serving(|_| answer(500, &[("retry-after", "0")], "")).await;
    let error = client(plain())
        .tags(&repository(&server.host, "a"))
        .await
        .unwrap_err();
    assert!(error.is_transient());
    assert_eq!(server.lines().len(), 3);
}

#[tokio::test]
async fn every_call_to_a_healthy_registry_is_one_request() {
    let image = manifest(b"{}", &[b"layer"]);
    let (raw, digest) = (image.raw.clone(), image.digest.to_string());
    let server = serving(move |seen| {
        let named = [("docker-content-digest", digest.as_str())];
        match seen.line.split(' ').next().unwrap() {
            "POST" => answer(202, &[("location", "/up")], ""),
            "PUT" => answer(201, &[], ""),
            _ if seen.line.contains("/blobs/") => answer(200, &[], "layer"),
            _ if seen.line.contains("/tags/") => answer(200, &[], r#"{"tags":[]}"#),
            _ => answer(200, &named, raw.clone()),
        }
    })
    .await;
    let (client, a) = (client(plain()), repository(&server.host, "a"));
    client.head(&a, &tag("v1")).await.unwrap();
    client.manifest(&a, &tag("v1")).await.unwrap();
    client.tags(&a).await.unwrap();
    assert!(read(&client, &a, &blob(b"layer")).await.1.is_none());
    let Begun::Upload(upload) = client.begin_upload(&a, None).await.unwrap() else {
        panic!("nothing was to be mounted");
    };
    client
        .upload(&upload, &blob(b"layer"), pieces(b"layer", 2))
        .await
        .unwrap();
    client.put_manifest(&a, &tag("v1"), &image).await.unwrap();
    assert_eq!(server.lines().len(), 7, "{:?}", server.lines());
}

#[tokio::test]
async fn a_silent_registry_is_given_up_while_one_that_is_slow_is_not() {
    let server = serving(|seen| match seen.line.contains("/silent/") {
        true => answer(
            200,
            &[],
            Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()),
        ),
        false => answer(
            200,
            &[],
            Body::from_stream(slow().map(Ok::<_, std::io::Error>)),
        ),
    })
    .await;
    let hasty = patient_for(Duration::from_millis(100));
    let (_, error) = read(&hasty, &repository(&server.host, "silent/a"), &blob(b"x")).await;
    let error = error.unwrap();
    assert!(
        matches!(
            error,
            Error::Unreachable {
                fault: Fault::Silent(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.is_transient());
    // Longer altogether, but never for long without a byte.
    let (bytes, error) = read(
        &patient_for(IDLE),
        &repository(&server.host, "slow/a"),
        &blob(&[b'x'; SLOW]),
    )
    .await;
    assert!(error.is_none() && bytes.len() == SLOW, "{error:?}");
}

#[tokio::test]
async fn an_upload_that_nobody_takes_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf = listener.local_addr().unwrap();
    let server = serving(move |_| {
        let location = format!("http://{deaf}/up?signature=hunter2");
        answer(202, &[("location", &location)], "")
    })
    .await;
    let hasty = client(Options {
        timeouts: Timeouts {
            idle: Duration::from_millis(50),
            commit: Duration::from_millis(50),
            ..Timeouts::default()
        },
        ..plain()
    });
    let a = repository(&server.host, "a");
    // The beginning is answered, however late.
    let begun = client(plain()).begin_upload(&a, None).await.unwrap();
    let Begun::Upload(upload) = begun else {
        panic!("nothing was to be mounted");
    };
    let big = vec![0; 32 << 20];
    let error = hasty
        .upload(&upload, &blob(&big), pieces(&big, 1 << 20))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Unreachable {
                fault: Fault::Silent(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.is_transient() && !shown(&error).contains("hunter2"));
}

#[tokio::test]
async fn an_upload_that_waits_for_its_turn_is_not_silent() {
    let server = serving(|seen| match seen.line.starts_with("POST") {
        true => answer(202, &[("location", "/up")], ""),
        false => answer(201, &[], ""),
    })
    .await;
    let client = client(Options {
        requests_per_host: 1,
        timeouts: Timeouts {
            idle: IDLE,
            ..Timeouts::default()
        },
        ..plain()
    });
    let a = repository(&server.host, "a");
    let upload = async || {
        let Begun::Upload(upload) = client.begin_upload(&a, None).await.unwrap() else {
            panic!("nothing was to be mounted");
        };
        let body = slow().map(Ok);
        client.upload(&upload, &blob(&[b'x'; SLOW]), body).await
    };
    let (one, other) = tokio::join!(upload(), upload());
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
}

#[tokio::test]
async fn redirects_end_and_show_no_signature() {
    let server = Scripted::start(|_: &Seen, host: &str| {
        answer(
            307,
            &[("location", &format!("http://{host}/x?signature=hunter2"))],
            "",
        )
    })
    .await;
    let (_, error) = read(
        &client(plain()),
        &repository(&server.host, "a"),
        &blob(b"x"),
    )
    .await;
    let error = error.unwrap();
    assert!(
        matches!(
            error,
            Error::Unreachable {
                fault: Fault::Redirects,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(!shown(&error).contains("hunter2"), "{}", shown(&error));
}

#[tokio::test]
async fn a_closed_port_is_a_sentence_with_a_remedy() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = client(Options {
        retries: 0,
        ..plain()
    })
    .tags(&repository(&host, "a"))
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "listing the tags of {host}/a: {host} refuses connections; is the port right, and is it plain HTTP? (then set `plain_http` for it, or `--src-tls-verify=false` or `--dest-tls-verify=false` with `once`)"
        )
    );
    assert!(error.is_transient() && std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn a_tag_that_may_not_be_moved_is_pushed_where_it_is_so_already() {
    let image = manifest(b"{}", &[]);
    let there = image.digest.clone();
    let server = Scripted::start(move |seen: &Seen, _: &str| match &seen.line {
        line if line.starts_with("PUT") => answer(
            400,
            &[],
            r#"{"errors":[{"code":"ImageTagAlreadyExistsException","message":"the tag is immutable"}]}"#,
        ),
        line if line.ends_with("/v1") => {
            answer(200, &[("docker-content-digest", &there.to_string())], "")
        }
        _ => answer(200, &[("docker-content-digest", &Digest::of(b"x").to_string())], ""),
    })
    .await;
    let (client, a) = (client(plain()), repository(&server.host, "a"));
    client.put_manifest(&a, &tag("v1"), &image).await.unwrap();
    let error = client
        .put_manifest(&a, &tag("v2"), &image)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("the tag names something else there and may not be moved: let the registry move it, or choose another `targetTag`"),
        "{error}"
    );
    assert!(!error.is_authentication() && !error.is_transient());
}
