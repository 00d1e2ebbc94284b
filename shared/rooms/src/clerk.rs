//! Changing a room without a socket in it: load, decide, commit, and again if somebody was faster.
//!
//! Owns: [`Rooms`], what the API of a process needs of rooms, and [`Clerk`], which keeps it for a process that serves no peer. Where one
//! process serves both, its node keeps it, so that its own peers hear at once. Must not: judge who may ask.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use signalbox_config::Settings;
use signalbox_protocol::id::{NodeId, RoomId, random_hex};
use tokio::time::timeout;

use crate::{
    announce,
    room::{Decision, Input, Outcome, RoomState, Rules, decide},
    store::{Bounds, Committed, Found, RedisStore, Store, Unavailable},
    taken_back::{OnTakenBack, found_out, taken_back},
};

/// How often another may be faster before the clerk gives up.
const MOST_TURNS: usize = 16;

/// How long one change may take, all turns together.
const DEADLINE: Duration = Duration::from_secs(5);

/// Between two attempts to reach a store that was never there.
const AGAIN: Duration = Duration::from_millis(500);

/// What becomes of a change: its outcome and the room as it is then.
pub type Changed<'a> =
    Pin<Box<dyn Future<Output = Result<(Outcome, Arc<RoomState>), Unavailable>> + Send + 'a>>;

/// Rooms as an API sees them.
pub trait Rooms: Send + Sync {
    /// Changes a room. After [`Unavailable`] nobody knows whether it was changed.
    fn change<'a>(&'a self, room: &'a RoomId, input: Input) -> Changed<'a>;
    /// Where they are.
    ///
    /// # Errors
    /// [`Unavailable`]: not known yet.
    fn store(&self) -> Result<&Store, Unavailable>;
}

/// Changes rooms and serves none.
pub struct Clerk(Arc<Desk>);

/// What a change needs, wherever it is made.
struct Desk {
    /// Comes when the store first answers.
    store: Arc<OnceLock<Store>>,
    rules: Rules,
    /// Owns no peer and renews no lease: only commits name it.
    name: NodeId,
    on_taken_back: OnTakenBack,
}

impl Clerk {
    /// A clerk over a store.
    pub fn new(store: Store, rules: Rules, on_taken_back: OnTakenBack) -> Self {
        Self::at(Arc::new(store.into()), rules, on_taken_back)
    }

    fn at(store: Arc<OnceLock<Store>>, rules: Rules, on_taken_back: OnTakenBack) -> Self {
        Self(Arc::new(Desk { store, rules, name: NodeId::random(), on_taken_back }))
    }

    /// A clerk over Redis, which need not answer yet: until it does every change is [`Unavailable`].
    ///
    /// # Errors
    /// No thread could be started.
    pub fn later(url: &str, settings: &Settings, on_taken_back: OnTakenBack) -> Result<Self, std::io::Error> {
        let store = Arc::new(OnceLock::new());
        let (weak, url) = (Arc::downgrade(&store), url.to_owned());
        let (redis, bounds) = (settings.redis.clone(), Bounds::new(settings));
        let keep_trying = move || {
            while let Some(store) = weak.upgrade() {
                if let Ok(connected) = RedisStore::connect(&url, &redis, bounds) {
                    return drop(store.set(Store::Redis(connected)));
                }
                drop(store);
                std::thread::sleep(AGAIN);
            }
        };
        std::thread::Builder::new().name("clerk".to_owned()).spawn(keep_trying)?;
        Ok(Self::at(store, Rules::new(settings), on_taken_back))
    }
}

impl Desk {
    async fn commit(
        self: &Arc<Self>,
        room: &RoomId,
        input: Input,
    ) -> Result<(Outcome, Arc<RoomState>), Unavailable> {
        let inputs = [input];
        let store = self.store.get().ok_or(Unavailable)?;
        let mut found = store.load(room).await?;
        for _ in 0..MOST_TURNS {
            let (now, state) = (found.now, state_of(found));
            let decision = decide(&state, now, &inputs, &self.rules);
            let outcome = decision.outcomes.first().copied().unwrap_or(Outcome::Gone);
            if decision.is_empty() {
                return Ok((outcome, Arc::new(state)));
            }
            let commit = announce::commit(room, &self.name, now, &state, &decision, Vec::new(), &self.rules);
            match store.commit(room, &self.name, &commit).await {
                Ok(Committed::Applied(lineage, _)) => {
                    taken_back(&decision).for_each(|who| (self.on_taken_back)(who));
                    return Ok((outcome, Arc::new(RoomState { lineage, ..decision.next })));
                }
                Ok(Committed::Conflict(fresh)) => found = fresh,
                Err(Unavailable) => {
                    self.find_out(room, &decision);
                    return Err(Unavailable);
                }
            }
        }
        Err(Unavailable)
    }

