"""The page's own files: read once, named by their content, kept by browsers for a year."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from pillarbox.core import colour
from pillarbox.core.errors import NotFound

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
VENDOR = STATIC / "vendor"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_IMPORTED = re.compile(rb'(?<= from "\./)[a-z]+\.js(?=";)')
"""The file that a script imports, which lies beside it."""
PAPER = {"light": "#ffffff", "dark": "#1b2028"}
"""The surface that the form lies on; page.css draws the same ones from the theme."""
DESK = {"light": "#f4f5f7", "dark": "#12161c"}
"""The ground behind it."""


class NotBuilt(RuntimeError):
    """The installation lacks what a build makes; the text says what to do."""


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    zipped: bytes
    media_type: str
    tag: str


class Assets:
    """Every static file of the pages, in memory. `accent` is `#rrggbb`; raises NotBuilt where a build is missing."""

    def __init__(self, accent: str, *, vendor: Path = VENDOR) -> None:
        sources = {path.name: path.read_bytes() for path in sorted(STATIC.iterdir()) if path.suffix in _TYPES}
        sources["theme.css"] = theme(accent).encode()
        sources["icon.svg"] = icon(accent).encode()
        sources["bootstrap.css"] = _read_bootstrap(vendor)
        self._urls: dict[str, str] = {}
        self._assets: dict[str, _Asset] = {}
        for name in sources:
            self._add(name, sources)

    def _add(self, name: str, sources: Mapping[str, bytes]) -> None:
        """Take a file in under its hashed name, after those that it imports: it knows them by theirs."""
        if name in self._urls:
            return

        def hashed(found: re.Match[bytes]) -> bytes:
            self._add(found[0].decode(), sources)
            return self._urls[found[0].decode()].removeprefix("/static/").encode()

        content = _IMPORTED.sub(hashed, sources[name])
        tag = hashlib.sha256(content).hexdigest()[:12]
        stem, _, ending = name.rpartition(".")
        self._urls[name] = f"/static/{stem}-{tag}.{ending}"
        zipped = gzip.compress(content, 9, mtime=0)
        self._assets[f"{stem}-{tag}.{ending}"] = _Asset(content, zipped, _TYPES[f".{ending}"], tag)

    def url(self, name: str) -> str:
        """Return the path of a file (`page.css`) with its content's hash in it; raises KeyError for an unknown one."""
        return self._urls[name]

    async def serve(self, request: Request) -> Response:
        """Answer GET and HEAD /static/{name}; raises NotFound for a name that no page of this version links to."""
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            raise NotFound
        zipped = _takes_gzip(request.headers.get("accept-encoding", ""))
        tag = f'"{asset.tag}-gz"' if zipped else f'"{asset.tag}"'
        headers = {"cache-control": "public, max-age=31536000, immutable", "etag": tag, "vary": "Accept-Encoding"}
        if _names(request.headers.get("if-none-match", ""), tag):
            return Response(status_code=304, headers=headers)
        if zipped:
            headers["content-encoding"] = "gzip"
        return Response(asset.zipped if zipped else asset.content, headers=headers, media_type=asset.media_type)


def _read_bootstrap(vendor: Path) -> bytes:
    try:
        return (vendor / "bootstrap.min.css").read_bytes()
    except FileNotFoundError as missing:
        raise NotBuilt(
            f"Bootstrap's stylesheet is not in {vendor}: run `make setup` (or install Pillarbox with pip), which puts "
            "it there."
        ) from missing


def _takes_gzip(header: str) -> bool:
    """Tell whether an Accept-Encoding header lists gzip with a weight above nought (RFC 9110, section 12.5.3)."""
    for item in header[:1_000].lower().split(","):
        coding, _, weight = item.replace(" ", "").partition(";q=")
        if coding == "gzip":
            return weight.strip("0.") != "" or weight == ""
    return False


def _names(header: str, tag: str) -> bool:
    """Tell whether an If-None-Match header names this entity tag, weakly compared (RFC 9110, section 13.1.2)."""
    tags = [item.strip().removeprefix("W/") for item in header[:1_000].split(",")]
    return tag in tags or "*" in tags


def theme(accent: str) -> str:
    """Return the stylesheet that holds the site's own colour, made readable in light and in dark."""
    light, dark = (_variables(accent, PAPER[mode], DESK[mode]) for mode in ("light", "dark"))
    return f":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _variables(accent: str, paper: str, desk: str) -> str:
    button = colour.readable_on(accent, paper, ratio=colour.GRAPHIC_RATIO)
    ink = colour.ink_on(button)
    away = colour.BLACK if ink == colour.WHITE else colour.WHITE
    values = {
        "accent": button,
        "accent-ink": ink,
        "accent-hover": colour.mix(button, away, share=0.14),
        "accent-active": colour.mix(button, away, share=0.24),
        "accent-text": colour.readable_on(colour.readable_on(accent, paper), desk),
        "accent-wash": colour.mix(paper, accent, share=0.1),
        "focus": colour.readable_on(button, desk, ratio=colour.GRAPHIC_RATIO),
        "paper": paper,
        "desk": desk,
    }
    return ";".join(f"--{name}:{value}" for name, value in values.items())


def icon(accent: str) -> str:
    """Return the site's icon: a pillar box in the site's colour."""
    slot = colour.ink_on(accent)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">'
        f'<path fill="{accent}" d="M5 9a11 7 0 0 1 22 0v2H5zM7 12h18v15H7zM5 28h22v3H5z"/>'
        f'<path fill="{slot}" d="M10 15h12v3H10z"/></svg>'
    )
