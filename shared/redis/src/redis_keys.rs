//! All Redis keys and topics.
//!
//! Owns: the partition of a room, the name of each key, and which service may use it. Must not:
//! talk to Redis, or know the prefix of a deployment: the client puts it before each name
//! (`redis_namespace`). Next: `rooms/src/store/redis` writes most keys, each with a TTL.
//!
//! A name begins with its kind ([`KeyKind`], [`TopicKind`]), because the users of Redis are limited
//! by the beginning of names (`deploy/redis/users.acl.template`). `sb:a:` is for the auth service
//! alone, `sb:s:` for signaling nodes alone; every other kind is shared. Each key is made from a
//! kind, so that no key can be without an owner.
//!
//! The hash tag `{tag}` of a room's partition keeps its keys and topics in one slot of a Redis
//! Cluster, so that one script may use them all.

use std::fmt::Display;

use signalbox_protocol::id::{CallerId, NodeId, PeerId, RoomId, UserId};

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

/// A user of Redis: each service has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisUser {
    /// The auth service.
    Auth,
    /// A signaling node.
    Signal,
}

impl RedisUser {
    /// Both users.
    pub const ALL: [Self; 2] = [Self::Auth, Self::Signal];

    /// The name in the ACL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Signal => "signal",
        }
    }
}

/// What a user may do with a kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyAccess {
    /// Whether the user may read the value.
    pub read: bool,
    /// Whether the user may write the value.
    pub write: bool,
}

const NO: KeyAccess = KeyAccess { read: false, write: false };
const READ: KeyAccess = KeyAccess { read: true, write: false };
const WRITE: KeyAccess = KeyAccess { read: false, write: true };
const BOTH: KeyAccess = KeyAccess { read: true, write: true };

/// The type of the value of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// A hash.
    Hash,
    /// A set.
    Set,
    /// A sorted set.
    SortedSet,
    /// A stream.
    Stream,
    /// A string.
    Text,
}

macro_rules! key_kinds {
    ($($(#[$doc:meta])* $kind:ident: $prefix:literal, $value:ident, auth $auth:ident, signal $signal:ident;)*) => {
        /// A kind of key.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum KeyKind { $($(#[$doc])* $kind),* }

        impl KeyKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// The beginning of the name of each key of this kind, and of no other key.
            pub const fn prefix(self) -> &'static str {
                match self { $(Self::$kind => $prefix),* }
            }

            /// The type of the values.
            pub const fn value_type(self) -> ValueType {
                match self { $(Self::$kind => ValueType::$value),* }
            }

            /// What a user may do with keys of this kind.
            pub const fn access(self, user: RedisUser) -> KeyAccess {
                match (self, user) {
                    $((Self::$kind, RedisUser::Auth) => $auth, (Self::$kind, RedisUser::Signal) => $signal),*
                }
            }
        }
    };
}

