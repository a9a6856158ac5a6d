//! Operator catalogs: what of them lands in the mirror, what a second round costs, and what `opm` says of what was built.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    fixture::{
        image::{Flavor, Image, Layer},
        place::Placed,
    },
    site::{PREFIX, Site, program},
    support::{
        catalog::{self, Bundle, LABEL},
        skopeo,
    },
};

/// A site whose upstream has a catalog `index:v1` of two packages, and the images that its bundles name.
pub(crate) struct Upstream {
    pub(crate) site: Site,
    /// Every image by its name.
    images: BTreeMap<String, Image>,
}

/// The names of all images: each bundle and its operator, and an operand that all of foo share.
const IMAGES: [&str; 9] = [
    "foo-bundle-1",
    "foo-1",
    "foo-bundle-2",
    "foo-2",
    "shared",
    "bar-bundle-1",
    "bar-1",
    "bar-bundle-2",
    "bar-2",
];

impl Upstream {
    pub(crate) fn new() -> Self {
        let site = Site::new();
        let images: BTreeMap<String, Image> = IMAGES
            .iter()
            .map(|name| ((*name).to_owned(), Image::simple(name)))
            .collect();
        let upstream = Upstream { site, images };
        let placed: Vec<(String, &Image)> = upstream
            .images
            .iter()
            .map(|(name, image)| (format!("team/{name}"), image))
            .collect();
        let placed: Vec<Placed<'_>> = placed
            .iter()
            .map(|(repository, image)| Placed::untagged(repository, image))
            .collect();
        upstream.site.publish(&placed);
        upstream
    }

    fn pinned(&self, name: &str) -> String {
        let host = self.site.upstream.address();
        format!("{host}/team/{name}@{}", self.images[name].digest())
    }

    pub(crate) fn documents(&self) -> Vec<Value> {
        let images = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| self.pinned(name)).collect()
        };
        let requires = json!({"type": "olm.package.required", "value": {"packageName": "bar", "versionRange": "<2.0.0"}});
        let mut second = Bundle::new(
            "2.0.0",
            Some("1.0.0"),
            &images(&["foo-bundle-2", "foo-2", "shared"]),
        );
        second.properties.push(requires);
        let of_foo = [
            Bundle::new("1.0.0", None, &images(&["foo-bundle-1", "foo-1", "shared"])),
            second,
        ];
        let of_bar = [
            Bundle::new("1.0.0", None, &images(&["bar-bundle-1", "bar-1"])),
            Bundle::new("2.0.0", Some("1.0.0"), &images(&["bar-bundle-2", "bar-2"])),
        ];
        [
            catalog::package("foo", "stable", &of_foo),
            catalog::package("bar", "stable", &of_bar),
        ]
        .concat()
    }

    /// Puts the catalog upstream under `index:v1`.
    pub(crate) fn publish(&self, image: &Image) {
        self.site
            .publish(&[Placed::tagged("team/index", "v1", image)]);
    }

    pub(crate) fn catalog(&self) -> String {
        format!("{}/team/index:v1", self.site.upstream.address())
    }

    pub(crate) fn image_set(&self, packages: &str) {
        self.site.image_set(&format!(
            "operators:\n- catalog: {}\n{packages}",
            self.catalog()
        ));
    }
}

/// The layers of a catalog: opm's, a cache that fits to it, and the configs.
fn layers(documents: &[Value]) -> Vec<Layer> {
    let text = catalog::file(documents);
    vec![
        Layer::files([
            ("bin/opm", b"not really".as_slice()),
            ("tmp/cache/digest", b"stale"),
        ]),
        Layer::files([
            ("configs/", b"".as_slice()),
            ("configs/all.json", text.as_bytes()),
        ]),
    ]
}

pub(crate) fn catalog_image(flavor: Flavor, arch: &str, documents: &[Value]) -> Image {
    Image::new(flavor, arch, &layers(documents), &[LABEL])
}

