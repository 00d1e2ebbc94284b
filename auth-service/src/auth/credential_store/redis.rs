//! Refresh families, tickets and invites in Redis.
//!
//! Owns: one atomic step for each operation of the contract, on a pooled connection, because the
//! order of these requests does not matter. Must not: retry; the client does, and only if a request
//! was not executed. Next: `lua/` has the scripts.

use std::{collections::HashMap, sync::Arc};

use redis::{Cmd, FromRedisValue, Value, cmd, from_redis_value};
use signalbox_protocol::id::RoomId;
use signalbox_redis::{RedisClient, RedisScript, ReplyReader, RequestFailure, ScriptCall, redis_keys};
use signalbox_token::TICKET_LIFE;

use super::contract::{
    CredentialStoreError, EXPIRED_RETENTION_MS, Invite, InviteUse, MAX_ROOM_INVITES, NewInvite,
    NewRefreshFamily, RefreshFamily, RefreshRotation, RefreshRotationResult,
};

static START_FAMILY: RedisScript = RedisScript::new(include_str!("lua/start_refresh_family.lua"));
static ROTATE_TOKEN: RedisScript = RedisScript::new(include_str!("lua/rotate_refresh_token.lua"));
static PUT_INVITE: RedisScript = RedisScript::new(include_str!("lua/put_invite.lua"));
static USE_INVITE: RedisScript = RedisScript::new(include_str!("lua/use_invite.lua"));

/// See the module.
pub struct RedisCredentialStore {
    client: Arc<RedisClient>,
}

impl RedisCredentialStore {
    /// A store over the client of the process. Announces the scripts; does not wait for Redis.
    pub fn new(client: Arc<RedisClient>) -> Self {
        client.load_scripts(&[&START_FAMILY, &ROTATE_TOKEN, &PUT_INVITE, &USE_INVITE]);
        Self { client }
    }

    pub(super) async fn put_ticket(&self, digest: &str, claims: &str) -> Result<(), CredentialStoreError> {
        let key = redis_keys::ticket_key(digest);
        let mut set = cmd("SET");
        set.arg(&key).arg(claims).arg("PX").arg(TICKET_LIFE.as_millis() as u64).arg("NX");
        let written: Option<String> = self.run_command(&key, &set).await?;
        written.map(|_| ()).ok_or(CredentialStoreError::Full)
    }

    pub(super) async fn start_family(&self, new: &NewRefreshFamily) -> Result<(), CredentialStoreError> {
        let mut call = ScriptCall::on_key(redis_keys::refresh_family_key(&new.family_id));
        call.add_arg(&new.salt).add_arg(&new.first_digest).add_arg(&new.terms_json).add_arg(&new.grant);
        call.add_arg(new.token_life_ms).add_arg(new.family_life_ms).add_arg(EXPIRED_RETENTION_MS);
        let is_new: bool = read(self.run_script(&START_FAMILY, &call).await?)?;
        if is_new { Ok(()) } else { Err(CredentialStoreError::Full) }
    }

    pub(super) async fn load_family(
        &self,
        family_id: &str,
    ) -> Result<Option<RefreshFamily>, CredentialStoreError> {
        let key = redis_keys::refresh_family_key(family_id);
        let mut get = cmd("HMGET");
        get.arg(&key).arg(&["salt", "what", "grant", "born"]);
        type FamilyFields = (Option<String>, Option<String>, Option<String>, Option<u64>);
        let (salt, terms_json, grant, created_ms): FamilyFields = self.run_command(&key, &get).await?;
        Ok(salt.zip(grant).zip(created_ms).map(|((salt, grant), created_ms)| RefreshFamily {
            salt,
            terms_json: terms_json.unwrap_or_default(),
            grant,
            created_ms,
        }))
    }

