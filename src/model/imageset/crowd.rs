//! Different paths that become one where a mirror's paths are joined: nodes that pull by tag could be given another image there.

use std::collections::BTreeMap;

use super::{FoundSet, Problem, SetName, Severity};
use crate::model::{
    image::Repository,
    policy::Target,
    release::names::{COMPONENT_PATH, RELEASE_PATH},
    target,
};

/// Notes a problem for each image set that would put one path where another image set puts another. The one that has been given the
/// repository before keeps it (`holds`), else the first by name.
pub fn refuse_crowds(
    found: &mut [FoundSet],
    place: impl Fn(&SetName) -> Target,
    holds: impl Fn(&SetName, &Repository) -> bool,
) {
    let mut claims: Vec<(bool, SetName, Repository, String, usize)> = Vec::new();
    for (number, set) in found.iter().enumerate() {
        let target = place(&set.name);
        if !target.flattens() {
            continue;
        }
        for path in paths(set) {
            // A path that is none is told elsewhere.
            let Ok(repository) = target.repository(&path) else {
                continue;
            };
            let is_new = !holds(&set.name, &repository);
            claims.push((is_new, set.name.clone(), repository, path, number));
        }
    }
    claims.sort();
    let mut first: BTreeMap<Repository, (String, SetName)> = BTreeMap::new();
    for (_, name, repository, path, number) in claims {
        let held = first
            .entry(repository.clone())
            .or_insert_with(|| (path.clone(), name.clone()));
        // Within an image set it is told of the images themselves.
        if held.0 != path && held.1 != name {
            let set = &mut found[number];
            set.problems.push(problem(set, &path, &repository, held));
            set.problems.sort();
            set.image_set = None;
        }
    }
}

/// The paths that an image set's content has below the mirror's prefix.
fn paths(set: &FoundSet) -> Vec<String> {
    let Some(set) = &set.image_set else {
        return Vec::new();
    };
    let images = set.additional_images.iter();
    let mut paths: Vec<String> = images
        .map(|image| target::additional_path_and_tag(image).0)
        .collect();
    if !set.platform.channels.is_empty() || set.platform.release.is_some() {
        paths.extend([COMPONENT_PATH, RELEASE_PATH].map(str::to_owned));
    }
    paths
}

fn problem(
    set: &FoundSet,
    path: &str,
    repository: &Repository,
    (other, name): &(String, SetName),
) -> Problem {
    Problem {
        file: set.file.clone(),
        line: set.line.max(1),
        column: 1,
        severity: Severity::Error,
        path: "mirror".to_owned(),
        message: format!(
            "`{path}` would land in {repository}, and so does `{other}` of image set {name}: `max_nested_paths` joins both names to one"
        ),
        hint: "give one of the two a `targetRepo` of its own, or allow longer paths".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::imageset::{SourceFile, read};

    fn found() -> Vec<FoundSet> {
        let set = |images: &str| {
            format!(
                "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  additionalImages:\n{images}"
            )
        };
        let files = [
            ("a", set("  - name: q.io/team/app-x:1\n")),
            (
                "b",
                set("  - name: q.io/team-app/x:2\n  - name: q.io/team/app-x:3\n"),
            ),
        ];
        let files = files.map(|(name, text)| SourceFile {
            path: format!("{name}.yaml"),
            name: format!("{name}.yaml"),
            bytes: text.into_bytes(),
        });
        read(&files).image_sets
    }

    fn broken(most: u32, holder: &str) -> Vec<(String, String)> {
        let mut found = found();
        let target: Target = "m.lan/ocp".parse().unwrap();
        refuse_crowds(
            &mut found,
            |_| target.clone().nesting(most),
            |name, _| name.0 == holder,
        );
        let problems = found
            .into_iter()
            .flat_map(|f| f.problems.into_iter().map(move |p| (f.name.0.clone(), p)));
        problems
            .filter(|(_, p)| p.severity == Severity::Error)
            .map(|(name, p)| (name, p.message))
            .collect()
    }

    #[test]
    fn who_has_a_repository_keeps_it_and_the_other_is_told() {
        let message = |mine: &str, other: &str, of: &str| {
            format!(
                "`{mine}` would land in m.lan/ocp/team-app-x, and so does `{other}` of image set {of}: `max_nested_paths` joins both names to one"
            )
        };
        let to_b = message("team-app/x", "team/app-x", "a");
        assert_eq!(broken(2, ""), [("b".to_owned(), to_b)]);
        let to_a = message("team/app-x", "team-app/x", "b");
        assert_eq!(broken(2, "b"), [("a".to_owned(), to_a)]);
        assert_eq!(broken(0, ""), []);
        assert_eq!(broken(3, ""), []);
    }
}
