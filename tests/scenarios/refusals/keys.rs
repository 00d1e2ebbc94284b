//! Tokens that are signed with asymmetric keys: a public key used as a secret, a key used for
//! another key, no key. The table is locations × keys × attacks, for two deployments.

use std::collections::HashMap;

use futures_util::future::join_all;
use signalbox_protocol::clock;
use signalbox_tests::{
    cluster::random_secret,
    http::Request,
    keyed_cluster::KeyedCluster,
    net::eventually,
    peer::{TestConnection, TestPeer},
    process::Process,
};
use signalbox_token::TokenKind;

use super::{
    ExpectedRefusal, assert_rows, check_answer, is_accepted,
    key_pair::KeyPair,
    matches_expected, pairs, status_and_code,
    token_attack::{DeploymentKeys, HmacAlgorithm, OtherAttack, TokenAttack, VictimKey, all_attacks},
    token_defect::{self, SCOPES, next_kind},
    token_location::{self, ServiceAddresses, TokenLocation, TokenReader},
};

/// Where the keys are.
#[derive(Debug, Clone, Copy)]
enum KeyDeployment {
    /// Private keys at the auth service, public keys at a node.
    Split,
    /// One process that also accepts tokens signed with a shared secret.
    WithSharedSecret,
}

/// High enough for all refresh frames of this test.
const BURST: (&str, &str) = ("LIMITS__BURST", "1000");

fn expected(deployment: KeyDeployment, location: TokenLocation, attack: TokenAttack) -> ExpectedRefusal {
    use OtherAttack::*;
    let hmac_code = match deployment {
        KeyDeployment::Split => "token_wrong_algorithm",
        // A token by the shared secret has no `kid`, but this token has another HMAC key.
        KeyDeployment::WithSharedSecret => "token_bad_signature",
    };
    let code = match attack {
        TokenAttack::Hmac(_, HmacAlgorithm::Hs256, false) => hmac_code,
        // The `kid` selects the key, and the key has one algorithm.
        TokenAttack::Hmac(_, HmacAlgorithm::Hs256 | HmacAlgorithm::Hs384 | HmacAlgorithm::Hs512, _) => {
            "token_wrong_algorithm"
        }
        TokenAttack::Other(other_attack) => match other_attack {
            AlgNone
            | AlgHs256
            | AlgRs256
            | AlgRs384
            | AlgRs512
            | AlgPs256
            | AlgPs384
            | AlgPs512
            | AlgEs384
            | AlgEs512
            | AlgEs256K
            | AlgOfOtherKey
            | AlgLowerCase
            | AlgNoneUnsigned
            | SignedByOtherKeyWithItsAlg => "token_wrong_algorithm",
            Unsigned | ZeroSignature | NeutralElement | HalfSignature | DoubledSignature
            | PaddedSignature | ReencodedSignature | Tampered | SignedByOtherKey | SignedByForeignKey
            | SignedByRetiredKey | KidMissing | KidEmpty | KidOfForeignKey | KidWithPath | KidWithQuery
            | KidLowerCase | KidPadded => "token_bad_signature",
            KidNumber | KidTooLong | Jwk | JwkOfVictim | Jku | X5u | X5c => "token_malformed",
            // The location accepts the other kind too, but the claims do not fit that kind.
            TypOfAnotherKind if location.accepts(next_kind(location.kind())) => "token_malformed",
            TypOfAnotherKind => "token_wrong_type",
            AudOfAnotherKind => "token_wrong_audience",
        },
    };
    match location.reader() {
        TokenReader::Frame => Some((0, "bad_token")),
        TokenReader::Node
        | TokenReader::Bearer
        | TokenReader::Body
        | TokenReader::User
        | TokenReader::Principal => Some((401, code)),
    }
}

/// All forged tokens. Each token is signed once for all locations, because signing is slow.
struct ForgedTokens(HashMap<(TokenKind, VictimKey, TokenAttack), String>);

