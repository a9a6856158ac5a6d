//! A run that is killed in the middle, and the one after it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use fastrand::Rng;
use imagesetd::model::image::Digest;

use crate::{
    fixture::{names::COMPONENTS, release::Release, set::Set},
    site::{Ended, Running, Site, Updates},
    support::{
        access_log::Requests,
        proxy::{Asked, Fault, Kind, Proxy},
        registry::wait_for,
    },
};

/// How many of the program's writes the mirror has answered when the run is killed.
const MOMENTS: [usize; 3] = [3, 30, 70];

#[test]
fn killed_run_is_finished_by_the_next_without_a_blob_twice() {
    let site = Site::new();
    let names: Vec<_> = COMPONENTS.into_iter().take(12).collect();
    let release = site.release("4.16.1", 0, &names);
    site.publish(&release.images());
    let updates = Updates::of(&[&release]);
    site.channel("4.16.1", "4.16.1");
    site.done(&[&updates.option()]);
    let undisturbed = content_without_mirror(&site);
    for moment in MOMENTS {
        killed_at(moment, &release, &undisturbed);
    }
}

fn killed_at(moment: usize, first: &Release, undisturbed: &BTreeSet<String>) {
    let site = Site::new();
    let names: Vec<_> = first.components.keys().map(String::as_str).collect();
    let release = site.release("4.16.1", 0, &names);
    site.publish(&release.images());
    let updates = Updates::of(&[&release]);
    site.channel("4.16.1", "4.16.1");
    let slowly = ["--parallel-images=2", "--parallel-layers=1"];
    let option = updates.option();
    let mut running = site.start(&[slowly[0], slowly[1], &option]);
    wait_for("the run to write, or to end", || {
        (site.mirror.requests().writes() >= moment || running.is_over()).then_some(())
    });
    running.kill();
    let landed = landed(&site.mirror.requests());
    let before = site.upstream.mark();

    site.done(&[&option]);
    let again: Vec<_> = site
        .upstream
        .since(before)
        .blob_gets()
        .into_keys()
        .filter(|digest| landed.contains(digest))
        .collect();
    assert_eq!(again, [""; 0], "killed after {moment} writes");
    site.assert_release(&release, &names);
    let components: BTreeSet<_> = content_without_mirror(&site);
    assert_eq!(components.len(), undisturbed.len());

    let (upstream, mirror) = (site.upstream.mark(), site.mirror.mark());
    site.done(&[&option]).says(&["Nothing to copy"]);
    assert_eq!(
        (
            site.upstream.since(upstream).len(),
            site.mirror.since(mirror).len()
        ),
        (0, 0)
    );
}

#[test]
fn terminated_run_finishes_what_is_in_flight_and_the_next_reads_nothing_again() {
    let site = Site::new();
    let names: Vec<_> = COMPONENTS.into_iter().take(12).collect();
    let release = site.release("4.16.1", 0, &names);
    site.publish(&release.images());
    let updates = Updates::of(&[&release]);
    site.channel("4.16.1", "4.16.1");
    let option = updates.option();
    let mut running = site.start(&["--parallel-images=2", "--parallel-layers=1", &option]);
    wait_for("the run to write", || {
        (site.mirror.requests().writes() >= 30 || running.is_over()).then_some(())
    });
    assert_eq!(running.terminate(), Some(130));
    assert_eq!(site.tags("openshift/release-images"), [""; 0]);
    site.done(&[&option]);
    site.assert_release(&release, &names);
    assert_eq!(site.upstream.requests().blobs_twice(), [""; 0]);
}

/// What a run is killed in the middle of, as the proxies on its two sides hold it there.
#[derive(Debug, Clone)]
struct Moment {
    of_mirror: bool,
    kind: Kind,
    /// The one of its kind that is held.
    which: usize,
    fault: Fault,
}

/// Layers of the set that is copied when runs are killed have about this many bytes.
const LAYER: u64 = 96 << 10;

