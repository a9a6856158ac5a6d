//! Opens everything once, joins it, and shuts it down in order.

use std::path::PathBuf;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    gitops,
    grpc::{listen, server, service::Service},
    output::{self, Output},
    reconcile::{self, Handle, Parts},
    registry::{self, Access, Client, Credentials, CredentialsError, Places, Scheme},
    resolve::update_service::{self, UpdateService},
    settings::{Git, Listen, RegistryAccess, Settings},
    store::{self, Store},
};

/// Why the daemon, or `once`, does not start or ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state cannot be opened.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The output folder cannot be opened.
    #[error(transparent)]
    Output(#[from] output::Error),
    /// The credentials cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Connections to registries cannot be prepared.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The update service is no place to ask.
    #[error(transparent)]
    Updates(#[from] update_service::Error),
    /// Reading the state failed.
    #[error(transparent)]
    Reconcile(#[from] reconcile::Error),
    /// Clients cannot be let in.
    #[error(transparent)]
    Listen(#[from] listen::Error),
    /// Serving clients ended.
    #[error(transparent)]
    Serve(#[from] server::Error),
}

/// How the two sides are reached where settings name no registry.
#[derive(Debug, Clone, Default)]
pub struct Sides {
    /// Upstreams.
    pub source: Access,
    /// The mirror.
    pub mirror: Access,
}

impl Sides {
    /// Both by HTTPS; where certificates are not to be verified, any will do, and so will plain HTTP, as for skopeo.
    pub fn verified(source: bool, mirror: bool) -> Self {
        let reached = |verify| {
            if verify {
                Access::default()
            } else {
                Access::unverified()
            }
        };
        Sides {
            source: reached(source),
            mirror: reached(mirror),
        }
    }
}

/// Opens state, output folder and clients, and joins them.
pub fn open(
    settings: Settings,
    sides: &Sides,
    output: Output,
    watcher: Option<gitops::Watcher>,
) -> Result<Handle, Error> {
    let store = Store::open(&settings.state)?;
    let places = Places::new(settings.authfile.clone(), |name| std::env::var_os(name));
    let credentials = Credentials::load(&places)?;
    let source = client(&settings, credentials.clone(), &sides.source)?;
    let mirror = match sides.source == sides.mirror {
        true => source.clone(),
        false => client(&settings, credentials, &sides.mirror)?,
    };
    let urls = &settings.update_service;
    let updates = UpdateService::new(
        urls.ocp.clone(),
        urls.okd.clone(),
        update_service::Options::default(),
    )?;
    let parts = Parts {
        settings,
        store,
        source,
        mirror,
        updates,
        output,
        watcher,
    };
    Ok(Handle::open(parts)?)
}

/// Makes a client that only reads from upstreams, for who looks at them without a daemon.
///
/// # Errors
///
/// The credentials cannot be read, or connections not be prepared.
pub fn source(authfile: Option<PathBuf>, verify: bool) -> Result<Client, Error> {
    let places = Places::new(authfile, |name| std::env::var_os(name));
    Ok(Client::new(registry::Options {
        credentials: Credentials::load(&places)?,
        default_access: Sides::verified(verify, verify).source,
        ..registry::Options::default()
    })?)
}

fn client(
    settings: &Settings,
    credentials: Credentials,
    default_access: &Access,
) -> Result<Client, registry::Error> {
    Client::new(registry::Options {
        credentials,
        access: settings
            .registries
            .iter()
            .map(|r| (r.host.clone(), access(r)))
            .collect(),
        default_access: default_access.clone(),
        retries: settings.retries,
        requests_per_host: settings.parallel_blobs.max(settings.parallel_images) * 2,
        ..registry::Options::default()
    })
}

fn access(settings: &RegistryAccess) -> Access {
    Access {
        scheme: if settings.plain_http {
            Scheme::Http
        } else {
            Scheme::Https
        },
        skip_tls_verify: settings.skip_tls_verify,
        ca_file: settings.ca_file.clone(),
    }
}

/// Runs the daemon until `stop` is cancelled.
///
/// It lets clients in before it looks at the directory, and out after the last run has ended or its deadline is over.
pub async fn serve(settings: Settings, stop: CancellationToken) -> Result<(), Error> {
    let (doors, sockets) = doors(&settings).await?;
    let output = Output::open(&settings.output)?;
    let (watcher, watching) = gitops::start(
        gitops::Options {
            directory: settings.directory.clone(),
            settle: settings.settle,
            rescan: settings.rescan,
            git: settings.git.as_ref().map(sync_of),
        },
        stop.child_token(),
    );
    let deadline = settings.shutdown_timeout;
    let directory: PathBuf = settings.directory.clone();
    let handle = open(settings, &Sides::default(), output, Some(watcher.clone()))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), directory = %directory.display(), "imagesetd is up");

    let tasks = TaskTracker::new();
    tasks.spawn(watching);
    tasks.spawn({
        let handle = handle.clone();
        let observations = watcher.observations();
        async move { handle.follow(observations).await }
    });
    if let Some(states) = watcher.sync_state() {
        tasks.spawn(tell_git(handle.clone(), states, stop.child_token()));
    }
    let closing = CancellationToken::new();
    let service = Service::new(handle.clone(), closing.clone());
    let serving = tokio::spawn(server::serve(service, doors, closing.clone()));
    tokio::pin!(serving);
    let ended = tokio::select! {
        () = stop.cancelled() => None,
        ended = &mut serving => Some(ended),
    };
    tracing::info!("imagesetd is stopping");
    stop.cancel();
    handle.shutdown(deadline).await;
    closing.cancel();
    tasks.close();
    tasks.wait().await;
    let ended = match ended {
        Some(ended) => ended,
        // A client that does not hang up is left behind.
        None => match tokio::time::timeout(std::time::Duration::from_secs(3), &mut serving).await {
            Ok(ended) => ended,
            Err(_) => Ok(Ok(())),
        },
    };
    drop(sockets);
    tracing::info!("imagesetd has stopped");
    match ended {
        Ok(served) => Ok(served?),
        Err(error) => Err(reconcile::Error::Task(error).into()),
    }
}

async fn doors(settings: &Settings) -> Result<(Vec<server::Door>, Vec<listen::Socket>), Error> {
    let mut doors = Vec::new();
    let mut sockets = Vec::new();
    for place in &settings.listen {
        match place {
            Listen::Unix(path) => {
                let (listener, socket) =
                    listen::unix(path, settings.socket_group.as_deref()).await?;
                tracing::info!(socket = %path.display(), "listening");
                doors.push(server::Door::Unix(listener));
                sockets.push(socket);
            }
            Listen::Tcp(address) => {
                let listener = listen::tcp(*address).await?;
                tracing::info!(%address, "listening");
                doors.push(server::Door::Tcp(listener));
            }
        }
    }
    Ok((doors, sockets))
}

fn sync_of(git: &Git) -> gitops::GitSync {
    gitops::GitSync {
        url: git.url.clone(),
        branch: git.branch.clone(),
        interval: git.interval,
    }
}

/// Passes on how keeping the directory at its branch goes.
async fn tell_git(
    handle: Handle,
    mut states: tokio::sync::watch::Receiver<gitops::SyncState>,
    stop: CancellationToken,
) {
    loop {
        let state = states.borrow_and_update().clone();
        handle.note_git(state.error);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = states.changed() => if changed.is_err() { return },
        }
    }
}
