//! `releases list` and `releases path`: what update services offer, asked directly; no daemon is needed.

mod way;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
};

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use semver::Version;
use serde::Serialize;
use url::Url;

use crate::{
    cli::{
        connect::Connection,
        failure::{Exit, Failure},
        files,
        output::Output,
    },
    model::{
        image::Reference,
        imageset::{Channel, ChannelType, ImageSet, PlatformSpec},
        release::{
            across::{Across, across},
            path::{self, ConditionalStep},
            select::{self, GraphKey, Graphs, Release, Selection, Unresolved},
            shown,
        },
    },
    resolve::update_service::{self, UpdateService},
};

pub use way::PathUpdate;

/// Looks at OpenShift releases in the update graphs.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Releases {
    /// List the releases that a channel, or image sets, stand for
    List(ListArgs),
    /// Show the shortest update path between two releases
    Path(PathArgs),
}

/// `releases list`.
#[derive(Debug, Clone, clap::Args)]
#[command(group = clap::ArgGroup::new("of").required(true).args(["config", "channel"]))]
pub struct ListArgs {
    /// List what the channels of these ImageSetConfigurations stand for
    #[arg(short = 'c', long, value_name = "ISC", conflicts_with_all = ["min", "max", "full", "channel_type"])]
    pub config: Vec<PathBuf>,
    /// List releases of this channel: its latest, unless a range or --full is given
    #[arg(long)]
    pub channel: Option<String>,
    /// The lowest version; it need not be in the channel
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub min: Option<Version>,
    /// The highest version; it need not be in the channel
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub max: Option<Version>,
    /// The whole channel from its first version on
    #[arg(long)]
    pub full: bool,
    /// An architecture, for instance amd64, arm64 or multi; may be given several times
    #[arg(long, value_name = "ARCH", value_delimiter = ',')]
    pub arch: Vec<String>,
    /// Let shortest paths lead over updates with known risks
    #[arg(long)]
    pub allow_conditional: bool,
    /// Where to ask.
    #[command(flatten)]
    pub service: ServiceArgs,
}

/// `releases path`.
#[derive(Debug, Clone, clap::Args)]
pub struct PathArgs {
    /// The channel that the path is looked for in
    #[arg(long)]
    pub channel: String,
    /// The channel that the path ends in, where that is another one
    #[arg(long, value_name = "CHANNEL")]
    pub to_channel: Option<String>,
    /// The version to begin at
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub from: Version,
    /// The version to end at
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub to: Version,
    /// The architecture, for instance amd64, arm64 or multi
    #[arg(long, value_name = "ARCH", default_value = "amd64")]
    pub arch: String,
    /// Let the path lead over updates with known risks
    #[arg(long)]
    pub allow_conditional: bool,
    /// Ask the daemon which of these releases have landed, and say how a cluster without an update service gets to them
    #[arg(long)]
    pub live: bool,
    /// Where to ask.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Where the daemon is.
    #[command(flatten)]
    pub connection: Connection,
}

/// Which update service is asked.
#[derive(Debug, Clone, clap::Args)]
pub struct ServiceArgs {
    /// Whose releases
    #[arg(long = "type", value_name = "TYPE", default_value = "ocp",
        value_parser = PossibleValuesParser::new(["ocp", "okd"]).map(|text| channel_type(&text)))]
    pub channel_type: ChannelType,
    /// The URL of an update service's graph, instead of Red Hat's and OKD's
    #[arg(
        long,
        value_name = "URL",
        env = "UPDATE_URL_OVERRIDE",
        hide_env_values = true
    )]
    pub update_url: Option<String>,
}

fn version(text: &str) -> Result<Version, &'static str> {
    text.parse()
        .map_err(|_| "three numbers, as in `4.17.1`, are expected")
}

fn channel_type(text: &str) -> ChannelType {
    match text {
        "okd" => ChannelType::Okd,
        _ => ChannelType::Ocp,
    }
}

/// Why there is no answer; the kind decides the exit code. The text is a sentence without a full stop.
#[derive(Debug, thiserror::Error)]
pub enum ReleasesError {
    /// The question makes no sense (exit code 2).
    #[error("{0}")]
    Usage(String),
    /// There is no such release, channel or path (exit code 3).
    #[error("{0}")]
    Precondition(String),
    /// The update service could not be asked (exit code 5).
    #[error("{0}")]
    Unavailable(String),
}

