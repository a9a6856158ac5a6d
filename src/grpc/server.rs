//! The server: the service, its health and its description, behind every door.

use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::{Routes, RoutesBuilder},
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
};
use tonic_reflection::pb::{v1, v1alpha};

use crate::grpc::v1::{
    DESCRIPTORS,
    mirror_service_server::{MirrorService, MirrorServiceServer},
};

/// The largest request that is taken: the files that may be sent along, and their names.
const LARGEST_REQUEST: usize = 20 << 20;

/// How often a silent client is asked whether it is still there; one that went away must not hold a stream for ever.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A door that is open.
#[derive(Debug)]
pub enum Door {
    /// See [`crate::grpc::listen::unix`].
    Unix(UnixListener),
    /// See [`crate::grpc::listen::tcp`].
    Tcp(TcpListener),
}

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

/// Serves at all `doors` until `stop` is cancelled and what was being answered has been. From `stopping` on it says of its health that
/// nothing new should come.
pub async fn serve<S: MirrorService + Clone>(
    service: S,
    doors: Vec<Door>,
    stop: CancellationToken,
    stopping: CancellationToken,
) -> Result<(), Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<MirrorServiceServer<S>>().await;
    let routes = routes(service, health)?;
    let serving = doors
        .into_iter()
        .map(|door| at(door, routes.clone(), stop.clone()));
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

async fn at(
    door: Door,
    routes: Routes,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .add_routes(routes);
    let stopped = stop.cancelled_owned();
    match door {
        Door::Unix(listener) => {
            server
                .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped)
                .await
        }
        Door::Tcp(listener) => {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            server.serve_with_incoming_shutdown(incoming, stopped).await
        }
    }
}

fn routes<S: MirrorService>(
    service: S,
    health: HealthServer<impl Health>,
) -> Result<Routes, Error> {
    // Each version of reflection describes the other too.
    let describe = |other| {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(other)
    };
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(
            MirrorServiceServer::new(service)
                .max_decoding_message_size(LARGEST_REQUEST)
                .max_encoding_message_size(usize::MAX),
        )
        .add_service(health)
        .add_service(describe(v1alpha::FILE_DESCRIPTOR_SET).build_v1()?)
        .add_service(describe(v1::FILE_DESCRIPTOR_SET).build_v1alpha()?);
    Ok(routes.routes())
}
