import io
import os
import sys
import threading
from types import SimpleNamespace

import ase.io
import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.text import printable
from ase_fflux.formats.geometry import _Finite, output_stem, read_frames
from ase_fflux.formats.xyz_checks import ISOTOPES

WATER = "O 0 0 0.119262\nH 0 0.763239 -0.477047\nH 0 -0.763239 -0.477047\n"


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("empty.xyz", "", "no geometry"),
        ("empty", "", "is empty"),
        ("short.xyz", "3\nwater\nO 0 0 0\nH 0 0 1\n", "line 1: 3 atoms are announced, 2 lines"),
        ("words.xyz", "3\nwater\nO 0 0 zero\nH 0 0 1\nH 0 1 0\n", "line 3: 'O 0 0 zero'"),
        ("row.xyz", "1\n\nO 0 0\n", "line 2: 4 columns are announced, the next line has 3"),
        ("element.xyz", "1\n\nQq 0 0 0\n", "line 3: 'Qq' is no element"),
        ("second.xyz", "1\n\nH 0 0 0\n1\n\nQq 0 0 0\n", "line 6: 'Qq' is no element"),
        ("header.xyz", "H 0 0 0\nH 0 0 1\n", "line 1: 'H 0 0 0' is not a number of atoms"),
        ("noise.traj", "not a trajectory", "--format"),
        ("unknown.format", "what is this", "--format"),
        ("none.xyz", "0\n\n", "no atoms"),
        ("dummy.xyz", f"4\n\n{WATER}X 0 0 3\n", "line 6: X is a dummy"),
        ("bad.gz", "no archive", "--format"),
        ("symbol.cif", "data_x\nloop_\n_atom_site_label\nQq\n", "no geometry"),
    ],
)
def test_unreadable_files_are_named(tmp_path, name, content, reason):
    path = written(tmp_path / name, content)
    with pytest.raises(FFLUXError) as error:
        read_frames(path)
    assert str(error.value).startswith(f"{path}") and reason in str(error.value)
    assert "\n" not in str(error.value)


def _poscar(count):
    return f"w\n1.0\n9 0 0\n0 9 0\n0 0 9\nO H\n{count} 2\nCartesian\n0 0 0\n0 0 1\n0 1 0\n"


@pytest.mark.parametrize(
    "name, content",
    [
        ("count.xyz", f"99999999999\n\n{WATER}"),
        ("second.xyz", f"3\n\n{WATER}99999999999\n\n{WATER}"),
        ("minus.xyz", f"-3\n\n{WATER}"),
        ("columns.xyz", f"3\nProperties=species:S:1:pos:R:99999999999\n{WATER}"),
        ("count.vasp", _poscar(99999999999)),
        ("POSCAR", _poscar(99999999999)),
    ],
)
def test_absurd_counts_neither_hang_nor_eat_memory(tmp_path, name, content):
    path = written(tmp_path / name, content)
    with pytest.raises(FFLUXError, match=name):
        read_frames(path)


def test_a_reader_does_not_go_on_after_the_end():
    file = _Finite(io.BytesIO(b"one line\n"))
    with pytest.raises(EOFError, match="counts"):
        for _ in range(99999999999):
            file.readline()


def test_no_file(tmp_path):
    with pytest.raises(FFLUXError, match="nowhere.xyz: no such file"):
        read_frames("nowhere.xyz")
    with pytest.raises(FFLUXError, match="is a directory"):
        read_frames(str(tmp_path))


def test_coordinates_must_be_numbers(tmp_path):
    atoms = molecule("H2O")
    atoms.positions[2, 1] = np.nan
    write(tmp_path / "w.xyz", atoms)
    with pytest.raises(GeometryError, match=r"atom 3 \(H\)"):
        read_frames(str(tmp_path / "w.xyz"))


def test_atoms_on_one_spot_are_told_with_file_and_frame(tmp_path):
    frames = [molecule("H2O"), molecule("H2O")]
    frames[1].positions[2] = frames[1].positions[1] + 0.1
    write(tmp_path / "w.xyz", frames)
    words = r"w.xyz, frame 1: atom 2 \(H\) and atom 3 \(H\) are on one spot \(0.1732 Angstrom apart"
    with pytest.raises(GeometryError, match=words):
        read_frames(str(tmp_path / "w.xyz"))


@pytest.mark.parametrize("mass", [0.0, -1.0, np.nan, np.inf])
def test_masses_must_be_positive(tmp_path, mass):
    atoms = molecule("H2O")
    atoms.set_masses([16.0, 1.0, mass])
    write(tmp_path / "w.traj", atoms)
    with pytest.raises(GeometryError, match=r"atom 3 \(H\) has a mass"):
        read_frames(str(tmp_path / "w.traj"))


def test_isotopes(tmp_path):
    text = "3\n\nO 0 0 0.119262\nD 0 0.763239 -0.477047\nT 0 -0.763239 -0.477047\n"
    (atoms,) = read_frames(written(tmp_path / "dto.xyz", text))
    assert atoms.get_chemical_formula() == "H2O"
    assert atoms.get_masses() == pytest.approx([15.999, ISOTOPES["D"], ISOTOPES["T"]])
    first, second = read_frames(written(tmp_path / "two.xyz", f"3\n\n{WATER}{text}"))
    assert not first.has("masses") and second.get_masses()[1] == pytest.approx(2.0141, abs=1e-4)


