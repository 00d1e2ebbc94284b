//! What is asked of Redis: one atomic step each, on the pool of the key's master.

use std::sync::LazyLock;

use deadpool_redis::redis::{
    Cmd, FromRedisValue, RedisError, RedisResult, Script, ScriptInvocation, Value, cmd, from_redis_value,
};
use signalbox_protocol::id::RoomId;
use signalbox_redis::keys;
use signalbox_redis::{StartError, key_slot};
use signalbox_token::TICKET_LIFE;
use tokio::time::timeout;

use super::{
    RedisStore, StoreError,
    contract::{
        Family, Invite, Invited, MOST_INVITES, NewFamily, NewInvite, Refusal, SLACK_MS, Turn, Turned,
    },
};

static FAMILY: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/family.lua")));
static ROTATE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/rotate.lua")));
static INVITE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/invite.lua")));
static USE_INVITE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/use_invite.lua")));

/// One request about one key.
enum Call<'a> {
    Command(&'a Cmd),
    Script(&'a ScriptInvocation<'a>),
}

impl RedisStore {
    pub(super) async fn put_ticket(&self, digest: &str, claims: &str) -> Result<(), Refusal> {
        let key = keys::ticket(digest);
        let mut set = cmd("SET");
        set.arg(&key).arg(claims).arg("PX").arg(TICKET_LIFE.as_millis() as u64).arg("NX");
        let kept: Option<String> = self.call(&key, Call::Command(&set)).await?;
        kept.map(|_| ()).ok_or(Refusal::Full)
    }

    pub(super) async fn start_family(&self, new: &NewFamily) -> Result<(), Refusal> {
        let key = keys::refresh(&new.name);
        let mut script = FAMILY.key(&key);
        script.arg(&new.salt).arg(&new.digest).arg(&new.what).arg(&new.grant);
        script.arg(new.life_ms).arg(new.longest_ms).arg(SLACK_MS);
        let started: bool = self.call(&key, Call::Script(&script)).await?;
        if started { Ok(()) } else { Err(Refusal::Full) }
    }

    pub(super) async fn family(&self, name: &str) -> Result<Option<Family>, Refusal> {
        let key = keys::refresh(name);
        let mut get = cmd("HMGET");
        get.arg(&key).arg(&["salt", "what", "grant", "born"]);
        type Found = (Option<String>, Option<String>, Option<String>, Option<u64>);
        let (salt, what, grant, born_ms): Found = self.call(&key, Call::Command(&get)).await?;
        Ok(salt.zip(grant).zip(born_ms).map(|((salt, grant), born_ms)| Family {
            salt,
            what: what.unwrap_or_default(),
            grant,
            born_ms,
        }))
    }

    pub(super) async fn turn(&self, turn: &Turn) -> Result<Turned, Refusal> {
        let key = keys::refresh(&turn.name);
        let mut script = ROTATE.key(&key);
        script.arg(&turn.shown).arg(&turn.successor).arg(turn.grace_ms).arg(turn.life_ms).arg(SLACK_MS);
        let answer: (String, Option<u64>, Option<u64>) = self.call_padded(&key, &script).await?;
        Ok(match (&*answer.0, answer.1, answer.2) {
            ("next", Some(number), Some(left_ms)) => Turned::Next { number, left_ms },
            ("reused", Some(first), Some(left_ms)) => Turned::Reused { first: first == 1, left_ms },
            ("expired", ..) => Turned::Expired,
            _ => Turned::Unknown,
        })
    }

    pub(super) async fn put_invite(&self, new: &NewInvite) -> Result<u64, Refusal> {
        let key = keys::invites(&new.room);
        let mut script = INVITE.key(&key);
        script.arg(&new.id).arg(&new.what).arg(new.max_uses).arg(new.life_ms).arg(MOST_INVITES).arg(SLACK_MS);
        match self.call::<u64>(&key, Call::Script(&script)).await? {
            0 => Err(Refusal::Full),
            ends_ms => Ok(ends_ms),
        }
    }