/// The answer; serialises to the document that scripts read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ReleasesOutput {
    /// Of `releases list`.
    List(ListOutput),
    /// Of `releases path`.
    Path(PathOutput),
}

/// The answer of `releases list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListOutput {
    /// Always 1.
    pub schema: u32,
    /// Lowest version first, then by architecture.
    pub releases: Vec<Listed>,
    /// Conditional updates that shortest paths lead over.
    pub conditional: Vec<ConditionalStep>,
    /// What could not be listed beside what could.
    pub unresolved: Vec<Unresolved>,
    /// What may not be what was meant, as sentences.
    pub warnings: Vec<String>,
}

/// A release in the answer of `releases list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The version.
    pub version: Version,
    /// The channel it was found in.
    pub channel: String,
    /// The architecture.
    pub arch: String,
    /// The payload image, by digest.
    pub image: Reference,
}

/// The answer of `releases path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathOutput {
    /// Always 1.
    pub schema: u32,
    /// From the first version to the last.
    pub path: Vec<Version>,
    /// The steps with known risks, in the order gone.
    pub conditional: Vec<ConditionalStep>,
    /// Of the daemon: how a cluster gets to each version but the first, in the order gone; nothing where it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updates: Option<Vec<PathUpdate>>,
}

impl ReleasesOutput {
    /// Whether something that was asked for is missing from the answer (exit code 6).
    pub fn is_partial(&self) -> bool {
        matches!(self, ReleasesOutput::List(list) if !list.unresolved.is_empty())
    }

    /// Returns the answer for people: whole lines.
    pub fn text(&self) -> String {
        match self {
            ReleasesOutput::List(list) => list.text(),
            ReleasesOutput::Path(path) => path.text(),
        }
    }
}

/// What the verb is given.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// List or path.
    #[command(subcommand)]
    verb: Releases,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t, global = true)]
    output: Output,
}

/// Runs the verb: reads the image sets of `-c`, asks, prints the answer.
pub async fn answer(arguments: Arguments) -> Result<Exit, Failure> {
    let sets = match &arguments.verb {
        Releases::List(args) if !args.config.is_empty() => files::image_sets(&args.config)?,
        _ => vec![],
    };
    let mut answer = run(&arguments.verb, &sets).await.map_err(failure)?;
    if let (Releases::Path(args), ReleasesOutput::Path(found)) = (&arguments.verb, &mut answer)
        && args.live
    {
        let arch = arch(&args.arch);
        found.updates = Some(way::updates(&args.connection, &found.path, &arch).await?);
    }
    let value = serde_json::to_value(&answer)
        .map_err(|e| Failure::precondition("UNREADABLE_ANSWER", e.to_string()))?;
    arguments.output.value(&value, || answer.text())?;
    Ok(if answer.is_partial() {
        Exit::Partial
    } else {
        Exit::Done
    })
}

fn failure(error: ReleasesError) -> Failure {
    match error {
        ReleasesError::Usage(text) => Failure::usage(text),
        ReleasesError::Precondition(text) => Failure::precondition("NO_SUCH_RELEASE", text),
        ReleasesError::Unavailable(text) => {
            Failure::new("UPDATE_SERVICE_UNAVAILABLE", tonic::Code::Unavailable, text)
        }
    }
}

/// Asks the update services and answers.
///
/// `sets` are the image sets of `-c`, read and checked by the caller; they are not looked at otherwise. Needs rustls' default
/// crypto provider installed.
pub async fn run(verb: &Releases, sets: &[ImageSet]) -> Result<ReleasesOutput, ReleasesError> {
    match verb {
        Releases::List(args) if args.channel.is_none() => {
            list_sets(args, sets).await.map(ReleasesOutput::List)
        }
        Releases::List(args) => list_channel(args).await.map(ReleasesOutput::List),
        Releases::Path(args) => find_path(args).await.map(ReleasesOutput::Path),
    }
}

