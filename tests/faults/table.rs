//! Every fault, and how a run with it ends: in success, or in a sentence; never in wrong content, never in a hang.
//!
//! What is hit, at which byte and how often is drawn from a seed. `IMAGESETD_FAULT_SEEDS=100` runs that many, and
//! `IMAGESETD_FAULT='an answer lost after the body of an upload/17'` one again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use fastrand::Rng;
use imagesetd::copy::Stock;

use crate::{
    bench::{Upstream, held, run},
    fixture::set::Set,
    support::proxy::{Asked, Fault, Kind, Proxy},
    support::registry::Registry,
};

/// On which way something goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Mirror,
}

/// How a run has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Everything lands.
    Success,
    /// Something does not, and says why in these words.
    Sentence(&'static str),
}

struct Row {
    name: &'static str,
    side: Side,
    kind: Kind,
    /// How many requests of the kind in a row are hit, at most; all from the first on for none.
    times: Option<usize>,
    fault: fn(&mut Rng) -> Fault,
    end: End,
}

/// Blobs of the set have about this many bytes.
const LAYER: usize = 96 << 10;

/// A set that shares blobs, with an index.
fn set() -> Set {
    Set::of(4, 1, LAYER)
}

fn seconds(n: u64) -> Vec<(&'static str, String)> {
    vec![("Retry-After", n.to_string())]
}

fn date() -> Vec<(&'static str, String)> {
    let then = std::time::SystemTime::now() + std::time::Duration::from_secs(1);
    vec![("Retry-After", httpdate::fmt_http_date(then))]
}

