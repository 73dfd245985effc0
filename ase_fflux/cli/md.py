"""``fflux md``: molecular dynamics."""

import argparse
from math import floor, log10

from ase_fflux.cli import options, systems
from ase_fflux.cli.view import add_view

_DESCRIPTION = """\
Molecular dynamics with FFLUX models, of molecules, clusters and periodic boxes: NVT (Langevin,
Bussi or Nose-Hoover thermostat), NVE (velocity Verlet) or NPT (Martyna-Tobias-Klein barostat,
isotropic or of the full cell). Writes in the current directory:
  NAME-md.log    table: time, energies, temperature, smallest coverage, and of boxes volume, density
                 and pressure tensor, with units in the names of the columns
  NAME-md.traj   the same samples with positions, momenta and forces (`ase gui` shows them)
  NAME-md.xyz    the last geometry with momenta, energy and forces (extended xyz)
  NAME-md.json   summary: means with error bars by blocking, drift of the energy, coverage,
                 settings, versions
  NAME-md.png    energies, temperature, density and pressure against time
"""

_EPILOG = """\
example:
  fflux opt ethanol.xyz --model ethanol
  fflux md ethanol-opt.xyz --model ethanol --temperature 300 --time 20
  fflux md ethanol-opt-md.xyz --model ethanol --ensemble nve --time 100
  fflux md box.xyz --model water --short-range O-O=lj,0.00791,3.17 \\
      --short-range O-H=lj,0.0011,1.902 --short-range-cutoff 8 \\
      --ensemble npt --temperature 298 --pressure 1 --time 50 --equilibration 10
  fflux md water343                               as CONTROL says
  fflux md water343 --ensemble nve --time 1

The first run brings the molecule to 300 K, the second goes on with its momenta at constant energy,
which for a small molecule may be far from the mean. NVE from a minimum with momenta drawn at T
settles near T/2: half of the kinetic energy becomes potential energy.

Momenta are drawn from the seed, without motion of the centre of mass and, without periodic
boundaries, without rotation of the whole; the temperature is that of the remaining degrees of
freedom. The Langevin thermostat heats rotations too. Momenta in FILE are kept, but for the motion
of the centre of mass, if --temperature is not given.

FILE may be a run directory of DL_FFLUX: its CONTROL says ensemble, temperature, pressure, time
step, steps and what becomes of the velocities, unless an option does; what is done otherwise is
named.

Molecules of a box start whole; positions then are continuous, so that molecules that diffuse leave
the cell. Molecules that overlap or lack atoms are refused. Liquids want --barostat isotropic:
nothing keeps the shape of a full cell of a liquid.

Ctrl-C or a kill loses a second at most: the same command goes on from NAME-md.restart.npz, to the
trajectory that an unbroken run gives. While it runs, NAME-md.lock keeps a second one from the same
files.

A run ends with an error, and keeps what it has, where it leaves what the models describe: an energy
5 eV per atom below their reference geometries, a coverage of next to nothing, a hundred times the
temperature asked for (at least 300 K). Exit status: 0 done, 2 error, 130 interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("md", description=_DESCRIPTION, epilog=_EPILOG)
    options.add_geometry(parser)
    options.add_model(parser)
    options.add_output(parser, "-md")
    add = parser.add_argument
    add("--ensemble", choices=["nvt", "nve", "npt"],
        help="constant temperature, constant energy, or constant temperature and pressure "
        "(default: nvt)")
    add("--temperature", type=options.positive, metavar="T",
        help="of the thermostat and of newly drawn momenta, in K (default: 300, and momenta that "
        "FILE has are kept)")
    add("--time", type=options.positive, metavar="PS",
        help="length of the run in ps (default: 10)")
    add("--timestep", type=options.positive, metavar="FS",
        help="time step in fs (default: 0.5)")
    add("--interval", type=options.natural, metavar="N",
        help="steps from one line of the log and frame of the trajectory to the next "
        "(default: 10)")
    add("--equilibration", type=options.not_negative, metavar="PS",
        help="what the means leave out at the beginning, in ps (default: 0)")
    add("--thermostat", choices=["langevin", "bussi", "nose-hoover"],
        help="of nvt (default: langevin; npt has nose-hoover)")
    add("--friction", type=options.positive, metavar="G",
        help="of the Langevin thermostat, in 1/ps (default: 10)")
    add("--thermostat-time", type=options.positive, metavar="PS",
        help="of the other thermostats, in ps (default: 0.1)")
    add("--pressure", type=options.real, metavar="P",
        help="of npt, in bar (default: 1)")
    add("--barostat", choices=["isotropic", "full"],
        help="whether npt changes the volume alone or lengths and angles of the cell (default: "
        "isotropic)")
    add("--barostat-time", type=options.positive, metavar="PS",
        help="of npt, in ps (default: 1)")
    add("--seed", type=options.natural, metavar="S",
        help="of momenta and thermostat; the same seed gives the same run (default: 1)")
    options.add_uncertainty(parser, "the energy, in eV, to each line of the log")
    add_view(parser, "the trajectory")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Run or go on; 0 at the end, 130 if interrupted."""
    from ase_fflux.base.outputs import OutputFiles
    from ase_fflux.simulate.md.dynamics import Dynamics
    from ase_fflux.simulate.md.files import RESTART, SUFFIXES, dynamics_to_files, read_restart
    from ase_fflux.simulate.md.settings import DynamicsSettings
    from ase_fflux.simulate.molecules import keep_assignment

    run = systems.run_directory_of(args)
    atoms, description = systems.system_of(args, run)
    settings = DynamicsSettings(**_asked_by_control(run, args, atoms), **_asked_for(args))
    keep_assignment(atoms)
    if args.uncertainty:
        systems.first_uncertainty(atoms)
    dynamics = Dynamics(atoms, settings)
    dynamics.sample()  # what does not fit the model is found before any file is touched
    files = OutputFiles(options.output_prefix(args, "-md"), SUFFIXES)
    files.require_apart(args.geometry)
    title = f"{description}, model {' '.join(args.model)}"
    print(title)
    systems.print_expected_errors(atoms.calc)
    try:
        with files.held(args.command):
            restart = read_restart(files, dynamics)
            if restart is not None:
                print(f"going on after {restart.state['step']} of {settings.steps} steps")
            elif moved := files.set_aside():
                print(moved)
            with options.progress("dynamics", settings.steps) as advance:
                summary = dynamics_to_files(
                    dynamics, files, restart=restart, about=options.about(args, atoms.calc),
                    title=f"{title}, {settings.ensemble.upper()}", advance=advance,
                )
    except KeyboardInterrupt:
        if not files[RESTART].exists():
            raise
        print(f"\ninterrupted after {dynamics.time:g} ps; the same command goes on from the "
              f"restart point in {files[RESTART]}, a second of work before that at most")
        return 130
    for line in _report(summary):
        print(line)
    args.summary, args.viewed = files[".json"], [files[".traj"]]
    print("wrote", ", ".join(files.written))
    return 0


