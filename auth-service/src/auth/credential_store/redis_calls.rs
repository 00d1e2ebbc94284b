//! What is asked of Redis: one atomic step each, on the pool of the key's master.

use std::sync::LazyLock;

use deadpool_redis::redis::{
    Cmd, FromRedisValue, RedisError, RedisResult, Script, ScriptInvocation, Value, cmd, from_redis_value,
};
use signalbox_protocol::id::RoomId;
use signalbox_redis::{RedisStartError, key_slot, redis_keys};
use signalbox_token::TICKET_LIFE;
use tokio::time::timeout;

use super::{
    RedisCredentialStore, RedisSetupError,
    contract::{
        CredentialStoreError, EXPIRED_RETENTION_MS, Invite, InviteUse, MAX_ROOM_INVITES, NewInvite,
        NewRefreshFamily, RefreshFamily, RefreshRotation, RefreshRotationResult,
    },
};

static START_FAMILY_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/start_refresh_family.lua")));
static ROTATE_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/rotate_refresh_token.lua")));
static PUT_INVITE_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/put_invite.lua")));
static USE_INVITE_SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("lua/use_invite.lua")));

/// One request about one key.
enum RedisCall<'a> {
    Command(&'a Cmd),
    Script(&'a ScriptInvocation<'a>),
}

impl RedisCredentialStore {
    pub(super) async fn put_ticket(&self, digest: &str, claims: &str) -> Result<(), CredentialStoreError> {
        let key = redis_keys::ticket_key(digest);
        let mut set = cmd("SET");
        set.arg(&key).arg(claims).arg("PX").arg(TICKET_LIFE.as_millis() as u64).arg("NX");
        let kept: Option<String> = self.call(&key, RedisCall::Command(&set)).await?;
        kept.map(|_| ()).ok_or(CredentialStoreError::Full)
    }

    pub(super) async fn start_family(&self, new: &NewRefreshFamily) -> Result<(), CredentialStoreError> {
        let key = redis_keys::refresh_family_key(&new.family_id);
        let mut script = START_FAMILY_SCRIPT.key(&key);
        script.arg(&new.salt).arg(&new.first_digest).arg(&new.terms_json).arg(&new.grant);
        script.arg(new.token_life_ms).arg(new.family_life_ms).arg(EXPIRED_RETENTION_MS);
        let started: bool = self.call(&key, RedisCall::Script(&script)).await?;
        if started { Ok(()) } else { Err(CredentialStoreError::Full) }
    }

    pub(super) async fn load_family(
        &self,
        name: &str,
    ) -> Result<Option<RefreshFamily>, CredentialStoreError> {
        let key = redis_keys::refresh_family_key(name);
        let mut get = cmd("HMGET");
        get.arg(&key).arg(&["salt", "what", "grant", "born"]);
        type FamilyFields = (Option<String>, Option<String>, Option<String>, Option<u64>);
        let (salt, what, grant, born_ms): FamilyFields = self.call(&key, RedisCall::Command(&get)).await?;
        Ok(salt.zip(grant).zip(born_ms).map(|((salt, grant), born_ms)| RefreshFamily {
            salt,
            terms_json: what.unwrap_or_default(),
            grant,
            created_ms: born_ms,
        }))
    }

    pub(super) async fn rotate_refresh_token(
        &self,
        turn: &RefreshRotation,
    ) -> Result<RefreshRotationResult, CredentialStoreError> {
        let key = redis_keys::refresh_family_key(&turn.family_id);
        let mut script = ROTATE_SCRIPT.key(&key);
        script
            .arg(&turn.presented_digest)
            .arg(&turn.successor_digest)
            .arg(turn.repeat_ms)
            .arg(turn.successor_life_ms)
            .arg(EXPIRED_RETENTION_MS);
        let answer: (String, Option<u64>, Option<u64>) = self.call_padded(&key, &script).await?;
        Ok(match (&*answer.0, answer.1, answer.2) {
            ("next", Some(number), Some(left_ms)) => RefreshRotationResult::Rotated { number, left_ms },
            ("reused", Some(first), Some(left_ms)) => {
                RefreshRotationResult::Reused { first: first == 1, left_ms }
            }
            ("expired", ..) => RefreshRotationResult::Expired,
            _ => RefreshRotationResult::Unknown,
        })
    }

    pub(super) async fn put_invite(&self, new: &NewInvite) -> Result<u64, CredentialStoreError> {
        let key = redis_keys::invites_key(&new.room);
        let mut script = PUT_INVITE_SCRIPT.key(&key);
        script
            .arg(&new.id)
            .arg(&new.terms_json)
            .arg(new.max_uses)
            .arg(new.life_ms)
            .arg(MAX_ROOM_INVITES)
            .arg(EXPIRED_RETENTION_MS);
        match self.call::<u64>(&key, RedisCall::Script(&script)).await? {
            0 => Err(CredentialStoreError::Full),
            ends_ms => Ok(ends_ms),
        }
    }

