"""The second half of the road: claim, compose, send, settle. One loop a way out."""

from pillarbox.dispatch.dispatcher import Dispatcher
from pillarbox.dispatch.way import Compose, Transport, Way
from pillarbox.store.clocks import LEASE

__all__ = ["LEASE", "Compose", "Dispatcher", "Transport", "Way"]
