import numpy as np
import pytest
from ase import Atoms, units

from ase_fflux.base.errors import FFLUXError
from ase_fflux.formats.dl_poly.control import read_control
from ase_fflux.simulate.md.from_control import set_velocities, settings_of
from ase_fflux.simulate.md.settings import DynamicsSettings


@pytest.fixture
def control(tmp_path):
    """``control(*lines)``: a CONTROL of 100 steps of 0.5 fs at 300 K, with these lines."""

    def read(*lines):
        text = ["title", "timestep 0.0005", "steps 100", "temperature 300", "fflux ewald L1"]
        text += lines
        (tmp_path / "CONTROL").write_text("\n".join([*text, "finish"]))
        return read_control(tmp_path / "CONTROL")

    return read


@pytest.mark.parametrize("ensemble, wanted, note", [
    ("nve", {"ensemble": "nve"}, None),
    ("nvt langevin 2.5", {"ensemble": "nvt", "thermostat": "langevin", "friction": 2.5}, None),
    ("nvt hoover 0.2", {"ensemble": "nvt", "thermostat": "nose-hoover", "thermostat_time": 0.2},
     "line 6: 'ensemble nvt hoover 0.2': Nose-Hoover chains of the same time"),
    ("nvt berendsen 0.2", {"ensemble": "nvt", "thermostat": "bussi", "thermostat_time": 0.2},
     "velocities are rescaled at random (Bussi)"),
    ("nvt evans", {"ensemble": "nvt", "thermostat": "bussi"}, "rescaled at random (Bussi)"),
    ("npt mtk 0.2 1.5", {"ensemble": "npt", "thermostat_time": 0.2, "barostat_time": 1.5}, None),
    ("npt hoover 0.2 1.5", {"ensemble": "npt", "thermostat_time": 0.2, "barostat_time": 1.5},
     "barostat of Martyna, Tobias and Klein, of the same times"),
    ("npt langevin 2 3", {"ensemble": "npt"}, "with times of their own instead of frictions"),
    ("nst ber 0.2 1.5 orth",
     {"ensemble": "npt", "barostat": "full", "thermostat_time": 0.2, "barostat_time": 1.5},
     "'ensemble nst ber 0.2 1.5': Nose-Hoover chains"),
])
def test_ensembles(control, ensemble, wanted, note):
    settings, notes = settings_of(control(f"ensemble {ensemble}", "pressure 0.002"))
    assert {name: settings[name] for name in wanted} == wanted
    assert [note in line for line in notes] == ([True] if note else [])
    made = DynamicsSettings(**settings)
    assert made.steps == 100 and made.timestep == 0.5 and made.temperature == 300
    assert made.pressure == (2.0265 if wanted["ensemble"] == "npt" else None)


def test_without_an_ensemble_energy_is_constant(control):
    assert settings_of(control())[0]["ensemble"] == "nve"


@pytest.mark.parametrize("lines, keep, temperature", [
    ((), False, 300.0), (("restart noscale",), True, None), (("restart scale",), True, 300.0),
])
def test_velocities(control, lines, keep, temperature):
    said = control(*lines)
    settings, _ = settings_of(said)
    assert settings["keep_momenta"] is keep and settings.get("temperature") == temperature
    atoms = Atoms("O3", np.eye(3))
    atoms.set_momenta([[1.0, 0, 0], [0, -2.0, 0], [-1.0, 2.0, 0]])
    before = atoms.get_momenta()
    set_velocities(atoms, said)
    if not keep:
        assert not atoms.get_momenta().any()
    elif temperature is None:
        assert (atoms.get_momenta() == before).all()
    else:
        kinetic = 0.5 * (3 * 3 - 3) * units.kB * 300.0
        assert atoms.get_kinetic_energy() == pytest.approx(kinetic)
    settings = settings_of(control("restart noscale", "ensemble nvt langevin 1"))[0]
    assert settings["keep_momenta"] and settings["temperature"] == 300


@pytest.mark.parametrize("old, new, message", [
    ("steps 100\n", "steps 0\n", "CONTROL: no dynamics without `steps` above 0"),
    ("timestep 0.0005\n", "", "CONTROL: no dynamics without `timestep`"),
    ("temperature 300\n", "", "CONTROL: no `temperature`, which"),
    ("finish", "ensemble nvt dpd 1\nfinish", "line 6: the thermostat 'dpd' of nvt is not known"),
])
def test_refused(control, tmp_path, old, new, message):
    control()
    text = (tmp_path / "CONTROL").read_text()
    (tmp_path / "CONTROL").write_text(text.replace(old, new))
    with pytest.raises(FFLUXError, match=message):
        settings_of(read_control(tmp_path / "CONTROL"))
