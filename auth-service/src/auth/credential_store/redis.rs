//! Refresh families, tickets and invites in Redis.
//!
//! Owns: one atomic step for each operation of the contract, on a pooled connection, because the
//! order of these requests does not matter. The terms of a family or an invite are sealed, together
//! with everything that bounds them; what a script changes stands beside the seal. Must not: retry;
//! the client does, and only if a request was not executed. Next: `lua/` has the scripts.

use std::{collections::HashMap, sync::Arc};

use redis::{Cmd, FromRedisValue, Value, cmd, from_redis_value};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use signalbox_protocol::{clock, id::RoomId};
use signalbox_redis::{RedisClient, RedisScript, ReplyReader, RequestFailure, ScriptCall, redis_keys};
use signalbox_token::TICKET_LIFE;

use super::contract::{
    CredentialStoreError, EXPIRED_RETENTION_MS, Invite, InviteUse, MAX_ROOM_INVITES, NewInvite,
    NewRefreshFamily, RefreshFamily, RefreshRotation, RefreshRotationResult,
};
use crate::auth::keys::SigningKeys;

static START_FAMILY: RedisScript = RedisScript::new(include_str!("lua/start_refresh_family.lua"));
static ROTATE_TOKEN: RedisScript = RedisScript::new(include_str!("lua/rotate_refresh_token.lua"));
static PUT_INVITE: RedisScript = RedisScript::new(include_str!("lua/put_invite.lua"));
static USE_INVITE: RedisScript = RedisScript::new(include_str!("lua/use_invite.lua"));

/// See the module.
pub struct RedisCredentialStore {
    client: Arc<RedisClient>,
    keys: Arc<SigningKeys>,
}

/// The sealed part of a family. It does not change.
#[derive(Serialize, Deserialize)]
struct SealedFamily {
    salt: String,
    terms_json: String,
    grant: String,
    created_ms: u64,
}

/// The sealed part of an invite. It does not change.
#[derive(Serialize, Deserialize)]
struct SealedInvite {
    terms_json: String,
    max_uses: u32,
}

/// The name under which an invite is sealed.
fn invite_name(room: &RoomId, id: &str) -> String {
    format!("{} {id}", redis_keys::invites_key(room))
}

impl RedisCredentialStore {
    /// A store over the client of the process, with records sealed by its keys. Announces the scripts; does not wait for Redis.
    pub fn new(client: Arc<RedisClient>, keys: Arc<SigningKeys>) -> Self {
        client.load_scripts(&[&START_FAMILY, &ROTATE_TOKEN, &PUT_INVITE, &USE_INVITE]);
        Self { client, keys }
    }

    fn seal_record(
        &self,
        name: &str,
        life_ms: u64,
        record: &impl Serialize,
    ) -> Result<String, CredentialStoreError> {
        let ends_ms = clock::now_ms().saturating_add(life_ms);
        let record = serde_json::to_vec(record).unwrap_or_default();
        self.keys.record_seal().seal(name, ends_ms, &record).map_err(|error| {
            tracing::error!(event = "record_not_sealed", %error);
            CredentialStoreError::Unavailable
        })
    }

    /// A record as it was sealed. A record that was not sealed under this name does not exist.
    fn open_record<T: DeserializeOwned>(&self, name: &str, sealed: &str) -> Option<T> {
        let record = self.keys.record_seal().open(name, clock::now_ms(), sealed);
        if record.is_none() {
            tracing::warn!(event = "record_not_authentic", "a record of the store is ignored");
        }
        serde_json::from_slice(&record?).ok()
    }

    pub(super) async fn put_ticket(&self, digest: &str, token: &str) -> Result<(), CredentialStoreError> {
        let key = redis_keys::ticket_key(digest);
        let mut set = cmd("SET");
        set.arg(&key).arg(token).arg("PX").arg(TICKET_LIFE.as_millis() as u64).arg("NX");
        let written: Option<String> = self.run_command(&key, &set).await?;
        written.map(|_| ()).ok_or(CredentialStoreError::Full)
    }

