//! `imagesetd init`: settings that start.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    cli::{
        connect::DEFAULT_ENDPOINT,
        failure::{Exit, Failure},
        json,
        output::Output,
        serve::DEFAULT_CONFIG,
    },
    model::policy::Target,
};

/// Writes a settings file that the daemon starts with, and says what comes next.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Mirror to copy to, with a path below which everything lands
    #[arg(long, value_name = "HOST[:PORT][/PREFIX]")]
    mirror: Target,
    /// Directory of image sets to watch
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// Credentials file (auth.json) for upstreams and the mirror
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Settings file to write
    #[arg(long, value_name = "FILE", env = "IMAGESETD_CONFIG", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Folder for what the daemon has to remember [default: /var/lib/imagesetd, for root; below the home folder for others]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Overwrite a settings file that is there
    #[arg(long)]
    force: bool,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// What is written and where things are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    config: PathBuf,
    target: String,
    directory: PathBuf,
    authfile: Option<PathBuf>,
    state: PathBuf,
    endpoint: String,
}

/// Runs the verb.
pub fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let (output, force) = (arguments.output, arguments.force);
    let plan = plan(arguments, nix::unistd::geteuid().is_root())?;
    write(&plan.config, &settings(&plan), force)?;
    let next = next(&plan);
    output.value(&value(&plan, &next), || text(&plan, &next))?;
    Ok(Exit::Done)
}

fn plan(arguments: Arguments, root: bool) -> Result<Plan, Failure> {
    let absolute = |path: PathBuf| {
        std::path::absolute(&path)
            .map_err(|error| Failure::local(format!("finding {}", path.display()), &error))
    };
    let (state, endpoint) = match (arguments.state, root) {
        (None, true) => (
            PathBuf::from("/var/lib/imagesetd"),
            DEFAULT_ENDPOINT.to_owned(),
        ),
        (given, _) => {
            let state = absolute(given.map_or_else(own_state, Ok)?)?;
            let endpoint = match root {
                true => DEFAULT_ENDPOINT.to_owned(),
                false => format!("unix://{}/imagesetd.sock", state.display()),
            };
            (state, endpoint)
        }
    };
    Ok(Plan {
        config: absolute(arguments.config)?,
        target: arguments.mirror.to_string(),
        directory: absolute(arguments.directory)?,
        authfile: arguments.authfile.map(absolute).transpose()?,
        state,
        endpoint,
    })
}

/// Where programs of somebody who is not root keep their state.
fn own_state() -> Result<PathBuf, Failure> {
    let named = env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let base = named.or_else(home);
    base.map(|base| base.join("imagesetd"))
        .ok_or_else(|| Failure::usage("there is no HOME to keep the state in: say --state DIR"))
}

fn settings(plan: &Plan) -> String {
    let authfile = match &plan.authfile {
        Some(file) => format!("authfile: {}", quoted(file)),
        None => "# authfile: /etc/imagesetd/auth.json".to_owned(),
    };
    format!(
        "\
# Settings of imagesetd. Every key is explained in the annotated example that comes with it, packaging/imagesetd.yaml.

# The mirror: everything lands below this place.
target: {target}

# The directory of image sets. A change in it is planned and, with `apply: automatic`, applied; with `apply: manual` its plan waits for
# a person. `image_sets` says so for some of them only.
directory: {directory}
apply: automatic

# A mirror without TLS, or with a certificate of your own:
# registries:
# - host: {host}
#   plain_http: true
#   # ca_file: /etc/pki/mirror-ca.pem

# Credentials for upstreams and the mirror, as podman writes them; without this key the usual places are looked at.
{authfile}

# What the daemon has to remember, and where it writes cluster documents.
state: {state}
output: {output}

# Where clients connect. The group may use the socket too.
listen:
- {listen}
# socket_group: imagesetd
# To let other machines in (docs/security.md): `imagesetd token new NAME --rights plan --add-to {tokens}`, then
# - {{address: tcp://0.0.0.0:7443, tls: {{cert_file: FILE, key_file: FILE}}}}
# clients: {{tokens_file: {tokens}}}
",
        target = quoted(Path::new(&plan.target)),
        host = quoted(Path::new(plan.target.split('/').next().unwrap_or_default())),
        directory = quoted(&plan.directory),
        state = quoted(&plan.state),
        output = quoted(&plan.state.join("resources")),
        listen = quoted(Path::new(&plan.endpoint)),
        tokens = tokens_file(plan).display(),
    )
}

/// Where tokens would be: beside the settings.
fn tokens_file(plan: &Plan) -> PathBuf {
    plan.config.with_file_name("tokens")
}

/// Returns text as a YAML string; JSON strings are YAML.
fn quoted(text: &Path) -> String {
    Value::from(text.to_string_lossy()).to_string()
}

/// Writes the file whole or not at all; one that is there stays unless it is to be overwritten.
fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::local(format!("writing {}", path.display()), &error);
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(failed)?;
    io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    let kept = match force {
        true => file.persist(path),
        false => file.persist_noclobber(path),
    };
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Failure::precondition(
                "ALREADY_THERE",
                format!(
                    "{} is there already and stays as it is; --force overwrites it",
                    path.display()
                ),
            ))
        }
        Err(error) => Err(failed(error.error)),
    }
}

