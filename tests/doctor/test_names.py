"""What DNS says of the sender's domain is told as it is, with the record to publish where one is missing."""

import pytest
from tests.servers.name_server import REFUSED, SERVFAIL, SILENCE, NameServer

from pillarbox.doctor import names
from pillarbox.doctor.names import Sender, examine_names

pytestmark = pytest.mark.anyio

GMAIL, OWN, SES = "smtp.gmail.com", "mail.ada.dev", "email-smtp.eu-west-1.amazonaws.com"
GOOGLE_SPF = "v=spf1 include:_spf.google.com ~all"
DMARC = "v=DMARC1; p=quarantine; rua=mailto:dmarc@ada.dev"


async def examined(records, *, address="forms@ada.dev", login="forms@ada.dev", server=GMAIL, seconds=4.0):
    """Return the findings by step."""
    async with NameServer() as zone:
        zone.records = records
        asked = names.NameServer(zone.address, seconds=seconds)
        found = {one.step: one for one in await examine_names(Sender(address, login, server), asked)}
    return found, zone


def zone(spf=GOOGLE_SPF, dmarc=DMARC, **more):
    """Return a domain's records, without those that are empty."""
    asked = {"ada.dev": [spf] if spf else [], "_dmarc.ada.dev": [dmarc] if dmarc else [], "_spf.google.com": []}
    return asked | more


async def test_one_record_of_each_that_names_the_provider_is_well():
    found, _ = await examined(zone() | {"ada.dev": ["some-verification=1", GOOGLE_SPF]})
    assert {step: (one.verdict, one.advice) for step, one in found.items()} == {
        "spf": ("ok", ""),
        "dmarc": ("ok", ""),
        "from": ("ok", ""),
    }
    assert "names Google" in found["spf"].seen
    assert "p=quarantine" in found["dmarc"].seen


async def test_missing_records_are_told_with_what_to_publish():
    found, _ = await examined(zone(spf="", dmarc=""))
    assert [found[step].verdict for step in ("spf", "dmarc")] == ["warn", "warn"]
    assert '"v=spf1 include:_spf.google.com ~all"' in found["spf"].advice
    assert "_dmarc.ada.dev" in found["dmarc"].advice
    assert '"v=DMARC1; p=none; rua=mailto:forms@ada.dev"' in found["dmarc"].advice


async def test_two_spf_records_are_an_error():
    found, _ = await examined(zone() | {"ada.dev": [GOOGLE_SPF, "v=spf1 -all"]})
    assert (found["spf"].verdict, "2 SPF records" in found["spf"].seen) == ("fail", True)


async def test_an_spf_record_that_does_not_name_the_provider_is_told_with_the_word_to_add():
    found, _ = await examined(zone(spf="v=spf1 mx -all"))
    assert found["spf"].verdict == "warn"
    assert "include:_spf.google.com" in found["spf"].advice


async def test_a_provider_that_is_included_by_an_include_counts():
    records = zone(spf="v=spf1 include:spf.ada.dev -all") | {"spf.ada.dev": [GOOGLE_SPF]}
    found, server = await examined(records)
    assert (found["spf"].verdict, "names Google" in found["spf"].seen) == ("ok", True)
    assert "spf.ada.dev" in server.asked


async def test_a_record_in_several_parts_is_put_together():
    long = "v=spf1 " + " ".join(f"ip4:192.0.2.{number}" for number in range(40)) + " include:_spf.google.com ~all"
    found, _ = await examined(zone(spf=long))
    assert (found["spf"].verdict, "names Google" in found["spf"].seen) == ("ok", True)


@pytest.mark.parametrize("record", ["v=spf1 +all", "v=spf1 include:_spf.google.com all"])
async def test_letting_the_whole_world_send_is_warned_of(record):
    found, _ = await examined(zone(spf=record))
    assert (found["spf"].verdict, "anybody may send as you" in found["spf"].advice) == ("warn", True)


async def test_more_look_ups_than_receivers_make_are_warned_of():
    """A record that includes itself over and over is such a one too, and is not followed forever."""
    many = {f"n{number}.ada.dev": [f"v=spf1 a mx include:n{number + 1}.ada.dev -all"] for number in range(20)}
    found, server = await examined(zone(spf="v=spf1 include:n0.ada.dev -all") | many)
    assert (found["spf"].verdict, "more than ten" in found["spf"].seen) == ("warn", True)
    assert len(server.asked) < 12
    found, _ = await examined(zone(spf="v=spf1 include:ada.dev include:_spf.google.com -all"))
    assert found["spf"].verdict == "ok"


