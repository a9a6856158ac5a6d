//! What the settings file is read as, and what a person is told about it.

use std::{collections::BTreeSet, path::Path, time::Duration};

use super::*;
use crate::{
    model::{
        access,
        policy::{
            ApplyMode, CatalogReference, HoldDocuments, MirrorScope, MirrorSourcePolicy, OnRefresh,
        },
    },
    yaml::{
        self, Severity,
        report::{Dialect, Report},
    },
};

const EXAMPLE: &str = include_str!("../../packaging/imagesetd.yaml");

/// The example with every key taken out of its comment.
fn example_with_all_keys() -> String {
    // Prose has one space after its sign, keys of nested mappings two.
    let is_key =
        |line: &&str| line.starts_with('#') && (!line.starts_with("# ") || line.starts_with("#  "));
    let uncomment = |line: &str| match Some(line).filter(is_key) {
        Some(line) => line[1..].to_owned() + "\n",
        None => line.to_owned() + "\n",
    };
    EXAMPLE.lines().map(uncomment).collect()
}

/// Reads settings that have no problems.
fn good(text: &str) -> Settings {
    match parse("/etc/imagesetd/imagesetd.yaml", text) {
        Ok((settings, problems)) => {
            assert_eq!(problems, [], "{text}");
            settings
        }
        Err(problems) => panic!("{problems:?}"),
    }
}

