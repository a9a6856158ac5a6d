//! What a registry was asked, read from its access log.

use std::{collections::BTreeMap, ops::Deref};

/// One request that a registry has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// What follows `?`; empty where nothing does.
    pub query: String,
    pub status: u16,
    /// The bytes of the answer's body that were written.
    pub bytes: u64,
    /// The user agent.
    pub agent: String,
}

impl Request {
    /// Reads a line in the Combined Log Format; nothing where it is none.
    pub fn parse(line: &str) -> Option<Request> {
        let (request, rest) = quoted(line)?;
        let mut words = request.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let mut numbers = rest.split_whitespace();
        let (status, bytes) = (numbers.next()?, numbers.next()?);
        let (_referrer, rest) = quoted(rest)?;
        let (agent, _) = quoted(rest)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(Request {
            method: method.into(),
            path: path.into(),
            query: query.into(),
            status: status.parse().ok()?,
            bytes: bytes.parse().ok()?,
            agent,
        })
    }

    /// Returns the digest that a blob was asked for by; nothing for other requests, uploads among them.
    pub fn blob(&self) -> Option<&str> {
        let (_, digest) = self.path.rsplit_once("/blobs/")?;
        digest.contains(':').then_some(digest)
    }

    /// Returns the tag or digest that a manifest was asked for by, or pushed by.
    pub fn manifest(&self) -> Option<&str> {
        let (_, name) = self.path.rsplit_once("/manifests/")?;
        Some(name)
    }

    /// Whether the registry did what it was asked.
    pub fn succeeded(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether it was to change what the registry holds.
    pub fn writes(&self) -> bool {
        !["GET", "HEAD"].contains(&self.method.as_str())
    }
}

/// Returns what stands in the first quotes, and what follows them.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (_, text) = text.split_once('"')?;
    let mut inside = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((inside, &text[at + 1..])),
            '\\' => inside.extend(chars.next().map(|(_, c)| c)),
            c => inside.push(c),
        }
    }
    None
}

/// The requests of a while, in the order in which they were answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requests(pub Vec<Request>);

impl Deref for Requests {
    type Target = [Request];

    fn deref(&self) -> &[Request] {
        &self.0
    }
}

impl Requests {
    /// Returns how many of them had this method.
    pub fn count(&self, method: &str) -> usize {
        self.iter().filter(|r| r.method == method).count()
    }

    /// Returns how many of them asked for a manifest with `GET` or `HEAD`.
    pub fn manifest_reads(&self) -> usize {
        let reads = |r: &&Request| !r.writes() && r.manifest().is_some();
        self.iter().filter(reads).count()
    }

    /// Returns how often each blob was downloaded, whole or in part, by digest.
    pub fn blob_gets(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (digest, _) in self.downloads() {
            *counts.entry(digest.to_owned()).or_default() += 1;
        }
        counts
    }

    /// Returns how many bytes the downloads of blobs were together.
    pub fn blob_bytes(&self) -> u64 {
        self.downloads().map(|(_, bytes)| bytes).sum()
    }

    /// Returns the blobs that were downloaded more than once, by digest.
    pub fn blobs_twice(&self) -> Vec<String> {
        let twice = self.blob_gets().into_iter().filter(|(_, count)| *count > 1);
        twice.map(|(digest, _)| digest).collect()
    }

    /// Returns how many blobs were taken over from another repository of the registry.
    pub fn mounts(&self) -> usize {
        let mounted =
            |r: &&Request| r.method == "POST" && r.query.contains("mount=") && r.status == 201;
        self.iter().filter(mounted).count()
    }

    /// Returns how many uploads of blobs were finished.
    pub fn uploads(&self) -> usize {
        let done = |r: &&Request| {
            r.writes() && r.path.contains("/blobs/uploads/") && r.query.contains("digest=")
        };
        self.iter().filter(done).filter(|r| r.status == 201).count()
    }

    /// Returns the tags and digests of the manifests that were pushed, in that order.
    pub fn manifest_puts(&self) -> Vec<&str> {
        let puts = self.iter().filter(|r| r.method == "PUT" && r.succeeded());
        puts.filter_map(Request::manifest).collect()
    }

    /// Returns how many of them were to change what the registry holds.
    pub fn writes(&self) -> usize {
        self.iter().filter(|r| r.writes()).count()
    }

    fn downloads(&self) -> impl Iterator<Item = (&str, u64)> {
        self.iter()
            .filter(|r| r.method == "GET" && r.succeeded())
            .filter_map(|r| Some((r.blob()?, r.bytes)))
    }
}
