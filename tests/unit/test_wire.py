"""Answers to plain HTTP requests: read right in whatever pieces they come, refused where they are odd."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domicile.backup.stores.deadlines import Deadlines
from domicile.backup.stores.wire import Answer, Wire

_OURS = {"content-length", "transfer-encoding", "connection"}
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,12}", fullmatch=True).filter(lambda name: name.lower() not in _OURS)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_categories=["Cc", "Zs"]), max_size=20)


def asked(
    answers: Sequence[bytes], requests: int, cuts: Sequence[int] = (), most: int = 1 << 20
) -> tuple[list[Answer | OSError], int]:
    """What so many requests in turn get from a server that gives these answers, and how often it was connected to.

    Answers are sent in pieces that end at ``cuts``; behind the last one the server closes.
    """
    queue, connections = list(answers), 0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            nonlocal connections
            while queue:
                connection, _ = listener.accept()
                connections += 1
                with connection:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    while queue and connection.recv(65536):
                        answer = queue.pop(0)
                        ends = sorted({cut % (len(answer) + 1) for cut in cuts} | {len(answer)})
                        for start, end in zip([0, *ends], ends, strict=False):
                            connection.sendall(answer[start:end])

        thread = threading.Thread(target=serve)
        thread.start()
        wire = Wire(f"http://127.0.0.1:{listener.getsockname()[1]}", Deadlines(5, 5, 0))
        found: list[Answer | OSError] = []
        for _ in range(requests):
            try:
                found.append(wire.ask("GET", "/", {}, most=most))
            except OSError as error:
                found.append(error)
        # Whoever still waits for a request gets none any more.
        for connection in wire._idle:
            connection.close()
        thread.join(10)
    return found, connections


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=6),
    st.binary(max_size=300),
    st.lists(st.integers(0, 700), max_size=4),
    st.integers(0, 40),
)
def test_an_answer_is_what_was_sent(headers: list[tuple[str, str]], body: bytes, cuts: list[int], chunk: int) -> None:
    said = "".join(f"{name}: {value} \r\n" for name, value in headers).encode("latin-1")
    framed = (
        b"Transfer-Encoding: chunked\r\n\r\n" + chunked(body, chunk)
        if chunk
        else b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    answer = b"HTTP/1.1 200 OK\r\n" + said + framed
    found, connections = asked([answer] * 3, 3, cuts)
    assert connections == 1
    joined: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    for each in found:
        assert isinstance(each, Answer)
        assert (each.status, each.body) == (200, body)
        assert {name: value for name, value in each.headers.items() if name not in _OURS} == joined


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 120), st.booleans())
def test_any_bytes_are_an_answer_or_an_error(noise: bytes, at: int, cut: bool) -> None:
    whole = b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: 10\r\n\r\n0123456789"
    place = at % (len(whole) + 1)
    for answer in (noise or b"\0", whole[:place] + noise + (b"" if cut else whole[place:]) or b"\0"):
        [found], _ = asked([answer], 1)
        if isinstance(found, Answer) and found.body is not None and not noise:
            assert found.body == b"0123456789"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n0123",
        b"HTTP/1.1 200 OK\nContent-Length: 4\n\n0123",
        b"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 4\r\n\r\n0123",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n0123",
        b"HTTP/2 200\r\nContent-Length: 4\r\n\r\n0123",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\n0123\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n0123\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"y" * 60_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"",
    ],
)
def test_what_is_no_whole_answer_is_an_error(answer: bytes) -> None:
    [found], _ = asked([answer], 1)
    assert isinstance(found, OSError)


@pytest.mark.parametrize(
    "framing",
    [
        b"",
        b"Content-Length: 4\r\nContent-Length: 4\r\n",
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: +4\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
    ],
)
def test_an_answer_whose_length_is_not_told_has_no_body_and_ends_its_connection(framing: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n0123"
    found, connections = asked([answer, b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"], 2)
    assert [each.status for each in found if isinstance(each, Answer)] == [200, 204]
    assert isinstance(found[0], Answer)
    assert found[0].body is None
    assert connections == 2


@pytest.mark.parametrize("more", [b"!", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil" * 3])
def test_a_connection_on_which_more_came_than_was_asked_for_is_not_used_again(more: bytes) -> None:
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
    found, connections = asked([good + more, good], 2)
    assert [each.body for each in found if isinstance(each, Answer)] == [b"good", b"good"]
    assert connections == 2


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\n01234", b"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("most", [4, 5])
def test_no_more_is_taken_than_was_asked_for(framing: bytes, most: int) -> None:
    [found], _ = asked([b"HTTP/1.1 200 OK\r\n" + framing], 1, most=most)
    assert isinstance(found, OSError) if most < 5 else isinstance(found, Answer) and found.body == b"01234"


def test_a_network_that_is_slow_but_moves_takes_what_is_sent() -> None:
    """A deadline is for standing still, however long all of it takes."""
    body = bytes(16 << 20)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        waited = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                left = len(body)
                while left > 0:
                    left -= len(connection.recv(min(left, 256 << 10)))
                    waited.wait(0.06)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        wire = Wire(f"http://127.0.0.1:{listener.getsockname()[1]}", Deadlines(5, 2.0, 0))
        assert wire.ask("PUT", "/", {}, body).status == 200
        thread.join(10)


def test_a_server_that_trickles_its_answer_is_left() -> None:
    gone = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                try:
                    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(1000):
                        connection.sendall(bytes([byte]))
                        gone.wait(0.05)
                except OSError:
                    gone.set()

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(TimeoutError, match="too slowly"):
            Wire(f"http://127.0.0.1:{listener.getsockname()[1]}", Deadlines(5, 1, 0)).ask("GET", "/", {})
        assert gone.wait(10)
        thread.join(10)


def test_what_comes_slowly_but_steadily_is_read() -> None:
    body = bytes(range(256)) * 256
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                for start in range(0, len(body), 4096):
                    connection.sendall(body[start : start + 4096])
                    threading.Event().wait(0.1)

        thread = threading.Thread(target=serve)
        thread.start()
        # 1.6 s for what may take 1 s and, at the slowest, 4 s for its 64 KiB.
        answer = Wire(f"http://127.0.0.1:{listener.getsockname()[1]}", Deadlines(5, 0.5, 0)).ask("GET", "/", {})
        thread.join(10)
    assert answer.body == body
