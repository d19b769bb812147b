"""Whatever comes over the wire is refused in the one shape or kept; afterwards an honest request is answered."""

import gzip
import json
import socket
import zlib

import pytest
from tests.asking import (
    BROWSER,
    FORM,
    JSON,
    ask,
    assert_failure,
    assert_thanks,
    closes_within,
    exchange,
    multipart,
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
    assert "request_failed" not in served.log.read_text()


def with_(**fields: object) -> bytes:
    return json.dumps(BOB | fields).encode()


JSON_BODIES = {
    "empty": (b"", 400),
    "null": (b"null", 400),
    "list": (b"[]", 400),
    "text": (b'"x"', 400),
    "1e999": (b"1e999", 400),
    "number too great in a field": (BOBS[:-1] + b', "company": 1e999}', 400),
    "number of 100,000 digits": (BOBS[:-1] + b', "company": ' + b"9" * 100_000 + b"}", 400),
    "NaN": (BOBS[:-1] + b', "_x": NaN}', 400),
    "-Infinity": (BOBS[:-1] + b', "_x": -Infinity}', 400),
    "nested 100,000 deep": (b"[" * 100_000, 400),
    "objects nested deep": (b'{"a":' * 40_000, 400),
    "nested in a field": (BOBS[:-1] + b', "company": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400),
    "cut": (BOBS[:-4], 400),
    "two values": (BOBS + BOBS, 400),
    "BOM": (b"\xef\xbb\xbf" + BOBS, 200),
    "UTF-16": (BOBS.decode().encode("utf-16"), 400),
    "invalid UTF-8": (BOBS.replace(b"Bob", b"\xff\xfe"), 400),
    "overlong UTF-8": (BOBS.replace(b"Bob", b"\xc0\xaf"), 400),
    "surrogate in UTF-8": (BOBS.replace(b"Bob", b"\xed\xa0\x80"), 400),
    "lone surrogate": (with_(message="\ud800"), 400),
    "lone surrogate as a name": (with_(**{"\udfff": "x" * 2_000}), 400),
    "NUL": (with_(name="B\0b"), 400),
    "NUL as a name": (with_(**{"\0": "x"}), 400),
    "duplicate keys": (BOBS[:-1] + b', "name": "Eve"}', 400),
    "10,000 keys": (with_(**{f"k{number}": "x" for number in range(10_000)}), 400),
    "10,000 hidden keys": (with_(**{f"_{number}": "x" for number in range(10_000)}), 200),
    "a key of 100 kB": (with_(**{"k" * 100_000: "x"}), 400),
    "a hidden key of 100 kB": (with_(**{"_" * 100_000: "x"}), 200),
    "a key without letters": (with_(**{"": "x"}), 400),
    "a key that cleans up to another": (with_(**{" subject": "a\nb"}), 400),
    "a list where text belongs": (with_(name=["a"]), 400),
    "a number where text belongs": (with_(message=5), 400),
    "a boolean where text belongs": (with_(name=True), 400),
    "null where text belongs": (with_(company=None), 400),
    "an object where text belongs": (with_(email={"a": "b"}), 400),
    "an object in a list": (with_(extra=["a", {}]), 400),
    "only blanks": (with_(name="  \t "), 400),
    "only zero-width characters": (with_(message="\u200b\u200d\ufeff\u2060\u00ad"), 400),
    "a name of 201": (with_(name="x" * 201), 400),
    "a message of 20,001": (with_(message="x" * 20_001), 400),
    "50 kB in a field": (with_(message="<b>" * 17_000), 400),
    "100 kB in the address": (with_(email="(" * 100_000), 400),
    "two addresses": (with_(email="a@b.example, c@d.example"), 400),
    "emoji and right-to-left": (with_(name="👩‍👩‍👧‍👦 \u202eevil\u202c", message="a" + "\u0301" * 50), 200),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", JSON_BODIES)
def test_json_of_every_kind_is_kept_or_refused(port, path, case):
    body, status = JSON_BODIES[case]
    answer = post(port, body, path)
    assert answer.status == status
    (assert_thanks if status == 200 else lambda found: assert_failure(found, status))(answer)


@pytest.mark.parametrize("field", ["name", "email", "company", "subject"])
@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\x1c"])
def test_one_line_fields_take_no_line_break_of_any_kind(port, field, end):
    answer = post(port, BOB | {field: f"bob@example.org{end}Bcc: eve@example.com"})
    assert_failure(answer, 400)
    assert answer.json["errors"][0]["field"] == field


FORM_BODIES = {
    "empty": (b"", 400),
    "only separators": (b"&" * 150, 400),
    "10,000 separators": (b"&" * 10_000, 400),
    "10,000 fields": (b"&".join(b"k%d=x" % number for number in range(10_000)), 400),
    "broken escapes": (b"name=%&email=%zz&message=%f", 400),
    "invalid UTF-8, escaped": (b"name=%ff&email=bob%40example.org&message=hi", 400),
    "lone surrogate, escaped": (b"name=%ed%a0%80&email=bob%40example.org&message=hi", 400),
    "NUL": (b"name=B%00b&email=bob%40example.org&message=hi", 400),
    "UTF-8, unescaped": ("name=Jürgen&email=bob@example.org&message=Grüße".encode(), 200),
    "Latin-1, unescaped": ("name=Jürgen&email=bob@example.org&message=hi".encode("latin-1"), 400),
    "a name twice": (b"name=B&name=C&email=bob@example.org&message=hi", 400),
    "a foreign name twice": (b"a=B&a=C&name=B&email=bob@example.org&message=hi", 200),
    "binary": (bytes(range(256)) * 20, 400),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", FORM_BODIES)
def test_urlencoded_bodies_of_every_kind_are_kept_or_refused(port, path, case):
    body, status = FORM_BODIES[case]
    answer = ask(port, "POST", path, body, {"Content-Type": FORM, "Accept": JSON})
    (assert_thanks if status == 200 else lambda found: assert_failure(found, status))(answer)


WHOLE = multipart(*((f'name="{name}"', value) for name, value in BOB.items()))
MULTIPARTS = {
    "whole": ("boundary=cut", WHOLE, 200),
    "quoted boundary": ('boundary="cut"', WHOLE, 200),
    "an empty file input": ("boundary=cut", multipart(('name="f"; filename=""', ""))[:-9] + WHOLE, 200),
    "a file": ("boundary=cut", multipart(('name="f"; filename="x.svg"', "<svg>"))[:-9] + WHOLE, 400),
    "a file without a name": ("boundary=cut", multipart(('name="f"; filename=""', "<svg>"))[:-9] + WHOLE, 400),
    "a file with a path": ("boundary=cut", multipart(('name="f"; filename="../../etc/x"', ""))[:-9] + WHOLE, 400),
    "no boundary": ("", WHOLE, 400),
    "an empty boundary": ("boundary=", WHOLE, 400),
    "another boundary": ("boundary=other", WHOLE, 400),
    "a boundary of 1,000": (f"boundary={'b' * 1_000}", WHOLE.replace(b"cut", b"b" * 1_000), None),
    "a strange boundary": ('boundary="\\"; a=b;"', WHOLE, 400),
    "charset=utf-7": ("boundary=cut; charset=utf-7", WHOLE, 415),
    "two charsets": ("boundary=cut; charset=utf-8; charset=punycode", WHOLE, 415),
    "cut in a header": ("boundary=cut", WHOLE[:60], 400),
    "cut before the end": ("boundary=cut", WHOLE[:-8], 400),
    "only the end": ("boundary=cut", b"--cut--\r\n", 400),
    "empty": ("boundary=cut", b"", 400),
    "nested": (
        "boundary=cut",
        b'--cut\r\nContent-Disposition: form-data; name="n"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n'
        + WHOLE,
        200,
    ),
    "10,000 parts": ("boundary=cut", multipart(*(('name="x"', "y") for _ in range(4_500))), 400),
    "10,000 empty files": ("boundary=cut", multipart(*(('name="x"; filename=""', "") for _ in range(3_500))), 400),
    "without names": ("boundary=cut", multipart(("", "x")), 400),
    "the same name twice": ("boundary=cut", multipart(('name="name"', "Eve"))[:-9] + WHOLE, 400),
    "a part with 5,000 headers": ("boundary=cut", b"--cut\r\n" + b"X: y\r\n" * 5_000 + WHOLE[5:], 400),
    "a part with a header of 100 kB": ("boundary=cut", b"--cut\r\nX: " + b"y" * 100_000 + b"\r\n" + WHOLE[5:], 400),
    "a part whose header is binary": ("boundary=cut", b"--cut\r\n\0\xff: y\r\n" + WHOLE[5:], 400),
    "only line breaks": ("boundary=cut", b"\r\n" * 60_000, 400),
    "line breaks behind the end": ("boundary=cut", WHOLE + b"\r\n" * 60_000, 200),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", MULTIPARTS)
def test_multipart_bodies_of_every_kind_are_kept_or_refused(port, path, case):
    parameters, body, status = MULTIPARTS[case]
    headers = {"Content-Type": f"multipart/form-data; {parameters}", "Accept": JSON}
    answer = ask(port, "POST", path, body, headers)
    if status is None:
        assert answer.status in {200, 400}
    else:
        (assert_thanks if status == 200 else lambda found: assert_failure(found, status))(answer)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/xml",
        "application/jsonp",
        "json",
        "",
        ";",
        "application/json; charset=utf-7",
        "application/json; charset=utf-16",
        "application/json;charset=latin1",
        f"{FORM}; charset=iso-8859-1",
        "application/json, text/plain",
        "\xff/\xfe",
    ],
)
def test_other_media_types_and_charsets_are_refused(port, content_type):
    assert_failure(post(port, BOBS, headers={"Content-Type": content_type}), 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("types", [(), (JSON, JSON), (JSON, "text/plain"), (FORM, "multipart/form-data; boundary=x")])
def test_a_content_type_that_is_missing_or_doubled_is_refused(port, types):
    lines = "".join(f"Content-Type: {one}\r\n" for one in types)
    head = f"POST /api/contact HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(BOBS)}\r\n\r\n"
    assert_failure(exchange(port, head.encode() + BOBS), 415)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity", "x" * 500])
def test_compressed_bodies_are_refused_unread(port, coding):
    bomb = gzip.compress(b"a" * 50_000_000, 1)[:LIMIT] if coding == "gzip" else zlib.compress(BOBS)
    assert_failure(post(port, bomb, headers={"Content-Encoding": coding}), 415)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("media_type", [JSON, FORM, "multipart/form-data; boundary=cut"])
def test_one_byte_over_the_limit_is_too_large_and_the_limit_itself_is_not(port, path, media_type):
    headers = {"Content-Type": media_type, "Accept": JSON}
    assert_failure(ask(port, "POST", path, b"a" * LIMIT, headers), 400)
    assert_failure(ask(port, "POST", path, b"a" * (LIMIT + 1), headers), 413, "TOO_LARGE")


def chunked(pieces: int, size: int = 65_536, media_type: str = JSON) -> bytes:
    head = f"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + (b"%x\r\n" % size + b"a" * size + b"\r\n") * pieces


@pytest.mark.parametrize("headers", [{}, BROWSER | {"Content-Type": FORM}])
def test_memory_stays_flat_under_bodies_of_10_mb_and_the_answer_is_read(served, port, headers):
    ask(port, "POST", "/api/contact", b"a" * 1_000_000, headers)
    before = resident_bytes(served.processes[0].pid)
    for _ in range(5):
        answer = post(port, b"a" * 10_000_000, headers=headers)
        assert answer.status == 413
        assert exchange(port, chunked(160) + b"0\r\n\r\n").status == 413
    assert resident_bytes(served.processes[0].pid) - before < 16 * 1024 * 1024


def test_who_asks_first_is_told_at_once_that_it_is_too_much(port):
    head = f"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nExpect: 100-continue\r\n"
    answer = exchange(port, f"{head}Content-Length: {LIMIT + 1}\r\n\r\n".encode())
    assert_failure(answer, 413)
    assert answer.headers["connection"] == "close"


def test_who_asks_first_may_send_what_is_not_too_much(port):
    head = f"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nExpect: 100-continue\r\n"
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(f"{head}Content-Length: {len(BOBS)}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BOBS)
        assert_thanks(read_answer(connection))


def test_chunks_without_end_are_cut(port):
    sent_until_cut(port, chunked(0), b"10000\r\n" + b"a" * 65_536 + b"\r\n", most=64_000_000)


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX: ", b"GET /", chunked(1) + b"0\r\nX: ", chunked(1) + b"1;x="])
def test_a_head_or_trailer_without_end_is_cut(served, port, head):
    before = resident_bytes(served.processes[0].pid)
    sent_until_cut(port, head, b"a" * 65_536, most=32_000_000)
    assert resident_bytes(served.processes[0].pid) - before < 16 * 1024 * 1024


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"y" * 70_000,
        b"Cookie: " + b"c=d; " * 14_000,
        b"\r\n".join(b"X-%d: y" % number for number in range(8_000)),
        b"X-Forwarded-For: " + b", ".join(b"10.0.0.%d" % (n % 256) for n in range(10_000)),
    ],
)
def test_a_head_of_more_than_64_kb_is_refused(port, head):
    assert exchange(port, b"POST /api/contact HTTP/1.1\r\nHost: x\r\n" + head).status == 431


@pytest.mark.parametrize(
    "lines",
    [
        "\r\n".join(f"X-{number}: y" for number in range(200)),
        "X: " + "y" * 30_000,
        "Cookie: " + "c=d; " * 6_000,
        "X-Forwarded-For: " + ", ".join(f"10.0.{n // 256}.{n % 256}" for n in range(3_000)),
        "X-Forwarded-For: nonsense",
        "Accept: */*;q=x",
        "Accept: " + "a/b;q=0.1," * 3_000,
        "Accept-Language: " + "de-x;q=0.1," * 3_000,
        "Host: another",
        "Origin: null",
        "Range: bytes=" + "0-," * 5_000,
        "X-Latin: \xff\xfe",
    ],
)
def test_strange_headers_change_nothing(port, lines):
    head = f"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nContent-Length: {len(BOBS)}\r\n{lines}"
    assert_thanks(exchange(port, head.encode("latin-1") + b"\r\n\r\n" + BOBS))


@pytest.mark.parametrize(
    "head",
    [
        b"POST http://evil.example/api/contact HTTP/1.1\r\nHost: x",
        b"POST /api/contact?a=b#c HTTP/1.1\r\nHost: x",
        b"POST /api/%63ontact HTTP/1.1\r\nHost: x",
        b"POST //api/contact HTTP/1.1\r\nHost: x",
        b"POST * HTTP/1.1\r\nHost: x",
        b"POST /%ff%00%0d%0a HTTP/1.1\r\nHost: x",
        b"GET /" + b"a" * 30_000 + b" HTTP/1.1\r\nHost: x",
        b"BREW /api/contact HTTP/1.1\r\nHost: x",
        b"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Length: -1",
        b"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Length: 5x",
        b"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Length: \xb2",
        b"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3",
        b"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999999",
        b"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
        b"POST /api/contact HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked",
        b"POST /api/contact HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade",
        b"nonsense",
        b"\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_strange_requests_end_in_an_answer_or_a_closed_connection(port, head):
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(head + b"\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{}")
        received = b""
        try:
            while piece := connection.recv(65_536):
                received += piece
                if b"\r\n\r\n" in received:
                    break
        except TimeoutError:  # it waits for the rest of what was announced
            assert b"Content-Length: " in head or b"Transfer" in head
        assert not received or 200 <= int(received.split()[1]) < 500


def test_a_body_shorter_than_announced_is_given_up_when_the_client_goes(served, port):
    kept = served.run("messages", "export").stdout
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(f"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\n".encode())
        connection.sendall(b"Content-Length: %d\r\n\r\n" % (len(BOBS) + 1) + BOBS)
    assert served.run("messages", "export").stdout == kept


def test_a_body_longer_than_announced_ends_the_connection(port):
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(f"POST /api/contact HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\n".encode())
        connection.sendall(b"Content-Length: %d\r\n\r\n" % len(BOBS) + BOBS + b"more\r\n\r\n")
        assert read_answer(connection).status in {200, 400}
        assert closes_within(connection, 10)


@pytest.mark.parametrize("piece", ["(", "@", "a.", "\\", "=?", "xn--", "\u0300", "é", "<", "[", "ß."])
def test_hostile_addresses_are_refused_by_their_length_first(port, piece):
    assert_failure(post(port, BOB | {"email": f"{piece * 30_000}@b.example"}), 400, "TOO_LONG")
    assert_failure(post(port, BOB | {"email": "a@" + (piece * 110)[:200]}), 400, "TYPE_EMAIL")
