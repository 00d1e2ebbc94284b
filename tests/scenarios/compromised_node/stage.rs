//! The deployment, and what the attacker has and does in it.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use redis::{Cmd, FromRedisValue, RedisResult, Value as RedisValue, aio::MultiplexedConnection, cmd};
use serde_json::{Value, json};
use signalbox_protocol::{
    clock,
    id::{NodeId, PeerId, RoomId},
};
use signalbox_redis::redis_keys::{self, partition_of_room};
use signalbox_tests::{
    cluster::random_secret,
    http::{Request, Response},
    keyed_cluster::KeyedCluster,
    net::eventually,
    peer::{TestConnection, TestPeer},
    process::Process,
    token::TokenBuilder,
    webhook_receiver::{WebhookConfig, WebhookReceiver},
};
use signalbox_token::{OpaqueToken, OpaqueTokenKind, parse_ticket_digest};

/// The most access rules of nodes that a process holds.
pub(super) const MAX_RULES: usize = 100;

/// The deployment, and what the attacker holds.
pub(super) struct Stage {
    pub(super) cluster: KeyedCluster,
    pub(super) receiver: WebhookReceiver,
    // Its file must last as long as the auth service.
    _webhooks: WebhookConfig,
    pub(super) user_secret: String,
    /// A connection with the URL in the environment of the node.
    pub(super) redis: MultiplexedConnection,
    /// From the environment of the node.
    pub(super) session_key: String,
}

/// One attempt, in a room of its own.
pub(super) struct Attempt<'a> {
    pub(super) stage: &'a Stage,
    pub(super) redis: MultiplexedConnection,
    pub(super) room: RoomId,
}

/// A waiting entry of a mailbox.
pub(super) struct Entry {
    mailbox: String,
    version: String,
    seq: u64,
    pub(super) fields: Vec<String>,
}

pub(super) fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

pub(super) fn text(answer: &Response, member: &str) -> String {
    let answer = answer.json();
    answer[member].as_str().unwrap_or_else(|| panic!("{member}: {answer}")).to_owned()
}

impl Stage {
    pub(super) async fn start() -> Self {
        let receiver = WebhookReceiver::accepting().await;
        let webhooks = WebhookConfig::new(&[&receiver], "", "");
        let user_secret = random_secret();
        let mut auth_env = webhooks.env();
        let scopes = "tokens,rooms,moderate,security,usage,events,webhooks";
        auth_env.push(("SIGNALBOX__API_KEYS__BACKEND__SCOPES".to_owned(), scopes.to_owned()));
        auth_env.push(("SIGNALBOX_USER_SECRET".to_owned(), user_secret.clone()));
        let max_rules = MAX_RULES.to_string();
        let settings = [("LIMITS__RULES", &*max_rules), ("TIMING__RESUME_WINDOW", "10s")];
        let cluster = KeyedCluster::start_with(&settings, &auth_env).await;
        eventually("the auth service has subscribed to the events", async || {
            cluster.auth.as_ref()?.log().contains("the event feed is subscribed").then_some(())
        })
        .await;
        let env: BTreeMap<String, String> = cluster.node_env().into_iter().collect();
        let client = redis::Client::open(env["REDIS_URL"].as_str()).unwrap();
        let redis = client.get_multiplexed_async_connection().await.unwrap();
        let session_key = env["SIGNALBOX_SESSION_KEY"].clone();
        Self { cluster, receiver, _webhooks: webhooks, user_secret, redis, session_key }
    }

    /// The node that was not broken into.
    pub(super) fn other_node(&self) -> &Process {
        &self.cluster.nodes[1]
    }

    pub(super) async fn api(&self, method: &'static str, path: &str, body: Value) -> Response {
        let request = Request::call(method, path, &body).header("Authorization", self.cluster.basic_auth());
        request.send(self.cluster.auth_address).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Response {
        let answer = self.api("POST", path, body).await;
        assert!(matches!(answer.status, 200..=202), "{path}: {}", answer.text);
        answer
    }

    /// Whether a token or a ticket opens a connection to the other node and joins.
    pub(super) async fn joins(&self, token: &str) -> bool {
        match TestConnection::open_with(self.other_node().address, &format!("token={token}")).await {
            Ok(connection) => connection.next().await["type"] == "joined",
            Err(_) => false,
        }
    }
}

impl Attempt<'_> {
    pub(super) async fn token(&self, user: &str) -> String {
        self.stage.cluster.issue(self.room.as_str(), user).await
    }

    /// Joins through the other node.
    pub(super) async fn join(&self, user: &str) -> TestPeer {
        let token = self.token(user).await;
        TestConnection::open(self.stage.other_node().address, &token).await.into_peer().await
    }

