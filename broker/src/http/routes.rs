//! The routes: `/live`, `/ready`, `/health`, `/metrics`, `/admin/consumer-groups/{group}`,
//! `/admin/topics/{topic}/compact` and `/api/v1/log-levels`. Each handler reads shared state, or
//! leaves a wish, and answers; none of them waits for the broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::readiness::Phase;
use super::{HttpState, Limits, process};
use crate::cleaner::CompactRefused;
use crate::logging::{self, LogLevels};
use crate::metrics::{self, Detail, GroupBounds, LogDirSample, Observation};
use crate::observe::report::GroupReport;

/// No body of these routes is larger.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// So many damaged places are named one by one; the metric counts all of them.
const DAMAGE_SHOWN_MAX: usize = 100;

const PATHS: &[&str] = &[
    "/live",
    "/ready",
    "/health",
    "/metrics",
    "/admin/consumer-groups/{group}",
    "/api/v1/log-levels",
    "/admin/topics/{topic}/compact",
];

pub(super) fn router(state: Arc<HttpState>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/health", get(health))
        .route("/metrics", get(metrics_text))
        .route("/admin/consumer-groups/{group}", get(consumer_group))
        .route("/api/v1/log-levels", get(log_levels).put(set_log_levels))
        .route("/admin/topics/{topic}/compact", post(compact))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(refuse_announced_excess))
        .with_state(state)
}

/// A body that says it is too large is refused before anybody waits for it; one that does not say
/// is cut off by the limit while it is read.
async fn refuse_announced_excess(request: Request, next: Next) -> Response {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX) {
        let detail = format!("the body is larger than {BODY_BYTES_MAX} bytes");
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
    }
    next.run(request).await
}

async fn index() -> Json<Value> {
    Json(json!({ "name": "ottla", "version": env!("CARGO_PKG_VERSION"), "paths": PATHS }))
}

