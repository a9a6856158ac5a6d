//! `catalog filter`: what an image set keeps of its catalogs.

use std::{fmt::Write as _, io::Write as _, path::PathBuf};

use serde_json::{Value, json};

use super::{Reaching, origin, unread};
use crate::{
    cli::{
        failure::{Exit, Failure},
        files, output,
        text::table,
    },
    model::catalog::{
        filter::Why,
        pack::PackError,
        render,
        select::{Selected, SelectedPackage},
    },
    reconcile::{LookError, Looked},
};

/// `catalog filter`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Arguments {
    /// ImageSetConfiguration file
    #[arg(long, short, value_name = "ISC")]
    config: PathBuf,
    /// Read this catalog in place of the image set's only one
    #[arg(long, value_name = "IMAGE|oci://DIR|DIR")]
    catalog: Option<String>,
    #[command(flatten)]
    reaching: Reaching,
    /// Form of the answer: a table, one JSON document, or the filtered catalog as a stream of documents that `opm` reads
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
}

/// Who reads the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Text for people; its wording may change.
    #[default]
    Table,
    /// One JSON document for scripts, `{"schema":1, ...}`.
    Json,
    /// The documents of the filtered catalogs.
    Fbc,
}

/// Runs the verb.
pub(super) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let sets = files::image_sets(std::slice::from_ref(&arguments.config))?;
    let given = arguments.catalog.as_deref().map(origin).transpose()?;
    let all: usize = sets.iter().map(|set| set.operators.len()).sum();
    match (all, &given) {
        (0, _) => {
            let none = "the image set has no `operators`; there is nothing to filter";
            return Err(Failure::precondition("NO_OPERATORS", none));
        }
        (2.., Some(_)) => {
            return Err(Failure::usage(format!(
                "the image sets of the file name {all} catalogs, and `--catalog` takes the place of one only"
            )));
        }
        _ => {}
    }
    let reader = arguments.reaching.reader()?;
    let mut found = Vec::new();
    for set in sets.iter().filter(|set| !set.operators.is_empty()) {
        let looked = reader.filter(set, given.as_ref()).await;
        found.extend(looked.map_err(unread)?);
    }
    match arguments.output {
        Form::Table => output::print(&text(&found))?,
        Form::Json => output::document(&document(&found))?,
        Form::Fbc => documents(&mut found)?,
    }
    let mut wrong = false;
    for one in &found {
        for problem in one.selected.problems.values() {
            wrong = true;
            output::say(&format!("error: {}: {problem}", one.operator.catalog));
        }
        for (bundle, why) in stalled(&one.selected) {
            wrong = true;
            output::say(&format!("error: {}: {bundle}: {why}", one.operator.catalog));
        }
    }
    Ok(if wrong {
        Exit::Precondition
    } else {
        Exit::Done
    })
}

fn stalled(selected: &Selected) -> impl Iterator<Item = (&String, &String)> {
    selected
        .packages
        .values()
        .flat_map(|package| &package.stalled)
}

/// Writes the documents of all filtered catalogs, one after another.
fn documents(found: &mut [Looked]) -> Result<(), Failure> {
    enum Stopped {
        Pack(PackError),
        Write(std::io::Error),
    }
    impl From<PackError> for Stopped {
        fn from(error: PackError) -> Self {
            Stopped::Pack(error)
        }
    }
    let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
    for one in found {
        let written = render::documents(&mut one.catalog, &one.selected, |_, bytes| {
            let ended = stdout
                .write_all(&bytes)
                .and_then(|()| stdout.write_all(b"\n"));
            ended.map_err(Stopped::Write)
        });
        match written {
            Ok(()) => {}
            Err(Stopped::Pack(error)) => return Err(unread(LookError::from(error))),
            // A reader that went away (`| head`) is no failure.
            Err(Stopped::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            Err(Stopped::Write(error)) => return Err(Failure::local("writing to stdout", &error)),
        }
    }
    match stdout.flush() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::local("writing to stdout", &error))
        }
        _ => Ok(()),
    }
}

fn document(found: &[Looked]) -> Value {
    let catalogs = found.iter().map(|one| {
        let selected = &one.selected;
        let packages = selected.packages.iter().map(|(name, package)| {
            json!({
                "name": name,
                "default_channel": package.default_channel,
                "channels": package.channels.iter().map(|(name, channel)| json!({
                    "name": name, "head": channel.head, "bundles": channel.entries,
                })).collect::<Vec<_>>(),
                "bundles": package.bundles.iter().map(|(name, bundle)| json!({
                    "name": name, "version": bundle.version, "why": bundle.why,
                })).collect::<Vec<_>>(),
                "stalled": package.stalled,
            })
        });
        json!({
            "catalog": one.operator.catalog,
            "original": selected.original,
            "packages": packages.collect::<Vec<_>>(),
            "problems": selected.problems.iter().map(|(package, message)| json!({
                "package": package, "message": message,
            })).collect::<Vec<_>>(),
            "warnings": selected.warnings,
            "unsatisfied": selected.unsatisfied,
        })
    });
    json!({"schema": 1, "catalogs": catalogs.collect::<Vec<_>>()})
}

fn text(found: &[Looked]) -> String {
    let mut text = String::new();
    for one in found {
        if !text.is_empty() {
            text.push('\n');
        }
        let selected = &one.selected;
        let bundles: usize = selected.packages.values().map(|p| p.bundles.len()).sum();
        let _ = writeln!(
            text,
            "{}: {}, {}{}",
            one.operator.catalog,
            crate::cli::text::count(selected.packages.len() as u64, "package"),
            crate::cli::text::count(bundles as u64, "bundle"),
            if selected.original {
                ", the catalog as it is"
            } else {
                ""
            }
        );
        if !selected.packages.is_empty() {
            text += &table(&rows(selected));
        }
        for unsatisfied in &selected.unsatisfied {
            let _ = writeln!(
                text,
                "not satisfied: {} requires {}: {}",
                unsatisfied.bundle, unsatisfied.requires, unsatisfied.reason
            );
        }
        for warning in &selected.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
    }
    text
}

fn rows(selected: &Selected) -> Vec<Vec<String>> {
    let head = ["PACKAGE", "CHANNEL", "VERSION", "BUNDLE", "WHY"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (name, package) in &selected.packages {
        for (channel, part) in &package.channels {
            let mut entries: Vec<&String> = part.entries.iter().collect();
            // The head first: it is what gets installed.
            entries.sort_by_key(|entry| (**entry != part.head, (*entry).clone()));
            for entry in entries {
                rows.push(row(name, package, channel, entry));
            }
        }
    }
    rows
}

fn row(name: &str, package: &SelectedPackage, channel: &str, entry: &str) -> Vec<String> {
    let star = if channel == package.default_channel {
        " (default)"
    } else {
        ""
    };
    let bundle = package.bundles.get(entry);
    vec![
        name.to_owned(),
        format!("{channel}{star}"),
        bundle.map(|b| b.version.clone()).unwrap_or_default(),
        entry.to_owned(),
        bundle.map(|b| why(&b.why)).unwrap_or_default(),
    ]
}

fn why(why: &Why) -> String {
    match why {
        Why::Head => "head of the channel".to_owned(),
        Why::Range => "in the range".to_owned(),
        Why::Full => "everything is wanted".to_owned(),
        Why::Between => "updates lead over it".to_owned(),
        Why::Dependency {
            bundle, requires, ..
        } => format!("{bundle} requires {requires}"),
    }
}
