"""Pillarbox: a visitor drops a message into a form, the owner gets it as mail, nothing thanked for is lost."""

__version__ = "0.1.0"