/// Lists what a channel stands for.
async fn list_channel(args: &ListArgs) -> Result<ListOutput, ReleasesError> {
    if let (Some(min), Some(max)) = (&args.min, &args.max)
        && min.cmp_precedence(max).is_gt()
    {
        let text = format!("--min {min} is above --max {max}; swap the two");
        return Err(ReleasesError::Usage(text));
    }
    let spec = PlatformSpec {
        architectures: archs(&args.arch),
        channels: vec![Channel {
            name: args.channel.clone().unwrap_or_default(),
            channel_type: args.service.channel_type,
            min_version: args.min.clone(),
            max_version: args.max.clone(),
            shortest_path: false,
            full: args.full,
        }],
        ..PlatformSpec::default()
    };
    let mut asker = Asker::new(&args.service)?;
    let selection = asker.select(&spec, args.allow_conditional).await;
    asker.listed(vec![selection])
}

/// Lists what the channels of image sets stand for, each release once.
pub async fn list_sets(args: &ListArgs, sets: &[ImageSet]) -> Result<ListOutput, ReleasesError> {
    let mut asker = Asker::new(&args.service)?;
    let mut selections = Vec::new();
    for set in sets {
        let mut spec = set.platform.clone();
        if !args.arch.is_empty() {
            spec.architectures = archs(&args.arch);
            spec.platforms.clear();
        }
        let mut selection = asker.select(&spec, args.allow_conditional).await;
        if let Some(release) = &spec.release {
            selection.warnings.push(format!(
                "it names its release as {release}, which no update service is asked about"
            ));
        }
        if sets.len() > 1 {
            attribute(&mut selection, set);
        }
        selections.push(selection);
    }
    asker.listed(selections)
}

/// Says of which image set what is told is.
fn attribute(selection: &mut Selection, set: &ImageSet) {
    for unresolved in &mut selection.unresolved {
        unresolved.subject = format!("{}: {}", set.name, unresolved.subject);
    }
    for warning in &mut selection.warnings {
        *warning = format!("{}: {warning}", set.name);
    }
}

async fn find_path(args: &PathArgs) -> Result<PathOutput, ReleasesError> {
    let key = |channel: &str| GraphKey {
        channel_type: args.service.channel_type,
        channel: channel.to_owned(),
        arch: arch(&args.arch),
    };
    let from = key(&args.channel);
    let to = args.to_channel.as_deref().map_or(from.clone(), key);
    let mut asker = Asker::new(&args.service)?;
    let found = asker.path(args, &from, &to).await?;
    Ok(PathOutput {
        schema: 1,
        path: found.versions,
        conditional: found.conditional,
        updates: None,
    })
}

/// Asks for graphs until what is wanted can be told.
struct Asker {
    service: UpdateService,
    graphs: Graphs,
}

impl Asker {
    fn new(args: &ServiceArgs) -> Result<Self, ReleasesError> {
        let update_url = args.update_url.as_deref().filter(|url| !url.is_empty());
        let base = |default: &str| {
            let text = update_url.unwrap_or(default);
            // The text is not repeated: it may hold credentials.
            text.parse::<Url>().map_err(|error| {
                ReleasesError::Usage(format!(
                    "--update-url (or UPDATE_URL_OVERRIDE) is not a URL: {error}"
                ))
            })
        };
        let (ocp, okd) = (base(update_service::OCP)?, base(update_service::OKD)?);
        let service = UpdateService::new(ocp, okd, update_service::Options::default());
        Ok(Asker {
            service: service.map_err(|error| ReleasesError::Usage(error.to_string()))?,
            graphs: Graphs::new(),
        })
    }

    async fn fetch(&mut self, needed: BTreeSet<GraphKey>) {
        self.graphs.extend(self.service.graphs(needed).await);
    }

    async fn select(&mut self, spec: &PlatformSpec, allow_conditional: bool) -> Selection {
        let options = select::Options { allow_conditional };
        loop {
            match select::select(spec, &self.graphs, options) {
                Ok(selection) => return selection,
                Err(needed) => self.fetch(needed).await,
            }
        }
    }

    async fn path(
        &mut self,
        args: &PathArgs,
        from: &GraphKey,
        to: &GraphKey,
    ) -> Result<path::Path, ReleasesError> {
        let named: BTreeSet<GraphKey> = [from.clone(), to.clone()].into();
        self.fetch(named.clone()).await;
        for key in &named {
            if let Some(Err(reason)) = self.graphs.get(key) {
                return Err(ReleasesError::Unavailable(reason.clone()));
            }
        }
        if from == to {
            let graphs: Vec<_> = self.graphs.values().flatten().map(AsRef::as_ref).collect();
            return path::path(&graphs, &args.from, &args.to, args.allow_conditional)
                .map_err(|error| ReleasesError::Precondition(format!("{from}: {error}")));
        }
        let named = [from.clone(), to.clone()];
        loop {
            let (low, high) = ((from, &args.from), (to, &args.to));
            match across(&named, low, high, &self.graphs, args.allow_conditional) {
                Across::Found(path, _) => return Ok(path),
                Across::Needs(needed) => self.fetch(needed).await,
                Across::None(reason) => {
                    let text = format!("{from} and {}: {reason}", to.channel);
                    return Err(self.failure(text));
                }
            }
        }
    }

