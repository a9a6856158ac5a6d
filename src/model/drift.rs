//! Whether the mirror still holds what is believed of it: what is asked for, what was found to be lost, and what of the belief has
//! to be dropped so that it is copied again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    accessory,
    image::{Digest, Reference, Repository, Tag},
    imageset::SetName,
    manifest::Manifest,
    mirrored::{Landed, Mirrored},
};

/// How closely the mirror is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Whether every manifest is there, and every tag names its own.
    #[default]
    Quick,
    /// Whether every blob is there, too.
    Deep,
    /// Whether everything has the bytes it should have, too: all is read once.
    Read,
}

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Depth::Quick => "quick",
            Depth::Deep => "deep",
            Depth::Read => "read",
        })
    }
}

/// One image of an image set, in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The image set.
    pub set: SetName,
    /// Where it is.
    pub target: Repository,
    /// Its tag there.
    pub tag: Tag,
    /// What it is.
    pub digest: Digest,
    /// Where it came from.
    pub source: Reference,
}

/// Something that is believed to be in a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A manifest, and the tags that name it.
    Manifest(Vec<Tag>),
    /// A blob, and its size where that is known.
    Blob(Option<u64>),
}

/// One thing to ask the mirror for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Where it should be.
    pub repository: Repository,
    /// What it is, by digest.
    pub digest: Digest,
    /// What kind of thing it is.
    pub thing: Thing,
    /// The images that need it, by their number.
    pub owners: Vec<usize>,
    /// The manifests in the same repository that name it, where they are known.
    pub holders: Vec<Digest>,
}

/// How something is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// It is not there.
    Missing,
    /// It has other bytes than it should have.
    Corrupt,
    /// It is there, and its tag names something else, or nothing.
    Moved(Tag, Option<Digest>),
}

/// Something that the mirror was believed to hold and does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What was asked for.
    pub check: Check,
    /// How it is lost.
    pub loss: Loss,
}

impl Lost {
    /// What is lost, as a reference: by tag where the tag is what is lost.
    pub fn reference(&self) -> Reference {
        match &self.loss {
            Loss::Moved(tag, _) => self.check.repository.tagged(tag.clone()),
            _ => self.check.repository.at(self.check.digest.clone()),
        }
    }

    /// One sentence.
    pub fn why(&self) -> String {
        let (what, reference) = (self.what(), self.reference());
        match &self.loss {
            Loss::Missing => format!("{what} {reference} is not in the mirror any more"),
            Loss::Corrupt => format!(
                "{what} {reference} has other bytes than its digest says; registries do not replace what they have, so remove it from the registry's storage first"
            ),
            Loss::Moved(_, None) => format!("the tag {reference} is not in the mirror any more"),
            Loss::Moved(_, Some(now)) => format!(
                "the tag {reference} names {now}, and was mirrored as {}",
                self.check.digest
            ),
        }
    }

    fn what(&self) -> &'static str {
        match self.check.thing {
            Thing::Manifest(_) => "manifest",
            Thing::Blob(_) => "blob",
        }
    }

    /// Whether copying brings it back: a registry that has something under a digest takes nothing else for it.
    pub fn is_mendable(&self) -> bool {
        self.loss != Loss::Corrupt
    }

    /// How close a look it takes to see it.
    pub fn depth(&self) -> Depth {
        match (&self.loss, &self.check.thing) {
            (Loss::Corrupt, _) => Depth::Read,
            (_, Thing::Blob(_)) => Depth::Deep,
            (_, Thing::Manifest(_)) => Depth::Quick,
        }
    }

    /// Whether it is still believed to be there, after what was taken in meanwhile.
    pub fn is_believed(&self, mirrored: &Mirrored) -> bool {
        let Check {
            repository, digest, ..
        } = &self.check;
        match (&self.loss, &self.check.thing) {
            (Loss::Moved(tag, _), _) => mirrored.tag(repository, tag) == Some(digest),
            (_, Thing::Manifest(_)) => mirrored.manifest(repository, digest).is_some(),
            (_, Thing::Blob(_)) => mirrored.blob(repository, digest),
        }
    }
}

