//! A proxy that knows the site's names: HTTP `CONNECT` and SOCKS5, with a password.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// The user of the proxy.
pub(crate) const USER: &str = "proxy-user";

/// The password of the proxy's user.
pub(crate) const PASSWORD: &str = "secret-of-the-proxy";

/// Where names lead.
pub(crate) type Names = Arc<Mutex<BTreeMap<String, SocketAddr>>>;

/// A running proxy; it ends with the runtime it was started in.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// The heads of what it was asked by HTTP, and the names it was asked for by SOCKS.
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts a proxy that speaks both protocols on one port.
    pub(crate) async fn start(names: Names) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (names, seen) = (names.clone(), kept.clone());
                // A client that hangs up in the middle is no matter.
                tokio::spawn(async move { serve(stream, &names, &seen).await });
            }
        });
        Proxy { address, seen }
    }
}

async fn serve(mut stream: TcpStream, names: &Names, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    let target = match first[0] {
        5 => socks(&mut stream, names, seen).await?,
        _ => connect(&mut stream, names, seen).await?,
    };
    if let Some(target) = target {
        let mut to = TcpStream::connect(target).await?;
        copy_bidirectional(&mut stream, &mut to).await?;
    }
    Ok(())
}

async fn connect(
    stream: &mut TcpStream,
    names: &Names,
    seen: &Mutex<Vec<String>>,
) -> io::Result<Option<SocketAddr>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    seen.lock().unwrap().push(head.clone());
    let credentials = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let known =
        head.to_lowercase().contains("proxy-authorization: basic ") && head.contains(&credentials);
    let name = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next());
    let target = name.and_then(|name| names.lock().unwrap().get(name).copied());
    let answer = match (known, target) {
        (false, _) => {
            "407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"site\"\r\ncontent-length: 0"
        }
        (true, None) => "502 Bad Gateway\r\ncontent-length: 0",
        (true, Some(_)) => "200 OK",
    };
    stream
        .write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes())
        .await?;
    Ok(target.filter(|_| known))
}

/// RFC 1928 and 1929, as far as a client that sends names and a password needs it.
async fn socks(
    stream: &mut TcpStream,
    names: &Names,
    seen: &Mutex<Vec<String>>,
) -> io::Result<Option<SocketAddr>> {
    let _version = stream.read_u8().await?;
    let offered = read(stream).await?;
    if !offered.contains(&2) {
        stream.write_all(&[5, 0xff]).await?;
        return Ok(None);
    }
    stream.write_all(&[5, 2]).await?;
    let _version = stream.read_u8().await?;
    let (user, password) = (read(stream).await?, read(stream).await?);
    let known = user == USER.as_bytes() && password == PASSWORD.as_bytes();
    stream.write_all(&[1, u8::from(!known)]).await?;
    let mut request = [0; 4];
    stream.read_exact(&mut request).await?;
    // A name: 3. Addresses would have been resolved on this machine, which cannot.
    assert_eq!(request, [5, 1, 0, 3], "the proxy is to resolve names");
    let name = String::from_utf8(read(stream).await?).unwrap();
    let port = stream.read_u16().await?;
    let name = format!("{name}:{port}");
    seen.lock().unwrap().push(name.clone());
    let target = names.lock().unwrap().get(&name).copied().filter(|_| known);
    let answer = u8::from(target.is_none());
    stream
        .write_all(&[5, answer, 0, 1, 0, 0, 0, 0, 0, 0])
        .await?;
    Ok(target)
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
