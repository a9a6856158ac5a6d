//! Lets a playbook move what only the test can: `GET /WORD` does what the word stands for, and answers when it is done.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    thread,
};

/// Listens for as long as the process lives. Returns the address, `http://127.0.0.1:port`.
pub(crate) fn listen(act: impl Fn(&str) -> bool + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let _ = answer(&client, &act);
        }
    });
    format!("http://{address}")
}

fn answer(mut client: &TcpStream, act: &dyn Fn(&str) -> bool) -> std::io::Result<()> {
    let mut lines = BufReader::new(client).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let word = request.split(' ').nth(1).unwrap_or_default();
    let status = match act(word.trim_start_matches('/')) {
        true => "200 OK",
        false => "404 Not Found",
    };
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
}
