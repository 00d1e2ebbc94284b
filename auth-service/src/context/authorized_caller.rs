//! An authorized caller, and its room limit. The limit is applied before a handler can use the
//! caller.
//!
//! Owns: [`RoomLimited`], an authorized caller that a handler cannot use yet; [`Authorized`], one
//! that it can use; and [`RoomFilter`]. A route chooses one of the ways from the first to the
//! second. A route without a notion of rooms has only [`RoomLimited::in_all_rooms`], which refuses a
//! limited caller. Must not: check an API key (`authorization.rs` does).

use std::ops::Deref;

use signalbox_access::AccessSubject;
use signalbox_http::{ApiError, AuthorizationProof};
use signalbox_protocol::{
    id::{CallerId, Role, RoomId},
    problem::Problem,
};
use signalbox_token::scope::RoomPattern;

use super::{
    principal::{Application, Principal, room_not_allowed},
    service_context::ServiceContext,
};

/// The caller for whom a request was authorized.
pub(crate) struct Authorized<T>(T);

impl<T> Authorized<T> {
    pub(super) fn new(caller: T) -> Self {
        Self(caller)
    }
}

impl<T> Deref for Authorized<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> AuthorizationProof for Authorized<T> {}

/// An authorized caller that may be limited to some rooms. Its body may be parsed; the caller itself
/// is available only with a room or with a filter.
#[must_use = "a caller is not authorized before its room limit is applied"]
pub(crate) struct RoomLimited<T>(T);

impl<T> AuthorizationProof for RoomLimited<T> {}

/// The rooms that a caller may see, for lists.
#[derive(Debug, Clone)]
#[must_use = "a list must be filtered"]
pub(crate) struct RoomFilter(Option<RoomPattern>);

impl RoomFilter {
    /// Only this room.
    pub(crate) fn one(room: &RoomId) -> Self {
        Self(Some(RoomPattern::exact(room)))
    }

    /// Whether the caller may see a room.
    pub(crate) fn allows(&self, room: &RoomId) -> bool {
        self.0.as_ref().is_none_or(|rooms| rooms.matches(room))
    }

    /// Whether the caller may see something of the room with this name. What belongs to no room is
    /// visible to a caller without a limit only.
    pub(crate) fn allows_name(&self, room: Option<&str>) -> bool {
        self.0.is_none()
            || room.and_then(|room| RoomId::parse(room).ok()).is_some_and(|room| self.allows(&room))
    }

    /// Whether the caller is limited to some rooms.
    pub(crate) fn is_limited(&self) -> bool {
        self.0.is_some()
    }
}

/// A caller that may be limited to some rooms.
pub(crate) trait HasRoomLimit {
    /// The rooms; `None` is every room.
    fn room_limit(&self) -> Option<&RoomPattern>;
}

impl HasRoomLimit for Application {
    fn room_limit(&self) -> Option<&RoomPattern> {
        self.rooms.as_ref()
    }
}

impl HasRoomLimit for Principal {
    fn room_limit(&self) -> Option<&RoomPattern> {
        match self {
            Self::ApiKey(application) | Self::ManagementToken(application) => application.room_limit(),
            Self::User(_) | Self::Guest => None,
        }
    }
}

impl<T: HasRoomLimit> RoomLimited<T> {
    pub(super) fn new(caller: T) -> Self {
        Self(caller)
    }

    /// The caller, for a request that concerns the whole server.
    ///
    /// # Errors
    /// 403 `room_limited`.
    pub(crate) fn in_all_rooms(self, context: &ServiceContext) -> Result<Authorized<T>, ApiError> {
        if self.0.room_limit().is_none() {
            return Ok(Authorized::new(self.0));
        }
        let detail = "this API key is limited to some rooms, and the request concerns all rooms";
        Err(report_unauthorized(context, Problem::new(403, "room_limited", detail)))
    }

    /// The caller, and the filter that its list must pass.
    pub(crate) fn filter_rooms(self) -> (Authorized<T>, RoomFilter) {
        let filter = RoomFilter(self.0.room_limit().cloned());
        (Authorized::new(self.0), filter)
    }

    /// The caller, for a new credential that has the same limit.
    pub(crate) fn pass_limit_on(self) -> Authorized<T> {
        Authorized::new(self.0)
    }
}

impl RoomLimited<Principal> {
    /// The caller, for a request about one room. Its API key may be limited to other rooms; a user
    /// may be banned from the room.
    ///
    /// # Errors
    /// 403 `room_not_allowed` or `banned`, and the other errors of [`ServiceContext::check_access`].
    pub(crate) fn in_room(
        self,
        context: &ServiceContext,
        room: &RoomId,
    ) -> Result<Authorized<Principal>, ApiError> {
        let allowed = match &self.0 {
            Principal::User(claims) => context.check_access(&AccessSubject {
                user: &claims.sub,
                room: Some(room),
                // A user token names no room, so its time of issue is not compared with the rules of
                // the room.
                grant: claims.grant(),
                issued_s: None,
                root: None,
                address: None,
            }),
            caller if caller.room_limit().is_none_or(|rooms| rooms.matches(room)) => Ok(()),
            _ => Err(room_not_allowed()),
        };
        match allowed {
            Ok(()) => Ok(Authorized::new(self.0)),
            Err(problem) => Err(report_unauthorized(context, problem)),
        }
    }

    /// The role of a user; `None` for another caller. A role is not limited to rooms.
    pub(crate) fn user_role(&self) -> Option<&Role> {
        match &self.0 {
            Principal::User(claims) => Some(&claims.role),
            _ => None,
        }
    }

    /// The kind of the caller, for metrics.
    pub(crate) fn kind(&self) -> &'static str {
        self.0.kind()
    }

    /// The id of the caller, for the audit log.
    pub(crate) fn log_id(&self) -> CallerId {
        self.0.id()
    }
}

/// Counts and logs a refused caller, without a name: the name may be a secret in the wrong place.
pub(super) fn report_unauthorized(context: &ServiceContext, problem: Problem) -> ApiError {
    let code = problem.code;
    context.metrics.unauthorized.with_label_values(&[code]).inc();
    tracing::info!(target: "signalbox_auth::audit", code, field = problem.field.as_deref(), "caller_refused");
    ApiError(problem)
}
