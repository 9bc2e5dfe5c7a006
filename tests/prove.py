"""Prove that records may be read on this torch and Python: `make prove` runs the matrix with them read, then writes the table.

The whole matrix of events and 5,000 drawn sequences run beside torch's class. Only where all pass does the version get its row in
`proved.json`, which says by default whether the compiled look is on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

TABLE = Path(__file__).parent.parent / "src" / "steprule" / "optim" / "proved.json"
FILES = ("test_layout.py", "test_events.py", "test_sequences.py", "test_contract_state.py", "test_contract_lifetime.py")


def main() -> int:
    """The exit status of the tests; the row is written where it is 0."""
    tests = [str(Path(__file__).parent / name) for name in FILES]
    command = [sys.executable, "-m", "pytest", "-n", "2", "-m", "long or not long", *tests]
    status = subprocess.run(command, env={**os.environ, "STEPRULE_SCAN": "records"}, check=False).returncode
    if status == 0:
        from steprule.optim.scan import this_version

        torch, python = this_version()
        rows = json.loads(TABLE.read_text(encoding="utf-8"))
        if (row := {"torch": torch, "python": python}) not in rows:
            TABLE.write_text(json.dumps([*rows, row], indent=1) + "\n", encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