const SESSION_LOST: &str = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"unknown"}]}"#;

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    use End::{Sentence, Success};
    use Fault as F;
    use Kind::{Begin, Blob, Manifest, PutManifest, Upload};
    use Side::{Mirror, Source};
    let row = |name, side, kind, times, fault, end| Row { name, side, kind, times, fault, end };
    let some = Some(2);
    let once = Some(1);
    vec![
        row("500 to a manifest", Source, Manifest, some, |_| F::Answer(500, vec![], ""), Success),
        row("502 to a blob", Source, Blob, some, |_| F::Answer(502, vec![], "<html>"), Success),
        row("503 to a blob", Source, Blob, some, |_| F::Answer(503, seconds(1), ""), Success),
        row("429 without Retry-After", Source, Manifest, some, |_| F::Answer(429, vec![], ""), Success),
        row("429 with Retry-After in seconds", Source, Blob, some, |_| F::Answer(429, seconds(1), ""), Success),
        row("429 with Retry-After as a date", Source, Manifest, some, |_| F::Answer(429, date(), ""), Success),
        row("500 to every blob", Source, Blob, None, |_| F::Answer(500, vec![], ""), Sentence("500 Internal Server Error")),
        row("429 with an hour to wait", Source, Manifest, None, |_| F::Answer(429, seconds(3600), ""), Sentence("asks to wait 3600 seconds")),
        row("reset in a blob's body", Source, Blob, some, |r| F::ResetDown(r.u64(1..60 << 10)), Success),
        row("reset in every blob's body", Source, Blob, None, |_| F::ResetDown(0), Sentence("broke the connection off")),
        row("silence before a blob", Source, Blob, once, |_| F::Hang, Success),
        row("silence in a blob's body", Source, Blob, once, |r| F::HangDown(r.u64(1..60 << 10)), Success),
        row("silence before a manifest", Source, Manifest, once, |_| F::Hang, Success),
        row("a blob that ends early", Source, Blob, some, |r| F::Truncate(r.u64(1..60 << 10)), Success),
        row("one wrong byte in a blob", Source, Blob, once, |r| F::FlipDown(r.u64(..)), Success),
        row("one wrong byte in every blob", Source, Blob, None, |r| F::FlipDown(r.u64(..)), Sentence("another digest")),
        row("a wrong Content-Length", Source, Blob, once, |r| F::Length(r.u64(1..99)), Success),
        row("a wrong Content-Length, always", Source, Blob, None, |r| F::Length(r.u64(1..99)), Sentence("were expected")),
        row("a manifest of another digest", Source, Manifest, once, |_| F::Body(br#"{"schemaVersion":2}"#.to_vec()), Success),
        row("manifests of another digest", Source, Manifest, None, |_| F::Body(br#"{"schemaVersion":2}"#.to_vec()), Sentence("another digest")),
        row("a redirect loop", Source, Blob, None, |_| F::RedirectLoop, Sentence("redirects without end")),
        row("a manifest without its digest", Source, Manifest, None, |_| F::Header("Docker-Content-Digest", None), Success),
        row("500 to the beginning of an upload", Mirror, Begin, some, |_| F::Answer(500, vec![], ""), Success),
        row("429 to the beginning of an upload", Mirror, Begin, some, |_| F::Answer(429, seconds(1), ""), Success),
        row("503 to an upload", Mirror, Upload, some, |_| F::Late(503, vec![], ""), Success),
        row("500 to an upload", Mirror, Upload, once, |_| F::Answer(500, vec![], ""), Success),
        row("413 to every upload", Mirror, Upload, None, |_| F::Late(413, vec![], ""), Sentence("raise the body limit")),
        row("reset in an upload's body", Mirror, Upload, some, |r| F::ResetUp(r.u64(1..60 << 10)), Success),
        row("silence in an upload's body", Mirror, Upload, once, |r| F::HangUp(r.u64(1..60 << 10)), Success),
        row("silence after an upload's body", Mirror, Upload, once, |_| F::Hang, Success),
        row("an answer lost after the body of an upload", Mirror, Upload, some, |_| F::LoseAnswer, Success),
        row("one wrong byte in an upload", Mirror, Upload, once, |r| F::FlipUp(r.u64(..)), Success),
        row("one wrong byte in every upload", Mirror, Upload, None, |r| F::FlipUp(r.u64(..)), Sentence("DIGEST_INVALID")),
        row("an upload session that is lost", Mirror, Upload, some, |_| F::Late(404, vec![], SESSION_LOST), Success),
        row("an upload answered with a wrong digest", Mirror, Upload, once, |_| F::Header("Docker-Content-Digest", Some(format!("sha256:{}", "0".repeat(64)))), Success),
        row("uploads answered without a digest", Mirror, Upload, None, |_| F::Header("Docker-Content-Digest", None), Success),
        row("500 to the push of a manifest", Mirror, PutManifest, some, |_| F::Late(500, vec![], ""), Success),
        row("an answer lost after the push of a manifest", Mirror, PutManifest, some, |_| F::LoseAnswer, Success),
        row("silence after the push of a manifest", Mirror, PutManifest, once, |_| F::Hang, Success),
        row("manifests answered with a wrong digest", Mirror, PutManifest, None, |_| F::Header("Docker-Content-Digest", Some(format!("sha256:{}", "0".repeat(64)))), Sentence("was expected")),
        row("503 to every push of a manifest", Mirror, PutManifest, None, |_| F::Answer(503, seconds(0), ""), Sentence("503 Service Unavailable")),
    ]
}

/// How many seeds each fault is run with.
fn seeds() -> u64 {
    let asked = std::env::var("IMAGESETD_FAULT_SEEDS").ok();
    asked.map_or(1, |text| text.parse().unwrap())
}

/// The one that is to be run again, as `name/seed`.
fn again() -> Option<(String, u64)> {
    let asked = std::env::var("IMAGESETD_FAULT").ok()?;
    let (name, seed) = asked.rsplit_once('/').unwrap();
    Some((name.to_owned(), seed.parse().unwrap()))
}

#[test]
fn every_fault_ends_in_success_or_in_a_sentence() {
    let upstream = Arc::new(Upstream::of(set()));
    let cases: Vec<_> = rows()
        .into_iter()
        .flat_map(|row| {
            let row = Arc::new(row);
            (0..seeds()).map(move |seed| (row.clone(), seed))
        })
        .collect();
    let cases: Vec<_> = match again() {
        Some((name, seed)) => cases
            .into_iter()
            .filter(|(row, _)| row.name == name)
            .take(1)
            .map(|(row, _)| (row, seed))
            .collect(),
        None => cases,
    };
    assert!(!cases.is_empty());
    let next = AtomicUsize::new(0);
    let results =
        std::sync::Mutex::new(BTreeMap::<usize, (&str, u64, Result<String, String>)>::new());
    // Most of a case is waiting.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, SeqCst);
                    let Some((row, seed)) = cases.get(number) else {
                        return;
                    };
                    let result = case(row, *seed, &upstream);
                    results
                        .lock()
                        .unwrap()
                        .insert(number, (row.name, *seed, result));
                }
            });
        }
    });
    report(&results.into_inner().unwrap());
}

