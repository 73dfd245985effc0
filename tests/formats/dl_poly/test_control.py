import pytest

from ase_fflux.base.errors import FFLUXError
from ase_fflux.formats.dl_poly.control import read_control


def test_what_it_says(run):
    control = read_control(run / "CONTROL")
    assert (control.rank, control.level, control.accuracy) == (2, None, 1e-7)
    assert (control.cutoff, control.pair_cutoff, control.shifted) == (8.0, 7.5, True)
    ensemble = control.ensemble
    assert (ensemble.name, ensemble.method, ensemble.times) == ("nvt", "langevin", (5.0,))
    assert (control.temperature, control.timestep, control.steps) == (310.0, 5e-4, 200)
    assert (control.interval, control.velocities) == (20, "kept")
    assert control.electrostatics and control.pairs and control.mixing is None
    assert control.notes == control.unknown == ()  # nor what comes after finish


@pytest.mark.parametrize("line, name, value", [
    ("fflux cluster L4", "level", 4),
    ("fflux ewald L(1)", "rank", 0),
    ("no elec", "electrostatics", False),
    ("no vdw", "pairs", False),
    ("ewald precision 1e-5", "accuracy", 1e-5),
    ("vdw mixing lorentz-berthelot", "mixing", "Lorentz-Berthelot"),
    ("vdw mixing hogervorst", "mixing", "geometric"),
    ("restart scale", "velocities", "scaled"),
    ("pressure 0.001", "pressure", 0.001),
])
def test_keywords(run, edit, line, name, value):
    edit("CONTROL", "job time 100", line)
    control = read_control(run / "CONTROL")
    assert getattr(control, name) == value
    if name == "level":
        assert control.rank is None


@pytest.mark.parametrize("line, message", [
    ("scale 100\nequilibration 500", "'equilibration 500': no step is treated apart"),
    ("spme sum 0.3 50 50 50", "width and mesh follow from the accuracy"),
    ("restart", "REVIVE is not read"),
    ("cap 100.0", "'cap 100.0' is not done"),
    ("zero", "'zero' is not done"),
    ("rdf 10", "compute it from the trajectory"),
    ("seed 1 2 3", "random numbers are others"),
    ("spme precision 1e-20", "the accuracy is kept between"),
])
def test_what_is_done_otherwise_is_named_with_its_line(run, edit, line, message):
    edit("CONTROL", "job time 100", line)
    (note,) = read_control(run / "CONTROL").notes
    assert message in note and f"CONTROL, line {15 + line.count(chr(10))}: " in note


def test_unknown_keywords_are_named(run, edit):
    edit("CONTROL", "job time 100", "flavour vanilla\nfflux mystery 3")
    first, second = read_control(run / "CONTROL").unknown
    assert "line 15: 'flavour vanilla' is not known here, and nothing is done" in first
    assert "line 16: 'fflux mystery 3'" in second


@pytest.mark.parametrize("old, new, message", [
    ("fflux ewald L3", "fflux ewald L6", "line 12: .* levels of Ewald sums are L1"),
    ("fflux ewald L3", "fflux cluster", "line 12: .* give a level, such as L3"),
    ("rvdw 7.5", "rvdw -1", "line 9: the cut-off is -1: it must be positive"),
    ("rvdw 7.5", "rvdw", "line 9: the cut-off is missing"),
    ("steps 200", "steps 2.5", "line 6: the number of steps is 2.5"),
    ("timestep 0.0005", "timestep 0", "line 5: the time step is 0 ps"),
    ("ensemble nvt langevin 5.0", "ensemble nvt", "line 3: .*: which thermostat"),
    ("ensemble nvt", "ensemble muvt", "line 3: .* an ensemble is nve, nvt, npt or nst"),
    ("vdw shift", "vdw mixing halgren", "line 11: mixing rules here are"),
    ("temperature 310", "pressure tensor 1 1 1 0 0 0", "line 4: a tensor of pressures"),
])
def test_refused(run, edit, old, new, message):
    edit("CONTROL", old, new)
    with pytest.raises(FFLUXError, match=rf"CONTROL, {message}"):
        read_control(run / "CONTROL")


def test_which_moments_interact_must_be_said(run, edit):
    edit("CONTROL", "fflux ewald L3\n", "")
    with pytest.raises(FFLUXError, match="CONTROL: no line says which moments interact"):
        read_control(run / "CONTROL")
