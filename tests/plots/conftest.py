import pytest
from matplotlib.figure import Figure


@pytest.fixture
def saved(monkeypatch):
    """Figures, as they are saved."""
    figures, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures
