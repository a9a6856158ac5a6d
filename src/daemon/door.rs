//! Opens the doors that settings name, and reads who may come in.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::unistd::{Group, User};

use super::Error;
use crate::{
    grpc::{
        access::{Access, Rules},
        door::Door,
        listen,
        tls::{self, Files, Keys},
    },
    model::access::PeerName,
    settings::{Clients, Listen, Settings, TcpDoor, Tls},
};

/// What a path begins with that systemd provides.
const CREDENTIALS: &str = "$CREDENTIALS_DIRECTORY/";

/// The doors, and what is behind them.
pub(super) struct WayIn {
    /// What clients come in at.
    pub(super) doors: Vec<Door>,
    /// The files of sockets, which go with this value.
    pub(super) sockets: Vec<listen::Socket>,
    /// Who may do what.
    pub(super) access: Arc<Access>,
    /// Certificates and keys.
    pub(super) keys: Vec<Arc<Keys>>,
}

/// Reads tokens and keys, then opens the doors: none is open before it is known who may come in.
pub(super) async fn open(settings: &Settings) -> Result<WayIn, Error> {
    let access = Arc::new(access(&settings.clients)?);
    let mut way_in = WayIn {
        doors: Vec::new(),
        sockets: Vec::new(),
        access,
        keys: Vec::new(),
    };
    for warning in warnings(settings) {
        tracing::warn!("{warning}");
    }
    for place in &settings.listen {
        match place {
            Listen::Unix(path) => {
                let (listener, socket) =
                    listen::unix(path, settings.socket_group.as_deref()).await?;
                tracing::info!(socket = %path.display(), "listening");
                way_in.doors.push(Door::Unix(listener));
                way_in.sockets.push(socket);
            }
            Listen::Tcp(door) => {
                let keys = keys(door, &settings.clients, &way_in.access)?;
                let listener = listen::tcp(door.address, keys.is_some()).await?;
                tracing::info!(address = %door.address, tls = keys.is_some(), "listening");
                way_in.keys.extend(keys.clone());
                way_in.doors.push(Door::Tcp {
                    listener,
                    keys,
                    unnamed: door.unnamed,
                });
            }
        }
    }
    Ok(way_in)
}

/// Looks at everything that the doors need, without opening one; returns what is worth knowing.
///
/// # Errors
///
/// What keeps the daemon from starting. Credentials of systemd are left out where they are not there: they are for the daemon alone.
pub fn check(settings: &Settings) -> Result<Vec<String>, Error> {
    let mut found = warnings(settings);
    let passed_by = |path: PathBuf| {
        format!(
            "{} is not looked at, since only the daemon's unit has it",
            path.display()
        )
    };
    if let Some(Err(Error::NoCredential(path))) = settings.authfile.as_deref().map(place_of) {
        found.push(passed_by(path));
    }
    let access = match access(&settings.clients) {
        Err(Error::NoCredential(path)) => {
            found.push(passed_by(path));
            Access::load(Rules::default())?
        }
        access => access?,
    };
    for place in &settings.listen {
        let Listen::Tcp(door) = place else { continue };
        match keys(door, &settings.clients, &access) {
            Err(Error::NoCredential(path)) => found.push(passed_by(path)),
            Err(Error::NoTokens { tokens_file, .. }) if tokens_file.starts_with(CREDENTIALS) => {}
            keys => drop(keys?),
        }
    }
    Ok(found)
}

/// What is worth knowing of who may come in.
fn warnings(settings: &Settings) -> Vec<String> {
    let mut found = Vec::new();
    for place in &settings.listen {
        if let Listen::Tcp(door) = place
            && let (Some(rights), false) = (door.unnamed, door.unnamed_is_said)
        {
            found.push(format!(
                "whoever is on this machine has the right `{rights}` at {place}; make tokens (`clients`), or say it with `unnamed`"
            ));
        }
        if let Listen::Tcp(TcpDoor { tls: Some(tls), .. }) = place
            && place_of(&tls.key_file).is_ok_and(|path| tls::is_open_to_all(&path))
        {
            found.push(format!(
                "everybody on this machine can read the key {}; take that right away",
                tls.key_file.display()
            ));
        }
    }
    for rule in settings.clients.peers.iter().flatten() {
        let missing = match &rule.who {
            PeerName::User(name) if matches!(User::from_name(name), Ok(None)) => {
                Some(("user", name))
            }
            PeerName::Group(name) if matches!(Group::from_name(name), Ok(None)) => {
                Some(("group", name))
            }
            _ => None,
        };
        if let Some((what, name)) = missing {
            found.push(format!(
                "there is no {what} {name} on this machine, and `clients.peers` gives rights to it"
            ));
        }
    }
    found
}

fn access(clients: &Clients) -> Result<Access, Error> {
    let tokens_file = clients.tokens_file.as_deref().map(place_of).transpose()?;
    Ok(Access::load(Rules {
        tokens_file,
        tokens: clients.tokens.clone(),
        certificates: clients.certificates.clone(),
        peers: clients.peers.clone(),
    })?)
}

/// Reads the keys of a door, and sees that somebody can come in there.
fn keys(door: &TcpDoor, clients: &Clients, access: &Access) -> Result<Option<Arc<Keys>>, Error> {
    let takes_certificates = door
        .tls
        .as_ref()
        .is_some_and(|t| t.client_ca_file.is_some());
    let knows_certificates = takes_certificates && !clients.certificates.is_empty();
    if door.unnamed.is_none() && !knows_certificates && !access.knows_tokens() {
        return Err(Error::NoTokens {
            address: door.address,
            tokens_file: clients.tokens_file.clone().unwrap_or_default(),
        });
    }
    let keys = door.tls.as_ref().map(load).transpose()?;
    Ok(keys.map(Arc::new))
}

fn load(tls: &Tls) -> Result<Keys, Error> {
    let files = Files {
        cert: place_of(&tls.cert_file)?,
        key: place_of(&tls.key_file)?,
        client_ca: tls.client_ca_file.as_deref().map(place_of).transpose()?,
    };
    Ok(Keys::load(files)?)
}

/// Returns where a file is that may be one of systemd's credentials.
pub(super) fn place_of(path: &Path) -> Result<PathBuf, Error> {
    let Ok(name) = path.strip_prefix(CREDENTIALS) else {
        return Ok(path.to_owned());
    };
    let folder = env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
    let folder = folder.ok_or_else(|| Error::NoCredential(path.to_owned()))?;
    Ok(Path::new(&folder).join(name))
}
