import json
from types import SimpleNamespace

import numpy as np
import pytest
from ase.io import read

from ase_fflux.base.errors import CoverageError, FFLUXError
from ase_fflux.base.outputs import OutputFiles
from ase_fflux.base.store import Appended, DamagedError
from ase_fflux.simulate.md import files as dynamics_files
from ase_fflux.simulate.md.dynamics import Dynamics
from ase_fflux.simulate.md.files import (
    RESTART,
    SUFFIXES,
    dynamics_to_files,
    read_restart,
)
from ase_fflux.simulate.md.settings import DynamicsSettings


@pytest.fixture
def start(tetrahedron, tmp_path, monkeypatch):
    """Makes dynamics and the files of a prefix; every step has a restart point."""
    monkeypatch.setattr(dynamics_files, "_INTERVAL", -1.0)

    def make(name="m", **settings):
        settings = {"time": 0.02, "interval": 4, "ensemble": "nvt", **settings}
        tetrahedron.calc.coverage = np.array([0.9, 0.8, 0.95, 1.0])
        tetrahedron.calc.get_uncertainty = lambda atoms: SimpleNamespace(
            energy=0.01 * (1 + atoms.positions[0, 0] ** 2)
        )
        dynamics = Dynamics(tetrahedron, DynamicsSettings(**settings))
        return dynamics, OutputFiles(tmp_path / name, SUFFIXES)

    return make


@pytest.fixture
def no_picture(monkeypatch):
    monkeypatch.setattr(dynamics_files, "plot_dynamics", lambda *args, **kwargs: None)


def stop(dynamics, calls, error=KeyboardInterrupt):
    """Have the calculator raise after so many calls."""
    calculator = dynamics.atoms.calc
    calculate, last = calculator.calculate, calculator.calls + calls

    def stopping(*args, **kwargs):
        if calculator.calls == last:
            calculator.calculate = calculate
            raise error
        calculate(*args, **kwargs)

    calculator.calculate = stopping


def outcome(files):
    """What a run is about: everything but wall times."""
    frames = read(files[".traj"], ":")
    summary = json.loads(files[".json"].read_text())
    drop = ("started", "wall_time_s", "wall_time_per_step_ms", "files")
    return (
        files[".log"].read_text(), files[".xyz"].read_text(),
        [frame.positions.tolist() for frame in frames],
        [frame.get_momenta().tolist() for frame in frames],
        [frame.get_forces().tolist() for frame in frames],
        {key: value for key, value in summary.items() if key not in drop},
    )


def test_files_agree_with_each_other(start):
    dynamics, files = start(ensemble="nve", uncertainty=True)
    advanced = []
    summary = dynamics_to_files(
        dynamics, files, about={"model": ["springs"]}, advance=advanced.append
    )
    assert summary == json.loads(files[".json"].read_text())
    assert sum(advanced) == summary["steps"] == 40
    head, *_ = files[".log"].read_text().splitlines()
    assert head.startswith("#") and "potential/eV" in head and head.endswith("uncertainty/eV")
    time, potential, kinetic, total, temperature, coverage, uncertainty = np.loadtxt(
        files[".log"], unpack=True
    )
    frames = read(files[".traj"], ":")
    assert time == pytest.approx(0.002 * np.arange(11)) and len(frames) == 11
    energies = [frame.get_potential_energy() for frame in frames]
    assert potential == pytest.approx(energies, abs=1e-8)
    assert kinetic == pytest.approx([frame.get_kinetic_energy() for frame in frames], abs=1e-8)
    assert total == pytest.approx(potential + kinetic, abs=2e-8)
    assert (coverage == 0.8).all()
    expected = [0.01 * (1 + frame.positions[0, 0] ** 2) for frame in frames]
    assert uncertainty == pytest.approx(expected, abs=1e-8)
    last = read(files[".xyz"])
    assert last.positions == pytest.approx(frames[-1].positions, abs=1e-7)
    assert last.get_momenta() == pytest.approx(frames[-1].get_momenta(), abs=1e-7)
    assert last.get_forces() == pytest.approx(frames[-1].get_forces(), abs=1e-7)
    assert files[".png"].stat().st_size > 10000 and not files[RESTART].exists()
    assert summary["files"] == files.written
    assert summary["model"] == ["springs"] and summary["time_ps"] == pytest.approx(0.02)
    assert summary["temperature_mean_K"] == pytest.approx(temperature.mean())
    assert summary["coverage_min"] == 0.8
    assert summary["uncertainty_largest_eV"] == uncertainty.max()


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
@pytest.mark.parametrize("calls", [1, 13, 24])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(start, no_picture, ensemble, calls):
    whole, its_files = start("whole", ensemble=ensemble)
    dynamics_to_files(whole, its_files)
    first, files = start(ensemble=ensemble)
    stop(first, calls)
    with pytest.raises(KeyboardInterrupt):
        dynamics_to_files(first, files)
    assert not files[".json"].exists()
    again, _ = start(ensemble=ensemble)
    restart = read_restart(files, again)
    assert 0 <= restart.state["step"] <= calls
    advanced = []
    dynamics_to_files(again, files, restart=restart, advance=advanced.append)
    assert advanced[0] == restart.state["step"] and sum(advanced) == 40
    assert outcome(files) == outcome(its_files)


