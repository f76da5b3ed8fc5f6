"""Every metric there is: name, help with its unit, labels. Rooms count in them; nobody declares one elsewhere.

One line each: `THROTTLED = REGISTRY.counter("boxoffice_…_total", "What one more of it is.", limit=("key", "customer"))`, and
where it happens `THROTTLED.cell("key").add()`. Names are Prometheus's way: `_total` only grows, times are `_seconds`, sizes
`_bytes`. A label has few values, none of which comes from a request; those known beforehand are named, and so are there as 0
from the start. `docs/metrics.md` is written from here.
"""

from __future__ import annotations

from typing import Final

from boxoffice.telemetry.metrics import REGISTRY

_FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_SLOW: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_MEMBERS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_BOOKINGS: Final = (1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_000)

counter, gauge, histogram = REGISTRY.counter, REGISTRY.gauge, REGISTRY.histogram

# fmt: off
# ---------------------------------------------------------------------- HTTP, counted by the API

REQUESTS = counter("boxoffice_http_requests_total",
    "Requests answered, by method, template of the route (`unmatched`: none) and status.", method=(), route=(), status=())
REQUEST_SECONDS = histogram("boxoffice_http_request_seconds",
    "Seconds from a request that has arrived whole to its answer, by template of the route. Bookings that are posted and need "
    "not wait before their admission are in boxoffice_admission_seconds instead.", _FAST, route=())
CONNECTIONS = counter("boxoffice_http_connections_total", "Connections that clients made, those that were refused among them.")
OPEN_CONNECTIONS = gauge("boxoffice_http_connections", "Connections open now, looked at twice a second.")
CONNECTIONS_MAX = gauge("boxoffice_http_connections_max", "Connections that this process takes at once.")
REFUSED_CONNECTIONS = counter("boxoffice_http_refused_total",
    "What the connection itself refused or ended, by reason. crowded: one connection too many. head_late, body_late: a request "
    "that did not arrive in time. incomplete: its client left off. unreadable: no request. body_too_large. unread: cut, as its "
    "client read no answers. overloaded: a request for which there was no time, in a flood.",
    reason=("crowded", "head_late", "body_late", "incomplete", "unreadable", "body_too_large", "unread", "overloaded"))
FLOOD = gauge("boxoffice_flood", "1 while this process sends away, at once, whoever it has no time for; 0 once it has stopped.")
FEED_WAITS = gauge("boxoffice_feed_waits", "Requests for the feed that wait for something to happen, now.")
DELAYED = counter("boxoffice_http_requests_delayed_total",
    "Requests that were let wait, as their clients sent them before the answers to those before them.")

WAITING = gauge("boxoffice_http_waiting", "Requests that wait for a booking to be final (`Prefer: wait`).")
STREAMS = gauge("boxoffice_streams", "Streams (server-sent events) that are open.")
STREAM_MESSAGES = counter("boxoffice_stream_messages_total", "Messages written to streams, one for each reader.")
STREAMS_ENDED = counter("boxoffice_streams_ended_total",
    "Streams that ended, by why. gone: the client left, or nothing was heard of it. unread: cut, as its client did not read. "
    "revoked: its API key may not be used for it any more. drained: the process was told to stop. over: nothing follows. "
    "failed: it could not begin, which is a bug.",
    reason=("gone", "unread", "revoked", "drained", "over", "failed"))

# ---------------------------------------------------------------------- admission, counted by the API, once a call

ADMISSIONS = counter("boxoffice_admissions_total",
    "Bookings that admission calls answered, by outcome: accepted, replayed (the key was used before), or the refusal. Those "
    "that are sent once more at once, as with a new price, are counted then. rate_limited: those that were refused without a "
    "call, too, as their API key or customer was known to be over a limit.",
    outcome=("accepted", "replayed", "sold_out", "sale_closed", "sale_not_open", "sale_paused", "booking_limit",
             "customer_limit", "unpaid_limit", "price_changed", "key_reused", "access_code_invalid", "access_code_required",
             "access_code_used_up", "rate_limited", "declined_too_often", "busy", "gate_closed", "store_away"))
ADMISSION_SECONDS = histogram("boxoffice_admission_seconds",
    "Seconds from a booking's arrival at the admission to its answer, of those that an admission call answered.", _FAST)
CALL_MEMBERS = histogram("boxoffice_admission_call_members",
    "Bookings and questions in one admission call. Its count is that of calls.", _MEMBERS)
CALL_SECONDS = histogram("boxoffice_admission_call_seconds",
    "Seconds of one admission call, what Redis waits for its disk and what was sent again among them.", _FAST)

# ---------------------------------------------------------------------- settlement, counted by the worker, once a batch

BATCH_BOOKINGS = histogram("boxoffice_settlement_batch_bookings",
    "Bookings in one batch, as it was claimed. Its count is that of batches.", _BOOKINGS)
BATCH_SECONDS = histogram("boxoffice_settlement_batch_seconds",
    "Seconds from a batch's claim until everything of it is told, given back, or waits for a slow answer.", _SLOW)
SETTLED = counter("boxoffice_settlements_total",
    "Bookings that a commit decided, by outcome and reason (failure codes of docs/errors.md; empty: none). held: its payment "
    "was declined in time, and may be tried again. pending: to be looked at again later.", outcome=(), reason=())
ACCEPT_TO_COMMIT = histogram("boxoffice_accept_to_commit_seconds",
    "Seconds from a booking's admission to the commit that confirmed or failed it, by Redis's clock and the worker's. Of holds "
    "nothing: their customers take their time.", _SLOW)
LAPSES = counter("boxoffice_lease_lapses_total",
    "Bookings that were claimed after the lease of an earlier claim had lapsed: a worker died, hung, or gave them up.")
