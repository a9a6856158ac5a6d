//! A proxy that spoils single exchanges between a client and a registry, in the way and at the byte that a test says.
//!
//! One connection carries one exchange (`Connection: close` is added both ways), so that a body of unknown length ends where the
//! connection does and every fault is that of one request.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A request as it comes in.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// Path and query.
    pub target: String,
    pub range: Option<String>,
}

/// What kind of request it is, for choosing whom a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Manifest,
    Blob,
    Begin,
    Upload,
    PutManifest,
    Other,
}

impl Asked {
    pub fn kind(&self) -> Kind {
        let has = |part: &str| self.target.contains(part);
        match self.method.as_str() {
            "GET" if has("/manifests/") => Kind::Manifest,
            "GET" if has("/blobs/sha256:") => Kind::Blob,
            "POST" if has("/blobs/uploads/") => Kind::Begin,
            "PUT" if has("/blobs/uploads/") => Kind::Upload,
            "PUT" if has("/manifests/") => Kind::PutManifest,
            _ => Kind::Other,
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The proxy itself answers, before it has read the request's body.
    Answer(u16, Vec<(&'static str, String)>, &'static str),
    /// It answers so after it has read the request's body, and passes nothing on.
    Late(u16, Vec<(&'static str, String)>, &'static str),
    /// It sends the client back to where it asked.
    RedirectLoop,
    /// The connection is reset after so many bytes of the request's body were passed on.
    ResetUp(u64),
    /// It is reset after so many bytes of the answer's body.
    ResetDown(u64),
    /// It is closed in good order after so many bytes of the answer's body.
    Truncate(u64),
    /// Nothing is answered.
    Hang,
    /// The request's body is taken so far, and no further.
    HangUp(u64),
    /// The answer's body is sent so far, and no further.
    HangDown(u64),
    /// This byte of the request's body is another one when it arrives.
    FlipUp(u64),
    /// This byte of the answer's body is.
    FlipDown(u64),
    /// The answer's `Content-Length` is so much larger than it should be.
    Length(u64),
    /// The answer has this header instead of its own; none for `None`.
    Header(&'static str, Option<String>),
    /// All is passed on, and the answer is not.
    LoseAnswer,
    /// All is passed on, and the answer is kept back.
    HoldAnswer,
    /// The answer has this body.
    Body(Vec<u8>),
}

/// Decides what happens to a request; called once for each, in the order in which they come.
pub type Script = Box<dyn FnMut(&Asked) -> Option<Fault> + Send>;

/// A proxy before one registry, running as long as the runtime does.
pub struct Proxy {
    pub address: String,
    /// Told whenever an exchange has come to where it hangs.
    pub hangs: mpsc::Receiver<()>,
}

impl Proxy {
    pub async fn before(registry: &str, script: Script) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (behind, script) = (registry.to_owned(), Arc::new(Mutex::new(script)));
        let (told, hangs) = mpsc::channel();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (behind, script, told) = (behind.clone(), script.clone(), told.clone());
                tokio::spawn(async move {
                    // A connection that breaks is what this is for.
                    drop(exchange(client, &behind, &script, &told).await);
                });
            }
        });
        Proxy { address, hangs }
    }
}

/// Longer than any client of the tests waits.
const FOREVER: Duration = Duration::from_secs(600);

async fn exchange(
    mut client: TcpStream,
    behind: &str,
    script: &Mutex<Script>,
    told: &mpsc::Sender<()>,
) -> std::io::Result<()> {
    let (head, early) = read_head(&mut client).await?;
    let asked = asked(&head);
    let fault = (script.lock().unwrap())(&asked);
    let length = length_of(&head).unwrap_or(0);
    let mut up = Pump::new(early, Some(length));
    match &fault {
        Some(Fault::Answer(status, headers, body)) => {
            return answer(&mut client, *status, headers, body.as_bytes()).await;
        }
        Some(Fault::Late(status, headers, body)) => {
            up.pass(&mut client, &mut tokio::io::sink(), None, None)
                .await?;
            return answer(&mut client, *status, headers, body.as_bytes()).await;
        }
        Some(Fault::RedirectLoop) => {
            let there = [("Location", asked.target.clone())];
            return answer(&mut client, 307, &there, b"").await;
        }
        Some(Fault::Hang) => return hang(told).await,
        _ => {}
    }
    let mut server = TcpStream::connect(behind).await?;
    server.write_all(forwarded(&head).as_bytes()).await?;
    let (stop, flip) = match &fault {
        Some(Fault::ResetUp(at) | Fault::HangUp(at)) => (Some(*at), None),
        Some(Fault::FlipUp(at)) => (None, Some(*at % length.max(1))),
        _ => (None, None),
    };
    up.pass(&mut client, &mut server, stop, flip).await?;
    match &fault {
        Some(Fault::ResetUp(_)) => {
            reset(server);
            reset(client);
            return Ok(());
        }
        Some(Fault::HangUp(_)) => return hang(told).await,
        _ => {}
    }
    let (head, early) = read_head(&mut server).await?;
    if fault == Some(Fault::LoseAnswer) {
        reset(client);
        return Ok(());
    }
    if fault == Some(Fault::HoldAnswer) {
        return hang(told).await;
    }
    down(client, server, &asked, head, early, fault, told).await
}

async fn down(
    mut client: TcpStream,
    mut server: TcpStream,
    asked: &Asked,
    head: String,
    early: Vec<u8>,
    fault: Option<Fault>,
    told: &mpsc::Sender<()>,
) -> std::io::Result<()> {
    if let Some(Fault::Body(body)) = &fault {
        let head = with_header(&head, "Content-Length", Some(&body.len().to_string()));
        client.write_all(forwarded(&head).as_bytes()).await?;
        return client.write_all(body).await;
    }
    let length = length_of(&head);
    let head = match &fault {
        Some(Fault::Length(more)) => {
            let wrong = length.unwrap_or(0) + more;
            with_header(&head, "Content-Length", Some(&wrong.to_string()))
        }
        Some(Fault::Header(name, value)) => with_header(&head, name, value.as_deref()),
        _ => head,
    };
    client.write_all(forwarded(&head).as_bytes()).await?;
    if asked.method == "HEAD" {
        return Ok(());
    }
    let (stop, flip) = match &fault {
        Some(Fault::ResetDown(at) | Fault::Truncate(at) | Fault::HangDown(at)) => (Some(*at), None),
        Some(Fault::FlipDown(at)) => (None, Some(*at % length.unwrap_or(1).max(1))),
        _ => (None, None),
    };
    let mut pump = Pump::new(early, length);
    pump.pass(&mut server, &mut client, stop, flip).await?;
    match &fault {
        Some(Fault::ResetDown(_)) => reset(client),
        Some(Fault::HangDown(_)) => return hang(told).await,
        _ => client.shutdown().await?,
    }
    Ok(())
}

/// Passes a body on.
struct Pump {
    early: Vec<u8>,
    left: Option<u64>,
}

impl Pump {
    fn new(early: Vec<u8>, length: Option<u64>) -> Self {
        Pump {
            early,
            left: length,
        }
    }

