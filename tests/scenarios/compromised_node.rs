//! What an attacker can do with everything that a signaling node has: its environment, with the
//! password of its Redis user and the session key, and what it sees. SECURITY.md lists the powers.
//! Each row here is one power, tried against the other node and the auth service.

use std::{collections::BTreeMap, process::Command, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::StreamExt as _;
use redis::{Cmd, FromRedisValue, RedisResult, Value as RedisValue, aio::MultiplexedConnection, cmd};
use serde_json::{Value, json};
use signalbox_protocol::{
    clock,
    id::{NodeId, PeerId, RoomId, random_hex},
};
use signalbox_redis::redis_keys::{self, partition_of_room};
use signalbox_tests::{
    SDP,
    cluster::random_secret,
    handle_forge::{HANDLE_INFO, HandleForge},
    http::{Request, Response},
    keyed_cluster::KeyedCluster,
    net::{eventually, eventually_within},
    peer::{TestConnection, TestPeer},
    process::Process,
    token::TokenBuilder,
    webhook_receiver::{WebhookConfig, WebhookReceiver},
};
use signalbox_token::{OpaqueToken, OpaqueTokenKind, parse_ticket_digest};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

/// The most access rules of nodes that a process holds.
const MAX_RULES: usize = 100;

all_of!(
    /// What the attacker tries. The last row fills the table of rules.
    Power {
        // Rooms and mailboxes.
        ListRooms,
        ReadRoom,
        ReadWaitingDescription,
        ForgeMessage,
        ForgeEvent,
        RemovePeer,
        AddPeer,
        PromotePeer,
        ChangeRoomSettings,
        LiftSanctionOfRoom,
        RevivePassOfEarlierRoom,
        DestroyRoom,
        // Credentials that the node sees.
        ReadTokenOfTicket,
        UseUpTicket,
        TakeOverPeerOfSeenToken,
        // Rules, topics, webhooks, usage.
        RevokeGrant,
        PublishToNode,
        PublishToFeed,
        ForgeWebhookEvent,
        ForgeUsage,
        // Making credentials.
        MakeToken,
        MakeTicket,
        AdmitPeerBySessionKey,
        MakeUserCreatorOfRoom,
        ReadRefreshFamily,
        MakeRefreshFamily,
        AlterRefreshFamily,
        ReadInvite,
        MakeInvite,
        // Rules of the auth service.
        WriteRule,
        DeleteRule,
        DeleteAllRules,
        LiftRuleByNodeRule,
        BanByNodeRule,
        SendNotice,
        // Redis.
        ReadFeed,
        TakeWebhookLease,
        ReadDeadLetters,
        ReadKeyOfAuthInScript,
        ListKeysInScript,
        ReadConfiguration,
        ListKeys,
        ScanKeys,
        DeleteAllKeys,
        ReadUsers,
        ReadClients,
        WatchCommands,
        StopRedis,
        StopReplication,
        HoldMoreRulesThanTheLimit,
    }
);

impl Power {
    /// What SECURITY.md says.
    fn is_possible(self) -> bool {
        match self {
            Self::ListRooms
            | Self::ReadRoom
            | Self::ReadWaitingDescription
            | Self::ForgeMessage
            | Self::ForgeEvent
            | Self::RemovePeer
            | Self::AddPeer
            | Self::PromotePeer
            | Self::ChangeRoomSettings
            | Self::LiftSanctionOfRoom
            | Self::RevivePassOfEarlierRoom
            | Self::DestroyRoom
            | Self::ReadTokenOfTicket
            | Self::UseUpTicket
            | Self::TakeOverPeerOfSeenToken
            | Self::RevokeGrant
            | Self::PublishToNode
            | Self::PublishToFeed
            | Self::ForgeWebhookEvent
            | Self::ForgeUsage => true,
            Self::MakeToken
            | Self::MakeTicket
            | Self::AdmitPeerBySessionKey
            | Self::MakeUserCreatorOfRoom
            | Self::ReadRefreshFamily
            | Self::MakeRefreshFamily
            | Self::AlterRefreshFamily
            | Self::ReadInvite
            | Self::MakeInvite
            | Self::WriteRule
            | Self::DeleteRule
            | Self::DeleteAllRules
            | Self::LiftRuleByNodeRule
            | Self::BanByNodeRule
            | Self::SendNotice
            | Self::ReadFeed
            | Self::TakeWebhookLease
            | Self::ReadDeadLetters
            | Self::ReadKeyOfAuthInScript
            | Self::ListKeysInScript
            | Self::ReadConfiguration
            | Self::ListKeys
            | Self::ScanKeys
            | Self::DeleteAllKeys
            | Self::ReadUsers
            | Self::ReadClients
            | Self::WatchCommands
            | Self::StopRedis
            | Self::StopReplication
            | Self::HoldMoreRulesThanTheLimit => false,
        }
    }
}

/// The deployment, and what the attacker holds.
struct Stage {
    cluster: KeyedCluster,
    receiver: WebhookReceiver,
    // Its file must last as long as the auth service.
    _webhooks: WebhookConfig,
    user_secret: String,
    /// A connection with the URL in the environment of the node.
    redis: MultiplexedConnection,
    /// From the environment of the node.
    session_key: String,
}

/// One attempt, in a room of its own.
struct Attempt<'a> {
    stage: &'a Stage,
    redis: MultiplexedConnection,
    room: RoomId,
}

