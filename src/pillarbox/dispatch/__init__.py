"""The second half of the road: claim, compose, send, settle. One loop a way out."""

from pillarbox.dispatch.dispatcher import LEASE, Dispatcher
from pillarbox.dispatch.way import Compose, Transport, Way

__all__ = ["LEASE", "Compose", "Dispatcher", "Transport", "Way"]
