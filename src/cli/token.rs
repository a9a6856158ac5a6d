//! `imagesetd token`: makes bearer tokens.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    cli::{
        failure::{Exit, Failure},
        json::SCHEMA,
        output::Output,
    },
    model::access::{Right, Token, TokenHash, TokenName, read_tokens},
};

/// Makes bearer tokens, with which clients say who they are.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What can be done with tokens.
#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// Makes a token, prints it this once, and the line by which the daemon's tokens file knows it; asks no daemon
    New(New),
}

/// The options of `token new`.
#[derive(Debug, Clone, Args)]
pub struct New {
    /// What the token is called in logs: letters, digits, `.`, `_`, `-`
    #[arg(value_name = "NAME")]
    pub name: TokenName,
    /// What its bearer may do: read, plan, apply or admin, each with those before it
    #[arg(long, value_name = "RIGHTS")]
    pub rights: Right,
    /// Tokens file of the daemon that the line is added to, made where it is not there yet
    #[arg(long, value_name = "FILE")]
    pub add_to: Option<PathBuf>,
    /// File that the token is written to instead of being printed; only its owner can read it
    #[arg(long, value_name = "FILE")]
    pub write_to: Option<PathBuf>,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    pub output: Output,
}

/// What every token begins with, so that one that lies where it should not is found.
const PREFIX: &str = "imagesetd_";

/// Runs the verb.
pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let What::New(new) = arguments.what;
    let secret = make()?;
    let token = Token {
        name: new.name.clone(),
        rights: new.rights,
        hash: TokenHash::of(&secret),
    };
    // Written first: a token that the daemon does not know does no harm, a line whose token is lost is of no use.
    if let Some(file) = &new.write_to {
        write_secret(file, &secret)?;
    }
    if let Some(file) = &new.add_to {
        add(file, &token)?;
    }
    let shown = new.write_to.is_none().then_some(&secret);
    let value = json!({
        "schema": SCHEMA, "name": token.name.as_str(), "rights": token.rights.word(), "token": shown,
        "sha256": token.hash.to_string(), "line": token.to_string(),
    });
    new.output.value(&value, || text(shown, &token, &new))?;
    Ok(Exit::Done)
}

/// Makes 256 random bits.
fn make() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| {
        Failure::new(
            "NO_RANDOMNESS",
            tonic::Code::Internal,
            "the system has no random numbers to make a token of",
        )
    })?;
    Ok(format!("{PREFIX}{}", hex::encode(bytes)))
}

fn text(secret: Option<&String>, token: &Token, new: &New) -> String {
    let mut text = String::new();
    match (secret, &new.write_to) {
        (Some(secret), _) => {
            text += &format!("The token, which is not kept anywhere:\n  {secret}\n")
        }
        (None, Some(file)) => text += &format!("The token is in {}.\n", file.display()),
        (None, None) => {}
    }
    match &new.add_to {
        Some(file) => text += &format!("{} knows it as {}.\n", file.display(), token.name),
        None => text += &format!("The line for the daemon's tokens file:\n  {token}\n"),
    }
    text
}

/// Writes a file that only its owner can read, and none that is there already.
fn write_secret(path: &Path, secret: &str) -> Result<(), Failure> {
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| writeln!(file, "{secret}"));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::precondition(
            "ALREADY_THERE",
            format!(
                "{} is there already and stays as it is; name another file for the token",
                path.display()
            ),
        ),
        _ => Failure::local(format!("writing {}", path.display()), &error),
    })
}

/// Adds a line to the tokens file, which is replaced as a whole: the daemon may read it at any moment.
fn add(path: &Path, token: &Token) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::local(format!("writing {}", path.display()), &error);
    let mut text = String::new();
    let mode = match File::open(path) {
        Ok(file) => {
            let mode = file.metadata().map_err(failed)?.permissions().mode();
            file.take(1 << 20)
                .read_to_string(&mut text)
                .map_err(failed)?;
            mode & 0o777
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0o640,
        Err(error) => return Err(failed(error)),
    };
    read_tokens(&text).map_err(|(line, error)| {
        Failure::precondition(
            "TOKENS_INVALID",
            format!("{}:{line}: {error}; nothing is added", path.display()),
        )
    })?;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text += &format!("{token}\n");
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = target
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    keep_owner(&target, file.path()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&target).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Has the new file belong to whom the old one does; the daemon reads it by its group.
fn keep_owner(old: &Path, new: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = fs::metadata(old) else {
        return Ok(());
    };
    std::os::unix::fs::chown(new, Some(meta.uid()), Some(meta.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str) -> New {
        New {
            name: name.parse().unwrap(),
            rights: Right::Plan,
            add_to: None,
            write_to: None,
            output: Output::Text,
        }
    }

    #[test]
    fn a_token_is_long_random_and_never_the_same() {
        let (one, other) = (make().unwrap(), make().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), PREFIX.len() + 64);
    }

    #[test]
    fn the_line_is_one_of_a_tokens_file_and_holds_no_token() {
        let secret = make().unwrap();
        let token = Token {
            name: "ci".parse().unwrap(),
            rights: Right::Plan,
            hash: TokenHash::of(&secret),
        };
        let text = text(Some(&secret), &token, &new("ci"));
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines[1], secret);
        assert_eq!(read_tokens(lines[3]).unwrap(), [token]);
    }

    #[test]
    fn lines_are_added_and_a_broken_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let token = |secret: &str| Token {
            name: "ci".parse().unwrap(),
            rights: Right::Plan,
            hash: TokenHash::of(secret),
        };
        add(&path, &token("a")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o640);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, format!("# ours\n{}", token("a"))).unwrap();
        add(&path, &token("b")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("# ours\n{}\n{}\n", token("a"), token("b")));
        assert_eq!(mode(&path), 0o600);
        fs::write(&path, "broken\n").unwrap();
        assert_eq!(
            add(&path, &token("c")).unwrap_err().reason,
            "TOKENS_INVALID"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "broken\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_token_is_written_for_its_owner_alone_and_over_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write_secret(&path, "canary").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "canary\n");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let again = write_secret(&path, "other").unwrap_err();
        assert_eq!(again.reason, "ALREADY_THERE");
        assert_eq!(fs::read_to_string(&path).unwrap(), "canary\n");
    }
}