@pytest.mark.parametrize("symbols", [("8", "1", "1"), ("o", "h", "H")])
def test_numbers_and_cases_in_place_of_symbols(tmp_path, symbols):
    rows = [f"{s} {row.split(maxsplit=1)[1]}"
            for s, row in zip(symbols, WATER.splitlines(), strict=True)]
    (atoms,) = read_frames(written(tmp_path / "w.xyz", "3\n\n" + "\n".join(rows)))
    assert atoms.numbers.tolist() == [8, 1, 1]
    assert atoms.positions[1] == pytest.approx([0, 0.763239, -0.477047])


def test_symbols_in_a_later_column(tmp_path):
    text = "1\nProperties=pos:R:3:species:S:1\n1 2 3 D\n"
    (atoms,) = read_frames(written(tmp_path / "d.xyz", text))
    assert atoms.numbers.tolist() == [1] and atoms.positions.tolist() == [[1, 2, 3]]
    assert atoms.get_masses() == pytest.approx([ISOTOPES["D"]])


def test_empty_lines_between_frames_lose_none(tmp_path):
    text = f"3\n\n{WATER}\n\n3\n\n{WATER}\n"
    assert len(read_frames(written(tmp_path / "w.xyz", text))) == 2


def test_what_a_comment_is_encoded_in_does_not_matter(tmp_path):
    content = f"3\nWasser, ber\xfchmt\n{WATER}".encode("latin-1")
    assert len(read_frames(written(tmp_path / "w.xyz", content))[0]) == 3


@pytest.mark.parametrize("name", ["a@0.xyz", "a@b", "POSCAR-opt.xyz", "OUTCAR.traj", "$w.xyz"])
def test_the_name_does_not_mislead(tmp_path, name):
    write(tmp_path / "w.xyz", molecule("H2O"), format="extxyz")
    write(tmp_path / "w.traj", molecule("H2O"))
    (tmp_path / ("w.traj" if name.endswith("traj") else "w.xyz")).rename(tmp_path / name)
    assert len(read_frames(str(tmp_path / name))[0]) == 3


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_names_that_are_not_utf8(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/w\xfc.xyz")
    written(tmp_path / "w.xyz", f"3\n\n{WATER}")
    os.rename(tmp_path / "w.xyz", name)
    assert len(read_frames(name)[0]) == 3
    assert printable(name).endswith("w\\xfc.xyz")
    written(tmp_path / "w.xyz", "rubbish")
    os.rename(tmp_path / "w.xyz", name)
    with pytest.raises(FFLUXError, match=r"w\\xfc\.xyz"):
        read_frames(name)


def test_standard_input(monkeypatch):
    text = f"3\n\n{WATER}".encode()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
    assert len(read_frames("-")[0]) == 3
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(_poscar(1).encode())))
    assert len(read_frames("-", "vasp")[0]) == 3
    assert output_stem("-") == output_stem("/dev/stdin") == "stdin"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=written, args=(tmp_path / "pipe", f"3\n\n{WATER}"))
    writer.start()
    assert len(read_frames(str(tmp_path / "pipe"))[0]) == 3
    writer.join()


def test_format(tmp_path):
    path = written(tmp_path / "geometry", _poscar(1))
    with pytest.raises(FFLUXError, match="--format"):
        read_frames(path)
    assert len(read_frames(path, "vasp")[0]) == 3
    for wrong in ("nonsense", "eps"):
        with pytest.raises(FFLUXError, match=f"no format '{wrong}'"):
            read_frames(path, wrong)


def test_compressed(tmp_path):
    write(tmp_path / "w.xyz.gz", molecule("H2O"))
    assert len(read_frames(str(tmp_path / "w.xyz.gz"))[0]) == 3


def test_vacuum_makes_whole(tmp_path):
    whole = molecule("CH3CH2OH")
    boxed = whole.copy()
    boxed.set_cell([[9, 0, 0], [1, 8, 0], [0, 2, 10]])
    boxed.pbc = True
    boxed.positions -= boxed.positions[0]
    boxed.wrap()
    write(tmp_path / "POSCAR", boxed, format="vasp")
    path = str(tmp_path / "POSCAR")
    assert read_frames(path)[0].pbc.all()
    (atoms,) = read_frames(path, vacuum=True)
    assert not atoms.pbc.any() and not atoms.cell.rank
    order = [0, 1, 2, *range(3, 9)]
    assert atoms.get_all_distances() == pytest.approx(whole.get_all_distances()[order][:, order])
    assert abs(boxed.get_all_distances() - whole.get_all_distances()).max() > 5


def test_vacuum_is_for_one_molecule(tmp_path):
    two = molecule("H2O") + molecule("H2O")
    two.positions[3:] += [0, 0, 4]
    two.set_cell([12, 12, 12])
    two.pbc = True
    write(tmp_path / "two.xyz", two)
    with pytest.raises(GeometryError, match="two.xyz: --vacuum is for one molecule"):
        read_frames(str(tmp_path / "two.xyz"), vacuum=True)
    chain = ase.Atoms("C", cell=[1.4, 9, 9], pbc=True)
    write(tmp_path / "chain.xyz", chain)
    with pytest.raises(GeometryError, match="own periodic images"):
        read_frames(str(tmp_path / "chain.xyz"), vacuum=True)


def test_vacuum_of_what_has_no_boundaries(tmp_path):
    dimer = molecule("H2O") + molecule("H2O")
    dimer.positions[3:] += [0, 0, 4]
    write(tmp_path / "dimer.xyz", dimer)
    assert len(read_frames(str(tmp_path / "dimer.xyz"), vacuum=True)[0]) == 6