    pub(super) async fn start_family(&self, new: &NewRefreshFamily) -> Result<(), CredentialStoreError> {
        let key = redis_keys::refresh_family_key(&new.family_id);
        let record = SealedFamily {
            salt: new.salt.clone(),
            terms_json: new.terms_json.clone(),
            grant: new.grant.clone(),
            created_ms: clock::now_ms(),
        };
        // A late caller learns that the family has expired.
        let life_ms = new.family_life_ms.saturating_add(EXPIRED_RETENTION_MS);
        let sealed = self.seal_record(&key, life_ms, &record)?;
        let mut call = ScriptCall::on_key(key);
        call.add_arg(sealed)
            .add_arg(&new.first_digest)
            .add_arg(new.token_life_ms)
            .add_arg(new.family_life_ms)
            .add_arg(EXPIRED_RETENTION_MS);
        let is_new: bool = read(self.run_script(&START_FAMILY, &call).await?)?;
        if is_new { Ok(()) } else { Err(CredentialStoreError::Full) }
    }

    pub(super) async fn load_family(
        &self,
        family_id: &str,
    ) -> Result<Option<RefreshFamily>, CredentialStoreError> {
        let key = redis_keys::refresh_family_key(family_id);
        let mut get = cmd("HMGET");
        get.arg(&key).arg(&["sealed", "dead"]);
        let (sealed, dead): (Option<String>, Option<u8>) = self.run_command(&key, &get).await?;
        let family = sealed.and_then(|sealed| self.open_record::<SealedFamily>(&key, &sealed));
        Ok(family.map(|family| RefreshFamily {
            salt: family.salt,
            terms_json: if dead.is_some() { String::new() } else { family.terms_json },
            grant: family.grant,
            created_ms: family.created_ms,
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
        let record = SealedInvite { terms_json: new.terms_json.clone(), max_uses: new.max_uses };
        let sealed = self.seal_record(&invite_name(&new.room, &new.id), new.life_ms, &record)?;
        let mut call = ScriptCall::on_key(redis_keys::invites_key(&new.room));
        call.add_arg(&new.id).add_arg(sealed).add_arg(new.max_uses).add_arg(new.life_ms);
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
        Ok(match (&*outcome, reply.next_text(), reply.next_number()) {
            ("ok", Some(sealed), Some(uses)) => {
                match self.open_record::<SealedInvite>(&invite_name(room, id), &sealed) {
                    Some(invite) if uses <= u64::from(invite.max_uses) => {
                        InviteUse::Accepted(invite.terms_json)
                    }
                    Some(_) => InviteUse::UsedUp,
                    None => InviteUse::Unknown,
                }
            }
            ("expired", ..) => InviteUse::Expired,
            ("used_up", ..) => InviteUse::UsedUp,
            _ => InviteUse::Unknown,
        })
    }

    pub(super) async fn list_invites(&self, room: &RoomId) -> Result<Vec<Invite>, CredentialStoreError> {
        let key = redis_keys::invites_key(room);
        let mut get = cmd("HGETALL");
        get.arg(&key);
        let fields: HashMap<String, String> = self.run_command(&key, &get).await?;
        let number = |kind: &str, id: &str| fields.get(&format!("{kind}{id}"))?.parse::<u64>().ok();
        let invite = |(field, sealed): (&String, &String)| {
            let id = field.strip_prefix("j:")?;
            let ends_ms = number("e:", id)?;
            // The retention of an invite may be longer than its seal.
            if ends_ms <= clock::now_ms() {
                return None;
            }
            let invite: SealedInvite = self.open_record(&invite_name(room, id), sealed)?;
            Some(Invite {
                id: id.to_owned(),
                terms_json: invite.terms_json,
                max_uses: invite.max_uses,
                uses: number("n:", id)?.try_into().ok()?,
                ends_ms,
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
