//! Which tasks of a role a test has run: one that it never ran may be broken, and nobody would know.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::workshop::Workshop;

/// The file of `callback/ran.py`.
const FILE: &str = "ran";

/// Has a playbook write down which tasks run.
pub(crate) fn noted(command: &mut Command, workshop: &Workshop) {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ansible/callback");
    command
        .env("ANSIBLE_CALLBACK_PLUGINS", plugins)
        .env("ANSIBLE_CALLBACKS_ENABLED", "ran")
        .env("RAN", workshop.path(FILE));
}

/// Returns the tasks and handlers of a role, as `FILE: NAME`, that no playbook of these workshops has run so far.
pub(crate) fn never_run(workshops: &[&Workshop], role: &str) -> Vec<String> {
    let ran: BTreeSet<String> = workshops.iter().flat_map(|one| places(one)).collect();
    let collection = workshops[0].collection();
    let role = collection.join("roles").join(role);
    let mut never = Vec::new();
    for file in ["tasks", "handlers"]
        .iter()
        .flat_map(|part| files(&role.join(part)))
    {
        let text = fs::read_to_string(&file).unwrap();
        let place = file.strip_prefix(&collection).unwrap().display();
        for (number, name) in tasks(&text) {
            if !ran.contains(&format!("{place}:{number}")) {
                let file = file.strip_prefix(&role).unwrap().display();
                never.push(format!("{file}: {name}"));
            }
        }
    }
    never.sort();
    never
}

/// Where the tasks stand that ran in a workshop, as `FILE:LINE` in the collection.
fn places(workshop: &Workshop) -> Vec<String> {
    let ran = fs::read_to_string(workshop.path(FILE)).unwrap();
    let collection = format!("{}/", workshop.collection().display());
    ran.lines()
        .filter_map(|line| line.strip_prefix(&collection))
        .map(str::to_owned)
        .collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
        .into_iter()
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .collect()
}

/// The line and the name of each task; a block is none, and of what steers the play nothing is told.
fn tasks(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some((indent, name)) = line.split_once("- name: ") else {
            continue;
        };
        if !indent.trim().is_empty() {
            continue;
        }
        let keys = ["block:", "ansible.builtin.meta:"].map(|key| format!("{indent}  {key}"));
        let mut own = lines[index + 1..]
            .iter()
            .take_while(|line| !line.starts_with(&format!("{indent}- ")));
        let stands_for_others = |line: &&str| keys.iter().any(|key| line.starts_with(key));
        if !own.any(stands_for_others) {
            found.push((index + 1, name));
        }
    }
    found
}
