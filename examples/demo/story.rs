//! The demo's story: a commit, a plan, a mirrored release; the next version, and how little it costs.

use anyhow::Result;
use serde_json::Value;

use crate::{
    agent::Agent,
    fixture::server::Access,
    site::{CHANNEL, IMAGE_SET, Site, VERSIONS},
};

/// Tells it from the first commit to the second release.
pub(crate) async fn tell(site: &Site, agent: &mut Agent) -> Result<()> {
    let [first, second] = VERSIONS;
    say(&format!(
        "An upstream at {} has the releases {first} and {second}, {} images each. The mirror at {} is empty.",
        site.upstream.host, site.images, site.mirror.host
    ));
    let cold = release(site, agent, first).await?;
    agent.type_in(&format!("resources {IMAGE_SET}")).await?;
    let next = release(site, agent, second).await?;

    say("What the registries' access logs say:");
    println!(
        "{:>22} {:>12} {:>12} {:>12} {:>12}",
        "", "upstream:", "", "mirror:", ""
    );
    println!(
        "{:>22} {:>12} {:>12} {:>12} {:>12}",
        "", "requests", "bytes read", "requests", "bytes sent"
    );
    for (version, cost) in [(first, &cold), (second, &next)] {
        println!("{version:>22} {cost}");
    }
    Ok(())
}

/// Says how to go on by hand.
pub(crate) fn invite(site: &Site, agent: &Agent) {
    say("Everything stays up until Ctrl-C. To try, in another terminal:");
    let socket = site.endpoint();
    println!("export IMAGESETD_ENDPOINT={socket}");
    println!("alias imagesetd={}", agent.binary().display());
    println!("imagesetd status");
    println!("imagesetd plan --refresh");
    println!("imagesetd runs list");
    let call = "grpcurl -plaintext -unix";
    let path = socket.trim_start_matches("unix://");
    println!("{call} {path} list");
    println!("{call} {path} describe imageset.v1.MirrorService");
    println!("{call} {path} imageset.v1.MirrorService/GetStatus");
    println!("curl http://{}/v2/_catalog", site.mirror.host);
    println!(
        "The image set is in {}, the documents are in {}.",
        site.folder.join("imagesets").display(),
        site.folder.join("cluster-resources").display()
    );
}

/// Commits an image set that ends with `version`, and brings it over. Returns what that cost.
async fn release(site: &Site, agent: &mut Agent, version: &str) -> Result<Cost> {
    let file = format!("{IMAGE_SET}.yaml");
    let text = image_set(version);
    say(&format!(
        "Commit: {file} asks for releases up to {version}."
    ));
    println!("{}", text.trim_end());
    let status = agent.wait("answer", |_| true).await?;
    let before = observed(&status);
    let commit = site
        .directory
        .commit(&file, &text, &format!("Mirror {version}"))
        .await?;
    agent
        .wait("see the commit", |status| {
            let seen = observed(status);
            match &commit {
                Some(commit) => seen.is_some_and(|seen| seen.contains(commit.as_str())),
                None => seen.is_some_and(|seen| Some(seen) != before),
            }
        })
        .await?;
    // What it took to find out what is wanted counts too: from the commit on.
    agent.type_in(&format!("plan {IMAGE_SET}")).await?;
    agent.type_in(&format!("apply {IMAGE_SET}")).await?;
    agent
        .type_in(&format!("status {IMAGE_SET} --wait ready --timeout 60s"))
        .await?;
    Ok(Cost::of(&site.upstream.take_log(), &site.mirror.take_log()))
}

fn image_set(version: &str) -> String {
    format!(
        "apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  platform:
    channels:
      - name: {CHANNEL}
        minVersion: {first}
        maxVersion: {version}
",
        first = VERSIONS[0]
    )
}

/// Returns the revision at which the daemon has read the image set.
fn observed(status: &Value) -> Option<&str> {
    let sets = status["image_sets"].as_array()?;
    let set = sets.iter().find(|set| set["name"] == IMAGE_SET)?;
    set["observed_revision"].as_str()
}

/// What a release cost, by the registries' own logs.
struct Cost {
    upstream: Moved,
    mirror: Moved,
}

struct Moved {
    requests: usize,
    bytes: u64,
}

impl Cost {
    fn of(upstream: &[Access], mirror: &[Access]) -> Self {
        Cost {
            upstream: Moved {
                requests: upstream.len(),
                bytes: upstream.iter().map(|line| line.bytes).sum(),
            },
            mirror: Moved {
                requests: mirror.len(),
                bytes: mirror.iter().map(|line| line.received).sum(),
            },
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (up, to) = (&self.upstream, &self.mirror);
        write!(
            f,
            "{:>12} {:>12} {:>12} {:>12}",
            up.requests, up.bytes, to.requests, to.bytes
        )
    }
}

fn say(text: &str) {
    println!("\n== {text}");
}
