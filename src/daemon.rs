//! Opens everything once, joins it, and shuts it down in order.

mod door;

mod mirror;

mod systemd;

use std::{path::PathBuf, sync::Arc};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    gitops,
    grpc::{access, listen, renew, server, service::Service, tls},
    output::{self, Output},
    reconcile::{self, Clock, Handle, Parts},
    registry::{
        self, Access, CertFolders, Client, ClientFiles, ConfError, ConfPlaces, Credentials,
        CredentialsError, Places, Proxies, RegistriesConf, Scheme,
    },
    resolve::{
        signature_store::{self, SignatureStores, Source},
        update_service::{self, UpdateService},
    },
    settings::{self, Git, RegistryAccess, Settings, SignedBy},
    store::{self, Store},
};

pub use door::check;
pub use mirror::check_mirror;

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
    /// Where upstreams are remapped cannot be read.
    #[error(transparent)]
    RegistriesConf(#[from] ConfError),
    /// Connections to registries cannot be prepared.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The update service is no place to ask.
    #[error(transparent)]
    Updates(#[from] update_service::Error),
    /// Signatures of releases cannot be looked at.
    #[error(transparent)]
    Signatures(#[from] signature_store::Error),
    /// Reading the state failed.
    #[error(transparent)]
    Reconcile(#[from] reconcile::Error),
    /// Clients cannot be let in.
    #[error(transparent)]
    Listen(#[from] listen::Error),
    /// Certificate, key or CA of a door cannot be used.
    #[error(transparent)]
    Keys(#[from] tls::KeyError),
    /// The tokens cannot be read.
    #[error(transparent)]
    Tokens(#[from] access::TokensError),
    /// A door would let other machines in, and nobody who comes is known.
    #[error(
        "nobody could do anything at tcp://{address}: there is no token in {}; make one with `imagesetd token new`", tokens_file.display()
    )]
    NoTokens {
        /// The door.
        address: std::net::SocketAddr,
        /// Where tokens are expected.
        tokens_file: PathBuf,
    },
    /// A file is named that systemd was to provide.
    #[error(
        "{} names a credential of systemd, and CREDENTIALS_DIRECTORY is not set: the unit needs `LoadCredential=`; from a shell set CREDENTIALS_DIRECTORY to the folder that has the file", .0.display()
    )]
    NoCredential(PathBuf),
    /// Serving clients ended.
    #[error(transparent)]
    Serve(#[from] server::Error),
}

/// How the two sides are reached where settings name no registry.
#[derive(Debug, Clone, Default)]
pub struct Sides {
    /// Upstreams.
    pub source: Side,
    /// The mirror.
    pub mirror: Side,
}

/// How one side is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Side {
    /// In which protocol, and whether certificates are checked.
    pub access: Access,
    /// The folder of certificates for all registries of this side, instead of one for each.
    pub cert_dir: Option<PathBuf>,
}

impl Sides {
    /// Both by HTTPS; where certificates are not to be verified, any will do, and so will plain HTTP, as for skopeo.
    pub fn verified(source: bool, mirror: bool) -> Self {
        let reached = |verify| Side {
            access: match verify {
                true => Access::default(),
                false => Access::unverified(),
            },
            cert_dir: None,
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
    open_by(settings, sides, output, watcher, Clock::default())
}

/// The same by another clock than the system's.
pub fn open_by(
    settings: Settings,
    sides: &Sides,
    output: Output,
    watcher: Option<gitops::Watcher>,
    clock: Clock,
) -> Result<Handle, Error> {
    let store = Store::open(&settings.state)?;
    let site = Site::of(&settings)?;
    let source = client(&settings, &site, &sides.source)?;
    // What is written is looked for where it was written, whatever upstreams are remapped to.
    let mirror = match sides.source == sides.mirror {
        true => source.direct(),
        false => client(&settings, &site, &sides.mirror)?.direct(),
    };
    let urls = &settings.update_service;
    let updates = UpdateService::new(
        urls.ocp.clone(),
        urls.okd.clone(),
        update_service::Options::default(),
    )?;
    let signatures = signature_stores(&settings)?;
    let parts = Parts {
        settings,
        store,
        source,
        mirror,
        updates,
        signatures,
        output,
        watcher,
        clock,
    };
    Ok(Handle::open(parts)?)
}

/// Makes a client that only reads from upstreams, for who looks at them without a daemon.
///
/// # Errors
///
/// The credentials cannot be read, or connections not be prepared.
pub fn source(settings: &Settings, sides: &Sides) -> Result<Client, Error> {
    Ok(client(settings, &Site::of(settings)?, &sides.source)?)
}

/// Reads the keyrings; of OKD none is known where the settings name none.
fn signature_stores(settings: &Settings) -> Result<SignatureStores, signature_store::Error> {
    let source = |signed_by: &SignedBy| {
        let keyring = signed_by.keyring.as_deref().map(signature_store::keyring);
        keyring.transpose().map(|keyring| Source {
            store: signed_by.store.clone(),
            keyring,
            names: signed_by.names.clone(),
        })
    };
    let mut ocp = source(&settings.release_verification.ocp)?;
    if ocp.keyring.is_none() {
        ocp.keyring = Some(signature_store::red_hat()?);
    }
    let okd = source(&settings.release_verification.okd)?;
    SignatureStores::new(ocp, okd, update_service::Options::default())
}

/// What this machine says of registries: who asks, and on which ways.
struct Site {
    credentials: Credentials,
    certs: CertFolders,
    registries_conf: RegistriesConf,
    proxies: Proxies,
}

impl Site {
    fn of(settings: &Settings) -> Result<Self, Error> {
        let variable = |name: &str| std::env::var_os(name);
        let authfile = settings
            .authfile
            .as_deref()
            .map(door::place_of)
            .transpose()?;
        let places = Places::new(authfile, variable);
        let conf = match &settings.registries_conf {
            settings::RegistriesConf::Usual => ConfPlaces::usual(variable),
            settings::RegistriesConf::File(file) => ConfPlaces::file(file.clone()),
            settings::RegistriesConf::None => ConfPlaces::none(),
        };
        Ok(Site {
            credentials: Credentials::load(&places)?,
            certs: match &settings.certs_dir {
                Some(folder) => CertFolders::ByHost(vec![folder.clone()]),
                None => CertFolders::usual(variable),
            },
            registries_conf: RegistriesConf::load(conf)?,
            proxies: Proxies::of_environment(),
        })
    }
}

fn client(settings: &Settings, site: &Site, side: &Side) -> Result<Client, registry::Error> {
    let certs = match &side.cert_dir {
        Some(folder) => CertFolders::One(folder.clone()),
        None => site.certs.clone(),
    };
    Client::new(registry::Options {
        credentials: site.credentials.clone(),
        access: settings
            .registries
            .iter()
            .map(|r| (r.host.clone(), access(r)))
            .collect(),
        default_access: side.access.clone(),
        certs,
        proxies: site.proxies.clone(),
        registries_conf: site.registries_conf.clone(),
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
        client: settings
            .client
            .as_ref()
            .map(|(certificate, key)| ClientFiles {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
    }
}

/// Runs the daemon until `stop` is cancelled.
///
/// It lets clients in before it looks at the directory, and out after the last run has ended or its deadline is over.
pub async fn serve(settings: Settings, stop: CancellationToken) -> Result<(), Error> {
    let way_in = door::open(&settings).await?;
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
    let door::WayIn {
        doors,
        sockets,
        access,
        keys,
    } = way_in;
    tasks.spawn({
        let (handle, access, stop) = (handle.clone(), Arc::clone(&access), stop.child_token());
        async move { renew::run(access, keys, |trouble| handle.note_access(trouble), stop).await }
    });
    let service = Service::new(handle.clone(), closing.clone());
    let serving = server::serve(service, doors, access, closing.clone(), stop.clone());
    let serving = tokio::spawn(serving);
    let notify = systemd::Notify::of_environment();
    notify.ready();
    tasks.spawn({
        let handle = handle.clone();
        let alive = move || drop(handle.status(None));
        notify.clone().watch(alive, closing.clone())
    });
    tokio::pin!(serving);
    let ended = tokio::select! {
        () = stop.cancelled() => None,
        ended = &mut serving => Some(ended),
    };
    notify.stopping();
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
