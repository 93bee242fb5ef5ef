"""A server leaves out libraries that its own only use where they are there."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from serving.cli.serve import _leave_out_unused
_leave_out_unused()
import serving.server
print(*(name for name in ("pandas", "pyarrow", "accelerate", "lightgbm") if sys.modules.get(name)))
"""


def test_what_only_others_need_is_not_loaded() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["lightgbm"]