/// What is known of one thing while checks are gathered.
#[derive(Default)]
struct Note {
    owners: BTreeSet<usize>,
    holders: BTreeSet<Digest>,
    tags: BTreeSet<Tag>,
    size: Option<u64>,
}

type Notes<'a> = HashMap<(&'a Repository, Digest), Note>;

/// Gathers what to ask for: everything that is believed of the mirror, or what `places` need of it.
struct Gathering<'a> {
    manifest: &'a dyn Fn(&Digest) -> Option<Arc<Manifest>>,
    manifests: Notes<'a>,
    blobs: Notes<'a>,
    /// Images of which not every manifest is at hand, by repository: what nobody is known to need may be theirs.
    vague: HashMap<&'a Repository, BTreeSet<usize>>,
}

/// Returns what to ask the mirror for, sorted by repository, manifests before blobs.
///
/// With `all`, everything that is believed of the mirror; else what is needed by `places`, with their signatures and referrers.
/// `manifest` gives manifests that are at hand: without them it is not known what an image is made of, and everything in its
/// repository that no other image needs counts as its.
pub fn checks(
    mirrored: &Mirrored,
    places: &[Place],
    manifest: &dyn Fn(&Digest) -> Option<Arc<Manifest>>,
    depth: Depth,
    all: bool,
) -> Vec<Check> {
    let targets: HashSet<&Repository> = places.iter().map(|place| &place.target).collect();
    let counts = |repository: &Repository| all || targets.contains(repository);
    let mut gathering = Gathering {
        manifest,
        manifests: HashMap::new(),
        blobs: HashMap::new(),
        vague: HashMap::new(),
    };
    for (repository, digest) in mirrored.placed_manifests().filter(|(r, _)| counts(r)) {
        let key = (repository, digest.clone());
        gathering.manifests.insert(key, Note::default());
    }
    if depth > Depth::Quick {
        for (repository, digest) in mirrored.placed_blobs().filter(|(r, _)| counts(r)) {
            let key = (repository, digest.clone());
            gathering.blobs.insert(key, Note::default());
        }
    }
    for (repository, tag, digest) in mirrored.tags() {
        if let Some(note) = gathering.manifests.get_mut(&(repository, digest.clone())) {
            note.tags.insert(tag.clone());
        }
    }
    for (number, place) in places.iter().enumerate() {
        gathering.walk(&place.target, &place.digest, number, None);
    }
    gathering.accessories();
    gathering.leftovers();
    gathering.into_checks(all)
}

impl<'a> Gathering<'a> {
    /// Notes that an image needs a manifest, and all that this one names.
    fn walk(
        &mut self,
        repository: &'a Repository,
        digest: &Digest,
        owner: usize,
        holder: Option<&Digest>,
    ) {
        let Some(note) = self.manifests.get_mut(&(repository, digest.clone())) else {
            return;
        };
        note.holders.extend(holder.cloned());
        if !note.owners.insert(owner) {
            return;
        }
        let Some(manifest) = (self.manifest)(digest) else {
            self.vague.entry(repository).or_default().insert(owner);
            return;
        };
        for blob in manifest.blobs() {
            if let Some(note) = self.blobs.get_mut(&(repository, blob.digest.clone())) {
                note.owners.insert(owner);
                note.holders.insert(digest.clone());
                note.size = Some(blob.size);
            }
        }
        for child in manifest.children(&[]) {
            self.walk(repository, &child.digest, owner, Some(digest));
        }
    }

