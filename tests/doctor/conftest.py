"""What the doctor's tests share."""

import pytest
from tests.servers.certificates import Certificates, make_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority that only `ca_file` makes trusted, and its certificate for 127.0.0.1 and localhost."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))
