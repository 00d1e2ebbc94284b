//! Keys, and whose tokens are believed.

use super::ensure_setting;
use crate::{ConfigError, ServiceSettings, UserAlgorithm, units::TimeSpan};

pub(super) fn check_keys(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let auth = &settings.auth;
    let day = TimeSpan::secs(24 * 60 * 60);
    ensure_setting(
        (TimeSpan::secs(1)..=day).contains(&auth.jwks_ttl),
        "auth.jwks_ttl",
        "must be from 1s to 24h",
    )?;
    ensure_setting(
        auth.jwks_url.is_none() || auth.jwks_file.is_none(),
        "auth.jwks_url",
        "and auth.jwks_file are both set; keep one",
    )?;
    let web = |url: &String| {
        let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        rest.is_some_and(|rest| {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            !authority.is_empty() && !authority.contains('@') && !url.contains([' ', '#'])
        })
    };
    ensure_setting(
        auth.jwks_url.as_ref().is_none_or(web),
        "auth.jwks_url",
        "must be like http://auth-service:8080/.well-known/jwks.json, without user and password",
    )
}

pub(super) fn check_providers(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let setting = "auth.providers";
    let providers = &settings.auth.providers;
    for (n, provider) in providers.iter().enumerate() {
        let named = |text: &str| !text.is_empty() && text.len() <= 512;
        ensure_setting(
            named(&provider.issuer) && named(&provider.audience),
            setting,
            "need issuer and audience",
        )?;
        ensure_setting(
            !providers[..n].iter().any(|other| other.issuer == provider.issuer),
            setting,
            "name the same issuer twice",
        )?;
        let hs = provider.algorithms.contains(&UserAlgorithm::HS256);
        ensure_setting(
            !provider.algorithms.is_empty() && (!hs || provider.is_application()),
            setting,
            "must have algorithms: HS256 alone, or some of the others",
        )?;
        ensure_setting(
            hs || is_trusted_key_url(provider.jwks_url.as_ref().unwrap_or(&provider.issuer)),
            setting,
            "must have a jwks_url, or an issuer that is a URL, with https:// (or http:// on this machine)",
        )?;
        ensure_setting(
            provider.user_prefix.is_empty()
                || signalbox_protocol::id::UserId::parse(&provider.user_prefix).is_ok(),
            setting,
            "must have a user_prefix of characters that a user may have",
        )?;
        let mut roles = provider.role_map.values().chain(&provider.default_role);
        ensure_setting(
            roles.all(|role| settings.roles.0.contains_key(role)),
            setting,
            "name a role that [roles] does not have",
        )?;
    }
    let apps = providers.iter().filter(|provider| provider.is_application()).count();
    ensure_setting(apps <= 1, setting, "may have one with HS256, since there is one SIGNALBOX_USER_SECRET")
}

/// Whether keys may be fetched there: what comes over plain HTTP is believed from this machine only.
pub fn is_trusted_key_url(url: &str) -> bool {
    let authority = |rest: &str| rest.split(['/', '?', '#']).next().unwrap_or_default().to_owned();
    if let Some(rest) = url.strip_prefix("https://") {
        return !authority(rest).is_empty() && !authority(rest).contains(['@', ' ']);
    }
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = authority(rest);
    let host = authority.rsplit_once(':').map_or(&*authority, |(host, _)| host);
    ["localhost", "127.0.0.1", "[::1]"].contains(&host)
}
