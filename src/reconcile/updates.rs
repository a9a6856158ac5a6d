//! The way of a cluster to a release that has landed.

use std::collections::BTreeSet;

use super::{Error, Handle, ReleaseUpdate, state::SetState, units};
use crate::{
    cluster::Object,
    model::{
        desired::{Kind, Wanted, naming},
        facts::Facts,
        image::Digest,
        imageset::SetName,
        mirrored::Mirrored,
    },
};

impl Handle {
    /// Returns the releases that have landed whole, of one image set or all, and what a cluster needs to update to each.
    pub async fn release_updates(&self, set: Option<&str>) -> Result<Vec<ReleaseUpdate>, Error> {
        let published = self.inner.published().await?;
        let mirrored = self.inner.mirrored();
        let state = self.inner.state();
        let sets = state.sets.iter();
        let sets = sets.filter(|(name, _)| set.is_none_or(|only| name.0 == only));
        let updates = sets.flat_map(|(name, known)| {
            let releases = landed(known, &mirrored).into_iter();
            releases.map(|payload| update(name, payload, &published.objects))
        });
        Ok(updates.collect())
    }
}

/// The payloads whose images are all in the mirror, lowest version first.
fn landed<'a>(known: &'a SetState, mirrored: &Mirrored) -> Vec<&'a Wanted> {
    let nothing = Facts::default();
    let facts = known.resolution().map_or(&nothing, |r| &r.facts);
    let is_of_release = |w: &&Wanted| w.kind.is_of_release();
    let of_releases = || known.wants().iter().filter(is_of_release);
    let lacking: BTreeSet<&str> = of_releases()
        .filter(|image| !units::was_landed(mirrored, image, facts))
        .map(|image| image.unit.as_str())
        .collect();
    let payloads = of_releases().filter(|w| w.kind == Kind::Release);
    let mut whole: Vec<&Wanted> = payloads
        .filter(|w| !lacking.contains(w.unit.as_str()))
        .collect();
    whole.sort_by_key(|payload| {
        let (version, arch) = naming::version_of(&payload.unit);
        (version.parse::<semver::Version>().ok(), arch.to_owned())
    });
    whole
}

fn update(set: &SetName, payload: &Wanted, objects: &[Object]) -> ReleaseUpdate {
    let (version, architecture) = naming::version_of(&payload.unit);
    ReleaseUpdate {
        set: set.clone(),
        version: version.to_owned(),
        architecture: architecture.to_owned(),
        image: format!("{}@{}", payload.target, payload.digest),
        signatures: signatures(objects, &payload.digest),
    }
}

/// The files of the documents that hold signatures of a payload, of whichever image set.
fn signatures(objects: &[Object], payload: &Digest) -> Vec<String> {
    let prefix = format!("sha256-{}-", payload.hex());
    let holds = |object: &&Object| {
        let data = object.value["binaryData"].as_object();
        data.is_some_and(|data| data.keys().any(|key| key.starts_with(&prefix)))
    };
    let files = objects.iter().filter(holds);
    files.map(|object| object.file_name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_found_by_the_digest_they_are_of() {
        let digest = Digest::of(b"payload");
        let object = |file: &str, key: &str| {
            let value = serde_json::json!({"binaryData": {key: "eA=="}});
            Object::new(SetName("a".into()), file.into(), "a".into(), value)
        };
        let objects = [
            object("b.yaml", &format!("sha256-{}-1", digest.hex())),
            object(
                "a.yaml",
                &format!("sha256-{}-1", Digest::of(b"other").hex()),
            ),
        ];
        assert_eq!(signatures(&objects, &digest), ["b.yaml"]);
    }
}
