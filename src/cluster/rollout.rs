//! How far mirror rules have come in a cluster. That pools are up to date proves nothing: they are before the operator has seen a change, and
//! they stay so where it refuses one. So its own file is looked at first, then what pools are given, then what nodes have.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{
    machine::{Pool, Written},
    node::{Node, Pull, Registry},
    objects::Objects,
    operator::Refusal,
    place::Place,
};

/// How many sources a message names.
const NAMED: usize = 3;

/// How far rules have come in a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// The pool.
    pub pool: Pool,
    /// How far.
    pub stage: Stage,
    /// What is there and what is awaited, one sentence without a full stop.
    pub message: String,
}

/// The stages in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The operator has not rendered them (`99-POOL-generated-registries`).
    Awaited,
    /// It has, and the configuration that nodes are to have is still without them.
    Rendered,
    /// The configuration that nodes are to have has them, and the pool is paused.
    Paused,
    /// Nodes are taking it, one after another.
    RollingOut,
    /// All nodes have it.
    Done,
}

impl Stage {
    /// Returns the word for machines.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Awaited => "awaited",
            Stage::Rendered => "rendered",
            Stage::Paused => "paused",
            Stage::RollingOut => "rolling_out",
            Stage::Done => "done",
        }
    }
}

/// Says how far each pool is, in the order of their names, with what a cluster has of mirror objects, `image.config`, pools, and of the machine
/// configs that they name.
///
/// # Errors
///
/// What the machine-config-operator refuses all rules for: then nodes keep what they have.
pub fn rollout(cluster: &Objects) -> Result<Vec<Rollout>, Vec<Refusal>> {
    let asked = Node::template().edited(&cluster.inputs())?;
    let mut pools: Vec<Rollout> = cluster
        .pools
        .iter()
        .map(|pool| {
            let (stage, message) = stage(cluster, &asked, pool);
            Rollout {
                pool: pool.clone(),
                stage,
                message,
            }
        })
        .collect();
    pools.sort_by(|a, b| a.pool.name.cmp(&b.pool.name));
    Ok(pools)
}

/// Returns the machine config that the operator writes a pool's rules into (container_runtime_config_bootstrap, `getManagedKeyReg`).
pub fn generated(pool: &str) -> String {
    format!("99-{pool}-generated-registries")
}

fn stage(cluster: &Objects, asked: &Node, pool: &Pool) -> (Stage, String) {
    let own = generated(&pool.name);
    if let Err(why) = holds(cluster, asked, &own, true) {
        return (Stage::Awaited, troubled(pool, why));
    }
    if let Err(why) = holds(cluster, asked, &pool.wanted, false) {
        return (Stage::Rendered, troubled(pool, why));
    }
    let nodes = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let have = format!(
        "{} of {} nodes have {}",
        nodes(pool.updated),
        nodes(pool.nodes),
        pool.wanted
    );
    let all = pool.wanted == pool.current && pool.updated == pool.nodes;
    match (all, pool.paused) {
        (true, _) => (Stage::Done, have),
        (false, true) => {
            let message = format!("{have}; the pool is paused, and takes it once it is resumed");
            (Stage::Paused, message)
        }
        (false, false) => (Stage::RollingOut, troubled(pool, have)),
    }
}

fn troubled(pool: &Pool, message: String) -> String {
    match &pool.degraded {
        Some(why) => format!("{message}; the pool is degraded: {why}"),
        None => message,
    }
}

/// Whether a machine config has the rules that are asked for, or why not. The operator's own is not there where it never had any to write.
fn holds(cluster: &Objects, asked: &Node, name: &str, own: bool) -> Result<(), String> {
    let config = cluster.configs.iter().find(|config| config.name == name);
    let found = match config.map(|config| &config.registries_conf) {
        None if own && asked.registries().is_empty() => return Ok(()),
        None if name.is_empty() => return Err("no configuration is named yet".to_owned()),
        None => return Err(format!("{name} is not there")),
        Some(Written::Nothing) => Node::template(),
        Some(Written::Bytes(bytes)) => {
            Node::parse(bytes).map_err(|error| format!("{name} cannot be read: {error}"))?
        }
        Some(Written::Unreadable(why)) => return Err(format!("{name} cannot be read: {why}")),
    };
    let found = said_today(found);
    let differing = differing(&found, asked);
    if differing.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = differing
        .iter()
        .take(NAMED)
        .map(|p| format!("`{p}`"))
        .collect();
    let more = match differing.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(format!(
        "{name} does not have yet what mirror rules say of {}{more}",
        named.join(", ")
    ))
}

