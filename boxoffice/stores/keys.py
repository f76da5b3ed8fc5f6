"""Every key in Redis, one function each: type, content, TTL (or why none) and who writes it.

All keys of a shard carry its hash tag, so that one script may touch them all, also on a cluster.
"""

from __future__ import annotations

__all__ = [
    "api_keys",
    "arq_job",
    "arq_queue",
    "bell",
    "booking",
    "catalogue",
    "changes",
    "clock",
    "codes",
    "dead",
    "deadlines",
    "declines",
    "ended",
    "event",
    "gate",
    "idempotency",
    "lacking",
    "moved",
    "news",
    "owned_tiers",
    "owners",
    "pending",
    "probe",
    "rates",
    "rings",
    "sequence",
    "session",
    "shard_tag",
    "shops",
    "sound",
    "sums",
    "told",
    "unchecked",
    "unpaid",
    "workers",
]


def shard_tag(shard: int) -> str:
    """The hash tag of a shard. Not a key."""
    return f"{{s{shard:02d}}}"


def event(shard: int, event_id: str) -> str:
    """HASH. A sale's counters, all in one so that one read shows that they add up. No TTL: it is stock.

    Per tier: `a:` available, `h:` held, `c:` sold, `t:` total, `p:` price (with `-` in front when the tier is inactive).
    For the sale: `on` 1, p (paused), x (called off) or 0, `starts` epoch ms, `cur` currency, `lim` tickets a customer may
    have (0: any number), `win` its windows (`lib/windows.lua`; empty: none), `rules` least and most tickets
    (`lib/rules.lua`; empty: none).
    Written by load, admit, settle, expire, cancel, move, shrink, reconcile.
    """
    return f"{shard_tag(shard)}:ev:{event_id}"


def booking(shard: int, booking_id: str) -> str:
    """STRING. A booking's record (see `record.py`). TTL `worker.settled_ttl_s` once final; none before."""
    return f"{shard_tag(shard)}:bk:{booking_id}"


def idempotency(shard: int, scope: str) -> str:
    """STRING. Booking id of the first use of an idempotency key. Lives as long as the booking's record."""
    return f"{shard_tag(shard)}:idem:{scope}"


def changes(shard: int, booking_id: str) -> str:
    """HASH. Digest of a change's idempotency key to the fingerprint of its request, for a hold whose items were changed. TTL
    `worker.settled_ttl_s` from its last change: a repeat changes nothing; that of its record once the hold has ended."""
    return f"{shard_tag(shard)}:chg:{booking_id}"


def pending(shard: int) -> str:
    """ZSET. Booking id to the ms from which a worker may claim it: admission, later the end of its lease. No TTL."""
    return f"{shard_tag(shard)}:pend"


def deadlines(shard: int) -> str:
    """ZSET. Booking id to the deadline (ms) of every hold. No TTL: were it to vanish, nobody would return the stock."""
    return f"{shard_tag(shard)}:deadlines"


def dead(shard: int) -> str:
    """ZSET. Booking id to the ms it was parked at. Parked bookings keep their stock until an operator decides. No TTL."""
    return f"{shard_tag(shard)}:dead"


def owners(shard: int, event_id: str) -> str:
    """HASH. Digest of (client, customer), or `k` and the digest of an access code, to tickets held or bought. No TTL: a limit
    lives as long as the purchase."""
    return f"{shard_tag(shard)}:own:{event_id}"


def owned_tiers(shard: int, event_id: str) -> str:
    """HASH. Digest of (client, customer) to what of `owners` is of which tier: `tier:tickets,...`. No TTL. Processes of an
    earlier version do not write it: a customer who is not in it has nothing of any tier, until reconcile has counted."""
    return f"{shard_tag(shard)}:owntiers:{event_id}"


def shops(shard: int, event_id: str) -> str:
    """HASH. Client, `:` and a tier to tickets that its customers hold or have bought of the tier. No TTL. Processes of an
    earlier version do not write it: a shop that is not in it has nothing, until reconcile has counted."""
    return f"{shard_tag(shard)}:shops:{event_id}"


def codes(shard: int, event_id: str) -> str:
    """HASH. Digest of an access code to what it is good for (`lua/lib/code_terms.lua`), or `x`: revoked; and `v`: the version
    of the event up to which they are here, `@`, and the PostgreSQL whose version it is. No TTL: written under the lock of the
    event's row when it is loaded."""
    return f"{shard_tag(shard)}:codes:{event_id}"


def unpaid(shard: int, event_id: str) -> str:
    """HASH. Tickets set aside and not paid for: `o:` and a customer's digest, or `c:` and a client; of those, `wo:`, `wc:` and
    `w` in all, of bookings posted with a payment that waits for its bank. `g:`, a client, `:` and a tier: tickets that the
    client gave up, less ten for each that it paid for, `:` and the ms at which that began. No TTL: kept by the scripts that
    move bookings, all but `g:` recounted by reconcile."""
    return f"{shard_tag(shard)}:unpaid:{event_id}"


