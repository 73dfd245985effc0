"""Labels from AIMAll: atomic energies and moments of its ``.int`` files.

A point directory, as ichor makes them, holds one geometry:

================================  ==================================================================
``*.int``                         one per atom, in ``NAME_atomicfiles`` or beside the others: E_IQA,
                                  moments about the nucleus in the global frame, L
``*.sum``                         nuclei and total energy
``*.wfn``                         nuclei and total energy
``*.xyz``, ``*.gau``, ``*.gjf``   the geometry once more; Gaussian's input has its basis set
``*.gaussianoutput``, ``*.log``   forces, where Gaussian was told ``nosymm``, as other axes are not
                                  those of the moments
================================  ==================================================================

Either ``.sum`` or ``.wfn`` must be there; what says the same twice must agree. Atoms have the order
of the nuclei, which is that of the geometry.

AIMAll's moments are those of the electrons: real spherical harmonics without Condon-Shortley phase
in Racah's normalisation, as here, so that only the nuclear charge is added to q00.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR, HARTREE_KJ
from ase_fflux.labels.checks import believe
from ase_fflux.labels.label import Dataset, Label, dataset_of
from ase_fflux.model.multipoles import MAX_RANK, MOMENT_NAMES

TOLERANCE = 5e-4
"""Hartree; atoms that miss the total energy by more are not of one calculation."""

_SAME_PLACE = 1e-4
"""bohr; nuclei of two files nearer than that are the same."""
_NUMBER = r"([+-]?\d+\.\d+(?:[EeDd][+-]?\d+)?)"
_NUCLEUS = re.compile(rf"^([A-Za-z]+)(\d+)\s+{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}\s*$")
_MOMENT = re.compile(rf"^\s*Q\[(\d+),(\d+)(?:,([cs]))?\]\s*=\s*{_NUMBER}")
_WFN_NUCLEUS = re.compile(
    rf"^\s*([A-Za-z]+)\s*(\d+)\s+\(CENTRE\s*\d+\)\s*{_NUMBER}\s*{_NUMBER}\s*{_NUMBER}\s+"
    rf"CHARGE\s*=\s*{_NUMBER}"
)
_MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class _Nuclei:
    """Symbols and positions (bohr) that a file tells, and its total energy if it has one."""

    path: Path
    symbols: tuple[str, ...]
    positions: np.ndarray
    energy: float | None = None
    model: str = ""


def has_atoms(folder: Path) -> bool:
    """Whether AIMAll's files of atoms are in a folder or inside."""
    return folder.is_dir() and any(folder.rglob("*.int"))


def read_aimall(folder: str | Path) -> Dataset:
    """Read a point directory of AIMAll's files, or a folder of them.

    Parameters
    ----------
    folder : path
        Searched with all folders inside, points in the order of their paths.

    Returns
    -------
    Dataset
        QTAIM energies, moments to rank 4 in the global frame, |L| as integration errors; gradients
        where all points have them. Exactly AIMAll's numbers, which miss the total energy a little.

    Raises
    ------
    LabelError
        No ``.int`` files, truncated files, atoms that are missing or twice, files of different
        geometries, atoms that do not sum to the total energy; names the file.
    """
    folder = Path(folder)
    points: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*.int")):
        inside = path.parent.name.endswith("_atomicfiles")
        points.setdefault(path.parent.parent if inside else path.parent, []).append(path)
    if not points:
        raise LabelError(f"{folder}: no .int files of AIMAll in it")
    labels = [_point(point, paths) for point, paths in points.items()]
    if not all(label.gradient is not None for label in labels):
        labels = [replace(label, gradient=None) for label in labels]
    names = [re.sub(r"[^\w.+-]", "_", point.name) or "aimall" for point in points]
    try:
        dataset = dataset_of(labels, names)
    except LabelError as error:
        raise LabelError(f"{folder}: {error}") from None
    believe(dataset, lambda i: str(list(points)[i]))
    return dataset