/// Prints the table, and fails where a row does.
fn report(results: &BTreeMap<usize, (&str, u64, Result<String, String>)>) {
    let mut rows: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut wrong = Vec::new();
    for (name, seed, result) in results.values() {
        let outcome = match result {
            Ok(outcome) => outcome.as_str(),
            Err(why) => {
                wrong.push(format!("IMAGESETD_FAULT='{name}/{seed}': {why}"));
                "WRONG"
            }
        };
        match rows.last_mut().filter(|(last, _)| last == name) {
            Some((_, outcomes)) => outcomes.push(outcome),
            None => rows.push((name, vec![outcome])),
        }
    }
    println!("{:<46} {:>5}  outcome", "fault", "seeds");
    for (name, outcomes) in rows {
        println!("{name:<46} {:>5}  {}", outcomes.len(), outcomes[0]);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Runs one fault, and a second time without.
fn case(row: &Row, seed: u64, upstream: &Upstream) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mirror = Registry::debian();
    let set = &upstream.set;
    let ended = runtime.block_on(async {
        let script = script(row, seed);
        let (source, sink) = match row.side {
            Side::Source => (Some(script), None),
            Side::Mirror => (None, Some(script)),
        };
        let source = spoiled(upstream.registry.address(), source).await;
        let sink = spoiled(mirror.address(), sink).await;
        run(set, &source, &sink, Stock::default()).await
    });
    let whole = held(&mirror, set);
    if whole.len() < ended.done {
        return Err(format!("{} done, {} there", ended.done, whole.len()));
    }
    for sentence in &ended.failed {
        if sentence.contains('\n') || sentence.len() > 1500 {
            return Err(format!("this is no sentence: {sentence}"));
        }
    }
    let outcome = match row.end {
        End::Success if ended.failed.is_empty() => "success".to_owned(),
        End::Success => return Err(format!("failed: {}", ended.failed[0])),
        End::Sentence(part) => match ended.failed.iter().find(|s| s.contains(part)) {
            Some(sentence) => format!("\"{}\"", shortened(sentence)),
            None => return Err(format!("no sentence with {part:?}: {:?}", ended.failed)),
        },
    };
    let again = runtime.block_on(run(
        set,
        upstream.registry.address(),
        mirror.address(),
        Stock::default(),
    ));
    match again.failed.first() {
        Some(failed) => Err(format!("the next run, without the fault: {failed}")),
        None if held(&mirror, set).len() < set.0.len() => {
            Err("the next run leaves gaps".to_owned())
        }
        None => Ok(outcome),
    }
}

async fn spoiled(registry: &str, script: Option<crate::support::proxy::Script>) -> String {
    match script {
        // It goes on by itself; only its address is needed.
        Some(script) => Proxy::before(registry, script).await.address,
        None => registry.to_owned(),
    }
}

/// Draws which requests are hit.
fn script(row: &Row, seed: u64) -> crate::support::proxy::Script {
    let mut rng = Rng::with_seed(seed);
    let (first, times) = match row.times {
        Some(most) => (rng.usize(0..5), rng.usize(1..=most)),
        None => (0, usize::MAX),
    };
    let (kind, fault, mut count) = (row.kind, row.fault, 0);
    Box::new(move |asked: &Asked| {
        if asked.kind() != kind {
            return None;
        }
        count += 1;
        (count > first && count - first <= times).then(|| fault(&mut rng))
    })
}

/// A sentence without what differs from run to run, and not too long for a table.
fn shortened(sentence: &str) -> String {
    let digest = regex::Regex::new("sha256:[0-9a-f]{64}").unwrap();
    let host = regex::Regex::new(r"127\.0\.0\.1:\d+").unwrap();
    let text = digest.replace_all(sentence, "sha256:...");
    let text = host.replace_all(&text, "HOST");
    match text.chars().count() {
        0..=150 => text.into_owned(),
        _ => text.chars().take(147).collect::<String>() + "...",
    }
}
