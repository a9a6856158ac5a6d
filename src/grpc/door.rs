//! The way in: connections, their number, their handshakes, and how long one is kept that says nothing.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, Sleep, sleep, sleep_until, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::{
    grpc::{
        access::Access,
        origin::{self, Origin},
        tls::Keys,
    },
    model::access::Right,
};

/// How many connections a door has at once; those beyond are closed as they come.
const CONNECTIONS: usize = 256;

/// How long a client may take to shake hands and to begin to speak HTTP/2.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a connection is kept that never says who it is.
const STRANGER: Duration = Duration::from_secs(60);

/// How long nothing may come; a client that is there answers the pings of [`crate::grpc::server`] within less.
const SILENCE: Duration = Duration::from_secs(60);

/// What a client says first (RFC 9113, section 3.4), in bytes.
const PREFACE: u64 = 24;

/// A door that is open.
#[derive(Debug)]
pub enum Door {
    /// See [`crate::grpc::listen::unix`].
    Unix(UnixListener),
    /// See [`crate::grpc::listen::tcp`].
    Tcp {
        /// Where it is.
        listener: TcpListener,
        /// TLS, if it has it.
        keys: Option<Arc<Keys>>,
        /// What somebody may do who does not say who they are.
        unnamed: Option<Right>,
    },
}

/// What came in and has not said anything yet.
enum Knock {
    Unix(UnixStream),
    Tcp(TcpStream, String),
}

impl Door {
    async fn knock(&self) -> io::Result<Knock> {
        match self {
            Door::Unix(listener) => Ok(Knock::Unix(listener.accept().await?.0)),
            Door::Tcp { listener, .. } => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Knock::Tcp(stream, from.to_string()))
            }
        }
    }

    async fn greet(&self, knock: Knock, access: &Arc<Access>) -> io::Result<(Io, Origin)> {
        match (knock, self) {
            (Knock::Unix(stream), _) => {
                let origin = peer(&stream, access).await?;
                Ok((Io::Unix(stream), origin))
            }
            (
                Knock::Tcp(stream, from),
                Door::Tcp {
                    keys: Some(keys),
                    unnamed,
                    ..
                },
            ) => {
                let stream = keys.acceptor().accept(stream).await?;
                let chain = stream.get_ref().1.peer_certificates();
                let origin = match chain {
                    Some(chain) => {
                        let chain = chain.iter().map(|c| c.clone().into_owned()).collect();
                        Origin::certificate(from, chain, Arc::clone(keys))
                    }
                    None => Origin::unnamed(from, *unnamed),
                };
                Ok((Io::Tls(Box::new(stream)), origin))
            }
            (Knock::Tcp(stream, from), door) => {
                let unnamed = match door {
                    Door::Tcp { unnamed, .. } => *unnamed,
                    Door::Unix(_) => None,
                };
                Ok((Io::Tcp(stream), Origin::unnamed(from, unnamed)))
            }
        }
    }
}

async fn peer(stream: &UnixStream, access: &Arc<Access>) -> io::Result<Origin> {
    let who = stream.peer_cred()?;
    let (uid, gid, access) = (who.uid(), who.gid(), Arc::clone(access));
    let looked_up = tokio::task::spawn_blocking(move || {
        let peer = origin::look_up(uid, gid, access.peer_rules());
        let rights = access.of_peer(&peer);
        (peer, rights)
    });
    let (peer, rights) = looked_up.await.map_err(io::Error::other)?;
    let name = peer.user.unwrap_or_else(|| peer.uid.to_string());
    Ok(Origin::peer(name, rights))
}

/// Lets clients in at a door until `stop` is cancelled or nobody takes them any more.
pub fn open(
    door: Door,
    access: Arc<Access>,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Conn>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(let_in(Arc::new(door), access, sender, stop));
    ReceiverStream::new(receiver)
}

