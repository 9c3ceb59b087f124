"""All tests: integration and unit tests side by side, then the end-to-end tests alone; the last line counts them all.

    python -m tests

Every part runs, whatever becomes of the one before. ``.venv/<part>.xml`` is a part's report (JUnit).
"""

from __future__ import annotations

import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path(__file__).parents[1]
# Much of their time is waiting, so three share two cores.
_SIDE_BY_SIDE = ("--numprocesses=3", "--dist=loadfile", "--no-loadscope-reorder")
PARTS: Mapping[str, tuple[str, ...]] = {
    "integration": ("-m", "coverage", "run", "-m", "pytest", *_SIDE_BY_SIDE, "tests/integration", "tests/unit"),
    # They measure seconds of whole clusters, so nothing else may run.
    "e2e": ("-m", "pytest", "tests/e2e"),
}


def _run(part: str, command: tuple[str, ...], reports: Path) -> tuple[Counter[str], bool]:
    """What came of a part's tests, and whether the run may pass."""
    report = reports / f"{part}.xml"
    report.unlink(missing_ok=True)
    done = subprocess.run([sys.executable, *command, "--durations=12", f"--junitxml={report}"], cwd=_ROOT, check=False)
    if not report.exists():
        return Counter({f"without a report: {part}": 1}), False
    return _outcome(report), done.returncode == 0


def _outcome(report: Path) -> Counter[str]:
    """How many tests of a JUnit report passed, failed, had errors, were skipped; what there is none of is left out."""
    found: Counter[str] = Counter()
    for suite in ET.parse(report).getroot().iter("testsuite"):
        total, failed, errors, skipped = (int(suite.get(n, 0)) for n in ("tests", "failures", "errors", "skipped"))
        passed = total - failed - errors - skipped
        found += Counter({"passed": passed, "failed": failed, "errors": errors, "skipped": skipped})
    return found


def main(parts: Mapping[str, tuple[str, ...]] = PARTS, reports: Path = _ROOT / ".venv") -> int:
    """Run the parts, each of them arguments of Python. The exit code: 1 if one fails or leaves no report."""
    begun = time.monotonic()
    results = [_run(part, command, reports) for part, command in parts.items()]
    total = sum((counts for counts, _ in results), Counter[str]())
    minutes, seconds = divmod(round(time.monotonic() - begun), 60)
    counts = ", ".join(f"{number} {what}" for what, number in total.items())
    print(f" {counts} in {minutes}:{seconds:02} min ".center(79, "="), flush=True)
    return 0 if all(passed for _, passed in results) else 1


if __name__ == "__main__":
    sys.exit(main())