/// Unpacks an image of the mirror as a container runtime would, and returns its configuration.
pub(crate) fn unpacked(site: &Site, reference: &str, folder: &Path) -> Value {
    let copied = skopeo::copy_to_dir(&site.mirror.docker(&format!("{PREFIX}/{reference}")));
    let manifest: Value = serde_json::from_slice(&copied.manifest).unwrap();
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        &copied.files[digest.strip_prefix("sha256:").unwrap()]
    };
    for layer in manifest["layers"].as_array().unwrap() {
        let plain = flate2::read::GzDecoder::new(blob(layer).as_slice());
        let mut archive = tar::Archive::new(plain);
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = folder.join(entry.path().unwrap());
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name == ".wh..wh..opq" {
                let parent = path.parent().unwrap();
                fs::remove_dir_all(parent).unwrap();
                fs::create_dir_all(parent).unwrap();
            } else if let Some(hidden) = name.strip_prefix(".wh.") {
                let hidden = path.with_file_name(hidden);
                let _ = fs::remove_dir_all(&hidden);
                let _ = fs::remove_file(&hidden);
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                entry.unpack(&path).unwrap();
            }
        }
    }
    // Every catalog of these tests is one that clusters take.
    if let Some(opm) = catalog::maybe_opm() {
        catalog::validate(&opm, &folder.join("configs"));
    }
    serde_json::from_slice(blob(&manifest["config"])).unwrap()
}

/// The names of all bundles below a folder of configs.
pub(crate) fn bundles(configs: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(configs).unwrap() {
        let file = entry.unwrap().path().join("catalog.json");
        let text = fs::read_to_string(file).unwrap();
        let documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let bundles = documents
            .map(Result::unwrap)
            .filter(|d| d["schema"] == "olm.bundle");
        found.extend(bundles.map(|d| d["name"].as_str().unwrap().to_owned()));
    }
    found.sort();
    found
}

pub(crate) const FOO: &str = "  packages:\n  - name: foo\n";

#[test]
fn a_filtered_catalog_lands_with_its_bundles_and_what_they_require() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    upstream.publish(&catalog_image(Flavor::Oci, "amd64", &upstream.documents()));
    upstream.image_set(FOO);
    site.done(&[]);
    for name in ["foo-bundle-2", "foo-2", "shared", "bar-bundle-1", "bar-1"] {
        let image = &upstream.images[name];
        site.assert_mirrored(
            &format!("team/{name}:sha256-{}", image.digest().hex()),
            image,
        );
    }
    for name in ["foo-bundle-1", "foo-1", "bar-bundle-2", "bar-2"] {
        assert_eq!(site.tags(&format!("team/{name}")), [""; 0], "{name}");
    }
    let root = tempfile::tempdir().unwrap();
    let config = unpacked(site, "team/index:v1", root.path());
    assert_eq!(
        bundles(&root.path().join("configs")),
        ["bar.v1.0.0", "foo.v2.0.0"]
    );
    assert!(root.path().join("bin/opm").exists());
    assert!(!root.path().join("tmp/cache").exists());
    assert_eq!(config["config"]["Cmd"], json!(["serve", "/configs"]));
    assert_eq!(config["config"]["Labels"][LABEL.0], LABEL.1);
}

#[test]
fn a_second_round_costs_the_request_for_the_tag() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    upstream.publish(&catalog_image(
        Flavor::Docker,
        "amd64",
        &upstream.documents(),
    ));
    upstream.image_set(FOO);
    site.done(&[]);
    let (source, mirror) = (site.upstream.mark(), site.mirror.mark());
    let content = site.mirror_content();
    let documents = site.documents();
    site.done(&[]);
    let asked: Vec<String> = site
        .upstream
        .since(source)
        .iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect();
    assert_eq!(asked, ["HEAD /v2/team/index/manifests/v1"]);
    assert_eq!(site.mirror.since(mirror).len(), 0);
    assert_eq!(site.mirror_content(), content);
    assert_eq!(site.documents(), documents);
}

