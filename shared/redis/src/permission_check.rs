//! Whether the ACL user may run every command in use, also those that only scripts run.
//!
//! Owns: a script that tries each command and changes nothing: Redis checks the permission of a
//! command before it refuses a write in a script that only reads. Must not: know what a command is
//! for. `redis_command` has the table.

use std::collections::BTreeSet;

use redis::{RedisResult, aio::MultiplexedConnection};

use crate::{
    redis_command::{CommandSubject, RedisCommand},
    redis_keys::{TopicKind, sample_key, sample_topic},
    redis_namespace::RedisNamespace,
    redis_script::RedisScript,
};

static TRY_COMMANDS: RedisScript =
    RedisScript::new(include_str!("lua/try_commands.lua")).with_flags("no-writes");

/// A command to try.
struct TriedCommand {
    words: Vec<String>,
    /// The permission of the command, as an ACL names it.
    command_rule: String,
    /// The permission of its key or topic.
    name_rule: String,
}

/// The missing permissions, as an ACL names them, such as `+hset` or `~sb:room:*`.
pub(crate) async fn find_missing_permissions(
    connection: &MultiplexedConnection,
    names: &RedisNamespace,
    commands: &BTreeSet<RedisCommand>,
) -> RedisResult<Vec<String>> {
    let tried: Vec<_> = commands.iter().flat_map(|command| tries_of(*command, names)).collect();
    let mut call = TRY_COMMANDS.driver().prepare_invoke();
    for tried in &tried {
        call.arg(tried.words.len()).arg(&tried.words);
    }
    let refused: Vec<(usize, String)> = call.invoke_async(&mut connection.clone()).await?;
    let mut missing = Vec::new();
    for (number, reason) in refused {
        let Some(tried) = number.checked_sub(1).and_then(|index| tried.get(index)) else { continue };
        // Another rule of the user may still permit the command, on other keys.
        let rule = if names_command(&reason) {
            tried.command_rule.clone()
        } else {
            format!("{} on {}", tried.command_rule, tried.name_rule)
        };
        if !missing.contains(&rule) {
            missing.push(rule);
        }
    }
    Ok(missing)
}

/// Whether the reason of a refusal is the command, and not its key or topic.
fn names_command(reason: &str) -> bool {
    reason.contains("can't run this command") || reason.contains("permissions to run the")
}

fn tries_of(command: RedisCommand, names: &RedisNamespace) -> Vec<TriedCommand> {
    let try_with = |name: Option<String>, name_rule: String| {
        let args = command.least_args().iter().map(|arg| (*arg).to_owned());
        let words = std::iter::once(command.name().to_owned()).chain(name).chain(args);
        let command_rule = format!("+{}", command.name().to_ascii_lowercase());
        TriedCommand { words: words.collect(), command_rule, name_rule }
    };
    match command.subject() {
        CommandSubject::None => vec![try_with(None, String::new())],
        CommandSubject::Key(value_type) => {
            let (kind, key) = sample_key(value_type);
            vec![try_with(Some(names.key(&key)), format!("~{}*", names.key(kind.prefix())))]
        }
        CommandSubject::Topic => TopicKind::ALL
            .iter()
            .map(|kind| {
                let topic = names.topic(&sample_topic(*kind));
                try_with(Some(topic), format!("&{}*", names.key(kind.prefix())))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_tried_with_a_name_of_this_deployment() {
        let names = RedisNamespace::new("blue", 0);
        for command in RedisCommand::ALL {
            let tries = tries_of(*command, &names);
            let expected = if command.subject() == CommandSubject::Topic { TopicKind::ALL.len() } else { 1 };
            assert_eq!(tries.len(), expected, "{command:?}");
            for tried in tries {
                let has_name = command.subject() != CommandSubject::None;
                assert_eq!(tried.words.get(1).is_some_and(|name| name.starts_with("blue:sb:")), has_name);
                assert_eq!(tried.words.len(), 1 + usize::from(has_name) + command.least_args().len());
            }
        }
    }
}
