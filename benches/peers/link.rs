//! A far link: a proxy in user space that holds back what passes for half a round trip in each direction.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// How many pieces may be on their way in one direction of a connection.
const WINDOW: usize = 256;

/// Listens until it is dropped, and passes everything on to one server.
#[derive(Debug)]
pub(crate) struct Link {
    address: String,
    _runtime: Runtime,
}

impl Link {
    /// Puts `round_trip` between clients and the server at `to`.
    pub(crate) fn new(to: &str, round_trip: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let to = to.to_owned();
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let to = to.clone();
                tokio::spawn(async move { pass(near, &to, round_trip).await });
            }
        });
        Link {
            address,
            _runtime: runtime,
        }
    }

    /// Returns where clients connect.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

async fn pass(near: TcpStream, to: &str, round_trip: Duration) {
    // Connecting takes a round trip too.
    tokio::time::sleep(round_trip).await;
    let Ok(far) = TcpStream::connect(to).await else {
        return;
    };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
    }
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::join!(
        carry(near_in, far_out, round_trip / 2),
        carry(far_in, near_out, round_trip / 2)
    );
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(WINDOW);
    let reading = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let piece = (Instant::now() + delay, buffer[..length].to_vec());
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = pieces.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}