impl Moment {
    /// Draws one: at some byte of a body on either side, or between the registry's word that something is done and its arrival.
    fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let at = rng.u64(1..LAYER);
        let (of_mirror, kind, among, fault) = match rng.u8(0..6) {
            0 => (false, Kind::Blob, 20, Fault::HangDown(at)),
            1 => (true, Kind::Upload, 20, Fault::HangUp(at)),
            2 | 3 => (true, Kind::Upload, 20, Fault::HoldAnswer),
            4 => (true, Kind::Begin, 30, Fault::HoldAnswer),
            _ => (true, Kind::PutManifest, 8, Fault::HoldAnswer),
        };
        Moment {
            of_mirror,
            kind,
            which: rng.usize(0..among),
            fault,
        }
    }

    /// Holds the one exchange on the side it is of.
    fn script(&self, mirror: bool) -> crate::support::proxy::Script {
        let (moment, mut count) = (self.clone(), 0);
        Box::new(move |asked: &Asked| {
            if moment.of_mirror != mirror || asked.kind() != moment.kind {
                return None;
            }
            count += 1;
            (count == moment.which + 1).then(|| moment.fault.clone())
        })
    }
}

/// How many runs are killed.
fn kills() -> u64 {
    let asked = std::env::var("IMAGESETD_KILLS").ok();
    asked.map_or(20, |text| text.parse().unwrap())
}

/// 20 runs in the ordinary tests; `IMAGESETD_KILLS=200` makes it 200.
#[test]
fn run_that_is_killed_at_any_byte_is_finished_by_the_next() {
    let set = Set::of(4, 1, LAYER as usize);
    let undisturbed = {
        let site = Site::new();
        site.publish(&set.placed());
        site.additional(&set.by_tag().iter().map(String::as_str).collect::<Vec<_>>());
        site.done(&[]);
        content(&site)
    };
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, SeqCst);
                    if seed >= kills() {
                        return;
                    }
                    killed_in(seed, &set, &undisturbed);
                }
            });
        }
    });
}

fn killed_in(seed: u64, set: &Set, undisturbed: &BTreeMap<PathBuf, Digest>) {
    let moment = Moment::of(seed);
    let told = format!("seed {seed}: {moment:?}");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let site = Site::new();
    site.publish(&set.placed());
    let (source, mirror) = runtime.block_on(async {
        let source = Proxy::before(site.upstream.address(), moment.script(false)).await;
        let mirror = Proxy::before(site.mirror.address(), moment.script(true)).await;
        (source, mirror)
    });
    let names = set.by_tag();
    let names = names
        .iter()
        .map(|name| format!("- name: {}/{name}\n", source.address));
    site.image_set(&format!("additionalImages:\n{}", names.collect::<String>()));
    let command = || site.command_to(&mirror.address, &[]);
    let hangs = if moment.of_mirror {
        &mirror.hangs
    } else {
        &source.hangs
    };

    let mut running = Running::of(command());
    wait_for("the moment, or the end", || {
        let there = hangs.recv_timeout(Duration::from_millis(20)).is_ok();
        (there || running.is_over()).then_some(())
    });
    running.kill();
    let landed = landed(&site.mirror.requests());
    let before = site.upstream.mark();

    let finished = || Ended::of(command().output().unwrap());
    let ended = finished();
    assert_eq!(ended.code, 0, "{told}: {ended:#?}");
    let again = site.upstream.since(before).blob_gets().into_keys();
    let again: Vec<_> = again.filter(|digest| landed.contains(digest)).collect();
    assert_eq!(again, [""; 0], "{told}");
    assert_eq!(&content(&site), undisturbed, "{told}");

    let asked = site.mirror.mark();
    finished().says(&["Nothing to copy"]);
    assert_eq!(site.mirror.since(asked).len(), 0, "{told}");
}

/// What lies in the mirror, by where below its storage.
fn content(site: &Site) -> BTreeMap<PathBuf, Digest> {
    let storage = site.mirror.storage();
    let content = site.mirror_content().into_iter();
    content
        .map(|(path, digest)| (path.strip_prefix(&storage).unwrap().to_owned(), digest))
        .collect()
}

/// The digests of the blobs whose upload the mirror has confirmed.
fn landed(requests: &Requests) -> BTreeSet<String> {
    let done = requests
        .iter()
        .filter(|r| r.method == "PUT" && r.status == 201);
    let digest = |query: &str| {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs
            .find(|(key, _)| key == "digest")
            .map(|(_, value)| value.into_owned())
    };
    done.filter_map(|r| digest(&r.query)).collect()
}

/// The paths of everything in the mirror's storage, below it.
fn content_without_mirror(site: &Site) -> BTreeSet<String> {
    let storage = site.mirror.storage();
    let paths = site.mirror_content().into_keys();
    paths
        .map(|path| path.strip_prefix(&storage).unwrap().display().to_string())
        .collect()
}
