//! Keeps what a person did in a followed checkout, before the checkout moves on.

use crate::gitops::git::{Error, Repository};

/// Puts changed files aside, so that a person finds what they did, and says so; the files are as committed then.
///
/// What was put aside last is not put aside again: with some filters and line ends files differ from their commit whatever git
/// does.
pub(super) async fn save_files(repository: &Repository) -> Result<Option<String>, Error> {
    let made = repository
        .command("stash")
        .env("GIT_AUTHOR_NAME", "imagesetd")
        .env("GIT_AUTHOR_EMAIL", "imagesetd@localhost")
        .env("GIT_COMMITTER_NAME", "imagesetd")
        .env("GIT_COMMITTER_EMAIL", "imagesetd@localhost")
        .text(&["create"])
        .await?;
    // Git does not see a change after all.
    if made.is_empty() {
        return Ok(None);
    }
    let mut notice = None;
    if is_new(repository, &made).await? {
        let message = "changed by hand, put aside by imagesetd";
        let store = ["store", "--quiet", "--message", message, &made];
        repository.command("stash").run(&store).await?;
        notice = Some(format!(
            "files of `{top}` were changed by hand and are as committed again; the changes are kept: `git -C {top} stash list`; \
             commit and push changes instead",
            top = repository.top.display()
        ));
    }
    repository
        .command("reset")
        .run(&["--quiet", "--hard"])
        .await?;
    Ok(notice)
}

/// Keeps commits that only this work tree has; `before` is where the remote's branch was.
pub(super) async fn save_commits(
    repository: &Repository,
    head: &str,
    before: Option<String>,
    target: &str,
) -> Result<Option<String>, Error> {
    let pushed = before.as_deref() == Some(head)
        || repository
            .look("merge-base")
            .run(&["--is-ancestor", head, target])
            .await
            .is_ok();
    if pushed {
        return Ok(None);
    }
    let name = format!("imagesetd/saved-{}", head.get(..12).unwrap_or(head));
    repository
        .command("branch")
        .run(&["--force", &name, head])
        .await?;
    Ok(Some(format!(
        "commits that were never pushed were in `{}`; they are on its branch `{name}` now",
        repository.top.display()
    )))
}

/// Whether a stash holds other files than the last one that was kept.
async fn is_new(repository: &Repository, made: &str) -> Result<bool, Error> {
    let tree = |of: String| async move {
        let args = ["--verify", "--quiet", &of];
        repository.look("rev-parse").text(&args).await
    };
    let last = tree("refs/stash^{tree}".to_owned()).await.ok();
    Ok(last != Some(tree(format!("{made}^{{tree}}")).await?))
}
