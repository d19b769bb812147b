"""Which addresses get a confirmation, and which of them are one mailbox."""

from dataclasses import replace

import pytest

from pillarbox.core.confirming import fold, has_tag, why_not_confirm
from pillarbox.core.form import CONTACT_FIELDS, Form, Owners

ADAS_FORM = Form(
    slug="contact",
    fields=CONTACT_FIELDS,
    owners=Owners(to=("ada@ada.example",), cc=("helper@agency.example",), bcc=("archive@vault.example",)),
    sender="forms@ada.example",
    site_name="Ada's",
)


@pytest.mark.parametrize(
    "address",
    ["bob@example.com", "info@bakery.example", "bob+news@gmail.com", "jürgen@bücher.example", "o'neil@example.com"],
)
def test_bob_gets_a_confirmation(address):
    assert why_not_confirm(address, ADAS_FORM) is None


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "no address was given"),
        ("forms@ada.example", "the address is one of the form's own"),
        ("Ada+x@ADA.example", "the address is one of the form's own"),
        ("helper@agency.example", "the address is one of the form's own"),
        ("archive@vault.example", "the address is one of the form's own"),
        ("postmaster@example.com", "the address belongs to a role or a machine"),
        ("No-Reply@example.com", "the address belongs to a role or a machine"),
        ("do_not.reply+x@example.com", "the address belongs to a role or a machine"),
        ("MAILER-DAEMON@example.com", "the address belongs to a role or a machine"),
        ("list-request@example.com", "the address belongs to a mailing list's program"),
        ("owner-list@example.com", "the address belongs to a mailing list's program"),
        ("bob@ada.example", "the address is in the sender's own domain"),
        ("bob@ADA.EXAMPLE", "the address is in the sender's own domain"),
        ("victim%example.org@relay.example", "the address is not one plain address"),
        ("host!victim@relay.example", "the address is not one plain address"),
        ("a@b.example, c@d.example", "the address is not one plain address"),
        ("=?utf-8?q?a=40b.com=2C?=x@example.com", "the address is not one plain address"),
    ],
)
def test_an_address_that_gets_none_has_its_reason(address, reason):
    assert why_not_confirm(address, ADAS_FORM) == reason


def test_nobody_gets_one_from_a_form_that_sends_none():
    assert (
        why_not_confirm("bob@example.com", replace(ADAS_FORM, confirms=False)) == "confirmations are off for this form"
    )


@pytest.mark.parametrize("provider", ["gmail.com", "googlemail.com", "gmx.de", "outlook.com"])
def test_sharing_a_public_provider_with_the_owner_says_nothing(provider):
    form = replace(ADAS_FORM, sender=f"adas.forms@{provider}")
    assert why_not_confirm(f"bob@{provider}", form) is None
    assert why_not_confirm(f"adas.forms@{provider}", form) == "the address is one of the form's own"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Bob@Example.COM", "bob@example.com"),
        ("bob+a+b@example.com", "bob@example.com"),
        ("b.o.b+x@gmail.com", "bob@googlemail.com"),
        ("bob@bücher.example", "bob@xn--bcher-kva.example"),
        ("bob@example.com.", "bob@example.com"),
    ],
)
def test_ways_of_writing_a_mailbox_have_one_key(one, other):
    assert fold(one) == fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("b.ob@example.com", "bob@example.com"), ("bob@example.com", "bob@example.org"), ("+a@x.example", "+b@x.example")],
)
def test_different_mailboxes_have_different_keys(one, other):
    assert fold(one) != fold(other)


@pytest.mark.parametrize("address", ["bob+x@example.com", "b.o.b+x+y@gmail.com", "+x@x.example"])
def test_an_address_with_a_tag_may_be_unknown_where_its_mailbox_is_not(address):
    assert has_tag(address)


@pytest.mark.parametrize("address", ["bob@example.com", "b.o.b@gmail.com", "bob@a+b.example"])
def test_an_address_without_a_tag_is_its_mailbox(address):
    assert not has_tag(address)
