"""Trajectories that grow, are checked and cut, byte by byte."""

from dataclasses import asdict

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, Hookean
from ase.io import Trajectory, read

from ase_fflux.base.errors import FFLUXWarning
from ase_fflux.base.store import DamagedError
from ase_fflux.simulate.trajectory import Extent, FrameFile, check_frames, write_last


def frames(n, first=0):
    for i in range(first, first + n):
        atoms = Atoms("OH", [[0, 0, 0], [0, 0.1 * i, 1]], constraint=FixAtoms([0]))
        atoms.set_momenta(np.full((2, 3), i), apply_constraint=False)
        atoms.calc = SinglePointCalculator(atoms, energy=-float(i), forces=np.full((2, 3), 0.1 * i))
        yield atoms


def ase_bytes(path, n):
    with Trajectory(path, "w") as trajectory:
        for atoms in frames(n):
            trajectory.write(atoms)
    return path.read_bytes()


@pytest.mark.parametrize("portions", [[1], [1, 1], [41, 1, 1], [50], [42], [43, 5], [1, 1800, 3]])
def test_the_same_bytes_as_ase_writes(tmp_path, portions):
    """Also where the list of frames moves, after 1, 42 and 1764 of them."""
    file, done = FrameFile(tmp_path / "a.traj"), 0
    for n in portions:
        file.add(list(frames(n, done)))
        done += n
    assert (tmp_path / "a.traj").read_bytes() == ase_bytes(tmp_path / "b.traj", done)
    assert file.extent().frames == done
    check_frames(tmp_path / "a.traj", file.extent())


@pytest.mark.parametrize("kept", [1, 2, 41, 42, 43, 60])
@pytest.mark.parametrize("more", [0, 1, 50])
def test_cut_back_and_gone_on(tmp_path, kept, more):
    path = tmp_path / "a.traj"
    file = FrameFile(path)
    file.add(list(frames(kept)))
    extent = Extent(**asdict(file.extent()))
    if more:
        file.add(list(frames(more, kept)))
    with open(path, "ab") as tail:
        tail.write(b"half a frame")
    check_frames(path, extent)
    again = FrameFile(path, extent)
    assert len(read(path, ":")) == kept
    again.add(list(frames(5, kept)))
    assert len(read(path, ":")) == kept + 5
    for i, atoms in enumerate(read(path, ":")):
        assert atoms.get_potential_energy() == -i and (atoms.get_momenta() == i).all()
    check_frames(path, again.extent())
    check_frames(path, extent)


def test_every_byte_that_matters_is_checked(tmp_path):
    path = tmp_path / "a.traj"
    file = FrameFile(path)
    file.add(list(frames(3)))
    extent, whole = file.extent(), path.read_bytes()
    first, last = extent.lists[0]
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1:])
        # the head is in the extent, places of frames to come do not matter yet
        if i < 56 or first + 8 * 3 <= i < last:
            check_frames(path, extent)
            continue
        with pytest.raises(DamagedError, match="not what was written"):
            check_frames(path, extent)
    path.write_bytes(whole[:-1])
    with pytest.raises(DamagedError, match=f"has {len(whole) - 1} bytes"):
        check_frames(path, extent)


def test_frames_that_fail_leave_no_trace(tmp_path):
    path = tmp_path / "a.traj"
    file = FrameFile(path)
    for n in (0, 1, 42):
        if n:
            file.add(list(frames(n)))
        before = path.read_bytes() if n else None

        def failing(n=n):
            yield from frames(2, n)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            file.add(failing())
        assert (path.read_bytes() if path.exists() else None) == before
        path.unlink(missing_ok=True)
        file = FrameFile(path)


def test_constraints_and_their_energy(tmp_path):
    atoms = next(frames(1, 3))
    atoms.set_constraint(Hookean(0, 1, 5.0, 0.5))
    FrameFile(tmp_path / "a.traj").add([atoms])
    back = read(tmp_path / "a.traj")
    assert back.get_potential_energy(apply_constraint=False) == -3
    assert back.get_potential_energy() == atoms.get_potential_energy() > -3


def test_last_geometries_keep_what_the_format_holds(tmp_path, recwarn):
    atoms = next(frames(1, 3))
    write_last(tmp_path / "a.xyz", atoms)
    assert not [w for w in recwarn if issubclass(w.category, FFLUXWarning)]
    assert read(tmp_path / "a.xyz").constraints[0].index.tolist() == [0]
    atoms.set_constraint(Hookean(0, 1, 5.0, 0.5))
    with pytest.warns(FFLUXWarning, match="a.xyz cannot hold constraints of the kind Hookean"):
        write_last(tmp_path / "a.xyz", atoms)
    assert read(tmp_path / "a.xyz").get_potential_energy() == -3
