//! What clients can use up: connections, calls, memory; and that none of it stops a run.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
};

use imagesetd::{
    cli::connect::Client,
    grpc::v1::{
        CreatePlanRequest, File, GetPlanRequest, GetStatusRequest, ValidateImageSetsRequest,
        WatchStatusRequest,
    },
};
use tonic::{Code, Status};

use crate::{
    fixture::{image::Image, place::Placed, place::write_distribution_storage},
    gate::Gate,
    house::{House, Shown},
    support::registry::{Registry, wait_for},
};

async fn client(house: &House, token: &str) -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let shown = Shown::token(house.token_file(token));
    house.connection(&shown).connect().await.unwrap()
}

fn reason(status: &Status) -> (Code, String) {
    let reason = status.metadata().get("imagesetd-reason");
    let reason = reason.map_or("", |reason| reason.to_str().unwrap());
    (status.code(), reason.to_owned())
}

fn refused(reason: &str) -> (Code, String) {
    (Code::ResourceExhausted, reason.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_as_large_as_they_may_be() {
    let house = House::open();
    let mut planner = client(&house, "planner").await;
    let file = |size: usize| File {
        name: "a.yaml".to_owned(),
        content: "#".repeat(size),
    };
    let validate = |size| ValidateImageSetsRequest {
        files: vec![file(size)],
    };
    assert!(
        planner
            .validate_image_sets(validate(15 << 20))
            .await
            .is_ok()
    );
    let too_much = planner.validate_image_sets(validate(17 << 20)).await;
    assert_eq!(reason(&too_much.unwrap_err()), refused("TOO_LARGE"));
    let far_too_much = planner.validate_image_sets(validate(40 << 20)).await;
    assert_ne!(far_too_much.unwrap_err().code(), Code::Ok);
    // Where no files are sent along a request is small.
    let id = "7".repeat(2 << 20);
    let refusal = planner.get_plan(GetPlanRequest { id }).await.unwrap_err();
    assert_eq!(reason(&refusal), refused("TOO_LARGE"));
    // Who may not make the call is told before the request is read.
    let mut reader = client(&house, "reader").await;
    let request = CreatePlanRequest {
        files: vec![file(40 << 20)],
        ..CreatePlanRequest::default()
    };
    let refusal = reader.create_plan(request).await.unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied, "{refusal}");
    assert!(
        planner
            .get_status(GetStatusRequest::default())
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_has_so_many_calls_and_others_are_not_kept_waiting() {
    let house = House::open();
    let mut streams = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut reader = client(&house, "reader").await;
        for _ in 0..32 {
            let stream = reader.watch_status(WatchStatusRequest::default()).await;
            streams.push(stream.unwrap().into_inner());
        }
        clients.push(reader);
    }
    let mut reader = client(&house, "reader").await;
    let one_more = reader.get_status(GetStatusRequest::default()).await;
    assert_eq!(reason(&one_more.unwrap_err()), refused("TOO_MANY_CALLS"));
    let mut planner = client(&house, "planner").await;
    assert!(
        planner
            .get_status(GetStatusRequest::default())
            .await
            .is_ok()
    );
    drop(streams);
    drop(clients);
    loop {
        if reader.get_status(GetStatusRequest::default()).await.is_ok() {
            break;
        }
        tokio::task::yield_now().await;
    }
}

/// Whether the other side has hung up; waits for what it does.
fn hangs_up(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 64]), Ok(count) if count > 0)
}

#[test]
fn connections_that_say_nothing_take_no_door_from_others() {
    let house = House::open();
    let address = format!("127.0.0.1:{}", house.tls);
    // One that sends what is no TLS is gone at once.
    let mut noise = TcpStream::connect(&address).unwrap();
    noise.write_all(&[0x55; 64]).unwrap();
    assert!(hangs_up(&mut noise) || hangs_up(&mut noise));
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    // Nobody waits for those who do not shake hands.
    assert!(
        house
            .call(&Shown::token(house.token_file("reader")), "GetStatus")
            .is_ok()
    );
    let more: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    wait_for("those beyond the bound to be turned away", || {
        let log = house.log();
        log.contains("clients are turned away").then_some(())
    });
    // The socket is another door.
    assert_eq!(house.cli(&house.socket(), "status").status.code(), Some(0));
    drop((silent, more));
    wait_for("room again", || {
        house
            .call(&Shown::token(house.token_file("reader")), "GetStatus")
            .ok()
    });
}

