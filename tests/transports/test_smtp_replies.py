"""The table of replies: what each code at each stage means for the letter."""

import pytest

from pillarbox.core.delivery import Blocked, Deferred, Refused, Sent
from pillarbox.transports.smtp_replies import MAX_NOTE, Stage, judge, leaves_in_step, lost, refuses_the_null_sender

TABLE = [
    (Stage.BANNER, 220, "mx ESMTP", None),
    (Stage.BANNER, 421, "4.3.2 busy", Blocked),
    (Stage.BANNER, 450, "later", Blocked),
    (Stage.BANNER, 554, "no", Blocked),
    (Stage.EHLO, 250, "mx", None),
    (Stage.EHLO, 421, "closing", Blocked),
    (Stage.EHLO, 502, "what", Blocked),
    (Stage.EHLO, 550, "you", Blocked),
    (Stage.STARTTLS, 220, "go", None),
    (Stage.STARTTLS, 454, "4.7.0 TLS not available", Blocked),
    (Stage.STARTTLS, 501, "5.5.4 syntax", Blocked),
    (Stage.AUTH, 235, "2.7.0 welcome", None),
    (Stage.USERNAME, 334, "VXNlcm5hbWU6", None),
    (Stage.AUTH, 334, "", Blocked),
    (Stage.AUTH, 421, "4.7.0 slow down", Blocked),
    (Stage.AUTH, 454, "4.7.0 temporary", Blocked),
    (Stage.AUTH, 530, "5.7.0 TLS first", Blocked),
    (Stage.AUTH, 534, "5.7.9 web login required", Blocked),
    (Stage.AUTH, 535, "5.7.8 wrong password", Blocked),
    (Stage.RSET, 250, "ok", None),
    (Stage.RSET, 500, "what", Blocked),
    (Stage.MAIL, 250, "2.1.0 ok", None),
    (Stage.MAIL, 421, "4.7.0 too many", Blocked),
    (Stage.MAIL, 451, "4.3.0 later", Deferred),
    (Stage.MAIL, 452, "4.3.1 full", Deferred),
    (Stage.MAIL, 530, "5.7.0 Authentication required", Blocked),
    (Stage.MAIL, 550, "5.1.8 sender", Blocked),
    (Stage.MAIL, 553, "not yours", Blocked),
    (Stage.MAIL, 554, "5.7.1 denied", Blocked),
    (Stage.MAIL, 552, "5.3.4 Message size exceeds fixed limit", Refused),
    (Stage.MAIL, 552, "message size exceeds fixed maximium message size", Refused),
    (Stage.MAIL, 552, "Message size exceeds maximum permitted", Refused),
    (Stage.MAIL, 552, "5.2.3 Message length exceeds administrative limit", Refused),
    (Stage.MAIL, 552, "5.7.0 Your message is too large", Refused),
    (Stage.MAIL, 552, "Your account's message size limit is exceeded", Refused),
    (Stage.MAIL, 552, "5.0.0 no", Refused),
    (Stage.MAIL, 552, "5.2.2 Mailbox full", Blocked),
    (Stage.MAIL, 552, "5.2.2 Message size is more than the quota left", Blocked),
    (Stage.MAIL, 552, "5.1.8 sender", Blocked),
    (Stage.MAIL, 552, "5.3.1 Mail system full", Blocked),
    (Stage.MAIL, 552, "5.7.1 denied", Blocked),
    (Stage.MAIL, 552, "Requested mail action aborted: exceeded storage allocation", Blocked),
    (Stage.MAIL, 552, "Your account is over quota", Blocked),
    (Stage.MAIL, 552, "Daily sending limit reached", Blocked),
    (Stage.MAIL, 550, "5.6.7 no SMTPUTF8 here", Refused),
    (Stage.MAIL, 550, "5.6.9 no UTF-8 in headers", Refused),
    (Stage.MAIL, 555, "5.5.4 Unsupported option: SIZE=17", Blocked),
    (Stage.MAIL, 550, "Message size exceeds maximum permitted", Blocked),
    (Stage.RCPT, 250, "ok", None),
    (Stage.RCPT, 251, "will forward", None),
    (Stage.RCPT, 421, "4.4.2 closing", Blocked),
    (Stage.RCPT, 450, "4.2.0 Greylisted", Deferred),
    (Stage.RCPT, 451, "4.3.0 later", Deferred),
    (Stage.RCPT, 452, "4.2.2 mailbox full", Deferred),
    (Stage.RCPT, 450, "4.2.1 The user is receiving mail too quickly", Deferred),
    (Stage.RCPT, 452, "4.2.2 over its daily receiving limit", Deferred),
    (Stage.RCPT, 503, "5.5.1 MAIL first", Blocked),
    (Stage.RCPT, 530, "5.7.0 Must issue STARTTLS first", Blocked),
    (Stage.RCPT, 550, "5.1.1 no such user", Refused),
    (Stage.RCPT, 550, "no enhanced code", Refused),
    (Stage.RCPT, 551, "5.1.6 moved", Refused),
    (Stage.RCPT, 553, "5.1.3 syntax", Refused),
    (Stage.RCPT, 554, "5.7.1 relay access denied", Refused),
    (Stage.RCPT, 552, "5.2.2 The mailbox is over its quota", Refused),
    (Stage.RCPT, 550, "5.1.1 <daily_sending_limit@evil.example>: no such user", Refused),
    (Stage.RCPT, 550, "5.1.1 undeliverable: evil.example said: 550 5.4.5 Daily sending limit", Refused),
    (Stage.RCPT, 550, "5.1.1 undeliverable: evil.example said: 535 5.7.139 no", Refused),
    (Stage.RCPT, 550, "5.4.5 Daily user sending limit exceeded.", Blocked),
    (Stage.RCPT, 450, "Sending quota reached", Blocked),
    (Stage.RCPT, 550, "5.7.30 Basic authentication is not supported", Blocked),
    (Stage.DATA, 354, "go", None),
    (Stage.DATA, 250, "out of step", Blocked),
    (Stage.DATA, 421, "4.3.0 closing", Blocked),
    (Stage.DATA, 451, "4.3.0 later", Deferred),
    (Stage.DATA, 452, "4.3.1 full", Deferred),
    (Stage.DATA, 552, "5.3.4 too big", Refused),
    (Stage.DATA, 554, "5.5.1 no valid recipients", Refused),
    (Stage.DATA, 550, "5.7.57 Client was not authenticated", Blocked),
    (Stage.DOT, 250, "2.0.0 queued as 5", Sent),
    (Stage.DOT, 250, "odd \0 words", Sent),
    (Stage.DOT, 421, "4.3.0 closing", Blocked),
    (Stage.DOT, 451, "4.7.1 later", Deferred),
    (Stage.DOT, 550, "5.7.1 spam", Refused),
    (Stage.DOT, 554, "5.6.0 content", Refused),
    (Stage.DOT, 552, "5.3.4 too big", Refused),
    (Stage.DOT, 554, "5.7.60 Client does not have permissions to send as this sender", Blocked),
    (Stage.DOT, 535, "5.7.139 Authentication unsuccessful", Blocked),
    (Stage.DOT, 550, "5.1.8 Bad outbound sender", Blocked),
    (Stage.DOT, 554, "Daily message limit exceeded", Blocked),
    *((stage, code, "foreign", Blocked) for stage in (Stage.EHLO, Stage.RCPT, Stage.DOT) for code in (-1, 0, 199, 700)),
    (Stage.RCPT, 250, "ok\0", Blocked),
]


