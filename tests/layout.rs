//! The small registry against real clients, and against requests that mean harm.
#![allow(clippy::unwrap_used)]

#[path = "support/fixture.rs"]
mod fixture;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use fixture::{
    image::{Blob, Flavor, Image, Layer, noise},
    place::{Placed, http, push, write_layout},
    server::OurRegistry,
};
use imagesetd::layout::{Error, Key, Layout};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo").args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Opens a layout whose last user is gone. A process that another test has begun to start holds what is open in this one, its locks
/// too, until it is a program of its own.
fn reopened(folder: &Path) -> Layout {
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match Layout::open(folder) {
            Err(Error::InUse(_)) if std::time::Instant::now() < patience => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            opened => return opened.unwrap(),
        }
    }
}

/// The files of a folder that skopeo's `dir:` wrote, without its version file.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let named = entries.map(|e| (e.file_name().into_string().unwrap(), e.path()));
    named
        .filter(|(name, _)| name != "version")
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .collect()
}

fn expected(image: &Image) -> BTreeMap<String, Vec<u8>> {
    let manifests = image.manifests().into_iter().map(|part| {
        let name = match part.digest() == image.digest() {
            true => "manifest.json".to_owned(),
            false => format!("{}.manifest.json", part.digest().hex()),
        };
        (name, part.manifest.raw.to_vec())
    });
    let blobs = image.all_blobs().into_iter();
    let blobs = blobs.map(|(digest, bytes)| (digest.hex(), bytes.to_vec()));
    manifests.chain(blobs).collect()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn code(response: reqwest::Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    (
        status,
        body["errors"][0]["code"].as_str().unwrap().to_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_in_and_out_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let registry = OurRegistry::start(&folder.path().join("registry"))
        .await
        .unwrap();
    let layers = [Layer::noise("one", 70_000), Layer::noise("two", 3)];
    let docker = Image::new(Flavor::Docker, "amd64", &layers, &[]);
    let index = Image::simple_index("multi", &["amd64", "arm64"]);
    for (name, image) in [("docker", &docker), ("index", &index)] {
        let (source, back) = (
            folder.path().join(name),
            folder.path().join(format!("{name}-back")),
        );
        fs::create_dir(&source).unwrap();
        for (file, bytes) in expected(image) {
            fs::write(source.join(file), bytes).unwrap();
        }
        fs::write(source.join("version"), "Directory Transport Version: 1.1\n").unwrap();
        let there = format!("docker://{}/a/b/{name}", registry.host);
        let digest = image.digest().to_string();
        let by_digest = back.clone();
        blocking(move || {
            let from = format!("dir:{}", source.display());
            let to = format!("{there}:v1");
            skopeo(&[
                "copy",
                "--all",
                "--preserve-digests",
                "--dest-tls-verify=false",
                &from,
                &to,
            ]);
            let from = format!("{there}@{digest}");
            let to = format!("dir:{}", back.display());
            skopeo(&[
                "copy",
                "--all",
                "--preserve-digests",
                "--src-tls-verify=false",
                &from,
                &to,
            ]);
        })
        .await;
        assert_eq!(files(&by_digest), expected(image), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_syncs_all_tags_of_a_repository() {
    let folder = tempfile::tempdir().unwrap();
    let served = folder.path().join("registry");
    let images = ["one", "two", "three"].map(Image::simple);
    let placed: Vec<_> = ["v1", "v2", "v3"]
        .iter()
        .zip(&images)
        .map(|(tag, image)| Placed::tagged("team/app", tag, image))
        .collect();
    write_layout(&served, &placed).unwrap();
    let registry = OurRegistry::start(&served).await.unwrap();
    let source = format!("{}/team/app", registry.host);
    let out = folder.path().join("out");
    let to = out.to_str().unwrap().to_owned();
    blocking(move || {
        skopeo(&[
            "sync",
            "--src",
            "docker",
            "--dest",
            "dir",
            "--src-tls-verify=false",
            &source,
            &to,
        ])
    })
    .await;
    for (tag, image) in ["v1", "v2", "v3"].iter().zip(&images) {
        assert_eq!(
            files(&out.join(format!("app:{tag}"))),
            expected(image),
            "{tag}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folder_is_an_image_layout_that_other_tools_read_and_write() {
    let folder = tempfile::tempdir().unwrap();
    let served = folder.path().join("registry");
    let image = Image::simple("one");
    write_layout(&served, &[Placed::tagged("a/b", "v1", &image)]).unwrap();
    let out = folder.path().join("out");
    let from = format!("oci:{}:a/b:v1", served.display());
    skopeo(&["copy", &from, &format!("dir:{}", out.display())]);
    assert_eq!(files(&out), expected(&image));

    let index = Image::simple_index("multi", &["amd64", "s390x"]);
    let source = folder.path().join("index");
    fs::create_dir(&source).unwrap();
    for (file, bytes) in expected(&index) {
        fs::write(source.join(file), bytes).unwrap();
    }
    let from = format!("dir:{}", source.display());
    skopeo(&[
        "copy",
        "--all",
        &from,
        &format!("oci:{}:c:v2", served.display()),
    ]);
    let registry = OurRegistry::start(&served).await.unwrap();
    let client = http().unwrap();
    for name in ["v2".to_owned(), index.children[1].digest().to_string()] {
        let url = format!("http://{}/v2/c/manifests/{name}", registry.host);
        assert_eq!(
            client.get(url).send().await.unwrap().status(),
            200,
            "{name}"
        );
    }
}

#[tokio::test]
async fn what_was_pushed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let client = http().unwrap();
    let image = Image::simple_index("multi", &["amd64", "arm64"]);
    let registry = OurRegistry::start(folder.path()).await.unwrap();
    push(
        &client,
        &registry.host,
        &Placed::tagged("a/b", "v1", &image),
    )
    .await
    .unwrap();
    registry.stop().await.unwrap();
    // What a crash in the middle of an upload leaves.
    fs::write(folder.path().join("uploads/half"), "half a layer").unwrap();

    let registry = OurRegistry::start(folder.path()).await.unwrap();
    let url = |name: &str| format!("http://{}/v2/a/b/manifests/{name}", registry.host);
    let served = client.get(url("v1")).send().await.unwrap();
    let headers = served.headers().clone();
    assert_eq!(headers["content-type"], image.manifest.media_type.as_str());
    assert_eq!(
        headers["docker-content-digest"],
        image.digest().to_string().as_str()
    );
    assert_eq!(served.bytes().await.unwrap(), image.manifest.raw);
    let child = client
        .head(url(&image.children[0].digest().to_string()))
        .send()
        .await
        .unwrap();
    assert_eq!(child.status(), 200);
    let length = image.children[0].manifest.raw.len().to_string();
    assert_eq!(child.headers()["content-length"], length.as_str());
    assert!(!folder.path().join("uploads/half").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_side_by_side_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let registry = OurRegistry::start(folder.path()).await.unwrap();
    let tags: Vec<_> = (0..40).map(|n| format!("v{n:02}")).collect();
    let pushes = tags.iter().cloned().map(|tag| {
        let host = registry.host.clone();
        tokio::spawn(async move {
            let image = Image::simple(&tag);
            push(
                &http().unwrap(),
                &host,
                &Placed::tagged("a/b", &tag, &image),
            )
            .await
        })
    });
    for pushed in pushes.collect::<Vec<_>>() {
        pushed.await.unwrap().unwrap();
    }
    registry.stop().await.unwrap();
    let layout = reopened(folder.path());
    let kept: Vec<_> = layout.tags("a/b").unwrap();
    assert_eq!(
        kept.iter().map(ToString::to_string).collect::<Vec<_>>(),
        tags
    );
}

#[tokio::test]
async fn read_only_registry_takes_no_pushes() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::simple("one");
    write_layout(folder.path(), &[Placed::tagged("a", "v1", &image)]).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/v2/a", listener.local_addr().unwrap());
    let served = folder.path().to_owned();
    let server = tokio::spawn(async move {
        let options = imagesetd::layout::Options {
            read_only: true,
            ..Default::default()
        };
        imagesetd::layout::serve(&served, listener, options, std::future::pending()).await
    });
    let client = http().unwrap();
    let url = format!("{base}/manifests/v1");
    let put = client.put(&url).body(image.manifest.raw.clone());
    assert_eq!(
        code(put.send().await.unwrap()).await,
        (405, "UNSUPPORTED".to_owned())
    );
    let post = client.post(format!("{base}/blobs/uploads/"));
    assert_eq!(post.send().await.unwrap().status(), 405);
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    server.abort();
}

#[tokio::test]
async fn folder_has_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let first = Layout::open(folder.path()).unwrap();
    assert!(matches!(Layout::open(folder.path()), Err(Error::InUse(_))));
    drop(first);
    reopened(folder.path());
}

#[tokio::test]
async fn manifest_waits_for_all_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let registry = OurRegistry::start(folder.path()).await.unwrap();
    let client = http().unwrap();
    let image = Image::simple("one");
    let index = Image::index(Flavor::Oci, vec![("amd64", image.clone())]);
    let put = |name: &str, image: &Image| {
        client
            .put(format!("http://{}/v2/a/manifests/{name}", registry.host))
            .header("content-type", &image.manifest.media_type)
            .body(image.manifest.raw.clone())
            .send()
    };
    let refused = put("v1", &image).await.unwrap();
    assert_eq!(refused.status(), 400);
    let body: Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
    let missing: Vec<_> = image
        .manifest
        .blobs()
        .map(|b| json!({"digest": b.digest.to_string()}))
        .collect();
    assert_eq!(body["errors"][0]["code"], "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(body["errors"][0]["detail"], Value::Array(missing));

    push(
        &client,
        &registry.host,
        &Placed::untagged("elsewhere", &image),
    )
    .await
    .unwrap();
    let refused = code(put("v1", &index).await.unwrap()).await;
    assert_eq!(refused, (400, "MANIFEST_BLOB_UNKNOWN".to_owned()));
    assert_eq!(
        put(&image.digest().to_string(), &image)
            .await
            .unwrap()
            .status(),
        201
    );
    assert_eq!(put("v1", &index).await.unwrap().status(), 201);
}

#[tokio::test]
async fn blob_arrives_whole_in_pieces_or_by_mount() {
    let folder = tempfile::tempdir().unwrap();
    let registry = OurRegistry::start(folder.path()).await.unwrap();
    let client = http().unwrap();
    let base = format!("http://{}/v2/a/blobs", registry.host);
    let whole = Blob::new(noise("whole", 1000));
    let url = format!("{base}/uploads/?digest={}", whole.digest);
    let posted = client
        .post(url)
        .body(whole.bytes.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(posted.status(), 201);

    let blob = Blob::new(noise("pieces", 1000));
    let opened = client
        .post(format!("{base}/uploads/"))
        .send()
        .await
        .unwrap();
    let upload = format!(
        "http://{}{}",
        registry.host,
        opened.headers()["location"].to_str().unwrap()
    );
    let piece = |from: usize, to: usize| {
        let request = client.patch(&upload).body(blob.bytes.slice(from..to));
        request
            .header("content-range", format!("{from}-{}", to - 1))
            .send()
    };
    assert_eq!(piece(0, 400).await.unwrap().headers()["range"], "0-399");
    assert_eq!(piece(300, 700).await.unwrap().status(), 416);
    let status = client.get(&upload).send().await.unwrap();
    assert_eq!(
        (status.status().as_u16(), &status.headers()["range"]),
        (204, &"0-399".parse().unwrap())
    );
    assert_eq!(piece(400, 700).await.unwrap().status(), 202);
    let url = format!(
        "{upload}?digest={}",
        blob.digest.to_string().replace(':', "%3A")
    );
    let kept = client
        .put(&url)
        .body(blob.bytes.slice(700..))
        .send()
        .await
        .unwrap();
    assert_eq!(kept.status(), 201);
    assert_eq!(
        code(client.get(&upload).send().await.unwrap()).await.1,
        "BLOB_UPLOAD_UNKNOWN"
    );

    let mount = |digest| {
        client.post(format!(
            "http://{}/v2/b/blobs/uploads/?mount={digest}&from=a",
            registry.host
        ))
    };
    assert_eq!(
        mount(blob.digest.clone()).send().await.unwrap().status(),
        201
    );
    let unknown = Blob::new("unknown").digest;
    assert_eq!(mount(unknown).send().await.unwrap().status(), 202);
    let part = client
        .get(format!("{base}/{}", blob.digest))
        .header("range", "bytes=990-");
    let part = part.send().await.unwrap();
    assert_eq!(
        (part.status().as_u16(), &part.headers()["content-range"]),
        (206, &"bytes 990-999/1000".parse().unwrap())
    );
    assert_eq!(part.bytes().await.unwrap(), blob.bytes.slice(990..));
}

#[tokio::test]
async fn upload_goes_on_where_the_client_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    let registry = OurRegistry::start(folder.path()).await.unwrap();
    let client = http().unwrap();
    let blob = Blob::new(noise("cut", 5000));
    let url = format!("http://{}/v2/a/blobs/uploads/", registry.host);
    let opened = client.post(url).send().await.unwrap();
    let path = opened.headers()["location"].to_str().unwrap().to_owned();

    let mut socket = tokio::net::TcpStream::connect(&registry.host)
        .await
        .unwrap();
    let head = format!("PATCH {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&blob.bytes[..3000]).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();

    // The status waits for the piece that is being given up.
    let upload = format!("http://{}{path}", registry.host);
    let status = client.get(&upload).send().await.unwrap();
    assert_eq!(status.headers()["range"], "0-2999");
    let url = format!("{upload}?digest={}", blob.digest);
    let kept = client
        .put(url)
        .body(blob.bytes.slice(3000..))
        .send()
        .await
        .unwrap();
    assert_eq!(kept.status(), 201);
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let registry = OurRegistry::start(folder.path()).await.unwrap();
    let client = http().unwrap();
    let wanted = Blob::new("the right bytes");
    let base = format!("http://{}/v2/a", registry.host);
    let url = format!("{base}/blobs/uploads/?digest={}", wanted.digest);
    let refused = client.post(url).body("other bytes").send().await.unwrap();
    assert_eq!(code(refused).await, (400, "DIGEST_INVALID".to_owned()));
    let url = format!("{base}/blobs/{}", wanted.digest);
    assert_eq!(client.get(url).send().await.unwrap().status(), 404);

    let image = Image::simple("one");
    push(&client, &registry.host, &Placed::untagged("a", &image))
        .await
        .unwrap();
    let put = client.put(format!("{base}/manifests/{}", wanted.digest));
    let refused = put.body(image.manifest.raw.clone()).send().await.unwrap();
    assert_eq!(code(refused).await, (400, "DIGEST_INVALID".to_owned()));
    let left: Vec<_> = fs::read_dir(folder.path().join("uploads"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "only the lock is left: {left:?}");
}

#[tokio::test]
async fn oversize_and_malformed_are_refused_before_they_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let registry = OurRegistry::start(folder.path()).await.unwrap();
    let client = http().unwrap();
    let put = |body: Vec<u8>| {
        client
            .put(format!("http://{}/v2/a/manifests/v1", registry.host))
            .body(body)
            .send()
    };
    assert_eq!(
        code(put(vec![b' '; (4 << 20) + 1]).await.unwrap()).await.0,
        413
    );
    assert_eq!(
        code(put(b"{".to_vec()).await.unwrap()).await.1,
        "MANIFEST_INVALID"
    );
    assert_eq!(
        code(put(br#"{"schemaVersion":1}"#.to_vec()).await.unwrap())
            .await
            .1,
        "MANIFEST_INVALID"
    );
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert_eq!(code(put(deep).await.unwrap()).await.1, "MANIFEST_INVALID");
}

#[tokio::test]
async fn paths_cannot_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    let registry = OurRegistry::start(&folder.path().join("registry"))
        .await
        .unwrap();
    // By hand: clients tidy such paths before they ask.
    for path in [
        "/v2/../../secret",
        "/v2/a/blobs/../../../secret",
        "/v2/a/blobs/sha256:../../../secret",
        "/v2/a/blobs/sha256:..%2f..%2f..%2fsecret",
        "/v2/a/blobs/uploads/../../secret",
        "/v2/a/blobs/uploads/..%2f..%2fsecret",
        "/v2/%2e%2e/%2e%2e/manifests/secret",
        "//v2/",
    ] {
        let mut socket = tokio::net::TcpStream::connect(&registry.host)
            .await
            .unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
        assert!(!answer.contains("\r\n\r\nsecret"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn log_tells_what_was_moved() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::simple("one");
    write_layout(folder.path(), &[Placed::tagged("a", "v1", &image)]).unwrap();
    let registry = OurRegistry::start(folder.path()).await.unwrap();
    let client = http().unwrap();
    let blob = &image.blobs[1];
    let path = format!("/v2/a/blobs/{}", blob.digest);
    let url = format!("http://{}{path}", registry.host);
    client.head(&url).send().await.unwrap();
    client
        .get(&url)
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let lines: Vec<_> = registry
        .stop()
        .await
        .unwrap()
        .into_iter()
        .filter(|line| line.path == path)
        .map(|line| (line.method, line.status, line.bytes))
        .collect();
    let length = blob.bytes.len() as u64;
    assert_eq!(
        lines,
        [("HEAD".to_owned(), 200, 0), ("GET".to_owned(), 200, length)]
    );
}

#[tokio::test]
async fn tags_come_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::simple("one");
    let placed = ["a", "b", "c"].map(|tag| Placed::tagged("team/app", tag, &image));
    write_layout(folder.path(), &placed).unwrap();
    let registry = OurRegistry::start(folder.path()).await.unwrap();
    let client = http().unwrap();
    let url = format!("http://{}/v2/team/app/tags/list?n=2", registry.host);
    let page = client.get(url).send().await.unwrap();
    assert_eq!(
        page.headers()["link"],
        "</v2/team/app/tags/list?n=2&last=b>; rel=\"next\""
    );
    let body: Value = serde_json::from_slice(&page.bytes().await.unwrap()).unwrap();
    assert_eq!(body, json!({"name": "team/app", "tags": ["a", "b"]}));
    let catalog = client
        .get(format!("http://{}/v2/_catalog", registry.host))
        .send()
        .await
        .unwrap();
    assert_eq!(
        catalog.text().await.unwrap(),
        r#"{"repositories":["team/app"]}"#
    );
}

#[tokio::test]
async fn damaged_manifest_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::simple("one");
    write_layout(folder.path(), &[Placed::tagged("a", "v1", &image)]).unwrap();
    let layout = reopened(folder.path());
    let entry = layout.find("a", &Key::Tag("v1".parse().unwrap())).unwrap();
    fs::write(layout.blob_path(&entry.digest), "damaged").unwrap();
    drop(layout);
    let registry = OurRegistry::start(folder.path()).await.unwrap();
    let url = format!("http://{}/v2/a/manifests/v1", registry.host);
    let served = http().unwrap().get(url).send().await.unwrap();
    assert_eq!(served.status(), 500);
}