async fn let_in(
    door: Arc<Door>,
    access: Arc<Access>,
    taker: mpsc::Sender<io::Result<Conn>>,
    stop: CancellationToken,
) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let mut was_full = false;
    loop {
        let knock = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = taker.closed() => return,
            knock = door.knock() => knock,
        };
        let knock = match knock {
            Ok(knock) => knock,
            Err(error) => {
                // Out of file descriptors, mostly: it gets better when somebody leaves.
                tracing::debug!(%error, "a client could not be let in");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let seat = Arc::clone(&seats).try_acquire_owned();
        let is_full = seat.is_err();
        if is_full && !was_full {
            tracing::warn!(
                connections = CONNECTIONS,
                "clients are turned away: there are too many connections"
            );
        }
        was_full = is_full;
        let Ok(seat) = seat else { continue };
        let (door, access, taker) = (Arc::clone(&door), Arc::clone(&access), taker.clone());
        tokio::spawn(async move {
            let begun = Instant::now();
            match timeout(HANDSHAKE, door.greet(knock, &access)).await {
                Ok(Ok((io, origin))) => {
                    let conn = Conn::new(io, origin, seat, begun);
                    // Nobody takes it any more when the daemon stops.
                    let _ = taker.send(Ok(conn)).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                Err(_) => tracing::debug!("a handshake took too long"),
            }
        });
    }
}

#[derive(Debug)]
enum Io {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection. Reading from it fails when it has been silent, or unknown, for too long.
#[derive(Debug)]
pub struct Conn {
    io: Io,
    origin: Origin,
    _seat: OwnedSemaphorePermit,
    begun: Instant,
    heard: Instant,
    bytes: u64,
    timer: Pin<Box<Sleep>>,
}

impl Conn {
    fn new(io: Io, origin: Origin, seat: OwnedSemaphorePermit, begun: Instant) -> Self {
        Conn {
            io,
            origin,
            _seat: seat,
            begun,
            heard: begun,
            bytes: 0,
            timer: Box::pin(sleep_until(begun + HANDSHAKE)),
        }
    }

    /// Until when it is kept if nothing more comes.
    fn deadline(&self) -> Instant {
        let silence = match self.bytes < PREFACE {
            true => self.begun + HANDSHAKE,
            false => self.heard + SILENCE,
        };
        match self.origin.is_known() {
            true => silence,
            false => silence.min(self.begun + STRANGER),
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let deadline = self.deadline();
            if self.timer.deadline() != deadline {
                self.timer.as_mut().reset(deadline);
            }
            ready!(self.timer.as_mut().poll(cx));
            // Who is known since the timer was set has longer.
            if self.deadline() <= Instant::now() {
                return Poll::Ready(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client was silent or unknown for too long",
                ));
            }
        }
    }
}

impl Connected for Conn {
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        self.origin.clone()
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = match &mut this.io {
            Io::Unix(io) => Pin::new(io).poll_read(cx, buffer),
            Io::Tcp(io) => Pin::new(io).poll_read(cx, buffer),
            Io::Tls(io) => Pin::new(io).poll_read(cx, buffer),
        };
        if read.is_ready() {
            this.bytes += (buffer.filled().len() - before) as u64;
            this.heard = Instant::now();
        }
        // Looked at in any case, so that nobody stays by sending without an end what says nothing.
        match this.poll_deadline(cx) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => read,
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Unix(io) => Pin::new(io).poll_write(cx, bytes),
            Io::Tcp(io) => Pin::new(io).poll_write(cx, bytes),
            Io::Tls(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Unix(io) => Pin::new(io).poll_flush(cx),
            Io::Tcp(io) => Pin::new(io).poll_flush(cx),
            Io::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Unix(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            Io::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn conn(origin: &Origin) -> (Conn, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let seat = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        (
            Conn::new(Io::Unix(ours), origin.clone(), seat, Instant::now()),
            theirs,
        )
    }

    /// Reads until there is no more, and returns after how long that was.
    async fn kept(mut conn: Conn) -> Duration {
        let begun = Instant::now();
        let mut buffer = [0; 64];
        while conn.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        // The timer's steps are milliseconds.
        Duration::from_secs(begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_at_all_is_sent_away_first() {
        let (conn, _theirs) = conn(&Origin::peer("a".to_owned(), Some(Right::Read)));
        assert_eq!(kept(conn).await, HANDSHAKE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_later_is_sent_away_too() {
        let (conn, mut theirs) = conn(&Origin::peer("a".to_owned(), Some(Right::Read)));
        theirs.write_all(&[0; PREFACE as usize]).await.unwrap();
        assert_eq!(kept(conn).await, SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_speaks_and_never_says_who_they_are_is_sent_away() {
        let origin = Origin::unnamed("x", None);
        let (conn, mut theirs) = conn(&origin);
        let speaking = tokio::spawn(async move {
            while theirs.write_all(&[0; PREFACE as usize]).await.is_ok() {
                sleep(Duration::from_secs(7)).await;
            }
        });
        assert_eq!(kept(conn).await, STRANGER);
        speaking.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_said_who_they_are_stays_as_long_as_they_speak() {
        let origin = Origin::unnamed("x", None);
        let (conn, mut theirs) = conn(&origin);
        tokio::spawn(async move {
            for number in 0..20 {
                theirs.write_all(&[0; PREFACE as usize]).await.unwrap();
                sleep(Duration::from_secs(30)).await;
                if number == 0 {
                    origin.know();
                }
            }
            // Kept open, and silent from here on.
            sleep(Duration::from_secs(1000)).await;
        });
        assert_eq!(kept(conn).await, Duration::from_secs(19 * 30) + SILENCE);
    }
}
