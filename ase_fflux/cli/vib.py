"""``fflux vib``: harmonic vibrations, infrared spectrum, thermochemistry."""

import argparse
import sys

from ase_fflux.base.errors import FFLUXError
from ase_fflux.cli import options, systems
from ase_fflux.cli.progress import stepwise
from ase_fflux.cli.view import add_view

_DESCRIPTION = """\
Harmonic vibrations of a molecule at a minimum, and what follows from them. Writes in the current
directory:
  NAME-vib.txt            wavenumbers, IR intensities, zero-point energy, thermochemistry
  NAME-vib.csv            the modes as a table to compute with
  NAME-vib.json           everything, with the atoms' displacements in each mode
  NAME-vib.png            the infrared spectrum as a picture
  NAME-vib-spectrum.csv   and as numbers
  NAME-vib-modes/         an animation of each mode (`ase gui FILE` plays it)
  NAME-vib-phonopy_params.yaml   forces and force constants for phonopy's own commands
"""

_EPILOG = """\
example:
  fflux opt ethanol.xyz --model ethanol          first find the minimum
  fflux vib ethanol-opt.xyz --model ethanol
  phonopy-load ethanol-opt-vib-phonopy_params.yaml --qpoints "0 0 0" --eigenvectors

Translations and rotations are projected out. An imaginary wavenumber (negative, marked i) means
that the geometry is not a minimum. Isotopes are masses of FILE, or D and T in place of H in an xyz
file. A crystal's format (cif, POSCAR) needs --vacuum.

Exit status: 0 done, 2 error, 130 interrupted.
"""

_FMAX = 0.01


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("vib", description=_DESCRIPTION, epilog=_EPILOG)
    options.add_geometry(parser)
    options.add_model(parser)
    options.add_output(parser, "-vib")
    parser.add_argument(
        "--temperature",
        type=options.positive,
        default=298.15,
        metavar="T",
        help="for the thermochemistry, in K (default: %(default)s)",
    )
    parser.add_argument(
        "--pressure",
        type=options.positive,
        default=101325.0,
        metavar="P",
        help="for the thermochemistry, in Pa, not in bar (default: %(default)g)",
    )
    parser.add_argument(
        "--symmetry-number",
        type=options.natural,
        metavar="N",
        help="rotations that map the molecule onto itself (default: found from the geometry)",
    )
    parser.add_argument(
        "--width",
        type=options.positive,
        default=10.0,
        metavar="W",
        help="full width at half maximum of the spectrum's lines in cm-1 (default: %(default)s)",
    )
    parser.add_argument(
        "--anharmonic", action="store_true",
        help="add fundamentals by perturbation theory of second order (VPT2, asymmetric tops): "
        "12 N (3N - 6) more forces of N atoms",
    )
    parser.add_argument(
        "--html", action="store_true",
        help="write NAME-vib.html too: modes that move, spectrum and tables in one file for any "
        "browser",
    )
    add_view(parser, "all modes, one after the other,")
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Compute, print the table, write the files."""
    from ase_fflux.base.outputs import OutputFiles, versions
    from ase_fflux.simulate.thermochemistry import thermochemistry
    from ase_fflux.simulate.vibrations.analysis import vibrations
    from ase_fflux.simulate.vibrations.anharmonic import anharmonic, require_asymmetric
    from ase_fflux.simulate.vibrations.anharmonic_files import format_levels, summary
    from ase_fflux.simulate.vibrations.files import SUFFIXES, write_vibrations
    from ase_fflux.simulate.vibrations.infrared import spectrum_grid
    from ase_fflux.simulate.vibrations.page import PAGE, write_page

    atoms, description = systems.system_of(args)
    suffixes = (*SUFFIXES, PAGE) if args.html else SUFFIXES
    files = OutputFiles(options.output_prefix(args, "-vib", geometries=False), suffixes)
    files.require_apart(args.geometry)
    displacements = 6 * len(atoms)
    result = vibrations(atoms, watch=lambda jobs: stepwise(jobs, "displacing", displacements))
    if result.fmax > _FMAX:
        print(
            f"fflux: warning: {args.geometry} is not at a minimum of this model (largest force "
            f"{result.fmax:.4f} eV/A, above {_FMAX} eV/A), so the modes below are not those of a "
            "minimum either: run `fflux opt` with the same model first",
            file=sys.stderr,
        )
    levels = None
    if args.anharmonic:
        require_asymmetric(result)
        if result.fmax > _FMAX:
            raise FFLUXError(
                f"no anharmonic wavenumbers away from a minimum (largest force {result.fmax:.4f} "
                f"eV/A, above {_FMAX} eV/A): run `fflux opt` with the same model first"
            )
        levels = anharmonic(
            result, atoms.calc,
            watch=lambda jobs: stepwise(
                jobs, "third derivatives", 2 * len(result.wavenumbers), "displacements"
            ),
        )
    thermo = thermochemistry(
        result,
        temperature=args.temperature,
        pressure=args.pressure,
        symmetry_number=args.symmetry_number,
    )
    # refused before earlier output is set aside
    spectrum_grid(result.wavenumbers, args.width)
    title = f"{description}, model {' '.join(args.model)}"
    about = options.about(args, atoms.calc)
    with files.held(args.command):
        moved = files.set_aside()
        if levels is not None:
            about["anharmonic"] = summary(result, levels)
        if args.html:
            write_page(
                result, thermo, files[PAGE], title=title, width=args.width,
                about=about | {"versions": versions()}, levels=levels,
            )
        print(write_vibrations(result, thermo, files, title=title, width=args.width, about=about))
        if levels is not None:
            print("\n".join(format_levels(result, levels)))
    args.summary = files[".json"]
    args.viewed = sorted(files["-modes/"].glob("*.xyz"))
    systems.print_expected_errors(atoms.calc)
    if moved:
        print(moved)
    print("wrote", ", ".join(files.written))
