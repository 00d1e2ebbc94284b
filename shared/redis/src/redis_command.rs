//! The commands that this release sends, directly or in scripts.
//!
//! Owns: the table of commands, and [`KeyCommand`], the only form of a command on a key. Must not:
//! send. The start of a client checks the permissions of this table (`permission_check`), and a
//! test compares the table with the shipped ACL.

use redis::{Cmd, ToRedisArgs};

use crate::{redis_keys::ValueType, redis_namespace::RedisNamespace};

/// What a command needs besides its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandSubject {
    /// A key whose value has this type.
    Key(ValueType),
    /// A topic.
    Topic,
    /// Nothing.
    None,
}

macro_rules! redis_commands {
    ($($command:ident: $name:literal, $subject:expr, [$($arg:literal),*], $direct:literal;)*) => {
        /// A command.
        #[expect(missing_docs, reason = "Redis documents its commands")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum RedisCommand { $($command),* }

        impl RedisCommand {
            /// Every command.
            pub const ALL: &[Self] = &[$(Self::$command),*];

            /// The name, as Redis spells it in its documentation.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$command => $name),* }
            }

            /// What the command needs.
            pub const fn subject(self) -> CommandSubject {
                match self { $(Self::$command => $subject),* }
            }

            /// The fewest arguments, after the key or topic, with which Redis checks the permission.
            pub const fn least_args(self) -> &'static [&'static str] {
                match self { $(Self::$command => &[$($arg),*]),* }
            }

            /// Whether every process sends the command outside a script too.
            pub const fn is_direct(self) -> bool {
                match self { $(Self::$command => $direct),* }
            }
        }
    };
}

const HASH: CommandSubject = CommandSubject::Key(ValueType::Hash);
const SET: CommandSubject = CommandSubject::Key(ValueType::Set);
const SORTED_SET: CommandSubject = CommandSubject::Key(ValueType::SortedSet);
const STREAM: CommandSubject = CommandSubject::Key(ValueType::Stream);
const TEXT: CommandSubject = CommandSubject::Key(ValueType::Text);

redis_commands! {
    Get: "GET", TEXT, [], true;
    Set: "SET", TEXT, ["v"], true;
    Exists: "EXISTS", HASH, [], false;
    Del: "DEL", HASH, [], true;
    PExpire: "PEXPIRE", TEXT, ["1"], true;
    PTtl: "PTTL", STREAM, [], false;
    HDel: "HDEL", HASH, ["f"], true;
    HGet: "HGET", HASH, ["f"], true;
    HGetAll: "HGETALL", HASH, [], true;
    HIncrBy: "HINCRBY", HASH, ["f", "1"], false;
    HKeys: "HKEYS", HASH, [], false;
    HmGet: "HMGET", HASH, ["f"], true;
    HSet: "HSET", HASH, ["f", "v"], false;
    HSetNx: "HSETNX", HASH, ["f", "v"], false;
    SAdd: "SADD", SET, ["m"], false;
    SMembers: "SMEMBERS", SET, [], true;
    SRem: "SREM", SET, ["m"], false;
    XAdd: "XADD", STREAM, ["*", "f", "v"], false;
    XDel: "XDEL", STREAM, ["1-1"], false;
    XLen: "XLEN", STREAM, [], false;
    XRange: "XRANGE", STREAM, ["-", "+"], true;
    XRevRange: "XREVRANGE", STREAM, ["+", "-"], false;
    XTrim: "XTRIM", STREAM, ["MAXLEN", "1"], false;
    ZAdd: "ZADD", SORTED_SET, ["1", "m"], false;
    ZCard: "ZCARD", SORTED_SET, [], false;
    ZRange: "ZRANGE", SORTED_SET, ["0", "0"], false;
    ZRangeByScore: "ZRANGEBYSCORE", SORTED_SET, ["0", "0"], true;
    ZRem: "ZREM", SORTED_SET, ["m"], true;
    ZScore: "ZSCORE", SORTED_SET, ["m"], false;
    SPublish: "SPUBLISH", CommandSubject::Topic, ["m"], true;
    Info: "INFO", CommandSubject::None, ["replication"], true;
    Time: "TIME", CommandSubject::None, [], true;
}

impl RedisCommand {
    /// The command with this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|command| command.name().eq_ignore_ascii_case(name))
    }
}

/// The names of the commands that a text in Lua calls, in the order of the text.
pub(crate) fn names_in_lua(text: &str) -> impl Iterator<Item = &str> {
    let calls = text.split("redis.call('").skip(1);
    calls.filter_map(|rest| rest.split_once('\'').map(|(name, _)| name))
}

/// A command on one key. The client puts the names of the deployment into it.
#[derive(Debug, Clone)]
pub struct KeyCommand {
    command: RedisCommand,
    key: String,
    args: Vec<Vec<u8>>,
}

impl KeyCommand {
    /// A command on a key of `redis_keys`.
    pub fn new(command: RedisCommand, key: impl Into<String>) -> Self {
        debug_assert!(command.is_direct(), "{command:?} is not marked in the table");
        Self { command, key: key.into(), args: Vec::new() }
    }

    /// Adds an argument, or all arguments of a list.
    #[must_use]
    pub fn arg(mut self, value: impl ToRedisArgs) -> Self {
        value.write_redis_args(&mut self.args);
        self
    }

    /// The name of the key in Redis, and the command.
    pub(crate) fn to_command(&self, names: &RedisNamespace) -> (String, Cmd) {
        let (key, mut cmd) = (names.key(&self.key), redis::cmd(self.command.name()));
        cmd.arg(&key).arg(&self.args);
        (key, cmd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_of_a_text_in_lua_are_found() {
        let text = "if redis.call('HGET', KEYS[1], 'f') then return redis.call('DEL', KEYS[1]) end";
        assert_eq!(names_in_lua(text).collect::<Vec<_>>(), ["HGET", "DEL"]);
        assert_eq!(RedisCommand::from_name("hget"), Some(RedisCommand::HGet));
        assert_eq!(RedisCommand::from_name("FLUSHALL"), None);
    }

    #[test]
    fn a_command_has_the_name_of_its_key_in_this_deployment() {
        let set = KeyCommand::new(RedisCommand::Set, "sb:partitions").arg("v").arg(&["PX", "5"]);
        let (key, cmd) = set.to_command(&RedisNamespace::new("blue", 0));
        let words: Vec<_> = cmd
            .args_iter()
            .map(|arg| match arg {
                redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                _ => String::new(),
            })
            .collect();
        assert_eq!(
            (key.as_str(), words.join(" ").as_str()),
            ("blue:sb:partitions", "SET blue:sb:partitions v PX 5")
        );
    }
}