PARKED = counter("boxoffice_parked_total",
    "Bookings that were parked: they failed alone, or cannot be read, and wait for an operator.")

# ---------------------------------------------------------------------- the gateway, counted by whoever asks it

_CALLS: Final = ("authorize", "capture", "void", "refund", "lookup", "reversals")
GATEWAY_SECONDS = histogram("boxoffice_gateway_seconds",
    "Seconds of one call to the gateway, a batch being one, and of each slow answer of a batch.", _SLOW, call=_CALLS)
GATEWAY_ANSWERS = counter("boxoffice_gateway_answers_total",
    "Payments and refunds that the gateway was asked about, by call and answer. unknown: it did not say. error: asking failed.",
    call=(), outcome=())

# ---------------------------------------------------------------------- webhooks to shops, counted by the worker

DELIVERIES = counter("boxoffice_webhook_deliveries_total",
    "Tries to deliver a notice to an endpoint of a shop, by outcome: delivered, or why it failed (docs/notices.md).",
    outcome=("delivered", "status", "redirect", "gone", "timeout", "name", "address", "connection", "tls", "protocol",
             "too_long"))
DELIVERY_SECONDS = histogram("boxoffice_webhook_delivery_seconds", "Seconds of one such try.", _SLOW)

# ---------------------------------------------------------------------- looked at when asked: each shard

GATE_OPEN = gauge("boxoffice_gate_open",
    "1 while the shard's gate is open; 0 while it is closed or unchecked, and nothing is sold there.", shard=())
BACKLOG = gauge("boxoffice_backlog_bookings", "Bookings that wait to be settled.", shard=())
BACKLOG_AGE = gauge("boxoffice_backlog_oldest_seconds",
    "Seconds for which the first booking of the backlog has been due and was claimed by nobody.", shard=())
HOLDS = gauge("boxoffice_holds", "Holds that are neither paid nor ended.", shard=())
PARKED_NOW = gauge("boxoffice_parked_bookings", "Bookings that are parked now, until an operator decides.", shard=())
DRIFT = gauge("boxoffice_drifted_events",
    "Events whose counters differed from PostgreSQL's when a worker counted last.", shard=())
WORKERS = gauge("boxoffice_workers", "Workers that said within 10 s that they live.", shard=())

# ---------------------------------------------------------------------- looked at when asked: Redis, pools, this machine

REDIS_MEMORY = gauge("boxoffice_redis_memory_bytes",
    "Memory of Redis in bytes: used, and max (`maxmemory`; left out when there is none).", redis=(), state=())
REDIS_AOF = gauge("boxoffice_redis_aof_bytes", "Size of Redis's append-only file in bytes.", redis=())
REDIS_AOF_OK = gauge("boxoffice_redis_aof_ok",
    "1 when the last write and the last rewrite of Redis's append-only file succeeded.", redis=())
REDIS_CLIENTS = gauge("boxoffice_redis_clients", "Clients that are connected to Redis.", redis=())
REDIS_POOL = gauge("boxoffice_redis_pool_connections",
    "Connections of this process's Redis pool: in_use (those that admission keeps are), idle, and max.", state=())
POSTGRES_POOL = gauge("boxoffice_postgres_pool_connections",
    "Sessions of this process's PostgreSQL pool: in_use, idle, and max.", state=())
DISK_FREE = gauge("boxoffice_data_dir_free_bytes",
    "Bytes free where the data directory is: of private servers, their disk.")

# ---------------------------------------------------------------------- looked at when asked: PostgreSQL, by workers alone

_DUE: Final = ("capture", "void", "refund", "owed")
MONEY_DUE = gauge("boxoffice_money_due",
    "Payments and refunds that are due at the gateway, by kind. owed: refunds that it refused, which wait for a person.",
    kind=_DUE)
MONEY_AGE = gauge("boxoffice_money_due_oldest_seconds",
    "Seconds for which the oldest of them has been due, by kind.", kind=_DUE)
ALERTS = gauge("boxoffice_shard_alerts", "Shards that wait for an operator's decision (`boxoffice status`).")
ENDPOINTS = gauge("boxoffice_webhook_endpoints",
    "Endpoints of shops, by state. failing: enabled, and took nothing in its last round. disabled_by_us: as it failed for too "
    "long, or answered 410.", state=("well", "failing", "disabled_by_us"))
UNDELIVERED_AGE = gauge("boxoffice_webhook_oldest_undelivered_seconds",
    "Seconds since the oldest notice that an enabled endpoint has not taken: of those that take what they are sent (well), and "
    "of those that do not (failing).", state=("well", "failing"))
MOVES = gauge("boxoffice_stock_moves_waiting", "Tickets' moves that Redis has not heard of yet.")
SALE = gauge("boxoffice_sale_tickets",
    "Tickets of the events on sale now, by event: total, sold, held, available. The largest `telemetry.events_max` by their "
    "ids; what the others have in all is `other`, in total and sold.", event=(), state=())

# ---------------------------------------------------------------------- traces, where they are on

TRACE_SPANS = counter("boxoffice_trace_spans_total",
    "Spans that were sent to the collector, by outcome: exported, or lost. What finds the queue full is in neither.",
    outcome=("exported", "lost"))

# ---------------------------------------------------------------------- of the looking itself

LOOK_AGE = gauge("boxoffice_look_age_seconds",
    "Seconds since this source last answered. Until it does, what it said last is shown.", source=("redis", "postgresql"))
LOOKS = counter("boxoffice_looks_total", "Looks at this source, by outcome.",
    source=("redis", "postgresql"), outcome=("ok", "failed"))
BUILD = gauge("boxoffice_build_info", "1; the labels say which version this is, and which process: api or worker.",
    version=(), process=())
# fmt: on
