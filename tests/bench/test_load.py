import asyncio
import time
from array import array

import pytest

from bench.load import NUMBER, Book, Client, LoadSpec

TEMPLATE = b"POST / HTTP/1.1\r\nKey: k-" + NUMBER + b"\r\nContent-Length: 11\r\n\r\n100% " + NUMBER[:6]


class Server:
    """Answers every request after `pause_s`; in pieces, if told to."""

    def __init__(self, *, status: bytes = b"202 Accepted", pause_s: float = 0.0, pieces: bool = False) -> None:
        self.keys: list[bytes] = []
        self._answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 4\r\n\r\nbody"
        self._pause_s = pause_s
        self._pieces = pieces

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(11)
                self.keys.append(head.split(b"Key: ")[1].split(b"\r\n")[0])
                await asyncio.sleep(self._pause_s)
                for piece in (
                    [self._answer[:20], self._answer[20:42], self._answer[42:]] if self._pieces else [self._answer]
                ):
                    writer.write(piece)
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def spec(server: Server, **more) -> LoadSpec:
    return LoadSpec(port=server.port, book="", **{"connections": 4, "seconds": 0.3, **more})


async def test_every_request_has_a_number_of_its_own():
    async with Server() as server:
        report = await Client(spec(server, count=50, first=7), Book([TEMPLATE])).run()
    assert report.issued == 50
    assert report.answers == {"202": 50}
    assert sorted(server.keys) == [b"k-%09d" % n for n in range(7, 57)]


async def test_an_answer_in_pieces_is_one_answer():
    async with Server(pieces=True) as server:
        report = await Client(spec(server, count=20), Book([TEMPLATE])).run()
    assert report.answers == {"202": 20}
    assert sum(count for _, count in report.latency) == 20


async def test_a_closed_loop_asks_again_only_when_it_was_answered():
    async with Server(pause_s=0.02) as server:
        report = await Client(spec(server), Book([TEMPLATE])).run()
    assert 4 <= report.issued <= 4 * (0.3 / 0.02 + 1)
    assert report.unanswered == 0


async def test_an_open_loop_counts_from_the_time_a_request_was_due(tmp_path):
    """One connection and a server that takes 20 ms serve 50 a second; of 100 a second the last waits the longest."""
    sent = tmp_path / "sent"
    async with Server(pause_s=0.02) as server:
        client = Client(spec(server, connections=1, rate=100.0, seconds=0.5, sent=str(sent)), Book([TEMPLATE]))
        began = time.time()
        report = await client.run()
    assert report.unanswered == 0
    assert client.latency.quantile_ms(1.0) > 200
    due = array("d")
    due.frombytes(sent.read_bytes())
    assert len(due) == report.issued
    assert list(due) == sorted(due)
    assert began <= due[0] and due[-1] < began + 1


async def test_refusals_are_counted_by_status():
    async with Server(status=b"409 Conflict") as server:
        report = await Client(spec(server, count=5), Book([TEMPLATE])).run()
    assert report.answers == {"409": 5}


async def test_a_broken_connection_is_an_answer_that_never_came():
    async def hang_up(reader, writer):
        await reader.read(10)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    report = await asyncio.wait_for(
        Client(LoadSpec(port=port, book="", connections=3, seconds=0.2), Book([TEMPLATE])).run(), 5
    )
    server.close()
    assert report.issued == report.unanswered == 3


@pytest.mark.parametrize("templates", [[b"plain 100%"], [b"a" + NUMBER, b"b"]])
def test_a_book_turns_its_pages(templates):
    book = Book(templates)
    made = [book.request(n) for n in range(2)]
    if len(templates) == 1:
        assert made == [b"plain 100%", b"plain 100%"]
    else:
        assert made == [b"a000000000", b"b"]
