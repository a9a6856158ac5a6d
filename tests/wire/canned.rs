//! A service with canned answers; what it answers depends on the name asked for.

use std::pin::Pin;

use imagesetd::grpc::v1::{self, mirror_service_server::MirrorService, run_event::Event};
use tokio_stream::{Stream, StreamExt, iter, pending};
use tonic::{Code, Request, Response, Status};

/// See the module.
#[derive(Clone)]
pub(crate) struct Canned;

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

type Answer<T> = Result<Response<T>, Status>;

fn refusal(code: Code, reason: &'static str, message: String) -> Status {
    let mut status = Status::new(code, message);
    status
        .metadata_mut()
        .insert("imagesetd-reason", reason.parse().unwrap());
    status
}

fn run(set: &str, state: v1::RunState) -> v1::Run {
    let failures = match state {
        v1::RunState::Partial => vec![v1::Failure {
            image: "quay.io/a:1".to_owned(),
            attempts: 3,
            ..v1::Failure::default()
        }],
        _ => vec![],
    };
    v1::Run {
        id: "9a3c".to_owned(),
        image_set: set.to_owned(),
        state: state.into(),
        failures,
        ..v1::Run::default()
    }
}

fn plan(id: &str) -> v1::Plan {
    v1::Plan {
        id: id.to_owned(),
        image_set: "good".to_owned(),
        step_count: 3,
        freshness: v1::Freshness::Fresh.into(),
        ..v1::Plan::default()
    }
}

/// Documents wait of the image set `held`.
fn publishing(request: &v1::PublishResourcesRequest) -> v1::PublishResourcesResponse {
    let waits = v1::DocumentChange {
        file_name: "itms-held-additional.yaml".to_owned(),
        kind: "ImageTagMirrorSet".to_owned(),
        change: v1::Change::Added.into(),
        after: "kind: ImageTagMirrorSet\n".to_owned(),
        ..v1::DocumentChange::default()
    };
    v1::PublishResourcesResponse {
        documents: match request.image_set.as_str() {
            "held" => vec![waits],
            _ => Vec::new(),
        },
        ..v1::PublishResourcesResponse::default()
    }
}

fn status(set: &str) -> v1::WatchStatusResponse {
    let ready = if set == "endless" {
        v1::ConditionStatus::False
    } else {
        v1::ConditionStatus::True
    };
    let condition = v1::Condition {
        r#type: "Ready".to_owned(),
        status: ready.into(),
        ..v1::Condition::default()
    };
    v1::WatchStatusResponse {
        daemon: Some(v1::DaemonStatus {
            version: "9.9.9".to_owned(),
            ..v1::DaemonStatus::default()
        }),
        image_sets: vec![v1::ImageSetStatus {
            name: set.to_owned(),
            conditions: vec![condition],
            ..v1::ImageSetStatus::default()
        }],
    }
}

#[tonic::async_trait]
impl MirrorService for Canned {
    type ApplyPlanStream = Streamed<v1::ApplyPlanResponse>;
    type FilterCatalogStream = Streamed<v1::FilterCatalogResponse>;
    type WatchRunStream = Streamed<v1::WatchRunResponse>;
    type WatchEventsStream = Streamed<v1::WatchEventsResponse>;
    type WatchStatusStream = Streamed<v1::WatchStatusResponse>;
    type VerifyMirrorStream = Streamed<v1::VerifyMirrorResponse>;

    async fn validate_image_sets(
        &self,
        _: Request<v1::ValidateImageSetsRequest>,
    ) -> Answer<v1::ValidateImageSetsResponse> {
        Ok(Response::new(v1::ValidateImageSetsResponse::default()))
    }

    async fn create_plan(
        &self,
        request: Request<v1::CreatePlanRequest>,
    ) -> Answer<v1::CreatePlanResponse> {
        let files = request.into_inner().files;
        let problem = |file: &v1::File| v1::Problem {
            file: file.name.clone(),
            message: format!("{} bytes of {}", file.content.len(), file.name),
            ..v1::Problem::default()
        };
        let unplanned = |file: &v1::File| v1::Unplanned {
            image_set: file.name.trim_end_matches(".yaml").to_owned(),
            reason: "ImageSetInvalid".to_owned(),
            ..v1::Unplanned::default()
        };
        let plans = if files.is_empty() {
            vec![plan("4f1c9a7788")]
        } else {
            vec![]
        };
        Ok(Response::new(v1::CreatePlanResponse {
            plans,
            unplanned: files.iter().map(unplanned).collect(),
            problems: files.iter().map(problem).collect(),
        }))
    }

    async fn get_plan(&self, request: Request<v1::GetPlanRequest>) -> Answer<v1::GetPlanResponse> {
        Ok(Response::new(v1::GetPlanResponse {
            plan: Some(plan(&request.into_inner().id)),
        }))
    }

    async fn list_plans(&self, _: Request<v1::ListPlansRequest>) -> Answer<v1::ListPlansResponse> {
        Ok(Response::new(v1::ListPlansResponse {
            plans: vec![plan("4f1c9a7788"), plan("4f1c9a7688")],
            next_page_token: String::new(),
        }))
    }

    async fn list_plan_steps(
        &self,
        request: Request<v1::ListPlanStepsRequest>,
    ) -> Answer<v1::ListPlanStepsResponse> {
        let step = |number| v1::PlanStep {
            number,
            ..v1::PlanStep::default()
        };
        let page = match request.into_inner().page_token.as_str() {
            "" => v1::ListPlanStepsResponse {
                steps: vec![step(1), step(2)],
                next_page_token: "2".to_owned(),
            },
            _ => v1::ListPlanStepsResponse {
                steps: vec![step(3)],
                next_page_token: String::new(),
            },
        };
        Ok(Response::new(page))
    }

