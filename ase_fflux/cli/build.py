"""``fflux build``: make a model for a molecule."""

import argparse
from pathlib import Path

from ase_fflux.cli import options

_DESCRIPTION = """\
Make a model for a molecule from GFN2-xTB labels: optimise, sample, label, train, test on a separate
trajectory, and report. All frames of FILE are taken as conformers; mirror images are added.

Labels are GFN2-xTB's own decomposition of its energy into atoms, its charges, atomic dipoles and
quadrupoles. They are not IQA energies.

Needs tblite: pip install 'ase-fflux[all]'
"""

_EPILOG = """\
example:
  fflux build ethanol.xyz -o ethanol.fflux
  fflux opt ethanol.xyz --model ethanol.fflux

The working folder NAME-build keeps minima and labels (extended xyz). A build that was interrupted
goes on where it stopped when it is started again; no finished label is lost.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    from ase_fflux.cli.training_options import add_training

    parser = subparsers.add_parser(
        "build", description=_DESCRIPTION, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )
    parser.add_argument(
        "geometry", metavar="FILE", help="conformers, same atoms in the same order in every frame"
    )
    parser.add_argument(
        "-o", "--output", metavar="MODEL.fflux",
        help="bundle to write (default: FILE's name with .fflux in the current directory)",
    )
    add = parser.add_argument
    add("--labels", type=options.natural, default=2000, metavar="N",
        help="training labels (default: %(default)s)")
    add("--temperature", type=options.positive, default=500.0, metavar="T",
        help="of the dynamics that half of them come from, in K (default: %(default)g); lower it "
        "for what falls apart")
    add("--test-frames", type=options.natural, default=500, metavar="N",
        help="frames of the 300 K test trajectory (default: %(default)s)")
    add("--charge", type=int, default=0, metavar="Q", help="total charge (default: 0)")
    add_training(parser)
    parser.set_defaults(seed=1)


def run(args: argparse.Namespace) -> int:
    """Build a model and print its errors."""
    from ase_fflux.cli.training_options import settings_of
    from ase_fflux.reference.tblite_source import GFN2
    from ase_fflux.tasks.build import BuildSettings, build
    from ase_fflux.tasks.validate import table

    conformers = options.read_conformers(args.geometry)
    output = Path(args.output or Path(args.geometry).stem + ".fflux")
    if output.suffix != ".fflux":
        output = output.with_name(output.name + ".fflux")
    folder = output.with_name(output.stem + "-build")
    settings = BuildSettings(
        labels=args.labels, temperature=args.temperature, test_frames=args.test_frames,
        seed=args.seed, charge=args.charge,
    )
    try:
        result = build(
            conformers, output, GFN2(args.charge), settings, settings_of(args),
            folder, command=args.command, progress=options.progress,
        )
    except KeyboardInterrupt:
        print(f"\ninterrupted; labels are kept in {folder}: the same command goes on from there")
        return 130
    size = output.stat().st_size / 1e6
    print(f"wrote {output} ({size:.1f} MB, {len(result.model.geometries)} training geometries)")
    print(f"errors against {GFN2.method}, {result.test.frames} frames at "
          f"{settings.test_temperature:g} K and {len(result.minima)} minima:")
    for name, value, unit in table(result.test, result.minima):
        print(f"  {name:42} {value:10.4g} {unit}")
    return 0