#[test]
fn the_same_catalog_and_filter_give_the_same_digest_anywhere() {
    let digests: Vec<Vec<u8>> = (0..2)
        .map(|_| {
            let upstream = Upstream::new();
            // Names of registries differ from site to site, and stand in the documents.
            let documents: Vec<Value> = upstream
                .documents()
                .iter()
                .map(|d| {
                    let host = upstream.site.upstream.address();
                    serde_json::from_str(&d.to_string().replace(host, "r.example.com")).unwrap()
                })
                .collect();
            upstream.publish(&catalog_image(Flavor::Docker, "amd64", &documents));
            upstream.site.image_set(&format!(
                "blockedImages:\n- name: r.example.com\noperators:\n- catalog: {}\n{FOO}",
                upstream.catalog()
            ));
            upstream.site.done(&[]);
            skopeo::inspect_raw(
                &upstream
                    .site
                    .mirror
                    .docker(&format!("{PREFIX}/team/index:v1")),
            )
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn an_index_is_rebuilt_for_every_platform_that_is_wanted() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    let documents = upstream.documents();
    let archs = ["arm64", "amd64", "s390x"];
    let children = archs.map(|arch| (arch, catalog_image(Flavor::Docker, arch, &documents)));
    upstream.publish(&Image::index(Flavor::Docker, children.to_vec()));
    upstream.image_set("  platforms: [{os: linux, architecture: amd64}, {os: linux, architecture: arm64}]\n  packages:\n  - name: bar\n");
    site.done(&[]);
    let raw = skopeo::inspect_raw(&site.mirror.docker(&format!("{PREFIX}/team/index:v1")));
    let index: Value = serde_json::from_slice(&raw).unwrap();
    let platforms: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["platform"]["architecture"].clone())
        .collect();
    assert_eq!(platforms, ["arm64", "amd64"]);
    assert_eq!(
        index["mediaType"],
        "application/vnd.docker.distribution.manifest.list.v2+json"
    );
    for child in index["manifests"].as_array().unwrap() {
        let root = tempfile::tempdir().unwrap();
        let config = unpacked(
            site,
            &format!("team/index@{}", child["digest"].as_str().unwrap()),
            root.path(),
        );
        assert_eq!(config["architecture"], child["platform"]["architecture"]);
        assert_eq!(bundles(&root.path().join("configs")), ["bar.v2.0.0"]);
    }
}

#[test]
fn a_full_catalog_is_the_original_byte_by_byte() {
    let upstream = Upstream::new();
    let image = catalog_image(Flavor::Docker, "amd64", &upstream.documents());
    upstream.publish(&image);
    upstream.image_set("  full: true\n  targetCatalog: my/catalog\n  targetTag: v1-mine\n");
    upstream.site.done(&[]);
    upstream.site.assert_mirrored("my/catalog:v1-mine", &image);
    for (name, image) in &upstream.images {
        upstream.site.assert_mirrored(
            &format!("team/{name}:sha256-{}", image.digest().hex()),
            image,
        );
    }
}

#[test]
fn what_cannot_be_had_stalls_itself_and_the_rest_goes_on() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    let mut documents = upstream.documents();
    let bundle = documents
        .iter_mut()
        .find(|d| d["name"] == "bar.v2.0.0")
        .unwrap();
    bundle["relatedImages"][1]["image"] = "oci://nowhere".into();
    upstream.publish(&catalog_image(Flavor::Oci, "amd64", &documents));
    upstream.image_set(
        "  skipDependencies: true\n  packages:\n  - name: foo\n  - name: bar\n  - name: fooo\n",
    );
    let ended = site.once(&[]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    ended.says(&[
        "package fooo: the catalog has no package `fooo`; did you mean `foo`?",
        "bundle bar.v2.0.0: its image oci://nowhere is no image reference",
    ]);
    let root = tempfile::tempdir().unwrap();
    unpacked(site, "team/index:v1", root.path());
    assert_eq!(
        bundles(&root.path().join("configs")),
        ["bar.v1.0.0", "foo.v2.0.0"]
    );
}

#[test]
fn clusters_are_given_rules_for_what_bundles_name() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    upstream.publish(&catalog_image(Flavor::Oci, "amd64", &upstream.documents()));
    upstream.image_set(FOO);
    site.done(&[]);
    let (host, mirror) = (site.upstream.address(), site.mirror.address());
    let rules = site
        .documents()
        .into_iter()
        .find(|(path, _)| path.ends_with("idms-set-operators.yaml"));
    let (_, (text, _)) = rules.unwrap();
    let rules: Value = serde_yaml::from_slice(&text).unwrap();
    let sources: Vec<String> = rules["spec"]["imageDigestMirrors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| {
            format!(
                "{} -> {}",
                rule["source"].as_str().unwrap(),
                rule["mirrors"][0].as_str().unwrap()
            )
        })
        .collect();
    let expected = [format!("{host}/team -> {mirror}/{PREFIX}/team")];
    assert_eq!(sources, expected);
}

#[test]
fn clusters_are_told_of_the_catalog_by_its_digest() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    upstream.publish(&catalog_image(Flavor::Oci, "amd64", &upstream.documents()));
    upstream.image_set(FOO);
    let planned = site.once(&["--dry-run"]);
    planned.says(&[
        "cs-index-v1.yaml (CatalogSource)",
        "cc-index-v1.yaml (ClusterCatalog)",
    ]);
    site.done(&[]);
    let raw = skopeo::inspect_raw(&site.mirror.docker(&format!("{PREFIX}/team/index:v1")));
    let digest = imagesetd::model::image::Digest::of(&raw);
    let image = format!("{}/{PREFIX}/team/index@{digest}", site.mirror.address());
    let document = |name: &str| -> Value {
        serde_yaml::from_slice(&fs::read(site.path("resources").join(name)).unwrap()).unwrap()
    };
    let source = document("cs-index-v1.yaml");
    assert_eq!(
        source["spec"],
        json!({"sourceType": "grpc", "image": image})
    );
    assert_eq!(source["metadata"]["namespace"], "openshift-marketplace");
    let catalog = document("cc-index-v1.yaml");
    assert_eq!(catalog["spec"]["source"]["image"]["ref"], image);
    // Another filter is another catalog.
    upstream.image_set("  packages:\n  - name: bar\n");
    site.done(&[]);
    assert_ne!(document("cs-index-v1.yaml"), source);
}