    pub(super) async fn use_invite(
        &self,
        room: &RoomId,
        id: &str,
    ) -> Result<InviteUse, CredentialStoreError> {
        let key = redis_keys::invites_key(room);
        let mut script = USE_INVITE_SCRIPT.key(&key);
        script.arg(id);
        let answer: Vec<String> = self.call(&key, RedisCall::Script(&script)).await?;
        Ok(match (answer.first().map(String::as_str), answer.get(1)) {
            (Some("ok"), Some(what)) => InviteUse::Accepted(what.clone()),
            (Some("expired"), _) => InviteUse::Expired,
            (Some("used_up"), _) => InviteUse::UsedUp,
            _ => InviteUse::Unknown,
        })
    }

    pub(super) async fn list_invites(&self, room: &RoomId) -> Result<Vec<Invite>, CredentialStoreError> {
        let key = redis_keys::invites_key(room);
        let mut get = cmd("HGETALL");
        get.arg(&key);
        let fields: std::collections::HashMap<String, String> =
            self.call(&key, RedisCall::Command(&get)).await?;
        let number = |kind: &str, id: &str| fields.get(&format!("{kind}{id}"))?.parse::<u64>().ok();
        let invite = |(field, what): (&String, &String)| {
            let id = field.strip_prefix("j:")?;
            Some(Invite {
                id: id.to_owned(),
                terms_json: what.clone(),
                max_uses: number("m:", id)?.try_into().ok()?,
                uses: number("n:", id)?.try_into().ok()?,
                ends_ms: number("e:", id)?,
            })
        };
        Ok(fields.iter().filter_map(invite).collect())
    }

    pub(super) async fn delete_invite(&self, room: &RoomId, id: &str) -> Result<bool, CredentialStoreError> {
        let key = redis_keys::invites_key(room);
        let mut del = cmd("HDEL");
        del.arg(&key).arg(["j:", "e:", "m:", "n:"].map(|kind| format!("{kind}{id}")).as_slice());
        Ok(self.call::<u64>(&key, RedisCall::Command(&del)).await? > 0)
    }

    pub(super) async fn delete_room_invites(&self, room: &RoomId) -> Result<(), CredentialStoreError> {
        let key = redis_keys::invites_key(room);
        let mut del = cmd("DEL");
        del.arg(&key);
        self.call::<u64>(&key, RedisCall::Command(&del)).await.map(drop)
    }

    /// An answer of one to three parts.
    async fn call_padded<T: FromRedisValue>(
        &self,
        key: &str,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, CredentialStoreError> {
        let mut parts: Vec<Value> = self.call(key, RedisCall::Script(script)).await?;
        parts.resize(3, Value::Nil);
        from_redis_value(Value::Array(parts)).map_err(|_| CredentialStoreError::Unavailable)
    }

    async fn call<T: FromRedisValue>(
        &self,
        key: &str,
        call: RedisCall<'_>,
    ) -> Result<T, CredentialStoreError> {
        let answer = timeout(self.deadline, self.call_master(key, call)).await;
        let why = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => RedisSetupError::Unreachable("no answer in time".to_owned()),
        };
        tracing::warn!(event = "auth_store_away", error = %why);
        Err(CredentialStoreError::Unavailable)
    }

    /// Sent again only where a server has said that it did nothing and who would. While a slot moves, what is on its way is
    /// away for a moment.
    async fn call_master<T: FromRedisValue>(
        &self,
        key: &str,
        call: RedisCall<'_>,
    ) -> Result<T, RedisSetupError> {
        let topology = self.topology().await?;
        let slot = key_slot(key);
        let mut moved_once = false;
        loop {
            let map = topology.current_map();
            let nobody = || RedisSetupError::Unreachable("no server has the slot".to_owned());
            let address = map.master_of_slot(slot).ok_or_else(nobody)?;
            let mut connection = self.connection(address).await?;
            let answer: RedisResult<T> = match &call {
                RedisCall::Command(command) => command.query_async(&mut connection).await,
                RedisCall::Script(script) => script.invoke_async(&mut connection).await,
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            topology.request_refresh();
            if moved_once || !is_moved(&error) || !topology.record_redirect(address, &error) {
                return Err(RedisStartError::from_driver_error(address, &error).into());
            }
            moved_once = true;
        }
    }
}

fn is_moved(error: &RedisError) -> bool {
    error.code() == Some("MOVED")
}