    /// Gives signatures and referrers to the images that they belong to.
    fn accessories(&mut self) {
        for _ in 0..=accessory::MAX_DEPTH {
            let mut found = Vec::new();
            for ((repository, digest), note) in &self.manifests {
                if !note.owners.is_empty() {
                    continue;
                }
                let by_tag = note.tags.iter().find_map(subject_of);
                let subject =
                    by_tag.or_else(|| accessory::subject((self.manifest)(digest)?.as_ref()));
                let owners = subject
                    .and_then(|subject| self.manifests.get(&(*repository, subject)))
                    .map(|note| note.owners.clone())
                    .filter(|owners| !owners.is_empty());
                found.extend(owners.map(|owners| (*repository, digest.clone(), owners)));
            }
            if found.is_empty() {
                return;
            }
            for (repository, digest, owners) in found {
                for owner in owners {
                    self.walk(repository, &digest, owner, None);
                }
            }
        }
    }

    /// Gives what nobody is known to need to the images of the same repository of which not everything is known.
    fn leftovers(&mut self) {
        for ((repository, _), note) in self.manifests.iter_mut().chain(self.blobs.iter_mut()) {
            if let Some(vague) = self.vague.get(repository)
                && note.owners.is_empty()
            {
                note.owners = vague.clone();
            }
        }
    }

    fn into_checks(self, all: bool) -> Vec<Check> {
        let check = |(repository, digest): (&Repository, Digest), note: Note, thing| Check {
            repository: repository.clone(),
            digest,
            thing,
            owners: note.owners.into_iter().collect(),
            holders: note.holders.into_iter().collect(),
        };
        let manifests = self.manifests.into_iter().map(|(key, mut note)| {
            let tags = std::mem::take(&mut note.tags).into_iter().collect();
            check(key, note, Thing::Manifest(tags))
        });
        let blobs = self.blobs.into_iter().map(|(key, note)| {
            let size = note.size;
            check(key, note, Thing::Blob(size))
        });
        let mut checks: Vec<Check> = manifests
            .chain(blobs)
            .filter(|check| all || !check.owners.is_empty())
            .collect();
        let is_blob = |check: &Check| matches!(check.thing, Thing::Blob(_));
        checks.sort_by(|a, b| {
            let (a, b) = (
                (&a.repository, is_blob(a), &a.digest),
                (&b.repository, is_blob(b), &b.digest),
            );
            a.cmp(&b)
        });
        checks
    }
}

/// What a tag of cosign's, or one that lists referrers, is about.
fn subject_of(tag: &Tag) -> Option<Digest> {
    let text = tag.to_string();
    let (algorithm, rest) = text.split_once('-')?;
    let hex = rest.split('.').next()?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Returns what must not be believed any longer so that everything lost is copied again: what is lost, the manifests that name it, and
/// the images that need it. The rest of these images stays believed in and is not brought twice.
pub fn dropped(lost: &[Lost], places: &[Place]) -> Vec<Landed> {
    let mut gone: BTreeSet<(Repository, Digest)> = BTreeSet::new();
    for lost in lost {
        let Check {
            repository,
            digest,
            holders,
            owners,
            ..
        } = &lost.check;
        let holders = holders.iter().chain([digest]);
        gone.extend(holders.map(|digest| (repository.clone(), digest.clone())));
        let owners = owners.iter().filter_map(|owner| places.get(*owner));
        gone.extend(owners.map(|place| (place.target.clone(), place.digest.clone())));
    }
    let gone = gone.into_iter();
    gone.map(|(repository, digest)| Landed::Gone(repository, digest))
        .collect()
}

/// An image of an image set of which the mirror lost something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drifted {
    /// Where it is.
    pub target: Repository,
    /// Its tag there.
    pub tag: Tag,
    /// What it is.
    pub digest: Digest,
    /// How close a look it takes to see that.
    pub depth: Depth,
    /// How many things of it are lost.
    pub lost: u64,
    /// What is lost, of the first thing.
    pub why: String,
    /// Whether it is not believed in any longer, so that it is copied again.
    #[serde(default)]
    pub dropped: bool,
}

