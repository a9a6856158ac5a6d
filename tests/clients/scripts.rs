//! The example scripts: each does the whole loop, a second time nothing, and refuses what is beyond its limits.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::{
    site::{Plot, Site},
    support::tool,
};

const TOOLS: &str = "apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  additionalImages:
  - name: UPSTREAM/team/hammer:v1
";

fn script(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scripts");
    folder.join(name)
}

/// The folders in which scripts find what they call.
fn path() -> std::ffi::OsString {
    let folder = |program: PathBuf| program.parent().unwrap().to_owned();
    let own = folder(PathBuf::from(env!("CARGO_BIN_EXE_imagesetd")));
    let folders = [own, folder(tool::find("grpcurl")), folder(tool::find("jq"))];
    let usual = ["/usr/bin", "/bin"].map(PathBuf::from);
    std::env::join_paths(folders.into_iter().chain(usual)).unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// `prepare` says how the script is called for the image set `tools`; `missing` how it ends for one that is not there.
fn does_the_loop(prepare: impl Fn(&Site) -> Command, missing: i32) {
    let plot = Plot {
        settings: "apply: manual\n",
        ..Plot::default()
    };
    let site = Site::new(&[("tools.yaml", TOOLS)], &plot);
    let run = |words: &[&str], drain: &str| {
        let mut command = prepare(&site);
        command.args(words).env("PATH", path());
        said(&command.env("ALLOW_DRAIN", drain).output().unwrap())
    };
    let (code, _, stderr) = run(&["tools", "1"], "1");
    assert_eq!((code, stderr.trim()), (Some(3), "tools: more than 1 bytes"));
    let (code, _, stderr) = run(&["tools"], "0");
    assert_eq!(
        (code, stderr.trim()),
        (
            Some(3),
            "tools: nodes would be drained; ALLOW_DRAIN=1 lets it"
        )
    );
    let (code, stdout, stderr) = run(&["tools"], "1");
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[0].starts_with("tools: plan "), "{stdout}");
    let ended = lines[1].to_ascii_lowercase();
    assert!(
        ended.starts_with("tools: run ") && ended.ends_with("succeeded"),
        "{stdout}"
    );
    let held = Command::new(tool::find("skopeo"))
        .args(["inspect", "--tls-verify=false"])
        .arg(format!(
            "docker://{}/ocp/team/hammer:v1",
            site.mirror.address()
        ))
        .output();
    assert!(held.unwrap().status.success());
    let (code, stdout, _) = run(&["tools"], "0");
    assert_eq!((code, stdout.trim()), (Some(0), "tools: nothing to do"));
    let (code, _, stderr) = run(&["nothing"], "0");
    assert_eq!(code, Some(missing), "{stderr}");
    assert!(stderr.contains("there is no image set nothing"), "{stderr}");
}

#[test]
fn bash_with_the_command_line() {
    let prepare = |site: &Site| {
        let mut command = Command::new("bash");
        let endpoint = format!("unix://{}", site.socket().display());
        command
            .arg(script("refresh-cli.sh"))
            .env_clear()
            .env("IMAGESETD_ENDPOINT", endpoint);
        command
    };
    does_the_loop(prepare, 3);
}

#[test]
fn bash_with_grpcurl() {
    let prepare = |site: &Site| {
        let mut command = Command::new("bash");
        let connection = format!("-plaintext -unix {}", site.socket().display());
        command
            .arg(script("refresh-grpcurl.sh"))
            .env_clear()
            .env("GRPCURL", connection);
        command
    };
    // 64 and NOT_FOUND.
    does_the_loop(prepare, 69);
}

#[test]
fn python_by_reflection() {
    let prepare = |site: &Site| {
        let mut command = Command::new(tool::find_installed("python-grpc"));
        command
            .arg(script("refresh_grpc.py"))
            .arg(format!("unix://{}", site.socket().display()));
        command
    };
    does_the_loop(prepare, 1);
}
