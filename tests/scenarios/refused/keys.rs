//! Tokens where keys are asymmetric: what is public of a key taken for a secret, one key for another, no key at all. The table is
//! places × victims × attacks, for two ways to deploy.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use signalbox_shared::{clock, token::TokenKind};
use signalbox_tests::{
    cluster::random_secret,
    http::Request,
    keyed::KeyedCluster,
    net::eventually,
    peer::{Link, TestPeer},
    process::Process,
    token::Forgery,
};

use super::{
    Expected, assert_rows,
    defects::{self, SCOPES, next},
    holds, is_past_the_door, judge,
    keyring::{self, Pair},
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

all_of!(
    /// Whose name a token bears.
    Victim { Ed25519, P256 }
);

all_of!(
    /// What everybody may know of a key, as the bytes of a secret.
    Form { Coordinates, Spki, Pem, PemWithoutItsEnd, Jwk, Jwks, Kid }
);

all_of!(
    /// An algorithm with a secret.
    Hs { Hs256, Hs384, Hs512 }
);

all_of!(
    /// What else may be tried.
    Trick {
        // An algorithm that is not the key's, over a good signature of it.
        NamedNone, NamedHs256, NamedRs256, NamedRs384, NamedRs512, NamedPs256, NamedPs384, NamedPs512, NamedEs384, NamedEs512, NamedEs256K,
        NamedTheOthers, NamedInLowerCase,
        // Nothing signed it.
        NoneUnsigned, Unsigned, Zeros, NeutralElement, Halved, Doubled, Padded, EncodedOtherwise, Tampered,
        // Somebody else did.
        SignedByTheOther, SignedByTheOtherInItsWay, SignedByAStranger, SignedByTheRetired,
        // Its name.
        Nameless, NameEmpty, NameOfTheStranger, NameWithAPath, NameWithAQuery, NameInLowerCase, NamePadded, NameANumber, NameTooLong,
        // It brings a key along.
        Jwk, JwkOfTheVictim, Jku, X5u, X5c,
        // It is of another kind.
        TypeOfAnotherKind, AudienceOfAnotherKind,
    }
);

/// The pace of frames is not what is tested.
const BURST: (&str, &str) = ("LIMITS__BURST", "1000");

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Attack {
    /// An HMAC, keyed with something public; under the victim's name or under none.
    Hmac(Form, Hs, bool),
    /// Anything else.
    Trick(Trick),
}

fn attacks() -> Vec<Attack> {
    let mut all: Vec<_> = Trick::ALL.iter().copied().map(Attack::Trick).collect();
    for form in Form::ALL {
        for hs in Hs::ALL {
            all.extend([true, false].map(|named| Attack::Hmac(*form, *hs, named)));
        }
    }
    all
}

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

/// The keys of a deployment, and one that it does not have.
struct Keys {
    ed25519: Pair,
    p256: Pair,
    retired: Pair,
    stranger: [Pair; 2],
    jwks: String,
}

impl Keys {
    fn victim(&self, victim: Victim) -> &Pair {
        match victim {
            Victim::Ed25519 => &self.ed25519,
            Victim::P256 => &self.p256,
        }
    }

    fn token(&self, victim: Victim, forgery: &Forgery, attack: Attack) -> String {
        let (pair, [same, _]) = (self.victim(victim), self.strangers(victim));
        match attack {
            Attack::Trick(trick) => self.trick(victim, pair, same, forgery, trick),
            Attack::Hmac(form, hs, named) => {
                let (alg, algorithm) = match hs {
                    Hs::Hs256 => ("HS256", Algorithm::HS256),
                    Hs::Hs384 => ("HS384", Algorithm::HS384),
                    Hs::Hs512 => ("HS512", Algorithm::HS512),
                };
                let mut header = with(pair.header(forgery), "alg", alg);
                if !named {
                    header.as_object_mut().unwrap().remove("kid");
                }
                keyring::hmac(&header, forgery, algorithm, &self.bytes(pair, form))
            }
        }
    }

    /// The stranger's pair of the victim's kind, and the other.
    fn strangers(&self, victim: Victim) -> [&Pair; 2] {
        let [ed25519, p256] = &self.stranger;
        match victim {
            Victim::Ed25519 => [ed25519, p256],
            Victim::P256 => [p256, ed25519],
        }
    }

    fn bytes(&self, pair: &Pair, form: Form) -> Vec<u8> {
        match form {
            Form::Coordinates => pair.raw(),
            Form::Spki => pair.spki(),
            Form::Pem => pair.pem().into_bytes(),
            Form::PemWithoutItsEnd => pair.pem().trim_end().to_owned().into_bytes(),
            Form::Jwk => pair.jwk.to_string().into_bytes(),
            Form::Jwks => self.jwks.clone().into_bytes(),
            Form::Kid => pair.kid.clone().into_bytes(),
        }
    }

    fn trick(&self, victim: Victim, pair: &Pair, stranger: &Pair, forgery: &Forgery, trick: Trick) -> String {
        let other = self.victim(match victim {
            Victim::Ed25519 => Victim::P256,
            Victim::P256 => Victim::Ed25519,
        });
        let header = pair.header(forgery);
        let named = |alg: &str| pair.sign(&with(header.clone(), "alg", alg), forgery);
        let called = |kid: &str| pair.sign(&with(header.clone(), "kid", kid), forgery);
        let bringing = |name: &str, value: Value| stranger.sign(&with(header.clone(), name, value), forgery);
        let bytes = |signature: &[u8]| forgery.assemble(&header, &URL_SAFE_NO_PAD.encode(signature));
        let good = pair.signature(&header, forgery);
        match trick {
            Trick::NamedNone => named("none"),
            Trick::NamedHs256 => named("HS256"),
            Trick::NamedRs256 => named("RS256"),
            Trick::NamedRs384 => named("RS384"),
            Trick::NamedRs512 => named("RS512"),
            Trick::NamedPs256 => named("PS256"),
            Trick::NamedPs384 => named("PS384"),
            Trick::NamedPs512 => named("PS512"),
            Trick::NamedEs384 => named("ES384"),
            Trick::NamedEs512 => named("ES512"),
            Trick::NamedEs256K => named("ES256K"),
            Trick::NamedTheOthers => named(other.algorithm.as_str()),
            Trick::NamedInLowerCase => named(&pair.algorithm.as_str().to_lowercase()),
            Trick::NoneUnsigned => forgery.assemble(&with(header, "alg", "none"), ""),
            Trick::Unsigned => forgery.assemble(&header, ""),
            Trick::Zeros => bytes(&[0; 64]),
            // R is the neutral element of the curve, or r = 1; s = 0.
            Trick::NeutralElement => bytes(&[&[1][..], &[0; 63]].concat()),
            Trick::Halved => bytes(&good[..32]),
            Trick::Doubled => bytes(&[&*good, &*good].concat()),
            Trick::Padded => format!("{}==", bytes(&good)),
            Trick::EncodedOtherwise => bytes(&keyring::encoded_otherwise(pair.algorithm, &good)),
            Trick::Tampered => {
                forgery.clone().claim("name", "Eve").assemble(&header, &URL_SAFE_NO_PAD.encode(good))
            }
            Trick::SignedByTheOther => other.sign(&header, forgery),
            Trick::SignedByTheOtherInItsWay => {
                other.sign(&with(header, "alg", other.algorithm.as_str()), forgery)
            }
            Trick::SignedByAStranger => stranger.sign(&header, forgery),
            Trick::SignedByTheRetired => self.retired.sign(&self.retired.header(forgery), forgery),
            Trick::Nameless => pair.sign(&without(header, "kid"), forgery),
            Trick::NameEmpty => called(""),
            Trick::NameOfTheStranger => stranger.sign(&stranger.header(forgery), forgery),
            Trick::NameWithAPath => called("../../../../dev/null"),
            Trick::NameWithAQuery => called("x' UNION SELECT 'key"),
            Trick::NameInLowerCase => called(&format!("{}x", pair.kid.to_lowercase())),
            Trick::NamePadded => called(&format!("{}=", pair.kid)),
            Trick::NameANumber => pair.sign(&with(header, "kid", 7), forgery),
            Trick::NameTooLong => called(&"k".repeat(129)),
            Trick::Jwk => bringing("jwk", stranger.jwk.clone()),
            Trick::JwkOfTheVictim => pair.sign(&with(header, "jwk", pair.jwk.clone()), forgery),
            Trick::Jku => bringing("jku", json!("https://keys.example/jwks.json")),
            Trick::X5u => bringing("x5u", json!("https://keys.example/cert.pem")),
            Trick::X5c => bringing("x5c", json!([URL_SAFE_NO_PAD.encode(stranger.spki())])),
            Trick::TypeOfAnotherKind => {
                pair.sign(&with(header, "typ", next(kind_of(forgery)).typ()), forgery)
            }
            Trick::AudienceOfAnotherKind => {
                let forgery = forgery.clone().claim("aud", next(kind_of(forgery)).aud());
                pair.sign(&header, &forgery)
            }
        }
    }
}

fn kind_of(forgery: &Forgery) -> TokenKind {
    let typ = forgery.header.typ.as_deref();
    TokenKind::ALL.into_iter().find(|kind| Some(kind.typ()) == typ).unwrap()
}

fn with(mut header: Value, name: &str, value: impl Into<Value>) -> Value {
    header[name] = value.into();
    header
}

fn without(mut header: Value, name: &str) -> Value {
    header.as_object_mut().unwrap().remove(name);
    header
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
    assert_eq!(count, 7_056, "rows");
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