/// What is still to be done, in order, a sentence or a command each.
fn next(plan: &Plan) -> Vec<String> {
    let mut next = Vec::new();
    if !plan.directory.is_dir() {
        next.push(format!(
            "make the directory: mkdir -p {}",
            plan.directory.display()
        ));
    }
    if let Some(file) = plan.authfile.as_ref().filter(|file| !file.is_file()) {
        next.push(format!(
            "write the credentials: podman login --authfile {} {}",
            file.display(),
            plan.target
        ));
    }
    next.push(format!(
        "check the settings: imagesetd serve --config {} --check",
        plan.config.display()
    ));
    if plan.endpoint == DEFAULT_ENDPOINT {
        next.push("to let others than root use the socket: groupadd --system imagesetd; usermod -aG imagesetd USER; then set `socket_group: imagesetd`".to_owned());
    } else {
        next.push(format!(
            "tell clients where the socket is: export IMAGESETD_ENDPOINT={}",
            plan.endpoint
        ));
    }
    next.push(format!(
        "to let other machines in: imagesetd token new NAME --rights plan --add-to {}; then `listen` with `tls`, and `clients`, as the settings say",
        tokens_file(plan).display()
    ));
    next.push(format!(
        "start the daemon: imagesetd serve --config {}",
        plan.config.display()
    ));
    next
}

fn value(plan: &Plan, next: &[String]) -> Value {
    json!({
        "schema": json::SCHEMA, "config": plan.config, "target": plan.target, "directory": plan.directory,
        "authfile": plan.authfile, "state": plan.state, "endpoint": plan.endpoint, "next": next,
    })
}

fn text(plan: &Plan, next: &[String]) -> String {
    let mut text = format!("Wrote {}. What comes next:\n", plan.config.display());
    for (number, line) in next.iter().enumerate() {
        text += &format!("  {}. {line}\n", number + 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;

    fn arguments(folder: &Path) -> Arguments {
        Arguments {
            mirror: "mirror.lan:5000/ocp".parse().unwrap(),
            directory: folder.join("image sets"),
            authfile: Some(folder.join("auth.json")),
            config: folder.join("etc/imagesetd.yaml"),
            state: None,
            force: false,
            output: Output::Text,
        }
    }

    #[test]
    fn what_is_written_are_settings_that_say_what_was_said() {
        let plan = plan(arguments(Path::new("/x")), true).unwrap();
        let (read, problems) = settings::parse("/x/etc/imagesetd.yaml", &settings(&plan)).unwrap();
        assert_eq!(problems, []);
        assert_eq!(read.defaults.target, "mirror.lan:5000/ocp".parse().unwrap());
        assert_eq!(read.directory, Path::new("/x/image sets"));
        assert_eq!(read.authfile.as_deref(), Some(Path::new("/x/auth.json")));
        assert_eq!(read.state, Path::new("/var/lib/imagesetd"));
        assert_eq!(read.output, Path::new("/var/lib/imagesetd/resources"));
        assert_eq!(
            read.listen,
            [settings::Listen::Unix(
                "/run/imagesetd/imagesetd.sock".into()
            )]
        );
    }

    #[test]
    fn hints_are_settings_once_they_are_taken() {
        let plan = plan(arguments(Path::new("/x")), true).unwrap();
        let taken = settings(&plan)
            .replace("apply: automatic\n", "apply: manual\n")
            .replace("# registries:", "registries:")
            .replace("# - host:", "- host:")
            .replace("#   plain_http:", "  plain_http:")
            .replace("# socket_group:", "socket_group:");
        let (read, problems) = settings::parse("/x/etc/imagesetd.yaml", &taken).unwrap();
        assert_eq!(problems, []);
        assert_eq!(read.defaults.apply, crate::model::policy::ApplyMode::Manual);
        assert_eq!(read.socket_group.as_deref(), Some("imagesetd"));
        let registries: Vec<_> = read.registries.iter().map(|r| r.plain_http).collect();
        assert_eq!(registries, [true]);
    }

    #[test]
    fn somebody_who_is_not_root_gets_places_of_their_own() {
        let given = Arguments {
            state: Some("/home/me/s".into()),
            ..arguments(Path::new("/x"))
        };
        let plan = plan(given, false).unwrap();
        assert_eq!(
            (plan.state.as_path(), plan.endpoint.as_str()),
            (Path::new("/home/me/s"), "unix:///home/me/s/imagesetd.sock")
        );
        assert!(next(&plan).contains(&"tell clients where the socket is: export IMAGESETD_ENDPOINT=unix:///home/me/s/imagesetd.sock".to_owned()));
    }

    #[test]
    fn a_file_that_is_there_stays_unless_forced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etc/imagesetd.yaml");
        write(&path, "first", false).unwrap();
        assert_eq!(
            write(&path, "second", false).unwrap_err().reason,
            "ALREADY_THERE"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        write(&path, "second", true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_comes_next_names_the_sockets_group() {
        let plan = plan(arguments(Path::new("/x")), true).unwrap();
        assert_eq!(
            text(&plan, &next(&plan)),
            "\
Wrote /x/etc/imagesetd.yaml. What comes next:
  1. make the directory: mkdir -p /x/image sets
  2. write the credentials: podman login --authfile /x/auth.json mirror.lan:5000/ocp
  3. check the settings: imagesetd serve --config /x/etc/imagesetd.yaml --check
  4. to let others than root use the socket: groupadd --system imagesetd; usermod -aG imagesetd USER; then set `socket_group: imagesetd`
  5. to let other machines in: imagesetd token new NAME --rights plan --add-to /x/etc/tokens; then `listen` with `tls`, and `clients`, as the settings say
  6. start the daemon: imagesetd serve --config /x/etc/imagesetd.yaml
"
        );
    }
}
