//! What a person is told about their files, word for word.

use super::*;

/// Reads files given as name and text.
fn files(files: &[(&str, &str)]) -> Read {
    let files: Vec<SourceFile> = files
        .iter()
        .map(|(name, text)| SourceFile {
            path: format!("sets/{name}"),
            name: (*name).to_owned(),
            bytes: text.as_bytes().to_vec(),
        })
        .collect();
    read(&files)
}

/// Shows problems as `line:column path: severity: message; hint`.
fn shown(problems: &[Problem]) -> Vec<String> {
    let show = |p: &Problem| {
        let severity = match p.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let hint = if p.hint.is_empty() {
            String::new()
        } else {
            format!("; {}", p.hint)
        };
        format!(
            "{}:{} {}: {severity}: {}{hint}",
            p.line, p.column, p.path, p.message
        )
    };
    problems.iter().map(show).collect()
}

/// What is told about one file.
fn told(text: &str) -> Vec<String> {
    shown(&files(&[("a.yaml", text)]).problems)
}

/// What is told about a stanza below `mirror`, which begins on line 4 and column 3.
fn told_in(version: &str, stanza: &str) -> Vec<String> {
    let lines: Vec<String> = stanza.lines().map(|line| format!("  {line}\n")).collect();
    told(&format!(
        "apiVersion: mirror.openshift.io/{version}\nkind: ImageSetConfiguration\nmirror:\n{}",
        lines.concat()
    ))
}

/// The only image set of a good file.
fn good(text: &str) -> ImageSet {
    let read = files(&[("a.yaml", text)]);
    assert_eq!(shown(&read.problems), Vec::<String>::new());
    read.image_sets[0].image_set.clone().unwrap()
}

/// The names found, each with whether it is good.
fn names(read: &Read) -> Vec<(&str, bool)> {
    let sets = read.image_sets.iter();
    sets.map(|set| (set.name.0.as_str(), set.image_set.is_some()))
        .collect()
}

/// A document that asks for one image.
fn asking_for(image: &str) -> String {
    format!(
        "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  additionalImages:\n  - name: {image}\n"
    )
}

const DIGEST: &str = "sha256:0da6316466d60a3a4535d5fed3589feb0391989982fba59d47d4c729912d6363";

#[test]
fn every_field_of_v2alpha1_is_read() {
    let set = good(&format!(
        r#"apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
archiveSize: 4
mirror:
  platform:
    graph: true
    platforms:
    - {{os: linux, architecture: amd64}}
    release: quay.io/openshift-release-dev/ocp-release@{DIGEST}
    kubeVirtContainer: true
  operators:
  - catalog: registry.redhat.io/redhat/redhat-operator-index:v4.17
    full: false
    targetCatalog: my/ns/index
    targetTag: v4.17-mine
    targetCatalogSourceTemplate: /path/cs.yaml
    skipDependencies: true
    platforms: [{{os: linux, architecture: s390x}}]
    packages:
    - name: foo
      defaultChannel: stable
      minVersion: 1.0.0
      maxVersion: 2.0.0-rc.1+build
    - name: bar
      channels:
      - {{name: beta, minVersion: 0.1.0, maxVersion: 0.2.0}}
      - name: stable
  - catalog: oci:///srv/catalogs/mine
  additionalImages:
  - name: quay.io/x/y:tag
    targetRepo: ns/y
    targetTag: t
    platforms: [{{os: linux, architecture: arm64}}]
  helm:
    repositories:
    - name: podinfo
      url: https://stefanprodan.github.io/podinfo
      charts:
      - name: podinfo
        version: 5.0.0
        imagePaths: ["{{.spec.x}}"]
        platforms: [{{os: linux, architecture: amd64}}]
    local:
    - {{name: here, path: /p/here-5.0.0.tgz}}
  blockedImages:
  - name: 'redis:.*-alpine$'
"#
    ));
    let version = |text: &str| Some(text.parse().unwrap());
    let platform = |text: &str| vec![text.parse().unwrap()];
    let package = |name: &str| Package {
        name: name.to_owned(),
        default_channel: None,
        min_version: None,
        max_version: None,
        min_bundle: None,
        channels: Vec::new(),
    };
    let expected = ImageSet {
        name: SetName("a".to_owned()),
        archive_size: Some(4),
        platform: PlatformSpec {
            graph: true,
            architectures: Vec::new(),
            platforms: platform("linux/amd64"),
            release: Some(
                format!("quay.io/openshift-release-dev/ocp-release@{DIGEST}")
                    .parse()
                    .unwrap(),
            ),
            kube_virt_container: true,
            channels: Vec::new(),
        },
        operators: vec![
            Operator {
                catalog: "registry.redhat.io/redhat/redhat-operator-index:v4.17".to_owned(),
                full: false,
                target_catalog: Some("my/ns/index".to_owned()),
                target_tag: Some("v4.17-mine".parse().unwrap()),
                target_catalog_source_template: Some("/path/cs.yaml".to_owned()),
                skip_dependencies: true,
                platforms: platform("linux/s390x"),
                packages: vec![
                    Package {
                        default_channel: Some("stable".to_owned()),
                        min_version: version("1.0.0"),
                        max_version: version("2.0.0-rc.1+build"),
                        ..package("foo")
                    },
                    Package {
                        channels: vec![
                            PackageChannel {
                                name: "beta".to_owned(),
                                min_version: version("0.1.0"),
                                max_version: version("0.2.0"),
                                min_bundle: None,
                            },
                            PackageChannel {
                                name: "stable".to_owned(),
                                min_version: None,
                                max_version: None,
                                min_bundle: None,
                            },
                        ],
                        ..package("bar")
                    },
                ],
            },
            Operator {
                catalog: "oci:///srv/catalogs/mine".to_owned(),
                full: false,
                target_catalog: None,
                target_tag: None,
                target_catalog_source_template: None,
                skip_dependencies: false,
                platforms: Vec::new(),
                packages: Vec::new(),
            },
        ],
        additional_images: vec![AdditionalImage {
            image: "quay.io/x/y:tag".parse().unwrap(),
            target_repo: Some("ns/y".to_owned()),
            target_tag: Some("t".parse().unwrap()),
            platforms: platform("linux/arm64"),
        }],
        helm: Helm {
            repositories: vec![HelmRepository {
                name: "podinfo".to_owned(),
                url: "https://stefanprodan.github.io/podinfo".to_owned(),
                charts: vec![HelmChart {
                    name: "podinfo".to_owned(),
                    version: Some("5.0.0".to_owned()),
                    path: None,
                    image_paths: vec!["{.spec.x}".to_owned()],
                    platforms: platform("linux/amd64"),
                }],
            }],
            local: vec![HelmChart {
                name: "here".to_owned(),
                version: None,
                path: Some("/p/here-5.0.0.tgz".to_owned()),
                image_paths: Vec::new(),
                platforms: Vec::new(),
            }],
        },
        blocked_images: vec![Blocked::Pattern("redis:.*-alpine$".to_owned())],
    };
    assert_eq!(set, expected);
}

