"""Training sets that are refused before anything is trained."""

import numpy as np
import pytest

from ase_fflux.base.errors import TrainingError
from ase_fflux.formats.training_set import TrainingSet, write_training_set
from ase_fflux.training.from_sets import read_sets


@pytest.mark.parametrize("where", ["training", "test"])
def test_an_energy_ten_times_too_large_names_its_point(tmp_path, where):
    rng = np.random.default_rng(0)
    paths = {}
    for name in ("training", "test"):
        targets = {"iqa": -75.0 + 0.01 * rng.normal(size=30)}
        if name == where:
            targets["iqa"][16] *= 10
        paths[name] = tmp_path / f"WATER_O1_{name.upper()}_SET.csv"
        write_training_set(paths[name], TrainingSet(rng.uniform(1, 2, (30, 3)), targets))
    with pytest.raises(TrainingError, match=f"{where.upper()}_SET.csv, point 17: iqa is -7"):
        read_sets([paths["training"]], [paths["test"]], 0.0, 0, [(1, 2, 3)], None)
