//! `imagesetd cluster migrate-icsp`: from the old kind of mirror object to the new one.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use crate::{
    cli::{
        cluster::inputs,
        connect::Connection,
        failure::{Exit, Failure},
        output,
    },
    cluster::{
        migrate::{self, Migrated},
        objects::Objects,
    },
};

/// Makes ImageDigestMirrorSets of ImageContentSourcePolicies.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// ImageContentSourcePolicies, other objects between them or not: files, folders, or `-` for standard input
    #[arg(value_name = "FILE|DIR", required = true)]
    paths: Vec<PathBuf>,
    /// Folder to write a file for each object into, instead of standard output
    #[arg(long, value_name = "DIR")]
    dest_dir: Option<PathBuf>,
    /// Documents of imagesetd, or `live` for what the daemon has published: says which entries these cover already
    #[arg(long, value_name = "FILE|DIR|live")]
    published: Vec<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let files = inputs::documents(&arguments.paths)?;
    let old = Objects::read(&files);
    inputs::refuse_errors(&old)?;
    let migrated = migrate::migrate(&files);
    if migrated.is_empty() {
        return Err(Failure::precondition(
            "NOTHING_TO_MIGRATE",
            "there is no ImageContentSourcePolicy in what was given",
        ));
    }
    for object in &migrated {
        for note in &object.notes {
            output::say(&format!("{}: {note}", object.name));
        }
    }
    if !arguments.published.is_empty() {
        let published =
            inputs::objects_or_live(&arguments.published, &arguments.connection).await?;
        migrate::covered(&old, &published)
            .iter()
            .for_each(|line| output::say(line));
    }
    match &arguments.dest_dir {
        Some(folder) => write(folder, &migrated)?,
        None => {
            let text: String = migrated.iter().map(|object| object.text.as_str()).collect();
            output::write(&text)?;
        }
    }
    Ok(Exit::Done)
}

/// Writes a file for each object. A file that is there with another content is somebody's work, and stays.
fn write(folder: &Path, migrated: &[Migrated]) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::local(format!("creating {}", folder.display()), &error))?;
    for object in migrated {
        let path = folder.join(format!("idms-{}.yaml", file_stem(&object.name)));
        let made = OpenOptions::new().write(true).create_new(true).open(&path);
        let written = match made {
            Ok(mut file) => file.write_all(object.text.as_bytes()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let same = std::fs::read(&path).is_ok_and(|is| is == object.text.as_bytes());
                match same {
                    true => Ok(()),
                    false => {
                        return Err(Failure::precondition(
                            "FILE_EXISTS",
                            format!(
                                "{} is there with another content; move it away, or choose another --dest-dir",
                                path.display()
                            ),
                        ));
                    }
                }
            }
            Err(error) => Err(error),
        };
        written.map_err(|error| Failure::local(format!("writing {}", path.display()), &error))?;
        output::say(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// An object's name can be trusted as little as the rest of a file: what is no letter, digit, dot or dash becomes a dash.
fn file_stem(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let stem: String = name
        .chars()
        .take(200)
        .map(|c| if fits(c) { c } else { '-' })
        .collect();
    stem.trim_start_matches('.').to_owned()
}
