"""What the benchmarks of gradients share: folders that a build left, and points kept in a file."""

import json
import os
from pathlib import Path

import numpy as np
from ase.io import read

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import BOHR
from ase_fflux.labels.dataset import read_dataset


class Folder:
    """What a build left.

    Parameters
    ----------
    path : Path
        NAME-build.
    seed : int
        Of the order of the labels.

    Attributes
    ----------
    name : str
        Of the molecule.
    labels, test : Dataset
        The first labels keep the mix of origins, however many are taken.
    minima : list of Atoms
        Of the label source (Angstrom).
    reference : (N, 3) array
        The first of them (bohr).
    charge : int
        Total charge (e).
    """

    def __init__(self, path: Path, seed: int):
        self.name = path.resolve().name.removesuffix("-build")
        for name in ("minima.xyz", "build.json"):
            if not (path / name).is_file():
                raise FFLUXError(f"{path} has no {name}: give the folder that `fflux build` left")
        labels, self.test = (read_dataset(path / f) for f in ("labels.xyz", "test.xyz"))
        self.labels = labels.select(mixed_order(labels.origins, seed))
        self.minima = read(path / "minima.xyz", ":")
        self.reference = self.minima[0].positions / BOHR
        self.charge = json.loads((path / "build.json").read_text())["source"]["charge"]


def mixed_order(origins: np.ndarray, seed: int) -> np.ndarray:
    """An order (n,) of labels: random for each origin, origins evenly spread over all of it."""
    rng = np.random.default_rng(seed)
    place = np.empty(len(origins))
    for origin in np.unique(origins):
        members = np.flatnonzero(origins == origin)
        place[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(place, kind="stable")


class Points:
    """Finished points as dicts, kept in a JSON file if one is named."""

    def __init__(self, file: Path | None, command: str):
        self.file, self.command = file, command
        self.points = []
        if file is not None and file.exists():
            try:
                self.points = json.loads(file.read_text())["points"]
            except (ValueError, KeyError, TypeError):
                raise FFLUXError(
                    f"{file} holds no points of this program: name another file"
                ) from None

    def find(self, **key) -> dict:
        """The point with these entries, which is nothing but these if it is a new one."""
        same = (p for p in self.points if all(p.get(k) == v for k, v in key.items()))
        return next(same, key)

    def keep(self, point: dict) -> None:
        """Add a point, or one that was changed, and write all of them, whole or not at all."""
        if not any(point is known for known in self.points):
            self.points.append(point)
        if self.file is not None:
            partial = self.file.with_name(self.file.name + ".part")
            partial.write_text(
                json.dumps({"command": self.command, "points": self.points}, indent=1) + "\n"
            )
            os.replace(partial, self.file)
