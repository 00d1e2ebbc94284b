//! Tokens where keys are asymmetric: what is public of a key taken for a secret, one key for another, no key at all. The table is
//! places × victims × attacks, for two ways to deploy.

use std::collections::HashMap;

use futures_util::future::join_all;
use signalbox_protocol::clock;
use signalbox_tests::{
    cluster::random_secret,
    http::Request,
    keyed::KeyedCluster,
    net::eventually,
    peer::{Link, TestPeer},
    process::Process,
};
use signalbox_token::TokenKind;

use super::{
    Expected, assert_rows,
    attacks::{Attack, Hs, Keys, Trick, Victim, attacks},
    defects::{self, SCOPES, next},
    holds, is_past_the_door, judge,
    keyring::Pair,
    places::{self, Place, Reader, Service},
    product, told,
};

/// Where keys are.
#[derive(Debug, Clone, Copy)]
enum Deployment {
    /// Private ones at the auth service, public ones at a node.
    Split,
    /// In one process, where tokens by a shared secret are good too.
    WithASecret,
}

/// The pace of frames is not what is tested.
const BURST: (&str, &str) = ("LIMITS__BURST", "1000");

fn expected(deployment: Deployment, place: Place, attack: Attack) -> Expected {
    use Trick::*;
    let by_secret = match deployment {
        Deployment::Split => "token_wrong_algorithm",
        // A token by the secret may be nameless; this one is by another.
        Deployment::WithASecret => "token_bad_signature",
    };
    let code = match attack {
        Attack::Hmac(_, Hs::Hs256, false) => by_secret,
        // The name picks the key, and the key has one algorithm.
        Attack::Hmac(_, Hs::Hs256 | Hs::Hs384 | Hs::Hs512, _) => "token_wrong_algorithm",
        Attack::Trick(trick) => match trick {
            NamedNone
            | NamedHs256
            | NamedRs256
            | NamedRs384
            | NamedRs512
            | NamedPs256
            | NamedPs384
            | NamedPs512
            | NamedEs384
            | NamedEs512
            | NamedEs256K
            | NamedTheOthers
            | NamedInLowerCase
            | NoneUnsigned
            | SignedByTheOtherInItsWay => "token_wrong_algorithm",
            Unsigned | Zeros | NeutralElement | Halved | Doubled | Padded | EncodedOtherwise | Tampered
            | SignedByTheOther | SignedByAStranger | SignedByTheRetired | Nameless | NameEmpty
            | NameOfTheStranger | NameWithAPath | NameWithAQuery | NameInLowerCase | NamePadded => {
                "token_bad_signature"
            }
            NameANumber | NameTooLong | Jwk | JwkOfTheVictim | Jku | X5u | X5c => "token_malformed",
            // The claims are not those of a kind that the place takes too.
            TypeOfAnotherKind if place.takes(next(place.kind())) => "token_malformed",
            TypeOfAnotherKind => "token_wrong_type",
            AudienceOfAnotherKind => "token_wrong_audience",
        },
    };
    match place.reader() {
        Reader::Frame => Some((0, "bad_token")),
        Reader::Node | Reader::Bearer | Reader::Body | Reader::User | Reader::Caller => Some((401, code)),
    }
}

/// Each token is made once for all places of its kind: signing takes longer than refusing.
struct Made(HashMap<(TokenKind, Victim, Attack), String>);

impl Made {
    fn with(keys: &Keys) -> Self {
        let mut made = HashMap::new();
        for kind in TokenKind::ALL {
            let forgery = defects::good(kind);
            for (victim, attack) in
                Victim::ALL.iter().flat_map(|victim| attacks().into_iter().map(|attack| (*victim, attack)))
            {
                made.insert((kind, victim, attack), keys.token(victim, &forgery, attack));
            }
        }
        Self(made)
    }

    fn of(&self, place: Place, victim: Victim, attack: Attack) -> &str {
        &self.0[&(place.kind(), victim, attack)]
    }
}

/// A running deployment.
struct Running {
    cluster: KeyedCluster,
    /// The only process, where there is one.
    process: Option<Process>,
    service: Service,
    keys: Keys,
}

/// Keys of both algorithms that are in use, and one whose tokens have all ended.
async fn keys(cluster: &KeyedCluster) -> (Pair, Pair, Pair) {
    for alg in ["ES256", "EdDSA"] {
        cluster.command(&["rotate", "--now", "--alg", alg]).await;
    }
    let list = cluster.command(&["list"]).await.stdout;
    let kids: Vec<_> = list.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    let [first, second, third] = kids[..] else { panic!("three keys: {list}") };
    let now = clock::now_s();
    let dated = |kid, from| Pair::dated(&cluster.keys, kid, from);
    // The second has signed for fifty years, until a moment ago; the first before that.
    (dated(first, 1_000), dated(second, 2_000), dated(third, now - 5))
}

