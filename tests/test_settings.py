"""Settings: whatever is wrong stops the start with one plain sentence that says what, where and what would be right."""

from pathlib import Path

import pytest

from pillarbox.settings import THROWAWAY_DISKS, Settings, WrongSettings, load
from tests.running import Pillarbox

MAIL = {"SMTP_SERVER": "smtp.example.com", "EMAIL_ADDRESS": "ada@example.org", "EMAIL_PASSWORD": "abcd efgh"}


def loading(folder, monkeypatch):
    """Return a function that loads the settings of these variables and of this folder, and nothing else."""
    for name in (*Settings.model_fields, *THROWAWAY_DISKS, "SECRETS_DIR", "CONFIG_FILE"):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)

    def load_with(**variables: str) -> Settings:
        with monkeypatch.context() as patched:
            for name, value in variables.items():
                patched.setenv(name, value)
            return load()

    return load_with


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Load the settings of an empty folder."""
    return loading(tmp_path, monkeypatch)


def complaints(given, **variables: str) -> tuple[str, ...]:
    with pytest.raises(WrongSettings) as wrong:
        given(**variables)
    return wrong.value.sentences


def test_without_any_setting_mail_goes_into_a_folder_of_this_machine(given):
    settings = given()
    assert settings.mails_to_a_folder
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert settings.recipients == ("you@localhost",)
    assert settings.database_url == "sqlite:///./data/pillarbox.db"


WRONG = {
    "SMTP_SERVER": ("https://smtp.example.com:587", "write a host's name alone"),
    "SMTP_PORT": ("99999", "write a number of 65535 at most"),
    "SMTP_SECURITY": ("ssl", "write 'starttls', 'tls', 'plain' or ''"),
    "SMTP_CONNECTIONS": ("0", "write a number from 1 up"),
    "SMTP_CONNECT_TIMEOUT": ("0s", "write more than 0"),
    "SMTP_TIMEOUT": ("soon", "write a duration like 500ms, 30s, 5m, 2h or 1d"),
    "SMTP_DOT_TIMEOUT": ("long", "write a duration like 500ms, 30s, 5m, 2h or 1d"),
    "SMTP_BUDGET": ("500/month", "write it like 500/day, or 100/hour, 2000/day, or off"),
    "SMTP_FALLBACK": ("My Relay", "name a way out with small letters, digits and dashes"),
    "TRANSPORT": ("relay", "names the way out relay, which is not there"),
    "TRANSPORTS": ("relay", "describe ways out in tables like [transports.gmail]"),
    "SMTP_CA_FILE": ("/nowhere/ca.pem", "is not a file"),
    "EMAIL_ADDRESS": ("Ada <ada@example.org>", "write one address, like name@example.com"),
    "RECIPIENT_EMAIL": ("ada@example.org; bob@example.org", "write one address, like name@example.com"),
    "CC_EMAIL": ("ada@example.org, bob", "write one address, like name@example.com"),
    "BCC_EMAIL": ("ada@exam ple.org", "write one address, like name@example.com"),
    "CONFIRMATION_EMAIL": ("perhaps", "write true or false"),
    "CONFIRMATIONS_PER_HOUR": ("-1", "write a number from 1 up"),
    "MAILDIR": ("/etc/passwd", "is not a folder"),
    "DATABASE_URL": ("mysql://x", "like sqlite:///./data/pillarbox.db"),
    "MIGRATE": ("maybe", "write 'on' or 'off'"),
    "PORT": ("http", "write a whole number"),
    "WORKERS": ("1.5", "write a whole number"),
    "PUBLIC_URL": ("forms.example.com", "write it like https://forms.example.com"),
    "ALLOWED_HOSTS": ("https://forms.example.com", "write a host's name alone"),
    "CORS_ORIGINS": ("https://www.example.com/", "write origins like https://www.example.com"),
    "TRUSTED_PROXIES": ("10.0.0.300", "write addresses or networks, like 10.0.0.1 or 10.0.0.0/8"),
    "SITE_NAME": ("x" * 81, "write at most 80 characters"),
    "ACCENT_COLOR": ("red", "write a colour like #0b5cad"),
    "LOGO_URL": ("javascript:alert(1)", "write it like https://"),
    "TIMEZONE": ("Mars/Olympus", "write a time zone like Europe/Berlin, or UTC"),
    "RATE_LIMIT": ("ten a minute", "write it like 10/minute"),
    "RETRY_SCHEDULE": ("1s,,x", "write a duration like"),
    "PROBE_INTERVAL": ("0", "write more than 0"),
    "DIGEST_ABOVE": ("0", "write a number from 1 up"),
    "ALARM_TO": ("ops", "write addresses like https://…, ntfys://ntfy.sh/topic or mailto:ops@example.org"),
    "ALARM_AFTER": ("9" * 400, "write a number that has an end"),
    "QUIET_AFTER": ("3 weeks", "write a duration like 500ms, 30s, 5m, 2h or 1d"),
    "PING_URL": ("ping.example.com/key", "write an address like https://ping.example.com/your-key"),
    "PING_EVERY": ("off", "write a duration like 500ms, 30s, 5m, 2h or 1d"),
    "NAMESERVER": ("dns.example.com", "write an IP address, like 9.9.9.9, 127.0.0.1:5353 or [::1]:5353"),
    "LOG_LEVEL": ("loud", "write 'debug', 'info', 'warning' or 'error'"),
    "LOG_FORMAT": ("xml", "write 'text', 'json' or ''"),
    "LOG_FILE": ("/nowhere/log", "in a folder that exists"),
    "ENVIRONMENT": ("staging", "write 'development' or 'production'"),
    "SECRETS_DIR": ("/nowhere", "is not a folder"),
    "CONFIG_FILE": ("/nowhere.toml", "is not a file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_named_with_its_place_and_what_would_be_right(given, name):
    value, right = WRONG[name]
    (sentence,) = [one for one in complaints(given, **{name: value}) if name in one]
    assert sentence.startswith(f"{name} (in the environment)")
    assert right in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_setting_in_a_file_is_said_to_be_there(given):
    Path(".env").write_text("PORT=x\n")
    Path("secrets").mkdir()
    Path("secrets/rate_limit").write_text("y\n")
    assert complaints(given, SECRETS_DIR="secrets") == (
        "PORT (in the file .env) is not right: write a whole number.",
        "RATE_LIMIT (in secrets) is not right: write it like 10/minute (second, minute, hour or day), or off.",
    )


def test_the_environment_goes_before_the_file_and_the_file_before_secrets(given):
    Path(".env").write_text("SITE_NAME=File\nPORT=81\n")
    Path("secrets").mkdir()
    for name, value in (("site_name", "Secret"), ("port", "82"), ("accent_color", "#AABBCC")):
        Path("secrets", name).write_text(f"{value}\n")
    settings = given(SECRETS_DIR="secrets", SITE_NAME="Environment")
    assert (settings.site_name, settings.port, settings.accent_color) == ("Environment", 81, "#aabbcc")


def test_files_that_are_no_text_are_named(given):
    Path(".env").write_bytes(b"SITE_NAME=\xff\xfe")
    (sentence,) = complaints(given)
    assert ".env" in sentence
    assert "UTF-8" in sentence
    Path(".env").unlink()
    Path("secrets").mkdir()
    Path("secrets/site_name").write_bytes(b"\xff")
    (sentence,) = complaints(given, SECRETS_DIR="secrets")
    assert "secrets" in sentence


def test_settings_that_go_together_are_asked_for_together(given):
    (sentence,) = complaints(given, SMTP_SERVER="smtp.example.com")
    assert sentence.startswith("EMAIL_ADDRESS is not set")
    (sentence,) = complaints(given, **MAIL, MAILDIR="mail")
    assert "both set" in sentence


def test_a_password_alone_means_gmail_and_its_groups_of_four_are_joined(given):
    settings = given(EMAIL_ADDRESS="ada@example.org", EMAIL_PASSWORD="abcd efgh ijkl mnop")
    assert (settings.smtp_server, settings.smtp_port, settings.security) == ("smtp.gmail.com", 587, "starttls")
    assert settings.email_password.get_secret_value() == "abcdefghijklmnop"
    assert settings.recipients == ("ada@example.org",)


def test_other_servers_get_the_password_as_it_is(given):
    assert given(**MAIL).email_password.get_secret_value() == "abcd efgh"


def test_the_port_decides_how_the_connection_is_kept_secret(given):
    assert given(**MAIL).security == "starttls"
    assert given(**MAIL, SMTP_PORT="465").security == "tls"
    assert given(**MAIL, SMTP_PORT="25").security == "starttls"
    assert given(**MAIL, SMTP_PORT="25", SMTP_SECURITY="Plain").security == "plain"


def test_lists_are_separated_by_commas(given):
    settings = given(
        RECIPIENT_EMAIL="ada@example.org, forms@corp.local,",
        ALLOWED_HOSTS="a.example,B.example",
        CORS_ORIGINS="https://a.example, http://localhost:3000",
        TRUSTED_PROXIES="10.0.0.1, 2001:db8::/32",
        RETRY_SCHEDULE="500ms, 1m,2h",
    )
    assert settings.recipients == ("ada@example.org", "forms@corp.local")
    assert settings.allowed_hosts == ("a.example", "B.example")
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.1/32", "2001:db8::/32"]
    assert settings.retry_schedule == (0.5, 60.0, 7_200.0)
    assert given().cors_origins is None


def test_what_may_be_off_is_none(given):
    usual = given()
    assert (usual.confirmations_per_hour, usual.digest_above, usual.quiet_after) == (60, 20, None)
    settings = given(CONFIRMATIONS_PER_HOUR="off", DIGEST_ABOVE="Off", QUIET_AFTER="off")
    assert (settings.confirmations_per_hour, settings.digest_above, settings.quiet_after) == (None, None, None)
    assert given(QUIET_AFTER="3d").quiet_after == 259_200.0


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("", None),
        ("9.9.9.9", ("9.9.9.9", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]:5353", ("::1", 5353)),
        ("[2620:fe::fe]", ("2620:fe::fe", 53)),
    ],
)
def test_a_name_server_is_an_address_with_a_port(given, written, meant):
    assert given(NAMESERVER=written).name_server == meant


@pytest.mark.parametrize("wrong", ["127.0.0.1:0", "127.0.0.1:70000", "1.2.3.4.5", "[127.0.0.1", ":::", "9.9.9.9:"])
def test_a_name_server_that_is_none_is_refused(given, wrong):
    assert complaints(given, NAMESERVER=wrong)[0].startswith("NAMESERVER (in the environment) is not right")


def test_addresses_to_tell_are_secrets(given):
    secret = "https://hooks.example.com/T0/s3cret"
    settings = given(
        ALARM_TO=f"{secret}, ntfys://ntfy.sh/ours,mailto:ops@example.org?transport=default, tgram://token/chat",
        PING_URL=f"{secret}?create=1",
        METRICS_TOKEN="s3cret",
    )
    assert [channel.get_secret_value().partition(":")[0] for channel in settings.alarm_to] == [
        "https",
        "ntfys",
        "mailto",
        "tgram",
    ]
    assert settings.ping_url.get_secret_value() == f"{secret}?create=1"
    assert "s3cret" not in repr(settings)
    for name, value in (("ALARM_TO", f"{secret},s3cret"), ("PING_URL", "s3cret"), ("ALARM_TO", "mailto:s3cret")):
        (sentence,) = complaints(given, **{name: value})
        assert "s3cret" not in sentence


def test_production_wants_a_way_out_for_mail(given):
    (sentence,) = complaints(given, ENVIRONMENT="production")
    assert "no way out for mail" in sentence
    assert given(ENVIRONMENT="production", MAILDIR="mail").is_production
    assert given(ENVIRONMENT="Production", **MAIL).is_production


@pytest.mark.parametrize(("variable", "platform"), THROWAWAY_DISKS.items())
def test_a_platform_that_throws_the_disk_away_is_refused_unless_told_otherwise(given, variable, platform):
    (sentence,) = complaints(given, **{variable: "x"})
    assert platform in sentence
    assert "DATA_IS_DURABLE=true" in sentence
    assert given(**{variable: "x"}, DATA_IS_DURABLE="true").data_is_durable


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "postgres://x", "", "x"])
def test_messages_are_kept_in_a_file_or_not_at_all(given, url):
    if url:
        assert "DATABASE_URL" in complaints(given, DATABASE_URL=url)[0]
    else:
        assert given(DATABASE_URL=url).database_url == "sqlite:///./data/pillarbox.db"


KEY = "k" * 64


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://forms:s3cret@db.example.com:5432/pillarbox",
        "postgres://forms:s3%40c%2Fret%25@db/pillarbox?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql+psycopg://forms@[::1]:5433/pillarbox",
        "postgresql://forms:a:b?c#d@one:5432,two:5433/pillarbox?target_session_attrs=read-write",
        "postgresql:///pillarbox?host=/var/run/postgresql",
        "postgresql://forms@%2Fvar%2Frun%2Fpostgresql/pillarbox",
    ],
)
def test_messages_are_kept_by_a_server_that_is_named_as_its_own_programs_name_it(given, url):
    settings = given(DATABASE_URL=url, SECRET_KEY=KEY)
    assert (settings.database_url, settings.is_on_postgresql) == (url, True)
    assert "s3" not in f"{settings} {settings!r}"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql://db.example.com",
        "postgresql://db.example.com/",
        "postgresql://forms:mistyped@x@db/pillarbox",
        "postgresql://forms:mistyped/x@db/pillarbox",
        "postgresql://forms:mistyped%x@db/pillarbox",
        "postgresql://forms:1/mistyped?x@db/pillarbox",
        "postgresql://forms@db:mistyped/pillarbox",
        "postgresql://forms@db/pillarbox#mistyped",
    ],
)
def test_an_address_of_a_server_that_is_none_is_refused_without_a_word_of_it(given, url):
    (sentence,) = complaints(given, DATABASE_URL=url, SECRET_KEY=KEY)
    assert sentence.startswith("DATABASE_URL (in the environment) is not right: write it like postgresql://user:")
    assert sentence.endswith("in a password, write % as %25, @ as %40, / as %2F, ? as %3F and # as %23.")
    assert "mistyped" not in sentence


def test_with_a_server_the_secret_key_has_to_be_the_same_everywhere(given):
    (sentence,) = complaints(given, DATABASE_URL="postgresql://db/pillarbox")
    assert sentence.startswith("SECRET_KEY has to be set with PostgreSQL")


def test_with_a_server_a_disk_that_is_thrown_away_does_no_harm(given):
    assert given(DATABASE_URL="postgresql://db/pillarbox", SECRET_KEY=KEY, K_SERVICE="forms")


def test_with_a_server_the_dispatcher_asks_every_second_unless_told_otherwise(given):
    there = {"DATABASE_URL": "postgresql://db/pillarbox", "SECRET_KEY": KEY}
    assert given().polls_every == 5
    assert given(**there).polls_every == 1
    assert given(**there, POLL_INTERVAL="5s").polls_every == 5


def test_a_database_that_is_none_is_refused(given):
    Path("letters.txt").write_text("Dear Sir or Madam")
    (sentence,) = complaints(given, DATABASE_URL="sqlite:///letters.txt")
    assert "not an SQLite file" in sentence
    Path("empty.db").touch()
    assert given(DATABASE_URL="sqlite:///empty.db")


@pytest.mark.parametrize("command", [("serve",), ("worker",), ("doctor",), ("send-test",), ("messages", "list")])
def test_every_command_says_what_is_wrong_without_the_password_and_ends_with_2(pillarbox, command):
    ended = pillarbox.run(*command, **(MAIL | {"PORT": "x", "EMAIL_ADDRESS": "nobody", "ENVIRONMENT": "hurry"}))
    assert ended.returncode == 2
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert [line.split()[0] for line in lines] == ["EMAIL_ADDRESS", "PORT", "ENVIRONMENT"]
    assert "abcd" not in ended.stderr


@pytest.mark.parametrize(
    "settings",
    [
        {"DEFAULT_LANGUAGE": "xx"},
        {"DATABASE_URL": "sqlite:////proc/nowhere/x.db"},
        {"DATABASE_URL": "sqlite:////etc/passwd/x.db"},
        {"K_SERVICE": "forms"},
        {"ENVIRONMENT": "production"},
        {"MIGRATE": "off"},
    ],
)
def test_the_start_is_refused_with_one_line(pillarbox, settings):
    ended = pillarbox.run("serve", **settings)
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "Traceback" not in ended.stderr


def test_gmail_by_default_is_said_at_the_start_and_the_password_never(pillarbox: Pillarbox):
    process = pillarbox.serve(EMAIL_ADDRESS="ada@example.org", EMAIL_PASSWORD="abcd efgh ijkl mnop")
    process.terminate()
    assert process.wait(20) == 0
    said = pillarbox.log.read_text()
    assert "smtp.gmail.com:587 as ada@example.org, because SMTP_SERVER is not set" in said
    assert "abcd" not in said
