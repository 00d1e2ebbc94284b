//! Refresh families, tickets and invites in Redis.
//!
//! Owns: one atomic step for each operation of the contract, on a pooled connection, because the
//! order of these requests does not matter. The terms of a family or an invite are sealed, together
//! with everything that bounds them; what a script changes stands beside the seal. Must not: retry;
//! the client does, and only if a request was not executed. Next: `lua/` has the scripts.

use std::{collections::HashMap, sync::Arc};

use redis::{FromRedisValue, Value, from_redis_value};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use signalbox_protocol::{
    clock,
    id::{CallerId, RoomId},
};
use signalbox_redis::{
    KeyCommand, RedisClient, RedisCommand, RedisScript, ReplyReader, RequestFailure, ScriptCall, redis_keys,
};
use signalbox_token::TICKET_LIFE;

use super::contract::{
    CredentialLimits, CredentialStoreError, EXPIRED_RETENTION_MS, FamilyHolder, Invite, InviteUse,
    MAX_ROOM_INVITES, NewInvite, NewRefreshFamily, RefreshFamily, RefreshRotation, RefreshRotationResult,
};
use crate::auth::keys::SigningKeys;

static START_FAMILY: RedisScript = RedisScript::new(include_str!("lua/start_refresh_family.lua"));
static ROTATE_TOKEN: RedisScript = RedisScript::new(include_str!("lua/rotate_refresh_token.lua"));
static TAKE_PLACE: RedisScript = RedisScript::new(include_str!("lua/take_place.lua"));
static EXTEND_PLACE: RedisScript = RedisScript::new(include_str!("lua/extend_place.lua"));
static PUT_INVITE: RedisScript = RedisScript::new(include_str!("lua/put_invite.lua"));
static USE_INVITE: RedisScript = RedisScript::new(include_str!("lua/use_invite.lua"));

/// See the module.
pub struct RedisCredentialStore {
    client: Arc<RedisClient>,
    keys: Arc<SigningKeys>,
    limits: CredentialLimits,
}

/// The sealed part of a family. It does not change.
#[derive(Serialize, Deserialize)]
struct SealedFamily {
    salt: String,
    terms_json: String,
    grant: String,
    holder: FamilyHolder,
    created_ms: u64,
    ends_ms: u64,
}

/// The sealed part of an invite. It does not change.
#[derive(Serialize, Deserialize)]
struct SealedInvite {
    key: CallerId,
    terms_json: String,
    max_uses: u32,
}

/// A call of a script on the lists that count a family, with the family as the first argument.
fn call_on_family_lists(holder: &FamilyHolder, family_id: &str) -> ScriptCall {
    let root = holder.root.to_string();
    let mut call = ScriptCall::on_key(redis_keys::root_families_key(&root));
    call.add_key(redis_keys::user_families_key(&root, &holder.user));
    call.add_arg(family_id);
    call
}

/// The name under which an invite is sealed.
fn invite_name(room: &RoomId, id: &str) -> String {
    format!("{} {id}", redis_keys::invites_key(room))
}

