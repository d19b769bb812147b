"""Templates and languages into text: Jinja2 and Babel, and nothing that knows what the text is for."""

from collections.abc import Iterable
from datetime import datetime
from functools import cache, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import Locale, negotiate_locale
from babel.dates import format_date, format_time, get_datetime_format
from babel.support import NullTranslations, Translations
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

_HERE = Path(__file__).parent
_LOCALES = _HERE / "locales"


@cache
def languages() -> tuple[str, ...]:
    """Return the codes of the languages we speak, English (the language of the sources) first."""
    return ("en", *sorted(folder.name for folder in _LOCALES.iterdir() if (folder / "LC_MESSAGES").is_dir()))


@cache
def _catalogue(language: str) -> NullTranslations:
    return Translations.load(_LOCALES, [language], domain="pillarbox")


def choose_language(wanted: Iterable[str], default: str) -> str:
    """Return the first wanted language that we speak (`de-AT` is served by `de`), or the default."""
    asked = list(wanted)[:20]
    if not asked or asked[0] == default:
        return default
    return negotiate_locale(asked, languages(), sep="-") or default


def accepted_languages(header: str) -> list[str]:
    """Return the language ranges of an Accept-Language header, best first (RFC 9110, section 12.5.4)."""
    ranked: list[tuple[float, str]] = []
    for item in header[:1_000].split(","):
        tag, _, weight = item.replace(" ", "").lower().partition(";q=")
        try:
            ranked.append((float(weight or 1), tag.strip()))
        except ValueError:
            continue
    return [tag for weight, tag in sorted(ranked, key=lambda pair: -pair[0]) if weight > 0 and tag]


def translate(language: str, sentence: str, /, **values: object) -> str:
    """Return the sentence in this language with its `%(name)s` places filled; English where there is no translation."""
    translated = _catalogue(language).gettext(sentence)
    return translated % values if values else translated


def direction(language: str) -> str:
    """Return `ltr` or `rtl`."""
    return Locale.parse(language).text_direction


def moment(at: float, language: str, timezone: str) -> str:
    """Return the time (seconds since the epoch) as a person of this language writes it, to the minute."""
    return _minute(int(at // 60), language, timezone)


@lru_cache(maxsize=256)
def _minute(minute: int, language: str, timezone: str) -> str:
    at = datetime.fromtimestamp(minute * 60, ZoneInfo(timezone))
    time, date = format_time(at, "short", locale=language), format_date(at, "long", locale=language)
    both = str(get_datetime_format("long", locale=language)).replace("'", "")  # CLDR quotes words like "at"
    return f"{both.format(time, date)} {at:%Z}"


@cache
def environment(folder: str, language: str) -> Environment:
    """Return the Jinja2 environment for a folder of our templates (`letters`, `web/templates`) in a language.

    Names ending in .html are escaped, .txt are not; an unknown variable is an error.
    """
    made = Environment(
        loader=FileSystemLoader(_HERE / folder),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.install_gettext_translations(_catalogue(language), newstyle=True)  # type: ignore[attr-defined]
    made.globals.update(lang=language, dir=direction(language))
    return made
