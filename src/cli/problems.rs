//! What is wrong with files, as compilers print it.

use crate::grpc::v1::{Problem, Severity};

/// Returns one line a problem, and its remedy below it: `a.yaml:3:7: error: ...`.
pub fn text(problems: &[Problem]) -> String {
    problems.iter().map(line).collect()
}

/// Returns where a problem is, as editors jump to it (`a.yaml:3:7`); the file alone where that is all there is.
pub fn place(problem: &Problem) -> String {
    let mut text = problem.file.clone();
    if problem.line > 0 {
        text += &format!(":{}", problem.line);
    }
    if problem.line > 0 && problem.column > 0 {
        text += &format!(":{}", problem.column);
    }
    text
}

fn line(problem: &Problem) -> String {
    let mut text = place(problem);
    let severity = match problem.severity() {
        Severity::Warning => "warning",
        Severity::Error | Severity::Unspecified => "error",
    };
    text += &format!(": {severity}: ");
    if !problem.path.is_empty() {
        text += &format!("{}: ", problem.path);
    }
    text += &problem.message;
    text.push('\n');
    if !problem.hint.is_empty() {
        text += &format!("    {}\n", problem.hint);
    }
    text
}

/// Returns how many errors and warnings there are (`2 errors, 1 warning`); nothing where there are none.
pub fn tally(problems: &[Problem]) -> String {
    let of = |severity| {
        problems
            .iter()
            .filter(|problem| problem.severity() == severity)
            .count() as u64
    };
    let counts = [
        (of(Severity::Error), "error"),
        (of(Severity::Warning), "warning"),
    ];
    let counts: Vec<_> = counts
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, thing)| crate::cli::text::count(number, thing))
        .collect();
    counts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_look_as_editors_can_jump_to() {
        let problem = |severity: Severity, line, hint: &str| Problem {
            severity: severity.into(),
            file: "prod/a.yaml".to_owned(),
            line,
            column: line * 2,
            path: "mirror.platform".to_owned(),
            message: "`chanels` is unknown".to_owned(),
            hint: hint.to_owned(),
        };
        let problems = [
            problem(Severity::Error, 3, "did you mean `channels`?"),
            problem(Severity::Warning, 0, ""),
        ];
        assert_eq!(
            text(&problems),
            "prod/a.yaml:3:6: error: mirror.platform: `chanels` is unknown\n    did you mean `channels`?\n\
             prod/a.yaml: warning: mirror.platform: `chanels` is unknown\n"
        );
        assert_eq!(tally(&problems), "1 error, 1 warning");
    }
}
