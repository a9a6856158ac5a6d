//! The right name for a misspelt one.

/// Names the nearest of the names that would be right, or all of them.
pub fn suggest(written: &str, names: &[&str]) -> String {
    if let Some(name) = nearest(written, names) {
        return format!("did you mean `{name}`?");
    }
    let mut names: Vec<&str> = names.to_vec();
    names.sort_unstable();
    match names.as_slice() {
        [] => String::new(),
        [name] => format!("only `{name}` is known here"),
        [rest @ .., last] => format!("known here are `{}` and `{last}`", rest.join("`, `")),
    }
}

/// Returns the name that a misspelt one was most likely meant to be.
pub fn nearest<'n>(written: &str, names: &[&'n str]) -> Option<&'n str> {
    if written.len() > 64 {
        return None;
    }
    let written = written.to_lowercase();
    let length = written.chars().count();
    names
        .iter()
        .map(|name| (strsim::osa_distance(&written, &name.to_lowercase()), *name))
        .filter(|(distance, name)| *distance <= (length.max(name.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_all_where_none_is_near() {
        let names = ["minVersion", "maxVersion", "name"];
        for (written, nearest) in [
            ("minVerson", Some("minVersion")),
            ("MAXVERSION", Some("maxVersion")),
            ("nmae", Some("name")),
            ("versions", None),
            ("x", None),
        ] {
            assert_eq!(super::nearest(written, &names), nearest, "{written}");
        }
        assert_eq!(
            suggest("x", &names),
            "known here are `maxVersion`, `minVersion` and `name`"
        );
        assert_eq!(suggest("x", &["name"]), "only `name` is known here");
        assert_eq!(
            suggest(&"n".repeat(65), &["name"]),
            "only `name` is known here"
        );
    }
}
