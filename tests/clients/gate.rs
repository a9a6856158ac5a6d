//! A door before a registry that lets everything through but blobs, until it is opened: a run that goes on for as long as a test
//! needs it to.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// How long somebody may take to knock.
const PATIENCE: Duration = Duration::from_secs(120);

/// Passes on what comes to an address of its own.
pub(crate) struct Gate {
    /// `127.0.0.1:port`
    pub(crate) address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    open: bool,
    held: usize,
}

impl State {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    /// Stands before `registry`, closed.
    pub(crate) fn before(registry: &str) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        let (shared, registry) = (Arc::clone(&state), registry.to_owned());
        thread::spawn(move || {
            for client in listener.incoming() {
                let (state, registry) = (Arc::clone(&shared), registry.clone());
                thread::spawn(move || pass(client.unwrap(), &registry, &state));
            }
        });
        Gate { address, state }
    }

    /// Waits until somebody stands before it with a request for a blob.
    pub(crate) fn wait_for_knock(&self) {
        let nobody = |inner: &mut Inner| inner.held == 0;
        let (changed, inner) = (&self.state.changed, self.state.inner());
        let (inner, waited) = changed.wait_timeout_while(inner, PATIENCE, nobody).unwrap();
        drop(inner);
        assert!(!waited.timed_out(), "nobody asked the gate for a blob");
    }

    /// Holds blobs back again.
    #[allow(dead_code, reason = "only some tests close what they opened")]
    pub(crate) fn close(&self) {
        *self.state.inner() = Inner::default();
    }

    /// Lets blobs through from now on.
    pub(crate) fn open(&self) {
        self.state.inner().open = true;
        self.state.changed.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

fn pass(mut client: TcpStream, registry: &str, state: &State) {
    let Ok(mut server) = TcpStream::connect(registry) else {
        return;
    };
    let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let answering = thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Both);
    });
    let mut buffer = [0; 16 << 10];
    // Requests of a client without bodies come in one piece.
    while let Ok(count) = client.read(&mut buffer) {
        if count == 0 {
            break;
        }
        let is_blob = String::from_utf8_lossy(&buffer[..count]).contains("/blobs/");
        if is_blob {
            let mut inner = state.inner();
            inner.held += 1;
            state.changed.notify_all();
            while !inner.open {
                inner = state.changed.wait(inner).unwrap();
            }
        }
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(std::net::Shutdown::Both);
    let _ = answering.join();
}