@pytest.mark.parametrize(("stage", "code", "text", "expected"), TABLE)
def test_a_reply_means_what_its_code_and_then_its_stage_say(stage, code, text, expected):
    outcome = judge(stage, code, text)
    assert (outcome if expected is None else type(outcome)) == expected


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (555, "5.5.4 Unsupported option: SMTPUTF8", Refused),
        (504, "no such parameter", Refused),
        (555, "5.4.5 Daily sending limit", Blocked),
        (553, "not yours", Blocked),
        (550, "5.1.8 sender", Blocked),
    ],
)
def test_an_unknown_parameter_is_about_a_letter_that_has_more_of_them_than_others(code, text, expected):
    assert type(judge(Stage.MAIL, code, text, special=True)) is expected
    assert isinstance(judge(Stage.MAIL, code, text), Blocked)


@pytest.mark.parametrize(
    ("stage", "code", "text", "refused"),
    [
        (Stage.AUTH, 535, "5.7.8 wrong password", True),
        (Stage.AUTH, 534, "5.7.9 web login required", True),
        (Stage.AUTH, 530, "5.7.0 no", True),
        (Stage.AUTH, 550, "blocked account", True),
        (Stage.USERNAME, 504, "5.5.4 no such mechanism", True),
        (Stage.AUTH, 421, "4.7.0 slow down", False),
        (Stage.AUTH, 454, "4.7.0 temporary", False),
        (Stage.AUTH, 334, "", False),
        (Stage.AUTH, 700, "odd", False),
        (Stage.MAIL, 530, "5.7.0 Authentication required", True),
        (Stage.MAIL, 530, "5.7.0 Must issue a STARTTLS command first", False),
        (Stage.MAIL, 550, "5.1.8 sender", False),
        (Stage.RCPT, 550, "5.7.30 Basic authentication is not supported", True),
        (Stage.RCPT, 550, "5.4.5 Daily user sending limit exceeded", False),
        (Stage.DATA, 550, "5.7.57 Client was not authenticated", True),
        (Stage.DATA, 421, "4.3.0 closing", False),
        (Stage.DOT, 535, "5.7.139 Authentication unsuccessful", True),
        (Stage.DOT, 554, "5.7.60 not allowed to send as", False),
        (Stage.BANNER, 554, "no", False),
    ],
)
def test_a_login_that_was_refused_for_good_is_told_from_one_that_may_pass(stage, code, text, refused):
    outcome = judge(stage, code, text)
    assert isinstance(outcome, Blocked)
    assert outcome.login is refused