/// Says of each mirror what `mirror-by-digest-only` says of all: that is how OpenShift 4.12 writes rules for digests.
fn said_today(mut node: Node) -> Node {
    for registry in node.registries.iter_mut().filter(|r| r.digest_only) {
        registry.digest_only = false;
        let unsaid = registry.mirrors.iter_mut();
        for mirror in unsaid.filter(|mirror| mirror.pull == Pull::Unsaid) {
            mirror.pull = Pull::Digest;
        }
    }
    node
}

/// Returns the scopes that two files treat differently, whatever the order of their tables.
fn differing<'a>(one: &'a Node, other: &'a Node) -> BTreeSet<&'a Place> {
    let tables = |node: &'a Node| -> BTreeMap<&'a Place, &'a Registry> {
        node.registries().iter().map(|r| (r.scope(), r)).collect()
    };
    let (one, other) = (tables(one), tables(other));
    let scopes: BTreeSet<&Place> = one.keys().chain(other.keys()).copied().collect();
    let differs = |scope: &&Place| one.get(scope) != other.get(scope);
    scopes.into_iter().filter(differs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::objects::File;

    const IDMS: &str = "\
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata: {name: a}
spec: {imageDigestMirrors: [{source: q.io/a, mirrors: [m.lan/a]}]}
";

    /// The file for [`IDMS`], with this source.
    fn conf(source: &str) -> String {
        format!(
            "unqualified-search-registries = [\"x.lan\"]\nshort-name-mode = \"\"\n\n[[registry]]\n  prefix = \"\"\n  location = \"{source}\"\n\n  [[registry.mirror]]\n    location = \"m.lan/a\"\n    pull-from-mirror = \"digest-only\"\n"
        )
    }

    fn config(name: &str, conf: &str) -> String {
        use base64::{Engine, engine::general_purpose::STANDARD};
        format!(
            "---\napiVersion: machineconfiguration.openshift.io/v1\nkind: MachineConfig\nmetadata: {{name: {name}}}\nspec: {{config: {{storage: {{files: [{{path: /etc/containers/registries.conf, contents: {{source: 'data:;base64,{}'}}}}]}}}}}}\n",
            STANDARD.encode(conf)
        )
    }

    fn pool(spec: &str, status: &str) -> String {
        format!(
            "---\napiVersion: machineconfiguration.openshift.io/v1\nkind: MachineConfigPool\nmetadata: {{name: worker}}\nspec: {{{spec}}}\nstatus: {{machineCount: 3, {status}}}\n"
        )
    }

    fn looked_at(text: &str) -> Vec<(Stage, String)> {
        let objects = Objects::read(&[File {
            name: "cluster.yaml".to_owned(),
            bytes: text.as_bytes().to_vec(),
        }]);
        assert_eq!(objects.problems, []);
        let found = rollout(&objects).unwrap();
        found.into_iter().map(|r| (r.stage, r.message)).collect()
    }

    /// The pool is up to date with the configuration `r1` throughout.
    fn up_to_date(documents: &str, own: Option<&str>, wanted: &str) -> (Stage, String) {
        let mut text = documents.to_owned();
        if let Some(own) = own {
            text += &config("99-worker-generated-registries", own);
        }
        text += &config("r1", wanted);
        text += &pool(
            "configuration: {name: r1}",
            "updatedMachineCount: 3, configuration: {name: r1}",
        );
        looked_at(&text).remove(0)
    }

    #[test]
    fn a_pool_that_is_up_to_date_proves_nothing() {
        let template = "unqualified-search-registries = ['x.lan']\n";
        let own = "99-worker-generated-registries";
        assert_eq!(
            up_to_date(IDMS, None, template),
            (Stage::Awaited, format!("{own} is not there"))
        );
        let lacks = "does not have yet what mirror rules say of `q.io/a`";
        assert_eq!(
            up_to_date(IDMS, Some(template), template),
            (Stage::Awaited, format!("{own} {lacks}"))
        );
        assert_eq!(
            up_to_date(IDMS, Some(&conf("q.io/b")), template),
            (Stage::Awaited, format!("{own} {lacks}, `q.io/b`"))
        );
        assert_eq!(
            up_to_date(IDMS, Some(&conf("q.io/a")), template),
            (Stage::Rendered, format!("r1 {lacks}"))
        );
        let have = (Stage::Done, "3 of 3 nodes have r1".to_owned());
        let conf = conf("q.io/a");
        assert_eq!(up_to_date(IDMS, Some(&conf), &conf), have);
        // What was never asked for is not awaited; what is not asked for any more is.
        assert_eq!(up_to_date("", None, template), have);
        assert_eq!(up_to_date("", Some(&conf), &conf).0, Stage::Awaited);
        assert_eq!(
            up_to_date(IDMS, Some("[registries.search]\n"), template).0,
            Stage::Awaited
        );
    }

    #[test]
    fn rules_are_known_again_as_openshift_4_12_writes_them() {
        let today = conf("q.io/a");
        let once = today
            .replace("\n    pull-from-mirror = \"digest-only\"", "")
            .replace(
                "\"q.io/a\"\n",
                "\"q.io/a\"\n  mirror-by-digest-only = true\n",
            );
        assert!(once.contains("mirror-by-digest-only") && !once.contains("pull-from-mirror"));
        let have = (Stage::Done, "3 of 3 nodes have r1".to_owned());
        assert_eq!(up_to_date(IDMS, Some(&once), &once), have);
        // Without it, the mirror is for tags too.
        let for_all = once.replace("  mirror-by-digest-only = true\n", "");
        let (stage, _) = up_to_date(IDMS, Some(&for_all), &for_all);
        assert_eq!(stage, Stage::Awaited);
    }

    #[test]
    fn a_pool_rolls_out_waits_or_is_degraded() {
        let conf = conf("q.io/a");
        let with = |spec: &str, status: &str| {
            let own = config("99-worker-generated-registries", &conf);
            let text = format!("{IDMS}{own}{}{}", config("r2", &conf), pool(spec, status));
            looked_at(&text).remove(0)
        };
        let old = "updatedMachineCount: 1, configuration: {name: r1}";
        let have = "1 of 3 nodes have r2";
        assert_eq!(
            with("configuration: {name: r2}", old),
            (Stage::RollingOut, have.to_owned())
        );
        let paused = format!("{have}; the pool is paused, and takes it once it is resumed");
        assert_eq!(
            with("paused: true, configuration: {name: r2}", old),
            (Stage::Paused, paused)
        );
        let degraded = format!(
            "{old}, conditions: [{{type: Degraded, status: 'True', message: 'w1 is upset'}}]"
        );
        assert_eq!(
            with("configuration: {name: r2}", &degraded),
            (
                Stage::RollingOut,
                format!("{have}; the pool is degraded: w1 is upset")
            )
        );
        assert_eq!(
            with("configuration: {name: r3}", old),
            (Stage::Rendered, "r3 is not there".to_owned())
        );
        assert_eq!(
            with("paused: false", old),
            (Stage::Rendered, "no configuration is named yet".to_owned())
        );
    }

    #[test]
    fn messages_name_some_sources() {
        let mut rules = Vec::new();
        for letter in ["a", "b", "c", "d", "e"] {
            rules.push(format!("{{source: q.io/{letter}, mirrors: [m.lan/a]}}"));
        }
        let documents = IDMS.replace("{source: q.io/a, mirrors: [m.lan/a]}", &rules.join(", "));
        let (_, message) = up_to_date(&documents, Some(""), "");
        assert!(
            message.ends_with("say of `q.io/a`, `q.io/b`, `q.io/c` and 2 more"),
            "{message}"
        );
    }
}
