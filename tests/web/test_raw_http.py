"""HTTP said wrong, byte for byte: every request is answered in the one shape or cut, and the next one is served."""

import json
import re
import socket
import sqlite3
import struct
from contextlib import ExitStack, closing

import pytest
from tests.asking import (
    BROWSER,
    FORM,
    JSON,
    Answer,
    ask,
    assert_failure,
    assert_thanks,
    closes_within,
    exchange,
    post,
    read_answer,
    resident_bytes,
    sent_until_cut,
)
from tests.running import BOB, Pillarbox

PATHS = ("/api/contact", "/send-message")
LIMIT = 256 * 1024
BOBS = json.dumps(BOB).encode()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    made = Pillarbox(tmp_path_factory.mktemp("raw"))
    made.serve()
    yield made
    made.stop()


@pytest.fixture
def port(served):
    yield served.port
    assert_thanks(post(served.port, BOB))  # an honest request is answered, by the same process
    log = served.log.read_text()
    assert "request_failed" not in log
    assert "Invalid HTTP" not in log  # what anybody can send costs no line


def head(*lines: bytes, request: bytes = b"POST /api/contact HTTP/1.1") -> bytes:
    return b"\r\n".join((request, b"Host: x", b"Content-Type: application/json", *lines)) + b"\r\n\r\n"


def whole(*lines: bytes, request: bytes = b"POST /api/contact HTTP/1.1") -> bytes:
    return head(*lines, b"Content-Length: %d" % len(BOBS), request=request) + BOBS


def get(*lines: bytes) -> bytes:
    return b"\r\n".join((b"GET / HTTP/1.1", b"Host: x", *lines)) + b"\r\n\r\n"


def chunked(*pieces: bytes, request: bytes = b"POST /api/contact HTTP/1.1") -> bytes:
    return head(b"Transfer-Encoding: chunked", request=request) + b"".join(pieces)


def chunk(content: bytes) -> bytes:
    return b"%x\r\n" % len(content) + content + b"\r\n"


