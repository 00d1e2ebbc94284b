//! The proof that a rule was written by a process that may write it.
//!
//! Owns: which stored rule a process believes. The auth service signs its rules, and every process
//! verifies the signature. A node cannot sign. A rule of a node may only add to what is refused: it
//! revokes one grant, and it lifts, shortens and replaces nothing of the auth service.
//! Must not: decide which of two believed rules wins; `access_rule` does.

use std::{fmt, sync::Arc};

use signalbox_token::TokenVerifier;

use super::RuleSet;
use crate::{
    access_rule::{AccessRule, MAX_RULE_LIFE_MS},
    rule_key::RuleKey,
};

/// The purpose of the signatures, so that they are valid for nothing else.
const PURPOSE: &str = "signalbox access rule v1";

/// How far the date of an unsigned rule may be ahead of the store, ms.
const MAX_AHEAD_MS: u64 = 5_000;

/// The signatures of the auth service.
pub trait StatementSigner: Send + Sync {
    /// Signs a statement for a purpose. None only by a fault of the library.
    fn sign_statement(&self, purpose: &str, statement: &str) -> Option<String>;

    /// Whether one of the keys, also a former one, has signed the statement.
    fn verify_statement(&self, purpose: &str, statement: &str, signature: &str) -> bool;

    /// Whether the key that signs now has made the signature.
    fn is_current_signature(&self, signature: &str) -> bool;
}

/// How a process proves and verifies rules.
#[derive(Clone)]
pub enum RuleProof {
    /// The auth service: it signs rules.
    Signer(Arc<dyn StatementSigner>),
    /// A signaling node: it verifies rules, and writes revoked grants without a signature.
    Verifier(TokenVerifier),
}

impl fmt::Debug for RuleProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signer(_) => "Signer",
            Self::Verifier(_) => "Verifier",
        })
    }
}

impl RuleProof {
    /// The set that this process writes.
    pub(super) fn own_set(&self) -> RuleSet {
        match self {
            Self::Signer(_) => RuleSet::Auth,
            Self::Verifier(_) => RuleSet::Node,
        }
    }

    /// Whether signatures can be verified already: a node may still wait for the first keys.
    pub(super) fn can_verify(&self) -> bool {
        match self {
            Self::Signer(_) => true,
            Self::Verifier(verifier) => verifier.can_verify_statements(),
        }
    }

    /// The rule with the signature of this process, or without one on a node.
    pub(super) fn sign(&self, mut rule: AccessRule) -> Option<AccessRule> {
        match self {
            Self::Signer(signer) => {
                rule.signature = Some(signer.sign_statement(PURPOSE, &rule.statement())?.into());
            }
            Self::Verifier(_) => (rule.signature, rule.is_from_node) = (None, true),
        }
        Some(rule)
    }

    /// Whether the auth service should sign the rule again, because its key signs no more.
    pub(super) fn needs_new_signature(&self, rule: &AccessRule) -> bool {
        match (self, &rule.signature) {
            (Self::Signer(signer), Some(signature)) => !signer.is_current_signature(signature),
            _ => false,
        }
    }

    /// Whether a rule of a set is believed, at the time `now_ms` of the store.
    pub(super) fn is_authentic(&self, set: RuleSet, rule: &AccessRule, now_ms: u64) -> bool {
        let statement = || rule.statement();
        match (&rule.signature, self) {
            (Some(signature), Self::Signer(signer)) => {
                signer.verify_statement(PURPOSE, &statement(), signature)
            }
            (Some(signature), Self::Verifier(verifier)) => {
                verifier.verify_statement(PURPOSE, &statement(), signature)
            }
            (None, _) => {
                set == RuleSet::Node
                    && matches!(rule.key, RuleKey::Grant(_))
                    && !rule.is_lifted
                    && rule.written_at <= now_ms.saturating_add(MAX_AHEAD_MS)
                    && rule.in_force_until.saturating_sub(rule.written_at) <= MAX_RULE_LIFE_MS
            }
        }
    }
}