key_kinds! {
    /// See [`room_key`].
    Room: "sb:room:", Hash, auth BOTH, signal BOTH;
    /// See [`mailbox_key`].
    Mailbox: "sb:box:", Stream, auth BOTH, signal BOTH;
    /// See [`bodies_key`].
    Bodies: "sb:body:", Stream, auth BOTH, signal BOTH;
    /// See [`body_holders_key`].
    BodyHolders: "sb:body-held:", SortedSet, auth BOTH, signal BOTH;
    /// See [`node_rooms_key`].
    NodeRooms: "sb:on:", Set, auth BOTH, signal BOTH;
    /// See [`due_key`].
    Due: "sb:due:", SortedSet, auth BOTH, signal BOTH;
    /// See [`created_rooms_key`].
    CreatedRooms: "sb:a:made:", SortedSet, auth BOTH, signal NO;
    /// See [`NODES_KEY`].
    Nodes: "sb:s:nodes", SortedSet, auth NO, signal BOTH;
    /// See [`PARTITION_COUNT_KEY`].
    PartitionCount: "sb:partitions", Text, auth BOTH, signal BOTH;
    /// See [`ticket_key`].
    Ticket: "sb:ticket:", Text, auth WRITE, signal BOTH;
    /// See [`refresh_family_key`].
    RefreshFamily: "sb:a:refresh:", Hash, auth BOTH, signal NO;
    /// See [`root_families_key`].
    RootFamilies: "sb:a:root-families:", SortedSet, auth BOTH, signal NO;
    /// See [`user_families_key`].
    UserFamilies: "sb:a:user-families:", SortedSet, auth BOTH, signal NO;
    /// See [`key_invites_key`].
    KeyInvites: "sb:a:key-invites:", SortedSet, auth BOTH, signal NO;
    /// See [`invites_key`].
    Invites: "sb:a:invite:", Hash, auth BOTH, signal NO;
    /// See [`RULES_KEY`].
    Rules: "sb:rules:", Hash, auth BOTH, signal READ;
    /// See [`RULE_ENDS_KEY`].
    RuleEnds: "sb:rule-ends:", SortedSet, auth BOTH, signal READ;
    /// See [`RULE_LOG_KEY`].
    RuleLog: "sb:rule-log:", Stream, auth BOTH, signal READ;
    /// See [`NODE_RULES_KEY`].
    NodeRules: "sb:node-rules:", Hash, auth READ, signal BOTH;
    /// See [`NODE_RULE_ENDS_KEY`].
    NodeRuleEnds: "sb:node-rule-ends:", SortedSet, auth READ, signal BOTH;
    /// See [`NODE_RULE_LOG_KEY`].
    NodeRuleLog: "sb:node-rule-log:", Stream, auth READ, signal BOTH;
    /// See [`webhook_queue_key`].
    WebhookQueue: "sb:hooks:", Stream, auth BOTH, signal BOTH;
    /// See [`webhook_state_key`].
    WebhookState: "sb:hook-state:", Hash, auth BOTH, signal BOTH;
    /// See [`webhook_lease_key`].
    WebhookLease: "sb:a:hook-lease:", Text, auth BOTH, signal NO;
    /// See [`webhook_dead_key`].
    WebhookDead: "sb:a:hook-dead:", Stream, auth BOTH, signal NO;
    /// See [`timeline_key`].
    Timeline: "sb:timeline:", Hash, auth READ, signal BOTH;
    /// See [`timeline_pairs_key`].
    TimelinePairs: "sb:s:timeline-pairs:", SortedSet, auth NO, signal BOTH;
    /// See [`usage_key`].
    Usage: "sb:usage:", Hash, auth READ, signal BOTH;
}

impl KeyKind {
    /// The kind of a key. None if the key is not ours.
    pub fn of_key(key: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| key.starts_with(kind.prefix()))
    }

    /// The key with this name.
    fn key(self, name: impl Display) -> String {
        format!("{}{name}", self.prefix())
    }

    /// The key of partition `p`.
    fn key_in(self, p: usize) -> String {
        format!("{}{{{}}}", self.prefix(), HASH_TAGS[p])
    }

    /// The key with this name in partition `p`.
    fn named_key_in(self, p: usize, name: impl Display) -> String {
        format!("{}{{{}}}:{name}", self.prefix(), HASH_TAGS[p])
    }
}

/// A kind of topic. It stores nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicKind {
    /// The messages for one node.
    Node,
    /// The event feed.
    Feed,
}

/// What a user may do with a kind of topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicAccess {
    /// Whether the user may subscribe.
    pub subscribe: bool,
    /// Whether the user may publish.
    pub publish: bool,
}

impl TopicKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Node, Self::Feed];

    /// The beginning of the name of each topic of this kind.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Node => "sb:node:",
            Self::Feed => "sb:feed:",
        }
    }

    /// What a user may do with topics of this kind. Both services change rooms, so both publish.
    pub const fn access(self, user: RedisUser) -> TopicAccess {
        let subscribe =
            matches!((self, user), (Self::Node, RedisUser::Signal) | (Self::Feed, RedisUser::Auth));
        TopicAccess { subscribe, publish: true }
    }

    fn topic_in(self, p: usize) -> String {
        format!("{}{{{}}}", self.prefix(), HASH_TAGS[p])
    }
}

