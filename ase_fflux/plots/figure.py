"""What all pictures have in common: canvas, looks, and that a failure costs nothing else.

matplotlib is imported when something is drawn. Its settings are its own defaults, whatever the
user's matplotlibrc, style or environment say: a backend inherited from a notebook or LaTeX that is
not installed are no reason to lose a picture.
"""

import inspect
import os
import sys
import warnings
from contextlib import contextmanager
from functools import wraps
from pathlib import Path

from ase_fflux.base.errors import FFLUXWarning
from ase_fflux.base.store import replacing
from ase_fflux.base.text import printable


def picture(draw):
    """Decorator for a function with a parameter ``file`` that draws and saves one picture.

    Anything that goes wrong in it becomes one warning that names the file: numbers that were
    computed for hours are not lost for a picture of them.
    """
    signature = inspect.signature(draw)

    @wraps(draw)
    def drawn(*args, **kwargs):
        file = signature.bind(*args, **kwargs).arguments["file"]
        try:
            with _own_settings():
                draw(*args, **kwargs)
        except Exception as error:  # fonts, disks and versions of matplotlib fail in many ways
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            warnings.warn(f"{file}: not drawn ({reason[:300]})", FFLUXWarning, stacklevel=2)

    return drawn


@contextmanager
def _own_settings():
    """matplotlib with its defaults; what the user has set is there again afterwards."""
    if "matplotlib" not in sys.modules:
        # the import itself fails for a backend that is not there
        inherited = os.environ.pop("MPLBACKEND", None)
        try:
            import matplotlib
        finally:
            if inherited is not None:
                os.environ["MPLBACKEND"] = inherited
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # a line of many points is drawn in pieces: in one it may not fit the renderer's memory
        matplotlib.rcParams["agg.path.chunksize"] = 20000
        yield


def new_figure(width: float, height: float, layout: str | None = "constrained"):
    """A figure of this size in inches on the Agg canvas, which needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=200, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def plain_axis(axis, title: str = "", grid: bool = True) -> None:
    """Looks of all axes: small numbers, no frame above and on the right, a faint grid.

    Parameters
    ----------
    axis : Axes
        To be set up.
    title : str
        Above, on the left, as it stands (``$`` is no mathematics: it may be part of a file's name).
    grid : bool
        Whether there are lines behind the data.
    """
    if title:
        axis.set_title(printable(title), fontsize=9, loc="left", parse_math=False)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.xaxis.label.set_size(9)
    axis.yaxis.label.set_size(9)
    if grid:
        axis.grid(color="0.92", linewidth=0.6)
        axis.set_axisbelow(True)


def save(figure, file: Path) -> None:
    """Write the picture as PNG, whole or not at all."""
    with replacing(file) as partial:
        figure.savefig(partial, format="png")
