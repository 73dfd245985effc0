"""``fflux md``: molecular dynamics."""

import argparse

from ase_fflux.cli import options

_DESCRIPTION = """\
Molecular dynamics with FFLUX models: NVT (Langevin thermostat) or NVE (velocity Verlet). Writes in
the current directory:
  NAME-md.log    table: time, energies, temperature, smallest coverage
  NAME-md.traj   the same samples with positions, momenta and forces (`ase gui` shows them)
  NAME-md.xyz    the last geometry with momenta, energy and forces (extended xyz)
  NAME-md.json   summary: mean temperature, drift of the energy, coverage, settings, versions
  NAME-md.png    energies and temperature against time
"""

_EPILOG = """\
example:
  fflux opt ethanol.xyz --model ethanol
  fflux md ethanol-opt.xyz --model ethanol --temperature 300 --time 20
  fflux md ethanol-opt-md.xyz --model ethanol --ensemble nve --time 100

The first run brings the molecule to 300 K, the second goes on with its momenta at constant energy,
which for a small molecule may be far from the mean. NVE from a minimum with momenta drawn at T
settles near T/2: half of the kinetic energy becomes potential energy.

Momenta are drawn from the seed, without motion of the centre of mass and, for NVE without periodic
boundaries, without rotation of the whole; the temperature is that of the remaining degrees of
freedom. A thermostat heats rotations too. Momenta in FILE are kept, but for the motion of the
centre of mass, if --temperature is not given.

Ctrl-C or a kill loses a second at most: the same command goes on from NAME-md.restart.npz, to the
trajectory that an unbroken run gives. While it runs, NAME-md.lock keeps a second one from the same
files.

A run ends with an error, and keeps what it has, where it leaves what the models describe: an energy
5 eV per atom below their reference geometries, a coverage of next to nothing, a hundred times the
temperature asked for (at least 300 K). Exit status: 0 done, 2 error, 130 interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser(
        "md", description=_DESCRIPTION, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )
    options.add_geometry(parser)
    options.add_model(parser)
    options.add_output(parser, "-md")
    add = parser.add_argument
    add("--ensemble", choices=["nvt", "nve"], default="nvt",
        help="constant temperature or constant energy (default: %(default)s)")
    add("--temperature", type=options.positive, metavar="T",
        help="of the thermostat and of newly drawn momenta, in K (default: 300, and momenta that "
        "FILE has are kept)")
    add("--time", type=options.positive, default=10.0, metavar="PS",
        help="length of the run in ps (default: %(default)g)")
    add("--timestep", type=options.positive, default=0.5, metavar="FS",
        help="time step in fs (default: %(default)g)")
    add("--interval", type=options.natural, default=10, metavar="N",
        help="steps from one line of the log and frame of the trajectory to the next "
        "(default: %(default)s)")
    add("--friction", type=options.positive, metavar="G",
        help="of the thermostat, in 1/ps (default: 10)")
    add("--seed", type=options.natural, default=1, metavar="S",
        help="of momenta and thermostat; the same seed gives the same run (default: %(default)s)")
    options.add_uncertainty(parser)


def run(args: argparse.Namespace) -> int:
    """Run or go on; 0 at the end, 130 if interrupted."""
    from ase_fflux.base.outputs import OutputFiles
    from ase_fflux.simulate.md.dynamics import Dynamics, DynamicsSettings
    from ase_fflux.simulate.md.files import RESTART, SUFFIXES, dynamics_to_files, read_restart

    settings = DynamicsSettings(
        ensemble=args.ensemble, temperature=args.temperature, time=args.time,
        timestep=args.timestep, interval=args.interval, seed=args.seed, friction=args.friction,
        uncertainty=args.uncertainty,
    )
    atoms, description = options.geometry_of(args)
    atoms.calc = options.build_calculator(args)
    _keep_assignment(atoms)
    if args.uncertainty:
        options.first_uncertainty(atoms)
    dynamics = Dynamics(atoms, settings)
    dynamics.sample()  # what does not fit the model is found before any file is touched
    files = OutputFiles(options.output_prefix(args, "-md"), SUFFIXES)
    files.require_apart(args.geometry)
    title = f"{description}, model {' '.join(args.model)}"
    print(title)
    options.print_expected_errors(atoms.calc)
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
                    title=f"{title}, {args.ensemble.upper()}", advance=advance,
                )
    except KeyboardInterrupt:
        if not files[RESTART].exists():
            raise
        print(f"\ninterrupted after {dynamics.time:g} ps; the same command goes on from the "
              f"restart point in {files[RESTART]}, a second of work before that at most")
        return 130
    for line in _report(summary):
        print(line)
    print("wrote", ", ".join(files.written))
    return 0


def _keep_assignment(atoms) -> None:
    """Have the calculator keep to the assignment of the start.

    A run that goes on would otherwise have equivalent atoms, such as those of a methyl group that
    has turned, assigned anew.
    """
    from ase_fflux.base.units import BOHR

    calculator = atoms.calc
    found = calculator.forcefield.match(
        atoms.positions / BOHR, atoms.numbers, atoms.cell.array / BOHR, atoms.pbc
    )
    calculator.set(assignment={
        pattern.name: rows.tolist()
        for pattern, rows in zip(found.patterns, found.atoms_of_model, strict=True)
    })


def _report(summary: dict):
    """Lines for the screen."""
    yield (
        f"{summary['time_ps']:g} ps in {summary['wall_time_s']:.1f} s "
        f"({summary['wall_time_per_step_ms']:.3g} ms per step): temperature "
        f"{summary['temperature_mean_K']:.1f} K, standard deviation "
        f"{summary['temperature_standard_deviation_K']:.1f} K, smallest coverage "
        f"{summary['coverage_min']:.4f}"
    )
    if summary["ensemble"] == "nve":
        yield (
            f"total energy: drift {summary['drift_meV_per_atom_per_ps']:+.2g} meV per atom per ps, "
            f"{summary['drift_meV_per_atom']:+.2g} meV per atom over the run, largest departure "
            f"{summary['largest_departure_meV_per_atom']:.2g} meV per atom"
        )
    if summary["uncertainty_mean_eV"] is not None:
        yield (
            f"standard deviation of the predicted energy: mean "
            f"{summary['uncertainty_mean_eV']:.2g} eV, largest "
            f"{summary['uncertainty_largest_eV']:.2g} eV"
        )
