"""Reading the settings, once."""

from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from pillarbox.settings.faults import find_faults, sentence
from pillarbox.settings.model import Settings
from pillarbox.settings.sources import DOTENV, EverySource, WrongSettings, read_config, secrets_folder


def load(**given: Any) -> Settings:
    """Return the settings from the arguments, the environment, `.env`, the secrets folder and `pillarbox.toml`.

    The first that names a setting has the word; tables are put together key by key. Raises WrongSettings with one
    sentence for each thing that is wrong.
    """
    try:
        read_config()  # what is wrong with the file itself comes before what is missing because of it
        settings = EverySource(**given, _env_file=DOTENV)  # type: ignore[call-arg]
    except ValidationError as error:
        raise WrongSettings(
            dict.fromkeys(sentence(fault) for fault in error.errors(include_input=False, include_url=False))
        ) from None
    except (UnicodeDecodeError, SettingsError):
        told = f"The file {DOTENV}, or one in {secrets_folder()}, is not text in UTF-8: save it as such."
        raise WrongSettings([told]) from None
    except OSError as error:
        raise WrongSettings([f"{error.filename} can't be read: {error.strerror}."]) from None
    if faults := tuple(find_faults(settings)):
        raise WrongSettings(faults)
    return settings
