//! Which call needs which right. The proto's comments and `docs/security.md` say the same; tests hold the three together.

use crate::model::access::Right;

/// A call of `MirrorService`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rpc {
    /// Its name.
    pub name: &'static str,
    /// What its caller has to have.
    pub right: Right,
    /// Whether files may be sent along, so that its request may be large.
    pub takes_files: bool,
}

const fn rpc(name: &'static str, right: Right) -> Rpc {
    Rpc {
        name,
        right,
        takes_files: false,
    }
}

const fn with_files(name: &'static str, right: Right) -> Rpc {
    Rpc {
        name,
        right,
        takes_files: true,
    }
}

/// All calls. What is not here is answered by nobody.
pub const RPCS: &[Rpc] = &[
    with_files("ValidateImageSets", Right::Read),
    with_files("CreatePlan", Right::Plan),
    rpc("GetPlan", Right::Read),
    rpc("ListPlans", Right::Read),
    rpc("ListPlanSteps", Right::Read),
    rpc("ApplyPlan", Right::Apply),
    rpc("GetRun", Right::Read),
    rpc("WatchRun", Right::Read),
    rpc("CancelRun", Right::Apply),
    rpc("ListRuns", Right::Read),
    rpc("VerifyMirror", Right::Plan),
    with_files("AdoptResources", Right::Admin),
    rpc("GetStatus", Right::Read),
    rpc("WatchStatus", Right::Read),
    rpc("WatchEvents", Right::Read),
    rpc("GetResources", Right::Read),
    rpc("RetireResources", Right::Admin),
    rpc("ExplainImage", Right::Read),
    with_files("GetInstallConfig", Right::Read),
    rpc("ListCatalog", Right::Plan),
    with_files("FilterCatalog", Right::Plan),
];

impl Rpc {
    /// Finds a call by its name.
    pub fn find(name: &str) -> Option<&'static Rpc> {
        RPCS.iter().find(|rpc| rpc.name == name)
    }

    /// Whether it changes something, so that who called it is written down.
    pub fn is_changing(&self) -> bool {
        self.right > Right::Read
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::grpc::v1::DESCRIPTORS;

    /// Every method of the service with its comment, in the proto's order.
    fn methods() -> Vec<(String, String)> {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let with_service = |file: &prost_types::FileDescriptorProto| {
            file.service
                .iter()
                .position(|s| s.name() == "MirrorService")
        };
        let (file, at) = files
            .iter()
            .find_map(|file| Some((file, with_service(file)?)))
            .unwrap();
        let comment = |method: usize| {
            let path = [6, at as i32, 2, method as i32];
            let places = &file.source_code_info.as_ref().unwrap().location;
            let place = places.iter().find(|place| place.path == path).unwrap();
            place.leading_comments().to_owned()
        };
        let methods = file.service[at].method.iter().enumerate();
        methods
            .map(|(number, method)| (method.name().to_owned(), comment(number)))
            .collect()
    }

    #[test]
    fn every_call_has_its_right_here() {
        let here: Vec<&str> = RPCS.iter().map(|rpc| rpc.name).collect();
        let methods: Vec<String> = methods().into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            here, methods,
            "a call of the proto needs an entry in RPCS, and a line in docs/security.md"
        );
    }

    #[test]
    fn every_calls_comment_says_its_right() {
        for (name, comment) in methods() {
            let right = Rpc::find(&name).unwrap().right;
            assert!(
                comment.contains(&format!("Needs the right `{right}`.")),
                "{name}: its comment does not say that it needs `{right}`"
            );
        }
    }

    #[test]
    fn the_page_about_security_says_every_right() {
        let page = std::fs::read_to_string("docs/security.md").unwrap();
        for rpc in RPCS {
            let row = page
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", rpc.right)));
            assert!(
                row.is_some_and(|row| row.contains(&format!("`{}`", rpc.name))),
                "docs/security.md does not say that `{}` needs `{}`",
                rpc.name,
                rpc.right
            );
        }
    }
}
