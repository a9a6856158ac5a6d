//! What signatures of releases claim, and whether that is what is asked for.
//!
//! A signature is a signed message whose text is JSON (containers/image, "atomic container signature"): it says of a digest under
//! which name it was published. Clusters compare the digest; here the name has to fit too, so that neither another image of the
//! same signer nor another version of the release can stand in for the one asked for.

use jiff::Timestamp;
use serde::Deserialize;

use super::shown;
use crate::model::{
    facts::{Cause, Failure},
    image::{Digest, NameError, Reference, Repository, Tag},
    imageset::ChannelType,
    openpgp::{Keyring, Verified},
};

/// The most signatures of a release that are looked at. Clusters look at nine.
pub const MOST: usize = 10;

/// What every claim about an image has as its type.
const TYPE: &str = "atomic container signature";

/// The names under which releases are published, whatever repository they are read from.
const OCP: [&str; 2] = [
    "quay.io/openshift-release-dev/ocp-release",
    "registry.redhat.io/openshift-release-dev/ocp-release",
];
const OKD: [&str; 6] = [
    "quay.io/okd/scos-release",
    "quay.io/openshift/okd",
    "quay.io/openshift/okd-scos",
    "registry.ci.openshift.org/origin/release",
    "registry.ci.openshift.org/origin/release-scos",
    "registry.svc.ci.openshift.org/origin/release",
];

/// Everything that a signature store has for one digest, each looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatures {
    /// Where they are from, fit to be shown.
    pub store: String,
    /// What signatures may name beside the repository asked for and the names that all know.
    pub names: Vec<Repository>,
    /// The signatures, in the store's order.
    pub found: Vec<Found>,
    /// Why the store may have more than these.
    pub trouble: Option<Failure>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name in the store.
    pub name: String,
    /// The message, as it is.
    pub message: Vec<u8>,
    /// What it claims about the digest that it was looked up for, or in a clause why it counts for nothing.
    pub claim: Result<Claim, String>,
}

/// What a signature that counts claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Under which name the image was published.
    pub name: Reference,
    /// The fingerprint of the key that signed it.
    pub signer: String,
}

/// The release that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whose release it is.
    pub kind: ChannelType,
    /// The repository it is asked for in.
    pub repository: Repository,
    /// The tags by which it may be published; any, where it is asked for by digest.
    pub tags: Vec<Tag>,
}

/// Why a text that is signed is no claim about the image: a clause that follows the signature's name.
#[derive(Debug, thiserror::Error)]
enum NoClaim {
    #[error("is signed, but says nothing about an image that could be understood: {0}")]
    Json(serde_json::Error),
    #[error("is signed, but is no claim about an image: its type is `{}`", shown(.0))]
    Type(String),
    #[error("is for another image, {}", shown(.0))]
    Digest(String),
    #[error("names the image `{}`, which is no name of an image ({source})", shown(.name))]
    Name { name: String, source: NameError },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    critical: Critical,
    #[serde(default, rename = "optional")]
    _optional: Option<Optional>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
    identity: Identity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

/// Read since clusters refuse what they do not know or what is of another type, here too.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Optional {
    #[serde(rename = "creator")]
    _creator: Option<String>,
    #[serde(rename = "timestamp")]
    _timestamp: Option<i64>,
}

/// Looks at a message that a store has for `digest`; the error is a clause that follows its name.
pub fn look(
    message: &[u8],
    digest: &Digest,
    keyring: &Keyring,
    now: Timestamp,
) -> Result<Claim, String> {
    let verified = keyring.verify(message, now).map_err(|e| e.to_string())?;
    claim(&verified, digest).map_err(|e| e.to_string())
}