@pytest.mark.parametrize("whole_frame", [True, False])
def test_what_a_killed_run_wrote_after_its_restart_point_is_cut(start, no_picture, whole_frame):
    whole, its_files = start("whole")
    dynamics_to_files(whole, its_files)
    first, files = start()
    stop(first, 21)
    with pytest.raises(KeyboardInterrupt):
        dynamics_to_files(first, files)
    kept = files[RESTART].read_bytes()
    again, _ = start()
    stop(again, 15)
    with pytest.raises(KeyboardInterrupt):
        dynamics_to_files(again, files, restart=read_restart(files, again))
    files[RESTART].write_bytes(kept)
    if not whole_frame:
        with open(files[".traj"], "ab") as trajectory:
            trajectory.write(b"half a frame")
    with open(files[".log"], "a") as log:
        log.write("    0.0")
    last, _ = start()
    restart = read_restart(files, last)
    assert restart.trajectory.frames < len(read(files[".traj"], ":"))
    dynamics_to_files(last, files, restart=restart)
    assert outcome(files) == outcome(its_files)
    assert not list(files[".log"].parent.glob("*.part"))


def test_interrupt_while_a_frame_is_written(start, no_picture, monkeypatch):
    from ase.io.ulm import Writer

    whole, its_files = start("whole")
    dynamics_to_files(whole, its_files)
    fill, calls = Writer.fill, []

    def interrupted(self, array):
        calls.append(1)
        if len(calls) == 20:
            raise KeyboardInterrupt
        fill(self, array)

    monkeypatch.setattr(Writer, "fill", interrupted)
    first, files = start()
    with pytest.raises(KeyboardInterrupt):
        dynamics_to_files(first, files)
    again, _ = start()
    restart = read_restart(files, again)
    assert restart.trajectory.frames == len(read(files[".traj"], ":"))
    dynamics_to_files(again, files, restart=restart)
    assert outcome(files) == outcome(its_files)


def test_only_the_same_run_goes_on(start, tetrahedron):
    first, files = start()
    assert read_restart(files, first) is None
    stop(first, 9)
    with pytest.raises(KeyboardInterrupt):
        dynamics_to_files(first, files)
    assert read_restart(files, start()[0]) is not None
    for change in ({"temperature": 310.0}, {"seed": 2}, {"time": 0.03}, {"interval": 2},
                   {"timestep": 0.4}, {"ensemble": "nve"}, {"friction": 9.0}):
        assert read_restart(files, start(**change)[0]) is None
    tetrahedron.rattle(1e-3)
    assert read_restart(files, start()[0]) is None


def test_another_force_field_does_not_go_on(start, tetrahedron):
    first, files = start()
    stop(first, 9)
    with pytest.raises(KeyboardInterrupt):
        dynamics_to_files(first, files)
    springs = tetrahedron.calc.springs
    tetrahedron.calc.springs = [(i, j, k, 1.01 * length) for i, j, k, length in springs]
    tetrahedron.calc.reset()
    assert read_restart(files, start()[0]) is None
    tetrahedron.calc.springs = springs
    tetrahedron.calc.reset()
    assert read_restart(files, start()[0]) is not None


