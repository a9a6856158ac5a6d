//! The command line: one file a verb; text for people, one JSON document for machines.
//!
//! **Invariant:** with `--output json` stdout holds one document, the answer or the error; all else goes to stderr.

pub mod adopt;

pub mod apply;

pub mod catalog;

pub mod cluster;

pub mod connect;

pub mod diff;

pub mod duration;

pub mod events;

pub mod failure;

pub mod files;

pub mod init;

pub mod json;

pub mod manual;

pub mod mirror;

pub mod once;

pub mod output;

pub mod patience;

pub mod plan;

pub mod problems;

pub mod releases;

pub mod resources;

pub mod round;

pub mod runs;

pub mod serve;

pub mod serving;

pub mod status;

pub mod text;

pub mod token;

pub mod validate;

pub mod verify;

pub mod version;

pub mod watch;

use std::{ffi::OsString, process::ExitCode};

use clap::{
    Args as _, Command, CommandFactory, FromArgMatches as _, Parser, Subcommand, error::ErrorKind,
};

use connect::Connection;
use failure::{Exit, Failure};

const AFTER_HELP: &str = "\
Exit codes: 0 done, 2 usage, 3 precondition (stale plan, invalid image set, no such release), 4 authentication, 5 unavailable, \
6 partial failure, 7 timed out while the run goes on, 1 otherwise.";

/// Keeps the registry of a disconnected OpenShift site in step with the image sets of a Git directory.
#[derive(Debug, Clone, Parser)]
#[command(name = "imagesetd", version, after_help = AFTER_HELP, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What can be done.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Writes a settings file that the daemon starts with, and says what comes next
    Init(init::Arguments),
    /// Runs the daemon: watches the directory, plans, mirrors, writes cluster documents
    Serve(serve::Arguments),
    /// Mirrors image sets once, in the foreground, without a daemon or a settings file
    Once(Box<once::Arguments>),
    /// Plans image sets: says what would be copied, how many bytes, and what that does to documents and nodes
    Plan(plan::Arguments),
    /// Applies a plan; the run belongs to the daemon: hanging up stops nothing, calling again attaches to it
    Apply(apply::Arguments),
    /// Says how the daemon and its image sets are, or waits until they are ready
    Status(status::Arguments),
    /// Lists, shows, watches and cancels runs
    Runs(runs::Arguments),
    /// Says what stands and what happens: changed image sets, plans, runs
    Events(events::Arguments),
    /// Prints the cluster documents as YAML, lists them, retires rules that nothing needs any longer
    Resources(resources::Arguments),
    /// Takes over from oc-mirror or `oc adm release mirror`: the documents in use and the content in the mirror
    Adopt(adopt::Arguments),
    /// Says what mirror rules do on the nodes of a cluster, and finds mistakes in them; most of it without a daemon
    Cluster(cluster::Arguments),
    /// Asks the mirror whether it still holds, by digest, what was mirrored, and has copied again what it lost
    Verify(verify::Arguments),
    /// Looks at the mirror registry itself: will it do?
    Mirror(mirror::Arguments),
    /// Checks image set files, all problems of all files at once; without a daemon or a network, or those that the daemon watches
    Validate(validate::Arguments),
    /// Asks the update service which releases there are, and how one gets from one to another
    Releases(releases::Arguments),
    /// Looks at operator catalogs, and at what an image set keeps of them
    Catalog(catalog::Arguments),
    /// Makes bearer tokens, with which clients say who they are
    Token(token::Arguments),
    /// Says the version of this binary, and of the daemon where one answers
    Version(version::Arguments),
    /// Prints the completions for a shell
    Completions(manual::Completions),
    /// Writes the man pages into a folder, one a verb
    Man(manual::Man),
}

/// Reads the command line, does what it says, and returns how that ended.
pub async fn main(arguments: Vec<OsString>) -> ExitCode {
    let json = wants_json(&arguments);
    let cli = match parse(&arguments) {
        Ok(cli) => cli,
        Err(error) => return misread(&error, json),
    };
    let exit = match run(cli.verb).await {
        Ok(exit) => exit,
        Err(failure) => report(&failure, json),
    };
    exit.into()
}

