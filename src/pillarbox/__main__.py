"""python -m pillarbox."""

import gc

BULKY = (50_000, 50, 100)
"""The collector's thresholds for a start: what it makes stays, and looking through it took a seventh of the time."""


def main() -> None:
    """Run a command."""
    gc.set_threshold(*BULKY)
    from pillarbox.cli import main as run  # noqa: PLC0415 - the imports are most of a start

    run()


if __name__ == "__main__":
    main()