    /// Passes on what is left, but no more than `stop` bytes, the one at `flip` another one.
    async fn pass(
        &mut self,
        from: &mut TcpStream,
        to: &mut (impl AsyncWriteExt + Unpin),
        stop: Option<u64>,
        flip: Option<u64>,
    ) -> std::io::Result<()> {
        let mut at = 0;
        let mut buffer = std::mem::take(&mut self.early);
        loop {
            let most = self.left.unwrap_or(u64::MAX);
            buffer.truncate(usize::try_from(most).unwrap_or(usize::MAX));
            if let Some(stop) = stop.filter(|stop| at + buffer.len() as u64 >= *stop) {
                to.write_all(&buffer[..(stop - at) as usize]).await?;
                return to.flush().await;
            }
            if let Some(flip) = flip.filter(|f| (at..at + buffer.len() as u64).contains(f)) {
                buffer[(flip - at) as usize] ^= 1;
            }
            to.write_all(&buffer).await?;
            at += buffer.len() as u64;
            self.left = self.left.map(|left| left - buffer.len() as u64);
            if self.left == Some(0) {
                return to.flush().await;
            }
            buffer.clear();
            let mut piece = [0; 16 << 10];
            match from.read(&mut piece).await? {
                0 if self.left.is_none() => return to.flush().await,
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => buffer.extend_from_slice(&piece[..n]),
            }
        }
    }
}

async fn hang(told: &mpsc::Sender<()>) -> std::io::Result<()> {
    // Not every test wants to know.
    let _ = told.send(());
    tokio::time::sleep(FOREVER).await;
    Ok(())
}

/// Ends a connection as a crash does.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
}

async fn answer(
    client: &mut TcpStream,
    status: u16,
    headers: &[(&'static str, String)],
    body: &[u8],
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Fault\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    client.write_all(head.as_bytes()).await?;
    client.write_all(body).await?;
    client.shutdown().await?;
    // Unread bytes would make the kernel reset the connection before the answer is read.
    let mut rest = [0; 16 << 10];
    while client.read(&mut rest).await? > 0 {}
    Ok(())
}

/// The first byte of a TLS handshake.
const TLS: u8 = 0x16;

/// Reads a head with its end, and what came with it of the body.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok((String::from_utf8(bytes).unwrap(), body));
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => bytes.extend_from_slice(&piece[..n]),
        }
        if bytes[0] == TLS {
            // A client that tries TLS first has its answer at once.
            stream
                .write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                .await?;
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    }
}

fn asked(head: &str) -> Asked {
    let mut words = head.split(' ');
    Asked {
        method: words.next().unwrap().to_owned(),
        target: words.next().unwrap().to_owned(),
        range: header(head, "range"),
    }
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}

fn length_of(head: &str) -> Option<u64> {
    header(head, "content-length")?.parse().ok()
}

/// The head with one header exchanged or, for `None`, left out.
fn with_header(head: &str, name: &str, value: Option<&str>) -> String {
    let keep = |line: &&str| {
        let key = line.split(':').next().unwrap_or_default();
        !line.is_empty() && !key.eq_ignore_ascii_case(name)
    };
    let mut lines: Vec<_> = head.lines().filter(keep).map(str::to_owned).collect();
    lines.extend(value.map(|value| format!("{name}: {value}")));
    lines.join("\r\n") + "\r\n\r\n"
}

fn forwarded(head: &str) -> String {
    with_header(head, "Connection", Some("close"))
}