def _point(folder: Path, paths: list[Path]) -> Label:
    """One geometry."""
    nuclei = _nuclei(folder)
    atoms: list[dict | None] = [None] * len(nuclei.symbols)
    for path in paths:
        atom = _read_int(path)
        index = atom["index"]
        name = f"{atom['symbol']}{index + 1}"
        if index >= len(atoms) or atom["symbol"] != nuclei.symbols[index]:
            raise LabelError(f"{path}: is of atom {name}, which {nuclei.path} has not")
        if atoms[index] is not None:
            raise LabelError(f"{path}: atom {name} has been read already, from another file")
        atoms[index] = atom
    for index, atom in enumerate(atoms):
        if atom is None:
            raise LabelError(
                f"{folder}: no .int file of atom {index + 1} ({nuclei.symbols[index]})"
            )
    energies = np.array([atom["energy"] for atom in atoms])
    excess = energies.sum() - nuclei.energy
    if abs(excess) > TOLERANCE:
        raise LabelError(
            f"{folder}: atomic energies miss the total energy of {nuclei.path.name} by "
            f"{excess * HARTREE_KJ:.4g} kJ/mol (at most {TOLERANCE * HARTREE_KJ:.2g}): integrate "
            "again, with a functional that AIMAll knows"
        )
    moments = np.array([atom["moments"] for atom in atoms])
    moments[:, 0] += [atomic_numbers[symbol] for symbol in nuclei.symbols]
    dipole = moments[:, 0] @ nuclei.positions + moments[:, [2, 3, 1]].sum(axis=0)
    return Label(
        nuclei.symbols, nuclei.positions, nuclei.energy, _gradient(folder, nuclei), energies,
        moments, dipole, method=_level(folder, nuclei), partition="qtaim", tolerance=TOLERANCE,
        versions={"AIMAll": atoms[0]["version"]},
        errors=np.array([atom["error"] for atom in atoms]),
    )


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise LabelError(f"{path}: too large for a file of AIMAll or Gaussian")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise LabelError(f"{path}: not a text file") from None


def _number(text: str) -> float:
    return float(text.replace("D", "E").replace("d", "e"))


def _read_int(path: Path) -> dict:
    """Atom, E_IQA, moments of the electrons, L and AIMAll's version."""
    text = _text(path)

    def find(pattern, what):
        found = re.search(pattern, text, re.MULTILINE)
        if not found:
            raise LabelError(
                f"{path}: no {what}: the file is truncated, or AIMAll was not asked for it "
                "(-encomp=3 for E_IQA)"
            )
        return found

    atom = find(r"Integration is over atom\s+([A-Za-z]{1,2})(\d+)", "atom")
    moments = np.full(len(MOMENT_NAMES), np.nan)
    for line in text.splitlines():
        if found := _MOMENT.match(line):
            name = f"q{found[1]}{found[2]}{found[3] or ''}"
            if name in MOMENT_NAMES:
                moments[MOMENT_NAMES.index(name)] = _number(found[4])
    if np.isnan(moments).any():
        missing = MOMENT_NAMES[int(np.argmax(np.isnan(moments)))]
        raise LabelError(
            f"{path}: no moment {missing}, and all to rank {MAX_RANK} are needed: the file is "
            "truncated"
        )
    energy = _number(find(rf"^\s*E_IQA\(A\)\s*=\s*{_NUMBER}", "E_IQA(A)")[1])
    error = _number(find(rf"^\s*L\s*=\s*{_NUMBER}", "integration error L")[1])
    find("AIMInt is Done", "end")
    return {
        "symbol": atom[1].capitalize(), "index": int(atom[2]) - 1, "energy": energy,
        "moments": moments, "error": abs(error),
        "version": find(r"AIMInt \(Version ([\w.]+)", "version of AIMInt")[1],
    }


def _nuclei(folder: Path) -> _Nuclei:
    """Nuclei and total energy, the same in all files that have them."""
    found = []
    for pattern, reader in (
        ("*.wfn", read_wfn_nuclei), ("*.sum", _read_sum), ("*.xyz", _read_xyz),
        ("*.gau", _read_gaussian_input), ("*.gjf", _read_gaussian_input),
    ):
        found += [reader(path) for path in sorted(folder.glob(pattern))]
    energies = [nuclei for nuclei in found if nuclei.energy is not None]
    if not energies:
        raise LabelError(f"{folder}: no .wfn or .sum file, which has the nuclei and total energy")
    first = energies[0]
    for other in found:
        if other.symbols != first.symbols:
            raise LabelError(
                f"{other.path}: is of {''.join(other.symbols)}, but {first.path} of "
                f"{''.join(first.symbols)}"
            )
        distance = np.linalg.norm(other.positions - first.positions, axis=1)
        if (largest := distance.max()) > _SAME_PLACE:
            atom = int(np.argmax(distance))
            raise LabelError(
                f"{other.path}: is of another geometry than {first.path}: atom {atom + 1} "
                f"({first.symbols[atom]}) is {largest:.4g} bohr away"
            )
        if other.energy is not None and abs(other.energy - first.energy) > 1e-6:
            raise LabelError(
                f"{other.path}: has another total energy ({other.energy} Ha) than {first.path} "
                f"({first.energy} Ha)"
            )
    return first


