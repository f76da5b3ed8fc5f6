"""Breaks one rule of the box office at a time, in a copy of the tree, and sees that a test notices: `make mutants`.

A test that cannot fail proves nothing. Each mutant takes away something that a promise rests on; the tests named beside
it must then fail. Exit code 1 when a mutant survives.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tests.support.tree import ROOT, copy_tree

__all__ = ["MUTANTS", "ROOT", "Mutant"]


@dataclass(frozen=True)
class Mutant:
    """One rule taken away: in these files, this text becomes that; these tests must fail."""

    name: str
    changes: tuple[tuple[str, str, str], ...]
    tests: str
    only: str = ""
    """pytest's -k."""


MUTANTS = (
    Mutant(
        "a cookie that counts without the page's header",
        (("api/sessions.py", "    if request.headers.get(PAGE_HEADER) != PAGE:\n        return None\n", ""),),
        "tests/api/test_ops_session.py",
        "cookie_alone",
    ),
    Mutant(
        "a change that a cookie makes without the page's origin",
        (("api/sessions.py", "if token is not None and request.method not in READS:", "if token == '':"),),
        "tests/api/test_ops_session.py",
        "own_origin",
    ),
    Mutant(
        "a session that stays good when its key is revoked",
        (
            (
                "boxoffice/access/api_keys.py",
                "        return (await self._look_up(prefix, sha256))[0]\n",
                "        await self.renew()\n        return (await self._look_up(prefix, self.known[prefix].sha256))[0]\n",
            ),
        ),
        "tests/api/test_ops_session.py",
        "not_good_any_more",
    ),
    Mutant(
        "a parked booking that is failed and retried at once",
        (
            (
                "boxoffice/books/dead_letters.py",
                "WHERE pg_try_advisory_lock($1, hashtext(booking))",
                "WHERE $1::int + hashtext(booking) IS NOT NULL",
            ),
        ),
        "tests/boxoffice/repair/test_failing.py",
        "while_it_is_failed",
    ),
    Mutant(
        "the money of a sold booking that an operator's failing lets go",
        (
            (
                "boxoffice/repair/failing.py",
                "        await self.refuse_decided(connection, booking)\n        if isinstance",
                "        if isinstance",
            ),
        ),
        "tests/boxoffice/repair/test_failing.py",
        "sold_meanwhile",
    ),
    Mutant(
        "a settled record that an operator's failing deletes",
        (("boxoffice/repair/failing.py", 'if word != b"gone":', "if word == b'F':"),),
        "tests/boxoffice/repair/test_failing.py",
        "not_deleted",
    ),
    Mutant(
        "places that are given by ids alone",
        (
            (
                "boxoffice/notices/reading.py",
                "    last = await connection.fetchval(_LOCK)\n",
                "    last = await connection.fetchval(_LOCK.removesuffix(' FOR UPDATE'))\n",
            ),
        ),
        "tests/boxoffice/notices/test_reading.py",
        "fifty_writers",
    ),
    Mutant(
        "a place that is the id",
        (
            (
                "boxoffice/notices/reading.py",
                "SET position = $1 + f.place",
                "SET position = $1 * 0 + f.place * 0 + n.id",
            ),
        ),
        "tests/boxoffice/notices/test_reading.py",
        "commits_late or fifty_writers",
    ),
    Mutant(
        "a reader who follows ids",
        (
            (
                "boxoffice/notices/reading.py",
                "SELECT * FROM notices WHERE client_id = $1 AND position >= $3 AND",
                "SELECT id AS position, 0 AS nonce, event_id, type, at, size, bookings, keys, cents, details FROM notices"
                " WHERE client_id = $1 AND id >= $3 AND",
            ),
        ),
        "tests/boxoffice/notices/test_reading.py",
        "commits_late or fifty_writers",
    ),
    Mutant(
        "places in the order of transactions",
        (
            (
                "boxoffice/notices/reading.py",
                "row_number() OVER (ORDER BY id) AS place",
                "row_number() OVER (ORDER BY xmin::text::bigint) AS place",
            ),
            (
                "boxoffice/notices/reading.py",
                "FROM (SELECT id FROM notices WHERE position IS NULL",
                "FROM (SELECT id, xmin FROM notices WHERE position IS NULL",
            ),
        ),
        "tests/boxoffice/notices/test_reading.py",
        "older_transaction",
    ),
    Mutant(
        "a cursor of any history",
        (("boxoffice/notices/reading.py", 'row["seen"]) != cursor.nonce:', 'row["seen"]) is None:'),),
        "tests/boxoffice/notices/test_reading.py",
        "lost_history",
    ),
    Mutant(
        "a group that is told of its neighbour's booking",
        (("boxoffice/books/notices.py", "({bookings})[last - size + 1:last]", "({bookings})[last - size:last - 1]"),),
        "tests/boxoffice/books/test_notices.py",
        "settled_batch",
    ),
    Mutant(
        "payments that are told by the list of what is due",
        (("boxoffice/books/notices.py", "None if keys == due else keys", "None"),),
        "tests/boxoffice/books/test_notices.py",
        "settled_batch",
    ),
    Mutant(
        "a payment that waits is told of again and again",
        (("boxoffice/books/notices.py", "if group[4] is None or group[4:6] == stood:", "if False:"),),
        "tests/boxoffice/books/test_notices.py",
        "waits_is_told_once",
    ),
    Mutant(
        "captures of a list that is gone, told to the shop of another",
        (
            (
                "boxoffice/books/payments.py",
                "HAVING count(client_id) = cardinality($2::bigint[])",
                "HAVING count(client_id) = count(*)",
            ),
        ),
        "tests/boxoffice/books/test_notices.py",
        "list_that_is_gone",
    ),
    Mutant(
        "a reader who shares a round of places that began before it came",
        (("boxoffice/notices/reading.py", "self._flying, self._next = self._next, None", "self._flying = self._next"),),
        "tests/boxoffice/notices/test_reading.py",
        "who_read_share",
    ),
    Mutant(
        "a reader who is refused while somebody hangs with the places",
        (("boxoffice/notices/reading.py", "if sqlstate(error) != LOCK_NOT_AVAILABLE:", "if True:"),),
        "tests/boxoffice/notices/test_reading.py",
        "nobody_waits_for_who_hangs",
    ),
    Mutant(
        "a cursor inside a row that was let go",
        (("boxoffice/notices/reading.py", "and cursor.within < ALL_READ):", "and False):"),),
        "tests/boxoffice/notices/test_reading.py",
        "inside_a_row",
    ),
    Mutant(
        "retention that lets go of any old notice",
        (("boxoffice/books/trim.py", "bool_or(at >= {_OLD}) OVER (ORDER BY position)", "at >= {_OLD}"),),
        "tests/boxoffice/books/test_trim.py",
        "in_their_order",
    ),
    Mutant(
        "a wait that never looks once it listens",
        (
            (
                "boxoffice/bookings/waiting.py",
                "        if self._news.listen(booking, wait):\n            self.look_at(wait)\n",
                "        self._news.listen(booking, wait)\n",
            ),
        ),
        "tests/boxoffice/bookings/test_waiting.py",
        "before_anybody_listened",
    ),
    Mutant(
        "a lost subscription that nobody hears of",
        (("boxoffice/stores/news.py", "                self._tell_all(shard)\n", "                pass\n"),),
        "tests/boxoffice/bookings/test_waiting.py",
        "lost_subscription or while_the_subscription",
    ),
    Mutant(
        "a silent server that is trusted for ever",
        (("boxoffice/stores/news.py", "                if pinged:\n", "                if False:\n"),),
        "tests/boxoffice/stores/test_news.py",
        "says_nothing",
    ),
    Mutant(
        "a stream that misses what happens while it begins",
        (
            (
                "api/streams/bookings.py",
                "            self.bookings.read(self)\n\n    def leave",
                "            pass\n\n    def leave",
            ),
        ),
        "tests/api/streams/test_bookings.py",
        "while_it_begins",
    ),
    Mutant(
        "a stream that is not read again",
        (
            (
                "api/streams/bookings.py",
                "        except Unavailable:\n            self._read_later(stream)\n",
                "        except Unavailable:\n            pass\n",
            ),
        ),
        "tests/api/streams/test_bookings.py",
        "read_again",
    ),
    Mutant(
        "a wait that does not look again",
        (("boxoffice/bookings/waiting.py", "            self.look_at(wait)\n\n\n", "            pass\n\n\n"),),
        "tests/boxoffice/bookings/test_waiting.py",
        "looks_again",
    ),
    Mutant(
        "a holder that takes another one along",
        (("api/streams/readers.py", "self._holders.get(whose) is holder:", "whose in self._holders:"),),
        "tests/api/streams/test_readers.py",
        "never_began",
    ),
    Mutant(
        "a revoked key whose streams go on",
        (("api/streams/readers.py", '                    stream.end("revoked")\n', "                    pass\n"),),
        "tests/api/streams/test_readers.py",
        "revoked",
    ),
    Mutant(
        "a batch of which nobody hears",
        (("lua/confirm.lua", 'publish(gate, "C" .. table.concat(ids))\n', ""),),
        "tests/boxoffice/stores/test_news.py",
        "one_message",
    ),
    Mutant(
        "any shop books any event",
        (("boxoffice/admission/admission.py", "if not found[0].sold_by(client):", "if False:"),),
        "tests/api/test_ownership.py",
        "who_sees",
    ),
    Mutant(
        "any shop reads any event",
        (("api/answers.py", "        if not event.sold_by(client):\n            raise NotFound\n", ""),),
        "tests/api/test_ownership.py",
        "who_sees",
    ),
    Mutant(
        "any shop lists any event",
        (("api/routes/events.py", " if event.sold_by(client)]", "]"),),
        "tests/api/test_ownership.py",
        "who_sees",
    ),
    Mutant(
        "any shop reads a copy of any event",
        (("api/answers.py", "if event is None or not event.sold_by(caller.client):", "if event is None:"),),
        "tests/api/test_events_conditional.py",
        "may_not_see",
    ),
    Mutant(
        "what one shop may take, shown to another",
        (("boxoffice/wire/event_copies.py", 'whose = client if left.reserved else ""', 'whose = ""'),),
        "tests/api/test_events_conditional.py",
        "another_one_may_take",
    ),
    Mutant(
        "an old copy, shown to who has just changed the event",
        (("boxoffice/sales/catalogue.py", "            self._enter(msgspec.structs.replace(view))\n", ""),),
        "tests/api/test_events_conditional.py",
        "ones_own",
    ),
    Mutant(
        "a capacity that is shown as it was counted before",
        (
            (
                "boxoffice/sales/control.py",
                "            self._published(view)  # once more: there are other counts\n",
                "",
            ),
        ),
        "tests/boxoffice/wire/test_event_copies.py",
        "another_capacity",
    ),
    Mutant(
        "a feed of everybody's notices",
        (
            (
                "boxoffice/notices/reading.py",
                "WHERE client_id = $1 AND position >= $3",
                "WHERE $1::text IS NOT NULL AND position >= $3",
            ),
        ),
        "tests/api/test_feed.py",
        "its_own_alone",
    ),
    Mutant(
        "a long poll that never looks again",
        (("boxoffice/notices/watch.py", "            while self._waiters:\n", "            if self._waiters:\n"),),
        "tests/api/test_feed.py",
        "once_there_is_something",
    ),
    Mutant(
        "a long poll that misses what was told before it came",
        (
            (
                "boxoffice/notices/watch.py",
                "        self._from = min(self._from, position)\n        if",
                "        self._from = self._from if self._task else position\n        if",
            ),
        ),
        "tests/boxoffice/notices/test_watch.py",
        "nobody_looked",
    ),
    Mutant(
        "a client that has gone and waits on",
        (("api/transport/gone.py", "        self._task.cancel()\n", ""),),
        "tests/api/test_feed.py",
        "who_has_gone",
    ),
    Mutant(
        "declined payments that nobody looks at",
        (("lua/admit.lua", "local declined = of.suspect\n", "local declined = nil\n"),),
        "tests/lua/test_declines.py",
        "booking_after",
    ),
    Mutant(
        "declined payments that nobody is seen to have",
        (("lua/decline.lua", "if most and count > most", "if false"),),
        "tests/lua/test_declines.py",
        "booking_after",
    ),
    Mutant(
        "a customer who comes for the first time each time",
        (("boxoffice/admission/newcomers.py", "        seen.add(customer)\n", ""),),
        "tests/boxoffice/admission/test_newcomers.py",
        "so_often",
    ),
    Mutant(
        "who was over a limit is, though the window has ended",
        (
            ("boxoffice/admission/over.py", "        if now >= self.until_s:\n", "        if False:\n"),
            ("boxoffice/admission/over.py", "    if now >= ends.earliest:\n", "    if False:\n"),
        ),
        "tests/boxoffice/admission/test_over.py",
        "until_the_window_ends",
    ),
    Mutant(
        "who was over a limit is refused until it must have ended, not until it may have",
        (
            ("boxoffice/admission/over.py", "    if now >= ends.earliest:\n", "    if now >= ends.latest:\n"),
            ("boxoffice/admission/over.py", "max(self.until_s, ends.earliest)", "max(self.until_s, ends.latest)"),
        ),
        "tests/boxoffice/admission/test_over.py",
        "until_the_window_ends",
    ),
    Mutant(
        "who was over a limit is, though the script lets in",
        (("boxoffice/admission/over.py", "elif self.until_s and result == CREATED:", "elif False:"),),
        "tests/boxoffice/admission/test_over.py",
        "asked_again",
    ),
    Mutant(
        "who was over a limit is over any other",
        (
            (
                "boxoffice/admission/over.py",
                "(shard, allowance.api_key, allowance.key_max)",
                "(shard, allowance.api_key, None)",
            ),
        ),
        "tests/api/test_over_limits.py",
        "was_raised",
    ),
    Mutant(
        "a repeat that is refused, as its key is known to be over its limit",
        (("api/pipeline.py", "self.next_check) if used else Refusal", "self.next_check) if False else Refusal"),),
        "tests/api/test_over_limits.py",
        "without_the_script",
    ),
    Mutant(
        "a repeat that is refused, as nobody can say whether it is one",
        (("boxoffice/admission/first_uses.py", '[b"nobody knows"]', "[None]"),),
        "tests/boxoffice/admission/test_first_uses.py",
        "nobody_can_say",
    ),
    Mutant(
        "a hold that is paid whatever was declined",
        (("lua/pay.lua", "if terms then\n", "if false then\n"),),
        "tests/lua/test_declines.py",
        "hold_is_not_paid",
    ),
    Mutant(
        "a thief who is asked for all at once",
        (("boxoffice/settlement/declines.py", "len(under_way) >= most", "False"),),
        "tests/boxoffice/settlement/test_declines.py",
        "all_at_once",
    ),
    Mutant(
        "a stolen card that is charged on and on",
        (("boxoffice/settlement/authorising.py", "isinstance(card, str) and await", "False and await"),),
        "tests/boxoffice/gateway/stripe/test_stripe_office.py",
        "declined_too_often",
    ),
    Mutant(
        "a hold that pays for what no gateway heard of",
        (("boxoffice/bookings/holds.py", ".attempts_max + self._unasked(held)", ".attempts_max"),),
        "tests/boxoffice/settlement/test_declines.py",
        "no_gateway_heard_of",
    ),
    Mutant(
        "a flood that nobody sees",
        (
            (
                "boxoffice/admission/flood.py",
                "            self.is_on, self._burst_s = True, burst_s\n",
                "            return\n",
            ),
        ),
        "tests/api/transport/test_overload.py",
        "nobody_foresaw",
    ),
    Mutant(
        "a flood that is answered in the turn that reads it",
        (
            (
                "api/transport/turns.py",
                "        self._sent_away.append(request)\n        return request\n",
                "        request.answer()\n        return request\n",
            ),
        ),
        "tests/api/transport/test_turns.py",
        "told_so_when_the_turn_ends",
    ),
    Mutant(
        "a flood that clients in step keep up",
        (
            (
                "boxoffice/admission/flood.py",
                " or took_s * came <= ENOUGH * passed_s",
                " or took_s * came <= 0 * passed_s",
            ),
        ),
        "tests/boxoffice/admission/test_flood.py",
        "could_have_been",
    ),
    Mutant(
        "a flood that is told so in one go, while those who were let in wait",
        (("api/transport/turns.py", "min(SENT_AWAY_EACH, len(self._sent_away))", "len(self._sent_away)"),),
        "tests/api/transport/test_turns.py",
        "so_many_are_told",
    ),
    Mutant(
        "a flood in which all time is taken by sending away",
        (("api/transport/turns.py", " and not (FLOOD.is_on and self._let_in * LET_IN_EACH < self._came)", ""),),
        "tests/api/transport/test_turns.py",
        "lets_in_what",
    ),
    Mutant(
        "one that cannot be told it was sent away, and a loop that reads nobody any more",
        (
            (
                "api/transport/turns.py",
                "popleft().answer()\n            except Exception as error:",
                "popleft().answer()\n            except OSError as error:",
            ),
        ),
        "tests/api/transport/test_turns.py",
        "stops_nobodys_turn",
    ),
    Mutant(
        "a payment that is sent away like a new booking",
        (("api/transport/turns.py", "PAST_MOST if _PAYS.match(target) else PAST_MOST // 2", "0"),),
        "tests/api/transport/test_sent_away.py",
        "in_already_is_let_in",
    ),
    Mutant(
        "a repeat that is told 429 by a server that has forgotten its booking",
        (
            (
                "boxoffice/admission/first_uses.py",
                'await self._here.call("read", records=[name for name, _ in waiting]).send(self._redis)',
                'await self._redis.execute_command("MGET", *[name for name, _ in waiting])',
            ),
        ),
        "tests/boxoffice/admission/test_first_uses.py",
        "may_have_forgotten",
    ),
    Mutant(
        "a booking of the lane that is let in however many come",
        (("api/transport/lane.py", "if not self.turns.lets_in(self.loop):", "if False:"),),
        "tests/api/transport/test_lane.py",
        "before_it_is_looked_at",
    ),
    Mutant(
        "a booking in the trace of the request before it",
        (
            (
                "api/transport/lane.py",
                "step.allowance, request.trace\n",
                "step.allowance, request.trace or current.get()\n",
            ),
        ),
        "tests/api/test_tracing.py",
        "right_behind",
    ),
    Mutant(
        "a trace that cannot be kept, and with it nothing of its batch",
        (
            (
                "boxoffice/books/traces.py",
                "        raise TracesLost from error\n",
                "        raise\n",
            ),
        ),
        "tests/boxoffice/telemetry/test_traces_of_bookings.py",
        "hold_up_no_booking",
    ),
    Mutant(
        "deadlines that one mistake ends for all",
        (("api/transport/watch.py", "_look_at(connection, loop.time())", "connection.look(loop.time())"),),
        "tests/api/transport/test_watch.py",
        "keeps_nobody",
    ),
    Mutant(
        "a turn that everybody has in one request's name",
        (
            (
                "api/transport/turns.py",
                "loop.call_soon(self._next, context=self._context)\n        return",
                "loop.call_soon(self._next)\n        return",
            ),
        ),
        "tests/api/transport/test_turns.py",
        "nobodys_name",
    ),
    Mutant(
        "drops of a request that are read at once",
        (("api/transport/slowing.py", "self._slow(self.turns.piece(self.loop.time()))", "pass"),),
        "tests/api/transport/test_connection_turns.py",
        "drops",
    ),
    Mutant(
        "thousands of connections that are looked at in one go",
        (("api/transport/watch.py", "for _ in range(min(SLICE, len(left))):", "for _ in range(len(left)):"),),
        "tests/api/transport/test_watch.py",
        "few_at_a_time",
    ),
    Mutant(
        "money set aside that nobody asks for again",
        (
            (
                "boxoffice/settlement/declines.py",
                "owner not in declined or not _is_fresh(claim, known, tried)",
                "owner not in declined",
            ),
        ),
        "tests/boxoffice/settlement/test_declines.py",
        "asked_for_again",
    ),
    Mutant(
        "an attempt that no limit counts",
        (("lua/admit.lua", "rates[who], rates_spent = rates[who] + 1, true", "rates_spent = true"),),
        "tests/lua/test_rates.py",
    ),
    Mutant(
        "attempts of a window that is over",
        (("lua/lib/rates.lua", "found[1] == began and tonumber", "tonumber"),),
        "tests/lua/test_rates.py",
        "new_window",
    ),
    Mutant(
        "a window by the clock of the API",
        (
            (
                "boxoffice/admission/forms.py",
                "window_ms - self._reply.now_ms % window_ms",
                'window_ms - __import__("time").time_ns() // 1_000_000 % window_ms',
            ),
        ),
        "tests/boxoffice/admission/test_rates.py",
        "what_is_left",
    ),
    Mutant(
        "a booking over its limit that takes tickets",
        (("lua/admit.lua", "  if result then\n", '  if result and result[1] ~= "rate_limited" then\n'),),
        "tests/lua/test_rates.py",
        "so_often",
    ),
    Mutant(
        "a repeat that is refused for its rate",
        (
            (
                "lua/admit.lua",
                "  local earlier = admitted_under[",
                "  local over = rate_limited(of, owner_of[b], rates, rates_began, rate_window_ms)\n"
                "  if over then\n    return over\n  end\n"
                "  local earlier = admitted_under[",
            ),
        ),
        "tests/lua/test_rates.py",
        "repeat",
    ),
    Mutant(
        "attempts that every disk hears of",
        (("lua/lib/rates.lua", "redis.set_repl(redis.REPL_NONE)", "redis.set_repl(redis.REPL_ALL)"),),
        "tests/lua/test_rates.py",
        "no_file",
    ),
    Mutant(
        "what a code got is counted call by call, not in the script",
        (
            (
                "lua/admit.lua",
                "      used[code] = used[code] + of.tickets\n",
                "",
            ),
        ),
        "tests/lua/test_codes.py",
        "more_tickets",
    ),
    Mutant(
        "a code does not get its tickets back",
        (("lua/lib/whose.lua", '(code and "k" .. code or "")', '""'),),
        "tests/lua/test_codes.py",
        "go_back_to_their_code",
    ),
    Mutant(
        "a failed booking keeps the tickets of its code",
        (("lua/settle.lua", "{ whose_of(owner, raw), items, -1 }", "{ owner, items, -1 }"),),
        "tests/lua/test_codes.py",
        "go_back_to_their_code",
    ),
    Mutant(
        "a refund keeps the tickets of its code",
        (("boxoffice/money/refunds.py", "    owner = ids.owners_of(owner, found.access_code, found.client)\n", ""),),
        "tests/boxoffice/sales/test_codes.py",
        "hold_to_its_refund",
    ),
    Mutant(
        "a rebuild forgets what codes got",
        (("boxoffice/books/bought.py", "    for row in by_code:\n", "    for row in by_code[:0]:\n"),),
        "tests/boxoffice/sales/test_codes.py",
        "counts_codes_anew",
    ),
    Mutant(
        "a revoked code lets in",
        (("lua/lib/code_terms.lua", 'if packed == "x" then', "if false then"),),
        "tests/lua/test_codes.py",
        "lets_in",
    ),
    Mutant(
        "what is reserved is everybody's",
        (("lua/lib/takeable.lua", "available - tier.reserved", "available"),),
        "tests/lua/test_allocations.py",
        "holder_alone",
    ),
    Mutant(
        "what a holder takes stays reserved",
        (
            (
                "lua/admit.lua",
                "        draw(aside, of.client, of.coded and sub(ARGV[sale.codes_at + code], 2), line.quantity)\n",
                "",
            ),
        ),
        "tests/lua/test_allocations.py",
        "allocation_first",
    ),
    Mutant(
        "a shop's tickets that come back are not counted",
        (("lua/lib/count_owned.lua", 'if shop ~= "" then', "if false then"),),
        "tests/lua/test_allocations.py",
        "set_aside_again",
    ),
    Mutant(
        "a refund keeps what its shop had",
        (("boxoffice/ids.py", '@{client}" if access_code else f"{owner}@{client}"', '" if access_code else owner'),),
        "tests/boxoffice/sales/test_allocations.py",
        "lost_it",
    ),
    Mutant(
        "a part that is released twice by a repeat",
        (
            (
                "boxoffice/sales/allocations.py",
                "event = await self._control.lock(connection, event_id, by, if_version)\n            rows, row",
                "event = await self._control.lock(connection, event_id, by)\n            rows, row",
            ),
        ),
        "tests/boxoffice/sales/test_allocations.py",
        "part_is_released",
    ),
    Mutant(
        "what was sold meanwhile is told to be reserved",
        (("boxoffice/sales/allocations.py", '        if grown and found["lacking"]:\n', "        if False:\n"),),
        "tests/boxoffice/sales/test_allocations.py",
        "taken_meanwhile",
    ),
    Mutant(
        "a capacity that is taken from a partner",
        (("lua/shrink.lua", "available + before - reserved", "available + before"),),
        "tests/lua/test_allocations.py",
        "no_capacity",
    ),
    Mutant(
        "a rebuild forgets what shops have",
        (("boxoffice/books/bought.py", "for whose in (owner, f\"@{row['client_id']}\"):", "for whose in (owner,):"),),
        "tests/boxoffice/sales/test_allocations.py",
        "lost_it",
    ),
    Mutant(
        "a code is stored as it reads",
        (("boxoffice/wire/requests.py", "    return ids.code_digest(code)\n", "    return code\n"),),
        "tests/api/test_codes.py",
        "presale",
    ),
    Mutant(
        "a share that no process hears of",
        (("boxoffice/sales/loading.py", '        shops=tuple(event["shops"]),\n', ""),),
        "tests/boxoffice/sales/test_sharing.py",
        "taken_back",
    ),
    Mutant(
        "a revoked key that a load brings back",
        (("lua/grant.lua", "revision_of(view) >= revision_of(there)", "true"),),
        "tests/boxoffice/access/test_key_mirror.py",
        "looked_before",
    ),
    Mutant(
        "a key that PostgreSQL shall have forgotten stays good",
        (
            (
                "boxoffice/repair/rebuild.py",
                "        if accept_postgres:\n            await self._loader.withdraw_keys(self.shard)\n",
                "",
            ),
        ),
        "tests/boxoffice/access/test_key_mirror.py",
        "only_where_postgresql_is_accepted",
    ),
    Mutant(
        "every key is withdrawn with those that PostgreSQL has forgotten",
        (
            (
                "boxoffice/access/key_mirror.py",
                "if prefix not in known and msgspec",
                "if msgspec",
            ),
        ),
        "tests/boxoffice/access/test_key_mirror.py",
        "are_withdrawn_and_no_other",
    ),
    Mutant(
        "a part of the keys taken for all",
        (("lua/grant.lua", 'if not version and ARGV[1] == "0" then', "if false then"),),
        "tests/boxoffice/access/test_key_mirror.py",
        "come_back",
    ),
    Mutant(
        "a revoked key believed for as long as its secret",
        (
            (
                "boxoffice/access/api_keys.py",
                "            if now >= self._believed_until:\n                return None\n",
                "",
            ),
        ),
        "tests/boxoffice/access/test_api_keys.py",
        "two_seconds",
    ),
    Mutant(
        "an expired key that stays good while it is remembered",
        (("boxoffice/access/api_keys.py", "min(self.cache_s, left_s)", "self.cache_s"),),
        "tests/boxoffice/access/test_api_keys.py",
        "expires",
    ),
    Mutant(
        "an expired key that is good again when it is asked for",
        (("boxoffice/access/api_keys.py", " or left_s <= 0:", ":"),),
        "tests/boxoffice/access/test_api_keys.py",
        "expires",
    ),
    Mutant(
        "a page that only begins like one that is allowed",
        (
            (
                "boxoffice/access/return_urls.py",
                "startswith(f\"{allowed.path.rstrip('/')}/\")",
                "startswith(allowed.path)",
            ),
        ),
        "tests/boxoffice/access/test_return_urls.py",
        "what_is_not",
    ),
    Mutant(
        "a page of another port",
        (("boxoffice/access/return_urls.py", "place[:3] != allowed[:3]", "place[:2] != allowed[:2]"),),
        "tests/boxoffice/access/test_return_urls.py",
        "what_is_not",
    ),
    Mutant(
        "a booking that goes wherever it says",
        (
            (
                "api/pipeline.py",
                "            check_return_url(order.return_url, caller.return_urls)\n",
                "            pass\n",
            ),
        ),
        "tests/api/test_return_urls.py",
        "where_its_shop_is_allowed",
    ),
    Mutant(
        "a booking that goes where it is not allowed, if there are tickets",
        (
            (
                "boxoffice/admission/forms.py",
                "                add(form.barred and form.barred())\n            else:",
                "                add(None)\n            else:",
            ),
        ),
        "tests/api/test_return_urls.py",
        "allowed_no_more",
    ),
    Mutant(
        "a list by change that goes up to now",
        (
            (
                "boxoffice/bookings/listing.py",
                "SELECT least(now() - interval '100 milliseconds', min(xact_start)) FROM",
                "SELECT coalesce(now(), min(xact_start)) FROM",
            ),
        ),
        "tests/boxoffice/bookings/test_listing.py",
        "still_being_written or copy_is_kept",
    ),
    Mutant(
        "a scope that nobody looks at on the lane",
        (("api/pipeline.py", "if _SCOPE not in caller.scopes or passage.headers.origin", "if passage.headers.origin"),),
        "tests/api/test_rights.py",
        "good_a_moment_ago or its_scope",
    ),
    Mutant(
        "a scope that nobody looks at when a key is looked up",
        (
            (
                "api/pipeline.py",
                "caller.client, caller\n    caller.check(_SCOPE, passage.headers.origin)\n",
                "caller.client, caller\n",
            ),
        ),
        "tests/api/test_pipeline.py",
        "without_the_scope",
    ),
    Mutant(
        "a key for every page",
        (("boxoffice/access/scopes.py", "if origin is not None and self.origins and", "if False and"),),
        "tests/boxoffice/access/test_scopes.py",
    ),
    Mutant(
        "a request before its body is there",
        (("api/transport/reader.py", "        return not self._left\n", "        return True\n"),),
        "tests/api/transport/test_wire.py",
        "does_not_come",
    ),
    Mutant(
        "bookings taken by their shape whatever their length",
        (("api/transport/lane.py", "len(body) != int(found[shape.length_at])\n            or ", ""),),
        "tests/api/transport/test_fuzz.py",
    ),
    Mutant(
        "two readings of a header",
        (("api/transport/head.py", "    if len(by_name) < len(headers):\n", "    if False:\n"),),
        "tests/api/transport/test_wire.py",
        "otherwise_is_refused",
    ),
    Mutant(
        "an extension without its seconds",
        (("boxoffice/wire/hold_requests.py", "    extra_s: int\n", "    extra_s: int = 600\n"),),
        "tests/api/test_holds.py",
        "lost_body",
    ),
    Mutant(
        "no state guard in settle",
        (("lua/settle.lua", 'elseif state ~= "P" or key ~= payment_key then', "elseif key ~= payment_key then"),),
        "tests/lua/test_settle.py",
        "stale_when_somebody_settled",
    ),
    Mutant(
        "no payment guard in settle",
        (("lua/settle.lua", 'elseif state ~= "P" or key ~= payment_key then', 'elseif state ~= "P" then'),),
        "tests/lua/test_settle.py",
        "paid_anew",
    ),
    Mutant(
        "confirmed whatever the record is now",
        (("lua/confirm.lua", "if record ~= ARGV[before + 2 * b] then", "if not record then"),),
        "tests/lua/test_confirm.py",
        "another or twice",
    ),
    Mutant(
        "confirmed whatever the record was when it was claimed",
        (
            (
                "boxoffice/settlement/mirror.py",
                '        and record.state == "P"\n        and not (record.deadline_ms',
                "        and not (record.deadline_ms",
            ),
        ),
        "tests/boxoffice/settlement/test_mirror.py",
        "record_alone",
    ),
    Mutant(
        "neighbours for what may have killed its workers",
        (("boxoffice/settlement/draining.py", "lapsed = any(map(_lapses, claims))", "lapsed = False"),),
        "tests/boxoffice/settlement/test_draining.py",
        "neighbour",
    ),
    Mutant(
        "unordered row locks",
        (
            (
                "boxoffice/books/inventory.py",
                "ORDER BY tier_id FOR NO KEY UPDATE",
                "ORDER BY random() FOR NO KEY UPDATE",
            ),
        ),
        "tests/boxoffice/settlement/test_several_workers.py",
        "never_deadlock",
    ),
    Mutant(
        "stock returned before the commit",
        (
            (
                "boxoffice/settlement/committing.py",
                "        listed = await rows.write(",
                "        await self.mirror.tell(decisions, batch.done)\n        listed = await rows.write(",
            ),
        ),
        "tests/boxoffice/settlement/test_failures.py",
        "middle_of_a_commit",
    ),
    Mutant(
        "a lease of nothing",
        (("lua/claim.lua", "now_ms + lease_ms +", "now_ms + 0 * lease_ms +"),),
        "tests/lua/test_claim.py",
        "leases_what_is_due",
    ),
    Mutant(
        "the gate ignored",
        (("lua/admit.lua", "local closed = shut(gate)", "local closed = nil"),),
        "tests/lua/test_admit.py",
        "closed_gate",
    ),
    Mutant(
        "the bell cleared by a claim that found work",
        (("lua/claim.lua", "local lapses, worst = {}, 0", 'redis.call("DEL", bell)\nlocal lapses, worst = {}, 0'),),
        "tests/lua/test_claim.py",
        "found_work_leaves_the_bell",
    ),
    Mutant(
        "the bell cleared outside the claim",
        (
            ("lua/claim.lua", 'redis.call("DEL", bell)\n  return {}', "return {}"),
            (
                "boxoffice/settlement/claims.py",
                "        if not reply:\n",
                "        if not reply:\n            await self.here.redis.delete(keys.bell(self._shard))\n",
            ),
        ),
        "tests/lua/test_claim.py",
        "clears_the_bell or lost",
    ),
    Mutant(
        "one doorbell id for all rings",
        (("lua/lib/ring.lua", 'string.format("%d", redis.call("INCR", rings))', '"1"'),),
        "tests/lua/test_admit.py",
        "id_of_its_own",
    ),
    Mutant(
        "a recount without holds",
        (("lua/reconcile.lua", "ipairs({ pending, dead, deadlines })", "ipairs({ pending, dead })"),),
        "tests/lua/test_reconcile.py tests/boxoffice/repair/test_reconcile.py",
    ),
    Mutant(
        "strays stay where they are",
        (("lua/gather.lua", 'if (state == "P" or state == "H") and', "if false and"),),
        "tests/lua/test_gather.py tests/boxoffice/repair/test_rebuild.py",
        "put_back or in_no_set",
    ),
    Mutant(
        "only the first tier is checked",
        (
            (
                "lua/lib/shortage.lua",
                "if left < line.quantity then",
                "if left < line.quantity and line == of.lines[1] then",
            ),
        ),
        "tests/lua/test_admit.py tests/invariants/test_model.py",
        "sold_out or real_server",
    ),
    Mutant(
        "captured whatever amount was set aside",
        (
            (
                "boxoffice/settlement/deciding.py",
                "if (amount_cents, currency.upper()) != ",
                "if False and (amount_cents, currency) != ",
            ),
        ),
        "tests/boxoffice/settlement/test_deciding.py",
        "another_amount",
    ),
    Mutant(
        "decided again by what was known before",
        (("boxoffice/settlement/committing.py", "            ready = ready._replace(known=known)\n", ""),),
        "tests/boxoffice/settlement/test_committing.py",
        "tried_five_times",
    ),
    Mutant(
        "a released booking loses its card",
        (
            (
                "boxoffice/settlement/deciding.py",
                "return Payload(charge, outcome, None,",
                "return Payload(None, outcome, None,",
            ),
        ),
        "tests/boxoffice/settlement/test_failures.py",
        "keeps_its_cards",
    ),
    Mutant(
        "a released booking forgets that its payment was asked for",
        (("boxoffice/settlement/deciding.py", "or not (tried or claim.lapses):", "or True:"),),
        "tests/boxoffice/bookings/test_holds.py tests/boxoffice/bookings/test_cancelling_holds.py",
        "may_have_been_asked",
    ),
    Mutant(
        "nobody looks again under the lock",
        (("boxoffice/settlement/committing.py", "        await rows.recheck(connection, records, ready.known)\n", ""),),
        "tests/boxoffice/bookings/test_holds.py tests/boxoffice/bookings/test_cancelling_holds.py",
        "an_old_worker_changes_nothing",
    ),
    Mutant(
        "a refund under a new key each time",
        (
            (
                "boxoffice/money/refund_pump.py",
                "attempt_key(due.refund_key, due.attempt)",
                "f'{due.refund_key}{due.tries}'",
            ),
        ),
        "tests/invariants/test_money_crashes.py",
        "refund_due",
    ),
    Mutant(
        "a second attempt under the key of the first",
        (
            (
                "boxoffice/money/owed.py",
                'return f"{refund_key}-{attempt}" if attempt else refund_key',
                "return refund_key",
            ),
        ),
        "tests/boxoffice/money/test_owed.py",
        "refuses_once",
    ),
    Mutant(
        "an answer is written down whichever attempt it is to",
        (
            (
                "boxoffice/books/refunds.py",
                "WHERE refund_key = $1 AND status = 'due' AND attempt = $2 {_MOVED}, payment_key",
                "WHERE refund_key = $1 AND status = 'due' AND attempt >= $2 {_MOVED}, payment_key",
            ),
        ),
        "tests/boxoffice/money/test_owed.py",
        "earlier_attempt",
    ),
    Mutant(
        "a refusal is written down whichever attempt it is of",
        (("boxoffice/money/reversals.py", '== ("due", refused.attempt):', '>= ("due", 0):'),),
        "tests/boxoffice/money/test_owed.py",
        "overtaken or earlier_attempt",
    ),
    Mutant(
        "a refusal is believed before the gateway's list was read",
        (
            (
                "boxoffice/money/refund_pump.py",
                "await take_in(connection, due.payment_key, seen, RefusedAttempt",
                "await take_in(connection, due.payment_key, Reversals(), RefusedAttempt",
            ),
        ),
        "tests/boxoffice/money/test_reversals.py",
        "nobody_told_of",
    ),
    Mutant(
        "a refund of the dashboard does not pay what is owed",
        (("boxoffice/money/reversals.py", 'if row.status == "owed" and row.before[0] == "owed":', "if False:"),),
        "tests/boxoffice/money/test_reversals.py",
        "pays_what_is_owed",
    ),
    Mutant(
        "a refund of the dashboard that failed fails once more when another attempt has paid it",
        (("boxoffice/money/reversals.py", "    if row.attempt:\n", "    if False:\n"),),
        "tests/boxoffice/money/test_reversals.py",
        "dashboard_that_fails_later",
    ),
    Mutant(
        "another attempt at a refund of the dashboard is somebody else's refund",
        (
            (
                "boxoffice/money/reversals.py",
                '    if row is None or not (number == ""',
                '    if row is None or row.origin != "shop" or not (number == ""',
            ),
        ),
        "tests/boxoffice/money/test_owed_apart.py",
        "second_attempt_at_a_refund_of_the_dashboard",
    ),
    Mutant(
        "a refund that fails late stays succeeded",
        (
            (
                "boxoffice/money/reversals.py",
                'if attempt >= row.attempt and row.status in ("due", "pending", "succeeded"):',
                'if attempt >= row.attempt and row.status in ("due", "pending"):',
            ),
        ),
        "tests/boxoffice/money/test_reversals.py",
        "days_later",
    ),
    Mutant(
        "each try moves the time since when it is due",
        (
            (
                "boxoffice/books/payments.py",
                "interval '1 millisecond', due_since = coalesce(due_since, updated_at)",
                "interval '1 millisecond', due_since = now()",
            ),
        ),
        "tests/boxoffice/money/test_patience.py",
        "from_the_beginning",
    ),
    Mutant(
        "a repeated error is believed",
        (
            (
                "boxoffice/gateway/stripe/answers.py",
                "return isinstance(error, stripe.IdempotencyError) or replayed(error.headers)",
                "return False",
            ),
        ),
        "tests/boxoffice/gateway/stripe/test_stripe.py",
        "repeated_error",
    ),
    Mutant(
        "another key while the first request is at work",
        (("boxoffice/gateway/stripe/answers.py", "    if error.http_status == 409:\n        return False\n", ""),),
        "tests/boxoffice/gateway/stripe/test_stripe.py",
        "key_in_use",
    ),
    Mutant(
        "two attempts of one refund may both pay",
        (
            (
                "boxoffice/gateway/stripe/reversals.py",
                "if key and first_key(key) == first_key(refund_key) and",
                "if key and key == refund_key and",
            ),
        ),
        "tests/boxoffice/gateway/test_contract.py",
        "another_attempt",
    ),
    Mutant(
        "late money that a sale has by now is let go",
        (("boxoffice/money/pump.py", "if not await self.is_to_be_voided(due.payment_key):", "if False:"),),
        "tests/boxoffice/money/test_late.py",
        "overtakes",
    ),
    Mutant(
        "what a class of errors says of a row is believed",
        (("boxoffice/settlement/outage.py", "            if self._settled_at <= since:", "            if False:"),),
        "tests/boxoffice/settlement/test_outages.py",
        "nothing_meets or 22000",
    ),
    Mutant(
        "an error that is on no list is the booking's",
        (("boxoffice/settlement/outage.py", "return sqlstate(error)[:2] in _ROW_CLASSES", "return True"),),
        "tests/boxoffice/settlement/test_outages.py",
        "reason_that_is_no_rows",
    ),
    Mutant(
        "claimed while PostgreSQL refuses",
        (("boxoffice/settlement/outage.py", "            return self.begin(error)", "            self.begin(error)"),),
        "tests/boxoffice/settlement/test_outages.py",
        "nothing_is_claimed",
    ),
    Mutant(
        "tried again in the same sessions",
        (
            (
                "boxoffice/settlement/outage.py",
                "                await self._database.renew_all()",
                "                pass",
            ),
        ),
        "tests/boxoffice/settlement/test_outages.py",
        "read-only",
    ),
    Mutant(
        "leases that lapsed in an outage count",
        (("boxoffice/settlement/claims.py", "and not self.outage.within(", "and not (lambda _: False)("),),
        "tests/boxoffice/settlement/test_outages.py",
        "lapsed_in_an_outage",
    ),
    Mutant(
        "a gateway that fails for everybody is each booking's fault",
        (
            (
                "boxoffice/settlement/outage.py",
                "            if not self.answered_after(since):",
                "            if False:",
            ),
        ),
        "tests/boxoffice/settlement/test_outages.py",
        "gateway_that_fails",
    ),
    Mutant(
        "the audit believes what it read a moment ago",
        (
            (
                "boxoffice/repair/payments_audit.py",
                "            row = (await self.our_rows([record.payment_key], grace_s)).get(record.payment_key)\n",
                "",
            ),
        ),
        "tests/boxoffice/repair/test_payments_audit.py",
        "meanwhile",
    ),
    Mutant(
        "the audit asks the gateway once",
        (("boxoffice/repair/payments_audit.py", "if what and not await self.is_on_its_way(record):", "if what:"),),
        "tests/boxoffice/repair/test_payments_audit.py",
        "meanwhile",
    ),
    Mutant(
        "a log that raises",
        (
            (
                "boxoffice/telemetry/sink.py",
                "return written, errno.errorcode.get(error.errno or 0, type(error).__name__)",
                "raise",
            ),
        ),
        "tests/boxoffice/telemetry/test_sink.py tests/invariants/test_logs.py",
        "full_disk or dead_reader",
    ),
    Mutant(
        "a value without a text is an error of the log",
        (
            (
                "boxoffice/telemetry/log.py",
                "        except Exception as error:\n            line =",
                "        except ZeroDivisionError as error:\n            line =",
            ),
        ),
        "tests/boxoffice/telemetry/test_log.py",
        "cannot_be_told",
    ),
    Mutant(
        "a log that waits for whoever reads it",
        (("boxoffice/telemetry/sink.py", "        if not poll.poll(wait_ms):\n            return 0\n", ""),),
        "tests/boxoffice/telemetry/test_sink.py",
        "reading_holds_nobody_up",
    ),
    Mutant(
        "a worker that outlives its loops",
        (("worker/app.py", "await asyncio.wait([stopping, *tasks],", "await asyncio.wait([stopping],"),),
        "tests/invariants/test_logs.py",
        "one_of_whose_tasks_ends",
    ),
    Mutant(
        "a worker that ends in the middle of a ring",
        (("worker/doorbell.py", "            await _finish_ring(worker, office.clock)\n", ""),),
        "tests/invariants/test_crashes.py",
        "answers_the_ring",
    ),
    Mutant(
        "a supervisor that ends with a full disk",
        (
            (
                "ops/stack/supervisor.py",
                "        except Exception as error:\n            with",
                "        except CannotRun as error:\n            with",
            ),
        ),
        "tests/ops/stack/test_stack.py",
        "does_not_end_the_keeper",
    ),
    Mutant(
        "a PostgreSQL that forgot decides",
        (("boxoffice/stores/fence.py", "WHERE shard = $1 AND NOT EXISTS (SELECT FROM lost)", "WHERE shard = $1"),),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "decides_nothing",
    ),
    Mutant(
        "a repair believes a PostgreSQL that forgot",
        (("boxoffice/repair/reconcile.py", "if fenced:", "if False:"),),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "decides_nothing",
    ),
    Mutant(
        "money moves on a PostgreSQL that forgot",
        (("boxoffice/money/pump.py", "if not await self.refunds.check_fence():", "if False:"),),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "decides_nothing",
    ),
    Mutant(
        "a repair tells without a pair",
        (("boxoffice/repair/reconcile.py", "await fence.last_batch(connection, self.shard) if fix else None", "None"),),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "tells_with_a_pair",
    ),
    Mutant(
        "a cancellation is told without a pair",
        (("boxoffice/books/moves.py", "await last_batch(connection, here.number) if moves else None", "None"),),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "told_with_its_pair",
    ),
    Mutant(
        "a shop is told of a cancellation that nobody would miss",
        (("boxoffice/money/mirror.py", "if pair and await fence.lost(self._database, shard, [pair]):", "if False:"),),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "redis_was_not_told",
    ),
    Mutant(
        "numbers without nonces",
        (
            (
                "boxoffice/stores/fence.py",
                "AND b.number = told.number AND b.nonce = told.nonce",
                "AND b.number = told.number",
            ),
        ),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "another_line_of_history",
    ),
    Mutant(
        "bookings are written again without tickets",
        (("boxoffice/books/rewrite.py", "all(left.get(tier, 0) >= n for tier, n in _net(row).items())", "True"),),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "does_not_fit",
    ),
    Mutant(
        "lost refunds get another key",
        (
            (
                "boxoffice/money/refunds.py",
                "for key, (note, tickets) in came_back(notes).items():\n",
                "for key, (note, tickets) in came_back(notes).items():\n                key = ids.short_id()\n",
            ),
        ),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "lost_cancellation",
    ),
    Mutant(
        "nobody notices that PostgreSQL forgot",
        (
            ("boxoffice/repair/guard.py", "    if sight.lost:\n", "    if False:\n"),
            ("boxoffice/stores/fence.py", "WHERE shard = $1 AND NOT EXISTS (SELECT FROM lost)", "WHERE shard = $1"),
            (
                "boxoffice/stores/fence.py",
                "        if await lost(connection, shard.number, await told(shard)):",
                "        if False:",
            ),
            ("boxoffice/repair/tools.py", "lost = await fence.lost(", "lost = 0 * await fence.lost("),
        ),
        "tests/invariants/test_standby.py",
        "0.9",
    ),
    Mutant(
        "a duplicate is authorised",
        (
            (
                "boxoffice/settlement/deciding.py",
                "        elif standing is DUPLICATE:\n",
                "        elif False:\n",
            ),
        ),
        "tests/boxoffice/settlement/test_deciding.py",
        "who_used_the_key_first",
    ),
    Mutant(
        "a refund's fingerprint without its items",
        (
            (
                "boxoffice/ids.py",
                'return digest("all" if items is None else ",".join(f"{tier}:{count}" for tier, count in lines), reason)[:16]',
                "return digest(str(sum(count for _, count in lines)), reason)[:16]",
            ),
        ),
        "tests/boxoffice/money/test_refunds.py",
        "what_it_was_used_for",
    ),
    Mutant(
        "a free booking is sent to the gateway",
        (
            ("boxoffice/settlement/authorising.py", " or not record.body.amount_cents:", ":"),
            (
                "boxoffice/settlement/deciding.py",
                "    if not body.amount_cents:\n        return _weigh_free",
                "    if False:\n        return _weigh_free",
            ),
        ),
        "tests/boxoffice/bookings/test_free.py",
        "with_or_without_a_card",
    ),
    Mutant(
        "only the latest payment of a hold is a repeat",
        (("boxoffice/bookings/holds.py", "for attempt in held.payload.earlier:", "for attempt in ():"),),
        "tests/boxoffice/bookings/test_hold_payments.py",
        "tells_how_it_went",
    ),
    Mutant(
        "a hold is paid whatever was tried meanwhile",
        (("lua/pay.lua", "elseif raw ~= seen then", "elseif false then"),),
        "tests/boxoffice/bookings/test_hold_payments.py",
        "at_once_in_any_order",
    ),
    Mutant(
        "moves named by an id that comes again",
        (("boxoffice/books/moves.py", 'return f"{self.id}-{self.nonce}"', 'return f"{self.id}-0"'),),
        "tests/boxoffice/books/test_moves.py",
        "come_again",
    ),
    Mutant(
        "a full redis keeps its holds",
        (("lua/cancel.lua", "-- Flags: allow-oom", "--"),),
        "tests/invariants/test_redis_trouble.py",
        "lets_go_of_holds",
    ),
    Mutant(
        "a cancellation that redis hears of later",
        (("boxoffice/money/mirror.py", "await finals.correct(connection, [booking], say=False)", "pass"),),
        "tests/boxoffice/books/test_moves.py",
        "read_after_a_cancellation",
    ),
    Mutant(
        "sold from counters that were lost",
        (("lua/load.lua", 'redis.call("HDEL", sale, unpack(hidden))', ""),),
        "tests/lua/test_load.py",
        "counters_are_gone",
    ),
    Mutant(
        "a hold that comes back while the clock is put right is missed",
        (("boxoffice/stores/rewind.py", "in (holds, pending, dead, pending, holds):", "in (holds, pending, dead):"),),
        "tests/boxoffice/repair/test_rewinding.py",
        "is_not_missed",
    ),
    Mutant(
        "a redis that was filled again knows of no refunds",
        (
            (
                "boxoffice/repair/rebuild.py",
                "            await remember_applied(self._here, connection, since)\n        return",
                "        return",
            ),
        ),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "redis_had_forgotten",
    ),
    Mutant(
        "an older redis that was checked knows of no refunds",
        (
            (
                "boxoffice/repair/rebuild.py",
                "            await remember_applied(self._here, connection, since)\n            events",
                "            events",
            ),
        ),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "redis_had_forgotten",
    ),
    Mutant(
        "counters are mended without telling of which commits",
        (
            (
                "boxoffice/repair/reconcile.py",
                "self.shard) if fix else None",
                "self.shard) if endings or moves else None",
            ),
        ),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "redis_had_forgotten",
    ),
    Mutant(
        "whoever hangs up is waited for",
        (("api/transport/connection.py", "            self.turns.unpace()\n", ""),),
        "tests/api/transport/test_slow_clients.py",
        "hangs_up_keeps_nobody",
    ),
    Mutant(
        "whoever cancels keeps an empty redis shut",
        (
            (
                "boxoffice/stores/fence.py",
                "CASE WHEN $5 THEN now() ELSE settled_at END",
                "CASE WHEN $5 OR true THEN now() END",
            ),
        ),
        "tests/boxoffice/repair/test_guard.py",
        "gives_back_meanwhile",
    ),
    Mutant(
        "an empty redis takes over while somebody settles elsewhere",
        (("boxoffice/settlement/committing.py", "batch.told, settles=True)", "batch.told)"),),
        "tests/boxoffice/repair/test_guard.py",
        "empty_redis_is_filled",
    ),
    Mutant(
        "sold from counters that began at zero",
        (("lua/load.lua", " and h >= 0 and c >= 0 and a + h + c == t", ""),),
        "tests/lua/test_load.py",
        "counted_from_nothing or do_not_add_up",
    ),
    Mutant(
        "an event that readers know is new when its customers are gone, too",
        (("lua/load.lua", ' or redis.call("HEXISTS", catalogue, event) == 1', ""),),
        "tests/lua/test_load.py",
        "readers_know",
    ),
    Mutant(
        "nobody is asked for what redis lost",
        (
            ("boxoffice/admission/forms.py", "            lacking()\n", "            pass\n"),
            (
                "boxoffice/sales/catalogue.py",
                "                    self.lacking.met(shard)\n",
                "                    pass\n",
            ),
            (
                "boxoffice/access/api_keys.py",
                "                await ask_to_load(self.redis, KEYS_SHARD)\n",
                "                pass\n",
            ),
        ),
        "tests/invariants/test_redis_trouble.py",
        "misses_it",
    ),
    Mutant(
        "a hold of the future keeps its deadline",
        (("lua/rewind.lua", "if undecided and ahead_ms > 0 then", "if false then"),),
        "tests/boxoffice/repair/test_rewinding.py",
        "lasts_its_length",
    ),
    Mutant(
        "a clock that went back is not noticed",
        (("boxoffice/bookings/holds.py", "if int(back_ms) > STEP_MS:", "if False:"),),
        "tests/boxoffice/repair/test_rewinding.py",
        "is_due",
    ),
    Mutant(
        "more tickets refunded while some are owed",
        (
            (
                "boxoffice/money/terms.py",
                "            raise RefundOwed(tier_id=tier, owed_cents=cents)",
                "            pass",
            ),
        ),
        "tests/boxoffice/money/test_owed.py",
        "comes_before",
    ),
    Mutant(
        "a refund under another key behind a server error",
        (("boxoffice/gateway/stripe/reversals.py", "if answers.did_nothing(error):", "if True:"),),
        "tests/boxoffice/gateway/stripe/test_stripe.py",
        "may_yet_appear or something_else_pays",
    ),
    Mutant(
        "both stores may change at once",
        (("boxoffice/repair/guard.py", "if sight.promoted and not sight.redis_lacks_nothing:", "if False:"),),
        "tests/boxoffice/repair/test_guard.py",
        "both_changed",
    ),
    Mutant(
        "strays of other installations are let go",
        (
            (
                "boxoffice/repair/payments_audit.py",
                "if row is None and record.installation not in (None, self._ours_is):",
                "if False:",
            ),
            (
                "boxoffice/repair/payments_audit.py",
                "return not self._gateway.signs or record.installation == self._ours_is",
                "return True",
            ),
        ),
        "tests/boxoffice/gateway/stripe/test_stripe_office.py",
        "other_installations or bears_no_name",
    ),
    Mutant(
        "who is at the bank is counted by nobody",
        (("lua/lib/is_unpaid.lua", """ or string.find(payload, '"s":"requires_action"', 1, true) ~= nil""", ""),),
        "tests/lua/test_unpaid.py",
        "at_the_bank",
    ),
    Mutant(
        "a shop's own words say that its customer is at the bank",
        (("lua/lib/is_unpaid.lua", """string.match(record, "^.*\\n(.*)$") or record""", "record"),),
        "tests/lua/test_reconcile.py tests/lua/test_restore.py",
        "words_of_a_shop",
    ),
    Mutant(
        "confirmed past the count of who was at the bank",
        (("boxoffice/settlement/mirror.py", " or record.at_bank)", ")"),),
        "tests/boxoffice/admission/test_unpaid.py",
        "waits_for_the_bank",
    ),
    Mutant(
        "a booking of the future waits for it",
        (("lua/claim.lua", "> horizon_ms then", "> 2 * horizon_ms then"),),
        "tests/lua/test_claim.py",
        "clock_was_ahead",
    ),
    Mutant(
        "another run decides",
        (("lua/lib/gate.lua", 'return "unchecked"', "return nil"),),
        "tests/lua/test_gate.py tests/invariants/test_old_redis.py",
        "nothing_is_decided or decided_by_nobody or not_expired or not_forgotten or promoted",
    ),
    Mutant(
        "final records stay wrong",
        (("boxoffice/books/finals.py", "        if not wrong:\n", "        if True:\n"),),
        "tests/invariants/test_old_redis.py",
        "mend_corrects or not_confirmed_again",
    ),
    Mutant(
        "forgotten payments stay forgotten",
        (("lua/restore.lua", "if not raw or forgot then", "if not raw then"),),
        "tests/invariants/test_old_redis.py",
        "not_forgotten",
    ),
    Mutant(
        "an unchecked redis is believed by readers",
        (
            ("boxoffice/bookings/reading.py", "record is None or shut or _newer(row, record)", "record is None"),
            (
                "boxoffice/bookings/reading.py",
                "if is_fresh(record, self._epoch_ns) and not shut:",
                "if is_fresh(record, self._epoch_ns):",
            ),
        ),
        "tests/invariants/test_old_redis.py",
        "decided_by_nobody",
    ),
    Mutant(
        "another price than the customer saw is let in",
        (("lua/admit.lua", "or of.price ~= (of.expected or of.price) then", "then"),),
        "tests/lua/test_admit.py",
        "expects_it_to_cost",
    ),
    Mutant(
        "prices that moved against each other pass for what they were",
        (("lua/lib/examine.lua", "of.outdated = of.outdated or tier.price ~= line.price", "of.outdated = false"),),
        "tests/lua/test_admit.py",
        "moved_against_each_other",
    ),
    Mutant(
        "what is sold for good may come back",
        (("boxoffice/sales/refusals.py", '"may_return": held[tier] > 0,', '"may_return": True,'),),
        "tests/boxoffice/sales/test_refusals.py",
    ),
    Mutant(
        "the repeat of what has ended was made just now",
        (("api/answers.py", "_STATUSES.get(admitted.status, 200)", "_STATUSES.get(admitted.status, 202)"),),
        "tests/api/test_repeats.py",
        "what_the_booking_is",
    ),
    Mutant(
        "a changed hold keeps what it gave up",
        (("lua/change.lua", '  redis.call("HINCRBY", sale_key, "a:" .. tier, quantity)\n', ""),),
        "tests/lua/test_change.py",
        "moves_the_difference",
    ),
    Mutant(
        "a change counts no difference for its customer",
        (
            (
                "lua/change.lua",
                '  count_owned(owners, whose_of(record.owner, record.tail), table.concat(differences, ","), 1)\n',
                "",
            ),
        ),
        "tests/lua/test_change.py",
        "moves_the_difference",
    ),
    Mutant(
        "a change is held against no customer limit",
        (("lua/change.lua", " or breaks_customer()\n", "\n"),),
        "tests/lua/test_change.py",
        "customer_limit or rules_of_the_sale",
    ),
    Mutant(
        "a change takes what is not left",
        (("lua/change.lua", "if left < line.quantity then", "if false then"),),
        "tests/lua/test_change.py",
        "sold_out",
    ),
    Mutant(
        "a swap gives nothing up",
        (("lua/change.lua", "count_given_up(owners, client, back, false)\n", ""),),
        "tests/lua/test_change.py",
        "given_up_as_by",
    ),
    Mutant(
        "a change of what somebody has changed meanwhile",
        (("lua/change.lua", "elseif raw ~= seen then", "elseif false then"),),
        "tests/lua/test_change.py tests/boxoffice/admission/test_changes.py",
        "another_by_now or same_time",
    ),
    Mutant(
        "a repeated change is made again",
        (("lua/change.lua", 'local before = redis.call("HGET", changes, key)', "local before = nil"),),
        "tests/lua/test_change.py tests/boxoffice/admission/test_changes.py",
        "repeated or repeat or one_key",
    ),
    Mutant(
        "a hold is changed after its deadline",
        (
            (
                "lua/change.lua",
                'elseif record.state ~= "H" or tonumber(record.deadline_ms) <= now_ms then',
                'elseif record.state ~= "H" then',
            ),
        ),
        "tests/lua/test_change.py",
        "deadline_on",
    ),
    Mutant(
        "postgresql is told of no change",
        (("boxoffice/admission/changes.py", "            await self._rows.write(record.id)\n", "            pass\n"),),
        "tests/boxoffice/admission/test_changes.py",
        "postgresql_knows or same_row",
    ),
    Mutant(
        "a change is read before its row is locked",
        (("boxoffice/books/bookings.py", "AND status = 'held' FOR UPDATE", "AND status = 'held'"),),
        "tests/boxoffice/admission/test_changes.py",
        "same_row",
    ),
    Mutant(
        "a changed hold is sold with the items that it had",
        (
            (
                "boxoffice/books/rows.py",
                "for decision in again if decision.claim.record.deadline_ms]",
                "for decision in again if False]",
            ),
        ),
        "tests/boxoffice/admission/test_changes.py",
        "missed",
    ),
    Mutant(
        "only a hold that says it was changed is sold with the items that it has",
        (
            (
                "boxoffice/books/rows.py",
                "for decision in again if decision.claim.record.deadline_ms]",
                "for decision in again if decision.claim.record.changed]",
            ),
        ),
        "tests/boxoffice/books/test_items.py",
        "other_items",
    ),
    Mutant(
        "items are rewritten before their booking is locked",
        (
            (
                "boxoffice/books/items.py",
                "    await connection.execute(_LOCK, [record.id for record in records])\n",
                "",
            ),
        ),
        "tests/boxoffice/books/test_items.py",
        "one_after_the_other",
    ),
    Mutant(
        "nobody tells postgresql of a change that it missed",
        (("boxoffice/repair/mend.py", "                await self._rows.write(hold.id)\n", "                pass\n"),),
        "tests/boxoffice/repair/test_mend.py",
        "nobody_could",
    ),
    Mutant(
        "a forgotten payment counts the items of before",
        (("lua/restore.lua", "if counted and old.items ~= new.items then", "if false then"),),
        "tests/lua/test_restore.py",
        "takes_what_it_was_for",
    ),
    Mutant(
        "a quick check leaves a hold that has ended with other items",
        (
            (
                "boxoffice/repair/rebuild.py",
                "changed = await self._end_changed(connection, ended)",
                "changed: set[str] = set()",
            ),
        ),
        "tests/boxoffice/repair/test_rebuild.py",
        "puts_right_the_items_of_what_has_ended",
    ),
    Mutant(
        "a quick check leaves a hold that has ended, whatever tells of it",
        (
            (
                "boxoffice/repair/rebuild.py",
                "changed = await self._end_changed(connection, ended)",
                "changed: set[str] = set()",
            ),
            (
                "boxoffice/repair/survey.py",
                "decided.update(await queries.events_of_final(connection, some))",
                "pass",
            ),
        ),
        "tests/invariants/test_old_redis.py",
        "though_no_counter_differs",
    ),
    Mutant(
        "a final record keeps the items that an older redis had",
        (("lua/restore.lua", "      and old.items ~= ends.items then\n", "      and false then\n"),),
        "tests/lua/test_restore.py",
        "ended_with_other_items",
    ),
    Mutant(
        "an expired hold stays counted as unpaid",
        (("lua/lib/give_back.lua", "  count_unpaid(owners, record.owner, client, -tickets)\n", ""),),
        "tests/lua/test_unpaid.py tests/boxoffice/admission/test_unpaid.py",
        "gives_back_once or lock_up",
    ),
    Mutant(
        "a paid hold stays counted as unpaid",
        (("lua/settle.lua", "if is_unpaid(deadline, sub(raw, payload_at)) then", "if false then"),),
        "tests/lua/test_unpaid.py tests/invariants/test_model.py",
        "until_it_is_final or real_server",
    ),
    Mutant(
        "unpaid tickets are compared outside the batch",
        (("lua/admit.lua", "sale.unpaid[who] = sale.unpaid[who] + of.tickets", "sale.unpaid[who] = sale.unpaid[who]"),),
        "tests/lua/test_unpaid.py",
        "customer_has_a_limit",
    ),
    Mutant(
        "what was never paid is remembered for a day",
        (
            (
                "lua/lib/give_back.lua",
                "  return count > tonumber(unpaid_max) and brief_ttl_s or unpaid_ttl_s",
                "  return ttl_s",
            ),
        ),
        "tests/boxoffice/admission/test_unpaid.py",
        "forgotten or memory",
    ),
    Mutant(
        "whoever gives up a sale may have it again",
        (("lua/lib/too_much_unpaid.lua", "  if of.given_up_max then\n", "  if false then\n"),),
        "tests/boxoffice/admission/test_given_up.py",
        "locked_up_once",
    ),
    Mutant(
        "a given-up hold is not counted",
        (("lua/lib/give_back.lua", "  count_given_up(owners, client, record.items, false)\n", ""),),
        "tests/boxoffice/admission/test_given_up.py",
        "locked_up_once",
    ),
    Mutant(
        "a payment of a hold that ends is not counted",
        (("lua/settle.lua", "  sale.ended[#sale.ended + 1] = { client_of(raw), items, sold }\n", ""),),
        "tests/boxoffice/admission/test_given_up.py",
        "never_limited or at_bank",
    ),
    Mutant(
        "a hold that is paid for and refunded stays paid for",
        (("lua/move.lua", "tickets - 10 * sold_delta", "tickets"),),
        "tests/boxoffice/admission/test_given_up.py",
        "refunded",
    ),
    Mutant(
        "a repair forgets what was given up",
        (("lua/reconcile.lua", 'if string.sub(who, 1, 2) == "g:" then', "if false then"),),
        "tests/boxoffice/admission/test_given_up.py",
        "repairs",
    ),
    Mutant(
        "what was given up is never forgotten",
        (("lua/lib/given_up.lua", " or age_ms >= 86400000 then", " then"),),
        "tests/lua/test_given_up.py",
        "forgotten",
    ),
    Mutant(
        "a credit without bounds",
        (("lua/lib/count_given_up.lua", "math.max(-100, tickets + weight * quantity)", "tickets + weight * quantity"),),
        "tests/lua/test_given_up.py",
        "old_credit",
    ),
    Mutant(
        "one refund of a booking is enough",
        (("boxoffice/money/refunds.py", "came_back(notes).items():", "reversed(list(came_back(notes).items())[:1]):"),),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "in_parts or some_tickets",
    ),
    Mutant(
        "a refund whose failure was forgotten is not looked at",
        (
            (
                "boxoffice/repair/recovery.py",
                "        await looks.ask_for(self._database, list(found.notes.keys() | set(found.cancelled)))\n",
                "",
            ),
        ),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "failure_was_forgotten",
    ),
    Mutant(
        "what redis heard by half is all",
        (("boxoffice/books/moves.py", 'row["all_items"] or "",', '"",'),),
        "tests/boxoffice/repair/test_recovery.py tests/boxoffice/repair/test_lost_commits.py",
        "by_half",
    ),
    Mutant(
        "a durability that nobody can read is believed",
        (
            (
                "boxoffice/stores/durability.py",
                "    if unread and RANK.get(believed, 0) < RANK[level]:\n",
                "    if False:\n",
            ),
        ),
        "tests/boxoffice/stores/test_durability.py",
        "hidden_configuration",
    ),
    Mutant(
        "any statement of durability is enough",
        (("boxoffice/stores/durability.py", "RANK.get(believed, 0) < RANK[level]", "not believed"),),
        "tests/boxoffice/stores/test_durability.py",
        "hidden_configuration",
    ),
    Mutant(
        "a statement outweighs what was read",
        (
            (
                "boxoffice/stores/durability.py",
                "if name in source and source[name] not in good:",
                "if name in source and source[name] not in good and not believed:",
            ),
        ),
        "tests/boxoffice/stores/test_durability.py",
        "changes_while_it_runs",
    ),
    Mutant(
        "what INFO shows is not looked at",
        (
            (
                "boxoffice/stores/durability.py",
                "    for source in (configured, info):\n",
                "    for source in (configured,):\n",
            ),
        ),
        "tests/boxoffice/stores/test_durability.py",
        "memory_only",
    ),
    Mutant(
        "a PostgreSQL that hides its settings is believed",
        (("boxoffice/stores/durability.py", "    if unread and not believed:\n", "    if False:\n"),),
        "tests/boxoffice/stores/test_durability.py",
        "postgresql_does_not_tell",
    ),
    Mutant(
        "amounts in hundredths, whatever the currency",
        (("boxoffice/currencies.py", "divmod(abs(amount), 10**digits)", "divmod(abs(amount), 100)"),),
        "tests/boxoffice/test_currencies.py",
        "amount_for_people",
    ),
    Mutant(
        "Stripe counts as ISO 4217 does",
        (("boxoffice/gateway/stripe/currencies.py", "digits = _digits(currency) - exponent(currency)", "digits = 0"),),
        "tests/boxoffice/test_currencies.py",
        "how_stripe_counts",
    ),
    Mutant(
        "an event whose currency the gateway cannot charge",
        (
            (
                "boxoffice/gateway/factory.py",
                'return currencies.why_not(amount_cents, currency) if settings.gateway.kind == "stripe" else ""',
                'return ""',
            ),
        ),
        "tests/boxoffice/test_currencies.py",
        "event_that_the_gateway_cannot_charge",
    ),
    Mutant(
        "an event in a currency that does not exist",
        (("boxoffice/sales/checks.py", "if not is_currency(currency):", "if False:"),),
        "tests/boxoffice/test_currencies.py",
        "currency_that_exists",
    ),
    Mutant(
        "our wrong settings are the card's decline",
        (("boxoffice/gateway/stripe/answers.py", '    return code or "invalid_request"\n', '    return ""\n'),),
        "tests/boxoffice/money/test_misconfigured.py",
        "wrong_with_us_waits",
    ),
    Mutant(
        "commands ask the gateway of their shell",
        (("ops/stack/running.py", "for name, value in settings.items():", "for name, value in ():"),),
        "tests/ops/stack/test_stack.py",
        "adopt_the_settings",
    ),
    Mutant(
        "half of the running stack's gateway is adopted",
        (
            (
                "ops/stack/running.py",
                "other_gateway = any(environ.get(name) for name in _GATEWAY)",
                "other_gateway = False",
            ),
        ),
        "tests/ops/stack/test_stack.py",
        "no_half_of_another",
    ),
    Mutant(
        "an audit at another ledger finds nothing there",
        (
            (
                "boxoffice/repair/payments_audit.py",
                "if found and not any(same_books(name, books) for name in found):",
                "if False:",
            ),
        ),
        "tests/boxoffice/money/test_accounts.py",
        "another_ledger",
    ),
    Mutant(
        "rows of another gateway count as unknown to ours",
        (
            (
                "boxoffice/repair/payments_audit.py",
                """                if not same_books(row["gateway"], self._gateway.books):
                    self.others""",
                """                if False:
                    self.others""",
            ),
        ),
        "tests/boxoffice/money/test_accounts.py",
        "listed_apart",
    ),
    Mutant(
        "what is due at another gateway is asked of ours",
        (
            (
                "boxoffice/gateway/accounts.py",
                '"(gateway = ANY({0}::text[]) OR starts_with(gateway, {1}))"',
                '"(gateway = ANY({0}::text[]) OR starts_with(gateway, {1}) OR true)"',
            ),
        ),
        "tests/boxoffice/money/test_accounts.py",
        "due_at_another_gateway",
    ),
    Mutant(
        "tickets of a tier that a customer never gets back",
        (
            (
                "lua/lib/count_owned.lua",
                'with_items(redis.call("HGET", tiers, owner) or "", items, times)',
                'with_items(redis.call("HGET", tiers, owner) or "", items, math.max(0, times))',
            ),
        ),
        "tests/lua/test_rules.py",
        "given_back",
    ),
    Mutant(
        "tickets that a customer never gets back",
        (
            (
                "lua/lib/give_back.lua",
                "  count_owned(owners, whose_of(record.owner, record.tail), record.items, -1)\n",
                "",
            ),
        ),
        "tests/lua/test_rules.py",
        "given_back",
    ),
    Mutant(
        "a refund that counts against its customer",
        (("lua/move.lua", 'count_owned(owners, owner, tier .. ":" .. ARGV[2], 1)', "local _ = count_owned"),),
        "tests/lua/test_rules.py",
        "given_back",
    ),
    Mutant(
        "a tier's count of a customer that is read before the call, not in it",
        (
            (
                "lua/admit.lua",
                "    sale.by_tier[owner] = by_tier and with_items(by_tier, of.items, 1) or of.items\n",
                "    sale.by_tier[owner] = of.items\n",
            ),
        ),
        "tests/lua/test_rules.py",
        "one_after_the_other",
    ),
    Mutant(
        "a customer's tickets by tier that no recount makes good",
        (("lua/reconcile.lua", '    redis.call("HSET", owned_tiers_key(owners), owner, by_tier)\n', ""),),
        "tests/lua/test_rules.py tests/lua/test_reconcile.py",
        "earlier_version or counted_anew",
    ),
    Mutant(
        "an audit that looks at no tiers of customers",
        (("ops/rush/stock_checks.py", "        _compare(event, by_tier, expected[event], findings)\n", ""),),
        "tests/ops/rush/test_audit.py",
        "of_a_tier",
    ),
    Mutant(
        "an audit that asks nobody for too many tickets",
        (("ops/rush/limit_checks.py", "        _check_sums(has, agreed, finding)\n", ""),),
        "tests/ops/rush/test_limit_checks.py",
        "who_has_more_is_found",
    ),
    Mutant(
        "late money that forgets its customer's limit",
        (("lua/revive.lua", "if is_outside(owned + tickets, 0,", "if false and is_outside(owned + tickets, 0,"),),
        "tests/lua/test_rules.py",
        "late_money_gives_nobody",
    ),
    Mutant(
        "a window that somebody else's clock opens",
        (
            (
                "lua/lib/examine.lua",
                "  elseif opens_ms > now_ms and not of.coded then",
                "  elseif opens_ms > now_ms + 2 * 3600000 and not of.coded then",
            ),
        ),
        "tests/lua/test_windows.py",
        "within_its_window",
    ),
    Mutant(
        "pause not looked at in the script",
        (
            ("lua/lib/examine.lua", 'elseif sale.on == "p" then', 'elseif sale.on == "never" then'),
            ("lua/lib/examine.lua", 'elseif sale.on ~= "1" then', 'elseif sale.on ~= "1" and sale.on ~= "p" then'),
        ),
        "tests/lua/test_windows.py",
        "paused_sale",
    ),
    Mutant(
        "capacity set instead of moved",
        (
            (
                "boxoffice/sales/capacity.py",
                "        delta = wanted\n        if wanted < 0:",
                "        delta = wanted\n        if False:",
            ),
        ),
        "tests/boxoffice/sales/test_control.py",
        "shrinks_no_further",
    ),
    Mutant(
        "a move that is on its way loaded as well",
        (("boxoffice/sales/loading.py", 'tier["total"] - tier["on_its_way"]', 'tier["total"]'),),
        "tests/boxoffice/sales/test_control.py",
        "not_loaded_as_well",
    ),
    Mutant(
        "an older state loaded behind a newer one",
        (
            ("boxoffice/sales/loading.py", "some, careful=True", "some"),
            ("lua/load.lua", "if later > version_of(view) then", "if false then"),
        ),
        "tests/boxoffice/sales/test_control.py",
        "read_before_a_change",
    ),
    Mutant(
        "an older version loaded by who lost the lock",
        (("lua/load.lua", "if later > version_of(view) then", "if false then"),),
        "tests/boxoffice/sales/test_loading.py",
        "lost_the_lock",
    ),
    Mutant(
        "a shrink that takes once more with each try",
        (("lua/shrink.lua", "local before = math.max(0, total", "local before = math.min(0, total"),),
        "tests/boxoffice/sales/test_control.py",
        "tried_again_takes_once",
    ),
    Mutant(
        "a change that nobody mirrors after a crash",
        (("worker/rounds.py", "            await office.loader.publish_unmirrored(shard)\n", ""),),
        "tests/invariants/test_sale_control_crashes.py",
        "mirrored_by_a_worker",
    ),
    Mutant(
        "a total that differs left alone",
        (("boxoffice/repair/guard.py", "for event in loaded.apart:", "for event in ():"),),
        "tests/boxoffice/sales/test_control.py",
        "total_changed_by_hand",
    ),
    Mutant(
        "what PostgreSQL sold taken off a capacity",
        (("boxoffice/sales/capacity.py", "min(-wanted, total - sold)", "-wanted"),),
        "tests/boxoffice/sales/test_control.py",
        "what_postgres_sold",
    ),
    Mutant(
        "a call-off that refunds once more after a crash",
        (("boxoffice/books/call_offs.py", "        await connection.execute(_CANCEL, bookings, CALLED_OFF)\n", ""),),
        "tests/invariants/test_call_off_crashes.py",
    ),
    Mutant(
        "a refusal after the lease that leaves what another worker was told yes for",
        (("boxoffice/settlement/deciding.py", '"void" if terms.shared and', '"void" if False and'),),
        "tests/boxoffice/settlement/test_several_workers.py",
        "refuses_unasked",
    ),
    Mutant(
        "an allocation of a shop whose tickets nobody counted",
        (("boxoffice/sales/allocations.py", "                await self._shop_counts.make(shard, event_id)\n", ""),),
        "tests/boxoffice/sales/test_allocations.py",
        "before_the_first",
    ),
    Mutant(
        "a count of a whole shard for each request for an allocation",
        (
            (
                "boxoffice/sales/shop_counts.py",
                "            if event_id in self._counted:\n                return\n",
                "",
            ),
        ),
        "tests/boxoffice/sales/test_shop_counts.py",
        "share_a_count",
    ),
    Mutant(
        "a rush that does not see who takes what is set aside for another",
        (("ops/rush/allocation_checks.py", "left < min(0, before.get(tier, left))", "False"),),
        "tests/ops/rush/test_allocation_checks.py",
        "sample_finds",
    ),
    Mutant(
        "a rush that forgives whatever is missing of what is set aside",
        (("ops/rush/allocation_checks.py", "lacking := sum(row.lacking for row in heard)", "lacking := available"),),
        "tests/ops/rush/test_allocation_checks.py",
        "somebody_else",
    ),
    Mutant(
        "a move that redis could not take is marked with those beside it",
        (("boxoffice/books/moves.py", 'reply[0] in (b"moved", b"repeated")', "True"),),
        "tests/boxoffice/books/test_moves.py",
        "own_answer",
    ),
    Mutant(
        "a call-off that settlement does not see",
        (("boxoffice/books/inventory.py", "CASE WHEN called_off THEN -1 ELSE total - sold END", "total - sold"),),
        "tests/boxoffice/bookings/test_calling_off.py",
        "not_confirmed_after",
    ),
    Mutant(
        "a hold of a called off event that may be paid",
        (("lua/pay.lua", 'redis.call("HGET", sale, "on") == "x"', "false"),),
        "tests/lua/test_windows.py",
        "may_be_paid",
    ),
    Mutant(
        "a hold that an older copy has otherwise counts as it was",
        (
            (
                "lua/reconcile.lua",
                'counted == "C" and items_of(record, ending) or ""',
                'counted == "C" and record.items or ""',
            ),
        ),
        "tests/lua/test_reconcile.py",
        "other_items",
    ),
    Mutant(
        "a worker moves the tickets that an older copy has",
        (("boxoffice/settlement/deciding.py", 'if known.items not in ("", claim.record.items):', "if False:"),),
        "tests/boxoffice/repair/test_mend.py",
        "other_items and P",
    ),
    Mutant(
        "a part of the open moves is judged as if it were all",
        (("lua/reconcile.lua", "local judge = not part and (", "local judge = ("),),
        "tests/boxoffice/books/test_moves.py",
        "in_parts",
    ),
    Mutant(
        "who has lost the lock brings a revoked code back",
        (("lua/codes.lua", ") ~= ARGV[3] then", ") ~= ARGV[3] and false then"),),
        "tests/boxoffice/sales/test_codes.py",
        "lost_the_lock",
    ),
    Mutant(
        "a hold is paid at another amount than its customer saw",
        (("boxoffice/bookings/holds.py", "as_expected=expected in (None, costs)", "as_expected=True"),),
        "tests/api/test_holds.py",
        "another_amount",
    ),
    Mutant(
        "late money goes back by the amount of its row",
        (
            (
                "boxoffice/money/pump.py",
                "captured_too_late(due.payment_key, captured_cents)",
                "captured_too_late(due.payment_key, due.amount_cents)",
            ),
        ),
        "tests/boxoffice/money/test_amounts.py",
        "whatever_its_row_says",
    ),
    Mutant(
        "late money of a called off event taken",
        (("lua/revive.lua", 'redis.call("HGET", sale, "on") == "x"', "false"),),
        "tests/lua/test_holds.py",
        "called_off_event",
    ),
    Mutant(
        "a courier that has lost its lease writes on",
        (
            (
                "boxoffice/webhooks/leases.py",
                "WHERE id = $1 AND lease = $2\nRETURNING status",
                "WHERE id = $1 AND lease >= $2\nRETURNING status",
            ),
        ),
        "tests/boxoffice/webhooks/test_courier.py",
        "lost_the_lease",
    ),
    Mutant(
        "an endpoint's place moves on before it was sent what is there",
        (
            (
                "boxoffice/webhooks/courier.py",
                "place = round_.places[len(first) - 1] if first else self._place",
                "place = round_.end",
            ),
        ),
        "tests/boxoffice/webhooks/test_courier.py",
        "away_for_a_while",
    ),
    Mutant(
        "an endpoint that stopped within a row is not gone on with",
        (("boxoffice/webhooks/leases.py", "AND (e.behind\n      OR EXISTS", "AND (\n      EXISTS"),),
        "tests/boxoffice/webhooks/test_courier.py",
        "left_in_the_middle",
    ),
    Mutant(
        "a delivery that failed is done with",
        (
            (
                "boxoffice/webhooks/leases.py",
                "CASE WHEN t.delivered THEN 'delivered' ELSE 'waiting' END, t.tries,\n  CASE WHEN NOT t.delivered THEN now()",
                "CASE WHEN t.delivered THEN 'delivered' ELSE 'given_up' END, t.tries,\n  CASE WHEN false THEN now()",
            ),
        ),
        "tests/boxoffice/webhooks/test_courier.py",
        "tried_again or away_for_a_while",
    ),
    Mutant(
        "what is written of deliveries is written before them",
        (
            (
                "boxoffice/webhooks/courier.py",
                "        await self._send(every, outcomes)\n",
                "        await self._write(round_, [Outcome('', 200, None, 0.1)] * len(every))\n"
                "        await self._send(every, outcomes)\n",
            ),
        ),
        "tests/invariants/test_webhook_crashes.py",
        "notice_delivered",
    ),
    Mutant(
        "an endpoint's name may lead anywhere",
        (("boxoffice/webhooks/connecting.py", " if self._addresses.may_connect(address)]", "]"),),
        "tests/boxoffice/webhooks/test_sending.py",
        "leads_to_us or resolver_understands",
    ),
    Mutant(
        "an endpoint's name is looked up anew to connect",
        (("boxoffice/webhooks/connecting.py", "connect_tcp(address, port,", "connect_tcp(host, port,"),),
        "tests/boxoffice/webhooks/test_sending.py",
        "several_addresses",
    ),
    Mutant(
        "endpoints that fail take all places of a worker",
        (
            (
                "boxoffice/webhooks/couriers.py",
                "min(free - len(claimed), slow_free) if slow else free",
                "free - len(claimed)",
            ),
        ),
        "tests/boxoffice/webhooks/test_couriers.py",
        "leave_half",
    ),
    Mutant(
        "a secret that was replaced signs on while a courier is under way",
        (("boxoffice/webhooks/courier.py", "enabled and not changed and", "enabled and"),),
        "tests/boxoffice/webhooks/test_leases.py",
        "next_round",
    ),
    Mutant(
        "endpoints are counted by many at once",
        (("boxoffice/webhooks/endpoints.py", "                await connection.execute(_IN_TURN, client)\n", ""),),
        "tests/boxoffice/webhooks/test_endpoints.py",
        "made_at_once",
    ),
    Mutant(
        "names that hang of one shop hold every thread",
        (("boxoffice/webhooks/connecting.py", "SHOP_MAX: Final = 4", "SHOP_MAX: Final = 64"),),
        "tests/boxoffice/webhooks/test_connecting.py",
        "delays_itself_alone",
    ),
    Mutant(
        "days without a notice count as days of failing",
        (
            (
                "boxoffice/webhooks/courier.py",
                "                await leases.calm(connection, self._endpoint.id)\n",
                "                pass\n",
            ),
        ),
        "tests/boxoffice/webhooks/test_leases.py",
        "days_without",
    ),
    Mutant(
        "deliveries that are dropped while their shop is away",
        (
            (
                "boxoffice/webhooks/courier.py",
                "delivery.body, tries, outcome.delivered,",
                "delivery.body, tries, True,",
            ),
        ),
        "tests/ops/rush/test_subscribers.py",
        "who_was_away",
    ),
    Mutant(
        "a follower that keeps its cursor before the page",
        (
            (
                "ops/rush/follower.py",
                "                self.ends += 1\n",
                '                self.ends, self._cursor = self.ends + 1, page["cursor"]\n',
            ),
        ),
        "tests/ops/rush/test_subscribers.py",
        "page_in_its_hands",
    ),
    Mutant(
        "an audit that asks no shop what it has taken",
        (
            (
                "ops/rush/subscriber_checks.py",
                "    for notice in feed.keys() - taken.keys():\n",
                "    for notice in set[str]():\n",
            ),
        ),
        "tests/ops/rush/test_subscriber_checks.py",
        "a_notice_never_came",
    ),
    Mutant(
        "an audit that lets a shop hear of another's",
        (("ops/rush/subscriber_checks.py", "if notice in others or lost == 0:", "if lost == 0:"),),
        "tests/ops/rush/test_subscriber_checks.py",
        "one_of_anothers",
    ),
)


PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")


def pytest_in(folder: Path, *arguments: str) -> tuple[int, list[str], str]:
    """Its exit code, what failed, and all that it printed."""
    done = subprocess.run([*PYTEST, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    failed = [line.partition(" ")[2].split(" - ")[0] for line in lines]
    return done.returncode, failed, done.stdout


def sound(file: str, mutants: Sequence[Mutant]) -> str:
    """What fails in a file of tests while nothing is broken. Once may be chance on a busy machine; twice is none."""
    words = " or ".join(f"({mutant.only})" for mutant in mutants) if all(mutant.only for mutant in mutants) else ""
    with tempfile.TemporaryDirectory(prefix="boxoffice-mutant-") as temporary:
        folder = copy_tree(Path(temporary))
        _, failed, _ = pytest_in(folder, file, *(["-k", words] if words else []))
        if not failed:
            return ""
        code, _, said = pytest_in(folder, *failed)
    return said[-3_000:] if code else ""


def noticed(mutant: Mutant) -> tuple[bool, str]:
    """Whether a test failed on it, and pytest's last line."""
    with tempfile.TemporaryDirectory(prefix="boxoffice-mutant-") as temporary:
        folder = copy_tree(Path(temporary))
        for name, before, after in mutant.changes:
            text = (folder / name).read_text()
            if text.count(before) < 1:
                return False, f"{name} no longer says what this mutant changes"
            (folder / name).write_text(text.replace(before, after))
        only = ["-k", mutant.only] if mutant.only else []
        code, failed, said = pytest_in(folder, "-x", *mutant.tests.split(), *only)
    # 1: tests failed. Anything else (no test of that name, a crash of pytest) proves nothing.
    by = failed[0].rpartition("::")[2] if failed else (said.splitlines()[-1:] or ["?"])[0]
    return code == 1 and bool(failed) and "::" in failed[0], by


def timed(mutant: Mutant) -> tuple[Mutant, bool, str, float]:
    """The same, and how long it took."""
    start = time.monotonic()
    caught, by = noticed(mutant)
    return mutant, caught, by, time.monotonic() - start


def main() -> int:
    """Run them all, several at once, and print a table. `MUTANTS_AT_ONCE` says how many; each has a copy of its own."""
    chosen = [mutant for mutant in MUTANTS if not sys.argv[1:] or any(word in mutant.name for word in sys.argv[1:])]
    by_file: dict[str, list[Mutant]] = {}
    for mutant in chosen:
        for file in mutant.tests.split():
            by_file.setdefault(file, []).append(mutant)
    with ThreadPoolExecutor(int(os.environ.get("MUTANTS_AT_ONCE", "2"))) as pool:
        unsound = [said for said in pool.map(sound, by_file, by_file.values()) if said]
        if unsound:
            print(*unsound, "These tests fail while nothing is broken: mend that first.", sep="\n")
            return 1
        survived = 0
        for done in as_completed([pool.submit(timed, mutant) for mutant in chosen]):
            mutant, caught, by, seconds = done.result()
            survived += not caught
            print(f"{'caught  ' if caught else 'SURVIVED'}  {mutant.name:<48} {by}  {seconds:.0f} s", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} mutants were caught.")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
