//! Stands before a service: tells who calls, whether they may, and bounds what they can use up.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{BoxFuture, Service},
    server::NamedService,
};

use crate::{
    grpc::{
        access::{Access, Caller},
        audit::{Line, Strangers, Subject},
        body::{Held, Intake, Outflow, Revoked, SMALL_REQUEST},
        convert::refusal,
        origin::Origin,
        rpc::Rpc,
    },
    model::access::Right,
};

/// The largest request that is taken: the files that may be sent along, and their names.
pub const LARGEST_REQUEST: usize = 20 << 20;

/// Who may call a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// Everybody, and they need not say who they are: is the daemon there?
    All,
    /// Whoever may read.
    Readers,
    /// By the table of calls.
    Table,
}

/// A service that is guarded. Cheap to clone.
#[derive(Clone)]
pub struct Guard<S> {
    inner: S,
    post: Arc<Post>,
}

struct Post {
    access: Arc<Access>,
    open_for: For,
    strangers: Strangers,
}

impl<S> Guard<S> {
    /// Stands before `inner`.
    pub fn new(inner: S, open_for: For, access: Arc<Access>) -> Self {
        let post = Arc::new(Post {
            access,
            open_for,
            strangers: Strangers::default(),
        });
        Guard { inner, post }
    }
}

impl<S: NamedService> NamedService for Guard<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready is used up, its copy waits for the next call.
        let copy = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, copy);
        let post = Arc::clone(&self.post);
        Box::pin(async move {
            let answered = post.answer(request, inner).await;
            Ok(answered.unwrap_or_else(Status::into_http))
        })
    }
}

impl Post {
    async fn answer<S>(
        self: Arc<Self>,
        request: Request<Body>,
        mut inner: S,
    ) -> Result<Response<Body>, Status>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        if self.open_for == For::All {
            let bound = |body| {
                let held = Arc::new(Held::default());
                Body::new(Intake::new(body, SMALL_REQUEST, self.access.large(), held))
            };
            let Ok(response) = inner.call(request.map(bound)).await;
            return Ok(response);
        }
        // Every connection says where it comes from.
        let origin = request.extensions().get::<Origin>().cloned();
        let origin = origin.unwrap_or_else(|| Origin::unnamed("", None));
        let name = request.uri().path().rsplit('/').next().unwrap_or_default();
        let rpc = Rpc::find(name).filter(|_| self.open_for == For::Table);
        let caller = self.admit(&origin, request.headers(), rpc)?;
        let Some(call) = self.access.count_call(&caller.name) else {
            return Err(refusal(
                Code::ResourceExhausted,
                "TOO_MANY_CALLS",
                format!(
                    "too many calls of {} are under way; end some of them first",
                    caller.name
                ),
            ));
        };
        let held = Held::of(call);
        let subject = Subject::default();
        let line = rpc
            .filter(|rpc| rpc.is_changing())
            .map(|rpc| Line::new(&caller.name, origin.from(), rpc.name, subject.clone()));
        let revoked = self.clone().revoked(&origin, request.headers(), rpc);
        let mut request = request.map(|body| self.intake(body, rpc, &held));
        request.extensions_mut().insert(subject);
        request.extensions_mut().insert(caller);
        let Ok(response) = inner.call(request).await;
        if let Some(line) = line {
            let status = response.extensions().get::<Status>();
            line.write(status.map_or(Ok(()), Err));
        }
        Ok(response.map(|body| Body::new(Outflow::new(body, revoked, held))))
    }

    fn intake(&self, body: Body, rpc: Option<&Rpc>, held: &Arc<Held>) -> Body {
        let most = match rpc {
            Some(rpc) if rpc.takes_files => LARGEST_REQUEST,
            _ => SMALL_REQUEST,
        };
        let intake = Intake::new(body, most, self.access.large(), Arc::clone(held));
        match self.open_for {
            // Reflection is a stream of questions.
            For::Readers => Body::new(intake.unhurried()),
            For::All | For::Table => Body::new(intake),
        }
    }

    /// Tells who calls and whether they may; what is denied is written down.
    fn admit(
        &self,
        origin: &Origin,
        headers: &HeaderMap,
        rpc: Option<&'static Rpc>,
    ) -> Result<Caller, Status> {
        let called = rpc.map_or("reflection", |rpc| rpc.name);
        let caller = self
            .access
            .identify(origin, headers)
            .inspect_err(|status| {
                self.strangers.write(origin.from(), called, status);
            })?;
        origin.know();
        let needed = match (self.open_for, rpc) {
            (For::Table, None) => {
                return Err(refusal(
                    Code::Unimplemented,
                    "UNKNOWN_CALL",
                    "the service has no such call",
                ));
            }
            (_, None) => Right::Read,
            (_, Some(rpc)) => rpc.right,
        };
        if caller.rights < Some(needed) {
            let status = forbidden(&caller, called, needed);
            Line::new(&caller.name, origin.from(), called, Subject::default()).write(Err(&status));
            return Err(status);
        }
        Ok(caller)
    }

    /// Ends when the caller of an answer that is still going out may no longer have it.
    fn revoked(
        self: Arc<Self>,
        origin: &Origin,
        headers: &HeaderMap,
        rpc: Option<&'static Rpc>,
    ) -> Revoked {
        let mut kept = HeaderMap::new();
        if let Some(authorization) = headers.get(AUTHORIZATION) {
            kept.insert(AUTHORIZATION, authorization.clone());
        }
        let origin = origin.clone();
        let mut changes = self.access.changes();
        Box::pin(async move {
            loop {
                if changes.changed().await.is_err() {
                    return std::future::pending().await;
                }
                if let Err(status) = self.admit(&origin, &kept, rpc) {
                    return status;
                }
            }
        })
    }
}

/// The error of a call for which its caller has not the right.
pub(super) fn forbidden(caller: &Caller, called: &str, needed: Right) -> Status {
    let Caller {
        name,
        rights,
        given_by,
    } = caller;
    let has = match rights {
        Some(rights) => format!("has the right `{rights}`"),
        None => "has no rights".to_owned(),
    };
    refusal(
        Code::PermissionDenied,
        "RIGHTS_MISSING",
        format!(
            "{name} {has} here, and {called} needs `{needed}`; rights are given in the daemon's settings ({given_by})"
        ),
    )
}
