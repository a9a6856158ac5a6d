//! The daemon of a site, driven through its socket.

use std::process::{Child, Stdio};

use serde_json::Value;

use crate::{
    site::{Ended, PREFIX, Site, Updates, program},
    support::registry::wait_for,
};

/// A daemon that plans and waits for a person, so that planning and applying can be told apart.
pub(crate) struct Daemon<'a> {
    site: &'a Site,
    process: Child,
}

impl<'a> Daemon<'a> {
    /// Starts it and waits until it answers.
    pub(crate) fn start(site: &'a Site, updates: &Updates) -> Self {
        Daemon::with(site, updates, "")
    }

    /// The same, with more settings.
    pub(crate) fn with(site: &'a Site, updates: &Updates, more: &str) -> Self {
        let path = |name: &str| site.path(name).display().to_string();
        let settings = format!(
            "directory: {directory}\nstate: {state}\noutput: {output}\nlisten: [\"unix://{socket}\"]\ntarget: {mirror}/{PREFIX}\n\
             apply: manual\nrelease_signatures: ignore\nsettle: 100ms\nupdate_service: {{ocp: \"{updates}\"}}\n\
             registries:\n- {{host: \"{upstream}\", plain_http: true}}\n- {{host: \"{mirror}\", plain_http: true}}\n{more}",
            directory = path("directory"),
            state = path("state"),
            output = path("resources"),
            socket = path("socket"),
            mirror = site.mirror.address(),
            upstream = site.upstream.address(),
            updates = updates.url(),
        );
        std::fs::write(site.path("settings.yaml"), settings).unwrap();
        std::fs::create_dir_all(site.path("directory")).unwrap();
        let log = std::fs::File::create(site.path("daemon.log")).unwrap();
        let process = program()
            .args(["serve", "--config"])
            .arg(site.path("settings.yaml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Daemon { site, process };
        wait_for("the daemon to answer", || {
            (daemon.ask(&["status", "--output", "json"]).code == 0).then_some(())
        });
        daemon
    }

    fn ask(&self, arguments: &[&str]) -> Ended {
        let endpoint = format!("unix://{}", self.site.path("socket").display());
        let mut command = program();
        command.args(arguments).args(["--endpoint", &endpoint]);
        Ended::of(command.output().unwrap())
    }

    /// Writes the image set into the directory and waits until the daemon has planned it by itself.
    pub(crate) fn planned(&self, mirror: &str) -> Value {
        let id = |plan: &Value| plan["id"].as_str().unwrap_or_default().to_owned();
        let was = self.newest().map(|plan| id(&plan));
        self.site.image_set(mirror);
        std::fs::copy(
            self.site.path("set.yaml"),
            self.site.path("directory/set.yaml"),
        )
        .unwrap();
        wait_for("a plan", || {
            self.newest()
                .filter(|plan| Some(id(plan)) != was && plan["step_count"] != 0)
        })
    }

    /// Asks for a plan.
    pub(crate) fn plan(&self, more: &[&str]) -> Value {
        let mut arguments = vec!["plan", "set", "--output", "json"];
        arguments.extend(more);
        let ended = self.ask(&arguments);
        let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
        answer["plans"][0].clone()
    }

    fn newest(&self) -> Option<Value> {
        let ended = self.ask(&["plan", "set", "--output", "json"]);
        let answer: Value = serde_json::from_str(&ended.stdout).ok()?;
        answer["plans"].get(0).cloned()
    }

    /// Applies a plan and waits until it has been.
    pub(crate) fn apply(&self, plan: &Value) {
        let ended = self.ask(&["apply", plan["id"].as_str().unwrap(), "--output", "json"]);
        assert_eq!(ended.code, 0, "{ended:#?}");
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
