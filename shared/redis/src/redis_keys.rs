//! All Redis keys and topics.
//!
//! Owns: the partition of a room, and the name of each key. Must not: talk to Redis.
//! Next: `rooms/src/store/redis` writes most keys, each with a TTL.
//!
//! The hash tag `{tag}` of a room's partition keeps its keys and topics in one slot of a Redis
//! Cluster, so that one script may use them all.

use signalbox_protocol::id::{NodeId, PeerId, RoomId, UserId};

/// The number of partitions. All nodes of a deployment must use the same number.
pub const PARTITIONS: usize = 128;

/// The hash tag of each partition. Tag `p` has slot `p * 128 + 64`, so that any number of shards
/// gets an even share of the partitions.
pub const HASH_TAGS: [&str; PARTITIONS] = [
    "5n3", "d5m", "7me", "3xc", "a2j", "0i4", "cu4", "2jb", "5js", "92e", "bcu", "fvs", "4xr", "0mt", "cqt",
    "x3", "dhn", "530", "3ah", "70f", "047", "4e9", "ex", "6fo", "9of", "57p", "fox", "j7n", "00w", "4ay",
    "a8", "kag", "h8q", "1j7", "78o", "3ia", "4m0", "0x6", "6nf", "mq", "hx9", "1nw", "brw", "fgq", "4ip",
    "81f", "kin", "i1", "174", "her", "34b", "7el", "ekm", "403", "0r", "63e", "13t", "5bz", "n3j", "jbd",
    "8le", "44s", "42", "k4m", "7lu", "3ys", "hlk", "975", "k94", "9k", "a3z", "ebt", "7h5", "f3k", "5kc",
    "93u", "6z4", "2o2", "4yb", "0ld", "nc0", "71v", "9j6", "h1h", "dh", "kd7", "8x7", "any", "3d8", "756",
    "1gn", "5rh", "221", "cio", "01g", "aj9", "su7", "3hq", "h9a", "daw", "6ov", "la", "afp", "846", "7y7",
    "3l1", "5za", "1og", "6k6", "g0h", "ab0", "09n", "35r", "jg4", "l5l", "hdb", "1b", "62u", "8i5", "i2k",
    "312", "bjl", "12d", "5cj", "gmk", "665", "0dm", "45c",
];

/// FNV-1a: the same on every node and in every release.
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The partition of a room.
pub fn partition_of_room(room: &RoomId) -> usize {
    (fnv1a(room.as_str().bytes()) % PARTITIONS as u64) as usize
}

fn hash_tag(room: &RoomId) -> &'static str {
    HASH_TAGS[partition_of_room(room)]
}

/// The room hash: instance, replication id, version, members and their counters. TTL: the longest
/// life of the room and the resume window.
pub fn room_key(room: &RoomId) -> String {
    format!("sb:{{{}}}:room:{room}", hash_tag(room))
}

/// The mailbox stream of one peer. TTL: the resume window and three leases.
pub fn mailbox_key(room: &RoomId, peer: &PeerId) -> String {
    format!("sb:{{{}}}:box:{room}:{peer}", hash_tag(room))
}

/// The start of a node's topic in a room's partition. Scripts append the id of the node.
pub fn node_topic_prefix(room: &RoomId) -> String {
    format!("sb:{{{}}}:node:", hash_tag(room))
}

/// The topic of a node in partition `p`. It stores nothing.
pub fn node_topic(p: usize, node: &NodeId) -> String {
    format!("sb:{{{}}}:node:{node}", HASH_TAGS[p])
}

/// The rooms of partition `p` in which a node has peers. TTL: the longest life of a room.
pub fn node_rooms_key(p: usize, node: &NodeId) -> String {
    format!("sb:{{{}}}:on:{node}", HASH_TAGS[p])
}

/// The rooms of partition `p` by their next deadline. TTL: the longest life of a room.
pub fn due_key(p: usize) -> String {
    format!("sb:{{{}}}:due", HASH_TAGS[p])
}

/// The partition of a user's data.
pub fn partition_of_user(user: &UserId) -> usize {
    (fnv1a(user.as_str().bytes()) % PARTITIONS as u64) as usize
}

/// The rooms that a user has created, by the end of their retention. TTL: until the last one ends.
pub fn user_rooms_key(user: &UserId) -> String {
    format!("sb:{{{}}}:made:{user}", HASH_TAGS[partition_of_user(user)])
}

