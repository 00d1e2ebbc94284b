//! Checks of the section `[auth]`: lives of tokens, sources of keys, providers.

use super::DAY;
use crate::{
    AuthSettings, ConfigError, HostName, HttpClientSettings, ProviderSettings, ServiceSettings,
    UserAlgorithm,
    error::{ensure_setting, ensure_within},
    units::TimeSpan,
    url::{HttpUrl, split_host_port},
};
use signalbox_protocol::{id::UserId, is_issuer};

pub(super) fn check_token_lifetimes(auth: &AuthSettings) -> Result<(), ConfigError> {
    let (second, minute) = (TimeSpan::secs(1), TimeSpan::secs(60));
    ensure_within(auth.token_ttl_max, second..=DAY, "auth.token_ttl_max", "must be from 1s to 24h")?;
    ensure_within(
        auth.token_ttl,
        second..=auth.token_ttl_max,
        "auth.token_ttl",
        "must be from 1s to auth.token_ttl_max",
    )?;
    ensure_within(
        auth.guest_ttl,
        second..=auth.token_ttl_max,
        "auth.guest_ttl",
        "must be from 1s to auth.token_ttl_max",
    )?;
    ensure_within(
        auth.refresh_ttl_max,
        minute..=TimeSpan(30 * DAY.0),
        "auth.refresh_ttl_max",
        "must be from 1m to 30d",
    )?;
    ensure_within(
        auth.refresh_ttl,
        minute..=auth.refresh_ttl_max,
        "auth.refresh_ttl",
        "must be from 1m to auth.refresh_ttl_max",
    )
}

pub(super) fn check_key_sources(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let auth = &settings.auth;
    ensure_within(auth.jwks_ttl, TimeSpan::secs(1)..=DAY, "auth.jwks_ttl", "must be from 1s to 24h")?;
    ensure_setting(
        auth.jwks_url.is_none() || auth.jwks_file.is_none(),
        "auth.jwks_url",
        "and auth.jwks_file are both set; keep one",
    )?;
    let is_url =
        |text: &String| is_trusted_key_url(text, &settings.http_client) && !text.contains([' ', '#']);
    ensure_setting(
        auth.jwks_url.as_ref().is_none_or(is_url),
        "auth.jwks_url",
        "must be like https://auth.example/.well-known/jwks.json, without user and password; or with http:// on this machine or a host of http_client.unencrypted_hosts",
    )
}

pub(super) fn check_providers(settings: &ServiceSettings) -> Result<(), ConfigError> {
    let setting = "auth.providers";
    let providers = &settings.auth.providers;
    for (index, provider) in providers.iter().enumerate() {
        ensure_setting(
            is_issuer(&provider.issuer) && (1..=512).contains(&provider.audience.len()),
            setting,
            "must have an issuer of 1 to 200 visible ASCII characters, and an audience of at most 512 bytes",
        )?;
        ensure_setting(
            provider.authorized_parties.iter().all(|party| (1..=512).contains(&party.len())),
            setting,
            "must have authorized_parties of 1 to 512 bytes each: the ids of clients",
        )?;
        ensure_setting(
            !providers[..index].iter().any(|other| other.issuer == provider.issuer),
            setting,
            "contain the same issuer twice; keep one of them",
        )?;
        let has_hs256 = provider.algorithms.contains(&UserAlgorithm::HS256);
        ensure_setting(
            !provider.algorithms.is_empty() && (!has_hs256 || provider.is_application()),
            setting,
            "must have algorithms: HS256 alone, or some of the others",
        )?;
        ensure_setting(
            has_hs256
                || is_trusted_key_url(
                    provider.jwks_url.as_ref().unwrap_or(&provider.issuer),
                    &settings.http_client,
                ),
            setting,
            "must have a jwks_url, or an issuer that is a URL, with https://, or with http:// on this machine or a host of http_client.unencrypted_hosts",
        )?;
        ensure_setting(
            provider.user_prefix.is_empty() || UserId::parse(&provider.user_prefix).is_ok(),
            setting,
            "must have a user_prefix that has the form of a user",
        )?;
        let mut roles = provider.role_map.values().chain(&provider.default_role);
        if let Some(role) = roles.find(|role| !settings.roles.0.contains_key(*role)) {
            let problem = format!("name the role {role}, which is not in [roles]");
            return Err(ConfigError::invalid_setting(setting, problem));
        }
    }
    let applications = providers.iter().filter(|provider| provider.is_application()).count();
    ensure_setting(
        applications <= 1,
        setting,
        "may have only one provider with HS256, because there is only one SIGNALBOX_USER_SECRET",
    )
}

/// Users of two sources must never have the same name, so no prefix may begin with another one.
/// `naming_keys` are the ids of the API keys that may name users.
///
/// The application has no prefix: a name with the prefix of another source is refused when it asks
/// for a token. A single provider needs none either.
pub(crate) fn check_user_sources(auth: &AuthSettings, naming_keys: &[&str]) -> Result<(), ConfigError> {
    let setting = "auth.providers";
    let fixed = [("guests".to_owned(), UserId::GUEST_PREFIX), ("invites".to_owned(), UserId::INVITE_PREFIX)];
    let mut earlier = Vec::from(fixed);
    for provider in &auth.providers {
        let (name, prefix) = (describe_provider(provider), provider.user_prefix.as_str());
        // Guests and invites always have a prefix, and a provider without one escapes it.
        let others = if prefix.is_empty() { &earlier[2..] } else { &earlier[..] };
        let overlap = others.iter().find(|(_, other)| prefix.starts_with(other) || other.starts_with(prefix));
        if let Some((other, other_prefix)) = overlap {
            let problem = format!(
                "let two sources name the same user: {other} (`{other_prefix}`) and {name} (`{prefix}`); give each provider a user_prefix, none of which begins with another"
            );
            return Err(ConfigError::invalid_setting(setting, problem));
        }
        earlier.push((name, prefix));
    }
    let bare = auth.providers.iter().find(|provider| provider.user_prefix.is_empty());
    match (bare.filter(|provider| !provider.is_application()), naming_keys.first()) {
        (Some(provider), Some(key)) => {
            let provider = describe_provider(provider);
            let problem = format!(
                "let two sources name the same user: {provider} (no user_prefix) and the API key `{key}`; give the provider a user_prefix, or the key scopes without `tokens`"
            );
            Err(ConfigError::invalid_setting(setting, problem))
        }
        _ => Ok(()),
    }
}

fn describe_provider(provider: &ProviderSettings) -> String {
    format!("the provider `{}`", provider.issuer)
}

/// Whether keys may be fetched from this URL: with `https:`, or with `http:` from this machine or
/// from a host that the operator has listed, because others on the network path can change an answer
/// without TLS.
pub fn is_trusted_key_url(url: &str, client: &HttpClientSettings) -> bool {
    let Some(HttpUrl { is_https, authority, .. }) = HttpUrl::split(url) else { return false };
    let Some((host, _)) = split_host_port(authority) else { return false };
    let is_loopback = || HostName::parse_entry(host).is_ok_and(|host| host.is_loopback());
    is_https || is_loopback() || client.allows_unencrypted(host)
}