def test_damage_is_told_wherever_it_is(start):
    """Any byte of what belongs to the restart point; what came after it may be anything."""
    first, files = start()
    stop(first, 30)
    with pytest.raises(KeyboardInterrupt):
        dynamics_to_files(first, files)
    again, _ = start()
    for suffix in (".log", ".traj", RESTART):
        content = files[suffix].read_bytes()
        damaged = [b"", content[: len(content) // 2], content[:-1]]
        # the padding of archives and the head of a trajectory, which the restart has, do not count
        places = range(60, len(content) - 30, 97 if suffix != ".log" else 31)
        damaged += [content[:i] + bytes([content[i] ^ 1]) + content[i + 1:] for i in places]
        for bad in damaged:
            files[suffix].write_bytes(bad)
            try:
                restart = read_restart(files, again)
            except DamagedError as error:
                assert str(files[suffix]) in str(error) and "delete" in str(error)
            else:
                assert suffix != ".log" and bad not in damaged[:3]
                assert 20 < restart.state["step"] <= 30
        files[suffix].unlink()
        if suffix == RESTART:
            assert read_restart(files, again) is None
        else:
            with pytest.raises(DamagedError, match="is not there"):
                read_restart(files, again)
        files[suffix].write_bytes(content + b"more" * (suffix != RESTART))
    assert read_restart(files, again) is not None


def test_everything_is_on_the_disk_before_the_restart_says_so(start, monkeypatch):
    done = []
    sync, write = dynamics_files.sync, dynamics_files.write_checkpoint
    monkeypatch.setattr(
        dynamics_files, "sync", lambda path: (done.append(path.suffix), sync(path))
    )
    monkeypatch.setattr(
        "ase_fflux.simulate.trajectory.sync", lambda path: (done.append(path.suffix), sync(path))
    )
    monkeypatch.setattr(
        dynamics_files, "write_checkpoint",
        lambda path, *rest: (done.append(path.suffix), write(path, *rest)),
    )
    dynamics, files = start(time=0.002)
    dynamics_to_files(dynamics, files)
    assert done[:3] == [".log", ".traj", ".npz"] and done == done[:3] * (len(done) // 3)


def test_a_full_disk_leaves_whole_files_and_a_restart(start, no_picture, monkeypatch):
    whole, its_files = start("whole")
    dynamics_to_files(whole, its_files)
    first, files = start()
    write, calls = Appended.write, []

    def full(self, data):
        calls.append(1)
        if len(calls) == 60:
            write(self, memoryview(data).cast("B")[:3])
            raise OSError(28, "No space left on device")
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Appended, "write", full)
        with pytest.raises(FFLUXError, match=r"m\.(log|traj): cannot be written: No space left"):
            dynamics_to_files(first, files)
    monkeypatch.undo()
    monkeypatch.setattr(dynamics_files, "plot_dynamics", lambda *args, **kwargs: None)
    again, _ = start()
    dynamics_to_files(again, files, restart=read_restart(files, again))
    assert outcome(files) == outcome(its_files)


def test_an_error_of_the_force_field_tells_when_and_keeps_the_samples(start, monkeypatch):
    monkeypatch.setattr(dynamics_files, "_INTERVAL", 1000.0)
    dynamics, files = start()
    stop(dynamics, 17, CoverageError("outside"))
    with pytest.raises(CoverageError, match="after 0.008.* ps: outside"):
        dynamics_to_files(dynamics, files)
    assert len(read(files[".traj"], ":")) == len(np.loadtxt(files[".log"])) == 5
    summary = json.loads(files[".json"].read_text())
    assert not summary["completed"] and summary["stopped"].startswith("after 0.008")
    assert summary["steps"] == 16 and not files[RESTART].exists()
    last = read(files[".traj"], -1)
    assert read(files[".xyz"]).positions == pytest.approx(last.positions, abs=1e-7)