impl ForgedTokens {
    fn new(keys: &DeploymentKeys) -> Self {
        let mut tokens = HashMap::new();
        for kind in TokenKind::ALL {
            let forgery = token_defect::valid_token(kind);
            for (victim, attack) in VictimKey::ALL
                .iter()
                .flat_map(|victim| all_attacks().into_iter().map(|attack| (*victim, attack)))
            {
                tokens.insert((kind, victim, attack), keys.token(victim, &forgery, attack));
            }
        }
        Self(tokens)
    }

    fn get(&self, location: TokenLocation, victim: VictimKey, attack: TokenAttack) -> &str {
        &self.0[&(location.kind(), victim, attack)]
    }
}

/// A running deployment.
struct RunningDeployment {
    cluster: KeyedCluster,
    /// The only process of a deployment with one process.
    process: Option<Process>,
    service: ServiceAddresses,
    keys: DeploymentKeys,
}

/// Makes a retired key and a key in use of each algorithm: retired, P-256, Ed25519.
async fn make_keys(cluster: &KeyedCluster) -> (KeyPair, KeyPair, KeyPair) {
    for alg in ["ES256", "EdDSA"] {
        cluster.keys_command(&["rotate", "--now", "--alg", alg]).await;
    }
    let list = cluster.keys_command(&["list"]).await.stdout;
    let kids: Vec<_> = list.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    let [first, second, third] = kids[..] else { panic!("three keys: {list}") };
    let now = clock::now_s();
    let read = |kid, signs_from| KeyPair::read(&cluster.keys_dir, kid, signs_from);
    // The second key signed until five seconds ago. All tokens of the first key have expired.
    (read(first, 1_000), read(second, 2_000), read(third, now - 5))
}

async fn start_deployment(deployment: KeyDeployment) -> RunningDeployment {
    let scopes = SCOPES.join(",");
    let mut cluster = KeyedCluster::prepare(&[("API_KEYS__BACKEND__SCOPES", &scopes), BURST]).await;
    let foreign = KeyedCluster::prepare(&[]).await;
    let ((retired, p256, ed25519), (_, foreign_p256, foreign_ed25519)) =
        (make_keys(&cluster).await, make_keys(&foreign).await);
    let (service, process) = match deployment {
        KeyDeployment::Split => {
            cluster.start_auth().await;
            cluster.nodes.push(Process::start("signal-service", &cluster.node_env()).await);
            (ServiceAddresses { node: cluster.nodes[0].address, auth: cluster.auth_address }, None)
        }
        KeyDeployment::WithSharedSecret => {
            let env = vec![
                ("SIGNALBOX__AUTH__KEYS_DIR".to_owned(), cluster.keys_dir.display().to_string()),
                ("SIGNALBOX_API_KEYS".to_owned(), format!("backend:{}", random_secret())),
                ("SIGNALBOX__API_KEYS__BACKEND__SCOPES".to_owned(), scopes),
                (format!("SIGNALBOX__{}", BURST.0), BURST.1.to_owned()),
                ("AUTH_SECRET".to_owned(), random_secret()),
            ];
            let process = Process::start("signalbox", &env).await;
            (ServiceAddresses { node: process.address, auth: process.address }, Some(process))
        }
    };
    let jwks = Request::get("/.well-known/jwks.json").send(service.auth).await.body().to_owned();
    let keys = DeploymentKeys { ed25519, p256, retired, foreign: [foreign_ed25519, foreign_p256], jwks };
    RunningDeployment { cluster, process, service, keys }
}

impl RunningDeployment {
    /// Joins with a valid token.
    async fn join(&self) -> TestPeer {
        let forgery = token_defect::valid_token(TokenKind::Room);
        let token = self.keys.ed25519.sign(&self.keys.ed25519.header(&forgery), &forgery);
        let node = self.service.node;
        let link = eventually("the node has its keys", async || {
            TestConnection::open_with(node, &format!("token={token}")).await.ok()
        });
        link.await.into_peer().await
    }