#[test]
fn a_plan_tells_what_the_heads_become() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    let documents = upstream.documents();
    let first: Vec<Value> = documents
        .iter()
        .filter(|d| d["name"] != "foo.v2.0.0")
        .cloned()
        .map(|mut d| {
            if d["schema"] == "olm.channel" && d["package"] == "foo" {
                d["entries"].as_array_mut().unwrap().truncate(1);
            }
            d
        })
        .collect();
    upstream.publish(&catalog_image(Flavor::Oci, "amd64", &first));
    upstream.image_set(FOO);
    site.done(&[]);
    upstream.publish(&catalog_image(Flavor::Oci, "amd64", &documents));
    let planned = site.once(&["--dry-run"]);
    planned.says(&[
        &format!(
            "Heads of operator channels\n  + bar stable: bar.v1.0.0 ({catalog})\n  ~ foo stable: foo.v1.0.0 -> foo.v2.0.0 ({catalog})\n",
            catalog = upstream.catalog()
        ),
        "Bundles that others require\n  bar.v1.0.0: foo.v2.0.0 requires bar <2.0.0\n",
    ]);
}

#[test]
fn a_dry_run_pushes_nothing_and_names_the_catalog_by_what_it_will_be() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    upstream.publish(&catalog_image(Flavor::Oci, "amd64", &upstream.documents()));
    upstream.image_set(FOO);
    let ended = site.once(&["--dry-run"]);
    assert_eq!(ended.code, 0, "{ended:#?}");
    ended.says(&["operator images    5", "operator catalogs  1"]);
    assert!(
        site.mirror
            .requests()
            .iter()
            .all(|request| !request.writes())
    );
    site.done(&[]);
    assert_eq!(site.tags("team/index"), ["v1"]);
}

#[test]
fn verbs_look_at_catalogs_without_a_mirror() {
    let upstream = Upstream::new();
    let site = &upstream.site;
    upstream.publish(&catalog_image(Flavor::Oci, "amd64", &upstream.documents()));
    let run = |arguments: &[&str]| {
        let output = program()
            .arg("catalog")
            .args(arguments)
            .arg("--src-tls-verify=false")
            .output()
            .unwrap();
        crate::site::Ended::of(output)
    };
    let image = upstream.catalog();
    let listed = run(&["list", &image]);
    assert_eq!(
        listed.stdout,
        "PACKAGE  DEFAULT CHANNEL  HEAD\nbar      stable           bar.v2.0.0\nfoo      stable           foo.v2.0.0\n"
    );
    let listed = run(&["list", &image, "--package", "foo"]);
    assert_eq!(
        listed.stdout,
        "CHANNEL           HEAD        VERSIONS\nstable (default)  foo.v2.0.0  2\n"
    );
    let listed = run(&["list", &image, "--package", "foo", "--channel", "stable"]);
    assert_eq!(
        listed.stdout,
        "VERSION  BUNDLE\n2.0.0    foo.v2.0.0\n1.0.0    foo.v1.0.0\n"
    );
    let listed = run(&["list", &image, "--package", "fo"]);
    assert_eq!(
        (listed.code, listed.stderr.trim()),
        (
            3,
            "error: the catalog has no package `fo`; did you mean `foo`?"
        )
    );
    // From a layout on disk, and from plain configs.
    let layout = site.path("layout");
    skopeo::copy(
        &site.upstream.docker("team/index:v1"),
        &format!("oci:{}:v1", layout.display()),
    );
    let from_layout = run(&["list", &format!("oci://{}", layout.display())]);
    let plain = site.path("plain");
    fs::create_dir_all(plain.join("deep")).unwrap();
    fs::write(
        plain.join("deep/any.name"),
        catalog::file(&upstream.documents()),
    )
    .unwrap();
    let from_folder = run(&["list", plain.to_str().unwrap()]);
    assert_eq!(from_layout.stdout, from_folder.stdout);
    assert_eq!(from_layout.stdout, run(&["list", &image]).stdout);
    upstream.image_set(FOO);
    let set = site.path("set.yaml");
    let state = site.path("looked");
    let filter = |more: &[&str]| {
        run(&[
            &[
                "filter",
                "-c",
                set.to_str().unwrap(),
                "--state",
                state.to_str().unwrap(),
            ],
            more,
        ]
        .concat())
    };
    let table = filter(&[]);
    assert_eq!(
        table.stdout,
        format!(
            "{image}: 2 packages, 2 bundles\n\
             PACKAGE  CHANNEL           VERSION  BUNDLE      WHY\n\
             bar      stable (default)  1.0.0    bar.v1.0.0  foo.v2.0.0 requires bar <2.0.0\n\
             foo      stable (default)  2.0.0    foo.v2.0.0  head of the channel\n"
        )
    );
    let mark = site.upstream.mark();
    let documents = filter(&["--output", "fbc"]);
    let asked: Vec<String> = site
        .upstream
        .since(mark)
        .iter()
        .map(|r| r.method.clone())
        .collect();
    assert_eq!(asked, ["HEAD"]);
    if let Some(opm) = catalog::maybe_opm() {
        let folder = site.path("fbc");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("catalog.json"), &documents.stdout).unwrap();
        catalog::validate(&opm, &folder);
    }
    let json: Value =
        serde_json::from_str(&filter(&["-o", "json", "--catalog", plain.to_str().unwrap()]).stdout)
            .unwrap();
    assert_eq!(
        json["catalogs"][0]["packages"][0]["bundles"][0]["name"],
        "bar.v1.0.0"
    );
    upstream.image_set("  packages:\n  - name: fo\n  - name: bar\n");
    let ended = filter(&[]);
    assert_eq!(ended.code, 3);
    assert_eq!(
        ended.stderr.trim(),
        format!("error: {image}: the catalog has no package `fo`; did you mean `foo`?")
    );
}

