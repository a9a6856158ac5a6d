//! The server: the service, its health and its description, behind every door.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tonic::{
    service::{Routes, RoutesBuilder},
    transport::Server,
};
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::grpc::{
    access::Access,
    door::{self, Door},
    guard::{For, Guard, LARGEST_REQUEST},
    v1::{
        DESCRIPTORS,
        mirror_service_server::{MirrorService, MirrorServiceServer},
    },
};

/// The largest answer that is given; clients take no larger one.
const LARGEST_ANSWER: usize = 64 << 20;

/// How often a silent client is asked whether it is still there; one that went away must not hold a stream for ever.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long it may take to answer that. With [`KEEPALIVE`] less than the silence after which a connection ends by itself.
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(20);

/// How many calls a connection has at once; further ones wait at the client.
const STREAMS: u32 = 64;

/// The largest head of a request; a token and a timeout need a tenth of it.
const LARGEST_HEAD: u32 = 16 << 10;

/// Why the service could not be offered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The descriptors that were compiled in cannot be read.
    #[error("describing the service to clients: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport gave up.
    #[error("serving clients: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves those at all `doors` whom `access` lets until `stop` is cancelled and what was being answered has been. From `stopping` on
/// it says of its health that nothing new should come.
pub async fn serve<S: MirrorService + Clone>(
    service: S,
    doors: Vec<Door>,
    access: Arc<Access>,
    stop: CancellationToken,
    stopping: CancellationToken,
) -> Result<(), Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<MirrorServiceServer<S>>().await;
    let routes = routes(service, health, &access)?;
    let serving = doors.into_iter().map(|door| {
        let incoming = door::open(door, Arc::clone(&access), stop.clone());
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
            .max_concurrent_streams(STREAMS)
            .http2_max_header_list_size(LARGEST_HEAD)
            .add_routes(routes.clone())
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned())
    });
    let ending = async {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = stop.cancelled() => {}
        }
        reporter.set_not_serving::<MirrorServiceServer<S>>().await;
        // The server as a whole, which checks ask for that know no service.
        let whole = reporter.set_service_status("", ServingStatus::NotServing);
        whole.await;
        Ok(())
    };
    tokio::try_join!(futures_util::future::try_join_all(serving), ending)?;
    Ok(())
}

fn routes<S: MirrorService>(
    service: S,
    health: HealthServer<impl Health>,
    access: &Arc<Access>,
) -> Result<Routes, Error> {
    // Each version of reflection describes the other too.
    let describe = |other| {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(other)
    };
    let service = MirrorServiceServer::new(service)
        .max_decoding_message_size(LARGEST_REQUEST)
        .max_encoding_message_size(LARGEST_ANSWER);
    let reflection = describe(v1alpha::FILE_DESCRIPTOR_SET).build_v1()?;
    let older_reflection = describe(v1::FILE_DESCRIPTOR_SET).build_v1alpha()?;
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(Guard::new(service, For::Table, Arc::clone(access)))
        .add_service(Guard::new(health, For::All, Arc::clone(access)))
        .add_service(Guard::new(reflection, For::Readers, Arc::clone(access)))
        .add_service(Guard::new(
            older_reflection,
            For::Readers,
            Arc::clone(access),
        ));
    Ok(routes.routes())
}