    async fn assert_valid_tokens_accepted(&self, member: &TestPeer) {
        for location in TokenLocation::ALL {
            for victim in VictimKey::ALL {
                let (pair, forgery) = (self.keys.victim(*victim), token_defect::valid_token(location.kind()));
                let token = pair.sign(&pair.header(&forgery), &forgery);
                if *location == TokenLocation::Refresh {
                    let answer = token_location::send_refresh(member, Some(&token), false).await;
                    assert_eq!(answer, (0, String::new()), "{victim:?}");
                    continue;
                }
                let answer = location.send_token(self.service, Some(&token), false).await;
                assert!(is_accepted(&status_and_code(&answer)), "{location:?} {victim:?}: {}", answer.text);
            }
        }
    }
}

async fn no_key_is_accepted_in_place_of_another(deployment: KeyDeployment) {
    let running = start_deployment(deployment).await;
    let members = join_all((0..8).map(|_| running.join())).await;
    running.assert_valid_tokens_accepted(&members[0]).await;
    let joins = running.joins().await;
    let (attacks, forged_tokens) = (all_attacks(), ForgedTokens::new(&running.keys));
    let rows = pairs(TokenLocation::ALL, VictimKey::ALL)
        .flat_map(|(location, victim)| attacks.iter().map(move |attack| (location, victim, *attack)));
    let (frames, requests): (Vec<_>, Vec<_>) =
        rows.partition(|(location, ..)| *location == TokenLocation::Refresh);
    let mut count = assert_rows(requests, async |(location, victim, attack)| {
        let token = forged_tokens.get(location, victim, attack);
        let answer = location.send_token(running.service, Some(token), false).await;
        check_answer(
            &(location, victim, attack),
            expected(deployment, location, attack),
            Some(token),
            &answer,
        )
    })
    .await;
    count += frames.len();
    // A frame with an unknown `kid` waits for a reload of the key set and blocks the next frame of
    // its client, so the rows are divided among several clients.
    let shares = frames.chunks(frames.len().div_ceil(members.len())).zip(&members);
    join_all(shares.map(|(share, peer)| running.assert_frames(deployment, (&forged_tokens, share), peer)))
        .await;
    assert_eq!(count, 7_728, "rows");
    assert_eq!(running.joins().await, joins, "no token was accepted");
    running.audit();
}

impl RunningDeployment {
    async fn assert_frames(
        &self,
        deployment: KeyDeployment,
        (forged_tokens, rows): (&ForgedTokens, &[(TokenLocation, VictimKey, TokenAttack)]),
        member: &TestPeer,
    ) {
        for (location, victim, attack) in rows {
            let token = forged_tokens.get(*location, *victim, *attack);
            let actual = token_location::send_refresh(member, Some(token), false).await;
            assert!(
                matches_expected(expected(deployment, *location, *attack), &actual),
                "{victim:?} × {attack:?}: {actual:?}"
            );
        }
    }

    async fn joins(&self) -> f64 {
        let process = self.process.as_ref().unwrap_or_else(|| &self.cluster.nodes[0]);
        process.metric("signalbox_joins_total").await
    }

    fn audit(&self) {
        self.cluster.audit();
        if let Some(process) = &self.process {
            process.assert_running();
            process.assert_clean_log(&[]);
        }
    }
}

#[tokio::test]
async fn no_key_is_accepted_in_place_of_another_where_nodes_have_public_keys() {
    no_key_is_accepted_in_place_of_another(KeyDeployment::Split).await;
}

#[tokio::test]
async fn no_key_is_accepted_in_place_of_another_where_a_shared_secret_is_valid_too() {
    no_key_is_accepted_in_place_of_another(KeyDeployment::WithSharedSecret).await;
}
