//! What a role's tests left out.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::workshop;

/// What stands for other tasks and has no result of its own.
const WITHOUT_RESULT: [&str; 2] = ["ansible.builtin.include_tasks", "ansible.builtin.meta"];

/// Returns the names of the role's tasks and handlers that were skipped in every run. `results` are all that the callback `lines` wrote.
pub(crate) fn never_ran(role: &str, results: &[Value]) -> BTreeSet<String> {
    let ran: BTreeSet<_> = results
        .iter()
        .filter(|line| line["skipped"] == false)
        .filter_map(|line| line["task"].as_str()?.split(" : ").last())
        .collect();
    let folder = workshop::source().join("roles").join(role);
    let mut tasks = BTreeSet::new();
    for part in ["tasks", "handlers"] {
        let Ok(files) = fs::read_dir(folder.join(part)) else {
            continue;
        };
        for file in files {
            names(&read(&file.unwrap().path()), &mut tasks);
        }
    }
    assert!(!tasks.is_empty(), "the role {role} has no tasks");
    tasks.retain(|name| !ran.contains(name.as_str()));
    tasks
}

fn read(file: &Path) -> Value {
    serde_yaml::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

/// The names of tasks, those in blocks too.
fn names(tasks: &Value, found: &mut BTreeSet<String>) {
    for task in tasks.as_array().into_iter().flatten() {
        let blocks: Vec<_> = ["block", "rescue", "always"]
            .iter()
            .filter_map(|part| task.get(part))
            .collect();
        for block in &blocks {
            names(block, found);
        }
        let has_result = WITHOUT_RESULT.iter().all(|word| task.get(word).is_none());
        if blocks.is_empty() && has_result {
            let name = task["name"].as_str().expect("every task has a name");
            assert!(found.insert(name.to_owned()), "two tasks are called {name}");
        }
    }
}
