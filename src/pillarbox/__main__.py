"""python -m pillarbox."""

import gc

BULKY = (50_000, 50, 100)
"""Collector thresholds for a start: nearly all that it makes stays, and looking through it took a seventh of its time."""


def main() -> None:
    """Run a command."""
    gc.set_threshold(*BULKY)
    from pillarbox.cli import main as run  # noqa: PLC0415 - the imports are most of a start

    run()


if __name__ == "__main__":
    main()