    async fn apply_plan(
        &self,
        request: Request<v1::ApplyPlanRequest>,
    ) -> Answer<Self::ApplyPlanStream> {
        let v1::ApplyPlanRequest { plan_id, image_set } = request.into_inner();
        if !plan_id.is_empty() {
            let message = format!("plan {plan_id} is stale: plan again");
            return Err(refusal(Code::FailedPrecondition, "STALE_PLAN", message));
        }
        if image_set == "thinking" {
            std::future::pending::<()>().await;
        }
        let event = |event| {
            Ok(v1::ApplyPlanResponse {
                event: Some(v1::RunEvent { event: Some(event) }),
            })
        };
        let begun = event(Event::Run(run(&image_set, v1::RunState::Running)));
        let ended = |state| event(Event::Finished(run(&image_set, state)));
        let stream: Self::ApplyPlanStream = match image_set.as_str() {
            "endless" => Box::pin(iter([begun]).chain(pending())),
            "partial" => Box::pin(iter([begun, ended(v1::RunState::Partial)])),
            _ => Box::pin(iter([begun, ended(v1::RunState::Succeeded)])),
        };
        Ok(Response::new(stream))
    }

    async fn get_run(&self, request: Request<v1::GetRunRequest>) -> Answer<v1::GetRunResponse> {
        let id = request.into_inner().id;
        if id != "9a3c" {
            let message = format!("there is no run {id}");
            return Err(refusal(Code::NotFound, "RUN_NOT_FOUND", message));
        }
        Ok(Response::new(v1::GetRunResponse {
            run: Some(run("endless", v1::RunState::Running)),
            ..v1::GetRunResponse::default()
        }))
    }

    async fn watch_run(&self, _: Request<v1::WatchRunRequest>) -> Answer<Self::WatchRunStream> {
        Ok(Response::new(Box::pin(pending())))
    }

    async fn cancel_run(&self, _: Request<v1::CancelRunRequest>) -> Answer<v1::CancelRunResponse> {
        Ok(Response::new(v1::CancelRunResponse::default()))
    }

    async fn list_runs(&self, _: Request<v1::ListRunsRequest>) -> Answer<v1::ListRunsResponse> {
        Ok(Response::new(v1::ListRunsResponse::default()))
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Answer<v1::GetStatusResponse> {
        let v1::WatchStatusResponse { daemon, image_sets } =
            status(&request.into_inner().image_set);
        Ok(Response::new(v1::GetStatusResponse { daemon, image_sets }))
    }

    async fn adopt_resources(
        &self,
        _: Request<v1::AdoptResourcesRequest>,
    ) -> Answer<v1::AdoptResourcesResponse> {
        Ok(Response::new(v1::AdoptResourcesResponse::default()))
    }

    async fn verify_mirror(
        &self,
        _: Request<v1::VerifyMirrorRequest>,
    ) -> Answer<Self::VerifyMirrorStream> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }

    async fn watch_events(
        &self,
        _: Request<v1::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        Err(Status::unimplemented(""))
    }

    async fn watch_status(
        &self,
        request: Request<v1::WatchStatusRequest>,
    ) -> Answer<Self::WatchStatusStream> {
        let now = Ok(status(&request.into_inner().image_set));
        Ok(Response::new(Box::pin(iter([now]).chain(pending()))))
    }

    async fn get_resources(
        &self,
        _: Request<v1::GetResourcesRequest>,
    ) -> Answer<v1::GetResourcesResponse> {
        Ok(Response::new(v1::GetResourcesResponse {
            resources: vec![v1::Resource {
                text: "kind: ImageDigestMirrorSet\n".to_owned(),
                ..v1::Resource::default()
            }],
            ..v1::GetResourcesResponse::default()
        }))
    }

    async fn retire_resources(
        &self,
        _: Request<v1::RetireResourcesRequest>,
    ) -> Answer<v1::RetireResourcesResponse> {
        Ok(Response::new(v1::RetireResourcesResponse::default()))
    }

    async fn publish_resources(
        &self,
        request: Request<v1::PublishResourcesRequest>,
    ) -> Answer<v1::PublishResourcesResponse> {
        Ok(Response::new(publishing(&request.into_inner())))
    }

    async fn put_cluster_snapshot(
        &self,
        _: Request<v1::PutClusterSnapshotRequest>,
    ) -> Answer<v1::PutClusterSnapshotResponse> {
        Ok(Response::new(v1::PutClusterSnapshotResponse::default()))
    }

    async fn explain_image(
        &self,
        _: Request<v1::ExplainImageRequest>,
    ) -> Answer<v1::ExplainImageResponse> {
        Ok(Response::new(v1::ExplainImageResponse::default()))
    }

    async fn get_install_config(
        &self,
        _: Request<v1::GetInstallConfigRequest>,
    ) -> Answer<v1::GetInstallConfigResponse> {
        Ok(Response::new(v1::GetInstallConfigResponse::default()))
    }

    async fn list_catalog(
        &self,
        _: Request<v1::ListCatalogRequest>,
    ) -> Answer<v1::ListCatalogResponse> {
        Ok(Response::new(v1::ListCatalogResponse::default()))
    }

    async fn filter_catalog(
        &self,
        _: Request<v1::FilterCatalogRequest>,
    ) -> Answer<Self::FilterCatalogStream> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }
}
