//! Tries out a mirror registry, as people do by hand with openssl and skopeo: the way there, the login, and everything that mirroring
//! will ask of it.
//!
//! What is pushed is a few hundred bytes, under names that say what they are, and is deleted again where the registry lets one.

use std::path::PathBuf;

use http::Method;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::{
    model::{
        checkup::{Answer, Checkup, Outcome, Stopped},
        image::{Digest, Repository},
        policy::Target,
        sentence,
    },
    registry::{
        Begun, Client, Error, Scheme, Selector,
        connection::Reach,
        dummy::{Dummy, tagged},
        error::Task,
        handshake::{self, Authorities},
        protocol::{Request, Scopes},
    },
};

/// The last part of every repository that a check uses.
const NAME: &str = "imagesetd-mirror-check";

/// What is asked of a registry that can be reached, in this order.
const QUESTIONS: [&str; 7] = [
    "upload",
    "push",
    "overwrite_tag",
    "mount",
    "sparse_index",
    "nested_paths",
    "delete",
];

/// What a check needs to know of the world around it.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// The time, in seconds since 1970.
    pub now: i64,
    /// What makes this check's content its own.
    pub nonce: u64,
    /// Whether anything may be pushed.
    pub writes: bool,
}

impl Client {
    /// Tries out the place that everything is mirrored to.
    pub async fn check_up(&self, target: &Target, with: Circumstances) -> Checkup {
        let mut checkup = Checkup {
            target: target.to_string(),
            ..Checkup::default()
        };
        let Ok(repository) = target.repository(NAME) else {
            let message = format!("{target} leaves no room for repositories below it");
            let remedy = "name a shorter path";
            checkup.answers = vec![Answer::bad("connection", message, remedy)];
            return checkup;
        };
        checkup.answers = self.certificates(&repository, with.now).await;
        if let Err(stopped) = self.admitted(&repository, &mut checkup.answers).await {
            checkup.stopped = Some(stopped);
            return skip_rest(checkup, "the registry was not reached");
        }
        if !with.writes {
            return skip_rest(checkup, "nothing is pushed, as was asked for");
        }
        let trial = Trial {
            mirror: self,
            target,
            repository,
            nonce: with.nonce,
        };
        trial.run(checkup).await
    }

    /// Says what is to be said of the registry's certificate; nothing where there is none to look at.
    async fn certificates(&self, repository: &Repository, now: i64) -> Vec<Answer> {
        let registry = repository.registry();
        let Ok(spoken_to) = self.host(registry) else {
            return Vec::new();
        };
        let (options, access) = (self.options(), &spoken_to.access);
        if access.scheme == Scheme::Http {
            let message = format!("{registry} is spoken to in plain HTTP, as the settings say");
            let remedy = "anybody on the way can read the credentials and change what is pushed: better give it a certificate";
            return vec![Answer::warning("certificate_chain", message, remedy)];
        }
        let name = registry.as_str();
        let (host, port) = host_and_port(name);
        let chain = handshake::shown(host, port).await;
        let reach = match Reach::of(name, access, &options.certs) {
            Ok(reach) => reach,
            Err(error) => {
                let remedy = "mend or remove the file";
                return vec![Answer::bad("certificate_chain", sentence(&error), remedy)];
            }
        };
        let files = reach.files.authorities.iter();
        let files: Vec<String> = files.map(|file| file.display().to_string()).collect();
        let configured = authorities(&reach.files.authorities);
        let system = rustls_native_certs::load_native_certs().certs;
        let authorities = Authorities {
            configured: &configured,
            files: files.join(", "),
            system: &system,
        };
        let mut answers = handshake::judge(&chain, host, &authorities, now);
        if access.skip_tls_verify {
            // Nothing of it is in the way then.
            let named = options.access.get(registry);
            let says = match named.unwrap_or(&options.default_access).skip_tls_verify {
                true => "`skip_tls_verify` says",
                false => "`insecure = true` of registries.conf says",
            };
            for answer in answers.iter_mut().filter(|a| a.outcome == Outcome::Bad) {
                answer.outcome = Outcome::Warning;
                answer.remedy += &format!("; it is not looked at, as {says}");
            }
        }
        answers
    }

