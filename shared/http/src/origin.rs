//! `Origin` and `CandidateHost` as they come in headers. A header that stands twice or is not text is never taken for an absent one.

use actix_web::http::header::{self, HeaderMap, HeaderName};
use signalbox_config::origin;
use signalbox_protocol::problem::Problem;

/// Judges the `Origin` of a request (RFC 6454); absent is a native client and fine.
///
/// # Errors
/// 403 `origin_not_allowed`.
pub fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    let (origin, host) =
        (single_header_value(headers, header::ORIGIN), single_header_value(headers, header::HOST));
    if origin::is_origin_allowed(origin, host, allowed) {
        return Ok(());
    }
    let detail = "this web site may not use this server; the operator can add it to server.allowed_origins";
    Err(Problem::new(403, "origin_not_allowed", detail))
}

/// Judges the `CandidateHost` of a request, against DNS rebinding.
///
/// # Errors
/// 403 `host_not_allowed`.
pub fn check_host(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    if origin::is_host_allowed(single_header_value(headers, header::HOST), allowed) {
        return Ok(());
    }
    let detail = "this server does not answer to that name; the operator can add it to server.allowed_hosts";
    Err(Problem::new(403, "host_not_allowed", detail))
}

/// The value of a header; an empty text, which nothing allows, where it is not one readable value.
fn single_header_value(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name);
    let first = values.next()?;
    Some(if values.next().is_some() { "" } else { first.to_str().unwrap_or("") })
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn header_map(pairs: &[(HeaderName, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(name.clone(), HeaderValue::from_bytes(value).unwrap());
        }
        map
    }

    #[test]
    fn an_unreadable_or_repeated_origin_does_not_count_as_absent() {
        let host = (header::HOST, &b"rtc.example"[..]);
        let own = (header::ORIGIN, &b"https://rtc.example"[..]);
        assert!(check_origin(&header_map(std::slice::from_ref(&host)), &[]).is_ok());
        assert!(check_origin(&header_map(&[host.clone(), own.clone()]), &[]).is_ok());
        let unreadable = (header::ORIGIN, &b"https://\xff"[..]);
        for bad in [vec![host.clone(), unreadable], vec![host.clone(), own.clone(), own]] {
            assert_eq!(check_origin(&header_map(&bad), &[]).unwrap_err().code, "origin_not_allowed");
        }
        let twice = [host.clone(), host];
        let ours = ["rtc.example".to_owned()];
        assert_eq!(check_host(&header_map(&twice), &ours).unwrap_err().code, "host_not_allowed");
        assert!(check_host(&header_map(&twice[..1]), &ours).is_ok());
    }
}
