//! The names of one deployment in a Redis that several deployments share.
//!
//! Owns: what stands before every key and topic (`redis.prefix`), and the number of the database in
//! each topic: Redis separates the keys of its databases, and not their topics. Must not: know a
//! kind of key.

/// See the module. The default is a deployment without a prefix in database 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisNamespace {
    /// The prefix and a colon, or nothing.
    prefix: String,
    database: u32,
}

impl RedisNamespace {
    /// The names of a deployment with this `redis.prefix` (which may be empty) in this database.
    pub fn new(prefix: &str, database: u32) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}:") };
        Self { prefix, database }
    }

    /// The name in Redis of a key of `redis_keys`.
    pub fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The name in Redis of a topic of `redis_keys`, or of the beginning of one. The number of the
    /// database stands before the hash tag, so that the rules of an ACL do not depend on it.
    pub fn topic(&self, topic: &str) -> String {
        match topic.split_once('{') {
            Some((kind, rest)) if self.database > 0 => {
                format!("{}{kind}{}:{{{rest}", self.prefix, self.database)
            }
            _ => self.key(topic),
        }
    }

    /// Whether every name is as in `redis_keys`.
    pub(crate) fn is_default(&self) -> bool {
        self.prefix.is_empty() && self.database == 0
    }

    /// The prefix and a colon, or nothing.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_before_every_name_and_the_database_in_every_topic() {
        for (prefix, database, key, topic) in [
            ("", 0, "sb:room:{a}:r", "sb:node:{a}:n"),
            ("", 3, "sb:room:{a}:r", "sb:node:3:{a}:n"),
            ("blue", 0, "blue:sb:room:{a}:r", "blue:sb:node:{a}:n"),
            ("blue", 3, "blue:sb:room:{a}:r", "blue:sb:node:3:{a}:n"),
        ] {
            let names = RedisNamespace::new(prefix, database);
            assert_eq!(
                (names.key("sb:room:{a}:r").as_str(), names.topic("sb:node:{a}:n").as_str()),
                (key, topic)
            );
        }
    }
}
