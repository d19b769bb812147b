"""The database server: how safely it writes, whether our connections fit, and what its clock says."""

import time
from dataclasses import replace

import pytest

from pillarbox.core.delivery import Sent
from pillarbox.core.errors import NotKept
from pillarbox.doctor import rounds
from pillarbox.doctor.server import examine_server
from pillarbox.doctor.store import examine_durability, examine_store
from pillarbox.store.condition import Condition, Server
from pillarbox.store.postgresql import Unfit, is_here

pytestmark = pytest.mark.anyio

WELL = Server(
    "16.4",
    most=100,
    used=12,
    ours=5,
    room=85,
    each=11,
    commits="on",
    is_pooled=False,
    is_here=False,
    is_encrypted=True,
)
CONDITION = Condition((), None, 0, None, 0, server=WELL)


def test_a_server_that_is_well_is_told_in_one_line():
    (found,) = examine_server(WELL, processes=4)
    assert (found.verdict, found.advice) == ("ok", "")
    assert found.seen == "PostgreSQL 16.4; 12 of 100 connections are in use, 5 by Pillarbox, which may have 85"


def test_connections_that_do_not_fit_are_warned_of():
    (found,) = examine_server(replace(WELL, room=10), processes=1)
    assert (found.verdict, "PgBouncer" in found.advice) == ("warn", True)
    assert found.seen.endswith("; 1 process here wants up to 11, and there is room for 10")


def test_behind_a_pooler_connections_are_its_own_affair():
    (found,) = examine_server(replace(WELL, room=0, is_pooled=True), processes=64)
    assert (found.verdict, "behind a pooler" in found.seen) == ("ok", True)


@pytest.mark.parametrize("commits", ["off", "local"])
def test_a_server_that_is_meant_to_forget_is_told_of_though_our_messages_are_safe(commits):
    _, found = examine_server(replace(WELL, commits=commits), processes=1)
    assert (found.verdict, "messages are safe" in found.seen) == ("warn", True)
    assert f"synchronous_commit = {commits}" in found.seen


@pytest.mark.parametrize("commits", ["on", "remote_write", "remote_apply"])
def test_a_server_that_syncs_is_not(commits):
    assert len(examine_server(replace(WELL, commits=commits), processes=1)) == 1


@pytest.mark.parametrize("is_pooled", [False, True])
def test_words_that_cross_a_network_in_the_clear_are_warned_of(is_pooled):
    _, found = examine_server(replace(WELL, is_encrypted=False, is_pooled=is_pooled), processes=1)
    assert (found.verdict, "without TLS" in found.seen, "?sslmode=verify-full" in found.advice) == ("warn", True, True)
    assert len(examine_server(replace(WELL, is_encrypted=False, is_here=True, is_pooled=is_pooled), processes=1)) == 1


@pytest.mark.parametrize(
    ("address", "here"),
    [("", True), ("127.0.0.1", True), ("::1", True), ("10.0.0.5", False), ("fe80::1%eth0", False)],
)
def test_only_loopback_and_socket_files_are_heard_by_nobody_else(address, here):
    assert is_here(address) is here


def test_what_a_power_cut_at_the_server_takes_is_a_failure_that_names_the_setting():
    (found,) = examine_durability(replace(CONDITION, weaknesses=("fsync = off",)))
    assert (found.verdict, "fsync = off" in found.seen, "postgresql.conf" in found.advice) == ("fail", True, True)


async def test_a_server_that_takes_nothing_is_told_with_what_to_do_about_it():
    async def refuses():
        raise NotKept from Unfit("cannot execute INSERT in a read-only transaction")

    found = await examine_store(refuses, where="postgresql://forms@db/pillarbox")
    assert (found.verdict, "read-only" in found.seen, "standby" in found.advice) == ("fail", True, True)


async def nothing():
    """Keep nothing."""


async def to_a_folder():
    return Sent("mail goes into mail")


@pytest.mark.parametrize(
    ("ahead", "verdict", "words"),
    [
        (0.0, "ok", "as the database says"),
        (-40.0, "ok", "as the database (40 s behind) says"),
        (3_600.0, "warn", "60 minutes behind that of the database"),
    ],
)
async def test_the_servers_clock_is_compared_with_this_machines(tmp_path, ahead, verdict, words):
    store = rounds.Store("postgresql://db/x", nothing, lambda: CONDITION, clock=lambda: time.time() + ahead)
    found = await rounds.examine(
        rounds.Installation("f@ada.dev", ("ada@ada.dev",), [rounds.Folder(tmp_path, to_a_folder)], store)
    )
    (clock,) = [one for one in found if one.step == "clock"]
    assert (clock.verdict, words in clock.seen) == (verdict, True), clock.seen
    assert "disk" not in {one.step for one in found}
