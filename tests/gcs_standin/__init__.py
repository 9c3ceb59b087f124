"""A stand-in for Google Cloud Storage: one process, in memory, strict.

Written from Google's public reference of the JSON API v1 because the available emulators ignore what this project
depends on (preconditions of reads and deletes, noncurrent versions, soft delete, per-bucket locations), so that wrong
programs pass. What the stand-in does not know it refuses (400, 404, 501) and never ignores.

    with running() as state:            # in a thread; state.url is its address
        state.add_bucket("b", "EUROPE-WEST3")
        state.change("b", location="US", locationType="multi-region")

    python -m tests.gcs_standin --port 4443
"""

from tests.gcs_standin.server import running
from tests.gcs_standin.state import Fault, State

__all__ = ["Fault", "State", "running"]
