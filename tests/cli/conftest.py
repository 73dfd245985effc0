import pytest

from ase_fflux.cli import progress


@pytest.fixture(autouse=True)
def however_busy_the_machine(monkeypatch):
    """Stages say nothing of their progress, however long they take on a busy machine."""
    monkeypatch.setattr(progress, "INTERVAL", 1e5)
    monkeypatch.setattr(progress, "WORTH_A_LINE", 1e5)
