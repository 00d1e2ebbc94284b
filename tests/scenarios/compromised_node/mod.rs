//! What an attacker can do with everything that a signaling node has: its environment, with the
//! password of its Redis user and the session key, and what it sees. SECURITY.md lists the powers.
//! Each row here is one power, tried against the other node and the auth service. The attempts are in
//! the files for rooms, credentials and rules; `stage` holds what the attacker has.

use signalbox_protocol::id::RoomId;

use stage::{Attempt, Stage};

mod credentials;
mod rooms;
mod rules;
mod stage;

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