    pub(super) async fn rotate_refresh_token(
        &self,
        rotation: &RefreshRotation,
    ) -> Result<RefreshRotationResult, CredentialStoreError> {
        let mut call = ScriptCall::on_key(redis_keys::refresh_family_key(&rotation.family_id));
        call.add_arg(&rotation.presented_digest).add_arg(&rotation.successor_digest);
        call.add_arg(rotation.repeat_ms).add_arg(rotation.successor_life_ms).add_arg(EXPIRED_RETENTION_MS);
        let mut reply = ReplyReader::new(self.run_script(&ROTATE_TOKEN, &call).await?);
        let outcome = reply.next_text().ok_or(CredentialStoreError::Unavailable)?;
        Ok(match (&*outcome, reply.next_number(), reply.next_number()) {
            ("next", Some(number), Some(left_ms)) => RefreshRotationResult::Rotated { number, left_ms },
            ("reused", Some(first), Some(left_ms)) => {
                RefreshRotationResult::Reused { first: first == 1, left_ms }
            }
            ("expired", ..) => RefreshRotationResult::Expired,
            _ => RefreshRotationResult::Unknown,
        })
    }

    pub(super) async fn put_invite(&self, new: &NewInvite) -> Result<u64, CredentialStoreError> {
        let mut call = ScriptCall::on_key(redis_keys::invites_key(&new.room));
        call.add_arg(&new.id).add_arg(&new.terms_json).add_arg(new.max_uses).add_arg(new.life_ms);
        call.add_arg(MAX_ROOM_INVITES).add_arg(EXPIRED_RETENTION_MS);
        match read::<u64>(self.run_script(&PUT_INVITE, &call).await?)? {
            0 => Err(CredentialStoreError::Full),
            ends_ms => Ok(ends_ms),
        }
    }

    pub(super) async fn use_invite(
        &self,
        room: &RoomId,
        id: &str,
    ) -> Result<InviteUse, CredentialStoreError> {
        let mut call = ScriptCall::on_key(redis_keys::invites_key(room));
        call.add_arg(id);
        let mut reply = ReplyReader::new(self.run_script(&USE_INVITE, &call).await?);
        let outcome = reply.next_text().ok_or(CredentialStoreError::Unavailable)?;
        Ok(match (&*outcome, reply.next_text()) {
            ("ok", Some(terms_json)) => InviteUse::Accepted(terms_json),
            ("expired", _) => InviteUse::Expired,
            ("used_up", _) => InviteUse::UsedUp,
            _ => InviteUse::Unknown,
        })
    }

    pub(super) async fn list_invites(&self, room: &RoomId) -> Result<Vec<Invite>, CredentialStoreError> {
        let key = redis_keys::invites_key(room);
        let mut get = cmd("HGETALL");
        get.arg(&key);
        let fields: HashMap<String, String> = self.run_command(&key, &get).await?;
        let number = |kind: &str, id: &str| fields.get(&format!("{kind}{id}"))?.parse::<u64>().ok();
        let invite = |(field, terms_json): (&String, &String)| {
            let id = field.strip_prefix("j:")?;
            Some(Invite {
                id: id.to_owned(),
                terms_json: terms_json.clone(),
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
        Ok(self.run_command::<u64>(&key, &del).await? > 0)
    }

    pub(super) async fn delete_room_invites(&self, room: &RoomId) -> Result<(), CredentialStoreError> {
        let key = redis_keys::invites_key(room);
        let mut del = cmd("DEL");
        del.arg(&key);
        self.run_command::<u64>(&key, &del).await.map(drop)
    }

    async fn run_command<T: FromRedisValue>(&self, key: &str, cmd: &Cmd) -> Result<T, CredentialStoreError> {
        read(self.client.run_pooled_command(key, cmd).await.map_err(log_failure)?)
    }

    async fn run_script(
        &self,
        script: &'static RedisScript,
        call: &ScriptCall,
    ) -> Result<Value, CredentialStoreError> {
        self.client.run_pooled_script(script, call).await.map_err(log_failure)
    }
}

/// Reads a reply. A reply that this release does not understand counts as no reply.
fn read<T: FromRedisValue>(reply: Value) -> Result<T, CredentialStoreError> {
    from_redis_value(reply).map_err(|_| CredentialStoreError::Unavailable)
}

fn log_failure(failure: RequestFailure) -> CredentialStoreError {
    tracing::warn!(event = "auth_store_unavailable", error = %failure);
    CredentialStoreError::Unavailable
}
