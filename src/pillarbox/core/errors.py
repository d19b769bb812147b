"""Everything that may go wrong on purpose: a class, a code for programs, a sentence for people.

Sentences are English, hold `%(name)s` places for `values`, and are translated where they are shown. They never
repeat what a visitor wrote.
"""

from collections.abc import Mapping
from dataclasses import dataclass


def N_(sentence: str) -> str:  # noqa: N802 - gettext's name for "translated later"
    """Mark a sentence for the catalogues."""
    return sentence


REQUIRED_FIELD_MISSING = "REQUIRED_FIELD_MISSING"
REQUIRED_FIELD_EMPTY = "REQUIRED_FIELD_EMPTY"
TYPE_EMAIL = "TYPE_EMAIL"
TYPE_TEXT = "TYPE_TEXT"
TOO_LONG = "TOO_LONG"

FIELD_SENTENCES: Mapping[str, str] = {
    REQUIRED_FIELD_MISSING: N_("Please fill in this field."),
    REQUIRED_FIELD_EMPTY: N_("Please fill in this field."),
    TYPE_EMAIL: N_("Please enter one valid email address, like name@example.com."),
    TYPE_TEXT: N_("Please enter plain text here, without line breaks or control characters."),
    TOO_LONG: N_("Please keep this to at most %(max_length)s characters."),
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one field."""

    field: str
    code: str
    values: Mapping[str, object]

    @property
    def sentence(self) -> str:
        """The English sentence, with its places unfilled."""
        return FIELD_SENTENCES[self.code]


class PillarboxError(Exception):
    """Anything that goes wrong on purpose while a message is on its way in."""

    code = "ERROR"
    sentence = N_("Something went wrong. Please try again.")
    values: Mapping[str, object] = {}


class Unreadable(PillarboxError):
    """The body is not what its content type says."""

    code = "UNREADABLE"
    sentence = N_("We could not read what was sent. Please send the form again.")


class UnsupportedMediaType(PillarboxError):
    """A content type or encoding that no form here takes."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    sentence = N_("Please send the form as JSON, as a plain HTML form or as multipart/form-data, not compressed.")


class TooLarge(PillarboxError):
    """More bytes than any form here takes."""

    code = "TOO_LARGE"
    sentence = N_("This is too much to send at once. Please shorten it.")


class HeadTooLarge(PillarboxError):
    """A request whose head, without its body, is longer than any browser's that we know; cookies make it so."""

    code = "HEAD_TOO_LARGE"
    sentence = N_("Your browser sent more than we can read at once. Please delete this site's cookies and try again.")


class TooSlow(PillarboxError):
    """The body did not arrive in time."""

    code = "TOO_SLOW"
    sentence = N_("The form did not arrive in time. Please send it again.")


class TooManyFields(PillarboxError):
    """More fields than any form here takes."""

    code = "TOO_MANY_FIELDS"
    sentence = N_("This form sends too many fields.")


class NoFileUploads(PillarboxError):
    """A file came along, and the form takes none."""

    code = "NO_FILE_UPLOADS"
    sentence = N_("This form takes no files. Please send it without them.")


class InvalidFields(PillarboxError):
    """Some fields are not as the form asks; `errors` says which and how, in the form's order."""

    code = "INVALID"
    sentence = N_("Please check the marked fields.")

    def __init__(self, errors: tuple[FieldError, ...]) -> None:
        super().__init__(self.code)
        self.errors = errors


class TooMany(PillarboxError):
    """This client sends more than the rate limit allows; `retry_after` is in whole seconds, at least 1.

    `limit` is how many it may send in `period` seconds. `is_flooding` says that it goes on and on though it was told:
    what it sends is not worth reading any more.
    """

    code = "TOO_MANY_REQUESTS"
    sentence = N_("That was a lot of messages in a short time. Please wait a moment and send it again.")

    def __init__(self, retry_after: int, limit: int, period: int, *, is_flooding: bool = False) -> None:
        super().__init__(self.code)
        self.retry_after = retry_after
        self.limit = limit
        self.period = period
        self.is_flooding = is_flooding


class CaptchaRefused(PillarboxError):
    """The captcha's provider does not believe that a person solved it here and now."""

    code = "CAPTCHA_REFUSED"
    sentence = N_("Please confirm once more that you are a person, then send the form again.")


class UnusableKey(PillarboxError):
    """An Idempotency-Key that is none: empty, too long, with odd characters, or more than one."""

    code = "IDEMPOTENCY_KEY_INVALID"
    sentence = N_("The Idempotency-Key has to be one text of 1 to 255 printable ASCII characters.")


class KeyReused(PillarboxError):
    """An Idempotency-Key under which another message was sent before."""

    code = "IDEMPOTENCY_KEY_REUSED"
    sentence = N_("This Idempotency-Key stands for another message. Please send this one under a new key.")


class NotKept(PillarboxError):
    """The message could not be put on disk, so nobody may be thanked for it."""

    code = "NOT_KEPT"
    sentence = N_("We could not keep your message just now. Please try again in a moment.")


class NotNoted(PillarboxError):
    """What somebody asked for could not be put on disk, so nobody may be told that it is done."""

    code = "NOT_DONE"
    sentence = N_("We could not do this just now. Please try again in a moment.")


class UnknownLink(PillarboxError):
    """A link that we did not sign, or not as it came."""

    code = "LINK_NOT_KNOWN"
    sentence = N_("This link is not one of ours, or a part of it got lost. Please open it from the mail once more.")


class MailFailing(PillarboxError):
    """Mail does not get through, which harms no message: only /health/mail says so. `told` goes into its answer."""

    code = "MAIL_FAILING"
    sentence = N_("Mail does not get through. Every message is kept; `pillarbox doctor` says what to do.")

    def __init__(self, told: Mapping[str, object]) -> None:
        super().__init__(self.code)
        self.told = told


class NotFound(PillarboxError):
    """Nothing is at this address."""

    code = "NOT_FOUND"
    sentence = N_("There is nothing at this address.")


class MethodNotAllowed(PillarboxError):
    """The address takes other methods."""

    code = "METHOD_NOT_ALLOWED"
    sentence = N_("This address does not take that kind of request.")


class UnknownHost(PillarboxError):
    """The request names a host that is not ours."""

    code = "UNKNOWN_HOST"
    sentence = N_("This site is not served here.")


class Unexpected(PillarboxError):
    """A fault of ours; the log has it."""

    code = "INTERNAL_ERROR"
    sentence = N_("Something went wrong on our side. Please try again in a moment.")