_BATHS = (
    "thermostat", "friction", "thermostat_time", "pressure", "barostat", "barostat_time",
)
_SETTINGS = (
    "ensemble", "temperature", "time", "timestep", "interval", "seed", "equilibration", *_BATHS,
    "uncertainty",
)


def _asked_for(args) -> dict:
    """Settings that the command has."""
    return {name: getattr(args, name) for name in _SETTINGS if getattr(args, name) is not None}


def _asked_by_control(run, args, atoms) -> dict:
    """Settings of CONTROL of a run directory (or None), but for those that the command has too.

    What is done otherwise is printed, and the velocities of the atoms are set as it says. Another
    ensemble has none of CONTROL's thermostat and barostat, another temperature draws momenta.
    """
    from ase_fflux.simulate.md.from_control import set_velocities, settings_of

    if run is None:
        return {}
    found, notes = settings_of(run.control)
    given = _asked_for(args)
    if "ensemble" in given:
        found = {name: value for name, value in found.items() if name not in _BATHS}
        if given["ensemble"] == "nve" and found["keep_momenta"]:
            found.pop("temperature", None)
    else:
        print(*notes, sep="\n", end="\n" if notes else "")
    if "temperature" in given:
        found["keep_momenta"] = False
    set_velocities(atoms, run.control)
    return {name: value for name, value in found.items() if name not in given}


def _report(summary: dict):
    """Lines for the screen."""
    yield (
        f"{summary['time_ps']:g} ps in {summary['wall_time_s']:.1f} s "
        f"({summary['wall_time_per_step_ms']:.3g} ms per step): temperature "
        f"{_mean(summary, 'temperature', 'K')} K, standard deviation "
        f"{summary['temperature_standard_deviation_K']:.1f} K, smallest coverage "
        f"{summary['coverage_min']:.4f}"
    )
    if "density_mean_g_per_cm3" in summary:
        yield (
            f"density {_mean(summary, 'density', 'g_per_cm3')} g/cm^3, pressure "
            f"{_mean(summary, 'pressure', 'bar')} bar"
        )
    if summary["drift_meV_per_atom_per_ps"] is not None:
        what = "total" if summary["ensemble"] == "nve" else "conserved"
        yield (
            f"{what} energy: drift {summary['drift_meV_per_atom_per_ps']:+.2g} meV per atom per "
            f"ps, {summary['drift_meV_per_atom']:+.2g} meV per atom over the run, largest "
            f"departure {summary['largest_departure_meV_per_atom']:.2g} meV per atom"
        )
    if summary["samples_outside_training_data"]:
        farthest = summary["farthest_outside_training_data"][0]
        yield (
            f"outside of the training data: {summary['atoms_outside_training_data']} atoms in "
            f"{summary['samples_outside_training_data']} samples; farthest "
            f"{farthest['atom']}, coverage {farthest['coverage_min']:.3g}, first at "
            f"{farthest['first_ps']:g} ps"
        )
    if summary["uncertainty_mean_eV"] is not None:
        yield (
            f"standard deviation of the predicted energy: mean "
            f"{summary['uncertainty_mean_eV']:.2g} eV, largest "
            f"{summary['uncertainty_largest_eV']:.2g} eV"
        )


def _mean(summary: dict, name: str, unit: str) -> str:
    """A mean with its error bar, if there is one."""
    value, error = summary[f"{name}_mean_{unit}"], summary[f"{name}_error_{unit}"]
    if error is None:
        return f"{value:.4g} (too short for an error bar)"
    if error == 0:
        return f"{value:.6g}"
    digits = max(0, 1 - floor(log10(error)))
    return f"{value:.{digits}f} +- {error:.{digits}f}"