async fn start(deployment: Deployment) -> Running {
    let scopes = SCOPES.join(",");
    let mut cluster = KeyedCluster::prepare(&[("API_KEYS__BACKEND__SCOPES", &scopes), BURST]).await;
    let foreign = KeyedCluster::prepare(&[]).await;
    let ((retired, p256, ed25519), (_, foreign_p256, foreign_ed25519)) =
        (keys(&cluster).await, keys(&foreign).await);
    let (service, process) = match deployment {
        Deployment::Split => {
            cluster.start_auth().await;
            cluster.nodes.push(Process::start("signal-service", &cluster.node_env()).await);
            (Service { node: cluster.nodes[0].address, auth: cluster.auth_address }, None)
        }
        Deployment::WithASecret => {
            let env = vec![
                ("SIGNALBOX__AUTH__KEYS_DIR".to_owned(), cluster.keys.display().to_string()),
                ("SIGNALBOX_API_KEYS".to_owned(), format!("backend:{}", random_secret())),
                ("SIGNALBOX__API_KEYS__BACKEND__SCOPES".to_owned(), scopes),
                (format!("SIGNALBOX__{}", BURST.0), BURST.1.to_owned()),
                ("AUTH_SECRET".to_owned(), random_secret()),
            ];
            let process = Process::start("signalbox", &env).await;
            (Service { node: process.address, auth: process.address }, Some(process))
        }
    };
    let jwks = Request::get("/.well-known/jwks.json").send(service.auth).await.body().to_owned();
    let keys = Keys { ed25519, p256, retired, stranger: [foreign_ed25519, foreign_p256], jwks };
    Running { cluster, process, service, keys }
}

impl Running {
    /// Somebody who is inside.
    async fn enter(&self) -> TestPeer {
        let forgery = defects::good(TokenKind::Room);
        let token = self.keys.ed25519.sign(&self.keys.ed25519.header(&forgery), &forgery);
        let node = self.service.node;
        let link = eventually("the node has its keys", async || {
            Link::ask_in(node, &format!("token={token}")).await.ok()
        });
        link.await.into_peer().await
    }

    async fn assert_good_tokens_pass(&self, inside: &TestPeer) {
        for place in Place::ALL {
            for victim in Victim::ALL {
                let (pair, forgery) = (self.keys.victim(*victim), defects::good(place.kind()));
                let token = pair.sign(&pair.header(&forgery), &forgery);
                if *place == Place::Refresh {
                    let told = places::refresh(inside, Some(&token), false).await;
                    assert_eq!(told, (0, String::new()), "{victim:?}");
                    continue;
                }
                let answer = place.show(self.service, Some(&token), false).await;
                assert!(is_past_the_door(&told(&answer)), "{place:?} {victim:?}: {}", answer.text);
            }
        }
    }
}

async fn no_key_is_mistaken_for_another(deployment: Deployment) {
    let running = start(deployment).await;
    let inside = join_all((0..8).map(|_| running.enter())).await;
    running.assert_good_tokens_pass(&inside[0]).await;
    let joins = running.joins().await;
    let (tried, made) = (attacks(), Made::with(&running.keys));
    let rows = product(Place::ALL, Victim::ALL)
        .flat_map(|(place, victim)| tried.iter().map(move |attack| (place, victim, *attack)));
    let (frames, requests): (Vec<_>, Vec<_>) = rows.partition(|(place, ..)| *place == Place::Refresh);
    let mut count = assert_rows(requests, async |(place, victim, attack)| {
        let token = made.of(place, victim, attack);
        let answer = place.show(running.service, Some(token), false).await;
        judge(&(place, victim, attack), expected(deployment, place, attack), Some(token), &answer)
    })
    .await;
    count += frames.len();
    // A frame whose key is unknown waits for another look at the set, and the next one of the same client with it.
    let shares = frames.chunks(frames.len().div_ceil(inside.len())).zip(&inside);
    join_all(shares.map(|(share, peer)| running.assert_frames(deployment, (&made, share), peer))).await;
    assert_eq!(count, 7_224, "rows");
    assert_eq!(running.joins().await, joins, "nobody got in");
    running.audit();
}

impl Running {
    async fn assert_frames(
        &self,
        deployment: Deployment,
        (made, rows): (&Made, &[(Place, Victim, Attack)]),
        inside: &TestPeer,
    ) {
        for (place, victim, attack) in rows {
            let token = made.of(*place, *victim, *attack);
            let told = places::refresh(inside, Some(token), false).await;
            assert!(holds(expected(deployment, *place, *attack), &told), "{victim:?} × {attack:?}: {told:?}");
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
async fn no_key_is_mistaken_for_another_where_nodes_have_public_keys() {
    no_key_is_mistaken_for_another(Deployment::Split).await;
}

#[tokio::test]
async fn no_key_is_mistaken_for_another_where_there_is_a_secret_too() {
    no_key_is_mistaken_for_another(Deployment::WithASecret).await;
}
