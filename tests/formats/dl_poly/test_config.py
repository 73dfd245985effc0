import numpy as np
import pytest

from ase_fflux.base.errors import FFLUXError
from ase_fflux.formats.dl_poly.config import read_config, write_config


def test_what_it_says(run):
    config = read_config(run / "CONFIG")
    assert config.names == ("OW", "HW", "HW", "OW", "HW", "HW", "Ne")
    assert config.pbc.all() and config.cell[1].tolist() == [0.5, 16.5, 0.0]
    assert config.positions[6].tolist() == [9.0, 1.0, 9.0]  # Fortran's 1.0d0
    assert config.velocities[1].tolist() == [0.0, 2.0, 0.0]
    assert config.where(1).endswith("CONFIG, line 9")


@pytest.mark.parametrize("with_velocities", [False, True])
@pytest.mark.parametrize("periodic", [False, True])
def test_there_and_back(tmp_path, with_velocities, periodic):
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=(2, 4, 3)) * 100
    cell = 30 * np.eye(3) + rng.normal(size=(3, 3)) if periodic else np.zeros((3, 3))
    write_config(tmp_path / "CONFIG", "title", ["O", "H", "HW12345", "X"], x, cell,
                 [periodic] * 3, v if with_velocities else None)
    back = read_config(tmp_path / "CONFIG")
    assert back.names == ("O", "H", "HW12345", "X") and back.title == "title"
    np.testing.assert_allclose(back.positions, x, atol=1e-12)
    np.testing.assert_allclose(back.cell, cell, atol=1e-12)
    assert back.pbc.tolist() == [periodic] * 3
    if with_velocities:
        np.testing.assert_allclose(back.velocities, v, atol=1e-12)
    else:
        assert back.velocities is None


@pytest.mark.parametrize("old, new, message", [
    ("         1         3", "         3         3", "line 2: levcfg is 3"),
    ("         1         3", "", r"line 2: the level of the atoms' records \(levcfg\) is missing"),
    ("         1         3", "         1         4", r"line 2: .*imcon 4\) is a truncated octa"),
    ("         1         3", "         0         3", "line 8: the name of an atom should be here"),
    ("         1         3", "         2         3", "line 10: the name of an atom should be"),
    ("  0.0  0.0  18.0", "  0.0  0.0  0.0", "line 3: the cell has no volume"),
    ("  0.0  0.0  18.0", "  0.0  0.0", r"line 5: a cell vector \(z\) is missing"),
    (" 0.8 0.0 0.7", " 0.8 0.0 ***", r"line 10: a position \(z\) is missing or is no number"),
    (" 0.8 0.0 0.7", " 0.8 0.0 nan", r"line 10: a position \(z\) is not a finite number"),
    (" 9.0 1.0d0 9.0\n 0.0 0.0 0.0\n", "", "line 25: the file ends where a position should be"),
])
def test_refused(run, edit, old, new, message):
    edit("CONFIG", old, new)
    with pytest.raises(FFLUXError, match=rf"CONFIG, {message}"):
        read_config(run / "CONFIG")


def test_not_there_or_empty(tmp_path):
    with pytest.raises(FFLUXError, match="CONFIG: cannot be read: No such file"):
        read_config(tmp_path / "CONFIG")
    (tmp_path / "CONFIG").write_text("title\n 0 0\n\n")
    with pytest.raises(FFLUXError, match="there are no atoms"):
        read_config(tmp_path / "CONFIG")