fn claim(verified: &Verified, digest: &Digest) -> Result<Claim, NoClaim> {
    let text: Text = serde_json::from_slice(&verified.text).map_err(NoClaim::Json)?;
    let Critical {
        kind,
        image,
        identity,
    } = text.critical;
    if kind != TYPE {
        return Err(NoClaim::Type(kind));
    }
    if image.digest != digest.to_string() {
        return Err(NoClaim::Digest(image.digest));
    }
    match identity.reference.parse() {
        Ok(name) => Ok(Claim {
            name,
            signer: verified.signer.clone(),
        }),
        Err(source) => Err(NoClaim::Name {
            name: identity.reference,
            source,
        }),
    }
}

impl Signatures {
    /// Returns the messages that sign what is asked for.
    ///
    /// # Errors
    ///
    /// With a sentence and whether it may pass, where there are none.
    pub fn of(&self, digest: &Digest, asked: &Asked) -> Result<Vec<&[u8]>, Failure> {
        let judged = self
            .found
            .iter()
            .map(|found| (found, self.judge(found, digest, asked)));
        let (good, bad): (Vec<_>, Vec<_>) = judged.partition(|(_, verdict)| verdict.is_ok());
        if !good.is_empty() {
            return Ok(good
                .into_iter()
                .map(|(found, _)| found.message.as_slice())
                .collect());
        }
        if let Some(trouble) = &self.trouble {
            return Err(trouble.clone());
        }
        let bad = bad.into_iter().filter_map(|(found, verdict)| {
            let why = verdict.err()?;
            Some(format!("`{}` {why}", found.name))
        });
        Err(Failure {
            reason: self.refusal(digest, asked.kind, &bad.collect::<Vec<_>>()),
            transient: false,
            cause: Cause::Other,
        })
    }

    /// Whether any of them may count, whatever is asked for.
    pub fn any(&self) -> bool {
        self.found.iter().any(|found| found.claim.is_ok())
    }

    fn judge(&self, found: &Found, digest: &Digest, asked: &Asked) -> Result<(), String> {
        let claim = found.claim.as_ref().map_err(Clone::clone)?;
        asked.fits(&claim.name, digest, &self.names)
    }

    fn refusal(&self, digest: &Digest, kind: ChannelType, bad: &[String]) -> String {
        let Signatures { store, .. } = self;
        if bad.is_empty() {
            return format!(
                "it is not mirrored, since the signature store {store} has no signature of {digest}; check that the release is published \
                 and not withdrawn, or name a store that has it in `release_verification.{kind}.store` \
                 (`--signature-url` with `once`)"
            );
        }
        const SHOWN: usize = 3;
        let more = match bad.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!("; {more} more are no better"),
        };
        let bad = bad
            .iter()
            .take(SHOWN)
            .cloned()
            .collect::<Vec<_>>()
            .join("; ");
        format!(
            "it is not mirrored, since it has no good signature: of {digest} in {store}, {bad}{more}; ask who fills that store, or name \
             another store or keyring in `release_verification.{kind}` (`--signature-url` and `--signature-key` with `once`)"
        )
    }
}

