//! Each kind of credential × each location × each defect: the service refuses it with the right
//! code.
//!
//! - [`token_location`]: where a token is read, compared with the OpenAPI document of the server
//! - [`token_defect`]: the defects of a token
//! - [`tokens`]: locations × defects for tokens that are signed with the shared secret
//! - [`keys`]: the same for asymmetric keys, with [`token_attack`] and [`key_pair`]
//! - [`tickets`], [`refresh_tokens`], [`invites`], [`handles`]: opaque credentials
//!
//! Owns: the tables. The expected answer of a cell is an exhaustive `match`, so a missing cell does
//! not compile. The number of rows is asserted, so no row is skipped. Must not: know how the
//! services check credentials. Next: `credential_kinds` for valid credentials, and
//! `return_attempts`.

mod handles;
mod invites;
mod key_pair;
mod keys;
mod refresh_tokens;
mod tickets;
mod token_attack;
pub(crate) mod token_defect;
pub(crate) mod token_location;
mod tokens;

use std::{fmt::Debug, time::Duration};

use futures_util::{StreamExt as _, stream};
use signalbox_protocol::clock;
use signalbox_tests::http::Response;

/// The number of concurrent requests.
const CONCURRENCY: usize = 32;

/// Status and code of an answer. The status is 0 on an open connection; the code is empty if the
/// answer is not an error.
pub(crate) type StatusAndCode = (u16, String);

pub(crate) fn status_and_code(answer: &Response) -> StatusAndCode {
    let code = if answer.status < 400 { String::new() } else { answer.json()["code"].to_string() };
    (answer.status, code.trim_matches('"').to_owned())
}

/// Whether the credential was accepted. The request itself may still be invalid.
fn is_accepted((status, _): &StatusAndCode) -> bool {
    !matches!(status, 0 | 401 | 403 | 500..)
}

/// The expected refusal of a cell; none if the location accepts the credential.
pub(crate) type ExpectedRefusal = Option<(u16, &'static str)>;

pub(crate) fn matches_expected(expected: ExpectedRefusal, actual: &StatusAndCode) -> bool {
    match expected {
        Some((status, code)) => (actual.0, &*actual.1) == (status, code),
        None => is_accepted(actual),
    }
}

/// Compares an answer with the expected refusal; an error names the row.
pub(crate) fn check_answer(
    row: &dyn Debug,
    expected: ExpectedRefusal,
    credential: Option<&str>,
    answer: &Response,
) -> Result<(), String> {
    let actual = status_and_code(answer);
    if !matches_expected(expected, &actual) {
        return Err(format!("{row:?}: {actual:?}"));
    }
    if let Some((status, code)) = expected {
        answer.assert_problem(status, code);
        assert_no_leak(answer, credential);
    }
    Ok(())
}

/// # Panics
/// If the answer repeats the credential or contains a token.
fn assert_no_leak(answer: &Response, credential: Option<&str>) {
    assert!(!answer.text.contains("eyJ"), "the answer, {}, contains a token", answer.status);
    let is_repeated = credential.is_some_and(|text| text.len() > 7 && answer.text.contains(text));
    assert!(!is_repeated, "the answer, {}, repeats the credential", answer.status);
}

/// Checks all rows, several at a time. Returns the number of rows.
///
/// # Panics
/// If a row fails; the message lists all rows that failed.
pub(crate) async fn assert_rows<R: Copy>(
    rows: impl IntoIterator<Item = R>,
    check: impl AsyncFn(R) -> Result<(), String>,
) -> usize {
    let check = &check;
    let rows: Vec<R> = rows.into_iter().collect();
    let checks = stream::iter(rows.iter().copied()).map(|row| async move { check(row).await.err() });
    let failures: Vec<String> =
        checks.buffer_unordered(CONCURRENCY).filter_map(async |failure| failure).collect().await;
    assert!(failures.is_empty(), "{} of {} rows: {failures:#?}", failures.len(), rows.len());
    rows.len()
}

/// All pairs of a left and a right item.
fn pairs<A: Copy, B: Copy>(left: &'static [A], right: &'static [B]) -> impl Iterator<Item = (A, B)> {
    left.iter().flat_map(move |left| right.iter().map(move |right| (*left, *right)))
}

/// Sleeps until a point in time, in seconds since 1970.
async fn sleep_until(second: u64) {
    let remaining_ms = (second * 1_000).saturating_sub(clock::now_ms());
    tokio::time::sleep(Duration::from_millis(remaining_ms)).await;
}
