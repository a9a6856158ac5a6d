//! Keeps the pages together: a link between them leads to a page, and to a heading of it. Keeps them complete: what people can
//! write in the settings, type on the command line or call over gRPC stands in them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use clap::CommandFactory;
use imagesetd::cli::Cli;

/// Returns the pages that people read.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).expect("there are pages in docs");
    let docs = docs.map(|entry| entry.expect("docs can be listed").path());
    let mut pages: Vec<PathBuf> = docs
        .filter(|p| p.extension().is_some_and(|e| e == "md"))
        .collect();
    pages.extend(["README.md", "CHANGELOG.md"].map(|name| root.join(name)));
    pages.sort();
    pages
}

/// Returns the targets of all links of a page, code left out.
fn links(text: &str) -> Vec<&str> {
    let mut code = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    });
    lines
        .flat_map(|line| line.split("](").skip(1))
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

/// Returns the anchors of a page's headings, as forges make them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|l| l.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
    headings
        .map(|l| l.trim_start_matches('#').trim().to_lowercase())
        .map(|l| l.chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

/// Returns why a link of `page` leads nowhere.
fn broken(page: &Path, link: &str) -> Option<String> {
    if link.contains("://") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => page.to_owned(),
        file => page.parent()?.join(file),
    };
    let found = match fs::read_to_string(&target) {
        Ok(text) => anchor.is_empty() || anchors(&text).iter().any(|a| a == anchor),
        Err(_) => target.is_dir(),
    };
    (!found).then(|| format!("{}: the link `{link}` leads nowhere", page.display()))
}

#[test]
fn links_between_pages_lead_somewhere() {
    let pages = pages();
    let broken: Vec<String> = pages
        .iter()
        .flat_map(|page| {
            let text = fs::read_to_string(page).expect("a page is UTF-8");
            let links = links(&text)
                .into_iter()
                .filter_map(|link| broken(page, link));
            links.collect::<Vec<_>>()
        })
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn link_to_a_missing_page_or_heading_is_named() {
    let text = "# One: `two`!\n[a](b.md) and [c](README.md#d)\n```sh\n[e](f)\n```\n";
    assert_eq!(links(text), ["b.md", "README.md#d"]);
    assert_eq!(anchors(text), ["one-two"]);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    assert!(broken(&page, "no-such-page.md").is_some());
    assert!(broken(&page, "#no-such-heading").is_some());
    assert_eq!(broken(&page, "#daily-use"), None);
    assert_eq!(broken(&page, "docs/install.md#state"), None);
}

/// Returns a file of the repository.
fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Returns those of `words` that `page` does not have as code.
fn missing(page: &str, words: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let words = words.into_iter().collect::<BTreeSet<_>>();
    assert!(!words.is_empty());
    words
        .into_iter()
        .filter(|word| !page.contains(&format!("`{word}`")))
        .collect()
}

/// Returns the keys of the annotated example's top level, commented out or not.
fn settings() -> Vec<String> {
    let example = text("packaging/imagesetd.yaml");
    let lines = example
        .lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line));
    let keys = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(k, _)| k);
    let is_key =
        |key: &&str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    keys.filter(is_key).map(str::to_owned).collect()
}

#[test]
fn every_key_of_the_settings_has_its_place() {
    let keys = settings();
    assert!(keys.contains(&"target".to_owned()) && keys.contains(&"retries".to_owned()));
    assert_eq!(missing(&text("docs/settings.md"), keys), BTreeSet::new());
}

#[test]
fn every_verb_is_named() {
    let all: String = pages()
        .iter()
        .map(|page| fs::read_to_string(page).expect("a page is UTF-8"))
        .collect();
    let verbs = Cli::command();
    let unnamed: Vec<_> = verbs
        .get_subcommands()
        .map(|verb| format!("imagesetd {}", verb.get_name()))
        .filter(|line| !all.contains(line))
        .collect();
    assert_eq!(unnamed, Vec::<String>::new());
}

