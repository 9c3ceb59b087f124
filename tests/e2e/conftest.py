"""Two real clouds for all end-to-end tests of a session.

DOMICILE_KEEP_TESTBED=1 leaves them up and takes them over the next time, for work on a test.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.testbed.testbed import Testbed

KEEP = bool(os.environ.get("DOMICILE_KEEP_TESTBED"))


@pytest.fixture(scope="session")
def testbed() -> Iterator[Testbed]:
    """The default topology: gcp-frankfurt and aws-frankfurt. A test leaves both up and no link cut."""
    testbed = Testbed(name="e2e")
    if not KEEP:
        testbed.down()
    try:
        testbed.up()
        yield testbed
    finally:
        if not KEEP:
            testbed.down()