async fn run(verb: Verb) -> Result<Exit, Failure> {
    match verb {
        Verb::Init(arguments) => init::run(arguments),
        Verb::Serve(arguments) => serving::run(arguments).await,
        Verb::Once(arguments) => {
            let order = arguments.order()?;
            serving::log(&order.log_level, serve::LogFormat::Text)?;
            round::run(order).await
        }
        Verb::Plan(arguments) => plan::run(arguments).await,
        Verb::Apply(arguments) => apply::run(arguments).await,
        Verb::Status(arguments) => status::run(arguments).await,
        Verb::Runs(arguments) => runs::run(arguments).await,
        Verb::Events(arguments) => events::run(arguments).await,
        Verb::Resources(arguments) => resources::run(arguments).await,
        Verb::Adopt(arguments) => adopt::run(arguments).await,
        Verb::Cluster(arguments) => cluster::run(arguments).await,
        Verb::Mirror(arguments) => mirror::run(arguments).await,
        Verb::Verify(arguments) => verify::run(arguments).await,
        Verb::Validate(arguments) => validate::run(&arguments).await,
        Verb::Releases(arguments) => releases::answer(arguments).await,
        Verb::Catalog(arguments) => catalog::run(arguments).await,
        Verb::Token(arguments) => token::run(arguments),
        Verb::Version(arguments) => version::run(arguments).await,
        Verb::Completions(arguments) => manual::completions(&arguments, command()),
        Verb::Man(arguments) => manual::man(&arguments, command()),
    }
}

fn parse(arguments: &[OsString]) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches_from(arguments)?)
}

/// The definitions of all verbs.
fn command() -> Command {
    taking_connection(Cli::command())
}

/// Has verbs that need no daemon take the connection options too, unseen, so that scripts can give them to all verbs alike.
fn taking_connection(command: Command) -> Command {
    if command.has_subcommands() {
        return command.mut_subcommands(taking_connection);
    }
    if command
        .get_arguments()
        .any(|arg| arg.get_id() == "endpoint")
    {
        return command;
    }
    let options = Connection::augment_args(Command::new(""));
    command.args(options.get_arguments().map(|arg| arg.clone().hide(true)))
}

/// Whether the answer is wanted as JSON, told from the words alone: also where they make no sense the error must have that form.
fn wants_json(arguments: &[OsString]) -> bool {
    let words: Vec<_> = arguments
        .iter()
        .map(|word| word.to_string_lossy())
        .collect();
    let apart = words
        .windows(2)
        .any(|pair| matches!(&*pair[0], "--output" | "-o") && pair[1] == "json");
    apart
        || words
            .iter()
            .any(|word| matches!(&**word, "--output=json" | "-ojson" | "-o=json"))
}

/// Says what is wrong with the command line, or prints the help that was asked for.
fn misread(error: &clap::Error, json: bool) -> ExitCode {
    let asked_for = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if json && !asked_for {
        let text = error.to_string();
        let text = text.trim();
        let said = text.strip_prefix("error: ").unwrap_or(text);
        return report(&Failure::usage(said), true).into();
    }
    // Where even that cannot be printed nobody is left to tell.
    let _ = error.print();
    if asked_for {
        Exit::Done.into()
    } else {
        Exit::Usage.into()
    }
}

