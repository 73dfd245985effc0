import importlib.util
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.socketio import SocketIOCalculator
from ase.io import read, write

from ase_fflux import FFLUX
from ase_fflux.cli.main import main
from ase_fflux.simulate.molecules import keep_assignment

INPUT = """\
<simulation verbosity='low'>
  <output prefix='run'>
    <properties stride='1' filename='out'> [ step, potential{electronvolt} ] </properties>
    <trajectory filename='pos' stride='1' format='ase'> positions{ase} </trajectory>
  </output>
  <total_steps> 3 </total_steps>
  <prng><seed> 31415 </seed></prng>
  <ffsocket name='fflux' mode='unix' pbc='False'>
    <address> ADDRESS </address> <latency> 1e-3 </latency>
  </ffsocket>
  <system>
    <initialize nbeads='4'>
      <file mode='ase' units='angstrom'> water.xyz </file>
      <velocities mode='thermal' units='kelvin'> 300 </velocities>
    </initialize>
    <forces><force forcefield='fflux'/></forces>
    <ensemble><temperature units='kelvin'> 300 </temperature></ensemble>
    <motion mode='dynamics'>
      <dynamics mode='nvt'>
        <timestep units='femtosecond'> 0.25 </timestep>
        <thermostat mode='pile_g'><tau units='femtosecond'> 25 </tau></thermostat>
      </dynamics>
    </motion>
  </system>
</simulation>
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A folder with a water molecule, and an address of its own."""
    monkeypatch.chdir(tmp_path)
    write("water.xyz", molecule("H2O", cell=[20, 20, 20]))


def in_background(arguments):
    """Run a command in a thread; gives it and the list that its status comes to."""
    status = []
    thread = threading.Thread(
        target=lambda: status.append(main(["drive", *arguments, "--wait", "300"])), daemon=True
    )
    thread.start()
    return thread, status


@pytest.mark.parametrize("periodic", [False, True])
def test_a_server_of_ase_gets_energy_forces_and_stress(periodic):
    address = f"fflux-test-{os.getpid()}"
    box = molecule("H2O", cell=[6.0, 6.1, 6.2], pbc=periodic)
    write("box.xyz", box, format="extxyz")
    pairs = {"O-O": {"lj": [0.0079, 3.17]}}
    thread, status = in_background([
        "box.xyz", "--model", "water", "--unix", address, "--short-range", "O-O=lj,0.0079,3.17",
        "--short-range-cutoff", "5",
    ])
    with SocketIOCalculator(unixsocket=address, timeout=300) as server:
        moved = box.copy()
        moved.rattle(0.02, seed=1)
        moved.set_cell(1.01 * box.cell)
        moved.calc = server
        energy, forces = moved.get_potential_energy(), moved.get_forces()
        stress = moved.get_stress() if periodic else None
    thread.join(300)
    assert status == [0]
    # hydrogens are told apart as at the start
    box.calc = FFLUX("water", short_range=pairs, short_range_cutoff=5.0)
    keep_assignment(box)
    moved.calc = box.calc
    assert energy == pytest.approx(moved.get_potential_energy(), abs=1e-7)
    assert forces == pytest.approx(moved.get_forces(), abs=1e-6)
    if periodic:
        assert stress == pytest.approx(moved.get_stress(), abs=1e-9)


@pytest.mark.skipif(importlib.util.find_spec("ipi") is None, reason="i-PI is not installed")
def test_path_integral_of_a_water_molecule():
    """Potential energies that i-PI writes are means over the beads that it writes."""
    address = f"fflux-ipi-{os.getpid()}"
    Path("input.xml").write_text(INPUT.replace("ADDRESS", address))
    run = "from ipi.engine.simulation import Simulation\n"
    run += "Simulation.load_from_xml(open('input.xml')).run()"
    with open("ipi.log", "w") as log:
        ipi = subprocess.Popen([sys.executable, "-c", run], stdout=log, stderr=log)
    try:
        status = main(["drive", "water.xyz", "--model", "water", "--unix", address])
        assert status == 0, Path("ipi.log").read_text()
        assert ipi.wait(300) == 0, Path("ipi.log").read_text()
    finally:
        ipi.kill()
        ipi.wait()
    potential = np.loadtxt("run.out")[:, 1]
    beads = [read(f"run.pos_{k}.extxyz", ":") for k in range(4)]
    assert len(potential) == len(beads[0]) == 4
    start = read("water.xyz")
    start.pbc = False
    start.calc = FFLUX("water")
    keep_assignment(start)
    for k, energy in enumerate(potential):
        found = []
        for bead in beads:
            atoms = bead[k].copy()
            atoms.pbc = False
            found.append(start.calc.get_potential_energy(atoms))
        # i-PI's hartree and bohr differ by 1e-7, and it writes nine digits
        assert energy == pytest.approx(np.mean(found), rel=3e-7)
    assert np.ptp([bead[-1].positions for bead in beads], axis=0).max() > 1e-3


def test_a_server_with_another_system_is_told(capsys):
    address = f"fflux-other-{os.getpid()}"
    thread, status = in_background(["water.xyz", "--model", "water", "--unix", address])
    with SocketIOCalculator(unixsocket=address, timeout=300) as server:
        other = molecule("NH3")
        other.calc = server
        with pytest.raises(Exception):  # noqa: B017  what ASE makes of a client that leaves
            other.get_potential_energy()
    thread.join(300)
    assert status == [2]
    error = capsys.readouterr().err
    assert "not the one of 3 atoms" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--unix", "fflux-nobody", "--wait", "0.1"], "no server at /tmp/ipi_fflux-nobody within"),
        (["--unix", "a", "--port", "1"], "leave one of them out"), (["--port", "FREE"], "port"),
    ],
)
def test_slips_are_one_line(arguments, said, capsys):
    if "FREE" in arguments:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            arguments = ["--port", str(free.getsockname()[1]), "--wait", "0"]
    assert main(["drive", "water.xyz", "--model", "water", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fflux: error: ") and said in error and error.count("\n") == 1
