"""``fflux train --gradients``: all atomic energies and the total gradient together."""

import argparse
import hashlib
import warnings
from dataclasses import replace
from pathlib import Path

from ase_fflux.assess.validate import held_out_errors, record, table
from ase_fflux.base.errors import FFLUXError, FFLUXWarning
from ase_fflux.base.outputs import OutputFiles, versions, write_json
from ase_fflux.base.store import write_text
from ase_fflux.base.text import counted, quantities
from ase_fflux.base.units import BOHR
from ase_fflux.cli import options
from ase_fflux.cli.data_options import reading_of
from ase_fflux.cli.training_options import joint_settings_of
from ase_fflux.formats.bundle import SUFFIX, write_bundle
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.training.data import TrainingData
from ase_fflux.training.joint import JointTrainer, JointTraining
from ase_fflux.training.prior import read_prior
from ase_fflux.training.run import claim, digest, prefix_of

_SUFFIXES = "-train.log", "-train.json"


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that mean nothing here, before anything is read."""
    given = [
        name for name, value in (
            ("--link", args.link), ("--from", args.guesses), ("--scheduler", args.scheduler),
        ) if value
    ]
    if given:
        raise FFLUXError(f"{given[0]} does not go with --gradients: leave one of them out")


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of the outputs in a folder, where other files may come and go."""
    from ase_fflux.labels.importers.outputs import is_output, output_files

    if not path.is_dir():
        return digest(path)
    parts = [digest(file) for file in output_files(path) if is_output(file)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def train_gradients(
    args: argparse.Namespace, data: TrainingData, output: Path, settings: TrainingSettings
) -> int:
    """Train, and print where the model is and what errors it has; 130 if interrupted."""
    if data.dataset is None:
        raise FFLUXError("--gradients needs labels or a data set: CSV files hold no gradients")
    if output.suffix != SUFFIX:
        raise FFLUXError(
            f"--gradients makes a bundle: give -o NAME{SUFFIX} (`fflux convert --plain` makes "
            ".model files of it)"
        )
    prefix = prefix_of(output)
    folder = Path(prefix + "-train")
    energies = joint_settings_of(args, data.dataset.partition)
    training = JointTraining(
        energies, settings, args.moments, not args.no_symmetry, args.memory,
    )
    reference = data.reference.positions / BOHR
    prior = None
    if args.prior is not None:
        prior = read_prior(args.prior, data.dataset.symbols, reference)
    asked = {
        "gradients": True, "settings": settings.record(), "moments": args.moments,
        "energies": training.energies.record(), "symmetry": training.symmetry,
        "hold_out": args.hold_out, "labels": args.labels, "reading": reading_of(args),
        "prior": None if prior is None else prior.sha256,
        "inputs_sha256": {
            file: _digest(Path(file)) for file in (*args.input, *(args.test or []))
        },
    }
    claim(folder, asked)
    for message in data.warnings:
        warnings.warn(message, FFLUXWarning, stacklevel=1)
    trainer = JointTrainer(data.dataset, reference, training, folder, prior=prior)
    print(trainer.plan)
    try:
        energies = trainer.solve(trainer.hyperparameters(options.progress))
        moments = trainer.moments(options.progress)
    except KeyboardInterrupt:
        print(f"\ninterrupted; what is finished is kept in {folder}: the same command goes on from "
              "there")
        return 130
    model = trainer.model(Path(prefix).name, energies, moments)
    rows = [] if data.test is None else table(held_out_errors(model, data.test), [])
    shown = record(rows)
    trained = trainer.record(energies)
    model = replace(model, provenance={
        "label_source": data.dataset.method, "command": args.command, "training": trained,
        "labels": data.dataset.count_of_origin, "errors": shown,
        "label_settings": {"partition": data.dataset.partition, **data.dataset.settings},
        "versions": versions() | dict(data.dataset.versions),
    })
    files = OutputFiles(prefix, [SUFFIX, *_SUFFIXES])
    if moved := files.set_aside():
        print(moved)
    write_bundle(output, model)
    lines = [args.command, trainer.plan, *trained["steps"], f"held out: {data.held_out}"]
    lines += quantities(rows, indent="")
    write_text(files["-train.log"], "\n".join(lines) + "\n")
    write_json(files["-train.json"], {
        "command": args.command, **asked, "training": trained, "held_out": data.held_out,
        "seconds": {step.stage: step.seconds for step in trainer.steps}, "errors": shown,
        "versions": versions(),
    })
    args.summary = files["-train.json"]
    print("wrote", ", ".join(files.written))
    if rows:
        print(f"errors on {counted(len(data.test), 'label')} not trained on ({data.held_out}):")
    for line in quantities(rows):
        print(line)
    return 0