async fn not_found(uri: Uri) -> Problem {
    let paths = PATHS.join(", ");
    let detail = format!("nothing is served at {}; there is {paths}", uri.path());
    Problem::new(StatusCode::NOT_FOUND, detail)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not served at {}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// The process runs and answers; nothing more.
async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// 200 once Kafka clients are served, 503 with the progress before and after.
async fn ready(State(state): State<Arc<HttpState>>) -> Response {
    let progress = state.readiness.progress();
    let is_ready = progress.phase == Phase::Ready;
    let dirs = match is_ready {
        true => state.observation().log_dirs,
        false => Vec::new(),
    };
    let body = json!({
        "status": if is_ready { "ready" } else { "not ready" },
        "phase": progress.phase,
        "recovery": {
            "logs_total": progress.logs_total,
            "logs_recovered": progress.logs_recovered,
            "scanned_bytes": progress.scanned_bytes,
        },
        "log_dirs": dirs.iter().map(log_dir).collect::<Vec<_>>(),
    });
    (status_of(is_ready), Json(body)).into_response()
}

fn log_dir(dir: &LogDirSample) -> Value {
    json!({
        "path": &*dir.path,
        "state": dir.state,
        "reason": dir.failure,
        "partitions": dir.partitions,
        "free_bytes": dir.free_bytes,
        "total_bytes": dir.total_bytes,
    })
}

/// As `/ready`, with reasons when something is wrong; a broker that serves some partitions but not
/// all is degraded, and still answers 200.
async fn health(State(state): State<Arc<HttpState>>) -> Response {
    let progress = state.readiness.progress();
    let is_ready = progress.phase == Phase::Ready;
    let mut reasons = Vec::new();
    if is_ready {
        reasons = reasons_to_worry(&state.observation());
    }
    let status = match (progress.phase, reasons.is_empty()) {
        (Phase::Ready, true) => "ok",
        (Phase::Ready, false) => "degraded",
        (Phase::Stopping, _) => "stopping",
        _ => "starting",
    };
    let body = json!({ "status": status, "phase": progress.phase, "reasons": reasons });
    (status_of(is_ready), Json(body)).into_response()
}

fn status_of(is_ready: bool) -> StatusCode {
    if is_ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn reasons_to_worry(observation: &Observation) -> Vec<String> {
    let count = |matches: &dyn Fn(&metrics::PartitionSample) -> bool| {
        observation
            .partitions
            .iter()
            .filter(|one| matches(one))
            .count()
    };
    let node_id = observation.node_id;
    let worries = [
        (count(&|one| one.leader < 0), "have no leader"),
        (
            count(&|one| one.leader == node_id && one.log.is_none()),
            "are offline here after a disk error; restart the broker once the disk is repaired",
        ),
        (
            count(&|one| one.in_sync_replicas < one.replicas),
            "have replicas that are not in sync",
        ),
    ];
    let worries = worries.into_iter().filter(|(count, _)| *count > 0);
    let worries = worries.map(|(count, what)| format!("{count} partition(s) {what}"));
    let dirs = observation.log_dirs.iter().filter_map(worry_about);
    let damaged = observation.damaged.iter().take(DAMAGE_SHOWN_MAX).cloned();
    dirs.chain(worries).chain(damaged).collect()
}

fn worry_about(dir: &LogDirSample) -> Option<String> {
    let what = match (dir.state, &dir.failure) {
        (_, Some(why)) => format!("is offline: {why}"),
        ("low", _) => "has little room on its disk".to_owned(),
        ("full", _) => "has a full disk: records and new topics are refused".to_owned(),
        ("read-only", _) => "is read-only: records are refused".to_owned(),
        _ => return None,
    };
    Some(format!("log directory {} {what}", dir.path))
}

#[derive(Deserialize)]
struct MetricsQuery {
    detail: Option<String>,
}

async fn metrics_text(
    State(state): State<Arc<HttpState>>,
    Query(query): Query<MetricsQuery>,
) -> Result<Response, Problem> {
    let detail = match query.detail.as_deref() {
        None => Detail::UpTo(state.limits.partitions),
        Some("partition") => Detail::Partition,
        Some(other) => {
            let shown: String = other.chars().take(64).collect();
            let detail = format!("detail={shown} is not known; there is detail=partition");
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
    };
    let (counters, process) = (state.metrics.snapshot(), process::sample());
    let mut observation = state.observation();
    if let Some(groups) = state.groups.get() {
        observation.groups = groups.sample(bounds(detail, state.limits));
    }
    let text = metrics::render(&counters, &observation, process.as_ref(), detail);
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}

fn bounds(detail: Detail, limits: Limits) -> GroupBounds {
    let (groups, offsets) = match detail {
        Detail::Partition => (usize::MAX, usize::MAX),
        Detail::UpTo(partitions) => (limits.groups, partitions),
    };
    GroupBounds { groups, offsets }
}

/// State, members, offsets, lag and the last rebalance of a group that this broker coordinates.
async fn consumer_group(
    State(state): State<Arc<HttpState>>,
    Path(group): Path<String>,
) -> Result<Json<GroupReport>, Problem> {
    let Some(groups) = state.groups.get() else {
        let detail = "the broker is starting";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    groups.report(&group).map(Json).ok_or_else(|| {
        let shown: String = group.chars().take(64).collect();
        let detail = format!("this broker coordinates no group {shown}");
        Problem::new(StatusCode::NOT_FOUND, detail)
    })
}

/// Has a topic compacted soon: 202 with how many partitions of it are here. The body is ignored.
async fn compact(
    State(state): State<Arc<HttpState>>,
    Path(topic): Path<String>,
) -> Result<Response, Problem> {
    let compactor = state.compactor.get().filter(|_| state.readiness.is_ready());
    let Some(compactor) = compactor else {
        let detail = "the broker does not serve topics yet, or not any more";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    match compactor(&topic) {
        Ok(partitions) => {
            let body = json!({ "topic": topic, "partitions": partitions, "status": "accepted" });
            Ok((StatusCode::ACCEPTED, Json(body)).into_response())
        }
        Err(refused) => {
            let status = match refused {
                CompactRefused::UnknownTopic => StatusCode::NOT_FOUND,
                CompactRefused::NotCompacted | CompactRefused::Disabled => StatusCode::CONFLICT,
            };
            let shown: String = topic.chars().take(255).collect();
            Err(Problem::new(
                status,
                format!("{shown} is not compacted: {refused}"),
            ))
        }
    }
}

async fn log_levels() -> Json<BTreeMap<String, &'static str>> {
    Json(logging::levels().rows().into_iter().collect())
}

/// Sets the levels of the loggers named; null takes a logger's own level away. All or nothing.
async fn set_log_levels(
    body: Result<Json<BTreeMap<String, Option<String>>>, JsonRejection>,
) -> Result<Json<BTreeMap<String, &'static str>>, Problem> {
    let Json(wanted) = body.map_err(|rejection| {
        let hint = "send {\"logger\": \"LEVEL\"} with content-type application/json";
        Problem::new(
            rejection.status(),
            format!("{}; {hint}", rejection.body_text()),
        )
    })?;
    change_levels(logging::levels(), &wanted)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(log_levels().await)
}

fn change_levels(
    levels: &LogLevels,
    wanted: &BTreeMap<String, Option<String>>,
) -> Result<(), logging::LevelError> {
    for (logger, level) in wanted {
        levels.check(logger, level.as_deref().unwrap_or("INFO"))?;
    }
    for (logger, level) in wanted {
        match level {
            Some(level) => levels.set(logger, level)?,
            None => levels.unset(logger)?,
        }
    }
    Ok(())
}