    pub(super) async fn use_invite(&self, room: &RoomId, id: &str) -> Result<Invited, Refusal> {
        let key = keys::invites(room);
        let mut script = USE_INVITE.key(&key);
        script.arg(id);
        let answer: Vec<String> = self.call(&key, Call::Script(&script)).await?;
        Ok(match (answer.first().map(String::as_str), answer.get(1)) {
            (Some("ok"), Some(what)) => Invited::Good(what.clone()),
            (Some("expired"), _) => Invited::Expired,
            (Some("used_up"), _) => Invited::UsedUp,
            _ => Invited::Unknown,
        })
    }

    pub(super) async fn invites(&self, room: &RoomId) -> Result<Vec<Invite>, Refusal> {
        let key = keys::invites(room);
        let mut get = cmd("HGETALL");
        get.arg(&key);
        let fields: std::collections::HashMap<String, String> = self.call(&key, Call::Command(&get)).await?;
        let number = |kind: &str, id: &str| fields.get(&format!("{kind}{id}"))?.parse::<u64>().ok();
        let invite = |(field, what): (&String, &String)| {
            let id = field.strip_prefix("j:")?;
            Some(Invite {
                id: id.to_owned(),
                what: what.clone(),
                max_uses: number("m:", id)?.try_into().ok()?,
                uses: number("n:", id)?.try_into().ok()?,
                ends_ms: number("e:", id)?,
            })
        };
        Ok(fields.iter().filter_map(invite).collect())
    }

    pub(super) async fn drop_invite(&self, room: &RoomId, id: &str) -> Result<bool, Refusal> {
        let key = keys::invites(room);
        let mut del = cmd("HDEL");
        del.arg(&key).arg(["j:", "e:", "m:", "n:"].map(|kind| format!("{kind}{id}")).as_slice());
        Ok(self.call::<u64>(&key, Call::Command(&del)).await? > 0)
    }

    pub(super) async fn drop_invites(&self, room: &RoomId) -> Result<(), Refusal> {
        let key = keys::invites(room);
        let mut del = cmd("DEL");
        del.arg(&key);
        self.call::<u64>(&key, Call::Command(&del)).await.map(drop)
    }

    /// An answer of one to three parts.
    async fn call_padded<T: FromRedisValue>(
        &self,
        key: &str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Refusal> {
        let mut parts: Vec<Value> = self.call(key, Call::Script(script)).await?;
        parts.resize(3, Value::Nil);
        from_redis_value(Value::Array(parts)).map_err(|_| Refusal::Away)
    }

    async fn call<T: FromRedisValue>(&self, key: &str, call: Call<'_>) -> Result<T, Refusal> {
        let answer = timeout(self.deadline, self.call_master(key, call)).await;
        let why = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => StoreError::Unreachable("no answer in time".to_owned()),
        };
        tracing::warn!(event = "auth_store_away", error = %why);
        Err(Refusal::Away)
    }

    /// Sent again only where a server has said that it did nothing and who would. While a slot moves, what is on its way is
    /// away for a moment.
    async fn call_master<T: FromRedisValue>(&self, key: &str, call: Call<'_>) -> Result<T, StoreError> {
        let topology = self.topology().await?;
        let slot = key_slot(key);
        let mut moved_once = false;
        loop {
            let map = topology.map();
            let nobody = || StoreError::Unreachable("no server has the slot".to_owned());
            let address = map.master_of(slot).ok_or_else(nobody)?;
            let mut connection = self.connection(address).await?;
            let answer: RedisResult<T> = match &call {
                Call::Command(command) => command.query_async(&mut connection).await,
                Call::Script(script) => script.invoke_async(&mut connection).await,
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            topology.refresh();
            if moved_once || !moved(&error) || !topology.redirected(address, &error) {
                return Err(StartError::explain(address, &error).into());
            }
            moved_once = true;
        }
    }
}

fn moved(error: &RedisError) -> bool {
    error.code() == Some("MOVED")
}