/// A kind that both services read and write, with values of this type, and a key of this kind that
/// holds nothing.
pub(crate) fn sample_key(value_type: ValueType) -> (KeyKind, String) {
    let is_shared = |kind: &KeyKind| RedisUser::ALL.iter().all(|user| kind.access(*user) == BOTH);
    let mut kinds = KeyKind::ALL.iter().copied().filter(|kind| kind.value_type() == value_type);
    let kind = kinds.find(is_shared).unwrap_or(KeyKind::Room);
    let key = if kind.prefix().ends_with(':') { kind.key_in(0) } else { kind.prefix().to_owned() };
    (kind, key)
}

/// A topic of this kind that nothing subscribes to.
pub(crate) fn sample_topic(kind: TopicKind) -> String {
    format!("{}:-", kind.topic_in(0))
}

/// The format of a room in Redis. A release with another format does not read the rooms of this one.
const ROOM_FORMAT: u32 = 2;

/// The room hash: instance, replication id, version, members and their counters. TTL: the longest
/// life of the room and the resume window.
pub fn room_key(room: &RoomId) -> String {
    let (kind, tag) = (KeyKind::Room.prefix(), HASH_TAGS[partition_of_room(room)]);
    format!("{kind}{ROOM_FORMAT}:{{{tag}}}:{room}")
}

/// The mailbox stream of one peer. TTL: the resume window and three leases.
pub fn mailbox_key(room: &RoomId, peer: &PeerId) -> String {
    KeyKind::Mailbox.named_key_in(partition_of_room(room), format_args!("{room}:{peer}"))
}

/// The stream of the bodies that mailboxes of a room share. TTL: that of a mailbox, and 4 s.
pub fn bodies_key(room: &RoomId) -> String {
    KeyKind::Bodies.named_key_in(partition_of_room(room), room)
}

/// The peers whose mailboxes refer to shared bodies, by the time of the oldest entry that does. TTL:
/// as [`bodies_key`].
pub fn body_holders_key(room: &RoomId) -> String {
    KeyKind::BodyHolders.named_key_in(partition_of_room(room), room)
}

/// The start of a node's topic in a room's partition. Scripts append the id of the node.
pub fn node_topic_prefix(room: &RoomId) -> String {
    format!("{}:", TopicKind::Node.topic_in(partition_of_room(room)))
}

/// The topic of a node in partition `p`. It stores nothing.
pub fn node_topic(p: usize, node: &NodeId) -> String {
    format!("{}:{node}", TopicKind::Node.topic_in(p))
}

/// The rooms of partition `p` in which a node has peers. TTL: the longest life of a room.
pub fn node_rooms_key(p: usize, node: &NodeId) -> String {
    KeyKind::NodeRooms.named_key_in(p, node)
}

/// The rooms of partition `p` by their next deadline. TTL: the longest life of a room.
pub fn due_key(p: usize) -> String {
    KeyKind::Due.key_in(p)
}

/// The partition of the rooms that a user or an API key has created.
pub fn partition_of_creator(name: &str) -> usize {
    (fnv1a(name.bytes()) % PARTITIONS as u64) as usize
}

/// The rooms that a user or an API key has created, by the end of their retention. The name is that
/// of the user, or `key/` and the id of the key: no user has a name with `/`. TTL: until the last
/// one ends.
pub fn created_rooms_key(name: &str) -> String {
    KeyKind::CreatedRooms.named_key_in(partition_of_creator(name), name)
}

/// The nodes by the end of their leases. TTL: the longest life of a room.
pub const NODES_KEY: &str = KeyKind::Nodes.prefix();

/// The number of partitions, so that a node with another number can refuse to start. TTL: a day,
/// renewed by nodes.
pub const PARTITION_COUNT_KEY: &str = KeyKind::PartitionCount.prefix();

/// The signed token that a ticket stands for, by the digest of the ticket. TTL: the life of the
/// ticket.
pub fn ticket_key(digest: &str) -> String {
    KeyKind::Ticket.key(digest)
}

/// A refresh family: the digest of its newest token and the claims. TTL: the life of the newest
/// token, at most the life of the family.
pub fn refresh_family_key(family: &str) -> String {
    KeyKind::RefreshFamily.key(family)
}

/// The partition of the lists that count the records of a root or an API key.
fn partition_of_root(root: &str) -> usize {
    (fnv1a(root.bytes()) % PARTITIONS as u64) as usize
}

