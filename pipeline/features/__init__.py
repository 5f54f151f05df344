"""Samples -> what the networks take."""

import atexit
import shutil
import tempfile
from types import ModuleType


def load_filters() -> ModuleType:
    """Return librosa.filters, also where packages and home are read-only.

    librosa compiles with numba as it is imported, and numba asks for a folder to keep that in.
    """
    try:
        import librosa.filters
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        import numba

        numba.config.CACHE_DIR = tempfile.mkdtemp(prefix="numba")
        atexit.register(shutil.rmtree, numba.config.CACHE_DIR, ignore_errors=True)
        import librosa.filters
    return librosa.filters
