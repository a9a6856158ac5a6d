//! The handlers: convert what is asked, ask the handle, convert the answer. All that is decided is decided elsewhere.

use std::pin::Pin;

use futures_util::stream::{self, Stream, StreamExt};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::{
    grpc::{
        access::Caller,
        audit::Subject,
        convert::{self, given, refusal, required, unfit},
        guard,
        streams::{events, happenings, statuses},
        v1::{self, filter_catalog_response::Part, mirror_service_server::MirrorService},
    },
    model::access::Right,
    reconcile::{Applied, Handle, Looked, RunEvent},
};

/// How many plans and runs a page has, and the most it may have.
const PAGE: (u32, u32) = (100, 1000);

/// How many steps a page has, and the most it may have.
const PAGE_OF_STEPS: (u32, u32) = (1000, 10_000);

/// Answers requests with what the handle knows and does.
#[derive(Clone)]
pub struct Service {
    handle: Handle,
    stop: CancellationToken,
}

impl Service {
    /// Makes the service; streams of status end when `stop` is cancelled, those of runs with their run.
    pub fn new(handle: Handle, stop: CancellationToken) -> Self {
        Service { handle, stop }
    }
}

impl Service {
    /// Ends a stream once the daemon stops.
    fn stopping<T: Send + 'static>(
        &self,
    ) -> impl Stream<Item = Result<T, Status>> + Send + 'static {
        stream::once(self.stop.clone().cancelled_owned()).map(|()| {
            Err(refusal(
                Code::Unavailable,
                "SHUTTING_DOWN",
                "the daemon is being stopped; ask again when it is back",
            ))
        })
    }
}

