"""``fflux train``: train models on labels or training sets of one's own."""

import argparse
import warnings
from contextlib import ExitStack
from pathlib import Path

from ase_fflux.base.errors import FFLUXError, FFLUXWarning
from ase_fflux.base.text import quantities
from ase_fflux.cli import options, systems

_DESCRIPTION = """\
Train models on labels of your own. INPUT is one of
  labels.xyz      a labelled molecule, as `fflux build` leaves it in NAME-build: energies, charges,
                  dipoles and quadrupoles of its atoms (extended xyz)
  data.xyz .npz   with --gradients, total energies and forces from any program: extended xyz,
                  archives of rMD17 and sGDML, ASE databases and trajectories, whatever ASE reads,
                  a folder of outputs of Gaussian, ORCA, Psi4 or Q-Chem; atomic energies are then
                  latent
  *.csv           training sets of one or several atoms of a molecule, as FEREBUS, pyFEREBUS and
                  ichor write them: features (bohr, radian), iqa (hartree), q00 to q44s (au)
and besides OUTPUT there are, all beginning with its name without .fflux,
  -train.log            likelihood, evaluations, time and error of every model
  -train.json           summary with settings, steps, errors and versions
  -s-curve-*.png .csv   errors of energies (kJ/mol) and charges (e) on held-out points
  -learning.png .csv    energy error against the number of training points
"""