/// A waiting entry of a mailbox.
struct Entry {
    mailbox: String,
    version: String,
    seq: u64,
    fields: Vec<String>,
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn text(answer: &Response, member: &str) -> String {
    let answer = answer.json();
    answer[member].as_str().unwrap_or_else(|| panic!("{member}: {answer}")).to_owned()
}

impl Stage {
    async fn start() -> Self {
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
    fn other_node(&self) -> &Process {
        &self.cluster.nodes[1]
    }

    async fn api(&self, method: &'static str, path: &str, body: Value) -> Response {
        let request = Request::call(method, path, &body).header("Authorization", self.cluster.basic_auth());
        request.send(self.cluster.auth_address).await
    }

    async fn post(&self, path: &str, body: Value) -> Response {
        let answer = self.api("POST", path, body).await;
        assert!(matches!(answer.status, 200..=202), "{path}: {}", answer.text);
        answer
    }

    /// Whether a token or a ticket opens a connection to the other node and joins.
    async fn joins(&self, token: &str) -> bool {
        match TestConnection::open_with(self.other_node().address, &format!("token={token}")).await {
            Ok(connection) => connection.next().await["type"] == "joined",
            Err(_) => false,
        }
    }
}

impl Attempt<'_> {
    async fn token(&self, user: &str) -> String {
        self.stage.cluster.issue(self.room.as_str(), user).await
    }

    /// Joins through the other node.
    async fn join(&self, user: &str) -> TestPeer {
        let token = self.token(user).await;
        TestConnection::open(self.stage.other_node().address, &token).await.into_peer().await
    }

    /// Creates the room with the API.
    async fn create_room(&self) {
        self.stage.post("/api/rooms", json!({"id": self.room.as_str()})).await;
    }

    fn room_path(&self, rest: &str) -> String {
        format!("/api/rooms/{}{rest}", self.room)
    }

    /// Runs a command as the node. None: the ACL refuses it.
    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
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
    async fn must<T: FromRedisValue>(&self, command: &Cmd) -> T {
        self.run(command).await.expect("a permitted command")
    }

    async fn is_permitted(&self, command: &str) -> bool {
        let mut words = command.split(' ');
        let mut built = cmd(words.next().unwrap());
        built.arg(words.collect::<Vec<_>>());
        self.run::<RedisValue>(&built).await.is_some()
    }

    async fn field(&self, name: &str) -> String {
        let mut get = cmd("HGET");
        self.must(get.arg(redis_keys::room_key(&self.room)).arg(name)).await
    }

    /// Changes fields of the room and its version.
    async fn write_fields(&self, fields: &[(&str, String)]) {
        let key = redis_keys::room_key(&self.room);
        let mut set = cmd("HSET");
        set.arg(&key);
        fields.iter().for_each(|(name, value)| _ = set.arg(name).arg(value));
        self.must::<()>(&set).await;
        self.must::<()>(cmd("HINCRBY").arg(&key).arg("ver").arg(1)).await;
    }

