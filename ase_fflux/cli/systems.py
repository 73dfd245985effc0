"""What the arguments of a command stand for: geometries, models, both together."""

import argparse

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.text import printable


def read_geometry(file: str, index: int = -1, format: str | None = None, vacuum: bool = False):
    """Read one frame of a file; raises what `read_frames` does.

    Parameters
    ----------
    file, format, vacuum
        As for `ase_fflux.formats.geometry.read_frames`.
    index : int
        Of the frame, negative from the end.

    Returns
    -------
    atoms : Atoms
        Without calculator.
    description : str
        File, frame if it has several, and formula.
    """
    from ase_fflux.formats.geometry import read_frames

    frames = read_frames(file, format, vacuum=vacuum)
    if not -len(frames) <= index < len(frames):
        raise FFLUXError(f"{printable(file)}: no frame {index}, the file has {len(frames)}")
    atoms = frames[index]
    frame = ""
    if len(frames) > 1:
        frame = f", frame {index % len(frames)} of 0 to {len(frames) - 1}"
    return atoms, f"{printable(file)}{frame} ({atoms.get_chemical_formula()})"


def geometry_of(args: argparse.Namespace):
    """`read_geometry` with `add_geometry`'s arguments."""
    return read_geometry(args.geometry, args.index, args.format, args.vacuum)


def system_of(args: argparse.Namespace, run=None):
    """What `add_geometry`'s and `add_model`'s arguments stand for together.

    Of a run directory of DL_FFLUX, what is done otherwise is printed, and ``args.model`` becomes
    the directory.

    Parameters
    ----------
    args : argparse.Namespace
    run : RunDirectory, optional
        `run_directory_of` the arguments, where the caller has it already.

    Returns
    -------
    atoms : Atoms
        With its calculator.
    description : str
        Of the file and what is in it.
    """
    run = run or run_directory_of(args)
    if run is None:
        _require_model(args)
        atoms, description = geometry_of(args)
        atoms.calc = build_calculator(args)
        _keep_order(args, [atoms], atoms.calc)
        return atoms, description
    from ase_fflux.run_directory import atoms_of

    for line in (*run.control.notes, *run.control.unknown):
        print(line)
    atoms = atoms_of(run)
    atoms.calc.set(min_coverage=args.min_coverage, on_low_coverage=args.on_low_coverage)
    return atoms, f"{printable(args.geometry)} ({atoms.get_chemical_formula()})"


def frames_of(args: argparse.Namespace):
    """As `system_of`, of all frames unless one is asked for: frames, description, calculator."""
    from ase_fflux.formats.geometry import read_frames

    run = run_directory_of(args)
    if args.index is not None or run is not None:
        atoms, description = system_of(args, run)
        calculator, atoms.calc = atoms.calc, None
        return [atoms], description, calculator
    _require_model(args)
    frames = read_frames(args.geometry, args.format, vacuum=args.vacuum)
    count = f"{len(frames)} frames, " if len(frames) > 1 else ""
    description = f"{printable(args.geometry)} ({count}{frames[0].get_chemical_formula()})"
    calculator = build_calculator(args)
    _keep_order(args, frames, calculator)
    return frames, description, calculator


def _keep_order(args, frames, calculator) -> None:
    """With the models of a run directory, atoms are what their order says, as in its CONFIG."""
    from ase_fflux.formats.dl_poly import is_run_directory

    if len(args.model) > 1 or not is_run_directory(args.model[0]):
        return
    from ase_fflux.run_directory import assignment_by_order

    found = [assignment_by_order(atoms, calculator.forcefield) for atoms in frames]
    if found[0] is not None and all(one == found[0] for one in found):
        calculator.set(assignment=found[0])
    else:
        print(
            "atoms are not in the order of FIELD: which of equivalent ones is which is taken from "
            "the training data, and DL_FFLUX may take it otherwise"
        )


def run_directory_of(args: argparse.Namespace):
    """The run directory that FILE is, or None; sets ``args.model`` to it.

    Raises
    ------
    FFLUXError
        One that cannot be read, or arguments that it has its own of.
    """
    from ase_fflux.formats.dl_poly import is_run_directory, read_run_directory

    if not is_run_directory(args.geometry):
        return None
    given = [
        name for name, usual in (
            ("--model", None), ("--no-electrostatics", True), ("--level", None), ("--rank", None),
            ("--short-range", None), ("--short-range-cutoff", None), ("--format", None),
            ("--vacuum", False),
        )
        if getattr(args, name.removeprefix("--no-" if usual is True else "--").replace("-", "_"))
        not in (usual, [args.geometry])
    ]
    if given:
        raise FFLUXError(
            f"{printable(args.geometry)} is a run directory of DL_FFLUX, whose files say how "
            f"molecules interact: leave {', '.join(given)} away"
        )
    args.model = [args.geometry]
    return read_run_directory(args.geometry)


def _require_model(args: argparse.Namespace) -> None:
    if args.model is None:
        raise FFLUXError(
            "which model? Give --model: a bundled name, a .fflux bundle, a directory of .model "
            "files or a force-field file"
        )


def build_calculator(args: argparse.Namespace):
    """The FFLUX calculator that `add_model`'s arguments describe."""
    from ase_fflux import FFLUX

    _require_model(args)
    return FFLUX(
        args.model[0] if len(args.model) == 1 else args.model,
        min_coverage=args.min_coverage,
        on_low_coverage=args.on_low_coverage,
        electrostatics=args.electrostatics,
        level=args.level,
        rank=args.rank,
        short_range=dict(args.short_range) if args.short_range else None,
        short_range_cutoff=args.short_range_cutoff,
    )


def expected_errors(calculator) -> dict[str, dict[str, dict]]:
    """Errors of the calculator's models on their test sets, numbers and units apart.

    ``{model: {quantity: {"value": ..., "unit": ...}}}``; models that record none are left out.
    """
    models = calculator.forcefield.models
    return {m.name: m.provenance["errors"] for m in models if m.provenance.get("errors")}


def print_expected_errors(calculator) -> None:
    """Say what errors to expect of the numbers that follow."""
    for name, errors in expected_errors(calculator).items():
        shown = [
            f"{q} {errors[q]['value']:.3g} {errors[q]['unit']}".strip()
            for q in ("energy RMSE", "force RMSE") if q in errors
        ]
        print(f"error bar of {name} (its test set): {', '.join(shown)}")


def require_fit(atoms, uncertainty: bool) -> None:
    """Evaluate once: what does not fit the model is found before any file is touched, and models
    without the uncertainties that are asked for are as well."""
    atoms.get_forces()
    if uncertainty:
        first_uncertainty(atoms)


def first_uncertainty(atoms) -> None:
    """Have the calculator make what uncertainties need; fails where it cannot."""
    print("factorising the covariance of the training data", flush=True)
    atoms.calc.get_uncertainty(atoms)