UNREADABLE = {
    "two Hosts": whole(b"Host: y"),
    "the same Host twice": whole(b"Host: x"),
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "a method that is none": whole(request=b"BREW /api/contact HTTP/1.1"),
    "a method in lower case": whole(request=b"post /api/contact HTTP/1.1"),
    "CONNECT": b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target in Latin-1": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "a target with a control character": b"GET /a\x0bb HTTP/1.1\r\nHost: x\r\n\r\n",
    "Content-Length: -1": head(b"Content-Length: -1") + b"{}",
    "Content-Length: +2": head(b"Content-Length: +2") + b"{}",
    "Content-Length: 2x": head(b"Content-Length: 2x") + b"{}",
    "Content-Length of a foreign digit": head(b"Content-Length: \xb2") + b"{}",
    "Content-Length without a number": head(b"Content-Length: ") + b"{}",
    "Content-Length of 26 digits": head(b"Content-Length: " + b"9" * 26) + b"{}",
    "two Content-Lengths": head(b"Content-Length: 2", b"Content-Length: 3") + b"{}",
    "the same Content-Length twice": head(b"Content-Length: 2", b"Content-Length: 2") + b"{}",
    "Content-Length beside chunks": head(b"Content-Length: 2", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "Transfer-Encoding: gzip": head(b"Transfer-Encoding: gzip"),
    "Transfer-Encoding: xchunked": head(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "chunks that are not the last coding": head(b"Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
    "chunks twice": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + chunk(BOBS) + chunk(b""),
    "chunks behind a control character": head(b"Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n",
    "a chunk without a size": chunked(b"zz\r\n{}\r\n0\r\n\r\n"),
    "a chunk of a negative size": chunked(b"-2\r\n{}\r\n0\r\n\r\n"),
    "a chunk of 2**68 bytes": chunked(b"fffffffffffffffff\r\n{}"),
    "a chunk longer than its size": chunked(b"2\r\n{}xx0\r\n\r\n"),
    "chunks with bare line feeds": chunked(b"2\n{}\n0\n\n"),
    "a chunk that breaks off behind a good one": chunked(chunk(BOBS), b"xyz\r\n"),
    "Upgrade to WebSocket": whole(b"Upgrade: websocket", b"Connection: Upgrade"),
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/3.7": b"GET / HTTP/3.7\r\nHost: x\r\n\r\n",
    "a protocol that is none": b"GET / ICE/1.0\r\nHost: x\r\n\r\n",
    "nonsense": b"nonsense\r\n\r\n",
    "NULs": b"\0\0\0\0\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a header with a blank in its name": get(b"X : y"),
    "a header without a colon": get(b"nonsense"),
    "a header without a name": get(b": y"),
    "a header with a Latin-1 name": get(b"\xdc: y"),
    "a header with a NUL": get(b"X: a\0b"),
    "a header with a bare CR": get(b"X: a\rb"),
    "a header over two lines": get(b"X: a", b" b"),
    "lines with bare line feeds": b"GET / HTTP/1.1\nHost: x\n\n",
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_request_is_told_so_in_the_one_shape(port, case):
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(UNREADABLE[case])
        assert_failure(read_answer(connection), 400, "UNREADABLE")
        connection.shutdown(socket.SHUT_WR)
        assert closes_within(connection, 10)


TOO_LONG = {
    "a header of 64 kB": whole(b"X: " + b"y" * 65_536),
    "a header of 100 kB": whole(b"X: " + b"y" * 100_000),
    "a header of 1 MB": whole(b"X: " + b"y" * 1_000_000),
    "a header of 100 kB that goes on": whole(b"X: " + b"y" * 100_000)[:90_000],
    "cookies of 64 kB": whole(b"Cookie: " + b"c=d; " * 13_200),
    "8,000 headers": whole(*(b"X-%d: y" % number for number in range(8_000))),
    "X-Forwarded-For of 10,000 entries": whole(
        b"X-Forwarded-For: " + b", ".join(b"10.0.%d.%d" % divmod(number, 256) for number in range(10_000))
    ),
    "a target of 70 kB": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("case", TOO_LONG)
def test_a_head_of_more_than_64_kb_is_refused_whether_it_comes_in_one_piece_or_not(port, case):
    assert_failure(exchange(port, TOO_LONG[case]), 431, "HEAD_TOO_LARGE")
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        for begin in range(0, len(TOO_LONG[case]), 5_000):
            connection.sendall(TOO_LONG[case][begin : begin + 5_000])
        assert_failure(read_answer(connection), 431, "HEAD_TOO_LARGE")


THANKED = {
    "200 headers": whole(*(b"X-%d: y" % number for number in range(200))),
    "a header of 60 kB": whole(b"X: " + b"y" * 60_000),
    "cookies of 60 kB": whole(b"Cookie: " + b"c=d; " * 12_000),
    "X-Forwarded-For of 10,000 short entries": whole(b"X-Forwarded-For: " + b"::1, " * 10_000),
    "X-Forwarded-For of nonsense": whole(b"X-Forwarded-For: nonsense"),
    "Accept: */*;q=x": whole(b"Accept: */*;q=x"),
    "Accept of 3,000 kinds": whole(b"Accept: " + b"a/b;q=0.1," * 3_000),
    "3,000 languages": whole(b"Accept-Language: " + b"de-x;q=0.1," * 3_000),
    "Origin: null": whole(b"Origin: null"),
    "5,000 ranges": whole(b"Range: bytes=" + b"0-," * 5_000),
    "a header in Latin-1": whole(b"X-Latin: \xff\xfe"),
    "an Expect that nobody knows": whole(b"Expect: 200-ok"),
    "absolute-form targets": whole(request=b"POST http://x/api/contact HTTP/1.1"),
    "absolute-form targets elsewhere": whole(request=b"POST http://a:b@evil.example:99/api/contact HTTP/1.1"),
    "a target with a query and a fragment": whole(request=b"POST /api/contact?a=b#c HTTP/1.1"),
    "a target with an escape": whole(request=b"POST /api/%63ontact HTTP/1.1"),
    "HTTP/1.0 with chunks": chunked(chunk(BOBS), b"0\r\n\r\n", request=b"POST /api/contact HTTP/1.0"),
    "one byte a chunk, with extensions and a trailer": chunked(
        *(b"1;a=b\r\n%c\r\n" % byte for byte in BOBS), b"0\r\nX: y\r\n\r\n"
    ),
}


@pytest.mark.parametrize("case", THANKED)
def test_strange_headers_and_targets_change_nothing(port, case):
    assert_thanks(exchange(port, THANKED[case]))


def test_a_coding_in_a_second_line_counts_as_well(port):
    assert_failure(exchange(port, whole(b"Content-Encoding: identity", b"Content-Encoding: gzip")), 415)


ELSEWHERE = {
    "a doubled slash": whole(request=b"POST //api/contact HTTP/1.1"),
    "an asterisk": whole(request=b"POST * HTTP/1.1"),
    "escaped line breaks and NUL in the path": whole(request=b"POST /%ff%00%0d%0a HTTP/1.1"),
    "a path of 60 kB": whole(request=b"POST /" + b"a" * 60_000 + b" HTTP/1.1"),
    "a path upwards": whole(request=b"POST /static/..%2f..%2fapi/contact HTTP/1.1"),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_nothing_is_at_strange_addresses(port, case):
    assert_failure(exchange(port, ELSEWHERE[case]), 404, "NOT_FOUND")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "MKCOL", "LOCK", "PURGE", "SOURCE"]
)
def test_every_other_method_is_refused_whatever_comes_with_it(port, path, method):
    answer = ask(port, method, path, BOBS, {"Content-Type": JSON})
    assert_failure(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", PATHS)
def test_head_is_refused_without_a_body(port, path):
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = read_answer(connection, method="HEAD")
        assert (answer.status, answer.body) == (405, b"")
        assert closes_within(connection, 10)


def repeated(piece: bytes, pieces: int) -> bytes:
    return chunked(chunk(piece) * pieces)


@pytest.mark.parametrize("headers", [{}, BROWSER | {"Content-Type": FORM}])
def test_memory_stays_flat_under_bodies_of_10_mb_and_the_answer_is_read(served, port, headers):
    ask(port, "POST", "/api/contact", b"a" * 1_000_000, headers)
    before = resident_bytes(served.processes[0].pid)
    for _ in range(5):
        answer = post(port, b"a" * 10_000_000, headers=headers)
        assert answer.status == 413
        assert exchange(port, repeated(b"a" * 65_536, 160) + b"0\r\n\r\n").status == 413
    assert resident_bytes(served.processes[0].pid) - before < 16 * 1024 * 1024


@pytest.mark.parametrize("size", [17_000_000, 10**12, 10**19])
def test_a_body_that_is_announced_as_far_too_large_is_refused_before_it_comes(port, size):
    assert_failure(exchange(port, head(b"Content-Length: %d" % size) + b"{"), 413, "TOO_LARGE")


def test_who_asks_first_is_told_at_once_that_it_is_too_much(port):
    answer = exchange(port, head(b"Expect: 100-continue", b"Content-Length: %d" % (LIMIT + 1)))
    assert_failure(answer, 413)
    assert answer.headers["connection"] == "close"


def test_who_asks_first_may_send_what_is_not_too_much(port):
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(head(b"Expect: 100-continue", b"Content-Length: %d" % len(BOBS)))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BOBS)
        assert_thanks(read_answer(connection))


ENDLESS = {
    "chunked without end": (chunked(), chunk(b"a" * 65_536)),
    "a header without end": (b"GET / HTTP/1.1\r\nX: ", b"a" * 65_536),
    "headers without end": (b"GET / HTTP/1.1\r\n", b"X: y\r\n" * 10_000),
    "a target without end": (b"GET /", b"a" * 65_536),
    "a trailer without end": (chunked(chunk(b"{}"), b"0\r\nX: "), b"a" * 65_536),
    "a chunk extension without end": (chunked(chunk(b"{}"), b"1;x="), b"a" * 65_536),
    "nonsense without end": (b"", b"\0" * 65_536),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_what_has_no_end_is_cut_and_memory_stays_flat(served, port, case):
    beginning, piece = ENDLESS[case]
    before = resident_bytes(served.processes[0].pid)
    sent_until_cut(port, beginning, piece, most=64_000_000)
    assert resident_bytes(served.processes[0].pid) - before < 16 * 1024 * 1024


def kept(served: Pillarbox) -> int:
    with closing(sqlite3.connect(f"file:{served.database}?mode=ro", uri=True)) as database:
        (count,) = database.execute("SELECT count(*) FROM submissions").fetchone()
    return int(count)


@pytest.mark.parametrize("media_type", [JSON, FORM, "multipart/form-data; boundary=cut"])
def test_a_content_length_that_is_too_long_keeps_nothing_when_the_client_goes(served, port, media_type):
    before = kept(served)
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        lines = (b"Content-Type: " + media_type.encode(), b"Content-Length: %d" % (len(BOBS) + 1))
        connection.sendall(b"\r\n".join((b"POST /api/contact HTTP/1.1", b"Host: x", *lines)) + b"\r\n\r\n" + BOBS)
    assert_thanks(post(port, BOB | {"message": f"The next one after {media_type}"}))
    assert kept(served) == before + 1


def test_a_content_length_that_is_too_short_ends_the_connection_behind_the_answer(port):
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(whole() + b"more\r\n\r\n")
        assert_thanks(read_answer(connection))
        assert closes_within(connection, 10)
    assert_failure(exchange(port, head(b"Content-Length: %d" % (len(BOBS) - 1)) + BOBS), 400, "UNREADABLE")


def test_requests_one_behind_the_other_are_answered_in_their_order_up_to_the_first_that_is_none(port):
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(whole() + get() + whole() + b"nonsense\r\n\r\n" + whole())
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    assert received.count(b"HTTP/1.1 ") == received.count(b"HTTP/1.1 200 ") == 3
    assert received.count(b'"success": true') == 2


def test_who_asks_for_much_and_goes_without_reading_it_costs_no_line(port):
    (sheet,) = re.findall(r"static/bootstrap[^\"]+", ask(port, "GET", "/", headers=BROWSER).text)
    with ExitStack() as held:
        for _ in range(10):
            connection = held.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # goes with a reset
            connection.connect(("127.0.0.1", port))
            connection.sendall(f"GET /{sheet} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 16)
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        assert_thanks(post(port, BOB))


def test_a_person_whose_form_ends_in_the_middle_of_it_is_shown_what_came(port):
    answer: Answer = ask(
        port, "POST", "/send-message", b"name=Bob&message=Hi&email=b", BROWSER | {"Content-Type": FORM}
    )
    assert answer.status == 400
    assert "Hi</textarea>" in answer.text
