"""Where kernels and pages are kept: `STEPRULE_CACHE`, or the user's cache folder, or a folder of this process.

Where the user's cannot be written, the folder of this process serves, with one warning.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path


def folder() -> Path:
    """Where kernels are kept: `STEPRULE_CACHE`, or the user's cache folder; a folder of this process for a user without a home.

    A variable that is empty counts as not set.
    """
    if own := os.environ.get("STEPRULE_CACHE"):
        return Path(os.path.expanduser(own))
    variable, inside = ("LOCALAPPDATA", "") if sys.platform == "win32" else ("XDG_CACHE_HOME", ".cache")
    if base := os.environ.get(variable):
        return Path(base) / "steprule" / "kernels"
    try:
        if os.environ.get("HOME") == "" and sys.platform != "win32":  # which pathlib takes for the root
            raise RuntimeError
        return Path.home() / inside / "steprule" / "kernels"
    except (RuntimeError, KeyError):  # no HOME, and a user that the system does not know, as in a container
        return own_folder("a home folder, which this user has not")


@cache
def own_folder(reason: str) -> Path:
    """A folder that goes with this process, in place of the one that `reason` names."""
    message = (
        f"steprule cannot keep its kernels in {reason}; they are compiled anew in each process. Set STEPRULE_CACHE."
    )
    warnings.warn(message, RuntimeWarning, stacklevel=2)
    own = Path(tempfile.mkdtemp(prefix="steprule-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own