_EPILOG = """\
example:
  fflux train water-build/labels.xyz --gradients -o water.fflux --test water-build/test.xyz
  fflux train water-build/labels.xyz -o water.fflux --test water-build/test.xyz
  fflux train rmd17_ethanol.npz --gradients --labels 50 -o ethanol.fflux
  fflux train orca-runs/ --gradients -o ethanol.fflux
  fflux train dear.xyz --gradients --prior cheap.fflux -o better.fflux
  fflux train METHANOL_C1_TRAINING_SET.csv --alf 1,3,2 --test METHANOL_C1_VALIDATION_SET.csv

The working folder OUTPUT-train keeps every finished model: training that was interrupted goes on
from there when the same command is given again. Output that is already there is kept as NAME.~1~,
NAME.~2~, ...

Exit status: 0 done, 2 error, 130 interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    from ase_fflux.cli.data_options import add_reading
    from ase_fflux.cli.training_options import add_joint_kernel, add_training
    from ase_fflux.training.molecule import LINKS, MOMENTS

    parser = subparsers.add_parser("train", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("input", metavar="INPUT", nargs="+",
        help="labels.xyz, a data set of another program, or CSV files of different atoms")
    add("-o", "--output", metavar="OUTPUT",
        help="NAME.fflux for a bundle, or a directory of .model files (default: a bundle named as "
        "the labels or their folder; the directory SYSTEM_models for CSV files)")
    add("--labels", type=options.natural, metavar="N",
        help="train on N of the labels, chosen at random by --seed (default: on all)")
    add("--gradients", action="store_true",
        help="learn from total energies and gradients together with all atomic energies, and let "
        "equivalent atoms learn from each other: a few hundred labels then do. Options of training "
        "below concern the moments (default: energies alone, each atom by itself)")
    expert = parser.add_argument_group("for experts").add_argument
    expert("--no-symmetry", action="store_true",
        help="with --gradients, let equivalent atoms learn apart (default: with symmetry)")
    add("--prior", metavar="MODEL",
        help="with --gradients, learn the difference to this model of the same molecule, such as "
        "one of a cheap level, or of a lighter analogue (OH for SH): few labels then do. The "
        "bundle holds both and predicts their sum (default: none)")
    expert("--memory", type=options.positive, metavar="GB",
        help="with --gradients, what the training may use; gradients that do not fit are left out, "
        "with a warning (default: half of the machine's)")
    add_joint_kernel(expert, "with --gradients, the kernel")
    add("--moments", choices=MOMENTS, default="shared",
        help="what to train beside the energies: all moments of an atom with one kernel, which "
        "costs little more than one of them; each with its own; charges alone; or nothing "
        "(default: %(default)s)")
    expert("--link", action="append", choices=LINKS, default=[],
        help="start from models trained just before instead of from a source set: properties, from "
        "an atom's energy to its moments; equivalent, from one atom to chemically equivalent "
        "ones. May be given twice (default: none)")
    expert("--from", dest="guesses", metavar="MODEL",
        help="start from the length scales of this model, of the same molecule or of a smaller one "
        "whose atoms are the first of this one (default: none)")
    add("--test", nargs="+", metavar="FILE",
        help="labels, or one CSV file for each INPUT in their order, to test on (default: see "
        "--hold-out)")
    add("--hold-out", type=_fraction, metavar="F",
        help="part of the points, 0 to 1, that is not trained on but tested on, chosen at random; "
        "0 for none, and then there are no errors and curves (default: 0.1 without --test)")
    add("--geometry", metavar="FILE",
        help="reference geometry in any format that ASE reads: gives elements and local frames "
        "of CSV files, and a bundle made of them needs it (default: for labels, the geometry of "
        "lowest energy)")
    expert("--alf", action="append", type=_alf, default=[], metavar="A,X,XY",
        help="local frame that the features of a CSV file are in: numbers of the atom, of the one "
        "on the x-axis and of the one in the xy-plane, counted from 1; once for each file in their "
        "order (default: from the name of ichor's files, or --geometry)")
    options.add_scheduler(parser, "train the models")
    add_reading(parser)
    options.add_json(parser)
    add_training(parser)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise ValueError
    return value


def _alf(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


_fraction.__name__ = "number from 0 to below 1"
_alf.__name__ = "A,X,XY"


def run(args: argparse.Namespace) -> int:
    """Train, and print where the models are and what errors they have; 130 if interrupted."""
    with ExitStack() as until_done:
        return _train(args, until_done)


def _train(args: argparse.Namespace, until_done: ExitStack) -> int:
    """Train while the output is held."""
    from ase_fflux.base.claims import held
    from ase_fflux.cli.data_options import reading_of
    from ase_fflux.cli.training_options import settings_of
    from ase_fflux.formats import load_molecule
    from ase_fflux.formats.locate import find_model
    from ase_fflux.training.jobs import plan_jobs, run_jobs
    from ase_fflux.training.run import Recipe, check_output, claim, digest, prefix_of

    settings = settings_of(args)
    if args.gradients:
        from ase_fflux.cli.train_gradients import check_options, train_gradients

        check_options(args)
        data = _read(args, settings.seed)
        output = _output(args, data.system)
        until_done.enter_context(held(prefix_of(output), args.command))
        return train_gradients(args, data, output, settings)
    for name, value in (
        ("--no-symmetry", args.no_symmetry), ("--memory", args.memory), ("--prior", args.prior),
        ("--joint-kernel", args.joint_kernel),
    ):
        if value:
            raise FFLUXError(f"{name} belongs to --gradients: leave it out, or give both")
    with options.dask_client(args.scheduler) as executor:
        data = _read(args, settings.seed)
        output = _output(args, data.system)
        check_output(output, data)
        guesses = None if args.guesses is None else load_molecule(args.guesses)
        recipe = Recipe(settings, args.moments, tuple(args.link), guesses)
        jobs = recipe.jobs(data)
        until_done.enter_context(held(prefix_of(output), args.command))
        folder = Path(prefix_of(output) + "-train")
        files = [*args.input, *(args.test or []), *([args.geometry] if args.geometry else [])]
        asked = {
            "settings": settings.record(), "moments": args.moments, "links": args.link,
            "hold_out": args.hold_out, "labels": args.labels, "reading": reading_of(args),
            "alf": args.alf,
            "from": None if guesses is None else digest(find_model(args.guesses)),
            "inputs_sha256": {file: digest(Path(file)) for file in files},
        }
        finished, differ = claim(folder, asked)
        for message in data.warnings:
            warnings.warn(message, FFLUXWarning, stacklevel=1)
        counts = [len(atom.training) for atom in data.atoms]
        print(f"{data.system}: {' to '.join(map(str, sorted({min(counts), max(counts)})))} "
              f"training points, held out: {data.held_out}")
        print(plan_jobs(jobs) if executor is None else
              f"{len(jobs)} models on the dask scheduler {args.scheduler}")
        if finished and not differ:
            print(f"{finished} of {len(jobs)} models were finished before")
        elif finished:
            print(f"{folder} is of other settings or inputs ({'; '.join(differ)}): models that "
                  "they change are trained anew")
        restored = []
        try:
            with options.progress("training", len(jobs)) as advance:
                def on_finished(job, result, was_there):
                    restored.append(was_there)
                    advance(1)

                results = run_jobs(
                    jobs, folder=folder, executor=executor, on_finished=on_finished
                )
        except KeyboardInterrupt:
            print(f"\ninterrupted; finished models ({len(restored)} of {len(jobs)}) are kept in "
                  f"{folder}: the same command goes on from there")
            return 130
    _report(args, data, recipe, jobs, results, output, asked | {"models_restored": sum(restored)})
    return 0


def _report(args, data, recipe, jobs, results, output, asked) -> None:
    """Test, write all files and print the errors."""
    from dataclasses import replace

    from ase_fflux.assess.training_report import (
        CURVES,
        SUFFIXES,
        TOTAL,
        models_summary,
        property_errors,
        write_curves,
        write_log,
    )
    from ase_fflux.assess.validate import held_out_errors, record, table
    from ase_fflux.base.outputs import OutputFiles, versions, write_json
    from ase_fflux.training.molecule import training_record
    from ase_fflux.training.run import molecule, prefix_of, write_models

    prefix = prefix_of(output)
    model = molecule(data, Path(prefix).name, jobs, results)
    errors = property_errors(data, jobs, results)
    rows = [
        (f"{e.atom} {CURVES[e.property]} RMSE".removeprefix(f"{TOTAL} "), e.rmse, e.unit)
        for e in errors if e.property in CURVES
    ]
    if data.test is not None:
        rows = table(held_out_errors(model, data.test), [])
    shown = record(rows)
    provenance = {
        "label_source": "training sets" if data.dataset is None else data.dataset.method,
        "command": args.command,
        "training": training_record(recipe.settings, jobs, results) | {"from": args.guesses},
        "errors": shown, "versions": versions(),
    }
    if data.dataset is not None:
        provenance["labels"] = data.dataset.count_of_origin
    if model is not None:
        model = replace(model, provenance=provenance)
    if output.is_dir() and not any(output.iterdir()):
        output.rmdir()
    files = OutputFiles(prefix, [str(output).removeprefix(prefix), *SUFFIXES])
    if moved := files.set_aside():
        print(moved)
    write_models(output, data, model, jobs, results)
    write_curves(files, data, jobs, results, errors, recipe.settings.seed)
    protocol = recipe.settings.record()["protocol"]
    head = [
        args.command, f"{protocol}, {args.optimiser}, objective: {_OBJECTIVES[args.objective]}",
        f"held out: {data.held_out}", *(f"warning: {message}" for message in data.warnings),
    ]
    write_log(files["-train.log"], head, jobs, results, errors)
    write_json(files["-train.json"], {
        "command": args.command, **asked, "held_out": data.held_out, "warnings": data.warnings,
        "models": models_summary(jobs, results), "errors": shown,
        "property_errors": [e.summary() for e in errors], "versions": versions(),
    })
    args.summary = files["-train.json"]
    print("wrote", ", ".join(files.written))
    if rows:
        print(f"errors on held-out points ({data.held_out}), all properties in "
              f"{files['-train.log']}:")
    for line in quantities(rows):
        print(line)


_OBJECTIVES = {
    "concentrated": "minus the concentrated log-likelihood",
    "marginal": "minus the marginal log-likelihood",
    "hold-out": "n ln(RMSE) of training points held out in turn",
}


def _read(args, seed):
    """Data of the inputs, which are of one kind."""
    from ase_fflux.cli.data_options import reading_of
    from ase_fflux.training.data import FEWEST
    from ase_fflux.training.from_labels import FEWEST_WITH_PRIOR, read_labels
    from ase_fflux.training.from_sets import read_sets

    if args.test and args.hold_out:
        raise FFLUXError("--test and --hold-out exclude each other: leave one of them out")
    if args.hold_out is None:
        args.hold_out = 0.0 if args.test else 0.1
    files, tests = [Path(f) for f in args.input], [Path(f) for f in args.test or []]
    for file in (*files, *tests):
        if file.is_dir() and not args.gradients:
            raise FFLUXError(
                f"{file}: is not a file; a folder of outputs of programs goes with "
                "--gradients"
            )
        if not file.exists():
            raise FFLUXError(f"{file}: no such file")
    csv = {file.suffix.lower() == ".csv" for file in (*files, *tests)}
    if len(csv) > 1:
        raise FFLUXError(
            "labels and CSV training sets do not go together: give one file of labels, or CSV "
            "files only, for training and test"
        )
    geometry = None if args.geometry is None else systems.read_geometry(args.geometry)[0]
    reading = reading_of(args)
    if csv == {True}:
        if args.labels or reading:
            raise FFLUXError(
                f"--{'labels' if args.labels else next(iter(reading)).replace('_', '-')} is for "
                "labels of whole molecules, not for CSV training sets: leave it out"
            )
        return read_sets(files, tests, args.hold_out, seed, args.alf, geometry)
    if len(files) > 1 or len(tests) > 1:
        raise FFLUXError(
            f"one file of labels is needed, not {max(len(files), len(tests))}: labels of one "
            "molecule may stand in one file, one frame after the other"
        )
    if args.alf:
        raise FFLUXError("--alf is for CSV files: labels have local frames chosen for them")
    return read_labels(
        files[0], tests[0] if tests else None, args.hold_out, seed, geometry, reading, args.labels,
        args.gradients, FEWEST if args.prior is None else FEWEST_WITH_PRIOR,
    )


def _output(args, system: str) -> Path:
    """What to write, by default in the current directory."""
    if args.output is not None:
        return Path(args.output)
    return Path(f"{system}_models" if args.input[0].lower().endswith(".csv") else f"{system}.fflux")
