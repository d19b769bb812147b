"""The audit of what we install fails for a known hole, and only for that."""

import json

from tests import audit

WELL = {"name": "h11", "version": "0.16.0", "vulns": []}
HOLED = {
    "name": "h11",
    "version": "0.15.0",
    "vulns": [{"id": "GHSA-1", "aliases": ["CVE-1"], "fix_versions": ["0.16.0"]}],
}
UNKNOWN = {"name": "idna", "skip_reason": "not found"}


def judged(*packages: dict) -> tuple[str, int]:
    return audit.judge(json.dumps({"dependencies": packages, "fixes": []}), "")


def test_a_known_hole_fails_with_its_name_and_the_version_that_mends_it():
    told, status = judged(WELL, HOLED, UNKNOWN)
    assert status == 1
    assert told.splitlines()[1:] == ["  h11 0.15.0: GHSA-1, CVE-1 (mended in 0.16.0)"]


def test_a_hole_that_nothing_mends_fails_too():
    told, status = judged(HOLED | {"vulns": [{"id": "GHSA-1", "fix_versions": []}]})
    assert (status, told.endswith("GHSA-1 (not mended yet)")) == (1, True)


def test_packages_that_nothing_is_known_of_are_said_and_fail_nothing():
    assert judged(WELL, UNKNOWN) == (
        "not audited: the advisories have nothing on 1 of 2 packages from here (idna)",
        0,
    )
    assert judged(WELL) == ("No known hole in 1 packages.", 0)


def test_data_out_of_reach_is_one_line_and_no_failure(tmp_path, monkeypatch):
    (tmp_path / "lock").write_text("h11==0.16.0 --hash=sha256:" + "0" * 64 + "\n")
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("NO_PROXY", "")
    told, status = audit.judge(*audit.ask(tmp_path / "lock"))
    assert status == 0
    assert told.startswith("not audited: ")
    assert "\n" not in told
