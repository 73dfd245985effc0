"""A model of a cheap level, made as prior of a build with dear labels."""

import json
from dataclasses import asdict
from pathlib import Path

from ase import Atoms

from ase_fflux.base.claims import held
from ase_fflux.base.outputs import silent
from ase_fflux.base.units import BOHR
from ase_fflux.formats.bundle import SUFFIX, read_header
from ase_fflux.labels.conformer_search import Search
from ase_fflux.labels.folder import LabelSettings
from ase_fflux.labels.source import LabelSource
from ase_fflux.model.prior import Prior
from ase_fflux.training.joint import JointTraining
from ase_fflux.training.prior import read_prior
from ase_fflux.workflows.build import BuildSettings, build

LABELS = 240
"""Labels of a cheap level: they cost nothing beside dear ones, and more are hardly felt."""


def cheap_prior(
    conformers: list[Atoms], output: Path, source: LabelSource, sampling: LabelSettings,
    training: JointTraining, search: Search | None = None, command: str = "", progress=silent,
    say=lambda text: None,
) -> Prior:
    """Build a model of a cheap level beside the one that it is the prior of, or take what is there.

    Parameters
    ----------
    conformers : list of Atoms
        As of `build`.
    output : Path
        The dear model, NAME.fflux. The cheap one is NAME-prior.fflux, its labels are in
        NAME-prior-build.
    source : LabelSource
        The cheap one.
    sampling : LabelSettings
        What is labelled.
    training, command, progress, say
        As of `build`.
    search : Search, optional
        For further conformers, as of `BuildSettings`.

    Raises
    ------
    FFLUXError
        As `build`.
    """
    name = f"{output.stem}-prior"
    bundle = output.with_name(name + SUFFIX)
    settings = BuildSettings(LABELS, sampling, search=search)
    with held(output.with_name(name), command):
        if _made_before(bundle, source, settings):
            say(f"the prior is {bundle}, which was made before")
        else:
            say(f"the prior: {LABELS} labels of {source.method}")
            build(
                conformers, bundle, source, settings, training, output.with_name(f"{name}-build"),
                command, progress, say,
            )
    first = conformers[0]
    return read_prior(bundle, first.get_chemical_symbols(), first.positions / BOHR)


def _made_before(bundle: Path, source: LabelSource, settings: BuildSettings) -> bool:
    """Whether a bundle is what would be built."""
    if not bundle.exists():
        return False
    made = read_header(bundle)["provenance"]
    wanted = {
        "label_source": source.method, "label_settings": dict(source.settings),
        "settings": json.loads(json.dumps(asdict(settings))),
    }
    return {name: made.get(name) for name in wanted} == wanted
