"""What the settings say reaches the parts: which way tells of its own outage by its first letter."""

from pathlib import Path

import pytest

from pillarbox.fittings import make_ways
from pillarbox.settings import WrongSettings
from tests.test_settings import MAIL, loading

BACKUP = """
[transports.backup]
smtp_server = "backup.example.org"
email_address = "ada@example.org"
"""
BY_DEFAULT, BY_BACKUP = "mailto:ada@example.org?transport=default", "mailto:ada@example.org?transport=backup"


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Load the settings of an empty folder."""
    return loading(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("alarm_to", "tell"),
    [
        ("", {"default", "backup"}),
        ("https://example.org/hook", set()),
        (BY_DEFAULT, {"default"}),
        (BY_BACKUP, {"backup"}),
        (f"{BY_DEFAULT},{BY_BACKUP}", set()),
        (f"{BY_DEFAULT},https://example.org/hook", set()),
    ],
)
def test_a_way_tells_of_its_outage_where_no_channel_could(given, alarm_to, tell):
    Path("pillarbox.toml").write_text(BACKUP)
    ways = make_ways(given(**MAIL, ALARM_TO=alarm_to, ALARM_AFTER="600"))
    assert {way.name for way in ways if way.tells is not None} == tell
    assert {way.tells for way in ways if way.name in tell} <= {600.0}


def test_a_channel_that_no_mail_can_reach_is_a_wrong_setting(given):
    with pytest.raises(WrongSettings, match="ALARM_TO"):
        make_ways(given(**MAIL, ALARM_TO="mailto:ada@"))