    /// Asks whether the registry lets us in.
    async fn admitted(
        &self,
        repository: &Repository,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Stopped> {
        let registry = repository.registry();
        let asked = async {
            let host = self.host(registry)?;
            host.call(&Request::ping(repository)).await
        };
        match asked.await {
            Ok(_) => {
                let said = format!("{registry} answers as a registry does");
                answers.push(Answer::good("connection", said));
                answers.push(Answer::good(
                    "credentials",
                    format!("{registry} accepts who asks; whether it may write is seen below"),
                ));
                Ok(())
            }
            Err(error) if error.is_authentication() => {
                let said = format!("{registry} answers as a registry does");
                answers.push(Answer::good("connection", said));
                answers.push(Answer::bad(
                    "credentials",
                    sentence(&error),
                    format!("log in with `podman login {registry}`, or name the right file as `authfile`"),
                ));
                Err(Stopped::Authentication)
            }
            Err(error) => {
                let remedy = match answers.iter().any(|a| a.outcome == Outcome::Bad) {
                    true => "see what is wrong with its certificate",
                    false => "check the name, the port, the network and the proxy settings",
                };
                answers.push(Answer::bad("connection", sentence(&error), remedy));
                Err(Stopped::Unreachable)
            }
        }
    }

    /// Removes a manifest, with its tags; whether the registry has done so.
    async fn delete_manifest(&self, repository: &Repository, name: &Selector) -> Result<(), Error> {
        let host = self.host(repository.registry())?;
        let request = Request::delete_manifest(repository, name);
        host.call(&request).await.map(drop)
    }
}

impl Request {
    /// Asks whether anybody is there (OCI distribution specification, "Determining Support").
    fn ping(repository: &Repository) -> Self {
        let task = Task::Greet(repository.clone());
        Request::new(
            Method::GET,
            "v2/".to_owned(),
            Scopes::pull(repository),
            task,
        )
    }

    /// Removes a manifest.
    fn delete_manifest(repository: &Repository, name: &Selector) -> Self {
        let task = Task::DeleteManifest(repository.clone(), name.clone());
        let path = format!("v2/{}/manifests/{name}", repository.path());
        let path_of = repository.path();
        let scopes = [
            format!("repository:{path_of}:pull,push"),
            format!("repository:{path_of}:delete"),
        ];
        Request::new(Method::DELETE, path, Scopes(scopes.into()), task)
    }
}

fn host_and_port(name: &str) -> (&str, u16) {
    match name.rsplit_once(':') {
        // The colons of an address in brackets are its own.
        Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(443)),
        _ => (name, 443),
    }
}

/// The certificates of these files; what cannot be read is said when they are used.
fn authorities(files: &[PathBuf]) -> Vec<CertificateDer<'static>> {
    let read = files
        .iter()
        .filter_map(|file| CertificateDer::pem_file_iter(file).ok());
    read.flatten().filter_map(Result::ok).collect()
}

fn skip_rest(mut checkup: Checkup, why: &str) -> Checkup {
    let asked: Vec<&str> = checkup.answers.iter().map(|answer| answer.id).collect();
    let left = QUESTIONS.iter().filter(|id| !asked.contains(id));
    let left: Vec<Answer> = left.map(|id| Answer::skipped(id, why)).collect();
    checkup.answers.extend(left);
    checkup
}

/// Content that is pushed to see whether that works.
struct Trial<'a> {
    mirror: &'a Client,
    target: &'a Target,
    repository: Repository,
    nonce: u64,
}