#[test]
fn channels_and_architectures_are_read() {
    let set = good(
        "apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  platform:
    architectures: [arm64, multi]
    channels:
    - name: stable-4.17
      type: ocp
      minVersion: 4.17.1
      maxVersion: 4.17.9
      shortestPath: true
    - {name: \"4.20\", type: okd, full: true}
",
    );
    let expected = PlatformSpec {
        architectures: vec!["arm64".to_owned(), "multi".to_owned()],
        channels: vec![
            Channel {
                name: "stable-4.17".to_owned(),
                channel_type: ChannelType::Ocp,
                min_version: Some(Version::new(4, 17, 1)),
                max_version: Some(Version::new(4, 17, 9)),
                shortest_path: true,
                full: false,
            },
            Channel {
                name: "4.20".to_owned(),
                channel_type: ChannelType::Okd,
                min_version: None,
                max_version: None,
                shortest_path: false,
                full: true,
            },
        ],
        ..PlatformSpec::default()
    };
    assert_eq!(set.platform, expected);
}

#[test]
fn v1alpha2_is_read_and_says_what_happens_instead() {
    let read = files(&[(
        "a.yaml",
        "kind: ImageSetConfiguration
apiVersion: mirror.openshift.io/v1alpha2
storageConfig:
  registry: {imageURL: reg.lan/meta, skipTLS: true}
mirror:
  operators:
  - catalog: registry.redhat.io/redhat/idx:v4.17
    targetName: mine
    originalRef: x
    targetCatalogSourceTemplate: t
    packages:
    - name: a
      minBundle: a.v1
  blockedImages:
  - name: '*.foo'
",
    )]);
    assert_eq!(
        shown(&read.problems),
        [
            "3:1 storageConfig: warning: `storageConfig` is of oc-mirror v1: what is mirrored is remembered by the agent itself, and this is not used; remove it",
            "8:5 mirror.operators[0].targetName: warning: `targetName` is of oc-mirror v1: it is read as `targetCatalog` with the catalog's namespace before it, where there is no `targetCatalog`; write `targetCatalog`",
            "9:5 mirror.operators[0].originalRef: warning: `originalRef` is of oc-mirror v1: the catalog alone is looked at, and this is not used; remove it",
            "10:5 mirror.operators[0].targetCatalogSourceTemplate: warning: `targetCatalogSourceTemplate` is a key of v2alpha1; it is read all the same, as oc-mirror v2 does; write `apiVersion: mirror.openshift.io/v2alpha1`",
            "13:7 mirror.operators[0].packages[0].minBundle: warning: `minBundle` is of oc-mirror v1: it is read as the lowest bundle wanted, by its name; write `minVersion`",
        ]
    );
    let set = read.image_sets[0].image_set.clone().unwrap();
    assert_eq!(set.blocked_images, [Blocked::Exact("*.foo".to_owned())]);
    assert_eq!(
        set.operators[0].target_catalog.as_deref(),
        Some("redhat/mine")
    );
    assert_eq!(
        set.operators[0].packages[0].min_bundle.as_deref(),
        Some("a.v1")
    );
}

#[test]
fn problems_of_the_head_are_told() {
    let cases: [(&str, &[&str]); 9] = [
        (
            "apiversion: mirror.openshift.io/v2alpha2
kind: ImagesetConfiguration
storageConfig: {local: {path: x}}
metadata: {name: x}
archiveSize: -4
delete: {}
miror: {}
",
            &[
                "1:1 mirror: error: `mirror` is missing; write what is wanted below `mirror:`",
                "1:1 apiversion: warning: `apiversion` is read as `apiVersion`, as oc-mirror does; write `apiVersion`",
                "1:13 apiVersion: error: `mirror.openshift.io/v2alpha2` is not an API version that is read here; did you mean `mirror.openshift.io/v2alpha1`?",
                "2:7 kind: error: `ImagesetConfiguration` is not a kind that is read here; did you mean `ImageSetConfiguration`?",
                "3:1 storageConfig: error: `storageConfig` is a key of v1alpha2 alone; remove it",
                "4:1 metadata: error: `metadata` is not a key of an image set; remove it; an image set is named by its file",
                "5:14 archiveSize: error: `-4` is not a number from 0 on",
                "6:1 delete: error: `delete` does not belong into an image set: nothing is deleted because of a file; remove it; what is no longer wanted is listed in the plan",
                "7:1 miror: error: `miror` is not a key that is known here; did you mean `mirror`?",
            ],
        ),
        (
            "kind: ImageSetConfiguration\nmirror:\n",
            &[
                "1:1 apiVersion: warning: `apiVersion` is missing; `mirror.openshift.io/v2alpha1` is assumed, as oc-mirror v2 does; write `apiVersion: mirror.openshift.io/v2alpha1`",
                "1:1 mirror: warning: `mirror` asks for nothing",
            ],
        ),
        (
            "apiVersion: mirror.openshift.io/v2alpha1\nmirror: {}\n",
            &[
                "1:1 kind: error: `kind` is missing; write `kind: ImageSetConfiguration`",
                "2:9 mirror: warning: `mirror` asks for nothing",
            ],
        ),
        (
            "apiVersion: mirror.openshift.io/v2alpha1\nkind: Wanted\nmirror: []\n",
            &[
                "2:7 kind: error: `Wanted` is not a kind that is read here; write `kind: ImageSetConfiguration`",
                "3:9 mirror: error: a mapping is expected here, not a list",
            ],
        ),
        (
            "apiVersion: v1\nkind: ImageSetConfiguraton\nmirror: 4\n",
            &[
                "1:13 apiVersion: error: `v1` is not an API version that is read here; known here are `mirror.openshift.io/v1alpha2` and `mirror.openshift.io/v2alpha1`",
                "2:7 kind: error: `ImageSetConfiguraton` is not a kind that is read here; did you mean `ImageSetConfiguration`?",
                "3:9 mirror: error: a mapping is expected here, not a number",
            ],
        ),
        (
            "kind: DeleteImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\ndelete:\n  platform: {}\n",
            &[
                "1:7 kind: error: `DeleteImageSetConfiguration` is not read: nothing is deleted because of a file; move the file elsewhere; what is no longer wanted is listed in the plan",
            ],
        ),
        (
            "kind: ImageSetConfiguration\nmirror:\n  helm: [\n",
            &[
                "4:1 : error: this is not YAML: while parsing a node, did not find expected node content; check indentation, quotes, brackets and colons here and on the line before",
            ],
        ),
        (
            "kind: ImageSetConfiguration\nmirror:\n  graph: true\n helm: {}\n",
            &[
                "4:2 : error: this is not YAML: while parsing a block mapping, did not find expected key; check indentation, quotes, brackets and colons here and on the line before",
            ],
        ),
        (
            "kind: ImageSetConfiguration\nmirror: &a\n  platform: *a\n",
            &["3:13 : error: this alias is part of the value it repeats; write the value out"],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told(text), expected, "{text}");
    }
}

#[test]
fn problems_of_releases_are_told() {
    let stanza = r#"platform:
  chanels: []
  channels:
  - name: stable-4.17
    minVersion: 4.17.9
    maxVersion: 4.17.1
    type: okt
  - name: stable-4.17
  - minVersion: 4.18
  - {name: x, maxVersion: "v4.2", shortestPath: "true", full: yes}
  - {name: 4.20, type: OCP, minversion: 4.20.1}
  architectures: [amd64, x86_64, amd46, amd64]
  platforms: [{os: linux, architecture: amd64}, {os: linx}, {os: linux, architecture: amd64}]
  release: quay.io/a/b
  graph: 3"#;
    assert_eq!(
        told_in("v2alpha1", stanza),
        [
            "5:5 mirror.platform.chanels: error: `chanels` is not a key that is known here; did you mean `channels`?",
            "7:7 mirror.platform.channels: warning: `channels` are not looked at while `release` names a payload, as in oc-mirror; remove one of the two",
            "9:19 mirror.platform.channels[0].maxVersion: error: `minVersion` 4.17.9 is above `maxVersion` 4.17.1; swap the two, or correct one of them",
            "10:13 mirror.platform.channels[0].type: error: `okt` is not a type of channels; did you mean `okd`?",
            "11:13 mirror.platform.channels[1].name: error: the channel `stable-4.17` is there twice; make one entry of the two",
            "12:7 mirror.platform.channels[2].name: error: `name` is missing; name the channel, for instance `name: stable-4.17`",
            "12:19 mirror.platform.channels[2].minVersion: error: `4.18` is not a version: three numbers, as in `4.17.1`, are expected; write `4.18.0`",
            "13:29 mirror.platform.channels[3].maxVersion: error: `v4.2` is not a version: three numbers, as in `4.17.1`, are expected; write `4.2.0`",
            "13:51 mirror.platform.channels[3].shortestPath: error: `true` or `false` is expected here, not a text in quotes; write `true` without quotes",
            "13:65 mirror.platform.channels[3].full: warning: `yes` is read as `true`, as oc-mirror does; write `true`",
            "14:14 mirror.platform.channels[4].name: warning: `4.20` is taken as a text here; oc-mirror reads a number and refuses it; write it in quotes, `\"4.20\"`",
            "14:26 mirror.platform.channels[4].type: warning: `OCP` is read as `ocp`, as oc-mirror does; write `ocp`",
            "14:31 mirror.platform.channels[4].minversion: warning: `minversion` is read as `minVersion`, as oc-mirror does; write `minVersion`",
            "15:20 mirror.platform.architectures: error: `architectures` and `platforms` cannot be used together; keep `platforms` for some platforms of a multi payload, or `architectures` for whole payloads",
            "15:28 mirror.platform.architectures[1]: error: `x86_64` is not an architecture that is known here; did you mean `amd64`?",
            "15:36 mirror.platform.architectures[2]: error: `amd46` is not an architecture that is known here; did you mean `amd64`?",
            "15:43 mirror.platform.architectures[3]: warning: `amd64` is named twice; remove one of the two",
            "16:51 mirror.platform.platforms[1].architecture: error: `architecture` is missing; write for instance `architecture: amd64`",
            "16:56 mirror.platform.platforms[1].os: error: `linx` is not an operating system that is known here; did you mean `linux`?",
            "16:63 mirror.platform.platforms[2]: warning: `linux/amd64` is named twice; remove one of the two",
            "17:14 mirror.platform.release: error: `quay.io/a/b` has neither a tag nor a digest; name one, for instance `quay.io/a/b:latest`",
            "18:12 mirror.platform.graph: error: `true` or `false` is expected here, not a number",
        ]
    );
}

#[test]
fn problems_of_operators_are_told() {
    let stanza = r#"platform:
  graph: true
  graph: false
  Channels: {}
  channels: []
operators:
- catalog: redhat/redhat-operator-index:v4.17
- catalog: registry.redhat.io/redhat/redhat-operator-index:v4.17
  full: true
  targetCatalog: /my/x:v1
  targetTag: -v4
  targetName: y
  packages:
  - name: a
    minVersion: v1.2.3
    maxVersion: "1.2"
    channels:
    - name: s
      minVersion: 1.0.x
    - name: s
    - name: yes
  - name: a
- catalog: registry.redhat.io/redhat/redhat-operator-index:v4.17
- catalog: quay.io/redhat/redhat-operator-index:v4.17
- catalog: oci://
- packages: {}"#;
    assert_eq!(
        told_in("v2alpha1", stanza),
        [
            "6:5 mirror.platform.graph: error: `graph` is there twice, first on line 5, column 5; remove one of the two",
            "7:5 mirror.platform.Channels: error: `Channels` is `channels` again, first on line 8, column 5; remove one of the two",
            "10:14 mirror.operators[0].catalog: error: `redhat/redhat-operator-index:v4.17` does not say which registry it is in; write `docker.io/redhat/redhat-operator-index:v4.17` if that is the one that is meant",
            "12:11 mirror.operators[1].full: error: `full` takes every version, and the packages have `minVersion` or `maxVersion`; remove `full`, or the versions",
            "13:20 mirror.operators[1].targetCatalog: error: `/my/x:v1` is not a repository path: lower case letters and digits, separated by `.`, `_`, `__`, `-` or `/`, are expected; write the path below the mirror alone: no registry, no slash around it; a tag goes into `targetTag`",
            "14:16 mirror.operators[1].targetTag: error: `-v4` is not a tag: up to 128 letters, digits, `_`, `.` and `-` are expected, not beginning with `.` or `-`",
            "15:5 mirror.operators[1].targetName: error: `targetName` is a key of v1alpha2 alone; write `targetCatalog`",
            "18:19 mirror.operators[1].packages[0].minVersion: warning: `v1.2.3` is read as `1.2.3`, as oc-mirror does; write `1.2.3`",
            "19:19 mirror.operators[1].packages[0].maxVersion: warning: `1.2` is read as every version that begins with `1.2`, as oc-mirror does; write the highest version in full",
            "21:9 mirror.operators[1].packages[0].channels[0]: error: bounds of the package and bounds of one of its channels cannot be mixed; keep `minVersion` and `maxVersion` either on the package or on its channels",
            "22:21 mirror.operators[1].packages[0].channels[0].minVersion: error: `1.0.x` is not a version: three numbers, as in `4.17.1`, are expected",
            "23:15 mirror.operators[1].packages[0].channels[1].name: error: the channel `s` is there twice in this package; make one entry of the two",
            "24:15 mirror.operators[1].packages[0].channels[2].name: error: a text is expected here, and `yes` means true or false; write it in quotes, `\"yes\"`, if it is a text",
            "25:13 mirror.operators[1].packages[1].name: error: the package `a` is there twice in this catalog; make one entry of the two",
            "26:14 mirror.operators[2].catalog: error: the catalog `registry.redhat.io/redhat/redhat-operator-index:v4.17` is filtered in another way at line 11, and both would be written to `redhat/redhat-operator-index:v4.17`; make one entry of the two, or give one a `targetCatalog` or `targetTag` of its own",
            "27:14 mirror.operators[3].catalog: error: `quay.io/redhat/redhat-operator-index:v4.17` would land on `redhat/redhat-operator-index:v4.17` in the mirror, and so would `registry.redhat.io/redhat/redhat-operator-index:v4.17` at line 11; give one of the two a `targetCatalog` or `targetTag` of its own",
            "28:14 mirror.operators[4].catalog: error: `oci://` names no folder; write its path, for instance `oci:///srv/catalog`",
            "29:5 mirror.operators[5].catalog: error: `catalog` is missing; name the catalog, for instance `catalog: registry.redhat.io/redhat/redhat-operator-index:v4.17`",
            "29:15 mirror.operators[5].packages: error: a list is expected here, not a mapping",
        ]
    );
}

#[test]
fn problems_of_images_and_charts_are_told() {
    let stanza = format!(
        r#"additionalImages:
- name: redis:7
- name: docker.io/bitnami/redis:7
- name: quay.io/bitnami/redis:7
- name: quay.io/bitnami/redis
- nam: x
- name: quay.io/a/b:1
- name: quay.io/a/b:1
- name: quay.io/a/b@{DIGEST}
  targetTag: "1"
- quay.io/x/y:1
- name: oci://x/y:1
- name: quay.io/é/Y:1
  targetRepo: quay.io/a/b:1
blockedImages:
- name: '*.foo'
- name: '(a'
- {{}}
samples: [{{name: ruby}}]
helm:
  repositories:
  - name: a
    url: charts.example.com
  local:
  - name: x"#
    );
    let expected = [
        "5:11 mirror.additionalImages[0].name: error: `redis:7` does not say which registry it is in; write `docker.io/library/redis:7` if that is the one that is meant",
        "7:11 mirror.additionalImages[2].name: error: `quay.io/bitnami/redis:7` would land on `bitnami/redis:7` in the mirror, and so would `docker.io/bitnami/redis:7` at line 6; give one of the two a `targetRepo` or `targetTag` of its own",
        "8:11 mirror.additionalImages[3].name: error: `quay.io/bitnami/redis` has neither a tag nor a digest; name one, for instance `quay.io/bitnami/redis:latest`",
        "9:5 mirror.additionalImages[4].nam: error: `nam` is not a key that is known here; did you mean `name`?",
        "9:5 mirror.additionalImages[4].name: error: `name` is missing; name the image, for instance `name: quay.io/namespace/image:tag`",
        "11:11 mirror.additionalImages[6].name: warning: `quay.io/a/b:1` is named at line 10 too; remove one of the two",
        &format!(
            "12:11 mirror.additionalImages[7].name: error: `quay.io/a/b@{DIGEST}` would land on `a/b:1` in the mirror, and so would `quay.io/a/b:1` at line 10; give one of the two a `targetRepo` or `targetTag` of its own"
        ),
        "14:5 mirror.additionalImages[8]: error: a mapping is expected here, not a text",
        "15:11 mirror.additionalImages[9].name: error: `oci://x/y:1` is not in a registry; only `docker://` and plain references are read here",
        "16:11 mirror.additionalImages[10].name: error: `é/Y` is not a repository path: lower case letters and digits, separated by `.`, `_`, `__`, `-` or `/`, are expected",
        "17:17 mirror.additionalImages[10].targetRepo: error: `quay.io/a/b:1` is not a repository path: lower case letters and digits, separated by `.`, `_`, `__`, `-` or `/`, are expected; write the path below the mirror alone: no registry, no slash around it; a tag goes into `targetTag`",
        "19:11 mirror.blockedImages[0].name: error: `*.foo` is not a regular expression: repetition operator missing expression; any text is `.*` here; a plain name needs nothing around it",
        "20:11 mirror.blockedImages[1].name: error: `(a` is not a regular expression: unclosed group; a plain name needs nothing around it; `\\` before a sign takes it as it is",
        "21:5 mirror.blockedImages[2].name: error: `name` is missing; name what is not to be mirrored",
        "22:12 mirror.samples: warning: `samples` are not mirrored, nor does oc-mirror mirror them; name the images below `additionalImages`",
        "26:12 mirror.helm.repositories[0].url: error: `charts.example.com` is not the address of a chart repository; write one that begins with `https://` or `http://`",
        "28:7 mirror.helm.local[0].path: error: `path` is missing; write where the chart's file is",
    ];
    assert_eq!(told_in("v2alpha1", &stanza), expected);
}

#[test]
fn images_of_one_digest_may_share_a_place() {
    let stanza =
        format!("additionalImages:\n- name: quay.io/a/b@{DIGEST}\n- name: docker.io/a/b@{DIGEST}");
    assert_eq!(told_in("v2alpha1", &stanza), Vec::<String>::new());
}

#[test]
fn one_image_with_other_platforms_is_one_entry_too_many() {
    let stanza = "additionalImages:
- {name: quay.io/a/b:1, platforms: [{os: linux, architecture: amd64}]}
- {name: quay.io/a/b:1, platforms: [{os: linux, architecture: arm64}]}";
    assert_eq!(
        told_in("v2alpha1", stanza),
        [
            "6:12 mirror.additionalImages[1].name: error: `quay.io/a/b:1` is named at line 5 too; make one entry of the two, with the platforms of both"
        ]
    );
}

#[test]
fn image_sets_are_named_by_file_and_number() {
    let one = asking_for("quay.io/a/b:1");
    let two = asking_for("quay.io/a/b:2");
    let other = "apiVersion: v1\nkind: ConfigMap\n";
    let read = files(&[
        (
            "prod/z.yml",
            &format!("---\n# first\n---\n{other}---\n{one}---\n{other}---\n{two}...\n"),
        ),
        ("notes.txt", &one),
        ("a.yaml", "# nothing\n---\n---\n"),
        ("prod/.yaml", &one),
        ("values.yaml", "mirror: registry.lan\nreplicas: 3\n"),
        ("list.yaml", "- kind: ImageSetConfiguration\n"),
    ]);
    assert_eq!(names(&read), [("prod/z", true), ("prod/z#2", true)]);
    assert_eq!(read.problems, []);
    let ignored = read.ignored.iter();
    let ignored: Vec<_> = ignored
        .map(|i| (i.file.as_str(), i.line, i.kind.as_deref()))
        .collect();
    assert_eq!(
        ignored,
        [
            ("sets/list.yaml", 1, None),
            ("sets/prod/z.yml", 3, Some("ConfigMap")),
            ("sets/prod/z.yml", 12, Some("ConfigMap")),
            ("sets/values.yaml", 1, None),
        ]
    );
    assert_eq!((read.image_sets[0].line, read.image_sets[1].line), (6, 15));
}

#[test]
fn a_broken_document_stalls_and_renames_no_other() {
    let one = asking_for("quay.io/a/b:1");
    let read = files(&[
        (
            "a.yaml",
            &format!(
                "{one}---\n{}---\n{one}",
                one.replace("  - name:", "  - name")
            ),
        ),
        (
            "b.yaml",
            &format!("kind: Deployment\nspec: {{{{ .Values.x }}\n---\n{one}"),
        ),
        ("c.yaml", "kind: ImageSetConfiguration\n<<<<<<< HEAD\n"),
        ("d.yaml", "{{- if .x }}\n"),
    ]);
    assert_eq!(
        names(&read),
        [
            ("a", true),
            ("a#2", true),
            ("a#3", true),
            ("b", true),
            ("c", false),
            ("d", false)
        ]
        .map(|(name, good)| (name, good && name != "a#2"))
    );
    assert_eq!(read.ignored.len(), 1);
    assert!(read.problems.iter().all(|p| p.file != "sets/b.yaml"));
}

#[test]
fn a_file_that_cannot_be_taken_apart_is_one_broken_set() {
    let read = read(&[SourceFile {
        path: "x/a.yaml".to_owned(),
        name: "a.yaml".to_owned(),
        bytes: b"kind: \xff".to_vec(),
    }]);
    let set = &read.image_sets[0];
    assert_eq!(
        (set.name.0.as_str(), set.line, set.whole_file),
        ("a", 0, true)
    );
    assert_eq!(
        shown(&read.problems),
        ["1:7 : error: the file is not UTF-8 here; save it as UTF-8 without other encodings in it"]
    );
}

#[test]
fn one_name_for_two_files_is_a_problem_of_both() {
    let one = asking_for("quay.io/a/b:1");
    let read = files(&[
        ("a.yml", &one),
        ("a.yaml", &one),
        ("b.yaml", &one),
        ("b.yml", "kind: Secret\n"),
    ]);
    assert_eq!(names(&read), [("a", false), ("a", false), ("b", true)]);
    let told = |index: usize| {
        (
            read.image_sets[index].file.as_str(),
            shown(&read.image_sets[index].problems),
        )
    };
    let line = |file: &str| {
        format!(
            "0:0 : error: the image set `a` is in `sets/{file}` too; rename one of the two files, or remove it"
        )
    };
    assert_eq!(told(0), ("sets/a.yaml", vec![line("a.yml")]));
    assert_eq!(told(1), ("sets/a.yml", vec![line("a.yaml")]));
}

#[test]
fn image_sets_of_one_mirror_are_kept_out_of_each_others_way() {
    let hub = asking_for("docker.io/bitnami/redis:7");
    let quay = asking_for("quay.io/bitnami/redis:7");
    let sources = [
        ("a.yaml", hub.as_str()),
        ("b.yaml", &quay),
        ("c.yaml", &hub),
    ];
    let both = files(&sources[..2]);
    assert_eq!(names(&both), [("a", false), ("b", false)]);
    assert_eq!(
        shown(&both.problems),
        [
            "5:11 mirror.additionalImages[0].name: error: `docker.io/bitnami/redis:7` would land on `bitnami/redis:7` in the mirror, and so would `quay.io/bitnami/redis:7` at sets/b.yaml, line 5; give one of the two a `targetRepo` or `targetTag` of its own",
            "5:11 mirror.additionalImages[0].name: error: `quay.io/bitnami/redis:7` would land on `bitnami/redis:7` in the mirror, and so would `docker.io/bitnami/redis:7` at sets/a.yaml, line 5; give one of the two a `targetRepo` or `targetTag` of its own",
        ]
    );
    let same = files(&[sources[0], sources[2]]);
    assert_eq!(names(&same), [("a", true), ("c", true)]);
    let apart = sources.map(|(name, text)| SourceFile {
        path: name.to_owned(),
        name: name.to_owned(),
        bytes: text.as_bytes().to_vec(),
    });
    let elsewhere = read_for(&apart, |name| name.0 == "b", |_, _, _| false);
    assert_eq!(names(&elsewhere), [("a", true), ("b", true), ("c", true)]);
}

#[test]
fn who_has_had_a_place_keeps_it_and_is_told_of_the_newcomer() {
    let file = |name: &str, image: &str| SourceFile {
        path: name.to_owned(),
        name: name.to_owned(),
        bytes: asking_for(image).into_bytes(),
    };
    let sources = [
        file("a.yaml", "quay.io/bitnami/redis:7"),
        file("b.yaml", "docker.io/bitnami/redis:7"),
    ];
    let holds = |set: &SetName, path: &str, tag: &str| {
        (set.0.as_str(), path, tag) == ("b", "bitnami/redis", "7")
    };
    let read = read_for(&sources, |_| (), holds);
    assert_eq!(names(&read), [("a", false), ("b", true)]);
    assert_eq!(
        shown(&read.image_sets[1].problems),
        [
            "5:11 mirror.additionalImages[0].name: warning: `docker.io/bitnami/redis:7` would land on `bitnami/redis:7` in the mirror, and so would `quay.io/bitnami/redis:7` at a.yaml, line 5; this one is in the mirror and stays there; the other image set is not mirrored until it is changed"
        ]
    );
}

#[test]
fn a_broken_set_does_not_stall_the_one_whose_place_it_wants() {
    let read = files(&[
        (
            "a.yaml",
            &(asking_for("docker.io/bitnami/redis:7") + "  wrong: 1\n"),
        ),
        ("b.yaml", &asking_for("quay.io/bitnami/redis:7")),
    ]);
    assert_eq!(names(&read), [("a", false), ("b", true)]);
    assert_eq!(read.image_sets[0].problems.len(), 2);
}

#[test]
fn one_catalog_filtered_in_two_ways_is_a_warning_to_both_sets() {
    let set = |packages: &str| {
        format!(
            "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  operators:\n  - catalog: quay.io/x/index:v1\n    packages: [{packages}]\n"
        )
    };
    let (a, b) = (set("{name: foo}"), set("{name: bar}"));
    let read = files(&[("a.yaml", &a), ("b.yaml", &b), ("c.yaml", &a)]);
    assert_eq!(names(&read), [("a", true), ("b", true), ("c", true)]);
    assert_eq!(
        shown(&read.problems),
        [
            "5:14 mirror.operators[0].catalog: warning: the catalog `quay.io/x/index:v1` is filtered in another way at sets/b.yaml, line 5, and both would be written to `x/index:v1`; give one of the two a `targetCatalog` or `targetTag` of its own",
            "5:14 mirror.operators[0].catalog: warning: the catalog `quay.io/x/index:v1` is filtered in another way at sets/a.yaml, line 5, and both would be written to `x/index:v1`; give one of the two a `targetCatalog` or `targetTag` of its own",
        ]
    );
}

#[test]
fn anchors_and_merges_are_read_with_the_places_of_what_they_repeat() {
    let stanza = "additionalImages:
- &img
  name: quay.io/a/x:1
- <<: *img
  targetTag: a
- {<<: [*img, {targetTag: c, x: 1}], name: 'quay.io/a/b:1'}";
    assert_eq!(
        told_in("v2alpha1", stanza),
        [
            "9:32 mirror.additionalImages[2].x: error: `x` is not a key that is known here; known here are `name`, `platforms`, `targetRepo` and `targetTag`"
        ]
    );
}

mod fuzz {
    use proptest::prelude::*;

    use super::*;

    const SEED: &str = "---\n# c\napiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  platform: &p\n    graph: yes\n    channels:\n    - {name: \"stable-4.17\", minVersion: 4.17.1}\n  additionalImages:\n  - name: >-\n      quay.io/a/b:1\n  - <<: &i {name: 'quay.io/a/c:1'}\n    targetTag: |\n      x\n  helm: *p\n...\n---\na: [b, {c: !!str d}]\n";

    fn survives(bytes: Vec<u8>) {
        // YAML takes a carriage return alone for the end of a line too.
        let lines = bytes.split(|b| b"\n\r".contains(b)).count() + 1;
        let file = SourceFile {
            path: "a.yaml".to_owned(),
            name: "a.yaml".to_owned(),
            bytes,
        };
        let found = read(std::slice::from_ref(&file));
        assert_eq!(found, read(&[file]));
        for problem in &found.problems {
            assert!(problem.line as usize <= lines, "{problem:?}");
            assert!(
                !problem.message.contains('\n') && problem.message.len() < 2000,
                "{problem:?}"
            );
        }
        for set in &found.image_sets {
            let errors = set.problems.iter().any(|p| p.severity == Severity::Error);
            assert_eq!(errors, set.image_set.is_none(), "{set:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            survives(bytes);
        }

        #[test]
        fn any_signs_of_yaml_are_survived(text in "[a:\\-?\\[\\]{}&*!|>'\"%@`#,\\.~<é \n\t]{0,80}") {
            survives(format!("kind: ImageSetConfiguration\n{text}").into_bytes());
        }

        #[test]
        fn a_changed_file_is_survived(
            at in 0..SEED.len(), length in 0_usize..12, insert in "[a:\\-?\\[\\]{}&*!|>'\"%#, \n\t]{0,6}",
            again in 0..SEED.len(),
        ) {
            let mut bytes = SEED.as_bytes().to_vec();
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, insert.into_bytes());
            bytes.remove(again.min(bytes.len() - 1));
            survives(bytes);
        }
    }
}
