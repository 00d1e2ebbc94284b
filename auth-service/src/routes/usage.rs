//! `/api/usage`: joins and peer-minutes by day, API key and room (docs/WEBHOOKS.md).

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use signalbox_protocol::{clock, problem::Problem};
use signalbox_redis::Unavailable;
use signalbox_rooms::usage::{Amount, Day};
use signalbox_token::scope::Scope;

use super::{Answered, State, authorize, doc::Problems, query};
use utoipa::{IntoParams, ToSchema};

use crate::{AuthState, issuer::wish::refuse};

/// Most days that may be asked for at once.
const MOST_DAYS: u64 = 400;
/// Rows of one answer, where nothing is said, and at most.
const ROWS: usize = 1_000;
const MOST_ROWS: usize = 10_000;

/// A page of what was used.
#[derive(Serialize, ToSchema)]
#[schema(as = UsagePage)]
pub(super) struct Answer {
    days: Vec<Row>,
    /// Where to go on, if there is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// What one API key used in one room on one day.
#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// Of UTC.
    day: String,
    /// The API key, or who else the token came from.
    key: String,
    /// The room; `~other` where there are too many.
    room: String,
    /// Peers that came.
    joins: u64,
    /// The time that peers were connected.
    peer_minutes: f64,
}

/// What is asked for, as the document has it.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document reads it")]
pub(super) struct Asked {
    /// The first day, of UTC; `to` where it is absent.
    #[param(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    from: Option<String>,
    /// The last day; today where it is absent.
    #[param(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    to: Option<String>,
    /// Only this API key.
    key: Option<String>,
    /// Only this room.
    room: Option<String>,
    /// The most rows of the page.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<usize>,
    /// Where the page before ended.
    cursor: Option<String>,
}

impl Row {
    fn new(day: Day, (key, room): (String, String), amount: Amount) -> Self {
        // To a thousandth: 60 ms.
        let peer_minutes = (amount.ms as f64 / 60.0).round() / 1_000.0;
        Self { day: day.to_string(), key, room, joins: amount.joins, peer_minutes }
    }
}

/// What is asked for.
struct Wish {
    from: Day,
    to: Day,
    key: Option<String>,
    room: Option<String>,
    limit: usize,
    /// The last row of the page before.
    after: Option<(Day, (String, String))>,
}

fn wish(request: &HttpRequest, today: Day) -> Result<Wish, Problem> {
    let [from, to, key, room, limit, cursor] =
        query(request, ["from", "to", "key", "room", "limit", "cursor"])?;
    let day = |text: Option<String>, field, default| match text {
        None => Ok(default),
        Some(text) => Day::parse(&text).ok_or_else(|| refuse(field, "must be a day like 2026-11-21")),
    };
    let to = day(to, "to", today)?;
    let from = day(from, "from", to)?;
    let days = from.until(to).ok_or_else(|| refuse("from", "must not be later than to"))?;
    if days >= MOST_DAYS {
        return Err(refuse("from", "must be less than 400 days before to"));
    }
    let limit = limit.map(|text| text.parse().ok().filter(|limit| (1..=MOST_ROWS).contains(limit)));
    let limit = limit.unwrap_or(Some(ROWS)).ok_or_else(|| refuse("limit", "must be from 1 to 10000"))?;
    let after =
        cursor.map(|text| read_cursor(&text).ok_or_else(|| refuse("cursor", "is not one of an answer")));
    Ok(Wish { from, to, key, room, limit, after: after.transpose()? })
}

fn read_cursor(text: &str) -> Option<(Day, (String, String))> {
    let mut parts = text.splitn(3, '/');
    let day = Day::parse(parts.next()?)?;
    Some((day, (parts.next()?.to_owned(), parts.next()?.to_owned())))
}

/// What was used, in the order of day, key and room.
#[utoipa::path(get, path = "/api/usage", tag = "usage", operation_id = "usage_get", params(Asked),
    responses((status = 200, body = Answer), Problems), security(("key" = []), ("management" = [])))]
pub(super) async fn get(request: HttpRequest, state: State) -> Answered {
    authorize(&request, &state, Scope::Usage)?;
    let wish = wish(&request, Day::of(clock::now_ms()))?;
    let answer = rows(&state, &wish)
        .await
        .map_err(|Unavailable| Problem::new(503, "unavailable", "the store does not answer; try again"))?;
    Ok(HttpResponse::Ok().json(answer))
}

async fn rows(state: &AuthState, wish: &Wish) -> Result<Answer, Unavailable> {
    let mut days: Vec<Row> = Vec::new();
    let mut day = wish.after.as_ref().map_or(wish.from, |(day, _)| wish.from.max(*day));
    while day <= wish.to {
        let fits = |pair: &(String, String)| {
            wish.key.as_ref().is_none_or(|key| *key == pair.0)
                && wish.room.as_ref().is_none_or(|room| *room == pair.1)
        };
        let is_after =
            |pair: &(String, String)| wish.after.as_ref().is_none_or(|(of, last)| *of != day || pair > last);
        for (pair, amount) in state.usage.day(day).await?.0 {
            if !fits(&pair) || !is_after(&pair) {
                continue;
            }
            if days.len() == wish.limit {
                let next = days.last().map(|row| format!("{}/{}/{}", row.day, row.key, row.room));
                return Ok(Answer { days, next });
            }
            days.push(Row::new(day, pair, amount));
        }
        day = day.plus(1);
    }
    Ok(Answer { days, next: None })
}
