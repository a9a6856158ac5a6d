//! A blob that images in several repositories share comes over once.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    response::Response,
};

use crate::{
    fixture::{
        image::Image,
        place::{Placed, http},
    },
    site::{PREFIX, Site, blob_bytes},
};

/// Five images in five repositories whose first layer is one and the same.
fn five(site: &Site) -> Vec<(String, Image)> {
    let images: Vec<_> = (1..=5)
        .map(|n| (format!("team{n}/app"), Image::simple(&format!("app{n}"))))
        .collect();
    let placed: Vec<_> = images
        .iter()
        .map(|(repository, image)| Placed::tagged(repository, "1", image))
        .collect();
    site.publish(&placed);
    let names: Vec<_> = images
        .iter()
        .map(|(repository, _)| format!("{repository}:1"))
        .collect();
    site.additional(&names.iter().map(String::as_str).collect::<Vec<_>>());
    images
}

fn assert_each_blob_came_once(site: &Site, images: &[(String, Image)]) {
    let read = site.upstream.requests();
    assert_eq!(
        read.blob_bytes(),
        blob_bytes(images.iter().map(|(_, image)| image))
    );
    assert_eq!(read.blobs_twice(), [""; 0]);
    for (repository, image) in images {
        site.assert_mirrored(&format!("{repository}:1"), image);
    }
}

#[test]
fn shared_blob_is_downloaded_once_and_mounted_elsewhere() {
    let site = Site::new();
    let images = five(&site);
    site.done(&[]);
    let shared = images[0].1.blobs[1].digest.to_string();
    let requests = site.mirror.requests();
    let mounted = requests.iter().filter(|r| {
        r.method == "POST"
            && r.status == 201
            && r.query
                .replace("%3A", ":")
                .contains(&format!("mount={shared}"))
    });
    assert_eq!(mounted.count(), 4);
    assert_eq!(requests.blob_gets().len(), 0, "nothing is read back");
    assert_each_blob_came_once(&site, &images);
}

#[test]
fn mirror_that_mounts_nothing_gets_everything_all_the_same() {
    let site = Site::new();
    let images = five(&site);
    let stubborn = Stubborn::before(site.mirror.address());
    let to = format!("{}/{PREFIX}", stubborn.address);
    let mut command = crate::site::program();
    command
        .arg("once")
        .arg("-c")
        .arg(site.path("set.yaml"))
        .args([
            "--to",
            &to,
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
            "--state",
        ])
        .arg(site.path("state"))
        .arg("--resources")
        .arg(site.path("resources"));
    let ended = crate::site::Ended::of(command.output().unwrap());
    assert_eq!(ended.code, 0, "{ended:#?}");
    assert_eq!(site.mirror.requests().mounts(), 0);
    assert_each_blob_came_once(&site, &images);
}

#[test]
fn image_under_two_tags_is_uploaded_once() {
    let site = Site::new();
    let image = Image::simple("app");
    site.publish(&[
        Placed::tagged("team/app", "1", &image),
        Placed::tagged("team/app", "latest", &image),
    ]);
    site.additional(&["team/app:1", "team/app:latest"]);
    site.done(&[]);
    assert_eq!(site.tags("team/app"), ["1", "latest"]);
    assert_eq!(site.mirror.requests().uploads(), image.all_blobs().len());
    assert_eq!(site.upstream.requests().blobs_twice(), [""; 0]);
}

/// A registry that refuses mounts: it passes all on but the request to mount.
struct Stubborn {
    address: String,
    _runtime: tokio::runtime::Runtime,
}

impl Stubborn {
    fn before(registry: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (behind, http) = (Arc::new(registry.to_owned()), http().unwrap());
        let app = Router::new()
            .fallback(move |request: Request| pass(http.clone(), behind.clone(), request));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Stubborn {
            address,
            _runtime: runtime,
        }
    }
}

async fn pass(http: reqwest::Client, behind: Arc<String>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = match parts
        .uri
        .query()
        .is_some_and(|query| query.contains("mount="))
    {
        true => parts.uri.path().to_owned(),
        false => parts.uri.to_string(),
    };
    let body = to_bytes(body, usize::MAX).await.unwrap();
    // The Host header stays the proxy's, so that the places which the registry names lead back here.
    let answer = http
        .request(parts.method, format!("http://{behind}{path}"))
        .headers(parts.headers)
        .body(body)
        .send()
        .await
        .unwrap();
    let mut response = Response::builder().status(answer.status());
    *response.headers_mut().unwrap() = answer.headers().clone();
    response
        .body(Body::from(answer.bytes().await.unwrap()))
        .unwrap()
}