    /// Creates the room with the API.
    pub(super) async fn create_room(&self) {
        self.stage.post("/api/rooms", json!({"id": self.room.as_str()})).await;
    }

    pub(super) fn room_path(&self, rest: &str) -> String {
        format!("/api/rooms/{}{rest}", self.room)
    }

    /// Runs a command as the node. None: the ACL refuses it.
    pub(super) async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
        let mut redis = self.redis.clone();
        let reply: RedisResult<RedisValue> = command.query_async(&mut redis).await;
        match reply.and_then(RedisValue::extract_error) {
            Ok(value) => Some(T::from_redis_value(value).expect("a reply of this type")),
            Err(error) => {
                let text = error.to_string();
                let refused =
                    ["NOPERM", "NoPerm", "ACL failure", "can't access", "can't run", "No permissions"];
                assert!(refused.iter().any(|part| text.contains(part)), "{text}");
                None
            }
        }
    }

    /// Runs a command that the ACL permits.
    pub(super) async fn must<T: FromRedisValue>(&self, command: &Cmd) -> T {
        self.run(command).await.expect("a permitted command")
    }

    pub(super) async fn is_permitted(&self, command: &str) -> bool {
        let mut words = command.split(' ');
        let mut built = cmd(words.next().unwrap());
        built.arg(words.collect::<Vec<_>>());
        self.run::<RedisValue>(&built).await.is_some()
    }

    pub(super) async fn field(&self, name: &str) -> String {
        let mut get = cmd("HGET");
        self.must(get.arg(redis_keys::room_key(&self.room)).arg(name)).await
    }

    /// Changes fields of the room and its version.
    pub(super) async fn write_fields(&self, fields: &[(&str, String)]) {
        let key = redis_keys::room_key(&self.room);
        let mut set = cmd("HSET");
        set.arg(&key);
        fields.iter().for_each(|(name, value)| _ = set.arg(name).arg(value));
        self.must::<()>(&set).await;
        self.must::<()>(cmd("HINCRBY").arg(&key).arg("ver").arg(1)).await;
    }

    /// Changes the settings of the room.
    pub(super) async fn change_settings(&self, change: impl Fn(&mut Value)) {
        let mut settings: Value = serde_json::from_str(&self.field("set").await).unwrap();
        change(&mut settings);
        self.write_fields(&[("set", settings.to_string())]).await;
    }

    /// The node that owns a peer, its epoch and its mailbox version.
    pub(super) async fn owner(&self, peer: &str) -> (String, u64, u64) {
        let value = self.field(&format!("o:{peer}")).await;
        let words: Vec<&str> = value.split(' ').collect();
        (words[0].to_owned(), words[1].parse().unwrap(), words[2].parse().unwrap())
    }

    /// Tells the owner of a peer to read the room again. Returns the number of nodes that heard it.
    pub(super) async fn resync(&self, peer: &str) -> u64 {
        let node = NodeId::parse(&self.owner(peer).await.0).unwrap();
        let topic = redis_keys::node_topic(partition_of_room(&self.room), &node);
        self.must(cmd("SPUBLISH").arg(topic).arg(format!("!{} {peer}", self.room))).await
    }

    pub(super) async fn participants(&self) -> Vec<Value> {
        let answer = self.stage.api("GET", &self.room_path("/participants"), Value::Null).await;
        answer.json()["participants"].as_array().cloned().unwrap_or_default()
    }

    /// The last entry that waits for a peer.
    pub(super) async fn last_entry(&self, peer: &str) -> Entry {
        let mailbox = redis_keys::mailbox_key(&self.room, &PeerId::parse(peer).unwrap());
        let mut range = cmd("XREVRANGE");
        range.arg(&mailbox).arg("+").arg("-").arg("COUNT").arg(1);
        let mut entries: Vec<(String, Vec<String>)> = self.must(&range).await;
        let (id, fields) = entries.pop().expect("an entry");
        let (version, seq) = id.split_once('-').unwrap();
        Entry { mailbox, version: version.to_owned(), seq: seq.parse().unwrap(), fields }
    }

    /// Adds an entry to the mailbox of a peer: the last one, with another body.
    pub(super) async fn forge_entry(&self, peer: &str, from: &str, to: &str) {
        let Entry { mailbox, version, seq, fields } = self.last_entry(peer).await;
        let mut add = cmd("XADD");
        add.arg(mailbox).arg(format!("{version}-{}", seq + 1));
        for pair in fields.chunks(2) {
            let value = match &*pair[0] {
                "d" => pair[1].replace(from, to),
                // A message with the id of an earlier one is a duplicate.
                "i" => pair[1].parse::<u64>().map_or(String::new(), |id| (id + 1).to_string()),
                _ => pair[1].clone(),
            };
            add.arg(&pair[0]).arg(value);
        }
        self.must::<String>(&add).await;
        let (room, field) = (redis_keys::room_key(&self.room), format!("m:{peer}"));
        let mut packed: Vec<u8> = self.must(cmd("HGET").arg(&room).arg(&field)).await;
        // The second number is the last seq.
        packed[8..16].copy_from_slice(&((seq + 1) as f64).to_be_bytes());
        self.must::<()>(cmd("HSET").arg(&room).arg(&field).arg(packed)).await;
    }

    /// Writes rules as a node does. `values` are times and terms.
    pub(super) async fn write_node_rules(&self, rules: &[(String, String)]) {
        const SCRIPT: &str = "
            local life = redis.call('HGET', KEYS[1], ':life')
            if not life then redis.call('HSET', KEYS[1], ':life', '1') end
            for n = 2, #ARGV, 2 do
              local number = redis.call('HINCRBY', KEYS[1], ':n', 1)
              redis.call('XADD', KEYS[3], number .. '-0', 't', ARGV[1], 'k', ARGV[n], 'v', ARGV[n + 1])
              redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1])
              redis.call('ZADD', KEYS[2], ARGV[1] + 600000, ARGV[n])
            end
            for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 600000) end";
        let mut eval = cmd("EVAL");
        eval.arg(SCRIPT).arg(3).arg(redis_keys::NODE_RULES_KEY).arg(redis_keys::NODE_RULE_ENDS_KEY);
        eval.arg(redis_keys::NODE_RULE_LOG_KEY).arg(clock::now_ms());
        rules.iter().for_each(|(key, value)| _ = eval.arg(key).arg(value));
        self.must::<()>(&eval).await;
    }

    /// Revokes the grant of a token with the rule of a node, and waits until the other node has it.
    pub(super) async fn revoke_grant(&self, token: &str) {
        let id = claims(token)["jti"].as_str().unwrap().to_owned();
        let grant = id.split('.').next().unwrap();
        self.write_node_rules(&[(format!("token:{grant}"), rule(false))]).await;
        eventually("the other node has the rule", async || (!self.is_valid(token).await).then_some(())).await;
    }

    pub(super) async fn is_valid(&self, token: &str) -> bool {
        let request = Request::get(format!("/ws/validate?token={token}"));
        request.send(self.stage.other_node().address).await.status == 200
    }

    /// Waits until the other node has read all rules that were written before.
    pub(super) async fn wait_for_rules(&self) {
        let marker = self.token("marker").await;
        self.revoke_grant(&marker).await;
    }

    /// A refresh token of the user `alice`, and the key of its family.
    pub(super) async fn refresh_family(&self) -> (String, String) {
        let body = json!({"room": self.room.as_str(), "user": "alice", "refresh": true});
        let refresh = text(&self.stage.post("/auth/token", body).await, "refreshToken");
        let secret = OpaqueToken::parse(OpaqueTokenKind::Refresh, &refresh).unwrap();
        let id: String = secret.expose()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        (refresh, redis_keys::refresh_family_key(&id))
    }

    /// A ticket of the user `alice`, and its key.
    pub(super) async fn ticket(&self) -> (String, String) {
        let bearer = format!("Bearer {}", self.token("alice").await);
        let request = Request::post("/auth/ticket", &json!({})).header("Authorization", bearer);
        let ticket = text(&request.send(self.stage.cluster.auth_address).await, "ticket");
        let key = redis_keys::ticket_key(&parse_ticket_digest(&ticket).unwrap());
        (ticket, key)
    }

    /// Tokens that a node can make: with the session key, a key of its own, and without a signature.
    pub(super) async fn forged_tokens(&self) -> Vec<String> {
        let key_id = self.stage.cluster.published_key_ids().await.remove(0);
        let host = TokenBuilder::valid(self.room.as_str(), "ceo").claim("role", "host");
        let named = host.clone().kid(&key_id);
        let unsigned = json!({"alg": "none", "typ": host.header.typ});
        let session_key = &self.stage.session_key;
        let unsigned = host.assemble(&unsigned, "");
        vec![
            host.sign(session_key),
            named.sign(session_key),
            host.sign_ed25519(),
            named.sign_ed25519(),
            unsigned,
        ]
    }

    pub(super) async fn opens_any(&self, queries: &[String]) -> bool {
        for query in queries {
            if TestConnection::open_with(self.stage.other_node().address, query).await.is_ok() {
                return true;
            }
        }
        false
    }
}

/// The stored text of a rule without a signature.
pub(super) fn rule(is_lifted: bool) -> String {
    let now = clock::now_ms();
    let (end, lifted) = (now + 600_000, u8::from(is_lifted));
    format!("{now} {end} {end} {lifted} - {}", json!({"by": "room"}))
}
