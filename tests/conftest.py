"""What every test may use: the shared reference data, and the tests' own modules on the path."""

import os
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def shared_folder():
    """Folder of the reference data: $FASTDESC_SHARED, else ../shared beside the checkout."""
    return Path(os.environ.get("FASTDESC_SHARED", REPOSITORY.parent / "shared"))


@pytest.fixture(scope="session")
def reference_numbers():
    """Return load(name) -> dict of arrays from shared/reference; skips, saying where it looked."""

    def load(name):
        path = shared_folder() / "reference" / name
        if not path.exists():
            pytest.skip(f"no {path}; set FASTDESC_SHARED to the folder that holds reference/")
        with np.load(path, allow_pickle=False) as data:
            return dict(data)

    return load
