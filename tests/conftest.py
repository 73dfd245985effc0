import os
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the published data; tests on it skip where it is absent."""
    folder = Path(os.environ.get("FFLUX_REFERENCE", HERE.parents[1] / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip(f"published reference data not found at {folder} (set FFLUX_REFERENCE)")
    return folder