    /// Changes the settings of the room.
    async fn change_settings(&self, change: impl Fn(&mut Value)) {
        let mut settings: Value = serde_json::from_str(&self.field("set").await).unwrap();
        change(&mut settings);
        self.write_fields(&[("set", settings.to_string())]).await;
    }

    /// The node that owns a peer, its epoch and its mailbox version.
    async fn owner(&self, peer: &str) -> (String, u64, u64) {
        let value = self.field(&format!("o:{peer}")).await;
        let words: Vec<&str> = value.split(' ').collect();
        (words[0].to_owned(), words[1].parse().unwrap(), words[2].parse().unwrap())
    }

    /// Tells the owner of a peer to read the room again. Returns the number of nodes that heard it.
    async fn resync(&self, peer: &str) -> u64 {
        let node = NodeId::parse(&self.owner(peer).await.0).unwrap();
        let topic = redis_keys::node_topic(partition_of_room(&self.room), &node);
        self.must(cmd("SPUBLISH").arg(topic).arg(format!("!{} {peer}", self.room))).await
    }

    async fn participants(&self) -> Vec<Value> {
        let answer = self.stage.api("GET", &self.room_path("/participants"), Value::Null).await;
        answer.json()["participants"].as_array().cloned().unwrap_or_default()
    }

    /// The last entry that waits for a peer.
    async fn last_entry(&self, peer: &str) -> Entry {
        let mailbox = redis_keys::mailbox_key(&self.room, &PeerId::parse(peer).unwrap());
        let mut range = cmd("XREVRANGE");
        range.arg(&mailbox).arg("+").arg("-").arg("COUNT").arg(1);
        let mut entries: Vec<(String, Vec<String>)> = self.must(&range).await;
        let (id, fields) = entries.pop().expect("an entry");
        let (version, seq) = id.split_once('-').unwrap();
        Entry { mailbox, version: version.to_owned(), seq: seq.parse().unwrap(), fields }
    }

    /// Adds an entry to the mailbox of a peer: the last one, with another body.
    async fn forge_entry(&self, peer: &str, from: &str, to: &str) {
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
        let mut set = cmd("HSET");
        set.arg(redis_keys::room_key(&self.room)).arg(format!("h:{peer}")).arg(seq + 1);
        self.must::<()>(&set).await;
    }