/// The nodes by the end of their leases. TTL: the longest life of a room.
pub const NODES_KEY: &str = "sb:nodes";

/// The number of partitions, so that a node with another number can refuse to start. TTL: a day,
/// renewed by nodes.
pub const PARTITION_COUNT_KEY: &str = "sb:partitions";

/// The claims that a ticket stands for, by the digest of the ticket. TTL: the life of the ticket.
pub fn ticket_key(digest: &str) -> String {
    format!("sb:ticket:{digest}")
}

/// A refresh family: the digest of its newest token and the claims. TTL: the life of the newest
/// token, at most the life of the family.
pub fn refresh_family_key(family: &str) -> String {
    format!("sb:refresh:{family}")
}

/// The invites to a room. TTL: that of the last invite to expire.
pub fn invites_key(room: &RoomId) -> String {
    format!("sb:invite:{room}")
}

/// The access rules, a hash. This key and the next two share a hash tag, so that one script may use
/// them all. TTL: that of the rule that is kept longest, at most 31 days and an hour.
pub const RULES_KEY: &str = "sb:{control}:rules";

/// The access rules by the end of their retention. TTL: as [`RULES_KEY`].
pub const RULE_ENDS_KEY: &str = "sb:{control}:ends";

/// The latest changes of access rules, and notices: a stream, bounded by number and age. TTL: ten
/// minutes.
pub const RULE_LOG_KEY: &str = "sb:{control}:log";

/// The topic of the event feed in a room's partition. It stores nothing.
pub fn feed_topic(room: &RoomId) -> String {
    format!("sb:{{{}}}:feed", hash_tag(room))
}

/// The topics of the event feed in all partitions.
pub fn feed_topics() -> impl Iterator<Item = String> {
    HASH_TAGS.iter().map(|tag| format!("sb:{{{tag}}}:feed"))
}

/// The webhook events of the rooms of partition `p`: a stream, bounded by number and age. TTL:
/// `webhooks.give_up` and a minute, at most a day and a minute.
pub fn webhook_queue_key(p: usize) -> String {
    format!("sb:{{{}}}:hooks", HASH_TAGS[p])
}

/// The progress of the webhook events of partition `p`: a hash. TTL: as that of the events.
pub fn webhook_state_key(p: usize) -> String {
    format!("sb:{{{}}}:hooks:state", HASH_TAGS[p])
}

/// The process that delivers the webhook events of partition `p`. TTL: a few seconds.
pub fn webhook_lease_key(p: usize) -> String {
    format!("sb:{{{}}}:hooks:lease", HASH_TAGS[p])
}

/// The dead letters of partition `p`: a stream, bounded by number and age. TTL:
/// `webhooks.dead_kept`.
pub fn webhook_dead_key(p: usize) -> String {
    format!("sb:{{{}}}:hooks:dead", HASH_TAGS[p])
}

/// The usage of a day such as `2026-11-21`, by API key and room: a hash. TTL: `usage.kept` after
/// the last write.
pub fn usage_key(day: &str) -> String {
    format!("sb:usage:{day}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc16(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(*byte) << 8), |c, _| {
                if c & 0x8000 == 0 { c << 1 } else { (c << 1) ^ 0x1021 }
            })
        })
    }

    #[test]
    fn hash_tags_spread_evenly_over_the_slots_of_a_cluster() {
        for (p, tag) in HASH_TAGS.iter().enumerate() {
            assert_eq!(usize::from(crc16(tag.as_bytes()) % 16_384), p * 128 + 64, "tag {tag}");
        }
    }

    #[test]
    fn keys_and_topics_of_a_room_share_its_hash_tag() {
        let (name, peer) = (RoomId::parse("stand-up").unwrap(), PeerId::from_bits(7));
        let tag = format!("{{{}}}", HASH_TAGS[partition_of_room(&name)]);
        let p = partition_of_room(&name);
        let hooks = [webhook_queue_key(p), webhook_state_key(p), webhook_lease_key(p), webhook_dead_key(p)];
        let others =
            [room_key(&name), mailbox_key(&name, &peer), node_topic_prefix(&name), feed_topic(&name)];
        for key in hooks.into_iter().chain(others) {
            assert!(key.contains(&tag), "{key}");
        }
    }

    #[test]
    fn the_partition_of_a_room_is_the_same_in_every_release() {
        assert_eq!(partition_of_room(&RoomId::parse("stand-up").unwrap()), PINNED_PARTITION);
    }
    const PINNED_PARTITION: usize = 39;
}