/// Reports a failure: a sentence on stderr for people, the document on stdout for machines.
fn report(failure: &Failure, json: bool) -> Exit {
    match json {
        true => {
            let _ = output::document(&failure.document());
        }
        false => output::say(&format!("error: {failure}")),
    }
    failure.exit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        command().debug_assert();
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn json_is_wanted_however_it_is_written() {
        for line in [
            "imagesetd plan --output json",
            "imagesetd plan -o json x",
            "imagesetd plan --output=json",
            "imagesetd plan -ojson",
        ] {
            assert!(wants_json(&words(line)), "{line}");
        }
        assert!(!wants_json(&words("imagesetd plan json --output text")));
    }

    #[test]
    fn what_people_type_is_read() {
        let lines = [
            "init --mirror m.lan:5000/ocp --directory /srv/sets --authfile /a.json",
            "plan",
            "plan prod/ocp --refresh",
            "plan -c . --output markdown",
            "plan show 4f1c9a --steps --documents",
            "apply",
            "apply 4f1c9a --detach",
            "apply prod/ocp --timeout 2h",
            "status prod/ocp --wait ready --timeout 2h",
            "status --wait ready --revision 0123456",
            "events --follow --output ndjson --kind run_failed",
            "runs list prod/ocp --limit 3",
            "runs show 9a3c",
            "runs watch 9a3c --timeout 5m",
            "runs cancel 9a3c -o json",
            "resources",
            "resources prod/ocp --kind ImageDigestMirrorSet",
            "resources list",
            "resources retire prod/ocp --dry-run",
            "validate a.yaml prod -o json",
            "verify",
            "mirror check",
            "adopt --cluster-resources dir",
            "adopt prod/ocp --cluster-resources dir --to m.lan/ocp4/openshift4 --dry-run -o json",
            "mirror check --config /s.yaml --read-only -o json",
            "mirror check --to m.lan/ocp --authfile /a --dest-cert-dir /c --dest-tls-verify=false",
            "verify prod/ocp app --depth deep --repair -o json",
            "validate --watched",
            "version --endpoint http://127.0.0.1:9000",
            "catalog list r.io/x:1 --package p --channel c -o json",
            "catalog filter -c a.yaml --catalog /srv/catalog --state /s -o fbc",
            "token new ci --rights plan --add-to /etc/imagesetd/tokens --write-to ci.token",
            "status --endpoint https://h:1 --ca-file a --client-cert b --client-key c --server-name n --token-file t",
            "completions bash",
            "man /tmp/man",
            "cluster registries-conf --base r.conf --insecure a.io --insecure b.io --blocked c.io a.yaml d",
            "cluster explain quay.io/a/b:1 a.yaml",
            "cluster explain quay.io/a/b:1 --registries-conf r.conf -o json",
            "cluster explain quay.io/a/b:1 live --endpoint http://127.0.0.1:9000",
            "cluster impact old new --snapshot c.yaml",
            "cluster snapshot prod-a c.yaml d -o json",
            "cluster snapshot prod-a -",
            "resources publish prod --dry-run",
            "resources publish prod --yes -o json",
            "releases path --channel stable-4.16 --from 4.16.1 --to 4.16.9 --live --endpoint http://127.0.0.1:9000",
            "cluster check a.yaml -o json",
            "cluster coverage - --rules a.yaml",
            "cluster coverage a.yaml --live",
            "cluster install-config --version 4.16 --base i.yaml --pull-secret a --pull-secret b",
            "cluster pull-secret merge a b --for-mirror m.lan:5000",
            "cluster migrate-icsp a.yaml --dest-dir d --published live",
        ];
        for line in lines {
            let parsed = parse(&words(&format!("imagesetd {line}")));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let lines = [
            "",
            "status --timeout 2h",
            "status --request-timeout 0s",
            "validate",
            "validate a.yaml --watched",
            "apply x --detach --timeout 2h",
            "mirror check --authfile /a",
            "plan --token secret",
            "resources retire prod/ocp --dry-run --yes",
            "runs list --limit 0",
            "status --client-cert a.pem",
            "catalog list r.io/x:1 --channel c",
            "cluster explain quay.io/a/b:1",
            "cluster snapshot prod-a",
            "resources publish",
            "resources publish prod --dry-run --yes",
            "cluster coverage a.yaml",
            "cluster coverage a.yaml --live --rules b.yaml",
            "cluster install-config --version 3.11",
            "token new ci",
            "token new c/i --rights plan",
            "token new ci --rights write",
        ];
        for line in lines {
            assert!(
                parse(&words(&format!("imagesetd {line}"))).is_err(),
                "{line}"
            );
        }
    }

    #[test]
    fn every_verb_takes_the_connection_options() {
        let lines = [
            "init --mirror m.lan/ocp --directory /srv/sets",
            "serve --check",
            "once -c a.yaml --to m.lan --state /s --resources /r",
            "validate a.yaml",
            "releases list --channel stable-4.16",
            "releases path --channel stable-4.16 --from 4.16.1 --to 4.16.2",
            "version",
            "completions bash",
            "man /tmp/man",
            "plan",
            "plan show 4f1c",
            "apply 4f1c",
            "status",
            "runs list",
            "runs show 9a",
            "runs watch 9a",
            "runs cancel 9a",
            "resources",
            "resources print",
            "resources list",
            "resources retire a",
            "verify",
        ];
        let connection = "--endpoint https://m.lan:9443 --token-file /t --ca-file /ca --client-cert /c --client-key /k --server-name n --request-timeout 5s";
        for line in lines {
            let parsed = parse(&words(&format!("imagesetd {line} {connection}")));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
        let help = |verb: &str| {
            let mut command = command();
            let verb = command.find_subcommand_mut(verb).unwrap();
            verb.render_long_help().to_string()
        };
        assert!(help("status").contains("--endpoint"));
        assert!(!help("token").contains("--endpoint"));
    }

    #[test]
    fn help_of_every_verb_says_what_it_does() {
        fn check(command: &clap::Command) {
            assert!(
                command.get_about().is_some(),
                "{} has no help",
                command.get_name()
            );
            let about = command.get_about().unwrap().to_string();
            assert!(!about.contains("See ["), "{}: {about}", command.get_name());
            for argument in command
                .get_arguments()
                .filter(|argument| !argument.is_hide_set())
            {
                let help = argument
                    .get_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(
                    !help.is_empty() && !help.contains("See ["),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&command());
    }
}
