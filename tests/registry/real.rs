//! Against `docker-registry`, with `skopeo` as witness.

use std::process::Command;

use imagesetd::registry::{Access, Begun, CertFolders, Options, Problem};

use crate::{
    access, blob, client, credentials, docker::Docker, index, manifest, pieces, plain, push, read,
    repository, shown, tag,
};
use imagesetd::{
    model::image::Digest,
    registry::{Error, Head, Selector},
};

#[tokio::test]
async fn what_is_pushed_is_whole_and_comes_back() {
    let server = Docker::start();
    let (client, a) = (client(plain()), repository(&server.host, "team/a"));
    let (config, layer) = (
        br#"{"os":"linux","architecture":"amd64"}"#,
        vec![7; 300_000],
    );
    let image = manifest(config, &[&layer, b""]);

    assert_eq!(client.head(&a, &tag("v1")).await.unwrap(), None);
    assert_eq!(client.tags(&a).await.unwrap(), None);
    assert!(
        client
            .manifest(&a, &tag("v1"))
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert!(!client.has_blob(&a, &Digest::of(&layer)).await.unwrap());
    for bytes in [&config[..], &layer, b""] {
        push(&client, &a, bytes).await;
    }
    client.put_manifest(&a, &tag("v1"), &image).await.unwrap();
    client.put_manifest(&a, &tag("v0"), &image).await.unwrap();

    let head = Head {
        digest: image.digest.clone(),
        media_type: Some(image.media_type.clone()),
        size: Some(image.raw.len() as u64),
    };
    assert_eq!(
        client.head(&a, &tag("v1")).await.unwrap(),
        Some(head.clone())
    );
    let by_digest = Selector::Digest(image.digest.clone());
    assert_eq!(client.head(&a, &by_digest).await.unwrap(), Some(head));
    assert_eq!(client.manifest(&a, &by_digest).await.unwrap(), image);
    assert_eq!(client.manifest(&a, &tag("v1")).await.unwrap(), image);
    assert_eq!(
        format!("{:?}", client.tags(&a).await.unwrap().unwrap()),
        "[v0, v1]"
    );
    assert!(client.has_blob(&a, &Digest::of(&layer)).await.unwrap());
    for bytes in [&config[..], &layer, b""] {
        let (got, error) = read(&client, &a, &blob(bytes)).await;
        assert!(error.is_none() && got == bytes, "{error:?}");
    }

    let folder = tempfile::tempdir().unwrap();
    let done = Command::new("skopeo")
        .args(["copy", "--src-tls-verify=false", "--preserve-digests"])
        .arg(format!("docker://{}/team/a:v1", server.host))
        .arg(format!("dir:{}", folder.path().join("image").display()))
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let copied = std::fs::read(folder.path().join("image/manifest.json")).unwrap();
    assert_eq!(Digest::of(&copied), image.digest);
}

#[tokio::test]
async fn a_mount_takes_what_is_there_and_goes_on_as_an_upload_where_it_is_not() {
    let server = Docker::start();
    let client = client(plain());
    let (a, b) = (repository(&server.host, "a"), repository(&server.host, "b"));
    push(&client, &a, b"layer").await;
    let there = Digest::of(b"layer");
    for (to, from) in [(&b, &a), (&b, &b), (&a, &a)] {
        let begun = client.begin_upload(to, Some((&there, from))).await.unwrap();
        assert!(matches!(begun, Begun::Mounted), "{to} {from}");
    }
    assert!(client.has_blob(&b, &there).await.unwrap());

    let missing = Digest::of(b"other");
    let Begun::Upload(upload) = client.begin_upload(&b, Some((&missing, &a))).await.unwrap() else {
        panic!("the donor does not have it");
    };
    let body = pieces(b"other", 2);
    client.upload(&upload, &blob(b"other"), body).await.unwrap();
    assert!(client.has_blob(&b, &missing).await.unwrap());
}

#[tokio::test]
async fn an_upload_of_other_bytes_is_refused_and_leaves_nothing() {
    let server = Docker::start();
    let (client, a) = (client(plain()), repository(&server.host, "a"));
    let begin = async || match client.begin_upload(&a, None).await.unwrap() {
        Begun::Upload(upload) => upload,
        Begun::Mounted | Begun::Taken => panic!("nothing was to be mounted"),
    };
    let wrong = client
        .upload(&begin().await, &blob(b"right"), pieces(b"wrong", 2))
        .await;
    let wrong = wrong.unwrap_err();
    assert!(
        wrong.to_string().contains("DIGEST_INVALID") && !wrong.is_transient(),
        "{wrong}"
    );
    for body in [&b"shor"[..], b"longer"] {
        let error = client
            .upload(&begin().await, &blob(b"right"), pieces(body, 2))
            .await;
        assert!(
            matches!(error, Err(Error::Body { expected: 5, .. })),
            "{error:?}"
        );
    }
    assert!(!client.has_blob(&a, &Digest::of(b"right")).await.unwrap());
    client.cancel_upload(begin().await).await;
}

#[tokio::test]
async fn a_refused_manifest_names_all_that_is_missing() {
    let server = Docker::start();
    let (client, a) = (client(plain()), repository(&server.host, "a"));
    let image = manifest(b"{}", &[b"one", b"two"]);
    push(&client, &a, b"one").await;
    let refused = client
        .put_manifest(&a, &tag("v1"), &image)
        .await
        .unwrap_err();
    let mut missing = vec![Digest::of(b"{}"), Digest::of(b"two")];
    missing.sort();
    assert_eq!(refused.missing_blobs(), missing);
    assert!(!refused.is_sparse_index_refusal() && !refused.is_transient());

    let sparse = index(&[&image]);
    let refused = client
        .put_manifest(&a, &tag("v1"), &sparse)
        .await
        .unwrap_err();
    assert_eq!(refused.missing_blobs(), std::slice::from_ref(&image.digest));
    assert!(refused.is_sparse_index_refusal(), "{refused}");
}

#[tokio::test]
async fn a_password_opens_what_is_closed_and_is_never_shown() {
    let server = Docker::with_password();
    let a = repository(&server.host, "a");
    let with = |password: &str| {
        let entry = format!(r#"{{"username":"u","password":"{password}"}}"#);
        client(Options {
            credentials: credentials(&format!(r#"{{"auths":{{"{}":{entry}}}}}"#, server.host)),
            ..plain()
        })
    };
    let right = with("hunter2");
    push(&right, &a, b"layer").await;
    assert_eq!(read(&right, &a, &blob(b"layer")).await.0, b"layer");

    let wrong = with("hunter3").tags(&a).await.unwrap_err();
    assert!(wrong.is_authentication());
    assert!(
        wrong
            .to_string()
            .contains(&format!("entry `{}` of ", server.host)),
        "{wrong}"
    );
    assert!(!shown(&wrong).contains("hunter3"));
    let nobody = client(plain()).tags(&a).await.unwrap_err();
    assert!(nobody.is_authentication() && !nobody.is_transient());
    assert!(nobody.to_string().contains("podman login"), "{nobody}");
}

#[tokio::test]
async fn certificates_count_unless_settings_say_otherwise() {
    let server = Docker::with_tls();
    let a = repository(&server.host, "a");
    let ca = format!("{}/tests/fixtures/tls/ca.pem", env!("CARGO_MANIFEST_DIR"));
    let tags = async |access: Access| {
        let options = Options {
            access: crate::access(vec![(server.host.clone(), access)]),
            retries: 0,
            ..Options::default()
        };
        match imagesetd::registry::Client::new(options)?.tags(&a).await {
            Ok(tags) => Ok(tags),
            Err(error) => Err(error),
        }
    };
    let trusting = Access {
        ca_file: Some(ca.into()),
        ..Access::default()
    };
    assert_eq!(tags(trusting).await.unwrap(), None);
    assert_eq!(tags(Access::unverified()).await.unwrap(), None);
    let unknown = tags(Access::default()).await.unwrap_err();
    assert!(
        unknown
            .to_string()
            .contains("not trusted here; name the authority's PEM file as `ca_file`"),
        "{}",
        shown(&unknown)
    );
    assert!(!unknown.is_transient());
    let plain = tags(Access::plain_http()).await.unwrap_err();
    assert!(
        plain
            .to_string()
            .ends_with("it speaks TLS: do not set `plain_http` for it"),
        "{}",
        shown(&plain)
    );
    for (file, says) in [
        ("/nowhere.pem", "cannot be read"),
        ("/dev/null", "holds no PEM"),
    ] {
        let broken = Access {
            ca_file: Some(file.into()),
            ..Access::default()
        };
        let error = tags(broken).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn plain_http_is_used_only_where_it_is_allowed() {
    let server = Docker::start();
    let a = repository(&server.host, "a");
    let strict = Options {
        access: access(vec![]),
        retries: 0,
        ..Options::default()
    };
    let refused = client(strict).tags(&a).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .ends_with("is it plain HTTP? (then set `plain_http` for it, or `--src-tls-verify=false` or `--dest-tls-verify=false` with `once`)"),
        "{}",
        shown(&refused)
    );
    let lax = client(Options {
        default_access: Access::unverified(),
        ..Options::default()
    });
    push(&lax, &a, b"layer").await;
    assert_eq!(read(&lax, &a, &blob(b"layer")).await.0, b"layer");
}

#[tokio::test]
async fn a_blob_of_another_length_is_refused_before_it_is_read() {
    let server = Docker::start();
    let (client, a) = (client(plain()), repository(&server.host, "a"));
    push(&client, &a, b"layer").await;
    let mut asked = blob(b"layer");
    asked.size = 4;
    let (bytes, error) = read(&client, &a, &asked).await;
    let wrong = matches!(
        error,
        Some(Error::Answer {
            problem: Problem::WrongLength {
                got: 5,
                expected: 4,
                encoding: None
            },
            ..
        })
    );
    assert!(bytes.is_empty() && wrong, "{error:?}");
}

#[tokio::test]
async fn certificates_are_read_again_when_they_change() {
    let server = Docker::with_tls();
    let a = repository(&server.host, "a");
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(&server.host);
    let client = client(Options {
        certs: CertFolders::ByHost(vec![folder.path().to_owned()]),
        retries: 0,
        ..Options::default()
    });
    assert!(client.tags(&a).await.is_err());
    let ca = format!("{}/tests/fixtures/tls/ca.pem", env!("CARGO_MANIFEST_DIR"));
    std::fs::create_dir(&own).unwrap();
    std::fs::copy(&ca, own.join("ca.crt")).unwrap();
    assert_eq!(client.tags(&a).await.unwrap(), None);
    // In the middle of a rewrite.
    std::fs::write(own.join("ca.crt"), "-----BEGIN CERT").unwrap();
    assert_eq!(client.tags(&a).await.unwrap(), None);
    std::fs::remove_file(own.join("ca.crt")).unwrap();
    assert!(client.tags(&a).await.is_err());
}

#[tokio::test]
async fn small_requests_share_a_connection_and_blobs_have_their_own() {
    let server = Docker::with_tls();
    let (client, a) = (
        client(Options {
            default_access: Access {
                skip_tls_verify: true,
                ..Access::default()
            },
            ..Options::default()
        }),
        repository(&server.host, "a"),
    );
    push(&client, &a, b"layer").await;
    assert_eq!(read(&client, &a, &blob(b"layer")).await.0, b"layer");
    let asked = server.asked(3);
    let protocol = |method: &str| {
        let of_method = asked.iter().find(|l| l.starts_with(method)).unwrap();
        of_method.rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(
        [protocol("POST"), protocol("PUT"), protocol("GET")],
        ["HTTP/2.0", "HTTP/1.1", "HTTP/1.1"]
    );
}
