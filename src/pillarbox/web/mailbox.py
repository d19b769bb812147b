"""The local Maildir as a mail program shows it: on the developer's own machine only, whatever the mails contain."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from pillarbox import wording
from pillarbox.core.errors import NotFound
from pillarbox.web.assets import Assets

T = TypeVar("T")

SHOWN = 200
"""So many mails, the newest, stand in the list."""

_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_MAIL_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data: https:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
_PRIVATE = {"cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
_SHOWN_HEADERS = ("From", "To", "Reply-To", "Subject", "Date")


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail as the list shows it. `name` is its file's; `headers` is empty for one that cannot be parsed."""

    name: str
    headers: dict[str, str]
    at: datetime

    @property
    def link(self) -> str:
        """The name as a part of a path."""
        return quote(self.name, safe="")

    @property
    def sender(self) -> str:
        """Who it is from, as short as the mail allows."""
        shown = self.headers.get("From", "")
        return shown.partition("<")[0].strip(' "') or shown

    @property
    def recipient(self) -> str:
        """Whom it is for, or an empty text."""
        return self.headers.get("To", "")

    @property
    def subject(self) -> str:
        """Its subject, or an empty text."""
        return self.headers.get("Subject", "")


class Mailbox:
    """The pages below /mail. Names that are not, letter by letter, files of the Maildir are NotFound."""

    def __init__(self, folder: Path, assets: Assets) -> None:
        self._folder = folder
        self._assets = assets

    def list(self, request: Request) -> Response:
        """Answer GET /mail: what has arrived, newest first."""
        refuse_strangers(request)
        files = sorted(self._files().items(), key=lambda item: (_arrived(item[1]), item[0]), reverse=True)
        mails = [_summary(name, path) for name, path in files[:SHOWN]]
        return self._page("mail_list.html", root="./", mails=mails, more=len(files) - len(mails))

    def show(self, request: Request) -> Response:
        """Answer GET /mail/{name}: one mail, its HTML in a frame of its own, or with ?view=text its plain text."""
        refuse_strangers(request)
        name, content = self._load(request)
        mail = _summary(name, self._files()[name])
        bodies = {kind: _body(content, kind) for kind in ("html", "plain")}
        wanted = "plain" if request.query_params.get("view") == "text" else "html"
        view = next((kind for kind in (wanted, "html", "plain") if bodies[kind] is not None), "source")
        text = content.decode("utf-8", "replace") if view == "source" else bodies["plain"]
        shown = {label: mail.headers[label] for label in _SHOWN_HEADERS if label in mail.headers}
        kinds = [kind for kind, body in bodies.items() if body is not None]
        return self._page("mail_show.html", root="../", mail=mail, shown=shown, kinds=kinds, view=view, text=text)

    def html(self, request: Request) -> Response:
        """Answer GET /mail/{name}/html: the mail's own markup, under a policy that lets it do nothing."""
        refuse_strangers(request)
        body = _body(self._load(request)[1], "html")
        if body is None:
            raise NotFound
        headers = _PRIVATE | {"content-security-policy": _MAIL_POLICY, "x-frame-options": "SAMEORIGIN"}
        return HTMLResponse(body.encode("utf-8", "replace"), headers=headers)

    def source(self, request: Request) -> Response:
        """Answer GET /mail/{name}/source: the file as it lies there, as plain text."""
        refuse_strangers(request)
        content = self._load(request)[1]
        headers = _PRIVATE | {"content-security-policy": "sandbox; default-src 'none'"}
        return PlainTextResponse(content.decode("utf-8", "replace"), headers=headers)

    def _files(self) -> dict[str, Path]:
        """Return every delivered mail by its file's name; links and folders are none."""
        folders = [self._folder / part for part in ("new", "cur")]
        found = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        return {path.name: path for path in found if path.is_file() and not path.is_symlink()}

    def _load(self, request: Request) -> tuple[str, bytes]:
        name = request.path_params["name"]
        try:
            return name, self._files()[name].read_bytes()
        except (KeyError, FileNotFoundError) as missing:
            raise NotFound from missing

    def _page(self, template: str, *, root: str, **context: object) -> Response:
        made = wording.environment("web/templates", "en").get_template(template)
        text = made.render(root=root, asset=lambda name: root + self._assets.url(name)[1:], **context)
        headers = _PRIVATE | {"content-security-policy": _PAGE_POLICY}
        return HTMLResponse(text.encode("utf-8", "replace"), headers=headers)


def refuse_strangers(request: Request) -> None:
    """Raise NotFound unless a browser on this very machine asks.

    A forwarding header means that a proxy on this machine speaks for somebody else; a foreign name in Host means that
    another site's script reached us through a name that it points here (DNS rebinding).
    """
    if not _is_loopback(request.client.host if request.client else ""):
        raise NotFound
    if any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip")):
        raise NotFound
    host = urlsplit("//" + request.headers.get("host", "")).hostname or ""
    if host != "localhost" and not _is_loopback(host):
        raise NotFound


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _arrived(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # moved from new to cur by a mail program meanwhile
        return 0


def _summary(name: str, path: Path) -> Mail:
    at = datetime.fromtimestamp(_arrived(path) / 1e9, UTC).astimezone()
    return Mail(name, _tried(lambda: _headers(path)) or {}, at)


def _headers(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        parsed = BytesHeaderParser(policy=policy.default).parsebytes(file.read(65_536))
    return {label: str(parsed[label]) for label in _SHOWN_HEADERS if label in parsed}


def _body(content: bytes, kind: str) -> str | None:
    """Return the mail's "html" or "plain" part, or None where it has none that can be read."""
    return _tried(lambda: _read_part(content, kind))


def _read_part(content: bytes, kind: str) -> str | None:
    mail = message_from_bytes(content, EmailMessage, policy=policy.default)
    part = mail.get_body((kind,))
    return None if part is None else str(part.get_content())


def _tried(parse: Callable[[], T]) -> T | None:
    """Return what the parser makes of a mail, or None: the library's parser raises many things at hostile headers."""
    try:
        return parse()
    except Exception:
        return None
