import pytest

from ase_fflux.base.errors import FFLUXError
from ase_fflux.simulate.md.settings import DynamicsSettings


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"ensemble": "nph"}, "nvt, nve, npt"),
        ({"thermostat": "berendsen"}, "langevin, bussi, nose-hoover"),
        ({"ensemble": "npt", "barostat": "slab"}, "isotropic, full"),
        ({"ensemble": "nve", "friction": 1.0}, "thermostat"),
        ({"ensemble": "nve", "thermostat": "bussi"}, "nve has no thermostat"),
        ({"ensemble": "npt", "thermostat": "bussi"}, "Nose-Hoover chains, not the thermostat bus"),
        ({"thermostat": "bussi", "friction": 1.0}, "friction is the Langevin thermostat's: give b"),
        ({"thermostat_time": 0.1}, "langevin has a friction"),
        ({"ensemble": "nve", "thermostat_time": 0.1}, "nve neither"),
        ({"pressure": 1.0}, "pressure is npt's, and the ensemble is nvt"),
        ({"ensemble": "nve", "barostat_time": 1.0}, "barostat time is npt's"),
        ({"barostat": "full"}, "barostat is npt's"),
        ({"time": 0.01, "interval": 30}, "20 steps, fewer than the interval of 30"),
        ({"timestep": 101.0}, "longer than any vibration"),
        ({"time": 1e9}, "more than 1e"),
        ({"equilibration": 10.0}, "leaves nothing"),
        ({"thermostat": "bussi", "thermostat_time": 0.004}, "shorter than 10 time steps"),
        ({"ensemble": "npt", "barostat_time": 0.004}, "a barostat time of 0.004 ps"),
    ],
)
def test_what_makes_no_sense_is_told(settings, said):
    with pytest.raises(FFLUXError, match=said):
        DynamicsSettings(**settings)


def test_what_is_chosen():
    nvt, nve, npt = (DynamicsSettings(ensemble=name) for name in ("nvt", "nve", "npt"))
    assert [s.chosen_thermostat for s in (nvt, nve, npt)] == ["langevin", None, "nose-hoover"]
    assert [s.chosen_barostat for s in (nvt, nve, npt)] == [None, None, "isotropic"]
    assert [s.conserves for s in (nvt, nve, npt)] == [False, True, True]
    assert DynamicsSettings(thermostat="bussi").conserves
