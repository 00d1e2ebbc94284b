//! Signatures of webhooks (Standard Webhooks): base64 of HMAC-SHA256 over `id.timestamp.body`, one
//! for each secret.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use signalbox_config::WebhookSecrets;

/// The value of `webhook-signature`: `v1,…` for each secret, with spaces between.
pub(super) fn signature_header(secrets: &WebhookSecrets, id: &str, timestamp_s: u64, body: &str) -> String {
    let signed = secrets.expose().filter_map(|secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        mac.update(format!("{id}.{timestamp_s}.{body}").as_bytes());
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    });
    signed.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_matches_the_reference_implementation() {
        // From the reference implementation's own test (standard-webhooks, libraries/javascript).
        let secrets = WebhookSecrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed = signature_header(&secrets, id, 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_secret_adds_a_signature() {
        let two = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw whsec_Q9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfK";
        let signed = signature_header(&WebhookSecrets::parse(two).unwrap(), "evt_1", 1, "{}");
        assert_eq!(signed.split(' ').filter(|part| part.starts_with("v1,")).count(), 2);
    }
}
