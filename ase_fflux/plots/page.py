"""One HTML file that needs nothing else: text, tables, pictures, molecules that move.

A browser may load nothing for it (its content security policy says so), and all text is escaped.
"""

import base64
import json
import tempfile
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

from ase_fflux.base.store import write_text
from ase_fflux.base.text import printable
from ase_fflux.base.units import BOHR
from ase_fflux.topology import bonds

_STYLE = """
body { font: 15px/1.45 sans-serif; color: #222; max-width: 72em; margin: 1.5em auto }
body { padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ccc }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .15em .8em; text-align: right; border-bottom: 1px solid #eee }
th:first-child, td:first-child { text-align: left } th { border-bottom: 1px solid #888 }
tr[data-shows] { cursor: pointer } tr[data-shows]:hover { background: #eef4fa }
tr.chosen { background: #d8e6f3 }
img { max-width: 100%; height: auto } pre { white-space: pre-wrap; overflow-wrap: anywhere }
figure { margin: 0 } canvas { border: 1px solid #ddd; touch-action: none; max-width: 100% }
.beside { display: flex; flex-wrap: wrap; gap: 1.5em; align-items: flex-start }
.beside .scroll { max-height: 34em; overflow-y: auto }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


class Page:
    """A page that grows from its head to its foot.

    Parameters
    ----------
    title : str
        Its heading.
    """

    def __init__(self, title: str):
        self._title = escape(printable(title))
        self._parts: list[str] = []
        self._viewers = 0

    def heading(self, text: str) -> None:
        """A section."""
        self._parts.append(f"<h2>{_text(text)}</h2>")

    def text(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(f"<p>{_text(text)}</p>")

    def lines(self, text: str) -> None:
        """Text whose lines and spaces stay."""
        self._parts.append(f"<pre>{_text(text)}</pre>")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; its first column stands flush left."""
        self._parts.append(_table(head, rows))

    def picture(self, draw: Callable[[Path], None], what: str) -> None:
        """A picture that is drawn to a file; one that cannot be drawn is left out.

        Parameters
        ----------
        draw : callable
            Draws to the PNG of that name, see `ase_fflux.plots.figure.picture`.
        what : str
            What it shows, for those who do not see it.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "picture.png"
            draw(file)
            if file.exists():
                content = base64.b64encode(file.read_bytes()).decode()
                self._parts.append(
                    f'<img alt="{_text(what)}" src="data:image/png;base64,{content}">'
                )

    def molecules(
        self, atoms: Atoms, items: Sequence[tuple[str, np.ndarray, np.ndarray | None]],
        head: Sequence[str], rows: Sequence[Sequence[str]],
    ) -> None:
        """A table beside a molecule that can be turned; a row that is chosen is shown.

        Parameters
        ----------
        atoms : Atoms
            Tells elements and bonds.
        items : sequence of (name, positions, mode)
            One for each row: (N, 3) in Angstrom, and displacements (N, 3) of any length along
            which it moves, None for one that stands still.
        head, rows
            As for `table`.
        """
        self._viewers += 1
        name = f"viewer-{self._viewers}"
        data = {
            "symbols": atoms.get_chemical_symbols(),
            "colours": [_colour(number) for number in atoms.numbers],
            "radii": np.round(0.2 + 0.25 * covalent_radii[atoms.numbers], 3).tolist(),
            "bonds": bonds(atoms.numbers, atoms.positions / BOHR)[0].tolist(),
            "items": [
                {"name": printable(text), "positions": np.round(positions, 4).tolist()}
                | ({} if mode is None else {"mode": np.round(_largest_one(mode), 4).tolist()})
                for text, positions, mode in items
            ],
        }
        # no text can end the script that holds it
        content = json.dumps(data).replace("<", "\\u003c")
        self._parts.append(
            f'<div class="beside"><div class="scroll">{_table(head, rows, name)}</div>'
            f'<figure class="viewer" id="{name}"><canvas width="440" height="420" tabindex="0">'
            '</canvas><figcaption></figcaption>'
            '<label><input type="checkbox" name="numbers"> numbers of atoms</label> '
            '<label><input type="checkbox" name="still"> stand still</label><br>'
            "<small>drag or arrow keys turn, the wheel zooms, a row chooses</small></figure></div>"
            f'<script type="application/json" id="{name}-data">{content}</script>'
        )

    def write(self, file: Path) -> None:
        """Write the page."""
        script = ""
        if self._viewers:
            code = files("ase_fflux.plots").joinpath("viewer.js").read_text("utf-8")
            script = f"<script>\n{code}</script>\n"
        body = "\n".join(self._parts)
        write_text(file, (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width">\n'
            f"<title>{self._title}</title><style>{_STYLE}</style></head>\n"
            f"<body><h1>{self._title}</h1>\n{body}\n{script}</body></html>\n"
        ))


def _text(text: str) -> str:
    return escape(printable(str(text)))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], shown_by: str = "") -> str:
    lines = ["<table><thead><tr>", *(f"<th>{_text(cell)}</th>" for cell in head), "</tr></thead>"]
    for number, row in enumerate(rows):
        shows = f' data-shows="{shown_by}" data-index="{number}"' if shown_by else ""
        cells = "".join(f"<td>{_text(cell)}</td>" for cell in row)
        lines.append(f"<tr{shows}>{cells}</tr>")
    return "".join([*lines, "</table>"])


def _colour(number: int) -> str:
    return "#" + "".join(f"{round(255 * x):02x}" for x in jmol_colors[number])


def _largest_one(mode: np.ndarray) -> np.ndarray:
    return mode / np.linalg.norm(mode, axis=1).max()