/// Needs `opm`: serves the rebuilt image's root with the image's own command, as a pod would.
#[test]
fn opm_serves_a_rebuilt_image_with_its_own_command() {
    let Some(opm) = catalog::opm("a rebuilt image is served by opm") else {
        return;
    };
    let upstream = Upstream::new();
    let site = &upstream.site;
    upstream.publish(&catalog_image(
        Flavor::Docker,
        "amd64",
        &upstream.documents(),
    ));
    upstream.image_set(FOO);
    site.done(&[]);
    let root = tempfile::tempdir().unwrap();
    let config = unpacked(site, "team/index:v1", root.path());
    let words: Vec<String> = config["config"]["Cmd"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| {
            // The root of the image is a folder here.
            word.as_str().unwrap().replacen(
                "/configs",
                root.path().join("configs").to_str().unwrap(),
                1,
            )
        })
        .collect();
    let temporary = tempfile::tempdir().unwrap();
    let open = |folder: &Path, mode| {
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(root.path(), 0o755);
    open(temporary.path(), 0o777);
    let [port, profiling] = [(), ()].map(|()| crate::fixture::server::free_port().unwrap());
    // It may lie where only its owner looks.
    let program = temporary.path().join("opm");
    fs::hard_link(&opm, &program)
        .or_else(|_| fs::copy(&opm, &program).map(drop))
        .unwrap();
    let mut server = Command::new(program);
    // A cluster gives it a user that nobody knows, who cannot write to the image.
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        server.uid(1_000_710_000).gid(0);
    }
    let mut server = server
        .args(&words)
        .args(["--port", &port.to_string()])
        .args(["--pprof-addr", &format!("127.0.0.1:{profiling}")])
        .env("TMPDIR", temporary.path())
        .current_dir(temporary.path())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let listed = (0..600).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(server.try_wait().unwrap(), None, "opm has ended");
        let grpcurl = crate::support::tool::find("grpcurl");
        let output = Command::new(grpcurl)
            .args([
                "-plaintext",
                &format!("127.0.0.1:{port}"),
                "api.Registry/ListPackages",
            ])
            .output()
            .unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).unwrap())
    });
    server.kill().unwrap();
    server.wait().unwrap();
    let listed = listed.expect("opm serves");
    let mut names: Vec<String> = serde_json::Deserializer::from_str(&listed)
        .into_iter::<Value>()
        .map(|package| package.unwrap()["name"].as_str().unwrap().to_owned())
        .collect();
    // It lists them in any order.
    names.sort();
    assert_eq!(names, ["bar", "foo"]);
}
