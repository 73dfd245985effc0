import numpy as np
import pytest

from ase_fflux.simulate.md.table import statistics


def line(**changed):
    """Eleven samples whose energy rises by 2 meV per ps."""
    time = np.linspace(0, 5, 11)
    total = -30 + 0.002 * time
    columns = {
        "time": time, "potential": total, "total": total, "temperature": 300 + 0 * time,
        "min.coverage": 1 - time / 10,
    }
    return {**columns, **changed}


def test_drift_of_a_known_line():
    found = statistics(line(), n_atoms=4, conserved="total")
    assert found["drift_meV_per_atom_per_ps"] == pytest.approx(0.5, rel=1e-6)
    assert found["drift_meV_per_atom"] == pytest.approx(2.5, rel=1e-6)
    assert found["largest_departure_meV_per_atom"] == pytest.approx(2.5, rel=1e-6)
    assert found["temperature_mean_K"] == 300 and found["coverage_min"] == 0.5
    assert found["uncertainty_mean_eV"] is None
    found = statistics(line(**{"min.coverage": np.full(11, np.nan)}), n_atoms=4, conserved=None)
    assert found["drift_meV_per_atom"] is None and found["coverage_min"] is None


def test_the_column_that_is_conserved_drifts():
    found = statistics(line(conserved=np.zeros(11)), n_atoms=4, conserved="conserved")
    assert found["drift_meV_per_atom_per_ps"] == 0


def test_means_begin_after_the_equilibration():
    rng = np.random.default_rng(0)
    time = np.arange(10_000) / 10
    density = np.where(time < 100, 0.5, 1 + 0.01 * rng.standard_normal(10_000))
    table = line(**{
        "time": time, "density": density, "pressure": 10 * density, "volume": 1 / density,
        "temperature": density, "potential": density, "total": density, "min.coverage": density,
    })
    found = statistics(table, 4, None, equilibration=100.0)
    assert found["density_mean_g_per_cm3"] == pytest.approx(1, abs=0.0005)
    assert found["density_error_g_per_cm3"] == pytest.approx(0.01 / np.sqrt(9000), rel=0.3)
    assert found["pressure_mean_bar"] == pytest.approx(10, abs=0.005)
    assert statistics(table, 4, None)["density_mean_g_per_cm3"] < 0.96
    assert statistics(table, 4, None, equilibration=1e6)["means_from_ps"] < 1000