type Answer<T> = Result<Response<T>, Status>;

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl MirrorService for Service {
    type ApplyPlanStream = Streamed<v1::ApplyPlanResponse>;
    type FilterCatalogStream = Streamed<v1::FilterCatalogResponse>;
    type WatchRunStream = Streamed<v1::WatchRunResponse>;
    type WatchEventsStream = Streamed<v1::WatchEventsResponse>;
    type WatchStatusStream = Streamed<v1::WatchStatusResponse>;
    type VerifyMirrorStream = Streamed<v1::VerifyMirrorResponse>;

    async fn validate_image_sets(
        &self,
        request: Request<v1::ValidateImageSetsRequest>,
    ) -> Answer<v1::ValidateImageSetsResponse> {
        let files = convert::files(request.into_inner().files)?;
        let validated = self.handle.validate(files).await?;
        Ok(Response::new(convert::validated(&validated)))
    }

    async fn create_plan(
        &self,
        request: Request<v1::CreatePlanRequest>,
    ) -> Answer<v1::CreatePlanResponse> {
        let subject = Subject::of(request.extensions());
        let request = request.into_inner();
        subject.image_set(&request.image_set);
        if !request.files.is_empty() {
            subject.note("files sent along");
        }
        let files = convert::files(request.files)?;
        let planned = self
            .handle
            .plan(given(&request.image_set), request.refresh, files)
            .await;
        Ok(Response::new(convert::planned(&planned?)))
    }

    async fn get_plan(&self, request: Request<v1::GetPlanRequest>) -> Answer<v1::GetPlanResponse> {
        let plan = self.handle.get_plan(&request.into_inner().id).await?;
        Ok(Response::new(v1::GetPlanResponse {
            plan: Some(convert::plan(&plan)),
        }))
    }

    async fn list_plans(
        &self,
        request: Request<v1::ListPlansRequest>,
    ) -> Answer<v1::ListPlansResponse> {
        let request = request.into_inner();
        let (ids, next_page_token) = convert::page(
            self.handle.plan_ids(given(&request.image_set)).await?,
            ToString::to_string,
            request.page_size,
            PAGE,
            &request.page_token,
        )?;
        Ok(Response::new(v1::ListPlansResponse {
            plans: self.handle.plans(ids, convert::plan_summary).await?,
            next_page_token,
        }))
    }

    async fn list_plan_steps(
        &self,
        request: Request<v1::ListPlanStepsRequest>,
    ) -> Answer<v1::ListPlanStepsResponse> {
        let request = request.into_inner();
        let plan = self.handle.plan_record(&request.plan_id).await?;
        let steps = plan
            .plan
            .steps
            .iter()
            .enumerate()
            .map(|(at, step)| (at + 1, step))
            .collect();
        let (steps, next_page_token) = convert::page(
            steps,
            |(number, _)| number.to_string(),
            request.page_size,
            PAGE_OF_STEPS,
            &request.page_token,
        )?;
        let steps = steps
            .into_iter()
            .map(|(number, step)| convert::plan_step(number, step))
            .collect();
        Ok(Response::new(v1::ListPlanStepsResponse {
            steps,
            next_page_token,
        }))
    }

    async fn apply_plan(
        &self,
        request: Request<v1::ApplyPlanRequest>,
    ) -> Answer<Self::ApplyPlanStream> {
        let subject = Subject::of(request.extensions());
        let request = request.into_inner();
        subject.plan(&request.plan_id).image_set(&request.image_set);
        let (plan, set) = (given(&request.plan_id), given(&request.image_set));
        if plan.is_some() == set.is_some() {
            return Err(unfit("plan_id", "name a plan or an image set, one of them"));
        }
        let applied = self.handle.apply(plan, set).await?;
        let events = match applied {
            Applied::Run(feed) => {
                subject.run(&feed.id());
                events(feed).boxed()
            }
            Applied::Already(run) => {
                let before = match run.id.as_str() {
                    "" => "nothing to do",
                    _ => "applied before",
                };
                subject.run(&run.id).note(before);
                let finished = convert::run_event(&RunEvent::Finished(*run));
                stream::iter([finished]).boxed()
            }
        };
        Ok(Response::new(
            events
                .map(|event| Ok(v1::ApplyPlanResponse { event: Some(event) }))
                .boxed(),
        ))
    }

    async fn get_run(&self, request: Request<v1::GetRunRequest>) -> Answer<v1::GetRunResponse> {
        let run = self.handle.run(&request.into_inner().id)?;
        Ok(Response::new(v1::GetRunResponse {
            run: Some(convert::run(&run)),
            documents_held: self.handle.documents_held(&run.set).unwrap_or_default(),
        }))
    }

    async fn watch_run(
        &self,
        request: Request<v1::WatchRunRequest>,
    ) -> Answer<Self::WatchRunStream> {
        let feed = self.handle.watch_run(&request.into_inner().id)?;
        Ok(Response::new(
            events(feed)
                .map(|event| Ok(v1::WatchRunResponse { event: Some(event) }))
                .boxed(),
        ))
    }

    async fn cancel_run(
        &self,
        request: Request<v1::CancelRunRequest>,
    ) -> Answer<v1::CancelRunResponse> {
        let subject = Subject::of(request.extensions());
        let id = request.into_inner().id;
        subject.run(&id);
        let run = self.handle.cancel_run(&id)?;
        subject.run(&run.id).image_set(&run.set.0);
        Ok(Response::new(v1::CancelRunResponse {
            run: Some(convert::run(&run)),
        }))
    }

    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Answer<v1::ListRunsResponse> {
        let request = request.into_inner();
        let runs = self.handle.runs(given(&request.image_set)).await?;
        let (runs, next_page_token) = convert::page(
            runs,
            |run| run.id.clone(),
            request.page_size,
            PAGE,
            &request.page_token,
        )?;
        Ok(Response::new(v1::ListRunsResponse {
            runs: runs.iter().map(convert::run_summary).collect(),
            next_page_token,
        }))
    }

    async fn adopt_resources(
        &self,
        request: Request<v1::AdoptResourcesRequest>,
    ) -> Answer<v1::AdoptResourcesResponse> {
        let subject = Subject::of(request.extensions());
        let request = request.into_inner();
        subject.image_set(&request.image_set);
        if request.dry_run {
            subject.note("dry run");
        }
        let adopted = self.handle.adopt(convert::adopt_order(request)?).await?;
        subject.image_set(&adopted.set.0);
        Ok(Response::new(convert::adopted(&adopted)))
    }

    async fn verify_mirror(
        &self,
        request: Request<v1::VerifyMirrorRequest>,
    ) -> Answer<Self::VerifyMirrorStream> {
        let subject = Subject::of(request.extensions());
        let caller = request.extensions().get::<Caller>().cloned();
        let request = request.into_inner();
        if let [set] = request.image_sets.as_slice() {
            subject.image_set(set);
        }
        if request.repair {
            subject.note("repair");
            may_repair(caller.as_ref())?;
        }
        let order = convert::verify_order(request)?;
        let told = self.handle.verify(order)?;
        let events = stream::unfold(told, async |mut told| {
            let event = told.recv().await?;
            let event = event.map_err(|e| convert::refused(&e));
            Some((event.map(|event| convert::verify_event(&event)), told))
        });
        Ok(Response::new(events.boxed()))
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Answer<v1::GetStatusResponse> {
        let status = self.handle.status(given(&request.into_inner().image_set))?;
        Ok(Response::new(convert::status_answer(&status)))
    }

    async fn watch_status(
        &self,
        request: Request<v1::WatchStatusRequest>,
    ) -> Answer<Self::WatchStatusStream> {
        let set = request.into_inner().image_set;
        self.handle.status(given(&set))?;
        let updates =
            statuses(self.handle.clone(), set).take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(updates.chain(self.stopping()).boxed()))
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        let request = request.into_inner();
        let events = self
            .handle
            .events(given(&request.image_set), request.follow)?;
        let told = happenings(events, request.kinds);
        Ok(Response::new(match request.follow {
            false => told.boxed(),
            true => told
                .take_until(self.stop.clone().cancelled_owned())
                .chain(self.stopping())
                .boxed(),
        }))
    }

    async fn get_resources(
        &self,
        request: Request<v1::GetResourcesRequest>,
    ) -> Answer<v1::GetResourcesResponse> {
        let request = request.into_inner();
        let set = given(&request.image_set);
        let resources = self.handle.resources(set).await?;
        let updates = self.handle.release_updates(set).await?;
        Ok(Response::new(convert::resources(
            &resources,
            &request.kinds,
            &updates,
        )))
    }

    async fn retire_resources(
        &self,
        request: Request<v1::RetireResourcesRequest>,
    ) -> Answer<v1::RetireResourcesResponse> {
        let subject = Subject::of(request.extensions());
        let request = request.into_inner();
        subject.image_set(&request.image_set);
        if request.dry_run {
            subject.note("dry run");
        }
        let what = "name the image set whose rules are to be retired";
        let set = required("image_set", &request.image_set, what)?;
        let retired = self
            .handle
            .retire(set, &request.sources, request.dry_run)
            .await?;
        Ok(Response::new(convert::retired(&retired)))
    }

    async fn publish_resources(
        &self,
        request: Request<v1::PublishResourcesRequest>,
    ) -> Answer<v1::PublishResourcesResponse> {
        let subject = Subject::of(request.extensions());
        let request = request.into_inner();
        subject.image_set(&request.image_set);
        if request.dry_run {
            subject.note("dry run");
        }
        let what = "name the image set whose documents are to be written";
        let set = required("image_set", &request.image_set, what)?;
        let released = self.handle.publish(set, request.dry_run).await?;
        Ok(Response::new(convert::released(&released)))
    }

    async fn put_cluster_snapshot(
        &self,
        request: Request<v1::PutClusterSnapshotRequest>,
    ) -> Answer<v1::PutClusterSnapshotResponse> {
        let subject = Subject::of(request.extensions());
        let request = request.into_inner();
        subject.note("picture of a cluster");
        let what = "name the cluster, as the settings do";
        let name = required("name", &request.name, what)?;
        let files = convert::files(request.files)?;
        if files.is_empty() {
            return Err(unfit("files", "send what `oc get` printed"));
        }
        let pictured = self.handle.put_snapshot(name, files).await?;
        Ok(Response::new(convert::pictured(&pictured)))
    }

    async fn explain_image(
        &self,
        request: Request<v1::ExplainImageRequest>,
    ) -> Answer<v1::ExplainImageResponse> {
        let explained = self.handle.explain(&request.into_inner().reference).await?;
        Ok(Response::new(convert::explained(
            &explained.reference,
            &explained.resolution,
            &explained.present,
        )))
    }

    async fn get_install_config(
        &self,
        request: Request<v1::GetInstallConfigRequest>,
    ) -> Answer<v1::GetInstallConfigResponse> {
        let request = request.into_inner();
        let written = self
            .handle
            .install_config(
                given(&request.version),
                &request.base,
                &request.trust_bundle,
            )
            .await?;
        Ok(Response::new(v1::GetInstallConfigResponse {
            text: written.text,
            notes: written.notes,
        }))
    }

    async fn list_catalog(
        &self,
        request: Request<v1::ListCatalogRequest>,
    ) -> Answer<v1::ListCatalogResponse> {
        let subject = Subject::of(request.extensions());
        let request = request.into_inner();
        subject.note("catalog");
        let (package, channel) = (given(&request.package), given(&request.channel));
        if package.is_none() && channel.is_some() {
            return Err(unfit("package", "name the package that has the channel"));
        }
        let listed = self
            .handle
            .list_catalog(&request.catalog, package, channel)
            .await?;
        Ok(Response::new(convert::listed(&listed, package.is_some())))
    }

    async fn filter_catalog(
        &self,
        request: Request<v1::FilterCatalogRequest>,
    ) -> Answer<Self::FilterCatalogStream> {
        let subject = Subject::of(request.extensions());
        let request = request.into_inner();
        subject.image_set(&request.image_set);
        if !request.files.is_empty() {
            subject.note("files sent along");
        }
        let files = convert::files(request.files)?;
        let (set, catalog) = (given(&request.image_set), given(&request.catalog));
        let looked = self.handle.filter_catalog(set, files, catalog).await?;
        let kept: Vec<v1::FilteredCatalog> = looked.iter().map(convert::filtered).collect();
        let kept = kept.into_iter().map(|c| Ok(Part::Catalog(c)));
        let documents = match request.documents {
            true => documents(looked).boxed(),
            false => stream::empty().boxed(),
        };
        let parts = stream::iter(kept).chain(documents);
        let answer =
            parts.map(|part| part.map(|part| v1::FilterCatalogResponse { part: Some(part) }));
        Ok(Response::new(answer.boxed()))
    }
}

/// Returns the documents of filtered catalogs in pieces, written as fast as they are read.
fn documents(looked: Vec<Looked>) -> impl Stream<Item = Result<Part, Status>> + Send {
    let pieces = Handle::documents(looked);
    ReceiverStream::new(pieces).map(|piece| match piece {
        Ok(bytes) => Ok(Part::Documents(bytes)),
        Err(error) => Err(convert::refused(&error)),
    })
}

/// Repairing copies, which takes more than looking.
fn may_repair(caller: Option<&Caller>) -> Result<(), Status> {
    match caller {
        Some(caller) if caller.rights < Some(Right::Apply) => Err(guard::forbidden(
            caller,
            "VerifyMirror with `repair`",
            Right::Apply,
        )),
        _ => Ok(()),
    }
}
