//! The modules on every Python that this machine has: on managed hosts it is the distribution's, from 3.6 of RHEL 8 on.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    stage::Stage,
    support::skip,
    workshop::{Workshop, check},
};

/// What the collection says that it is tested on.
const WANTED: std::ops::RangeInclusive<u32> = 6..=13;

/// Which Pythons 3.x on managed hosts an ansible-core takes, as its support matrix has it.
fn taken_by(core: &str) -> std::ops::RangeInclusive<u32> {
    match core {
        "2.14" | "2.15" => 5..=11,
        "2.16" => 6..=12,
        "2.17" => 7..=12,
        "2.18" => 8..=13,
        "2.19" => 8..=13,
        _ => 9..=14,
    }
}

/// The Pythons of this machine by their minor version: those in the search path, and those of pyenv, which has only some of its own there.
fn installed() -> BTreeMap<u32, PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = env::split_paths(&path).collect();
    let home = PathBuf::from(env::var_os("HOME").unwrap_or_default());
    let versions = fs::read_dir(home.join(".pyenv/versions"));
    let mut versions: Vec<PathBuf> = versions
        .map(|found| found.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    versions.sort();
    places.extend(versions.into_iter().map(|version| version.join("bin")));
    WANTED
        .filter_map(|minor| {
            let name = format!("python3.{minor}");
            let file = places
                .iter()
                .map(|place| place.join(&name))
                .find(|file| is(file, minor))?;
            Some((minor, file))
        })
        .collect()
}

/// Whether it is that Python, and not a shim that names it and finds none.
fn is(file: &Path, minor: u32) -> bool {
    let asked = Command::new(file)
        .args(["-c", "import sys, json, ssl; print(sys.version_info[1])"])
        .output();
    asked.is_ok_and(|answer| {
        answer.status.success()
            && String::from_utf8_lossy(&answer.stdout).trim() == minor.to_string()
    })
}

fn core_of(workshop: &Workshop) -> String {
    let asked = workshop
        .command()
        .args(["python3", "-c"])
        .arg("import ansible.release; print('.'.join(ansible.release.__version__.split('.')[:2]))")
        .output()
        .unwrap();
    check("asking for the version", &asked);
    String::from_utf8(asked.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_modules_run_on_every_python_of_this_machine() {
    let found = installed();
    let mut looked_at = Vec::new();
    for name in ["oldest", "newest"] {
        let workshop = Workshop::new(name);
        let taken = taken_by(&core_of(&workshop));
        let pythons: Vec<_> = found
            .iter()
            .filter(|(minor, _)| taken.contains(minor))
            .collect();
        if pythons.is_empty() {
            continue;
        }
        let stage = Stage::new(&[]);
        let hosts: String = pythons
            .iter()
            .map(|(minor, file)| {
                format!(
                    "py3.{minor} ansible_connection=local minor={minor} ansible_python_interpreter={}\n",
                    file.display()
                )
            })
            .collect();
        fs::write(workshop.path("inventory"), hosts).unwrap();
        fs::write(
            workshop.path("words.json"),
            stage.words(&workshop).to_string(),
        )
        .unwrap();
        let playbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ansible/pythons.yml");
        let played = workshop
            .command()
            .args(["ansible-playbook", "-i", "inventory", "-e", "@words.json"])
            .arg(playbook)
            .output()
            .unwrap();
        check("the playbook", &played);
        looked_at.extend(pythons.iter().map(|(minor, _)| **minor));
    }
    println!("looked at Python 3.x of {looked_at:?}");
    let lacking: Vec<String> = WANTED
        .filter(|minor| !looked_at.contains(minor))
        .map(|minor| format!("3.{minor}"))
        .collect();
    if !lacking.is_empty() {
        skip::skipped(
            "the_modules_run_on_every_python_of_this_machine",
            &format!(
                "looked at all but Python {}, which are not installed or not for this ansible-core",
                lacking.join(", ")
            ),
        );
    }
}