/// The refresh families of a root, by the end of their retention. TTL: until the last one ends.
pub fn root_families_key(root: &str) -> String {
    KeyKind::RootFamilies.named_key_in(partition_of_root(root), root)
}

/// The refresh families of a user of a root, in the slot of [`root_families_key`]. No root has a
/// space. TTL: until the last one ends.
pub fn user_families_key(root: &str, user: &UserId) -> String {
    KeyKind::UserFamilies.named_key_in(partition_of_root(root), format_args!("{root} {user}"))
}

/// The invites that an API key has created, by the end of their retention. TTL: until the last one
/// ends.
pub fn key_invites_key(key: &CallerId) -> String {
    KeyKind::KeyInvites.named_key_in(partition_of_root(key.as_str()), key)
}

/// The invites to a room. TTL: that of the last invite to expire.
pub fn invites_key(room: &RoomId) -> String {
    KeyKind::Invites.key(room)
}

/// The access rules of the auth service, a hash. The keys of both sets of rules share a hash tag, so
/// that one script may use them all. TTL: that of the rule that is kept longest, at most 31 days and
/// an hour.
pub const RULES_KEY: &str = "sb:rules:{control}";

/// The access rules by the end of their retention. TTL: as [`RULES_KEY`].
pub const RULE_ENDS_KEY: &str = "sb:rule-ends:{control}";

/// The latest changes of access rules, and notices: a stream, bounded by number and age. TTL: ten
/// minutes.
pub const RULE_LOG_KEY: &str = "sb:rule-log:{control}";

/// The access rules that signaling nodes wrote: revoked grants, and copies of rules that the store
/// had lost. As [`RULES_KEY`].
pub const NODE_RULES_KEY: &str = "sb:node-rules:{control}";

/// As [`RULE_ENDS_KEY`], for [`NODE_RULES_KEY`].
pub const NODE_RULE_ENDS_KEY: &str = "sb:node-rule-ends:{control}";

/// As [`RULE_LOG_KEY`], for [`NODE_RULES_KEY`].
pub const NODE_RULE_LOG_KEY: &str = "sb:node-rule-log:{control}";

/// The topic of the event feed in a room's partition. It stores nothing.
pub fn feed_topic(room: &RoomId) -> String {
    TopicKind::Feed.topic_in(partition_of_room(room))
}

/// The topics of the event feed in all partitions.
pub fn feed_topics() -> impl Iterator<Item = String> {
    (0..PARTITIONS).map(|p| TopicKind::Feed.topic_in(p))
}

/// The webhook events of the rooms of partition `p`: a stream, bounded by number and age. TTL:
/// `webhooks.give_up` and a minute, at most a day and a minute.
pub fn webhook_queue_key(p: usize) -> String {
    KeyKind::WebhookQueue.key_in(p)
}

/// The progress of the webhook events of partition `p`: a hash. TTL: as that of the events.
pub fn webhook_state_key(p: usize) -> String {
    KeyKind::WebhookState.key_in(p)
}

/// The process that delivers the webhook events of partition `p`. TTL: a few seconds.
pub fn webhook_lease_key(p: usize) -> String {
    KeyKind::WebhookLease.key_in(p)
}

/// The dead letters of partition `p`: a stream, bounded by number and age. TTL:
/// `webhooks.dead_kept`.
pub fn webhook_dead_key(p: usize) -> String {
    KeyKind::WebhookDead.key_in(p)
}

/// The timeline of a room: the steps of each pair of peers. TTL: `timing.timeline` after the last
/// write, at most a day.
pub fn timeline_key(room: &RoomId) -> String {
    KeyKind::Timeline.named_key_in(partition_of_room(room), room)
}

/// The pairs of a timeline by the time of their last step. TTL: as [`timeline_key`].
pub fn timeline_pairs_key(room: &RoomId) -> String {
    KeyKind::TimelinePairs.named_key_in(partition_of_room(room), room)
}

