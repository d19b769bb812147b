"""Several ways out for mail, and the file that describes them."""

import re
from pathlib import Path

import pytest

from tests.test_settings import MAIL, complaints, loading

DAY = 86_400.0
GMAIL = """
[transports.my-gmail]
smtp_server = "smtp.gmail.com"
email_address = "ada@gmail.com"
"""


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Load the settings of an empty folder."""
    return loading(tmp_path, monkeypatch)


def written(text: str) -> None:
    """Write the file in the working folder."""
    Path("pillarbox.toml").write_text(text, encoding="utf-8")


def test_the_file_goes_after_everything_else_and_has_lists_and_numbers(given):
    written(
        'site_name = "File"\nport = 81\nrecipient_email = ["ada@example.org", "bob@example.org"]\nsmtp_timeout = 30'
    )
    Path("secrets").mkdir()
    Path("secrets/port").write_text("82")
    settings = given(SECRETS_DIR="secrets")
    assert (settings.site_name, settings.port, settings.smtp_timeout) == ("File", 82, 30.0)
    assert settings.recipients == ("ada@example.org", "bob@example.org")
    Path(".env").write_text("SITE_NAME=Dotenv")
    assert given(SECRETS_DIR="secrets").site_name == "Dotenv"
    assert given(SITE_NAME="Environment").site_name == "Environment"


def test_another_file_may_be_named(given):
    Path("other.toml").write_text('site_name = "Other"\nport = "x"')
    assert complaints(given, CONFIG_FILE="other.toml") == ("PORT (in other.toml) is not right: write a whole number.",)
    Path("other.toml").write_text('site_name = "Other"\nlogo_url = ""\nemail_address = " "')
    assert given(CONFIG_FILE="other.toml").site_name == "Other"


IN_THE_FILE = {
    "a = 1\nsite_name 'x'": "pillarbox.toml can't be read at line 2: Expected '=' after a key in a key/value pair.",
    "[transports": "pillarbox.toml can't be read at its end: Expected ']' at the end of a table declaration.",
    "smtp_servr = 'x'": "smtp_servr (in pillarbox.toml) is no setting: did you mean smtp_server?",
    "SITE_NAME = 'x'": "SITE_NAME (in pillarbox.toml) is no setting: did you mean site_name?",
    "zzz = 1": "zzz (in pillarbox.toml) is no setting.",
    f"{GMAIL}smtp_prot = 1": "smtp_prot in [transports.my-gmail] (in pillarbox.toml) is no setting: "
    "did you mean smtp_port?",
    f"{GMAIL}smtp_port = 'x'": "smtp_port in [transports.my-gmail] (in pillarbox.toml) is not right: "
    "write a whole number.",
    "transports = 5": "TRANSPORTS (in pillarbox.toml) is not right: describe ways out in tables like "
    "[transports.gmail] of pillarbox.toml, or by variables like TRANSPORTS__GMAIL__SMTP_SERVER.",
    "[transports.my_gmail]": "[transports.my_gmail] (in pillarbox.toml) is not right: "
    "write dashes instead of underscores.",
    "[transports.Gmail]\nmaildir = 'x'": "[transports.Gmail] (in pillarbox.toml) is not right: "
    "name a way out with small letters, digits and dashes, 40 at most.",
    "[transports.default]\nmaildir = 'x'": "[transports.default] (in pillarbox.toml) is not right: "
    "`default` is what the settings at the top describe; give this way out another name.",
    "transports.x = 5": "[transports.x] (in pillarbox.toml) is not right: "
    "describe a way out in a table, like [transports.gmail].",
    "email_password = 4711": "EMAIL_PASSWORD (in pillarbox.toml) is not right: write a text, in quotes.",
}


@pytest.mark.parametrize(("text", "sentence"), IN_THE_FILE.items())
def test_whatever_is_wrong_in_the_file_is_said_with_its_place(given, text, sentence):
    written(text)
    assert complaints(given) == (sentence,)


def test_a_file_that_is_no_text_is_named(given):
    Path("pillarbox.toml").write_bytes(b"site_name = '\xff'")
    assert complaints(given) == ("The file pillarbox.toml is not text in UTF-8: save it as such.",)


def test_a_table_describes_a_way_out_with_every_value_that_counts(given):
    written(
        f"{GMAIL}smtp_fallback = 'relay'\n[transports.relay]\nsmtp_server = 'relay.example.org'\nsmtp_port = 465\n"
        "smtp_username = 'ada'\nsmtp_timeout = '2s'\nsmtp_budget = ['100/hour', '2000/day']\nsmtp_connections = 2\n"
        "[transports.archive]\nmaildir = 'archive'"
    )
    settings = given(**MAIL, TRANSPORT="my-gmail")
    assert settings.way == "my-gmail"
    assert [way.name for way in settings.ways] == ["default", "my-gmail", "relay", "archive"]
    default, gmail, relay, archive = settings.ways
    assert (default.server, default.sender, default.maildir) == ("smtp.example.com", "ada@example.org", None)
    assert (default.connect_timeout, default.timeout, default.dot_timeout, default.budget) == (10.0, 45.0, 450.0, ())
    assert (gmail.sender, gmail.username, gmail.fallback) == ("ada@gmail.com", "ada@gmail.com", "relay")
    assert (relay.port, relay.security, relay.username, relay.sender) == (465, "tls", "ada", "ada@example.org")
    assert (relay.connect_timeout, relay.timeout, relay.dot_timeout, relay.connections) == (2.0, 2.0, 20.0, 2)
    assert relay.budget == ((100, 3_600.0), (2_000, DAY))
    assert (archive.server, archive.maildir) == ("", Path("archive"))
    assert settings.sender == "ada@gmail.com"


def test_time_outs_of_a_way_out_may_be_set_one_by_one(given):
    settings = given(SMTP_TIMEOUT="5s", SMTP_CONNECT_TIMEOUT="30s", SMTP_DOT_TIMEOUT="7m")
    (way,) = settings.ways
    assert (way.connect_timeout, way.timeout, way.dot_timeout) == (30.0, 5.0, 420.0)


@pytest.mark.parametrize("password", ["abcd efgh ijkl mnop", "abcdefghijklmnop"])
def test_a_tables_password_may_stand_in_the_environment_in_dotenv_or_in_a_file(given, password):
    written(GMAIL)
    Path("secrets").mkdir()
    for name, value in (("transports__my_gmail__email_password", password), ("transports__my_gmail__smtp_port", "465")):
        Path("secrets", name).write_text(f"{value}\n")
    settings = given(SECRETS_DIR="secrets")
    assert settings.used_way.password.get_secret_value() == "abcdefghijklmnop"
    assert settings.used_way.security == "tls"
    assert "abcd" not in repr(settings.ways)
    Path(".env").write_text("TRANSPORTS__MY_GMAIL__EMAIL_PASSWORD=of dotenv")
    assert given(SECRETS_DIR="secrets").used_way.password.get_secret_value() == "ofdotenv"
    settings = given(SECRETS_DIR="secrets", TRANSPORTS__MY_GMAIL__EMAIL_PASSWORD="of environment")
    assert settings.used_way.password.get_secret_value() == "ofenvironment"
    assert [way.name for way in settings.ways] == ["my-gmail"]


def test_a_tables_value_that_stands_elsewhere_is_said_to_be_there(given):
    written(GMAIL)
    Path("secrets").mkdir()
    Path("secrets/transports__my_gmail__smtp_connections").write_text("0")
    variables = {"TRANSPORTS__MY_GMAIL__SMTP_PORT": "x", "TRANSPORTS__MY_GMAIL__SMTP_SERVR": "x"}
    assert complaints(given, SECRETS_DIR="secrets", **variables) == (
        "TRANSPORTS__MY_GMAIL__SMTP_PORT (in the environment) is not right: write a whole number.",
        "TRANSPORTS__MY_GMAIL__SMTP_CONNECTIONS (in secrets) is not right: write a number from 1 up.",
        "TRANSPORTS__MY_GMAIL__SMTP_SERVR (in the environment) is no setting: did you mean smtp_server?",
    )


def test_a_password_for_a_table_that_is_not_there_is_no_new_way_out(given):
    written(GMAIL)
    (sentence,) = complaints(given, TRANSPORTS__MY_GMIAL__EMAIL_PASSWORD="x")
    assert sentence == (
        "[transports.my-gmial] describes no way out: give it an smtp_server or a maildir: did you mean my-gmail?"
    )


def test_the_only_way_out_is_the_forms(given):
    written(GMAIL)
    settings = given()
    assert (settings.way, [way.name for way in settings.ways]) == ("my-gmail", ["my-gmail"])
    assert not settings.mails_to_a_folder
    assert (settings.sender, settings.recipients) == ("ada@gmail.com", ("ada@gmail.com",))
    assert given(ENVIRONMENT="production").way == "my-gmail"
    assert given(MAILDIR="mail").way == "default"
    assert given(**MAIL).way == "default"
    assert given(TRANSPORT="default").ways[0].maildir == Path("mail")


def test_of_several_ways_out_one_has_to_be_chosen_before_visitors_come(given):
    written(f"{GMAIL}[transports.archive]\nmaildir = 'archive'")
    assert given().way == "default"
    (sentence,) = complaints(given, ENVIRONMENT="production")
    assert sentence.endswith(", or set TRANSPORT.")
    settings = given(ENVIRONMENT="production", TRANSPORT="archive")
    assert (settings.mails_to_a_folder, settings.mail_folder) == (True, Path("archive"))


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {"TRANSPORT": "gmail"},
            "TRANSPORT (in the environment) names the way out gmail, which is not there: there are",
        ),
        ({"SMTP_FALLBACK": "gmail"}, "SMTP_FALLBACK (in the environment) names gmail, which is not there: there are"),
        (
            {"SMTP_FALLBACK": "default"},
            "SMTP_FALLBACK (in the environment) names default, which is this way out itself",
        ),
        (
            {"TRANSPORTS__MY_GMAIL__SMTP_FALLBACK": "my-gmail"},
            "TRANSPORTS__MY_GMAIL__SMTP_FALLBACK (in the environment) names my-gmail, which is this way out itself",
        ),
        (
            {"ALARM_TO": "mailto:ops@example.org?transport=gmail"},
            "ALARM_TO (in the environment) names the way out gmail, which is not there: there are default, my-gmail.",
        ),
        (
            {"TRANSPORTS__MY_GMAIL__MAILDIR": "mail"},
            "smtp_server and maildir of [transports.my-gmail] are both set",
        ),
        (
            {"TRANSPORTS__MY_GMAIL__SMTP_CA_FILE": "/nowhere"},
            "TRANSPORTS__MY_GMAIL__SMTP_CA_FILE (in the environment) names /nowhere, which is not a file.",
        ),
    ],
)
def test_ways_out_that_do_not_fit_together_are_named(given, variables, sentence):
    written(GMAIL)
    (said,) = complaints(given, **MAIL, **variables)
    assert said.startswith(sentence)


def test_a_way_out_wants_an_address_of_its_own_or_everybodys(given):
    written("[transports.relay]\nsmtp_server = 'relay.example.org'")
    assert complaints(given) == (
        "TRANSPORTS__RELAY__EMAIL_ADDRESS (not set) is missing: give it the address that its letters come from.",
    )
    assert given(EMAIL_ADDRESS="ada@example.org").used_way.sender == "ada@example.org"


@pytest.mark.parametrize(
    ("variables", "budget"),
    [
        ({"EMAIL_ADDRESS": "ada@gmail.com"}, ((500, DAY),)),
        ({"EMAIL_ADDRESS": "ada@googlemail.com"}, ((500, DAY),)),
        ({"EMAIL_ADDRESS": "ada@example.org"}, ((2_000, DAY),)),
        ({"EMAIL_ADDRESS": "ada@gmail.com", "SMTP_BUDGET": "off"}, ()),
        ({"EMAIL_ADDRESS": "ada@gmail.com", "SMTP_BUDGET": "5/second, 90/minutes"}, ((5, 1.0), (90, 60.0))),
        ({"EMAIL_ADDRESS": "ada@gmail.com", "SMTP_SERVER": "smtp.example.com"}, ()),
    ],
)
def test_the_budget_is_what_is_said_or_what_google_allows(given, variables, budget):
    (way,) = given(EMAIL_PASSWORD="x", **variables).ways
    assert way.budget == budget


def test_the_documented_file_is_right(given):
    page = (Path(__file__).parents[1] / "docs/settings.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    written(example)
    assert [way.name for way in given().ways] == ["default", "gmail", "archive"]
