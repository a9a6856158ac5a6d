//! grpcurl, which knows nothing of the proto files, against the service at both doors.

use std::process::Output;

use super::{Server, text, tool};

const RPCS: [&str; 21] = [
    "AdoptResources",
    "ApplyPlan",
    "CancelRun",
    "CreatePlan",
    "ExplainImage",
    "FilterCatalog",
    "GetInstallConfig",
    "GetPlan",
    "GetResources",
    "GetRun",
    "GetStatus",
    "ListCatalog",
    "ListPlanSteps",
    "ListPlans",
    "ListRuns",
    "RetireResources",
    "ValidateImageSets",
    "VerifyMirror",
    "WatchEvents",
    "WatchRun",
    "WatchStatus",
];

async fn grpcurl(door: &[&str], words: &[&str]) -> Output {
    tokio::process::Command::new(tool::find("grpcurl"))
        .args(["-plaintext", "-max-time", "5"])
        .args(words.iter().take_while(|word| word.starts_with('-')))
        .args(door)
        .args(words.iter().skip_while(|word| word.starts_with('-')))
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn the_service_describes_itself_at_both_doors() {
    let server = Server::start().await;
    let (tcp, socket) = (server.tcp.to_string(), server.socket());
    let doors = [vec![tcp.as_str()], vec!["-unix", socket.to_str().unwrap()]];
    for door in doors {
        let list = grpcurl(&door, &["list"]).await;
        assert_eq!(
            text(&list.stdout).lines().collect::<Vec<_>>(),
            [
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
                "imageset.v1.MirrorService"
            ],
            "{}",
            text(&list.stderr)
        );
        let rpcs = grpcurl(&door, &["list", "imageset.v1.MirrorService"]).await;
        let wanted = RPCS.map(|rpc| format!("imageset.v1.MirrorService.{rpc}"));
        assert_eq!(text(&rpcs.stdout).lines().collect::<Vec<_>>(), wanted);
        let health = grpcurl(
            &door,
            &[
                "-d={\"service\":\"imageset.v1.MirrorService\"}",
                "grpc.health.v1.Health/Check",
            ],
        )
        .await;
        assert!(
            text(&health.stdout).contains("SERVING"),
            "{}",
            text(&health.stderr)
        );
        let status = grpcurl(&door, &["imageset.v1.MirrorService/GetStatus"]).await;
        assert!(
            text(&status.stdout).contains("9.9.9"),
            "{}",
            text(&status.stderr)
        );
        let described = grpcurl(&door, &["describe", "imageset.v1.Plan"]).await;
        assert!(
            text(&described.stdout).contains("Bytes that applying it downloads"),
            "comments are the contract: {}",
            text(&described.stdout)
        );
    }
}