/// What the mirror was found to have lost of an image set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drift {
    /// When that was found last.
    pub found: Timestamp,
    /// The images, by place.
    pub images: Vec<Drifted>,
}

impl Drift {
    /// Takes in what a look of some depth found of an image set; what only a closer look shows stays as it was, and so does what is
    /// being copied again, and everything where the look was not whole and so has no depth.
    pub fn after(
        before: Option<&Drift>,
        set: &SetName,
        lost: &[Lost],
        places: &[Place],
        (depth, now): (Option<Depth>, Timestamp),
    ) -> Option<Drift> {
        let mut images: BTreeMap<(Repository, Tag), Drifted> = BTreeMap::new();
        for lost in lost {
            let owners = lost.check.owners.iter().filter_map(|at| places.get(*at));
            for place in owners.filter(|place| place.set == *set) {
                let key = (place.target.clone(), place.tag.clone());
                let drifted = images.entry(key).or_insert_with(|| Drifted {
                    target: place.target.clone(),
                    tag: place.tag.clone(),
                    digest: place.digest.clone(),
                    depth: lost.depth(),
                    lost: 0,
                    why: lost.why(),
                    dropped: false,
                });
                drifted.lost += 1;
                drifted.depth = drifted.depth.min(lost.depth());
            }
        }
        // A repair under way goes on where the same is found lost again.
        let before_dropped = |image: &Drifted| {
            let mut known = before.into_iter().flat_map(|before| &before.images);
            known.any(|b| b.dropped && (&b.target, &b.tag) == (&image.target, &image.tag))
        };
        for image in images.values_mut() {
            image.dropped = before_dropped(image);
        }
        let anew = !images.is_empty();
        let kept = before.into_iter().flat_map(|before| &before.images);
        for kept in
            kept.filter(|image| image.dropped || depth.is_none_or(|depth| image.depth > depth))
        {
            let key = (kept.target.clone(), kept.tag.clone());
            images.entry(key).or_insert_with(|| kept.clone());
        }
        let images: Vec<Drifted> = images.into_values().collect();
        let found = match before {
            Some(before) if !anew => before.found,
            _ => now,
        };
        (!images.is_empty()).then_some(Drift { found, images })
    }

    /// Marks the images whose belief was dropped.
    pub fn mark(&mut self, gone: &[Landed]) {
        let gone: HashSet<(&Repository, &Digest)> = gone
            .iter()
            .filter_map(|fact| match fact {
                Landed::Gone(repository, digest) => Some((repository, digest)),
                _ => None,
            })
            .collect();
        for image in &mut self.images {
            image.dropped |= gone.contains(&(&image.target, &image.digest));
        }
    }

    /// Leaves out what was copied again.
    pub fn settle(&mut self, mirrored: &Mirrored) {
        let is_back = |image: &Drifted| {
            image.dropped && mirrored.tag(&image.target, &image.tag) == Some(&image.digest)
        };
        self.images.retain(|image| !is_back(image));
    }

    /// One sentence on what is lost.
    pub fn sentence(&self, set: &SetName) -> String {
        let first = self.images.first();
        let why = first.map_or("", |image| image.why.as_str());
        let count = match self.images.len() {
            1 => "of 1 image something".to_owned(),
            more => format!("of {more} images something"),
        };
        let depth = match self.images.iter().map(|image| image.depth).max() {
            None | Some(Depth::Quick) => String::new(),
            // A look that does not see it cannot mend it.
            Some(closest) => format!(" --depth {closest}"),
        };
        let remedy = match self.images.iter().all(|image| image.dropped) {
            true => "it is copied again with the next run".to_owned(),
            false => format!("`imagesetd verify {set}{depth} --repair` copies it again"),
        };
        format!("{count} was lost: {why}; {remedy}")
    }
}

#[cfg(test)]
mod tests;
