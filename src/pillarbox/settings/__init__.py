"""The only reader of environment, `.env`, secret files and `pillarbox.toml`: read once, for app and cli alone."""

from pillarbox.settings.faults import THROWAWAY_DISKS
from pillarbox.settings.loading import load
from pillarbox.settings.model import Settings
from pillarbox.settings.secret_key import load_keys
from pillarbox.settings.sources import WrongSettings, where
from pillarbox.settings.transports import WayOut

__all__ = ["THROWAWAY_DISKS", "Settings", "WayOut", "WrongSettings", "load", "load_keys", "where"]