    /// Nobody knows whether it was done: who was removed all the same must not come back.
    fn find_out(self: &Arc<Self>, room: &RoomId, decision: &Decision) {
        let doubtful: Vec<_> = taken_back(decision).collect();
        if doubtful.is_empty() {
            return;
        }
        let (desk, room) = (self.clone(), room.clone());
        tokio::spawn(async move {
            if let Some(store) = desk.store.get() {
                found_out(store, &room, doubtful).await.into_iter().for_each(|who| (desk.on_taken_back)(who));
            }
        });
    }
}

impl Rooms for Clerk {
    fn change<'a>(&'a self, room: &'a RoomId, input: Input) -> Changed<'a> {
        let (desk, room) = (self.0.clone(), room.clone());
        // A task of its own: whoever asked may hang up between a commit and what follows from it.
        let change = tokio::spawn(async move { desk.commit(&room, input).await });
        Box::pin(async move {
            match timeout(DEADLINE, change).await {
                Ok(Ok(changed)) => changed,
                _ => Err(Unavailable),
            }
        })
    }

    fn store(&self) -> Result<&Store, Unavailable> {
        self.0.store.get().ok_or(Unavailable)
    }
}

/// The room that was found, or one before its first commit.
fn state_of(found: Found) -> RoomState {
    found.room.unwrap_or_else(|| RoomState {
        read_at: found.now,
        ..RoomState::new(random_hex().into(), found.lineage)
    })
}

#[cfg(test)]
mod tests {
    use signalbox_protocol::LeftReason;
    use tokio::sync::mpsc;

    use super::*;
    use crate::{
        room::{
            Act, Manage, Member, Patch, RoomSettings, Whom,
            tests::{member, peer},
        },
        taken_back::TakenBack,
    };

    fn clerk() -> Clerk {
        let settings = Settings::default();
        let store = Store::memory(Bounds::new(&settings), None);
        Clerk::new(store, Rules::new(&settings), Arc::new(|_| {}))
    }

    fn room() -> RoomId {
        RoomId::parse("r").unwrap()
    }

    async fn make(clerk: &Clerk) -> Outcome {
        let now = clerk.store().unwrap().now_ms();
        let settings = RoomSettings { created_at: now, kept_until: now + 60_000, ..RoomSettings::default() };
        clerk.change(&room(), Manage::api(Act::Create(settings.into()))).await.unwrap().0
    }

    #[tokio::test]
    async fn what_a_clerk_makes_is_there_and_can_be_changed_and_ended() {
        let clerk = clerk();
        assert_eq!(make(&clerk).await, Outcome::Done);
        let (outcome, state) = clerk.change(&room(), Manage::api(Act::Lock(true))).await.unwrap();
        assert_eq!((outcome, state.settings.locked), (Outcome::Done, true));
        clerk.change(&room(), Manage::api(Act::Delete)).await.unwrap();
        let (outcome, _) = clerk.change(&room(), Manage::api(Act::Lock(true))).await.unwrap();
        assert_eq!(outcome, Outcome::NoSuchRoom);
    }

    #[tokio::test]
    async fn changes_at_once_all_hold() {
        let clerk = Arc::new(clerk());
        make(&clerk).await;
        let change = |n: u64| {
            let clerk = clerk.clone();
            async move {
                let patch = Patch { max_peers: Some(Some(n as u32)), ..Patch::default() };
                clerk.change(&room(), Manage::api(Act::Configure(patch))).await.unwrap().0
            }
        };
        let outcomes = futures_util::future::join_all((1..=8).map(change)).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Done));
        assert_eq!(clerk.store().unwrap().load(&room()).await.unwrap().room.unwrap().version, 9);
    }

    /// Two peers in a room, of whom the first is to be removed.
    async fn two(clerk: &Clerk) -> Input {
        for n in [1, 2] {
            clerk.change(&room(), Input::Join { peer: peer(n), member: member(n, 1) }).await.unwrap();
        }
        Manage::api(Act::Remove { whom: Whom::Peer(peer(1)), reason: LeftReason::Removed })
    }

    #[tokio::test]
    async fn who_asks_may_hang_up_and_what_follows_from_the_change_is_done_all_the_same() {
        let settings = Settings::default();
        let (told, mut heard) = mpsc::unbounded_channel();
        let hook: OnTakenBack = Arc::new(move |who| told.send(who).unwrap());
        let store = Store::memory(Bounds::new(&settings), None);
        let clerk = Clerk::new(store, Rules::new(&settings), hook);
        let removal = two(&clerk).await;
        drop(clerk.change(&room(), removal));
        assert_eq!(heard.recv().await.unwrap().peer, peer(1));
    }

    #[tokio::test]
    async fn of_those_in_doubt_who_was_removed_is_found_out() {
        let clerk = clerk();
        let removal = two(&clerk).await;
        clerk.change(&room(), removal).await.unwrap();
        let doubtful = |n| {
            let Member { user, token, expires, .. } = *member(n, 1);
            TakenBack { peer: peer(n), user, token, until: expires }
        };
        let removed = found_out(clerk.store().unwrap(), &room(), vec![doubtful(1), doubtful(2)]).await;
        assert_eq!(removed.iter().map(|who| &who.peer).collect::<Vec<_>>(), [&peer(1)]);
    }
}
