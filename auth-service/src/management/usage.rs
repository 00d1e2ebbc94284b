//! `GET /api/usage`: joins and peer-minutes by day, API key and room (docs/WEBHOOKS.md).

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use signalbox_http::{bad_field, parse_query};
use signalbox_protocol::{clock, problem::Problem};
use signalbox_redis::RedisUnavailable;
use signalbox_rooms::usage::{UsageAmount, UtcDay};
use signalbox_token::scope::Scope;
use utoipa::{IntoParams, ToSchema};

use crate::{
    context::{
        authorization::{RoomFilter, authorize_application},
        member_types::QueryNumber,
        problem_responses::ProblemResponses,
        request::ApiResult,
    },
    management::management_service::ManagementService,
};

/// The most days of one query.
const MAX_DAYS: u64 = 400;
/// The default number of rows of a page.
const DEFAULT_ROWS: usize = 1_000;

/// A page of usage.
#[derive(Serialize, ToSchema)]
#[schema(as = UsagePage)]
pub(crate) struct UsagePage {
    days: Vec<UsageRow>,
    /// The cursor of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The usage of one API key in one room on one day.
#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UsageRow {
    /// The UTC day.
    day: String,
    /// The API key, or `guest`, `user`, `invite` or `app`.
    key: String,
    /// The room; `~other` if there are too many rooms.
    room: String,
    /// The number of joins.
    joins: u64,
    /// The minutes for which peers were connected.
    peer_minutes: f64,
}

/// A query of usage.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageQuery {
    /// The first UTC day; without it `to`.
    #[param(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    from: Option<String>,
    /// The last UTC day; without it today.
    #[param(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    to: Option<String>,
    /// Only this API key.
    key: Option<String>,
    /// Only this room.
    room: Option<String>,
    /// The most rows of the page.
    #[param(value_type = Option<usize>, minimum = 1, maximum = 10_000)]
    limit: Option<QueryNumber<1, 10_000>>,
    /// The cursor of the page.
    cursor: Option<String>,
}

impl UsageRow {
    fn new(day: UtcDay, (key, room): (String, String), amount: UsageAmount) -> Self {
        // Rounded to a thousandth of a minute: 60 ms.
        let peer_minutes = (amount.connected_ms as f64 / 60.0).round() / 1_000.0;
        Self { day: day.to_string(), key, room, joins: amount.joins, peer_minutes }
    }
}

/// The rows that a query selects.
struct UsageSelection {
    from: UtcDay,
    to: UtcDay,
    key: Option<String>,
    room: Option<String>,
    limit: usize,
    /// The last row of the page before.
    after_row: Option<(UtcDay, (String, String))>,
}

impl UsageQuery {
    /// The rows of this query, made on the day `today`.
    fn select(self, today: UtcDay) -> Result<UsageSelection, Problem> {
        let day = |text: Option<String>, field, default| match text {
            None => Ok(default),
            Some(text) => {
                UtcDay::parse(&text).ok_or_else(|| bad_field(field, "must be a day like 2026-11-21"))
            }
        };
        let to = day(self.to, "to", today)?;
        let from = day(self.from, "from", to)?;
        let days = from.days_until(to).ok_or_else(|| bad_field("from", "must not be later than to"))?;
        if days >= MAX_DAYS {
            return Err(bad_field("from", "must be less than 400 days before to"));
        }
        let limit = self.limit.map_or(DEFAULT_ROWS, QueryNumber::get);
        let after_row = self.cursor.map(|text| {
            parse_usage_cursor(&text).ok_or_else(|| bad_field("cursor", "is not a cursor of an earlier page"))
        });
        Ok(UsageSelection {
            from,
            to,
            key: self.key,
            room: self.room,
            limit,
            after_row: after_row.transpose()?,
        })
    }
}

fn parse_usage_cursor(text: &str) -> Option<(UtcDay, (String, String))> {
    let mut parts = text.splitn(3, '/');
    let day = UtcDay::parse(parts.next()?)?;
    Some((day, (parts.next()?.to_owned(), parts.next()?.to_owned())))
}

/// The usage, ordered by day, key and room.
#[utoipa::path(get, path = "/api/usage", tag = "usage", operation_id = "usage_get", params(UsageQuery),
    responses((status = 200, body = UsagePage), ProblemResponses), security(("key" = []), ("management" = [])))]
pub(crate) async fn get(request: HttpRequest, service: web::Data<ManagementService>) -> ApiResult {
    let (_, filter) = authorize_application(&request, &service.context, Scope::Usage)?.filter_rooms();
    let selection = parse_query::<UsageQuery>(&request)?.select(UtcDay::from_ms(clock::now_ms()))?;
    service.room_service()?;
    let page = read_usage_page(&service, &selection, &filter).await.map_err(|RedisUnavailable| {
        Problem::new(503, "unavailable", "the store does not answer; try again")
    })?;
    Ok(HttpResponse::Ok().json(page))
}

async fn read_usage_page(
    service: &ManagementService,
    selection: &UsageSelection,
    filter: &RoomFilter,
) -> Result<UsagePage, RedisUnavailable> {
    let mut days: Vec<UsageRow> = Vec::new();
    let mut day = selection.after_row.as_ref().map_or(selection.from, |(day, _)| selection.from.max(*day));
    while day <= selection.to {
        let is_selected = |pair: &(String, String)| {
            selection.key.as_ref().is_none_or(|key| *key == pair.0)
                && selection.room.as_ref().is_none_or(|room| *room == pair.1)
                && filter.allows_name(Some(&pair.1))
        };
        let is_after = |pair: &(String, String)| {
            selection.after_row.as_ref().is_none_or(|(of, last)| *of != day || pair > last)
        };
        for (pair, amount) in service.usage.read_day(day).await?.0 {
            if !is_selected(&pair) || !is_after(&pair) {
                continue;
            }
            if days.len() == selection.limit {
                let next = days.last().map(|row| format!("{}/{}/{}", row.day, row.key, row.room));
                return Ok(UsagePage { days, next });
            }
            days.push(UsageRow::new(day, pair, amount));
        }
        day = day.plus_days(1);
    }
    Ok(UsagePage { days, next: None })
}