/// The usage of a day such as `2026-11-21`, by API key and room: a hash. TTL: `usage.kept` after
/// the last write.
pub fn usage_key(day: &str) -> String {
    KeyKind::Usage.key(day)
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
        let others = [
            room_key(&name),
            mailbox_key(&name, &peer),
            bodies_key(&name),
            body_holders_key(&name),
            node_topic_prefix(&name),
            feed_topic(&name),
            timeline_key(&name),
            timeline_pairs_key(&name),
        ];
        for key in hooks.into_iter().chain(others) {
            assert!(key.contains(&tag), "{key}");
        }
    }

    #[test]
    fn every_key_is_of_the_one_kind_that_its_name_begins_with() {
        let (room, p) = (RoomId::parse("r").unwrap(), 3);
        let (peer, node) = (PeerId::from_bits(7), NodeId::from_bits(8));
        let (user, key) = (UserId::parse("u").unwrap(), CallerId::parse("acme").unwrap());
        let keys = [
            (KeyKind::Room, room_key(&room)),
            (KeyKind::Mailbox, mailbox_key(&room, &peer)),
            (KeyKind::Bodies, bodies_key(&room)),
            (KeyKind::BodyHolders, body_holders_key(&room)),
            (KeyKind::NodeRooms, node_rooms_key(p, &node)),
            (KeyKind::Due, due_key(p)),
            (KeyKind::CreatedRooms, created_rooms_key("u")),
            (KeyKind::Nodes, NODES_KEY.to_owned()),
            (KeyKind::PartitionCount, PARTITION_COUNT_KEY.to_owned()),
            (KeyKind::Ticket, ticket_key("d")),
            (KeyKind::RefreshFamily, refresh_family_key("f")),
            (KeyKind::RootFamilies, root_families_key("app")),
            (KeyKind::UserFamilies, user_families_key("app", &user)),
            (KeyKind::KeyInvites, key_invites_key(&key)),
            (KeyKind::Invites, invites_key(&room)),
            (KeyKind::Rules, RULES_KEY.to_owned()),
            (KeyKind::RuleEnds, RULE_ENDS_KEY.to_owned()),
            (KeyKind::RuleLog, RULE_LOG_KEY.to_owned()),
            (KeyKind::NodeRules, NODE_RULES_KEY.to_owned()),
            (KeyKind::NodeRuleEnds, NODE_RULE_ENDS_KEY.to_owned()),
            (KeyKind::NodeRuleLog, NODE_RULE_LOG_KEY.to_owned()),
            (KeyKind::WebhookQueue, webhook_queue_key(p)),
            (KeyKind::WebhookState, webhook_state_key(p)),
            (KeyKind::WebhookLease, webhook_lease_key(p)),
            (KeyKind::WebhookDead, webhook_dead_key(p)),
            (KeyKind::Timeline, timeline_key(&room)),
            (KeyKind::TimelinePairs, timeline_pairs_key(&room)),
            (KeyKind::Usage, usage_key("2026-11-21")),
        ];
        assert_eq!(keys.len(), KeyKind::ALL.len(), "a kind has no row");
        for (kind, key) in keys {
            let found: Vec<_> = KeyKind::ALL.iter().filter(|kind| key.starts_with(kind.prefix())).collect();
            assert_eq!(found, [&kind], "{key}");
        }
    }

    /// A name that is not in the table of kinds would have no owner.
    #[test]
    fn no_name_is_written_outside_the_table_of_kinds() {
        let source = include_str!("redis_keys.rs");
        let (source, _) = source.split_once("#[cfg(test)]").unwrap();
        // The three constants of each set of rules repeat the prefix, because a constant cannot be
        // formatted.
        assert_eq!(source.matches("\"sb:").count(), KeyKind::ALL.len() + TopicKind::ALL.len() + 6);
    }

    #[test]
    fn a_key_of_one_service_alone_says_so() {
        for kind in KeyKind::ALL {
            let used_by = RedisUser::ALL.map(|user| kind.access(user) != NO);
            let expected = match used_by {
                [true, false] => kind.prefix().starts_with("sb:a:"),
                [false, true] => kind.prefix().starts_with("sb:s:"),
                _ => !kind.prefix().starts_with("sb:a:") && !kind.prefix().starts_with("sb:s:"),
            };
            assert!(expected, "{kind:?}");
        }
    }

    #[test]
    fn the_partition_of_a_room_is_the_same_in_every_release() {
        assert_eq!(partition_of_room(&RoomId::parse("stand-up").unwrap()), PINNED_PARTITION);
    }
    const PINNED_PARTITION: usize = 39;
}
