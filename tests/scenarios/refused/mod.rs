//! Every kind of proof × every place where it may be shown × everything that can be wrong with it: each is refused with its code.
//!
//! - [`places`]: where tokens are read, held against the server's own document; [`defects`]: what is wrong with them
//! - [`tokens`]: those two, multiplied; [`keys`], [`attacks`], [`keyring`]: the same for asymmetric keys, and how they are mistaken for others
//! - [`tickets`], [`refreshes`], [`invites`], [`handles`]: what is opaque
//!
//! Owns: the tables. What is expected of a cell is an exhaustive `match`, so that a missing one does not compile; the number of rows is
//! asserted, so that none is passed over. Must not: know how the services judge. Next: `kinds`, where each kind is good, and `ways_back`.

mod attacks;
pub(crate) mod defects;
mod handles;
mod invites;
mod keyring;
mod keys;
pub(crate) mod places;
mod refreshes;
mod tickets;
mod tokens;

use std::{fmt::Debug, time::Duration};

use futures_util::{StreamExt as _, stream};
use signalbox_protocol::clock;
use signalbox_tests::http::Response;

/// Requests that are on their way at once.
const AT_ONCE: usize = 32;

/// Status and code of an answer; of one over an open connection the status is 0, of one that is no error the code is empty.
pub(crate) type Told = (u16, String);

pub(crate) fn told(answer: &Response) -> Told {
    let code = if answer.status < 400 { String::new() } else { answer.json()["code"].to_string() };
    (answer.status, code.trim_matches('"').to_owned())
}

/// Whether somebody was let past the door; what is wrong behind it is another matter.
fn is_past_the_door((status, _): &Told) -> bool {
    !matches!(status, 0 | 401 | 403 | 500..)
}

/// What a cell must answer: a refusal, or none where what is shown is good there.
pub(crate) type Expected = Option<(u16, &'static str)>;

pub(crate) fn holds(expected: Expected, told: &Told) -> bool {
    match expected {
        Some((status, code)) => (told.0, &*told.1) == (status, code),
        None => is_past_the_door(told),
    }
}

/// Whether an answer is what a cell must be; else the row.
pub(crate) fn judge(
    row: &dyn Debug,
    expected: Expected,
    shown: Option<&str>,
    answer: &Response,
) -> Result<(), String> {
    let told = told(answer);
    if !holds(expected, &told) {
        return Err(format!("{row:?}: {told:?}"));
    }
    if let Some((status, code)) = expected {
        answer.assert_problem(status, code);
        assert_tells_nothing(answer, shown);
    }
    Ok(())
}

/// # Panics
/// If an answer repeats what was shown, or any token.
fn assert_tells_nothing(answer: &Response, shown: Option<&str>) {
    assert!(!answer.text.contains("eyJ"), "the answer, {}, holds a token", answer.status);
    let told = shown.is_some_and(|shown| shown.len() > 7 && answer.text.contains(shown));
    assert!(!told, "the answer, {}, repeats what was shown", answer.status);
}

/// Asks for all rows, several at a time; how many there were.
///
/// # Panics
/// If one does not hold, with all that do not.
pub(crate) async fn assert_rows<R: Copy>(
    rows: impl IntoIterator<Item = R>,
    ask: impl AsyncFn(R) -> Result<(), String>,
) -> usize {
    let ask = &ask;
    let rows: Vec<R> = rows.into_iter().collect();
    let asked = stream::iter(rows.iter().copied()).map(|row| async move { ask(row).await.err() });
    let wrong: Vec<String> = asked.buffer_unordered(AT_ONCE).filter_map(async |wrong| wrong).collect().await;
    assert!(wrong.is_empty(), "{} of {} rows: {wrong:#?}", wrong.len(), rows.len());
    rows.len()
}

/// Every pair.
fn product<A: Copy, B: Copy>(ones: &'static [A], others: &'static [B]) -> impl Iterator<Item = (A, B)> {
    ones.iter().flat_map(move |one| others.iter().map(move |other| (*one, *other)))
}

/// Waits for the end of a life: this second, since 1970, has begun.
async fn until(second: u64) {
    let left = (second * 1_000).saturating_sub(clock::now_ms());
    tokio::time::sleep(Duration::from_millis(left)).await;
}