def ended(shard: int, client_id: str) -> str:
    """INT. Holds of a client that ended lately and were never tried to be paid. TTL `holds.ended_ttl_s`."""
    return f"{shard_tag(shard)}:ended:{client_id}"


def moved(shard: int, move: str) -> str:
    """STRING. A stock move that was applied, by its id and its nonce: what it gave back and refunded. TTL 7 days: PostgreSQL
    marks the move as applied within seconds."""
    return f"{shard_tag(shard)}:moved:{move}"


def sequence(shard: int) -> str:
    """INT. Admissions so far. No TTL: the sequence guard compares it with PostgreSQL's."""
    return f"{shard_tag(shard)}:seq"


def told(shard: int) -> str:
    """SET. `number:nonce` of commits that Redis was told of, until the guard has seen them; then the highest. No TTL."""
    return f"{shard_tag(shard)}:told"


def sound(shard: int) -> str:
    """STRING. PostgreSQL's time (epoch ms) when a guard last saw this Redis open and agreeing: so old is a file that was
    put back. Written every five seconds. No TTL."""
    return f"{shard_tag(shard)}:sound"


def clock(shard: int) -> str:
    """STRING. The latest time (epoch ms) that a sweep or the admission of a hold has seen: a clock that went back shows. No
    TTL."""
    return f"{shard_tag(shard)}:clock"


def gate(shard: int) -> str:
    """STRING. `generation:run`, the run of the server for which it was opened. Absent: closed; of another run: unchecked,
    until a guard has compared this one with PostgreSQL. Either way nothing is decided. No TTL."""
    return f"{shard_tag(shard)}:gate"


def unchecked(shard: int) -> str:
    """LIST. Somebody met an unchecked server and asks the shard's guards to look now. TTL 10 s: they look anyway."""
    # Stored under an older name, by which processes of the version before call and wait while both run.
    return f"{shard_tag(shard)}:asked"


def lacking(shard: int) -> str:
    """LIST. Somebody met an event without its counters and asks the shard's workers to load now. TTL 10 s: they load
    anyway, every 30 s."""
    return f"{shard_tag(shard)}:lacking"


def bell(shard: int) -> str:
    """STRING. A ring is waiting for a worker. TTL some seconds, in case the worker that heard it died."""
    return f"{shard_tag(shard)}:bell"


def probe(shard: int) -> str:
    """STRING. Written by `/readyz`, to see that Redis takes writes. TTL 60 s."""
    return f"{shard_tag(shard)}:probe"


def rates(shard: int) -> str:
    """HASH. Bookings asked for in the window that began at `at` (epoch ms): `k:` and an API key's prefix, or a customer's
    digest; and `w:` and a prefix: its other requests that change something. TTL two windows (`rates.window_s`); its
    writes go to no file and no replica, though a rewrite or a full resync takes it along."""
    return f"{shard_tag(shard)}:rates"


def declines(shard: int) -> str:
    """HASH. Payments that were declined in the window that began at `at` (epoch ms): `o:` and a customer's digest, `c:` and a
    client, `e:` and an event, `f:` and what the gateway calls a card; payments that the gateway has answered: `C:`, `E:`; and
    `F`: cards that were declined too often. TTL two windows (`declines.window_s`)."""
    return f"{shard_tag(shard)}:declines"


def rings(shard: int) -> str:
    """INT. Rings so far: each has a job id of its own. No TTL."""
    return f"{shard_tag(shard)}:rings"


def workers(shard: int) -> str:
    """HASH. Worker (host, process, start) to what it said of itself last (JSON), written by each every two seconds. No
    TTL: a worker that starts takes away whoever is silent."""
    return f"{shard_tag(shard)}:workers"


def catalogue(shard: int) -> str:
    """HASH. Event id to the event as readers see it (JSON); field `version` changes with any of them. No TTL."""
    return f"{shard_tag(shard)}:catalogue"


def api_keys(shard: int) -> str:
    """HASH. API key prefix to its secret's digest, its client and what it may do (JSON); field `version`. No TTL."""
    return f"{shard_tag(shard)}:api_keys"


def session(shard: int, token_digest: str) -> str:
    """STRING. Who is signed in at `/ops`: the prefix of an API key and the digest of its secret (JSON), by the digest of what
    the cookie has. TTL `api.session_s`; who is forgotten signs in again."""
    return f"{shard_tag(shard)}:session:{token_digest}"


def sums(shard: int) -> str:
    """HASH. What the processes have counted, added up: admissions, refusals, settlements, how long they took. Each adds what is
    new once a second. No TTL: a rate is what was added between two looks."""
    return f"{shard_tag(shard)}:sums"


def news(shard: int) -> str:
    """Not a key: the channel on which scripts publish what became of bookings. A message is there for whoever listens just then
    (`lua/lib/news.lua`, `news.py`)."""
    return f"{shard_tag(shard)}:news"


def arq_queue(shard: int) -> str:
    """ZSET of arq: job id to due ms. No TTL."""
    return f"{shard_tag(shard)}:arq:queue"


def arq_job(job_id: str) -> str:
    """STRING of arq: a packed job. No TTL: arq drops a job whose key has expired."""
    return f"arq:job:{job_id}"
