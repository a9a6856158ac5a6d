//! Signed releases are mirrored and their signatures written for clusters; the others are refused, and the rest goes on.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use imagesetd::model::image::Digest;
use serde_json::{Value, json};

use crate::{
    fixture::{
        image::Image,
        place::Placed,
        release::{PAYLOADS, Release, Spec},
    },
    site::{CHANNEL, Ended, FEW, PREFIX, Site, Updates, channel},
    support::gpg::Gpg,
};

/// A site with somebody who signs, and a store of signatures.
struct Signing {
    site: Site,
    gpg: Gpg,
    key: String,
}

impl Signing {
    fn new() -> Self {
        let gpg = Gpg::new();
        Signing {
            site: Site::new(),
            key: gpg.key("releases", "rsa2048", "sign", "never", &[]),
            gpg,
        }
    }

    fn folder(&self, digest: &Digest) -> PathBuf {
        let folder = self
            .site
            .path("store")
            .join(format!("sha256={}", digest.hex()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn put(&self, digest: &Digest, number: u32, message: &[u8]) {
        fs::write(
            self.folder(digest).join(format!("signature-{number}")),
            message,
        )
        .unwrap();
    }

    /// What a signature of a release says.
    fn says(&self, digest: &Digest, tag: &str) -> String {
        let name = format!("{}/{PAYLOADS}:{tag}", self.site.upstream.address());
        claim("atomic container signature", digest, &name).to_string()
    }

    fn message(&self, digest: &Digest, tag: &str) -> Vec<u8> {
        self.gpg.sign(&self.key, self.says(digest, tag).as_bytes())
    }

    fn sign(&self, release: &Release) -> Vec<u8> {
        let digest = release.payload.digest();
        let message = self.message(digest, &release.tag);
        self.put(digest, 1, &message);
        message
    }

    /// Makes one round that verifies.
    fn once(&self, more: &[&str]) -> Ended {
        let (store, keyring) = self.where_it_is();
        let store = format!("--signature-url={store}");
        let keyring = format!("--signature-key={keyring}");
        self.round(&[more, &[&store, &keyring]].concat(), &[])
    }

    fn where_it_is(&self) -> (String, String) {
        let keyring = self.gpg.file("public", &self.gpg.export(&[&self.key]));
        let store = format!("file://{}", self.site.path("store").display());
        (store, keyring.display().to_string())
    }

    fn round(&self, more: &[&str], environment: &[(&str, &str)]) -> Ended {
        let asked = self.site.command(more);
        let mut command = crate::site::program();
        command.args(
            asked
                .get_args()
                .filter(|a| *a != "--ignore-release-signature"),
        );
        command.envs(environment.iter().copied());
        Ended::of(command.output().unwrap())
    }

    /// The keys and values of the one ConfigMap of signatures.
    fn published(&self) -> Vec<(String, Vec<u8>)> {
        let Ok(text) =
            fs::read_to_string(self.site.path("resources/configmap-set-signatures.yaml"))
        else {
            return vec![];
        };
        let object: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(object["metadata"]["namespace"], "openshift-config-managed");
        let label = &object["metadata"]["labels"]["release.openshift.io/verification-signatures"];
        assert_eq!(label, "");
        let data = object["binaryData"].as_object().unwrap();
        let decoded = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        data.iter().map(|(k, v)| (k.clone(), decoded(v))).collect()
    }
}

fn claim(kind: &str, digest: &Digest, name: &str) -> Value {
    json!({
        "critical": {
            "image": {"docker-manifest-digest": digest.to_string()},
            "type": kind,
            "identity": {"docker-reference": name},
        },
        "optional": {"creator": "the tests"},
    })
}

fn key_of(digest: &Digest, number: u32) -> String {
    format!("sha256-{}-{number}", digest.hex())
}

#[test]
fn signed_release_is_mirrored_and_its_signatures_are_written_for_clusters() {
    let signing = Signing::new();
    let release = signing.site.release("4.16.1", 0, &FEW);
    signing.site.publish(&release.images());
    let updates = Updates::of(&[&release]);
    signing.site.channel("4.16.1", "4.16.1");
    let digest = release.payload.digest();
    // A signature that does not count, two that do, and one that is found no more since a number is missing.
    signing.put(digest, 1, b"");
    let first = signing.message(digest, &release.tag);
    let second = signing.message(digest, "4.16.1");
    signing.put(digest, 2, &first);
    signing.put(digest, 3, &second);
    signing.put(digest, 5, &first);

    let dry = signing.once(&[&updates.option(), "--dry-run"]);
    assert_eq!(dry.code, 0, "{dry:#?}");
    dry.says(&["configmap-set-signatures.yaml"]);
    assert!(!dry.stdout.contains("not verified"));
    assert_eq!(signing.published(), []);

    let ended = signing.once(&[&updates.option()]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    ended.says(&["configmap-set-signatures.yaml"]);
    signing.site.assert_release(&release, &FEW);
    let expected = vec![(key_of(digest, 1), first), (key_of(digest, 2), second)];
    assert_eq!(signing.published(), expected);

    // Known and good: neither asked for again nor written again, also without the store.
    let documents = signing.site.documents();
    fs::remove_dir_all(signing.site.path("store")).unwrap();
    let again = signing.once(&[&updates.option()]);
    assert_eq!(again.code, 0, "{again:#?}");
    assert_eq!(signing.site.documents(), documents);
}

#[test]
fn unsigned_and_forged_releases_are_refused_and_the_rest_goes_on() {
    let signing = Signing::new();
    let site = &signing.site;
    let app = Image::simple("app");
    site.publish(&[Placed::tagged("team/app", "1", &app)]);
    let versions = [
        "4.16.1", "4.16.2", "4.16.3", "4.16.4", "4.16.5", "4.16.6", "4.16.7",
    ];
    let releases: Vec<Release> = (0..)
        .zip(versions)
        .map(|(n, v)| site.release(v, n, &FEW))
        .collect();
    releases.iter().for_each(|r| site.publish(&r.images()));
    let updates = Updates::of(&releases.iter().collect::<Vec<_>>());
    site.image_set(&format!(
        "{}additionalImages:\n- name: {}/team/app:1\n",
        channel(CHANNEL, "4.16.1", "4.16.7"),
        site.upstream.address()
    ));
    let [good, missing, other, older, stranger, changed, kind] = releases.as_slice() else {
        panic!("seven releases");
    };
    signing.sign(good);
    let digest = |release: &Release| release.payload.digest().clone();
    // A good signature of another release, in this one's place.
    signing.put(
        &digest(other),
        1,
        &signing.message(&digest(good), &other.tag),
    );
    signing.put(
        &digest(older),
        1,
        &signing.message(&digest(older), &good.tag),
    );
    let key = signing.gpg.key("stranger", "rsa2048", "sign", "never", &[]);
    let by_stranger = signing.gpg.sign(
        &key,
        signing.says(&digest(stranger), &stranger.tag).as_bytes(),
    );
    signing.put(&digest(stranger), 1, &by_stranger);
    let text = signing.says(&digest(changed), &changed.tag);
    let mut bad =
        signing
            .gpg
            .sign_with(&signing.key, &["--compress-algo", "none"], text.as_bytes());
    *bad.last_mut().unwrap() ^= 1;
    signing.put(&digest(changed), 1, &bad);
    let name = format!("{}/{PAYLOADS}:{}", site.upstream.address(), kind.tag);
    let text = claim("cosign container image signature", &digest(kind), &name).to_string();
    signing.put(
        &digest(kind),
        1,
        &signing.gpg.sign(&signing.key, text.as_bytes()),
    );

    let ended = signing.once(&[&updates.option()]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    ended.says(&[
        &format!("has no signature of {}", digest(missing)),
        &format!("`signature-1` is for another image, {}", digest(good)),
        &format!(
            "is for another release, {}/{PAYLOADS}:{}, while {} or 4.16.4 is asked for",
            site.upstream.address(),
            good.tag,
            older.tag
        ),
        "which is not in the keyring",
        "its type is `cosign container image signature`",
        "does not fit its text",
        "release 4.16.6 (amd64)",
    ]);
    site.assert_mirrored("team/app:1", &app);
    site.assert_release(good, &FEW);
    assert_eq!(site.tags("openshift/release-images"), [good.tag.as_str()]);
    let keys: Vec<_> = signing
        .published()
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(keys, [key_of(&digest(good), 1)]);

    // Signed after all: nothing that was refused is remembered as such.
    signing.sign(missing);
    let ended = signing.once(&[&updates.option()]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    site.assert_release(missing, &FEW);
    assert_eq!(signing.published().len(), 2);
}

#[test]
fn oc_mirrors_variables_name_store_and_keys() {
    let signing = Signing::new();
    let release = signing.site.release("4.16.1", 0, &FEW);
    signing.site.publish(&release.images());
    signing.sign(&release);
    let named = release.pull_spec.replace(
        &format!("@{}", release.payload.digest()),
        &format!(":{}", release.tag),
    );
    signing
        .site
        .image_set(&format!("platform:\n  release: {named}\n"));
    let (store, keyring) = signing.where_it_is();
    let variables = [
        ("OCP_SIGNATURE_URL", store.as_str()),
        ("OCP_SIGNATURE_VERIFICATION_PK", &keyring),
    ];
    // The keys of Red Hat did not sign this one.
    let red_hat = signing.round(&[], &variables[..1]);
    assert_eq!(red_hat.code, 3, "{red_hat:#?}");
    red_hat.says(&["which is not in the keyring"]);
    assert_eq!(signing.site.mirror.requests().writes(), 0);
    let ended = signing.round(&[], &variables);
    assert_eq!(ended.code, 0, "{ended:#?}");
    signing.site.assert_release(&release, &FEW);
    let none = signing.round(
        &[],
        &[("OCP_SIGNATURE_VERIFICATION_PK", "/nonexistent/keys")],
    );
    assert_eq!(none.code, 3, "{none:#?}");
    assert!(
        none.stderr
            .contains("the keyring `/nonexistent/keys` cannot be read"),
        "{none:#?}"
    );
}

#[test]
fn multi_release_is_signed_by_its_index() {
    let signing = Signing::new();
    let release = Release::build(&Spec {
        components: &FEW,
        archs: &["x86_64", "aarch64"],
        ..Spec::new("4.16.1", 0, signing.site.upstream.address())
    });
    signing.site.publish(&release.images());
    signing
        .site
        .image_set(&format!("platform:\n  release: {}\n", release.pull_spec));
    // The signature of an instance is none of the index.
    for instance in release.payload.manifests() {
        if instance.digest() != release.payload.digest() {
            signing.put(
                instance.digest(),
                1,
                &signing.message(instance.digest(), &release.tag),
            );
        }
    }
    let ended = signing.once(&[]);
    assert_eq!(ended.code, 3, "{ended:#?}");
    ended.says(&[&format!("has no signature of {}", release.payload.digest())]);
    assert_eq!(signing.site.mirror.requests().writes(), 0);
    signing.sign(&release);
    let ended = signing.once(&[]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    let keys: Vec<_> = signing
        .published()
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(keys, [key_of(release.payload.digest(), 1)]);
}

#[test]
fn okd_without_a_key_says_what_to_configure() {
    let signing = Signing::new();
    let release = signing.site.release("4.16.1", 0, &FEW);
    signing.site.publish(&release.images());
    let updates = Updates::of(&[&release]);
    let text = channel(CHANNEL, "4.16.1", "4.16.1").replace("  - name", "  - type: okd\n    name");
    signing.site.image_set(&text);
    let ended = signing.round(&[&updates.option()], &[]);
    assert_eq!(ended.code, 3, "{ended:#?}");
    ended.says(&[
        "no key is known that signs releases of OKD",
        "`release_verification.okd.keyring`",
    ]);
    assert_eq!(signing.site.mirror.requests().writes(), 0);
    assert!(!signing.site.path("resources").join(PREFIX).exists());
}

#[test]
fn an_image_set_cannot_opt_out_by_itself() {
    let signing = Signing::new();
    let release = signing.site.release("4.16.1", 0, &FEW);
    signing.site.publish(&release.images());
    for stanza in [
        "platform:\n  release_signatures: ignore\n  release: X\n",
        "release_signatures: ignore\nplatform:\n  release: X\n",
    ] {
        signing
            .site
            .image_set(&stanza.replace('X', &release.pull_spec));
        let ended = signing.once(&[]);
        assert_eq!(ended.code, 3, "{ended:#?}");
        assert!(ended.stderr.contains("release_signatures"), "{ended:#?}");
        assert_eq!(signing.site.mirror.requests().writes(), 0);
    }
}
