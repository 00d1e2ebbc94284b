//! Lua scripts as values.
//!
//! Owns: the text of a script, its hash, and which scripts a client loads on a new connection. Must
//! not: know a key or an argument. Next: `redis_client/redis_request.rs` runs a script.

use std::{
    collections::BTreeSet,
    sync::{Mutex, OnceLock, PoisonError},
};

use futures_util::future::try_join_all;
use redis::{RedisResult, Script, aio::MultiplexedConnection};

use crate::redis_command::{RedisCommand, names_in_lua};

/// A Lua script of this process: a `static` in the module that calls it.
///
/// The hash is computed at the first use and kept.
pub struct RedisScript {
    flags: Option<&'static str>,
    common: &'static str,
    own: &'static str,
    driver: OnceLock<Script>,
}

impl RedisScript {
    /// A script without flags: Redis runs it in the mode of releases before 7.0.
    pub const fn new(text: &'static str) -> Self {
        Self { flags: None, common: "", own: text, driver: OnceLock::new() }
    }

    /// The same script after a text that several scripts share.
    #[must_use]
    pub const fn with_common(mut self, common: &'static str) -> Self {
        self.common = common;
        self
    }

    /// The same script with a `#!lua` line. `flags` is the list that Redis expects, such as
    /// `allow-oom`; it may be empty.
    #[must_use]
    pub const fn with_flags(mut self, flags: &'static str) -> Self {
        self.flags = Some(flags);
        self
    }

    /// The command that runs the script. A script that only reads needs only the permission to read
    /// its keys.
    pub(crate) fn command(&self) -> &'static str {
        let only_reads = self.flags.is_some_and(|flags| flags.split(',').any(|flag| flag == "no-writes"));
        if only_reads { "EVALSHA_RO" } else { "EVALSHA" }
    }

    /// The SHA-1 of the text in hexadecimal digits, by which Redis knows the script.
    pub(crate) fn hash(&self) -> &str {
        self.driver().get_hash()
    }

    pub(crate) fn driver(&self) -> &Script {
        self.driver.get_or_init(|| Script::new(&self.text()))
    }

    /// The commands that the script calls. A command that is not in the table of commands is a fault
    /// of the program: no start would check its permission.
    pub(crate) fn commands(&self) -> Vec<RedisCommand> {
        let texts = names_in_lua(self.common).chain(names_in_lua(self.own));
        let find = |name: &str| {
            let command = RedisCommand::from_name(name);
            debug_assert!(command.is_some(), "{name} is not in the table of commands");
            command
        };
        texts.filter_map(find).collect()
    }

    /// The permissions of the commands in the line that an error of this script names, like
    /// `+hset`. `None` if it names no line with a command.
    pub(crate) fn permissions_at_error(&self, details: &str) -> Option<String> {
        let (_, after) = details.split_once("user_script:")?;
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let line: usize = after[..digits].parse().ok()?;
        let text = self.text();
        let names: Vec<_> = names_in_lua(text.lines().nth(line.checked_sub(1)?)?)
            .map(|name| format!("+{}", name.to_ascii_lowercase()))
            .collect();
        if names.is_empty() { None } else { Some(names.join(" or ")) }
    }

    fn text(&self) -> String {
        let first_line = match self.flags {
            None => String::new(),
            Some("") => "#!lua\n".to_owned(),
            Some(flags) => format!("#!lua flags={flags}\n"),
        };
        format!("{first_line}{}\n{}", self.common, self.own)
    }
}

/// Loads scripts on a server, all in one round trip.
pub(crate) async fn load_scripts(
    connection: &MultiplexedConnection,
    scripts: &[&'static RedisScript],
) -> RedisResult<()> {
    let loading = scripts.iter().map(|script| {
        let mut connection = connection.clone();
        async move { script.driver().load_async(&mut connection).await }
    });
    try_join_all(loading).await.map(drop)
}

/// The scripts that a client loads on each connection before the connection is used.
#[derive(Default)]
pub(crate) struct ScriptRegistry {
    // A std mutex: held to copy or to extend the list.
    scripts: Mutex<Vec<&'static RedisScript>>,
}

impl ScriptRegistry {
    /// Adds the scripts that are not in the list yet.
    pub(crate) fn add_scripts(&self, scripts: &[&'static RedisScript]) {
        let mut known = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        for script in scripts {
            if !known.iter().any(|known| std::ptr::eq(*known, *script)) {
                known.push(script);
            }
        }
    }

    /// The commands of all scripts, and those that every process sends directly.
    pub(crate) fn commands(&self) -> BTreeSet<RedisCommand> {
        let direct = RedisCommand::ALL.iter().copied().filter(|command| command.is_direct());
        let scripts = self.scripts_after(0);
        scripts.iter().flat_map(|script| script.commands()).chain(direct).collect()
    }

    /// The number of scripts. The list only grows.
    pub(crate) fn count(&self) -> usize {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The scripts after the first `loaded` ones.
    pub(crate) fn scripts_after(&self, loaded: usize) -> Vec<&'static RedisScript> {
        let known = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(loaded..).unwrap_or_default().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static PLAIN: RedisScript = RedisScript::new("return 1");
    static FLAGGED: RedisScript =
        RedisScript::new("return one").with_common("local one = 1").with_flags("allow-oom");
    static CHECKED: RedisScript = RedisScript::new("return 1").with_flags("");
    static READING: RedisScript = RedisScript::new("return 1").with_flags("no-writes,allow-oom");

    #[test]
    fn the_text_has_the_flags_first_and_the_common_part_before_the_own() {
        assert_eq!(PLAIN.text(), "\nreturn 1");
        assert_eq!(FLAGGED.text(), "#!lua flags=allow-oom\nlocal one = 1\nreturn one");
        assert_eq!(CHECKED.text(), "#!lua\n\nreturn 1");
        assert_eq!(
            [PLAIN.command(), FLAGGED.command(), READING.command()],
            ["EVALSHA", "EVALSHA", "EVALSHA_RO"]
        );
        assert_eq!(FLAGGED.hash(), Script::new(&FLAGGED.text()).get_hash());
    }

    #[test]
    fn an_error_is_traced_to_the_commands_of_its_line() {
        static SCRIPT: RedisScript =
            RedisScript::new("local one = 1\nreturn redis.call('HSET', KEYS[1], 'f', one)")
                .with_common("local key = KEYS[1]")
                .with_flags("allow-oom");
        assert_eq!(SCRIPT.commands(), [RedisCommand::HSet]);
        let at = |line| SCRIPT.permissions_at_error(&format!("denied script: 2f0a, on @user_script:{line}."));
        assert_eq!((at(4).as_deref(), at(3), at(99)), (Some("+hset"), None, None));
        assert_eq!(SCRIPT.permissions_at_error("denied"), None);
    }

    #[test]
    fn a_script_that_is_announced_twice_is_loaded_once() {
        let registry = ScriptRegistry::default();
        registry.add_scripts(&[&PLAIN, &FLAGGED]);
        registry.add_scripts(&[&FLAGGED, &CHECKED]);
        assert_eq!(registry.count(), 3);
        let rest: Vec<_> = registry.scripts_after(1).iter().map(|script| script.text()).collect();
        assert_eq!(rest, [FLAGGED.text(), CHECKED.text()]);
        assert!(registry.scripts_after(3).is_empty());
    }
}