#[test]
fn a_head_without_an_end_is_not_taken_in() {
    let house = House::open();
    let mut stream = UnixStream::connect(house.path("d.sock")).unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    // HEADERS without END_HEADERS, then CONTINUATION frames for as long as they are taken.
    let frame = |kind: u8, size: usize| {
        let mut frame = vec![0, (size >> 8) as u8, size as u8, kind, 0, 0, 0, 0, 1];
        // Literal headers without indexing: a new name of 1 byte, a value of 100 bytes.
        while frame.len() + 104 <= 9 + size {
            frame.extend([0x00, 1, b'x', 100]);
            frame.extend([b'y'; 100]);
        }
        frame.resize(9 + size, 0);
        frame
    };
    let size = 104 * 100;
    let mut sent = 0;
    let mut broken = stream.write_all(&frame(1, size)).is_err();
    while !broken && sent < 64 << 20 {
        broken = stream.write_all(&frame(9, size)).is_err();
        sent += size;
    }
    assert!(broken, "{sent} bytes of a head were taken in");
    let _ = stream.shutdown(Shutdown::Both);
    assert_eq!(house.cli(&house.socket(), "status").status.code(), Some(0));
}

const SETS: &str = "apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  additionalImages:
  - name: GATE/team/a:v1
  - name: GATE/team/b:v1
";

#[tokio::test(flavor = "multi_thread")]
async fn those_who_never_read_stop_no_run_and_get_the_newest_when_they_do() {
    let (upstream, mirror) = (Registry::debian(), Registry::debian());
    let images = ["a", "b"].map(Image::simple);
    let placed: Vec<Placed> = ["team/a", "team/b"]
        .iter()
        .zip(&images)
        .map(|(name, image)| Placed::tagged(name, "v1", image))
        .collect();
    write_distribution_storage(&upstream.storage(), &placed).unwrap();
    let gate = Gate::before(upstream.address());
    let mut house = House::new();
    house.token("reader", "read");
    house.token("applier", "apply");
    let registries: String = [mirror.address(), &gate.address]
        .map(|host| format!("- {{host: '{host}', plain_http: true}}\n"))
        .concat();
    house.settings(&format!("{}registries:\n{registries}", house.usual()));
    let text = std::fs::read_to_string(house.path("imagesetd.yaml")).unwrap();
    let text = text.replace("127.0.0.1:9/x", &format!("{}/ocp", mirror.address()));
    std::fs::write(house.path("imagesetd.yaml"), text).unwrap();
    std::fs::write(
        house.path("sets/tools.yaml"),
        SETS.replace("GATE", &gate.address),
    )
    .unwrap();
    house.start();
    let mut reader = client(&house, "reader").await;
    let mut streams = Vec::new();
    for _ in 0..60 {
        let stream = reader.watch_status(WatchStatusRequest::default()).await;
        streams.push(stream.unwrap().into_inner());
    }
    let applier = house.token_file("applier");
    let detached = format!("apply tools --detach --token-file {}", applier.display());
    wait_for("the run to begin", || {
        let begun = house.cli(&house.https(), &detached);
        begun.status.success().then_some(())
    });
    gate.wait_for_knock();
    // Changes that everybody is told of, while nobody reads.
    for number in 0..50 {
        std::fs::write(
            house.path("sets/other.yaml"),
            format!("kind: Broken{number}\n"),
        )
        .unwrap();
    }
    gate.open();
    let line = "status tools --wait ready --timeout 60s";
    assert_eq!(house.cli(&house.socket(), line).status.code(), Some(0));
    let newest = house.status()["image_sets"][0]["images_mirrored"].clone();
    assert_eq!(newest, 2);
    for mut stream in streams {
        loop {
            let status = stream.message().await.unwrap().unwrap();
            let tools = status.image_sets.iter().find(|set| set.name == "tools");
            if tools.is_some_and(|set| set.images_mirrored == 2) {
                break;
            }
        }
    }
}
