//! The tools that are compared, and what a person would type to have each copy a set.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use clap::ValueEnum;

/// A copier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Tool {
    /// `imagesetd once`, of this build.
    Imagesetd,
    /// `regsync once`, with parallelism set by hand.
    RegsyncTuned,
    /// `regsync once` as it comes.
    Regsync,
    /// `skopeo sync --all`.
    SkopeoSync,
    /// `skopeo copy --all`, image after image: what oc-mirror does for each of its images.
    SkopeoCopy,
    /// `crane copy`, image after image.
    Crane,
}

impl Tool {
    /// Returns the name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tool::Imagesetd => "imagesetd",
            Tool::RegsyncTuned => "regsync, tuned",
            Tool::Regsync => "regsync",
            Tool::SkopeoSync => "skopeo sync",
            Tool::SkopeoCopy => "skopeo copy",
            Tool::Crane => "crane copy",
        }
    }

    /// Returns the program's file; nothing where it is not installed.
    pub(crate) fn program(self) -> Option<PathBuf> {
        let name = match self {
            Tool::Imagesetd => return Some(env!("CARGO_BIN_EXE_imagesetd").into()),
            Tool::Regsync | Tool::RegsyncTuned => "regsync",
            Tool::SkopeoSync | Tool::SkopeoCopy => "skopeo",
            Tool::Crane => "crane",
        };
        let folders = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&folders)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    }
}

/// What is to be copied: names as `repository:tag` or `repository@digest`, from one registry into another.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) names: &'a [String],
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    /// For settings and state; what lies there from an earlier round of the same mirror is the tool's own.
    pub(crate) folder: &'a Path,
}

impl Job<'_> {
    /// Writes the tool's settings and returns the command.
    pub(crate) fn command(&self, tool: Tool) -> Vec<String> {
        let program = tool.program().unwrap().display().to_string();
        fs::create_dir_all(self.folder).unwrap();
        match tool {
            Tool::Imagesetd => self.imagesetd(program),
            Tool::RegsyncTuned => self.regsync(program, 32, 24),
            Tool::Regsync => self.regsync(program, 3, 4),
            Tool::SkopeoSync => self.skopeo_sync(program),
            Tool::SkopeoCopy => self.each(
                &format!(
                    "{program} copy --quiet --all --preserve-digests --src-tls-verify=false --dest-tls-verify=false"
                ),
                "docker://",
            ),
            Tool::Crane => self.each(&format!("{program} copy --insecure"), ""),
        }
    }

    fn imagesetd(&self, program: String) -> Vec<String> {
        let lines: String = self
            .names
            .iter()
            .map(|name| format!("  - name: {}/{name}\n", self.from))
            .collect();
        let set = self.write(
            "set.yaml",
            &format!(
                "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n  additionalImages:\n{lines}"
            ),
        );
        let folder = self.folder.display();
        words(&format!(
            "{program} once -c {set} --to {} --state {folder}/state --resources {folder}/resources --src-tls-verify=false \
             --dest-tls-verify=false --remove-signatures",
            self.to
        ))
    }

    fn regsync(&self, program: String, requests: usize, parallel: usize) -> Vec<String> {
        let credentials: String = [self.from, self.to]
            .iter()
            .map(|host| {
                format!("- {{registry: \"{host}\", tls: disabled, reqConcurrent: {requests}}}\n")
            })
            .collect();
        let images: String = self
            .names
            .iter()
            .map(|name| {
                let (from, to) = (self.from, self.to);
                format!("- {{source: \"{from}/{name}\", target: \"{to}/{name}\", type: image}}\n")
            })
            .collect();
        let file = self.write(
            "regsync.yaml",
            &format!(
                "version: 1\ncreds:\n{credentials}defaults: {{parallel: {parallel}}}\nsync:\n{images}"
            ),
        );
        words(&format!("{program} once -c {file}"))
    }

    fn skopeo_sync(&self, program: String) -> Vec<String> {
        let images: String = self
            .names
            .iter()
            .map(|name| {
                let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
                format!("    {repository}: [\"{tag}\"]\n")
            })
            .collect();
        let file = self.write(
            "skopeo.yaml",
            &format!(
                "\"{}\":\n  tls-verify: false\n  images:\n{images}",
                self.from
            ),
        );
        words(&format!(
            "{program} sync --all --src yaml --dest docker --src-tls-verify=false --dest-tls-verify=false {file} {}/bench",
            self.to
        ))
    }

    /// One process an image, in a shell.
    fn each(&self, copy: &str, scheme: &str) -> Vec<String> {
        let lines = self.names.iter().map(|name| {
            let (from, to) = (self.from, self.to);
            format!("{copy} {scheme}{from}/{name} {scheme}{to}/{name} || exit 1\n")
        });
        let file = self.write("each.sh", &lines.collect::<String>());
        vec!["sh".into(), file]
    }

    fn write(&self, name: &str, text: &str) -> String {
        let file = self.folder.join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