@pytest.mark.parametrize(("stage", "expected"), [(stage, Blocked) for stage in list(Stage)[:7]])
def test_a_cut_before_the_letter_is_about_the_way_out(stage, expected):
    assert isinstance(lost(stage, "the connection was cut"), expected)


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT])
def test_a_cut_within_the_letter_is_a_later(stage):
    assert isinstance(lost(stage, "the connection was cut"), Deferred)


def test_a_note_is_one_short_line_whatever_the_server_says():
    outcome = judge(Stage.RCPT, 550, "a\r\nb\x1b[31m\udc80\u2028" + "c" * 100_000)
    assert outcome is not None
    assert outcome.note.startswith("550 a b [31m c")
    assert len(outcome.note) == MAX_NOTE
    assert outcome.note.isprintable()


@pytest.mark.parametrize(
    ("stage", "code", "text", "refuses"),
    [
        (Stage.MAIL, 550, "no", True),
        (Stage.MAIL, 501, "5.1.7 bad address", True),
        (Stage.MAIL, 450, "4.1.8 later", False),
        (Stage.MAIL, 530, "5.7.0 login first", False),
        (Stage.MAIL, 552, "Message size exceeds maximum permitted", False),
        (Stage.MAIL, 555, "5.5.2 Syntax error", True),
        (Stage.MAIL, 550, "5.4.5 Daily sending limit", False),
        (Stage.RCPT, 550, "5.1.1 no such user", False),
        (Stage.RCPT, 550, "5.7.1 <>: Sender address rejected", True),
        (Stage.RCPT, 550, "5.1.1 <null.sender@evil.example>: unknown", False),
        (Stage.DOT, 550, "5.7.60 not allowed to send as", True),
        (Stage.DOT, 554, "5.1.8 sender", True),
        (Stage.DOT, 554, "5.7.1 spam", False),
    ],
)
def test_only_words_about_the_sender_are_about_a_null_sender(stage, code, text, refuses):
    assert refuses_the_null_sender(stage, code, text) is refuses


@pytest.mark.parametrize(
    ("stage", "code", "text", "stays"),
    [
        (Stage.RCPT, 550, "no", True),
        (Stage.DOT, 451, "later", True),
        (Stage.RCPT, 421, "bye", False),
        (Stage.RCPT, 503, "what", False),
        (Stage.RCPT, 700, "", False),
        (Stage.DOT, 250, "\0", False),
        (Stage.DATA, 250, "ok", False),
        (Stage.RSET, 500, "what", False),
    ],
)
def test_a_connection_is_used_again_only_after_a_refusal_of_one_letter(stage, code, text, stays):
    assert leaves_in_step(stage, code, text) is stays