/// What is told about settings, as `line:column path: severity: message; hint`.
fn told(text: &str) -> Vec<String> {
    let problems = match parse("f.yaml", text) {
        Ok((_, problems)) => problems,
        Err(problems) => {
            assert!(problems.iter().any(|p| p.severity == Severity::Error));
            problems
        }
    };
    let show = |p: &yaml::Problem| {
        let severity = format!("{:?}", p.severity).to_lowercase();
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

fn signed_by(store: &str) -> SignedBy {
    SignedBy {
        store: store.parse().unwrap(),
        keyring: None,
        names: vec![],
    }
}

fn saturday_night() -> Window {
    Window {
        opens: "0 22 * * SAT".parse().unwrap(),
        lasts: Duration::from_secs(4 * 3600),
        zone: jiff::tz::TimeZone::get("Europe/Berlin").unwrap(),
    }
}

fn defaults(target: &str) -> Settings {
    Settings {
        directory: "/var/lib/imagesetd/imagesets".into(),
        git: None,
        state: "/var/lib/imagesetd".into(),
        output: "/var/lib/imagesetd/resources".into(),
        listen: vec![Listen::Unix("/run/imagesetd/imagesetd.sock".into())],
        clients: Clients::default(),
        socket_group: None,
        authfile: None,
        certs_dir: None,
        registries_conf: RegistriesConf::Usual,
        defaults: Policy {
            target: target.parse().unwrap(),
            apply: ApplyMode::Automatic,
            on_refresh: OnRefresh::Apply,
            refresh: Duration::from_secs(4 * 3600),
            max_bytes: None,
            mirror_scope: MirrorScope::Namespace,
            ignore_release_signatures: false,
            conditional_updates: false,
            copy_signatures: true,
            signatures_refresh: Duration::from_secs(24 * 3600),
            hold_documents: HoldDocuments::Never,
            windows: Vec::new(),
            catalog_reference: CatalogReference::Digest,
            catalog_poll: Duration::from_secs(30 * 60),
        },
        max_nested_paths: 0,
        image_sets: Vec::new(),
        clusters: Vec::new(),
        mirror_source_policies: Vec::new(),
        update_service: UpdateService {
            ocp: "https://api.openshift.com/api/upgrades_info/v1/graph"
                .parse()
                .unwrap(),
            okd: "https://origin-release.ci.openshift.org/graph"
                .parse()
                .unwrap(),
        },
        release_verification: ReleaseVerification {
            ocp: signed_by(
                "https://mirror.openshift.com/pub/openshift-v4/signatures/openshift/release",
            ),
            okd: signed_by(
                "https://storage.googleapis.com/openshift-ci-release/releases/signatures/openshift/release",
            ),
        },
        registries: Vec::new(),
        settle: Duration::from_secs(2),
        rescan: Duration::from_secs(60),
        parallel_images: 8,
        parallel_blobs: 16,
        retries: 5,
        shutdown_timeout: Duration::from_secs(30),
        verify: Verify {
            every: Some(Duration::from_secs(24 * 3600)),
            depth: Depth::Quick,
            rate: 20,
            repair: false,
        },
        keep_plans: 20,
        keep_runs: 50,
    }
}

#[test]
fn a_target_is_all_that_is_needed() {
    assert_eq!(good("target: reg.lan/x\n"), defaults("reg.lan/x"));
}

#[test]
fn the_example_is_the_defaults_as_it_stands() {
    assert_eq!(good(EXAMPLE), defaults("registry.example.com:5000/mirror"));
}

#[test]
fn the_examples_keys_have_their_defaults_or_an_example() {
    let peer = |who, rights| access::PeerRule { who, rights };
    let expected = Settings {
        listen: vec![
            Listen::Unix("/run/imagesetd/imagesetd.sock".into()),
            Listen::Tcp(TcpDoor {
                address: "0.0.0.0:7443".parse().unwrap(),
                tls: Some(Tls {
                    cert_file: "/etc/imagesetd/tls/tls.crt".into(),
                    key_file: "$CREDENTIALS_DIRECTORY/tls.key".into(),
                    client_ca_file: Some("/etc/imagesetd/tls/clients-ca.crt".into()),
                }),
                unnamed: None,
                unnamed_is_said: false,
            }),
            Listen::Tcp(TcpDoor {
                address: "127.0.0.1:9000".parse().unwrap(),
                tls: None,
                unnamed: Some(Right::Read),
                unnamed_is_said: true,
            }),
        ],
        clients: Clients {
            tokens_file: Some("/etc/imagesetd/tokens".into()),
            tokens: vec![access::Token {
                name: "dashboard".parse().unwrap(),
                rights: Right::Read,
                hash: access::TokenHash::of("test"),
            }],
            certificates: vec![access::CertificateRule {
                subject: "ansible.example.com".to_owned(),
                rights: Right::Apply,
            }],
            peers: Some(vec![
                peer(access::PeerName::User("monitoring".to_owned()), Right::Read),
                peer(
                    access::PeerName::Group("imagesetd".to_owned()),
                    Right::Apply,
                ),
                peer(access::PeerName::Uid(1001), Right::Plan),
                peer(access::PeerName::Gid(10), Right::Admin),
            ]),
        },
        git: Some(Git {
            url: "https://git.example.com/site/imagesets.git".to_owned(),
            branch: "main".to_owned(),
            interval: Duration::from_secs(60),
        }),
        socket_group: Some("imagesetd".to_owned()),
        authfile: Some("/etc/imagesetd/auth.json".into()),
        certs_dir: Some("/etc/containers/certs.d".into()),
        registries_conf: RegistriesConf::File("/etc/containers/registries.conf".into()),
        image_sets: vec![Override {
            name: "prod/*".to_owned(),
            target: Some("registry.example.com:5000/prod".parse().unwrap()),
            max_nested_paths: Some(3),
            apply: Some(ApplyMode::Manual),
            on_refresh: Some(OnRefresh::Plan),
            refresh: Some(Duration::from_secs(86_400)),
            max_bytes: Some(2 << 40),
            mirror_scope: Some(MirrorScope::Repository),
            ignore_release_signatures: Some(false),
            conditional_updates: Some(false),
            copy_signatures: Some(true),
            signatures_refresh: Some(Duration::from_secs(24 * 3600)),
            hold_documents: Some(HoldDocuments::Drains),
            windows: Some(vec![saturday_night()]),
            catalog_reference: Some(CatalogReference::Tag),
            catalog_poll: Some(Duration::from_secs(3600)),
        }],
        clusters: vec![Cluster {
            name: "prod-a".to_owned(),
            image_sets: vec!["prod/*".to_owned()],
            snapshot: Some("/etc/imagesetd/clusters/prod-a.yaml".into()),
        }],
        mirror_source_policies: vec![SourcePolicy {
            source: "quay.io/openshift-release-dev/*".to_owned(),
            policy: MirrorSourcePolicy::NeverContactSource,
        }],
        registries: vec![
            RegistryAccess {
                host: "registry.example.com:5000".parse().unwrap(),
                plain_http: false,
                skip_tls_verify: false,
                ca_file: Some("/etc/imagesetd/mirror-ca.pem".into()),
                client: Some((
                    "/etc/imagesetd/mirror-client.pem".into(),
                    "/etc/imagesetd/mirror-client.key".into(),
                )),
            },
            RegistryAccess {
                host: "lab.example.com:5000".parse().unwrap(),
                plain_http: true,
                skip_tls_verify: false,
                ca_file: None,
                client: None,
            },
        ],
        ..defaults("registry.example.com:5000/mirror")
    };
    let mut settings = good(&example_with_all_keys());
    let expected = Settings {
        release_verification: ReleaseVerification {
            ocp: SignedBy {
                keyring: Some("/etc/imagesetd/release-keys.asc".into()),
                names: vec!["registry.example.com/openshift/release".parse().unwrap()],
                ..expected.release_verification.ocp
            },
            okd: SignedBy {
                keyring: Some("/etc/imagesetd/okd-keys.asc".into()),
                names: vec!["quay.io/okd/scos-release".parse().unwrap()],
                ..expected.release_verification.okd
            },
        },
        ..expected
    };
    assert_eq!(settings.defaults.max_bytes.take(), Some(500 << 30));
    let windows = std::mem::take(&mut settings.defaults.windows);
    assert_eq!(windows, [saturday_night()]);
    assert_eq!(settings, expected);
}

#[test]
fn every_key_of_the_schema_is_in_the_example() {
    let text = example_with_all_keys();
    let documents = yaml::parse("example", text.as_bytes()).unwrap();
    let report = Report::new("example", Dialect::Own, &documents[0]);
    let root = documents[0].root.as_deref().unwrap();
    super::parse::settings(&report.root(root), Path::new("")).unwrap();
    let mut written = BTreeSet::new();
    keys(root, "", &mut written);
    let asked = report.asked();
    assert!(asked.len() > 40, "{asked:?}");
    assert_eq!(written, asked);
}

/// Collects the keys of a document as the reader names them.
fn keys(node: &yaml::Node, path: &str, found: &mut BTreeSet<String>) {
    match &node.value {
        yaml::Value::Scalar(_) => {}
        yaml::Value::Sequence(items) => {
            items
                .iter()
                .for_each(|item| keys(item, &format!("{path}[]"), found));
        }
        yaml::Value::Mapping(entries) => {
            for entry in entries {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{}", entry.key);
                keys(&entry.value, &path, found);
                found.insert(path);
            }
        }
    }
}

#[test]
fn relative_paths_begin_beside_the_file() {
    let text = "target: a.b\ndirectory: sets\nstate: ./state\noutput: ../out\nauthfile: /a/auth.json\nregistries: [{host: a.b, ca_file: ca.pem}]\n";
    let (settings, _) = parse("conf/site.yaml", text).unwrap();
    assert_eq!(settings.directory, Path::new("conf/sets"));
    assert_eq!(settings.state, Path::new("conf/./state"));
    assert_eq!(settings.output, Path::new("conf/../out"));
    assert_eq!(
        settings.authfile.as_deref(),
        Some(Path::new("/a/auth.json"))
    );
    assert_eq!(
        settings.registries[0].ca_file.as_deref(),
        Some(Path::new("conf/ca.pem"))
    );
    let (settings, _) = parse("site.yaml", text).unwrap();
    assert_eq!(settings.directory, Path::new("sets"));
    let provided = text.replace("/a/", "$CREDENTIALS_DIRECTORY/");
    let (settings, _) = parse("conf/site.yaml", &provided).unwrap();
    assert_eq!(
        settings.authfile.as_deref(),
        Some(Path::new("$CREDENTIALS_DIRECTORY/auth.json"))
    );
}

#[test]
fn the_first_override_that_says_something_wins() {
    let settings = good(
        "target: a.b/all
max_bytes: 5
apply: manual
signatures: {refresh: 1h}
windows: [{opens: '0 22 * * SAT', lasts: 4h, time_zone: Europe/Berlin}]
catalog_poll: 1h
image_sets:
- {name: prod/x, refresh: 1h, hold_documents: drains}
- {name: prod/*, refresh: 2h, signatures: {refresh: 2h}, apply: automatic, target: a.b/prod, release_signatures: ignore, windows: []}
- {name: '**', apply: manual, max_bytes: 7, conditional_updates: yes, on_refresh: plan, mirror_scope: registry, signatures: {copy: no}, catalog_reference: tag}
",
    );
    let policy = |name: &str| settings.policy_for(&SetName(name.to_owned()));
    let all = Policy {
        target: "a.b/all".parse().unwrap(),
        apply: ApplyMode::Manual,
        on_refresh: OnRefresh::Plan,
        refresh: Duration::from_secs(4 * 3600),
        max_bytes: Some(7),
        mirror_scope: MirrorScope::Registry,
        ignore_release_signatures: false,
        conditional_updates: true,
        copy_signatures: false,
        signatures_refresh: Duration::from_secs(3600),
        hold_documents: HoldDocuments::Never,
        windows: vec![saturday_night()],
        catalog_reference: CatalogReference::Tag,
        catalog_poll: Duration::from_secs(3600),
    };
    let prod = Policy {
        target: "a.b/prod".parse().unwrap(),
        apply: ApplyMode::Automatic,
        refresh: Duration::from_secs(2 * 3600),
        signatures_refresh: Duration::from_secs(2 * 3600),
        ignore_release_signatures: true,
        windows: Vec::new(),
        ..all.clone()
    };
    assert_eq!(policy("lab/x"), all);
    assert_eq!(policy("prod/y"), prod);
    assert_eq!(
        policy("prod/x"),
        Policy {
            refresh: Duration::from_secs(3600),
            hold_documents: HoldDocuments::Drains,
            ..prod
        }
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let text = r#"directry: /x
Target: reg.lan
git: {url: "https://me:secret@git.lan/x", branch: -x, every: 1m}
listen: [tcp://0.0.0.0:7443, unix://x, "unix:///a", "unix:///a"]
apply: automaticaly
on_refresh: never
refresh: 0s
max_bytes: 500G
mirror_scope: name
release_signatures: false
conditional_updates: "true"
signatures: {copy: "yes", refresh: 0s, store: x}
image_sets:
- {target: REG/x, settle: 1s}
- []
mirror_source_policies:
- {source: docker://quay.io/x, policy: AllowFallback}
- {source: quay.io/x, policy: NeverContact}
update_service: {ocp: api.openshift.com, okd: https://okd.lan/graph}
registries:
- {host: reg.lan/x, plain_http: yes, skip_tls_verify: true}
- {host: a.lan}
- {host: a.lan}
settle: 5
rescan: 4h30
parallel_images: 0
parallel_blobs: 2.5
retries: -1
shutdown_timeout: []
keep: {plans: 0, run: 3}
socket_group: ""
settle: 2s
"#;
    assert_eq!(
        told(text),
        [
            "1:1 directry: error: `directry` is not a key that is known here; did you mean `directory`?",
            "1:1 target: error: `target` is missing; name the mirror registry, for instance `target: registry.lan:5000/mirror`",
            "2:1 Target: error: `Target` is not a key that is known here; did you mean `target`?",
            "3:12 git.url: error: the address has a password in it, which would be seen in the list of processes; leave it to a credential helper of git",
            "3:51 git.branch: error: `-x` is not the name of a branch",
            "3:55 git.every: error: `every` is not a key that is known here; known here are `branch`, `interval` and `url`",
            "4:10 listen[0]: error: `tcp://0.0.0.0:7443` can be reached from other machines, and without TLS that is refused; write `address` and `tls` with `cert_file` and `key_file`, or listen on `127.0.0.1` or `[::1]`, or on a Unix socket",
            "4:30 listen[1]: error: `unix://x` has no absolute path: `unix://` and a path that begins with `/` are expected",
            "4:53 listen[3]: error: `unix:///a` is there twice; remove one of the two",
            "5:8 apply: error: `automaticaly` is not a way to apply plans; did you mean `automatic`?",
            "6:13 on_refresh: error: `never` is not what is done when upstream moved; known here are `apply` and `plan`",
            "7:10 refresh: error: `refresh` is too short; write `1s` or more",
            "8:12 max_bytes: error: `500G` is not a size: a number and `KiB`, `MiB`, `GiB` or `TiB` (or `KB`, `MB`, `GB`, `TB`, or `B`) is expected, for instance `500GiB`",
            "9:15 mirror_scope: error: `name` is not a scope of mirror rules; known here are `namespace`, `registry` and `repository`",
            "10:21 release_signatures: error: `false` is not what is done with signatures of releases; known here are `ignore` and `verify`",
            "11:22 conditional_updates: error: `true` or `false` is expected here, not a text in quotes; write `true` without quotes",
            "12:20 signatures.copy: error: `true` or `false` is expected here, not a text",
            "12:36 signatures.refresh: error: `refresh` is too short; write `1s` or more",
            "12:40 signatures.store: error: `store` is not a key that is known here; known here are `copy` and `refresh`",
            "14:3 image_sets[0].name: error: `name` is missing; name an image set, or write a pattern such as `prod/*`",
            "14:19 image_sets[0].settle: error: `settle` is not a key that is known here; known here are `apply`, `catalog_poll`, `catalog_reference`, `conditional_updates`, `hold_documents`, `max_bytes`, `max_nested_paths`, `mirror_scope`, `name`, `on_refresh`, `refresh`, `release_signatures`, `signatures`, `target` and `windows`",
            "15:3 image_sets[1]: error: a mapping is expected here, not a list",
            "17:12 mirror_source_policies[0].source: error: `docker://quay.io/x` is not a source of mirror rules; write a registry and a path, without transport, tag and digest; `*` is any text without `/`, `**` any text",
            "17:40 mirror_source_policies[0].policy: warning: `AllowFallback` is not a value that clusters know; `AllowContactingSource` is written instead; write `AllowContactingSource`",
            "18:31 mirror_source_policies[1].policy: error: `NeverContact` is not a `mirrorSourcePolicy`; did you mean `NeverContactSource`?",
            "19:23 update_service.ocp: error: `api.openshift.com` is not the address of an update service; write one that begins with `https://` or `http://`",
            "21:3 registries[0]: error: `plain_http` has no certificate that could be checked or not; remove `plain_http`, or `skip_tls_verify` and `ca_file`",
            "21:10 registries[0].host: error: `reg.lan/x` is not a registry: `host` or `host:port` is expected",
            "23:10 registries[2].host: error: `a.lan` is there twice; make one entry of the two",
            "24:9 settle: error: `5` is not a time: a number and `ms`, `s`, `m`, `h` or `d` is expected, for instance `30s` or `1h30m`",
            "25:9 rescan: error: `4h30` is not a time: a number and `ms`, `s`, `m`, `h` or `d` is expected, for instance `30s` or `1h30m`",
            "26:18 parallel_images: error: `parallel_images` is 0, and 1 to 256 is possible",
            "27:17 parallel_blobs: error: a whole number is expected here, not a number with a fraction",
            "28:10 retries: error: `-1` is not a number from 0 on",
            "29:19 shutdown_timeout: error: a text is expected here, not a list",
            "30:15 keep.plans: error: `plans` is 0, and 1 to 10000 is possible",
            "30:18 keep.run: error: `run` is not a key that is known here; did you mean `runs`?",
            "31:15 socket_group: error: nothing is written here; write a value, or remove the key",
            "32:1 settle: error: `settle` is there twice, first on line 24, column 1; remove one of the two"
        ]
    );
}

#[test]
fn files_that_are_no_settings_are_told_apart() {
    assert_eq!(
        told(""),
        [
            "0:0 : error: the file says nothing; name the mirror, for instance `target: registry.lan:5000`"
        ]
    );
    assert_eq!(
        told("- a\n"),
        ["1:1 : error: a mapping is expected here, not a list"]
    );
    assert_eq!(
        told("directory: /x\n"),
        [
            "1:1 target: error: `target` is missing; name the mirror registry, for instance `target: registry.lan:5000/mirror`"
        ]
    );
    assert_eq!(
        told("target: a.b\n---\ntarget: c.d\n"),
        [
            "2:1 : error: settings are one document, and a second one begins here; make one of the two"
        ]
    );
    assert_eq!(
        told("target: a.b\nlisten: []\ngit:\nkeep: {}\n"),
        ["2:9 listen: error: the daemon listens nowhere; name an address, or remove the key"]
    );
    assert_eq!(told("target: [\n").len(), 1);
}

#[test]
fn warnings_stand_beside_good_settings() {
    let text = "target: a.b\nmirror_source_policies: [{source: x.y, policy: AllowFallback}]\n";
    let (settings, problems) = parse("f.yaml", text).unwrap();
    assert_eq!(
        settings.mirror_source_policies[0].policy,
        MirrorSourcePolicy::AllowContactingSource
    );
    assert_eq!(problems.len(), 1);
    assert_eq!(
        told(text),
        [
            "2:48 mirror_source_policies[0].policy: warning: `AllowFallback` is not a value that clusters know; `AllowContactingSource` is written instead; write `AllowContactingSource`"
        ]
    );
}

#[test]
fn signature_stores_are_urls_and_names_are_repositories() {
    let text = "target: a.b
release_verification:
  ocp: {store: 'file:///srv/signatures', keyring: keys.asc}
  okd: {store: 'ftp://x/y', names: ['a.b/c', 'a.b/c:1', x], key: z}
";
    assert_eq!(
        told(text),
        [
            "4:16 release_verification.okd.store: error: `ftp://x/y` is not the address of a signature store; write one that begins with `https://`, `http://` or `file:///`",
            "4:46 release_verification.okd.names[1]: error: `a.b/c:1` is more than a repository; leave out tag and digest",
            "4:57 release_verification.okd.names[2]: error: `x` does not say which registry it is in; write it out, for instance `docker.io/library/x`",
            "4:61 release_verification.okd.key: error: `key` is not a key that is known here; known here are `keyring`, `names` and `store`",
        ]
    );
}

#[test]
fn what_the_environment_says_counts_for_okd_only_where_nothing_else_was_said() {
    let store: url::Url = "file:///s".parse().unwrap();
    let keyring = std::path::PathBuf::from("/k");
    let taken = |text: &str, store: Option<&url::Url>, keyring: Option<&std::path::PathBuf>| {
        let mut found = good(text).release_verification;
        found.take(store.cloned(), keyring.cloned());
        let told = |s: SignedBy| (s.store == "file:///s".parse().unwrap(), s.keyring);
        (told(found.ocp), told(found.okd))
    };
    let (url, key) = (Some(&store), Some(&keyring));
    let silent = "target: a.b\n";
    assert_eq!(taken(silent, None, None), ((false, None), (false, None)));
    assert_eq!(taken(silent, url, None), ((true, None), (false, None)));
    let both = (true, Some(keyring.clone()));
    assert_eq!(taken(silent, url, key), (both.clone(), both.clone()));
    let okd = "target: a.b\nrelease_verification: {okd: {keyring: /okd}}\n";
    assert_eq!(taken(okd, url, key), (both, (false, Some("/okd".into()))));
}

#[test]
fn what_is_said_of_clusters_and_windows_is_checked() {
    let text = "target: a.b
hold_documents: always
windows:
- {opens: 0 22 * *, lasts: 4h}
- {opens: '@weekly', lasts: 30s, time_zone: Berlin}
- {opens: 0 0 30 FEB *, lasts: 32d}
- {lasts: 1h}
clusters:
- {name: Prod, image_sets: [a]}
- {name: a, snapshot: a.yaml}
- {name: a}
- {image_sets: b}
";
    let told: Vec<String> = parse("s.yaml", text)
        .unwrap_err()
        .iter()
        .map(|p| format!("{}:{} {}: {}", p.line, p.column, p.path, p.message))
        .collect();
    assert_eq!(
        told,
        [
            "2:17 hold_documents: `always` is not which documents are held back",
            "4:11 windows[0].opens: `0 22 * *` has 4 fields, and five are expected: minute, hour, day of the month, month, day of the week",
            "5:11 windows[1].opens: `@weekly` has 1 fields, and five are expected: minute, hour, day of the month, month, day of the week",
            "5:29 windows[1].lasts: `lasts` is too short",
            "5:45 windows[1].time_zone: `Berlin` is not a time zone",
            "6:11 windows[2].opens: `0 0 30 FEB *` never comes",
            "6:32 windows[2].lasts: a window stays open for 31 days at most",
            "7:3 windows[3].opens: `opens` is missing",
            "9:10 clusters[0].name: `Prod` is not a name for a cluster",
            "11:10 clusters[2].name: `a` is there twice",
            "12:3 clusters[3].name: `name` is missing",
            "12:16 clusters[3].image_sets: a list is expected here, not a text",
        ]
    );
    let settings = good("target: a.b\nclusters: [{name: a}]\n");
    assert_eq!(
        settings.clusters,
        [Cluster {
            name: "a".to_owned(),
            image_sets: vec!["**".to_owned()],
            snapshot: None,
        }]
    );
}

#[test]
fn checks_of_the_mirror_are_daily_unless_something_else_is_said() {
    let verify = |text: &str| good(&format!("target: m.lan\nverify: {text}\n")).verify;
    assert_eq!(
        verify("{every: 12h, depth: read, rate: 5, repair: true}"),
        Verify {
            every: Some(Duration::from_secs(12 * 3600)),
            depth: Depth::Read,
            rate: 5,
            repair: true,
        }
    );
    assert_eq!(verify("{every: never}").every, None);
    assert_eq!(
        told("target: m.lan\nverify: {every: 0s, depth: full, rate: 0}\n").len(),
        3
    );
}

#[test]
fn nesting_is_a_sites_or_an_image_sets_and_brings_rules_for_repositories() {
    let settings = good(
        "target: m.lan/ocp\nmax_nested_paths: 2\nimage_sets:\n- {name: free, max_nested_paths: 0}\n- {name: deep, max_nested_paths: 3}\n",
    );
    let land = |name: &str| {
        let policy = settings.policy_for(&SetName(name.to_owned()));
        let place = policy.target.repository("a/b/c").unwrap().to_string();
        (place, policy.mirror_scope)
    };
    assert_eq!(
        [land("any"), land("free"), land("deep")],
        [
            ("m.lan/ocp/a-b-c".to_owned(), MirrorScope::Repository),
            ("m.lan/ocp/a/b/c".to_owned(), MirrorScope::Namespace),
            ("m.lan/ocp/a/b-c".to_owned(), MirrorScope::Repository),
        ]
    );
}
