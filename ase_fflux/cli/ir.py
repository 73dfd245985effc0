"""``fflux ir``: infrared spectrum from dynamics, beside the harmonic one."""

import argparse

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.text import duration
from ase_fflux.cli import options, systems

_DESCRIPTION = """\
Infrared spectrum of a molecule from classical dynamics, by the autocorrelation of its dipole with
the harmonic quantum correction, beside the harmonic spectrum of its minimum; and the power spectrum
of its velocities. Runs the dynamics, or takes a trajectory (--spacing). Writes in the current
directory:
  NAME-ir.txt    bands: wavenumbers and intensities of both, with standard errors
  NAME-ir.csv    the spectra
  NAME-ir.json   everything, numbers and units apart
  NAME-ir.png    picture
"""

_EPILOG = """\
example:
  fflux ir ethanol.xyz --model ethanol
  fflux ir ethanol-md.traj --model ethanol --spacing 2 --timestep 0.5 --temperature 300

Each of the trajectories starts thermal, after 1 ps under a thermostat, and runs at constant energy.
Rotation of the whole is taken out. Frequencies are corrected for the time step. Nuclei are
classical: the spectrum has thermal shifts and couplings, no zero-point motion. What it costs is
told at the start; errors fall with the square root of --blocks, resolution with --time.

A trajectory must be of constant energy or weakly thermostatted (`fflux md --ensemble nve`), with
frames close enough for the fastest mode. Exit status: 0 done, 2 error, 130 interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("ir", description=_DESCRIPTION, epilog=_EPILOG)
    options.add_geometry(parser)
    options.add_model(parser)
    options.add_output(parser, "-ir")
    add = parser.add_argument
    add("--temperature", type=options.positive, default=300.0, metavar="T",
        help="of the dynamics, in K (default: %(default)g)")
    add("--blocks", type=options.several, default=8, metavar="N",
        help="trajectories, or pieces of the one in FILE (default: %(default)s)")
    add("--time", type=options.positive, metavar="PS",
        help="length of each trajectory in ps (default: 5)")
    add("--timestep", type=options.positive, metavar="FS",
        help="time step in fs (default: 0.5; of a trajectory in FILE it corrects the frequencies)")
    add("--interval", type=options.natural, metavar="N",
        help="steps from one frame to the next (default: 4)")
    add("--seed", type=options.natural, metavar="S",
        help="of the dynamics; the same seed gives the same run (default: 1)")
    add("--spacing", type=options.positive, metavar="FS",
        help="FILE is a trajectory with frames so far apart, in fs: no dynamics are run")
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run or read dynamics, compute, write."""
    from ase_fflux.base.outputs import OutputFiles
    from ase_fflux.simulate.vibrations.thermal import require_spacing, thermal_spectra
    from ase_fflux.simulate.vibrations.thermal_files import SUFFIXES, write_thermal_spectra

    given = [n for n in ("time", "interval", "seed") if getattr(args, n) is not None]
    if args.spacing and given:
        raise FFLUXError(
            f"--{given[0]} is of dynamics that are run here, and --spacing says that FILE has them"
        )
    atoms, description = systems.geometry_of(args)
    atoms.calc = systems.build_calculator(args)
    modes, energy = _harmonic(atoms)
    timestep, interval = args.timestep or 0.5, args.interval or 4
    spacing = args.spacing or timestep * interval
    require_spacing(spacing, modes)
    files = OutputFiles(options.output_prefix(args, "-ir", geometries=False), SUFFIXES)
    files.require_apart(args.geometry)
    title = f"{description}, model {' '.join(args.model)}"
    print(title)
    systems.print_expected_errors(atoms.calc)
    if args.spacing:
        blocks, timestep = _read(args, atoms.calc), args.timestep or 0.0
    else:
        blocks = _run(args, atoms, timestep, interval)
    spectra = thermal_spectra(
        blocks, modes.atoms, spacing=spacing, temperature=args.temperature, timestep=timestep
    )
    with files.held(args.command):
        moved = files.set_aside()
        print(write_thermal_spectra(
            spectra, modes, files, title=title,
            about=options.about(args, atoms.calc) | {"energy_of_minimum_eV": energy},
        ))
    args.summary = files[".json"]
    if moved:
        print(moved)
    print("wrote", ", ".join(files.written))


def _harmonic(atoms):
    """Modes at the minimum that the geometry leads to, and its energy."""
    from ase_fflux.simulate.limits import require_isolated
    from ase_fflux.simulate.optimise import optimise
    from ase_fflux.simulate.vibrations.analysis import vibrations

    require_isolated(atoms, "the spectrum is that of one molecule")
    found = optimise(atoms)
    if not found.converged:
        raise FFLUXError(
            f"no minimum in {found.steps} steps (largest force {found.last.fmax:.2g} eV/A): start "
            "from an optimised geometry (fflux opt)"
        )
    minimum = found.atoms.copy()
    minimum.set_constraint()
    minimum.calc = atoms.calc
    modes = vibrations(minimum)
    if modes.ir_intensities is None:
        raise FFLUXError("the model has no charges or moments, and so no infrared spectrum")
    return modes, found.last.energy


def _run(args, atoms, timestep: float, interval: int) -> list:
    """Trajectories of dynamics that are run."""
    from time import perf_counter

    from ase_fflux.simulate.vibrations.spectral import require_frames
    from ase_fflux.simulate.vibrations.thermal import steps_of, thermal_blocks

    time = args.time or 5.0
    require_frames(round(1000 * time / timestep) // interval)
    steps = steps_of(args.blocks, time, timestep)
    trial = atoms.copy()
    trial.calc = atoms.calc
    trial.rattle(1e-3, seed=1)
    trial.get_forces()
    start = perf_counter()
    for seed in range(5):
        trial.rattle(1e-4, seed=seed)
        trial.get_forces()
    cost = (perf_counter() - start) / 5 * steps
    print(f"{args.blocks} trajectories of {time:g} ps: {steps} steps, about {duration(cost)}")
    with options.progress("dynamics", steps) as advance:
        return list(thermal_blocks(
            atoms, temperature=args.temperature, blocks=args.blocks, time=time, timestep=timestep,
            interval=interval, seed=args.seed or 1, advance=advance,
        ))


def _read(args, calculator) -> list:
    """Pieces of the trajectory in the file."""
    import numpy as np

    from ase_fflux.cli.progress import stepwise
    from ase_fflux.formats.geometry import read_frames
    from ase_fflux.simulate.vibrations.thermal import Block

    frames = read_frames(args.geometry, args.format, vacuum=args.vacuum)
    length = len(frames) // args.blocks
    frames = frames[len(frames) - length * args.blocks:]
    positions = np.array([frame.positions for frame in frames])
    dipoles = []
    for frame in stepwise(frames, "dipoles", len(frames)):
        frame.set_constraint()
        frame.calc = calculator
        dipoles.append(frame.get_dipole_moment())
        frame.calc = None
    return [
        Block(positions[i:i + length], np.array(dipoles[i:i + length]))
        for i in range(0, len(frames), length or 1)
    ]