impl Trial<'_> {
    async fn run(&self, mut checkup: Checkup) -> Checkup {
        let (Some(one), Some(two), Some(tag)) = (
            Dummy::new("one", self.nonce),
            Dummy::new("two", self.nonce),
            tagged("check"),
        ) else {
            return skip_rest(checkup, "the content to push could not be made");
        };
        let mut pushed: Vec<(Repository, Digest)> = Vec::new();
        let uploaded = self.upload(&self.repository, &one).await;
        let answer = match &uploaded {
            Ok(()) => Answer::good(
                "upload",
                format!(
                    "{} is made by pushing to it, and takes uploads",
                    self.repository
                ),
            ),
            Err(error) => self.no_upload(error),
        };
        checkup.answers.push(answer);
        if let Err(error) = uploaded {
            if error.is_authentication() {
                checkup.stopped = Some(Stopped::Authentication);
            }
            return skip_rest(checkup, "the registry takes no uploads");
        }
        let push = self.push(&one, &tag, &mut pushed).await;
        let refused = push.outcome == Outcome::Bad;
        checkup.answers.push(push);
        if refused {
            self.clean(&mut checkup, &pushed).await;
            return skip_rest(checkup, "the registry takes no manifests");
        }
        let answers = [
            self.overwrite(&two, &tag, &mut pushed).await,
            self.mount(&one).await,
            self.sparse(&one, &mut pushed).await,
            self.nested(&one, &mut pushed).await,
        ];
        checkup.answers.extend(answers);
        self.clean(&mut checkup, &pushed).await;
        checkup
    }

    /// Uploads what an image is made of.
    async fn upload(&self, repository: &Repository, image: &Dummy) -> Result<(), Error> {
        for content in [&image.layer, &image.config] {
            if let Begun::Upload(upload) = self.mirror.begin_upload(repository, None).await? {
                let bytes = content.bytes.clone();
                let body = futures_util::stream::iter([Ok(bytes)]);
                self.mirror
                    .upload(&upload, &content.descriptor, body)
                    .await?;
            }
        }
        Ok(())
    }

    fn no_upload(&self, error: &Error) -> Answer {
        let remedy = match error.status().map(|status| status.as_u16()) {
            Some(401 | 403) => {
                "give who asks the right to push and to make repositories below this path, or make the project first"
            }
            Some(404) => {
                "make the project or organisation first: this registry does not make one by pushing to it"
            }
            Some(405) => "take the registry out of its read-only mode",
            _ => {
                "see what the registry's log says; its disk may be full, or a proxy before it may refuse large or chunked requests"
            }
        };
        Answer::bad("upload", sentence(error), remedy)
    }

    async fn push(
        &self,
        image: &Dummy,
        tag: &Selector,
        pushed: &mut Vec<(Repository, Digest)>,
    ) -> Answer {
        let digest = image.manifest.digest.clone();
        let put = self
            .mirror
            .put_manifest(&self.repository, tag, &image.manifest);
        match put.await {
            Ok(()) => {
                pushed.push((self.repository.clone(), digest));
                Answer::good(
                    "push",
                    "it takes manifests, and keeps their bytes as they are",
                )
            }
            Err(error) => Answer::bad(
                "push",
                sentence(&error),
                "see what the registry's log says; it has to take OCI manifests unchanged",
            ),
        }
    }

    async fn overwrite(
        &self,
        image: &Dummy,
        tag: &Selector,
        pushed: &mut Vec<(Repository, Digest)>,
    ) -> Answer {
        let id = "overwrite_tag";
        let moved = async {
            self.upload(&self.repository, image).await?;
            self.mirror
                .push_manifest(&self.repository, tag, &image.manifest)
                .await?;
            pushed.push((self.repository.clone(), image.manifest.digest.clone()));
            self.mirror.head(&self.repository, tag).await
        };
        match moved.await {
            Ok(Some(head)) if head.digest == image.manifest.digest => {
                Answer::good(id, "a tag can be moved to another image")
            }
            Ok(_) => Answer::bad(
                id,
                "a tag was moved to another image, and the registry still names the first one",
                "a cache before the registry may answer for it; leave it out",
            ),
            Err(error) => Answer::warning(
                id,
                format!(
                    "a tag cannot be moved to another image: {}",
                    sentence(&error)
                ),
                "make tags mutable in this project, or image sets that follow tags which move upstream will fail",
            ),
        }
    }

    /// The repository that a blob is mounted in.
    fn neighbour(&self) -> Option<Repository> {
        self.target.repository(&format!("{NAME}-mount")).ok()
    }

    async fn mount(&self, image: &Dummy) -> Answer {
        let id = "mount";
        let Some(neighbour) = self.neighbour() else {
            return Answer::skipped(id, "the path leaves no room for another repository");
        };
        let digest = &image.layer.descriptor.digest;
        let mount = Some((digest, &self.repository));
        let remedy = "nothing has to be done; what images share is uploaded once for each repository, which takes longer";
        match self.mirror.begin_upload(&neighbour, mount).await {
            Ok(Begun::Mounted) => Answer::good(
                id,
                "a blob is taken over from another repository without sending it again",
            ),
            Ok(Begun::Upload(upload)) => {
                self.mirror.cancel_upload(upload).await;
                Answer::warning(
                    id,
                    "a blob of another repository has to be sent again",
                    remedy,
                )
            }
            Ok(Begun::Taken) => Answer::warning(
                id,
                "a blob of another repository has to be sent again",
                remedy,
            ),
            Err(error) => Answer::bad(
                id,
                sentence(&error),
                "give who asks the right to push to every repository below this path",
            ),
        }
    }

    async fn sparse(&self, image: &Dummy, pushed: &mut Vec<(Repository, Digest)>) -> Answer {
        let id = "sparse_index";
        let (Some(index), Some(name)) = (image.sparse_index(self.nonce), tagged("sparse")) else {
            return Answer::skipped(id, "the index to push could not be made");
        };
        match self
            .mirror
            .put_manifest(&self.repository, &name, &index)
            .await
        {
            Ok(()) => {
                pushed.push((self.repository.clone(), index.digest));
                Answer::good(
                    id,
                    "an index may name images of platforms that are not mirrored",
                )
            }
            Err(error) => Answer::warning(
                id,
                format!(
                    "an index is taken with all its platforms only: {}",
                    sentence(&error)
                ),
                "image sets that ask for some platforms of an image will fail for it: mirror all of its platforms, or with Distribution 3 set `validation.manifests.indexes.platforms: none` (Distribution 2 has no such setting)",
            ),
        }
    }

    async fn nested(&self, image: &Dummy, pushed: &mut Vec<(Repository, Digest)>) -> Answer {
        let id = "nested_paths";
        let parts = self.repository.path().split('/').count();
        let deep = self
            .target
            .repository(&format!("{NAME}/nested/deeply/enough"));
        let (Ok(deep), Some(tag)) = (deep, tagged("check")) else {
            return Answer::skipped(id, "the path leaves no room for deeper repositories");
        };
        let put = async {
            self.upload(&deep, image).await?;
            self.mirror.put_manifest(&deep, &tag, &image.manifest).await
        };
        match put.await {
            Ok(()) => {
                let message = format!(
                    "{deep} can be pushed to: paths of {} parts are taken",
                    parts + 3
                );
                pushed.push((deep, image.manifest.digest.clone()));
                Answer::good(id, message)
            }
            Err(error) => Answer::warning(
                id,
                format!(
                    "paths of {} parts are not taken: {}",
                    parts + 3,
                    sentence(&error)
                ),
                format!(
                    "set `max_nested_paths: {parts}` (or as many parts as the registry takes), so that deeper names are joined with dashes"
                ),
            ),
        }
    }

    /// Removes what was pushed, and says what stays.
    async fn clean(&self, checkup: &mut Checkup, pushed: &[(Repository, Digest)]) {
        let mut pushed: Vec<_> = pushed.iter().collect();
        // Indexes last pushed go first: some registries keep what an index names.
        pushed.reverse();
        let mut seen = std::collections::BTreeSet::new();
        let mut refused = None;
        for (repository, digest) in pushed {
            if !seen.insert((repository, digest)) {
                continue;
            }
            let name = Selector::Digest(digest.clone());
            match self.mirror.delete_manifest(repository, &name).await {
                Ok(()) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    checkup
                        .left
                        .push(format!("the manifest {}", repository.at(digest.clone())));
                    refused.get_or_insert(error);
                }
            }
        }
        checkup.answers.push(match refused {
            None => Answer::good("delete", "manifests can be deleted; what this check pushed is deleted"),
            Some(error) => Answer::warning(
                "delete",
                format!("manifests cannot be deleted: {}", sentence(&error)),
                "mirroring deletes nothing by itself; to have what is not wanted any more taken away some day, allow deletion (for Distribution, `storage.delete.enabled: true`)",
            ),
        });
        checkup.left.push(format!(
            "a few blobs, 2 KiB together, in {} and repositories of similar names until the registry collects its garbage, and those names",
            self.repository
        ));
    }
}