async def test_a_service_that_sends_under_its_own_path_needs_no_include():
    found, _ = await examined(zone(spf="v=spf1 -all"), server=SES, login="AKIAEXAMPLE")
    assert (found["spf"].verdict, "DKIM" in found["spf"].seen) == ("ok", True)
    found, _ = await examined(zone(spf=""), server=SES, login="AKIAEXAMPLE")
    assert (found["spf"].verdict, "DKIM" in found["spf"].advice) == ("warn", True)


async def test_a_domain_that_is_not_there_is_a_failure():
    found, _ = await examined({})
    assert (found["spf"].verdict, found["spf"].seen) == ("fail", "there is no domain ada.dev")


@pytest.mark.parametrize(("answer", "words"), [(SERVFAIL, "SERVFAIL"), (REFUSED, "REFUSED"), (SILENCE, "no answer")])
async def test_a_name_server_that_does_not_tell_is_no_verdict_on_the_domain(answer, words):
    found, _ = await examined({"ada.dev": answer, "_dmarc.ada.dev": answer}, seconds=0.3)
    for step in ("spf", "dmarc"):
        assert (found[step].verdict, words in found[step].seen) == ("warn", True)
        assert "NAMESERVER" in found[step].advice


async def test_no_name_server_at_all_is_told_as_well():
    asked = names.NameServer(("127.0.0.1", 9), seconds=0.5)
    found = await examine_names(Sender("forms@ada.dev", "", OWN), asked)
    assert [(one.step, one.verdict) for one in found] == [("spf", "warn"), ("dmarc", "warn"), ("from", "ok")]


async def test_a_dmarc_record_above_the_domain_counts():
    found, _ = await examined(zone(mail="") | {"mail.ada.dev": ["v=spf1 mx -all"]}, address="forms@mail.ada.dev")
    assert (found["dmarc"].verdict, found["dmarc"].seen) == ("ok", "ada.dev has one DMARC record (p=quarantine)")


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (["v=DMARC1; rua=mailto:x@ada.dev"], "no policy"),
        (["v=DMARC1; p=none", "v=DMARC1; p=reject"], "2 records"),
        (["v=DMARC1; p=everything"], "no policy"),
        (["v=DMARC10; p=none"], "no DMARC record"),
    ],
)
async def test_a_dmarc_record_that_receivers_do_not_take_is_warned_of(records, words):
    found, _ = await examined(zone() | {"_dmarc.ada.dev": records})
    assert (found["dmarc"].verdict, words in found["dmarc"].seen) == ("warn", True)


async def test_a_public_mailbox_through_another_server_is_warned_of_and_its_records_are_not_judged():
    found, server = await examined({}, address="ada@gmail.com", login="ada@gmail.com", server=OWN)
    assert list(found) == ["from"]
    assert (found["from"].verdict, "DMARC" in found["from"].advice) == ("warn", True)
    assert server.asked == []


@pytest.mark.parametrize(
    ("address", "server"),
    [("ada@gmail.com", GMAIL), ("ada@hotmail.com", "smtp-mail.outlook.com"), ("ada@posteo.de", "posteo.de"),
     ("ada@t-online.de", "securesmtp.t-online.de")],
)  # fmt: skip
async def test_a_public_mailbox_through_its_own_server_is_well(address, server):
    found, _ = await examined({}, address=address, login=address, server=server)
    assert [(one.step, one.verdict) for one in found.values()] == [("from", "ok")]


async def test_a_login_of_another_domain_is_warned_of():
    found, _ = await examined(zone(), login="ada@other.dev")
    assert (found["from"].verdict, "ada@other.dev" in found["from"].seen) == ("warn", True)


@pytest.mark.parametrize("login", ["apikey", "", "ada@mail.ada.dev", "ada@ADA.dev"])
async def test_a_login_that_is_no_other_domains_is_well(login):
    found, _ = await examined(zone(), login=login)
    assert found["from"].verdict == "ok"


@pytest.mark.parametrize("address", ["me@localhost", "forms@corp.local", "forms@mail.lan", "ada@[192.0.2.1]"])
async def test_an_internal_name_is_passed_over_without_a_question(address):
    found, server = await examined({}, address=address)
    assert [(one.step, one.verdict) for one in found.values()] == [("from", "ok")]
    assert server.asked == []


async def test_a_domain_in_any_script_is_asked_for_as_dns_has_it():
    records = {"xn--bcher-kva.dev": [GOOGLE_SPF], "_dmarc.xn--bcher-kva.dev": [DMARC], "_spf.google.com": []}
    found, _ = await examined(records, address="ada@bücher.dev", login="")
    assert [one.verdict for one in found.values()] == ["ok", "ok", "ok"]


async def test_hostile_records_are_shown_short_and_without_controls():
    found, _ = await examined(zone(spf="v=spf1 " + "x" * 900 + "\\027[31m -all"))
    assert len(found["spf"].seen) < 200
    assert found["spf"].seen.isprintable()
