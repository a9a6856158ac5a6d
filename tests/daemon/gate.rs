//! A door before a registry: requests for chosen blobs wait until it is opened.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

/// A proxy of one registry. What waits at it has not reached the registry, so it is not in the registry's record.
pub(crate) struct Gate {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    door: Mutex<Door>,
    changed: Condvar,
}

#[derive(Default)]
struct Door {
    /// How requests begin that wait.
    held: Option<String>,
    /// How many wait now.
    waiting: usize,
}

impl Gate {
    /// Stands before the registry at `address`, open.
    pub(crate) fn before(address: &str) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Gate {
            address: listener.local_addr().unwrap().to_string(),
            shared: Arc::default(),
        };
        let (registry, shared) = (address.to_owned(), gate.shared.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A registry that is stopped refuses: the client sees its connection end.
                if let Ok(server) = TcpStream::connect(&registry) {
                    pass(client, server, shared.clone());
                }
            }
        });
        gate
    }

    /// Returns `127.0.0.1:port`: the registry's name as clients behind the gate know it.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// From now on downloads of blobs of `repository` wait.
    pub(crate) fn hold(&self, repository: &str) {
        self.set(Some(format!("GET /v2/{repository}/blobs/")));
    }

    /// Lets go all that waits, but for what was given up meanwhile.
    pub(crate) fn open(&self) {
        self.set(None);
    }

    /// Returns once a request waits.
    pub(crate) fn somebody_waits(&self) {
        let door = self.shared.door.lock().unwrap();
        let alone = |door: &mut Door| door.waiting == 0;
        let patience = Duration::from_secs(20);
        let changed = &self.shared.changed;
        let (_, waited) = changed.wait_timeout_while(door, patience, alone).unwrap();
        assert!(!waited.timed_out(), "nobody came to the gate");
    }

    fn set(&self, held: Option<String>) {
        self.shared.door.lock().unwrap().held = held;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn wait(&self, head: &[u8]) {
        let is_held = |door: &mut Door| {
            let held = door.held.as_ref();
            held.is_some_and(|held| head.starts_with(held.as_bytes()))
        };
        let mut door = self.door.lock().unwrap();
        if !is_held(&mut door) {
            return;
        }
        door.waiting += 1;
        self.changed.notify_all();
        let mut door = self.changed.wait_while(door, is_held).unwrap();
        door.waiting -= 1;
    }
}

fn pass(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    thread::spawn(move || {
        let _ = forward(client, &server, &shared);
        let _ = server.shutdown(Shutdown::Both);
    });
}

/// Passes requests on; a request's head comes in one piece, since it is sent in one.
fn forward(mut client: TcpStream, mut server: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = client.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        shared.wait(&buffer[..length]);
        if hung_up(&client)? {
            return Ok(());
        }
        server.write_all(&buffer[..length])?;
    }
}

/// Whether the client went away while it waited.
fn hung_up(client: &TcpStream) -> std::io::Result<bool> {
    client.set_read_timeout(Some(Duration::from_millis(1)))?;
    let seen = client.peek(&mut [0]);
    client.set_read_timeout(None)?;
    Ok(!matches!(&seen, Ok(1)) && !matches!(&seen, Err(e) if is_pending(e)))
}

fn is_pending(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}
