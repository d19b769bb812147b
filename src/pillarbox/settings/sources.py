"""Where settings stand: the environment, `.env`, the secrets folder, `pillarbox.toml`; and which of them has a word."""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    TomlConfigSettingsSource,
)

from pillarbox.settings.model import Settings

DOTENV = ".env"
CONFIG = "pillarbox.toml"
NOT_SET = "not set"


class WrongSettings(Exception):
    """Settings that nothing can be started with; `sentences` say what, where, and what would be right."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = tuple(sentences)
        super().__init__("\n".join(self.sentences))


def secrets_folder() -> Path:
    """Return the folder whose files hold one setting each, named like it: SECRETS_DIR, or where containers have it."""
    return Path(os.environ.get("SECRETS_DIR") or "/run/secrets")


def config_file() -> Path:
    """Return the TOML file, whether it is there or not: CONFIG_FILE, or `pillarbox.toml` in the working folder."""
    return Path(os.environ.get("CONFIG_FILE") or CONFIG)


def read_config() -> dict[str, Any]:
    """Return what the TOML file holds; nothing when there is none.

    Raises WrongSettings for a file that CONFIG_FILE names and that isn't there, that is no TOML, or that holds a key
    which is no setting.
    """
    path = config_file()
    if not path.is_file():
        if os.environ.get("CONFIG_FILE"):
            raise WrongSettings([f"CONFIG_FILE (in the environment) names {path}, which is not a file."])
        return {}
    try:
        found = tomllib.loads(path.read_bytes().decode())
    except UnicodeDecodeError:
        raise WrongSettings([f"The file {path} is not text in UTF-8: save it as such."]) from None
    except tomllib.TOMLDecodeError as error:
        raise WrongSettings([_toml_sentence(path, str(error))]) from None
    if faults := tuple(_strange_keys(path, found)):
        raise WrongSettings(faults)
    return found


def _toml_sentence(path: Path, said: str) -> str:
    """Say what the parser said, with its place first."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", said, re.S)
    place = f"line {found[2]}" if found and found[2] else "its end"
    return f"{path} can't be read at {place}: {(found[1] if found else said).rstrip('.')}."


def _strange_keys(path: Path, found: Mapping[str, Any]) -> Iterator[str]:
    for key in found:
        if key not in Settings.model_fields:
            yield f"{key} (in {path}) is no setting{instead(key, Settings.model_fields)}"
    tables = found.get("transports")
    for name in tables if isinstance(tables, dict) else ():
        if "_" in name:
            yield f"[transports.{name}] (in {path}) is not right: write dashes instead of underscores."


def instead(key: str, known: Iterable[str]) -> str:
    """Return the end of a sentence: which name may have been meant, or a full stop when none is near."""
    near = get_close_matches(key.lower(), known, n=1)
    return f": did you mean {near[0]}?" if near else "."


class _Secrets(SecretsSettingsSource):
    """The secrets folder, with `transports__<name>__<setting>` for what a table would hold."""

    def __call__(self) -> dict[str, Any]:
        found = super().__call__()
        if self.secrets_dir is None:
            return found
        for path in sorted(Path(str(self.secrets_dir)).iterdir()):
            parts = path.name.lower().split("__")
            if len(parts) == 3 and parts[0] == "transports" and (value := path.read_text(encoding="utf-8").strip()):
                found.setdefault("transports", {}).setdefault(parts[1], {})[parts[2]] = value
        return found


class _Toml(TomlConfigSettingsSource):
    """The TOML file, checked; an empty text is the same as none."""

    def _read_file(self, _path: object) -> dict[str, Any]:
        return _without_empty(read_config())


def _without_empty(table: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_empty(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if not (isinstance(value, str) and not value.strip())
    }


class EverySource(Settings):
    """The settings from everywhere that they may stand."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - ours knows the tables, too
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where to look, the first word first."""
        folder = secrets_folder()
        secrets = _Secrets(settings_cls, folder if folder.is_dir() else None)
        toml = _Toml(settings_cls, toml_file=config_file())
        return init_settings, env_settings, dotenv_settings, secrets, toml


def where(name: str) -> str:
    """Say in plain words where a setting's value comes from.

    `name` is in upper case; of a further way out, as its variable would be: `TRANSPORTS__GMAIL__SMTP_PORT`.
    """
    if any(_as_variable(key) == name for key in os.environ):
        return "in the environment"
    if name in map(_as_variable, DotEnvSettingsSource(Settings, env_file=DOTENV).env_vars):
        return f"in the file {DOTENV}"
    folder = secrets_folder()
    if folder.is_dir() and name in {_as_variable(path.name) for path in folder.iterdir()}:
        return f"in {folder}"
    return f"in {config_file()}" if name in _variables(_config_as_it_is()) else NOT_SET


def _as_variable(key: str) -> str:
    return key.upper().replace("-", "_")


def _config_as_it_is() -> dict[str, Any]:
    try:
        return read_config()
    except (WrongSettings, OSError):
        return {}


def _variables(found: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield every key of the tables, and every key in them, as its variable would be named."""
    for key, value in found.items():
        yield (name := prefix + _as_variable(key))
        if isinstance(value, dict):
            yield from _variables(value, f"{name}__")