impl RedisCredentialStore {
    /// A store over the client of the process, with records sealed by its keys. Announces the scripts; does not wait for Redis.
    pub fn new(client: Arc<RedisClient>, keys: Arc<SigningKeys>, limits: CredentialLimits) -> Self {
        let scripts = [&START_FAMILY, &ROTATE_TOKEN, &TAKE_PLACE, &EXTEND_PLACE, &PUT_INVITE, &USE_INVITE];
        client.load_scripts(&scripts);
        Self { client, keys, limits }
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
    ///
    /// # Errors
    /// [`CredentialStoreError::Unavailable`] if the key that opens the record may be missing here.
    fn open_record<T: DeserializeOwned>(
        &self,
        name: &str,
        sealed: &str,
    ) -> Result<Option<T>, CredentialStoreError> {
        let Some(record) = self.keys.record_seal().open(name, clock::now_ms(), sealed) else {
            if self.keys.verifier().may_lack_keys() {
                return Err(CredentialStoreError::Unavailable);
            }
            tracing::warn!(event = "record_not_authentic", "a record of the store is ignored");
            return Ok(None);
        };
        Ok(serde_json::from_slice(&record).ok())
    }

    pub(super) async fn put_ticket(&self, digest: &str, token: &str) -> Result<(), CredentialStoreError> {
        let key = redis_keys::ticket_key(digest);
        let set = KeyCommand::new(RedisCommand::Set, key).arg(token);
        let set = set.arg("PX").arg(TICKET_LIFE.as_millis() as u64).arg("NX");
        let written: Option<String> = self.run_command(&set).await?;
        written.map(|_| ()).ok_or(CredentialStoreError::Full)
    }

    /// Takes a place, and returns the records that the new one replaces.
    async fn take_place(&self, call: &ScriptCall) -> Result<Vec<String>, CredentialStoreError> {
        let mut reply = ReplyReader::new(self.run_script(&TAKE_PLACE, call).await?);
        match reply.next_number() {
            Some(1) => Ok(std::iter::from_fn(|| reply.next_text()).map(|id| id.to_string()).collect()),
            Some(_) => Err(CredentialStoreError::NoPlace),
            None => Err(CredentialStoreError::Unavailable),
        }
    }

    async fn release_place(&self, list: &str, record: &str) -> Result<(), CredentialStoreError> {
        let remove = KeyCommand::new(RedisCommand::ZRem, list).arg(record);
        self.run_command::<u64>(&remove).await.map(drop)
    }

    pub(super) async fn start_family(&self, new: &NewRefreshFamily) -> Result<usize, CredentialStoreError> {
        let mut place = call_on_family_lists(&new.holder, &new.family_id);
        place.add_arg(new.token_life_ms.min(new.family_life_ms).saturating_add(EXPIRED_RETENTION_MS));
        place.add_arg(self.limits.root_families).add_arg(self.limits.user_families);
        let replaced = self.take_place(&place).await?;
        for family_id in &replaced {
            let key = redis_keys::refresh_family_key(family_id);
            self.run_command::<u64>(&KeyCommand::new(RedisCommand::Del, key)).await?;
        }
        let written = self.write_family(new).await;
        if written.is_err() {
            let FamilyHolder { root, user } = &new.holder;
            let root = root.to_string();
            for list in [redis_keys::root_families_key(&root), redis_keys::user_families_key(&root, user)] {
                // Otherwise the place ends with the retention.
                let _ = self.release_place(&list, &new.family_id).await;
            }
        }
        written.map(|()| replaced.len())
    }

    async fn write_family(&self, new: &NewRefreshFamily) -> Result<(), CredentialStoreError> {
        let key = redis_keys::refresh_family_key(&new.family_id);
        let record = SealedFamily {
            salt: new.salt.clone(),
            terms_json: new.terms_json.clone(),
            grant: new.grant.clone(),
            holder: new.holder.clone(),
            created_ms: clock::now_ms(),
            ends_ms: clock::now_ms().saturating_add(new.family_life_ms),
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
        let get = KeyCommand::new(RedisCommand::HmGet, &*key).arg(&["sealed", "dead"]);
        let (sealed, dead): (Option<String>, Option<u8>) = self.run_command(&get).await?;
        let Some(sealed) = sealed else { return Ok(None) };
        Ok(self.open_record::<SealedFamily>(&key, &sealed)?.map(|family| RefreshFamily {
            salt: family.salt,
            terms_json: if dead.is_some() { String::new() } else { family.terms_json },
            grant: family.grant,
            holder: family.holder,
            created_ms: family.created_ms,
            ends_ms: family.ends_ms,
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
        let result = match (&*outcome, reply.next_number(), reply.next_number()) {
            ("next", Some(number), Some(left_ms)) => RefreshRotationResult::Rotated { number, left_ms },
            ("reused", Some(first), Some(left_ms)) => {
                RefreshRotationResult::Reused { first: first == 1, left_ms }
            }
            ("expired", ..) => RefreshRotationResult::Expired,
            ("unknown", ..) => RefreshRotationResult::Unknown,
            _ => return Err(CredentialStoreError::Unavailable),
        };
        if let RefreshRotationResult::Rotated { left_ms, .. }
        | RefreshRotationResult::Reused { left_ms, .. } = result
        {
            self.extend_place(rotation, left_ms).await;
        }
        Ok(result)
    }

    /// Keeps the place of a family as long as its record. The token is rotated already, so the result
    /// stays the same if Redis does not answer now; then the place ends too early.
    async fn extend_place(&self, rotation: &RefreshRotation, left_ms: u64) {
        let mut call = call_on_family_lists(&rotation.holder, &rotation.family_id);
        call.add_arg(left_ms.saturating_add(EXPIRED_RETENTION_MS));
        let _ = self.run_script(&EXTEND_PLACE, &call).await;
    }

    pub(super) async fn put_invite(&self, new: &NewInvite) -> Result<u64, CredentialStoreError> {
        let record =
            SealedInvite { key: new.key.clone(), terms_json: new.terms_json.clone(), max_uses: new.max_uses };
        let sealed = self.seal_record(&invite_name(&new.room, &new.id), new.life_ms, &record)?;
        let list = redis_keys::key_invites_key(&new.key);
        let mut place = ScriptCall::on_key(list.clone());
        place.add_arg(&new.id).add_arg(new.life_ms.saturating_add(EXPIRED_RETENTION_MS));
        place.add_arg(self.limits.key_invites);
        self.take_place(&place).await?;
        let mut call = ScriptCall::on_key(redis_keys::invites_key(&new.room));
        call.add_arg(&new.id).add_arg(sealed).add_arg(new.max_uses).add_arg(new.life_ms);
        call.add_arg(MAX_ROOM_INVITES).add_arg(EXPIRED_RETENTION_MS);
        let put = self.run_script(&PUT_INVITE, &call).await.and_then(read::<u64>);
        if matches!(put, Ok(0) | Err(_)) {
            // Otherwise the place ends with the retention.
            let _ = self.release_place(&list, &new.id).await;
        }
        match put? {
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
            ("ok", Some(sealed), Some(uses)) => match self.open_invite(room, id, &sealed)? {
                Some(invite) if uses <= u64::from(invite.max_uses) => InviteUse::Accepted(invite.terms_json),
                Some(_) => InviteUse::UsedUp,
                None => InviteUse::Unknown,
            },
            ("expired", ..) => InviteUse::Expired,
            ("used_up", ..) => InviteUse::UsedUp,
            ("unknown", ..) => InviteUse::Unknown,
            _ => return Err(CredentialStoreError::Unavailable),
        })
    }

    pub(super) async fn list_invites(&self, room: &RoomId) -> Result<Vec<Invite>, CredentialStoreError> {
        let get = KeyCommand::new(RedisCommand::HGetAll, redis_keys::invites_key(room));
        let fields: HashMap<String, String> = self.run_command(&get).await?;
        let number = |kind: &str, id: &str| fields.get(&format!("{kind}{id}"))?.parse::<u64>().ok();
        let invite = |(field, sealed): (&String, &String)| {
            let id = field.strip_prefix("j:")?;
            let ends_ms = number("e:", id)?;
            // The retention of an invite may be longer than its seal.
            if ends_ms <= clock::now_ms() {
                return None;
            }
            let uses = number("n:", id)?.try_into().ok()?;
            let opened = self.open_invite(room, id, sealed).transpose()?;
            Some(opened.map(|SealedInvite { terms_json, max_uses, key }| Invite {
                id: id.to_owned(),
                key,
                terms_json,
                max_uses,
                uses,
                ends_ms,
            }))
        };
        fields.iter().filter_map(invite).collect()
    }

    pub(super) async fn delete_invite(&self, room: &RoomId, id: &str) -> Result<bool, CredentialStoreError> {
        let key = redis_keys::invites_key(room);
        let get = KeyCommand::new(RedisCommand::HGet, &*key).arg(format!("j:{id}"));
        let sealed: Option<String> = self.run_command(&get).await?;
        let fields = ["j:", "e:", "m:", "n:"].map(|kind| format!("{kind}{id}"));
        let del = KeyCommand::new(RedisCommand::HDel, key).arg(fields.as_slice());
        let was_deleted = self.run_command::<u64>(&del).await? > 0;
        if let Some(invite) = sealed.and_then(|sealed| self.open_invite(room, id, &sealed).ok().flatten()) {
            self.release_place(&redis_keys::key_invites_key(&invite.key), id).await?;
        }
        Ok(was_deleted)
    }

    fn open_invite(
        &self,
        room: &RoomId,
        id: &str,
        sealed: &str,
    ) -> Result<Option<SealedInvite>, CredentialStoreError> {
        self.open_record(&invite_name(room, id), sealed)
    }

    pub(super) async fn delete_room_invites(&self, room: &RoomId) -> Result<(), CredentialStoreError> {
        let invites = self.list_invites(room).await?;
        let del = KeyCommand::new(RedisCommand::Del, redis_keys::invites_key(room));
        self.run_command::<u64>(&del).await?;
        // The places of expired invites end with their retention.
        for Invite { id, key, .. } in &invites {
            self.release_place(&redis_keys::key_invites_key(key), id).await?;
        }
        Ok(())
    }

    async fn run_command<T: FromRedisValue>(&self, command: &KeyCommand) -> Result<T, CredentialStoreError> {
        read(self.client.run_pooled_command(command).await.map_err(log_failure)?)
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