impl Asked {
    /// Whether an image published under `name` is the one asked for; the error is a clause.
    fn fits(&self, name: &Reference, digest: &Digest, names: &[Repository]) -> Result<(), String> {
        let written = name.repository.to_string();
        let published: &[&str] = match self.kind {
            ChannelType::Ocp => &OCP,
            ChannelType::Okd => &OKD,
        };
        let known = published.contains(&written.as_str()) || names.contains(&name.repository);
        if name.repository != self.repository && !known {
            return Err(format!(
                "is for the image of another name, {name}, while {} is asked for",
                self.repository
            ));
        }
        if name.digest.as_ref().is_some_and(|other| other != digest) {
            return Err(format!("contradicts itself: it names {name}"));
        }
        match &name.tag {
            Some(tag) if !self.tags.is_empty() && !self.tags.contains(tag) => {
                let asked: Vec<&str> = self.tags.iter().map(Tag::as_str).collect();
                Err(format!(
                    "is for another release, {name}, while {} is asked for",
                    asked.join(" or ")
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Returns whose release a repository holds, as far as its name says: OKD's where it says so, else OpenShift's. It decides whose
/// keys have to have signed `platform.release`.
pub fn kind_of(repository: &Repository) -> ChannelType {
    let text = repository.to_string();
    let is_okd = |part: &str| part == "okd" || part.starts_with("okd-") || part == "origin";
    if OKD.contains(&text.as_str()) || text.split('/').skip(1).any(is_okd) {
        ChannelType::Okd
    } else {
        ChannelType::Ocp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        Digest::of(b"release")
    }

    fn text(kind: &str, digest: &str, name: &str) -> String {
        serde_json::json!({
            "critical": {"type": kind, "image": {"docker-manifest-digest": digest}, "identity": {"docker-reference": name}},
            "optional": {"creator": "x"},
        })
        .to_string()
    }

    fn read(text: &str) -> Result<Claim, String> {
        let verified = Verified {
            text: text.into(),
            signer: "AB".into(),
            signed: Timestamp::UNIX_EPOCH,
        };
        claim(&verified, &digest()).map_err(|e| e.to_string())
    }

    fn asked(repository: &str, tags: &[&str]) -> Asked {
        Asked {
            kind: ChannelType::Ocp,
            repository: repository.parse().unwrap(),
            tags: tags.iter().map(|t| t.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_claim_is_what_the_text_says_and_nothing_else() {
        let good = text(TYPE, &digest().to_string(), "q.io/r/x:1");
        assert_eq!(
            read(&good),
            Ok(Claim {
                name: "q.io/r/x:1".parse().unwrap(),
                signer: "AB".into()
            })
        );
        let bad = |text: &str| read(text).unwrap_err();
        let says = |text: &str, part: &str| {
            let why = bad(text);
            assert!(why.contains(part), "{part}: {why}");
        };
        says(
            &text("cosign container image signature", "d", "q.io/r/x:1"),
            "its type is `cosign container image signature`",
        );
        says(
            &text(TYPE, "sha256:00", "q.io/r/x:1"),
            "is for another image, sha256:00",
        );
        says(
            &text(TYPE, &digest().to_string(), ""),
            "no name of an image",
        );
        says(&format!("{good} {good}"), "trailing characters");
        says("hello", "says nothing about an image");
        says(
            &good.replace("\"type\"", "\"more\":1,\"type\""),
            "unknown field `more`",
        );
        says(
            &good.replace("\"optional\"", "\"more\""),
            "unknown field `more`",
        );
        says(
            &good.replace("\"creator\"", "\"more\""),
            "unknown field `more`",
        );
        says(
            &good.replace("\"type\"", "\"type\":\"a\",\"type\""),
            "duplicate field `type`",
        );
        let without = good.replace(",\"identity\":{\"docker-reference\":\"q.io/r/x:1\"}", "");
        says(&without, "missing field `identity`");
        let plain = good.replace(",\"optional\":{\"creator\":\"x\"}", "");
        assert!(plain.len() < good.len() && read(&plain).is_ok());
    }

    #[test]
    fn the_name_has_to_be_that_of_what_is_asked_for() {
        let fits = |asked: &Asked, name: &str| asked.fits(&name.parse().unwrap(), &digest(), &[]);
        let release = "quay.io/openshift-release-dev/ocp-release";
        let by_tag = asked("lan:5000/copy/release", &["4.16.1-x86_64", "4.16.1"]);
        for name in [
            format!("{release}:4.16.1-x86_64"),
            format!("{release}:4.16.1"),
            format!("{release}@{}", digest()),
            release.to_owned(),
            "lan:5000/copy/release:4.16.1".to_owned(),
            "registry.redhat.io/openshift-release-dev/ocp-release:4.16.1-x86_64".to_owned(),
        ] {
            assert_eq!(fits(&by_tag, &name), Ok(()), "{name}");
        }
        let refused = |asked: &Asked, name: &str| fits(asked, name).unwrap_err();
        assert_eq!(
            refused(&by_tag, &format!("{release}:4.16.0-x86_64")),
            format!(
                "is for another release, {release}:4.16.0-x86_64, while 4.16.1-x86_64 or 4.16.1 is asked for"
            )
        );
        assert_eq!(
            refused(&by_tag, "quay.io/other/thing:4.16.1"),
            "is for the image of another name, quay.io/other/thing:4.16.1, while lan:5000/copy/release is asked for"
        );
        assert!(refused(&by_tag, "quay.io/okd/scos-release:4.16.1").contains("another name"));
        let other = format!("{release}@{}", Digest::of(b"other"));
        assert!(refused(&by_tag, &other).starts_with("contradicts itself"));
        assert_eq!(
            fits(&asked(release, &[]), &format!("{release}:any")),
            Ok(())
        );
        let named = by_tag.fits(
            &"site.lan/signed/release:4.16.1".parse().unwrap(),
            &digest(),
            &["site.lan/signed/release".parse().unwrap()],
        );
        assert_eq!(named, Ok(()));
    }

    #[test]
    fn one_good_signature_is_enough_and_all_that_count_are_returned() {
        let found = |name: &str, claim: Result<&str, &str>| Found {
            name: name.to_owned(),
            message: name.as_bytes().to_vec(),
            claim: claim.map_err(str::to_owned).map(|name| Claim {
                name: name.parse().unwrap(),
                signer: "AB".into(),
            }),
        };
        let of = |found: Vec<Found>, trouble: Option<Failure>| Signatures {
            store: "https://s/".into(),
            names: vec![],
            found,
            trouble,
        };
        let asked = asked("q.io/r/x", &["1"]);
        let trouble = Failure {
            reason: "it broke off".into(),
            transient: true,
            cause: Cause::Other,
        };
        let some = of(
            vec![
                found("signature-1", Err("is empty")),
                found("signature-2", Ok("q.io/r/x:1")),
                found("signature-3", Ok("q.io/r/x:2")),
                found("signature-4", Ok("q.io/r/x:1")),
            ],
            Some(trouble.clone()),
        );
        let good = [b"signature-2".as_slice(), b"signature-4"];
        assert_eq!(some.of(&digest(), &asked), Ok(good.to_vec()));
        let reason = |signatures: &Signatures| signatures.of(&digest(), &asked).unwrap_err();
        assert_eq!(
            reason(&of(
                vec![found("signature-1", Err("is empty"))],
                Some(trouble.clone())
            )),
            trouble
        );
        let digest = digest();
        assert_eq!(
            reason(&of(vec![], None)).reason,
            format!(
                "it is not mirrored, since the signature store https://s/ has no signature of {digest}; check that the release is published and not withdrawn, or name a store that has it in `release_verification.ocp.store` (`--signature-url` with `once`)"
            )
        );
        let bad = |n: usize| {
            (1..=n)
                .map(|i| found(&format!("signature-{i}"), Err("is empty")))
                .collect()
        };
        assert_eq!(
            reason(&of(bad(5), None)).reason,
            format!(
                "it is not mirrored, since it has no good signature: of {digest} in https://s/, `signature-1` is empty; `signature-2` is empty; `signature-3` is empty; 2 more are no better; ask who fills that store, or name another store or keyring in `release_verification.ocp` (`--signature-url` and `--signature-key` with `once`)"
            )
        );
    }

    #[test]
    fn a_repository_says_whose_release_it_holds() {
        let kind = |text: &str| kind_of(&text.parse().unwrap());
        for okd in [
            "quay.io/okd/scos-release",
            "quay.io/openshift/okd",
            "m.lan/okd-scos/release",
            "registry.ci.openshift.org/origin/release",
        ] {
            assert_eq!(kind(okd), ChannelType::Okd, "{okd}");
        }
        for ocp in [
            "quay.io/openshift-release-dev/ocp-release",
            "okd.lan/openshift/release-images",
        ] {
            assert_eq!(kind(ocp), ChannelType::Ocp, "{ocp}");
        }
    }
}