#[test]
fn every_flag_of_oc_mirror_is_explained() {
    let verbs = Cli::command();
    let once = verbs.find_subcommand("once").expect("there is such a verb");
    let flags = once
        .get_arguments()
        .filter_map(|argument| Some(format!("--{}", argument.get_long()?)));
    let page = text("docs/once.md");
    let unnamed: Vec<_> = flags.filter(|flag| !page.contains(flag)).collect();
    assert_eq!(unnamed, Vec::<String>::new());
}

#[test]
fn every_call_is_listed() {
    let proto = text("proto/imageset/v1/mirror.proto");
    let calls = proto
        .lines()
        .filter_map(|line| line.trim().strip_prefix("rpc ")?.split_once('('))
        .map(|(name, _)| name.to_owned());
    assert_eq!(missing(&text("docs/api.md"), calls), BTreeSet::new());
}

/// Codes of gRPC, which an error has beside its word.
const CODES: [&str; 16] = [
    "ABORTED",
    "ALREADY_EXISTS",
    "CANCELLED",
    "DATA_LOSS",
    "DEADLINE_EXCEEDED",
    "FAILED_PRECONDITION",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "OUT_OF_RANGE",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
    "UNKNOWN",
    "X",
];

/// Returns the words in capitals that stand between quotes.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    let is_word = |word: &&str| {
        word.len() > 4
            && word.contains('_')
            && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
    };
    text.split('"').filter(is_word).map(str::to_owned)
}

/// Returns the reasons of the API, which stand before the service.
fn reasons() -> impl Iterator<Item = String> {
    let proto = text("proto/imageset/v1/mirror.proto");
    let list = proto
        .split_once("The reasons:")
        .and_then(|(_, rest)| rest.split_once("Every call may end"))
        .expect("the reasons are listed")
        .0;
    let words = list.split(|c: char| !c.is_ascii_uppercase() && c != '_');
    let words: Vec<String> = words
        .filter(|word| word.len() > 4)
        .map(str::to_owned)
        .collect();
    words.into_iter()
}

#[test]
fn every_word_that_a_task_fails_with_is_in_the_guide() {
    let collection = "ansible/ansible_collections/imagesetd/mirror";
    let folders = ["plugins/modules", "plugins/module_utils"].map(|name| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(collection);
        fs::read_dir(folder.join(name)).expect("the collection has plugins")
    });
    let plugins = folders.into_iter().flatten().flat_map(|entry| {
        let path = entry.expect("the collection can be listed").path();
        let is_python = path.extension().is_some_and(|end| end == "py");
        let source = match is_python {
            true => fs::read_to_string(path).expect("a plugin is UTF-8"),
            false => String::new(),
        };
        quoted(&source).collect::<Vec<_>>()
    });
    // Of the client what its verbs for modules can say.
    let client =
        "connect patience failure watch apply status runs verify validate resources plan/mod";
    let client = client
        .split(' ')
        .flat_map(|file| quoted(&text(&format!("src/cli/{file}.rs"))).collect::<Vec<_>>());
    let others = [
        "DRIFT",
        "PARTIAL",
        "RUN_CANCELLED",
        "RUN_FAILED",
        "RUN_INTERRUPTED",
        "UNRESOLVED",
        "UNEXPECTED",
        "UNFIT",
        "USAGE",
        "RESOLVE_ENDLESS",
    ];
    let words = plugins
        .chain(client)
        .chain(reasons())
        .chain(others.map(str::to_owned))
        .filter(|word| !word.starts_with("IMAGESETD_") && !word.starts_with("CARGO_"))
        // The collection gives it as STALE_PLAN, and so on.
        .filter(|word| !["PLAN_STALE", "RUN_UNDER_WAY", "RUN_"].contains(&word.as_str()))
        .filter(|word| !CODES.contains(&word.as_str()));
    let guide = text(&format!(
        "{collection}/docs/docsite/rst/guide_troubleshooting.rst"
    ));
    assert_eq!(missing(&guide, words), BTreeSet::new());
}