    /// Joins selections into one answer; where nothing at all was found it is an error.
    fn listed(&self, selections: Vec<Selection>) -> Result<ListOutput, ReleasesError> {
        let mut releases: BTreeMap<(Version, String, ChannelType), Release> = BTreeMap::new();
        let mut conditional = BTreeSet::new();
        let (mut unresolved, mut warnings) = (Vec::new(), Vec::new());
        for selection in selections {
            for release in selection.releases {
                let key = (
                    release.version.clone(),
                    release.arch.clone(),
                    release.channel_type,
                );
                releases.entry(key).or_insert(release);
            }
            conditional.extend(selection.conditional);
            unresolved.extend(selection.unresolved);
            warnings.extend(selection.warnings);
        }
        if releases.is_empty() && !unresolved.is_empty() {
            let reasons: Vec<String> = unresolved.iter().map(sentence).collect();
            return Err(self.failure(reasons.join("\n")));
        }
        Ok(ListOutput {
            schema: 1,
            releases: releases.into_values().map(Listed::of).collect(),
            conditional: conditional.into_iter().collect(),
            unresolved,
            warnings,
        })
    }

    /// Without all graphs it is not known whether something does not exist.
    fn failure(&self, text: String) -> ReleasesError {
        if self.graphs.values().any(Result::is_err) {
            ReleasesError::Unavailable(text)
        } else {
            ReleasesError::Precondition(text)
        }
    }
}

fn sentence(unresolved: &Unresolved) -> String {
    format!("{}: {}", unresolved.subject, unresolved.reason)
}

impl Listed {
    fn of(release: Release) -> Self {
        Listed {
            version: release.version,
            channel: release.channel,
            arch: release.arch,
            image: release.image,
        }
    }
}

impl ListOutput {
    fn text(&self) -> String {
        let head = ["VERSION", "CHANNEL", "ARCH", "IMAGE"].map(str::to_owned);
        let rows = self.releases.iter().map(|r| {
            let channel = shown(&r.channel);
            [
                r.version.to_string(),
                channel,
                shown(&r.arch),
                r.image.to_string(),
            ]
        });
        let mut text = table(std::iter::once(head).chain(rows).collect());
        text.push_str(&risks(&self.conditional));
        for unresolved in &self.unresolved {
            let _ = writeln!(text, "\nnot found out: {}", sentence(unresolved));
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "\nwarning: {warning}");
        }
        text
    }
}

impl PathOutput {
    fn text(&self) -> String {
        let mut text: String = self.path.iter().map(|v| format!("{v}\n")).collect();
        text.push_str(&risks(&self.conditional));
        text.push_str(&way::text(self.updates.as_deref().unwrap_or_default()));
        text
    }
}

/// Aligns columns, two spaces apart.
fn table(rows: Vec<[String; 4]>) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (a, b, c) = (width(0), width(1), width(2));
    rows.iter()
        .map(|[version, channel, arch, image]| {
            format!("{version:a$}  {channel:b$}  {arch:c$}  {image}\n")
        })
        .collect()
}

/// Tells each conditional step with its risks; nothing where there is none.
fn risks(conditional: &[ConditionalStep]) -> String {
    let mut text = String::new();
    for step in conditional {
        let _ = writeln!(text, "\n{} -> {} has known risks:", step.from, step.to);
        for risk in &step.risks {
            let (name, message) = (shown(&risk.name), shown(&risk.message));
            let _ = writeln!(text, "  {name}: {message}\n    {}", shown(&risk.url));
        }
    }
    text
}

/// Returns the architectures in the update service's words; the machine names are understood too.
fn archs(given: &[String]) -> Vec<String> {
    given.iter().map(|text| arch(text)).collect()
}

fn arch(given: &str) -> String {
    match given {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        other => other.to_owned(),
    }
}