def read_wfn_nuclei(path: Path) -> _Nuclei:
    """Nuclei and total energy of a ``.wfn`` file."""
    text = _text(path)
    lines = text.splitlines()
    count = re.search(r"(\d+)\s+NUCLEI", lines[1]) if len(lines) > 1 else None
    energy = re.search(rf"TOTAL ENERGY\s*=\s*{_NUMBER}|^.*ENERGY\s*=\s*{_NUMBER}", lines[-1]) \
        if lines else None
    if not count or not energy:
        raise LabelError(f"{path}: not a whole .wfn file: no number of nuclei or total energy")
    matches = [_WFN_NUCLEUS.match(line) for line in lines[2 : 2 + int(count[1])]]
    if not all(matches) or len(matches) != int(count[1]):
        raise LabelError(f"{path}: its {count[1]} nuclei cannot be read")
    return _Nuclei(
        path, tuple(m[1].capitalize() for m in matches),
        np.array([[_number(m[k]) for k in (3, 4, 5)] for m in matches]),
        _number(energy[1] or energy[2]), lines[1].split()[-1],
    )


def _read_sum(path: Path) -> _Nuclei:
    text = _text(path)
    rows = []
    for line in text.splitlines():
        if found := _NUCLEUS.match(line.strip()):
            rows.append(found)
        elif rows:
            break
    energy = re.search(rf"Molecular energy E\(Mol\) from the wfn file:\s*{_NUMBER}", text)
    if not rows or not energy:
        raise LabelError(f"{path}: not a whole .sum file: no nuclei or no molecular energy")
    model = re.search(r"^Model:\s+(.+)$", text, re.MULTILINE)
    return _Nuclei(
        path, tuple(row[1].capitalize() for row in rows),
        np.array([[_number(row[k]) for k in (4, 5, 6)] for row in rows]),
        _number(energy[1]), model[1].split()[-1] if model else "",
    )


def _read_xyz(path: Path) -> _Nuclei:
    lines = _text(path).splitlines()
    if not lines or not lines[0].strip().isdecimal():
        raise LabelError(f"{path}: not an XYZ file")
    return _atoms(path, lines[2 : 2 + int(lines[0])])


def _read_gaussian_input(path: Path) -> _Nuclei:
    """Cartesian geometry after the line of charge and multiplicity."""
    sections = re.split(r"\n\s*\n", _text(path))
    if len(sections) < 3:
        raise LabelError(f"{path}: not an input of Gaussian")
    return _atoms(path, sections[2].strip().splitlines()[1:])


def _atoms(path: Path, lines: list[str]) -> _Nuclei:
    symbols, positions = [], []
    for line in lines:
        words = line.split()
        try:
            positions.append([float(word) for word in words[1:4]])
            symbols.append(words[0].capitalize())
        except (ValueError, IndexError):
            raise LabelError(
                f"{path}: not an atom with its position: {line.strip()[:60]!r}"
            ) from None
    if not symbols or any(len(x) != 3 or s not in atomic_numbers
                          for x, s in zip(positions, symbols, strict=True)):
        raise LabelError(f"{path}: not a geometry of elements with three coordinates each")
    return _Nuclei(path, tuple(symbols), np.array(positions) / BOHR)


def _level(folder: Path, nuclei: _Nuclei) -> str:
    """Method and basis of Gaussian's input, else the model that AIMAll or the .wfn names."""
    for path in sorted([*folder.glob("*.gjf"), *folder.glob("*.gau")]):
        if found := re.search(r"^#.*?\s([\w-]+/[\w+()*,-]+)", _text(path), re.MULTILINE):
            return found[1].upper().replace("(D,P)", "(d,p)").replace("(D)", "(d)")
    return nuclei.model or "unknown"


def _gradient(folder: Path, nuclei: _Nuclei) -> np.ndarray | None:
    """Gaussian's gradient in its input's axes, if it is there and those are the molecule's."""
    for path in sorted([*folder.glob("*.gaussianoutput"), *folder.glob("*.log")]):
        text = _text(path)
        if not re.search(r"^ #.*\bnosymm\b", text, re.MULTILINE | re.IGNORECASE):
            continue
        tables = text.split("Forces (Hartrees/Bohr)")[1:]
        if not tables:
            continue
        rows = re.findall(
            rf"^\s+\d+\s+(\d+)\s+{_NUMBER}\s+{_NUMBER}\s+{_NUMBER}\s*$",
            tables[-1].split("Cartesian Forces")[0], re.MULTILINE,
        )
        if [int(row[0]) for row in rows] != [atomic_numbers[s] for s in nuclei.symbols]:
            raise LabelError(f"{path}: its forces are not of the atoms of {nuclei.path}")
        return -np.array([[_number(x) for x in row[1:]] for row in rows])
    return None
