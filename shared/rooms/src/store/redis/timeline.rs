//! The script that appends to the timeline of a room, and the text of a timeline in Redis.
//!
//! Owns: arguments and reply. Must not: call Redis; `mod.rs` does.

use signalbox_protocol::id::{RoomId, UserId};
use signalbox_redis::{RedisScript, ScriptCall, redis_keys};
use tokio::time::Instant;

use crate::{
    store::TimelineLimits,
    timeline::{PairReport, PairTimeline, PeerPair, RecordedStep},
};

/// Stands for a user that the node does not know. No user has this name.
const UNKNOWN_USER: &str = "?";

pub(super) static APPEND_TIMELINE: RedisScript =
    RedisScript::new(include_str!("lua/append_timeline.lua")).with_flags("");

pub(super) fn append_timeline_call(
    room: &RoomId,
    reports: &[PairReport],
    limits: &TimelineLimits,
) -> ScriptCall {
    let mut call = ScriptCall::in_partition(redis_keys::partition_of_room(room));
    call.add_key(redis_keys::timeline_key(room)).add_key(redis_keys::timeline_pairs_key(room));
    let now = Instant::now();
    call.add_arg(limits.retention_ms).add_arg(limits.max_pairs).add_arg(limits.max_steps);
    for report in reports {
        let pair = report.pair();
        call.add_arg(pair.to_text()).add_arg(&*report.root);
        for user in report.users() {
            call.add_arg(user.as_ref().map_or(UNKNOWN_USER, UserId::as_str));
        }
        call.add_arg(report.steps.len());
        for (at, step) in &report.steps {
            let json = serde_json::to_string(step).unwrap_or_default();
            call.add_arg(now.duration_since(*at).as_millis() as u64);
            call.add_arg(format!("{} {json}", pair.index_of(&report.peer)));
        }
    }
    call
}

/// Reads the pairs with a step that is not older than `oldest_at`. What cannot be read is left out: a
/// later release may write it.
pub(super) fn read_timeline<'a>(
    fields: impl IntoIterator<Item = (&'a String, &'a String)>,
    oldest_at: u64,
) -> Vec<PairTimeline> {
    let mut pairs: Vec<_> = fields
        .into_iter()
        .filter_map(|(pair, text)| read_pair(pair, text, oldest_at))
        .filter(|pair| !pair.steps.is_empty())
        .collect();
    PairTimeline::sort_all(&mut pairs);
    pairs
}

fn read_pair(pair: &str, text: &str, oldest_at: u64) -> Option<PairTimeline> {
    let pair = PeerPair::from_text(pair)?;
    let (head, lines) = text.split_once('\n')?;
    let mut users = head.split(' ').map(|user| UserId::parse(user).ok());
    let users = [users.next()?, users.next()?];
    let steps = lines.lines().filter_map(|line| read_step(&pair, line));
    let steps = steps.filter(|step| step.at >= oldest_at).collect();
    Some(PairTimeline { pair, users, steps })
}

fn read_step(pair: &PeerPair, line: &str) -> Option<RecordedStep> {
    let mut parts = line.splitn(3, ' ');
    let (at, place, json) =
        (parts.next()?.parse().ok()?, parts.next()?.parse::<usize>().ok()?, parts.next()?);
    let peer = pair.peers().get(place)?.clone();
    Some(RecordedStep { at, peer, step: serde_json::from_str(json).ok()? })
}
