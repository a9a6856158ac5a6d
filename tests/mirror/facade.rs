//! A façade before a registry: it answers some requests itself, and passes on the others.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
};

/// What it answers by itself: status, further header lines, body.
pub(crate) type Answer = (u16, String, Vec<u8>);

/// Stands at an address of its own; a request it does not answer goes to the registry.
pub(crate) struct Facade {
    /// `127.0.0.1:port`
    pub(crate) address: String,
}

impl Facade {
    /// Stands before `registry`; `answers` is asked with the method and the path with its query.
    pub(crate) fn before(
        registry: &str,
        answers: impl Fn(&str, &str) -> Option<Answer> + Send + Sync + 'static,
    ) -> Facade {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (answers, registry) = (Arc::new(answers), registry.to_owned());
        thread::spawn(move || {
            for client in listener.incoming() {
                let (answers, registry) = (Arc::clone(&answers), registry.clone());
                thread::spawn(move || serve(client.unwrap(), &registry, answers.as_ref()));
            }
        });
        Facade { address }
    }
}

/// One request, one answer, and the connection is over.
fn serve(client: TcpStream, registry: &str, answers: &dyn Fn(&str, &str) -> Option<Answer>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let mut client = client;
    if let Some((status, headers, body)) = answers(method, target) {
        let head = format!(
            "HTTP/1.1 {status} Answer\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        let _ = client.write_all(head.as_bytes());
        if method != "HEAD" {
            let _ = client.write_all(&body);
        }
        return;
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let mut server = TcpStream::connect(registry).unwrap();
    let kept = head
        .trim_end()
        .lines()
        .filter(|l| !l.to_lowercase().starts_with("connection:"));
    let mut passed: String = kept.map(|line| format!("{line}\r\n")).collect();
    passed += "Connection: close\r\n\r\n";
    server.write_all(passed.as_bytes()).unwrap();
    server.write_all(&body).unwrap();
    let _ = std::io::copy(&mut server, &mut client);
}
