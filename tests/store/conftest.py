"""What the tests of the store share."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from pillarbox.store.engine import Store, open_store


@pytest.fixture
def shared(empty_postgresql: str) -> Iterator[Store]:
    """A store that several may use at once."""
    with closing(open_store(empty_postgresql)) as made:
        yield made
