"""The description is true: everything that it leads a client to send is answered as it says."""

from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from tests.asking import ask, assert_failure, assert_thanks, post
from tests.running import BOB, Pillarbox

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    made = Pillarbox(tmp_path_factory.mktemp("openapi"))
    made.serve()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def described(served):
    return schemathesis.openapi.from_url(f"{served.url}/openapi.json")


@pytest.mark.parametrize(
    ("method", "path", "mode", "expected"),
    [
        ("POST", "/send-message", GenerationMode.POSITIVE, 200),
        ("POST", "/send-message", GenerationMode.NEGATIVE, 400),
        ("POST", "/api/contact", GenerationMode.POSITIVE, 200),
        ("POST", "/api/contact", GenerationMode.NEGATIVE, 400),
        ("GET", "/health", GenerationMode.POSITIVE, 200),
        ("GET", "/health/mail", GenerationMode.POSITIVE, 200),
    ],
)
def test_everything_the_description_leads_to_is_answered_as_it_says(described, method, path, mode, expected):
    statuses = Counter()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(described[path][method].as_strategy(generation_mode=mode))
    def check(case):
        statuses[case.call_and_validate(checks=CHECKS).status_code] += 1

    check()
    assert statuses[expected]


def test_the_description_names_what_is_there(served):
    described = ask(served.port, "GET", "/openapi.json").json
    assert {path: list(found) for path, found in described["paths"].items()} == {
        "/send-message": ["post"],
        "/api/contact": ["post"],
        "/health": ["get"],
        "/health/mail": ["get"],
    }
    for path in ("/send-message", "/api/contact"):
        operation = described["paths"][path]["post"]
        assert {"200", "303", "400", "404", "408", "413", "415", "422"} <= operation["responses"].keys()
        assert {"429", "500", "503"} <= operation["responses"].keys()
        assert [(one["name"], one["in"]) for one in operation["parameters"]] == [("Idempotency-Key", "header")]
        body = operation["requestBody"]["content"]["application/json"]["schema"]
        assert body["required"] == ["name", "email", "message"]
        assert body["properties"]["message"]["maxLength"] == 20_000


def test_an_example_as_described_is_kept_and_nothing_else_is(served):
    assert_thanks(post(served.port, BOB | {"company": "x" * 1_000, "extra": ["a", "b"]}))
    assert_failure(post(served.port, BOB | {"extra": "x" * 1_001}), 400, "TOO_LONG")