    /// Writes rules as a node does. `values` are times and terms.
    async fn write_node_rules(&self, rules: &[(String, String)]) {
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
    async fn revoke_grant(&self, token: &str) {
        let id = claims(token)["jti"].as_str().unwrap().to_owned();
        let grant = id.split('.').next().unwrap();
        self.write_node_rules(&[(format!("token:{grant}"), rule(false))]).await;
        eventually("the other node has the rule", async || (!self.is_valid(token).await).then_some(())).await;
    }

    async fn is_valid(&self, token: &str) -> bool {
        let request = Request::get(format!("/ws/validate?token={token}"));
        request.send(self.stage.other_node().address).await.status == 200
    }

    /// Waits until the other node has read all rules that were written before.
    async fn wait_for_rules(&self) {
        let marker = self.token("marker").await;
        self.revoke_grant(&marker).await;
    }

    /// A refresh token of the user `alice`, and the key of its family.
    async fn refresh_family(&self) -> (String, String) {
        let body = json!({"room": self.room.as_str(), "user": "alice", "refresh": true});
        let refresh = text(&self.stage.post("/auth/token", body).await, "refreshToken");
        let secret = OpaqueToken::parse(OpaqueTokenKind::Refresh, &refresh).unwrap();
        let id: String = secret.expose()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        (refresh, redis_keys::refresh_family_key(&id))
    }

    /// A ticket of the user `alice`, and its key.
    async fn ticket(&self) -> (String, String) {
        let bearer = format!("Bearer {}", self.token("alice").await);
        let request = Request::post("/auth/ticket", &json!({})).header("Authorization", bearer);
        let ticket = text(&request.send(self.stage.cluster.auth_address).await, "ticket");
        let key = redis_keys::ticket_key(&parse_ticket_digest(&ticket).unwrap());
        (ticket, key)
    }

    /// Tokens that a node can make: with the session key, a key of its own, and without a signature.
    async fn forged_tokens(&self) -> Vec<String> {
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

    async fn opens_any(&self, queries: &[String]) -> bool {
        for query in queries {
            if TestConnection::open_with(self.stage.other_node().address, query).await.is_ok() {
                return true;
            }
        }
        false
    }
}

/// The stored text of a rule without a signature.
fn rule(is_lifted: bool) -> String {
    let now = clock::now_ms();
    let (end, lifted) = (now + 600_000, u8::from(is_lifted));
    format!("{now} {end} {end} {lifted} - {}", json!({"by": "room"}))
}

/// Today by UTC, as in the key of the usage.
fn today() -> String {
    let printed = Command::new("date").args(["-u", "+%F"]).output().unwrap();
    String::from_utf8(printed.stdout).unwrap().trim().to_owned()
}

fn feed_line(room: &RoomId, id: &str) -> String {
    json!({"id": id, "event": "room-opened", "at": clock::now_ms(), "room": room.as_str(), "node": random_hex()})
        .to_string()
}

impl Power {
    /// Tries it. Returns whether it succeeded.
    async fn attempt(self, stage: &Stage) -> bool {
        let room = RoomId::parse(&format!("{self:?}")).unwrap();
        let attempt = Attempt { stage, redis: stage.redis.clone(), room };
        if let Some(command) = self.plain_command() {
            return attempt.is_permitted(command).await;
        }
        match self {
            Self::ListRooms
            | Self::ReadRoom
            | Self::ReadWaitingDescription
            | Self::ForgeMessage
            | Self::ForgeEvent => self.attempt_to_read_or_forge(&attempt).await,
            Self::RemovePeer | Self::AddPeer | Self::PromotePeer => self.attempt_on_peer(&attempt).await,
            Self::ChangeRoomSettings
            | Self::LiftSanctionOfRoom
            | Self::RevivePassOfEarlierRoom
            | Self::DestroyRoom
            | Self::MakeUserCreatorOfRoom => self.attempt_on_room(&attempt).await,
            Self::ReadTokenOfTicket
            | Self::UseUpTicket
            | Self::TakeOverPeerOfSeenToken
            | Self::MakeToken
            | Self::MakeTicket
            | Self::AdmitPeerBySessionKey => self.attempt_with_credential(&attempt).await,
            Self::ReadRefreshFamily
            | Self::MakeRefreshFamily
            | Self::AlterRefreshFamily
            | Self::ReadInvite
            | Self::MakeInvite => self.attempt_on_record(&attempt).await,
            Self::PublishToNode | Self::PublishToFeed | Self::ForgeWebhookEvent | Self::ForgeUsage => {
                self.attempt_to_report(&attempt).await
            }
            _ => self.attempt_on_rules(&attempt).await,
        }
    }

    /// The command of a row that is one command.
    fn plain_command(self) -> Option<&'static str> {
        Some(match self {
            Self::ReadFeed => "SSUBSCRIBE sb:feed:{5n3}",
            Self::TakeWebhookLease => "SET sb:a:hook-lease:{5n3} x PX 1000",
            Self::ReadDeadLetters => "XRANGE sb:a:hook-dead:{5n3} - +",
            Self::ReadKeyOfAuthInScript => "EVAL return(redis.call('GET','sb:a:hook-lease:{5n3}')) 0",
            Self::ListKeysInScript => "EVAL return(redis.call('KEYS','*')) 0",
            Self::ReadConfiguration => "CONFIG GET maxmemory",
            Self::ListKeys => "KEYS *",
            Self::ScanKeys => "SCAN 0",
            Self::DeleteAllKeys => "FLUSHALL",
            Self::ReadUsers => "ACL LIST",
            Self::ReadClients => "CLIENT LIST",
            Self::WatchCommands => "MONITOR",
            Self::StopRedis => "SHUTDOWN NOSAVE",
            Self::StopReplication => "REPLICAOF NO ONE",
            _ => return None,
        })
    }

    async fn attempt_to_read_or_forge(self, attempt: &Attempt<'_>) -> bool {
        let (alice, bob) = (attempt.join("alice").await, attempt.join("bob").await);
        let key = redis_keys::room_key(&attempt.room);
        match self {
            Self::ListRooms => {
                let due = redis_keys::due_key(partition_of_room(&attempt.room));
                let names: Vec<String> = attempt.must(cmd("ZRANGE").arg(due).arg(0).arg(-1)).await;
                return names.iter().any(|name| *name == attempt.room.as_str());
            }
            Self::ReadRoom => {
                let fields: BTreeMap<String, String> = attempt.must(cmd("HGETALL").arg(key)).await;
                return fields[&format!("p:{}", alice.id())].contains(r#""user":"alice""#);
            }
            _ => {}
        }
        let bob_id = bob.id().to_owned();
        let bob = bob.disconnect().await;
        alice.next_of_type("peer-detached").await;
        if self == Self::ForgeEvent {
            let carol = attempt.join("carol").await;
            attempt.forge_entry(&bob_id, "carol", "ghost").await;
            let bob = bob.resume_on(attempt.stage.other_node()).await;
            let is_ghost =
                |frame: &Value| frame["type"] == "peer-joined" && frame.to_string().contains("ghost");
            bob.next_where("the forged event", is_ghost).await;
            carol.leave().await;
            return true;
        }
        if self == Self::ReadWaitingDescription {
            alice.send_acked(json!({"type": "offer", "to": bob_id, "sdp": SDP})).await;
            return attempt.last_entry(&bob_id).await.fields.concat().contains("v=0");
        }
        alice.send_acked(json!({"type": "message", "to": bob_id, "data": "genuine"})).await;
        attempt.forge_entry(&bob_id, "genuine", "forged").await;
        let bob = bob.resume_on(attempt.stage.other_node()).await;
        let (first, second) = (bob.next_message().await, bob.next_message().await);
        assert_eq!(first.data, Some(json!("genuine")));
        second.data == Some(json!("forged")) && second.from == alice.id()
    }

    async fn attempt_on_peer(self, attempt: &Attempt<'_>) -> bool {
        let (alice, bob) = (attempt.join("alice").await, attempt.join("bob").await);
        let record = format!("p:{}", alice.id());
        match self {
            Self::RemovePeer => {
                let mut delete = cmd("HDEL");
                delete.arg(redis_keys::room_key(&attempt.room));
                delete.arg(format!("p:{}", bob.id())).arg(format!("o:{}", bob.id()));
                attempt.must::<()>(&delete).await;
                attempt.write_fields(&[("x", String::new())]).await;
                attempt.participants().await.iter().all(|peer| peer["userId"] != "bob")
            }
            Self::AddPeer => {
                let ghost = random_hex();
                let member = attempt.field(&record).await.replace("alice", "ceo");
                let owner = attempt.field(&format!("o:{}", alice.id())).await;
                let fields = [(&*format!("p:{ghost}"), member), (&*format!("o:{ghost}"), owner)];
                attempt.write_fields(&fields).await;
                attempt.participants().await.iter().any(|peer| peer["userId"] == "ceo")
            }
            _ => {
                let mut member: Value = serde_json::from_str(&attempt.field(&record).await).unwrap();
                member["role"] = "host".into();
                member["permissions"] = json!(["publish", "message", "moderate", "admit", "end"]);
                let alice = alice.disconnect().await;
                bob.next_of_type("peer-detached").await;
                attempt.write_fields(&[(&record, member.to_string())]).await;
                let alice = alice.resume_on(attempt.stage.other_node()).await;
                alice.send_acked(json!({"type": "kick", "peer": bob.id()})).await;
                bob.wait_closed().await.code == 4513
            }
        }
    }

    async fn attempt_on_room(self, attempt: &Attempt<'_>) -> bool {
        let stage = attempt.stage;
        attempt.create_room().await;
        match self {
            Self::ChangeRoomSettings => {
                attempt.change_settings(|settings| settings["name"] = "forged".into()).await;
                let shown = stage.api("GET", &attempt.room_path(""), Value::Null).await;
                shown.assert_status(200).json()["name"] == "forged"
            }
            Self::LiftSanctionOfRoom => {
                let mallory = attempt.join("mallory").await;
                let path = attempt.room_path(&format!("/participants/{}", mallory.id()));
                stage.api("DELETE", &path, Value::Null).await.assert_status(200);
                let token = attempt.token("mallory").await;
                assert!(!stage.joins(&token).await, "a removed user returns");
                let key = redis_keys::room_key(&attempt.room);
                attempt.must::<()>(cmd("HDEL").arg(&key).arg("san")).await;
                attempt.write_fields(&[("x", String::new())]).await;
                eventually("the user returns", async || stage.joins(&token).await.then_some(true)).await
            }
            Self::RevivePassOfEarlierRoom => {
                let old = attempt.token("mallory").await;
                stage.api("DELETE", &attempt.room_path(""), Value::Null).await.assert_status(204);
                attempt.create_room().await;
                assert!(!stage.joins(&old).await, "a token of an earlier room");
                let creation = claims(&old)["creation"].clone();
                attempt.change_settings(|settings| settings["making"] = creation.clone()).await;
                eventually("the old token joins", async || stage.joins(&old).await.then_some(true)).await
            }
            Self::DestroyRoom => {
                attempt.must::<()>(cmd("DEL").arg(redis_keys::room_key(&attempt.room))).await;
                stage.api("GET", &attempt.room_path(""), Value::Null).await.status == 404
            }
            _ => {
                let mut provided = TokenBuilder::valid("r", "mallory").typ(Some("JWT"));
                provided.claims =
                    json!({"iss": "app", "aud": "signalbox", "sub": "mallory", "exp": clock::now_s() + 60});
                let exchange = json!({"token": provided.sign(&stage.user_secret)});
                let user = stage.post("/auth/exchange", exchange).await;
                let id = user.json()["user"].clone();
                let own = json!({"kind": "user", "id": id});
                attempt.change_settings(|settings| settings["createdBy"] = own.clone()).await;
                let bearer = format!("Bearer {}", text(&user, "token"));
                let join =
                    Request::post(attempt.room_path("/join"), &json!({})).header("Authorization", bearer);
                let joined = join.send(stage.cluster.auth_address).await;
                claims(&text(joined.assert_status(200), "token"))["role"] == "host"
            }
        }
    }

    async fn attempt_with_credential(self, attempt: &Attempt<'_>) -> bool {
        let stage = attempt.stage;
        let forge = HandleForge::new(&stage.session_key, HANDLE_INFO);
        match self {
            Self::ReadTokenOfTicket => {
                let (_, key) = attempt.ticket().await;
                let token: String = attempt.must(cmd("GET").arg(key)).await;
                stage.joins(&token).await
            }
            Self::UseUpTicket => {
                let (ticket, key) = attempt.ticket().await;
                attempt.must::<()>(cmd("SET").arg(key).arg("used").arg("PX").arg(30_000)).await;
                !stage.joins(&ticket).await
            }
            Self::TakeOverPeerOfSeenToken => {
                let token = attempt.token("alice").await;
                let alice = TestConnection::open(stage.other_node().address, &token).await.into_peer().await;
                let (_, epoch, mailbox_version) = attempt.owner(alice.id()).await;
                let replication_id = attempt.field("lin").await;
                let record =
                    json!({"p": alice.id(), "e": epoch, "g": 1, "b": mailbox_version, "l": replication_id});
                let query = format!("resume={}", forge.seal_with_token(&record, &token));
                let thief = TestConnection::open_with(stage.other_node().address, &query).await.unwrap();
                thief.next().await["type"] == "joined" && alice.wait_closed().await.code == 4512
            }
            Self::MakeToken => {
                let tokens = attempt.forged_tokens().await;
                for token in &tokens {
                    let request = Request::post("/auth/validate", &json!({"token": token}));
                    if request.send(stage.cluster.auth_address).await.status == 200 {
                        return true;
                    }
                }
                let queries: Vec<_> = tokens.iter().map(|token| format!("token={token}")).collect();
                attempt.opens_any(&queries).await
            }
            Self::MakeTicket => {
                let mut queries = Vec::new();
                for token in attempt.forged_tokens().await {
                    let ticket = OpaqueToken::random();
                    let mut set = cmd("SET");
                    set.arg(redis_keys::ticket_key(&ticket.digest())).arg(token).arg("PX").arg(30_000);
                    attempt.must::<()>(&set).await;
                    queries.push(format!("token={}", ticket.to_text(OpaqueTokenKind::Ticket)));
                }
                attempt.opens_any(&queries).await
            }
            _ => {
                let alice = attempt.join("alice").await;
                let (_, epoch, mailbox_version) = attempt.owner(alice.id()).await;
                let replication_id = attempt.field("lin").await;
                let mut queries = Vec::new();
                for peer in [alice.id().to_owned(), random_hex()] {
                    let record =
                        json!({"p": peer, "e": epoch, "g": 1, "b": mailbox_version, "l": replication_id});
                    let mut handles = vec![forge.seal(record.to_string().as_bytes())];
                    let tokens = attempt.forged_tokens().await;
                    handles.extend(tokens.iter().map(|token| forge.seal_with_token(&record, token)));
                    for handle in handles {
                        queries.extend([format!("resume={handle}"), format!("resume={handle}&since=0")]);
                    }
                }
                attempt.opens_any(&queries).await
            }
        }
    }

    async fn attempt_on_record(self, attempt: &Attempt<'_>) -> bool {
        let (_, family) = attempt.refresh_family().await;
        attempt.stage.post(&attempt.room_path("/invites"), json!({})).await;
        let invites = redis_keys::invites_key(&attempt.room);
        let made = redis_keys::refresh_family_key(&random_hex());
        let command = match self {
            Self::ReadRefreshFamily => cmd("HGETALL").arg(family).take(),
            Self::MakeRefreshFamily => cmd("HSET").arg(made).arg("sealed").arg("x").take(),
            Self::AlterRefreshFamily => cmd("HSET").arg(family).arg("now").arg("x").take(),
            Self::ReadInvite => cmd("HGETALL").arg(invites).take(),
            _ => cmd("HSET").arg(invites).arg("x").arg("x").take(),
        };
        attempt.run::<RedisValue>(&command).await.is_some()
    }

    async fn attempt_to_report(self, attempt: &Attempt<'_>) -> bool {
        let (stage, partition) = (attempt.stage, partition_of_room(&attempt.room));
        let id = random_hex();
        let line = feed_line(&attempt.room, &id);
        match self {
            Self::PublishToNode => {
                let alice = attempt.join("alice").await;
                attempt.resync(alice.id()).await == 1
            }
            Self::PublishToFeed => {
                let address = stage.cluster.auth_address;
                let mut request = format!("ws://{address}/ws/events").into_client_request().unwrap();
                request.headers_mut().insert("Authorization", stage.cluster.basic_auth().parse().unwrap());
                let stream = TcpStream::connect(address).await.unwrap();
                let mut feed = client_async(request, stream).await.unwrap().0;
                let topic = redis_keys::feed_topic(&attempt.room);
                attempt.must::<u64>(cmd("SPUBLISH").arg(topic).arg(line)).await;
                signalbox_tests::net::within("the forged event", async {
                    while let Some(Ok(message)) = feed.next().await {
                        if matches!(&message, Message::Text(text) if text.contains(&id)) {
                            return true;
                        }
                    }
                    false
                })
                .await
            }
            Self::ForgeWebhookEvent => {
                let queue = redis_keys::webhook_queue_key(partition);
                attempt.must::<String>(cmd("XADD").arg(&queue).arg("*").arg("d").arg(line)).await;
                attempt.must::<()>(cmd("PEXPIRE").arg(&queue).arg(60_000)).await;
                eventually_within(Duration::from_secs(20), "the webhook is sent", async || {
                    stage.receiver.accepted_events().iter().any(|event| event.id == id).then_some(true)
                })
                .await
            }
            _ => {
                let key = redis_keys::usage_key(&today());
                let pair = format!("backend {}", attempt.room);
                let mut set = cmd("HSET");
                set.arg(&key).arg(format!("j:{pair}")).arg(4242).arg(format!("m:{pair}")).arg(1);
                attempt.must::<()>(&set).await;
                attempt.must::<()>(cmd("PEXPIRE").arg(&key).arg(60_000)).await;
                let path = format!("/api/usage?room={}", attempt.room);
                stage.api("GET", &path, Value::Null).await.json()["days"][0]["joins"] == 4242
            }
        }
    }

    async fn attempt_on_rules(self, attempt: &Attempt<'_>) -> bool {
        let stage = attempt.stage;
        let (rules, ban) = (redis_keys::RULES_KEY, format!("ban:*:{self:?}").to_lowercase());
        let banned = format!("{self:?}").to_lowercase();
        match self {
            Self::RevokeGrant => {
                let token = attempt.token("alice").await;
                attempt.revoke_grant(&token).await;
                true
            }
            Self::WriteRule => {
                let command = cmd("HSET").arg(rules).arg(ban).arg(rule(false)).take();
                attempt.run::<RedisValue>(&command).await.is_some()
            }
            Self::DeleteRule => attempt.run::<RedisValue>(cmd("HDEL").arg(rules).arg(ban)).await.is_some(),
            Self::DeleteAllRules => attempt.run::<RedisValue>(cmd("DEL").arg(rules)).await.is_some(),
            Self::LiftRuleByNodeRule => {
                let token = attempt.token(&banned).await;
                stage.post("/api/bans", json!({"user": banned, "for": 600})).await;
                eventually("the ban is in force", async || (!attempt.is_valid(&token).await).then_some(()))
                    .await;
                attempt.write_node_rules(&[(ban, rule(true))]).await;
                attempt.wait_for_rules().await;
                attempt.is_valid(&token).await
            }
            Self::BanByNodeRule => {
                let token = attempt.token(&banned).await;
                attempt.write_node_rules(&[(ban, rule(false))]).await;
                attempt.wait_for_rules().await;
                !attempt.is_valid(&token).await
            }
            Self::SendNotice => {
                let alice = attempt.join("alice").await;
                let number: u64 =
                    attempt.must(cmd("HINCRBY").arg(redis_keys::NODE_RULES_KEY).arg(":n").arg(1)).await;
                let notice = json!({"to": "all", "code": "notice", "message": "forged"}).to_string();
                let mut add = cmd("XADD");
                add.arg(redis_keys::NODE_RULE_LOG_KEY).arg(format!("{number}-0"));
                attempt.must::<String>(add.arg("t").arg(clock::now_ms()).arg("w").arg(notice)).await;
                attempt.wait_for_rules().await;
                alice.ping().await;
                alice.take_unread().await.iter().any(|frame| frame["type"] == "notice")
            }
            _ => {
                let grants = (0..3 * MAX_RULES).map(|_| (format!("token:{}", random_hex()), rule(false)));
                attempt.write_node_rules(&grants.collect::<Vec<_>>()).await;
                let metric = "signalbox_rules{kind=\"token\"}";
                let held = eventually("the rules are read", async || {
                    let held = stage.other_node().metric(metric).await as usize;
                    (held > MAX_RULES / 2).then_some(held)
                })
                .await;
                // The operator still has a place.
                stage.post("/api/bans", json!({"user": banned, "for": 600})).await;
                // The rules of nodes, and those of the auth service.
                assert!(held >= MAX_RULES, "{held}");
                held > 2 * MAX_RULES
            }
        }
    }
}

#[tokio::test]
async fn a_compromised_node_can_do_what_the_documents_list_and_nothing_else() {
    let stage = Stage::start().await;
    let mut wrong = Vec::new();
    for power in Power::ALL {
        let succeeded = power.attempt(&stage).await;
        if succeeded != power.is_possible() {
            wrong.push(format!("{power:?} is {}", if succeeded { "possible" } else { "impossible" }));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    stage.cluster.audit();
}
