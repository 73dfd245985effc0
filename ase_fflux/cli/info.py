"""``fflux info``: say what is in a model, or which models are bundled."""

import argparse

from ase_fflux.base.text import aligned
from ase_fflux.cli import options
from ase_fflux.cli.list import bundled, table

_DESCRIPTION = """\
Print what a model describes and where it comes from: atoms with their local frames, properties,
number of training points, symmetry and noise levels where equivalent atoms share processes, label
source, training protocol, errors on the test set. Of a force-field file (.toml) or a run directory
of DL_FFLUX: its species, electrostatics and pair potentials, mixed ones too. Without a model, list
those that are bundled.
"""

_EPILOG = """\
example:
  fflux info            bundled models, as `fflux list`
  fflux info ethanol    one of them
  fflux info ethanol --json

Atoms are counted from 1 in the order of the model's reference geometry. Noise levels and errors
are what the training found; errors are those on geometries that it did not see. Exit status:
0 done, 2 error.
"""

_RANKS = ("charges", "dipoles", "quadrupoles", "octupoles", "hexadecapoles")


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("info", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="bundled name, .fflux bundle, directory of .model files, force-field file or run "
        "directory",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Print the description of one model, or what `fflux list` does."""
    from ase_fflux.forcefield.loading import describes_all
    from ase_fflux.formats.locate import find_model, load_molecule

    if args.model is None:
        models = bundled()
        args.summary, lines = {"models": models}, table(models)
    elif describes_all(args.model):
        args.summary, lines = _force_field(args.model)
    else:
        path = find_model(args.model)
        model = load_molecule(path)
        args.summary, lines = _record(model, path), _description(model, path)
    if not args.json:
        print("\n".join(lines))


def _record(model, path) -> dict:
    """A molecule for programs; atoms are numbered from 1."""
    from ase.formula import Formula

    return {
        "name": model.name,
        "path": str(path),
        "formula": Formula("".join(model.symbols)).format("hill"),
        "what": _summary(model),
        "atoms": [
            {
                "atom": atom + 1, "symbol": model.symbols[atom], "x_axis": int(x) + 1,
                "xy_plane": None if xy < 0 else int(xy) + 1,
                "properties": [
                    {"name": name, "points": len(process.gp.inputs)}
                    for process in model.processes if process.atom == atom
                    for name in process.properties
                ],
            }
            for atom, (_, x, xy) in enumerate(model.alf)
        ],
        "prior": None if model.prior is None else dict(model.prior.record()),
        "provenance": dict(model.provenance),
    }


def _force_field(path: str) -> tuple[dict, list[str]]:
    """What a force-field file or run directory says, pair potentials with those that are mixed,
    for programs and in lines."""
    from ase_fflux.base.units import BOHR
    from ase_fflux.forcefield.described import described, pairs_between
    from ase_fflux.forcefield.interactions.electrostatics import Electrostatics
    from ase_fflux.forcefield.loading import read_description

    description = read_description(path)
    forcefield = described(description)
    record: dict = {"path": str(path), "species": [], "electrostatics": None, "pairs": None}
    rows = [("species", "model", "types of atoms", "what it is")]
    for entry, model in zip(description.species, forcefield.models, strict=True):
        types = " ".join(entry.types or model.symbols)
        rows.append((model.name, str(entry.model), types, _summary(model)))
        record["species"].append({
            "name": model.name, "model": str(entry.model), "types": types.split(),
            "what": _summary(model),
        })
    lines = [str(path), "", *aligned(rows), ""]
    for interaction in forcefield.interactions:
        if isinstance(interaction, Electrostatics):
            which = f"all moments up to {_RANKS[interaction.rank]} (rank {interaction.rank})"
            if interaction.level is not None:
                which = f"level {interaction.level}, of clusters"
            else:
                which += f"; Ewald sums to {interaction.accuracy:g} relative"
            lines.append(f"electrostatics: {which}")
            record["electrostatics"] = {
                "rank": interaction.rank, "level": interaction.level,
                "accuracy": interaction.accuracy,
            }
    if not description.electrostatics:
        lines.append("electrostatics: off")
    if description.pairs is None:
        return record, [*lines, "pair potentials: none"]
    pairs = forcefield.interactions[-1]
    end = "no cut-off"
    if pairs.cutoff is not None:
        kind = "force-shifted" if pairs.shifted else "plain"
        end = f"{kind} at {pairs.cutoff * BOHR:g} A{', with tail corrections' * pairs.tail}"
    mixing = description.pairs.mixing
    lines.append(f"pair potentials: {end}; {f'mixed by {mixing}' if mixing else 'not mixed'}")
    record["pairs"] = {
        "cutoff": None if pairs.cutoff is None else {"value": pairs.cutoff * BOHR, "unit": "A"},
        "force_shifted": pairs.shifted, "tail": pairs.tail, "mixing": mixing,
        "potentials_eV_A": [],
    }
    rows = [("pair", "potential", "parameters (eV, A)")]
    for (a, b), (kind, values) in pairs_between(pairs).items():
        names = {"lj": ("epsilon", "sigma"), "buckingham": ("A", "rho", "C")}[kind]
        record["pairs"]["potentials_eV_A"].append({
            "pair": f"{a}-{b}", "potential": kind, **dict(zip(names, values, strict=True)),
        })
        rows.append((f"{a}-{b}", kind, ", ".join(
            f"{name} {value:.6g}" for name, value in zip(names, values, strict=True)
        )))
    return record, [*lines, *aligned(rows)]


def _summary(model) -> str:
    from ase.formula import Formula

    formula = Formula("".join(model.symbols)).format("hill")
    moments = f"moments up to {_RANKS[model.rank]}" if model.rank >= 0 else "no moments"
    if model.shared is None:
        data = f"{_span(len(p.gp.inputs) for p in model.processes)} training points"
    else:
        data = f"{len(model.geometries)} labels, {_with_gradients(model)} of them with gradients"
    energies = "total energies (atomic ones latent)" if model.latent else "energies"
    if model.prior is not None:
        kind = "difference of total energies (of atomic ones latent)"
        energies = (f"{kind if model.latent else 'difference of energies'} to the prior "
                    f"{model.prior.model.name}")
    return f"{formula}, {len(model.symbols)} atoms, {energies}, {moments}, {data}"


def _with_gradients(model) -> int:
    weights = model.shared.gradient_weights
    return 0 if weights is None else int(weights.any(axis=(1, 2)).sum())


def _span(numbers) -> str:
    low, *_, high = sorted({*numbers}) * 2
    return str(low) if low == high else f"{low} to {high}"


def _description(model, path) -> list[str]:
    labels = [f"{symbol}{i}" for i, symbol in enumerate(model.symbols, start=1)]
    rows = [("atom", "x-axis", "xy-plane", "points", "properties")]
    for atom, (_, x, xy) in enumerate(model.alf):
        mine = [process for process in model.processes if process.atom == atom]
        rows.append((
            labels[atom], labels[x], "-" if xy < 0 else labels[xy],
            _span(len(process.gp.inputs) for process in mine),
            _names([name for process in mine for name in process.properties]),
        ))
    table = aligned(rows)
    where = ("geometries" if model.geometries is not None else "features only, without geometries")
    return [
        f"{model.name} ({path})", _summary(model), f"training data: {where}", *_prior(model), "",
        "atoms (numbered from 1) with their local frames and properties", *table, "",
        *(_shared(model, labels) if model.shared is not None else []),
        "provenance", *(_entries(model.provenance, "  ") or ["  not recorded"]),
    ]


def _prior(model) -> list[str]:
    """What the model stands on top of."""
    if model.prior is None:
        return []
    known = model.prior.record()
    of_prior = "its own" if model.of_moments is model else "the prior's"
    of_prior = of_prior if model.rank >= 0 else "none"
    return [
        f"prior: {known['model']} ({known['label_source']}), {_summary(model.prior.model)}",
        f"  sha256 {known['sha256']}",
        *([] if model.prior.analogue is None else [
            f"  a lighter analogue: features mapped from minimum to minimum, energy times "
            f"{known['factor']:.4g}"
        ]),
        f"  energies are the sum of both, moments are {of_prior}; error bars are of the difference",
        *_prior(model.prior.model),
    ]


def _shared(model, labels) -> list[str]:
    """What equivalent atoms share, and how it was trained."""
    shared = model.shared
    rows = [("equivalent atoms", "properties", "labels", "atoms", "images", "points")]
    for process in shared.processes:
        _, m, n = process.weights.shape
        views = len(process.atoms.view_mirrored)
        rows.append((
            " ".join(labels[atom] for atom in process.atoms.atoms), _names(process.properties),
            str(n), str(m), str(views), str(n * m * views),
        ))
    mirrored = int(sum(shared.symmetry.mirrored))
    forms = {str(p.kernel.form) for p in shared.processes if p.variance > 0}
    return [
        f"symmetry: {len(shared.symmetry)} operations, {mirrored} of them with reflection",
        *(f"kernel of the energies: {form}" for form in sorted(forms)),
        *([f"beside these: second frames of {len(shared.second)} classes of atoms, "
           f"{len(shared.terms)} terms of distances"] if shared.terms else []),
        *_noise_levels(shared), *aligned(rows), "",
    ]


def _noise_levels(shared) -> list[str]:
    """What labels of each source were found to scatter by, a line each."""
    from ase_fflux.base.units import FORCE, HARTREE_KJ

    lines = []
    for source, (energy, gradient) in enumerate(
        zip(shared.energy_noise, shared.gradient_noise, strict=True)
    ):
        levels = []
        if not shared.latent:
            levels.append(f"energy of an atom {_plain(HARTREE_KJ * energy)} kJ/mol")
        if shared.totals is not None:
            levels.append(f"total energy {_plain(HARTREE_KJ * shared.totals.noise[source])} kJ/mol")
        levels.append(f"gradient {_plain(FORCE * gradient)} eV/A")
        lines.append(f"noise levels: {', '.join(levels)}")
    return lines


def _names(properties: list[str]) -> str:
    """Properties by name; a long list as its first two and its last."""
    if len(properties) <= 5:
        return ", ".join(properties)
    return f"{', '.join(properties[:2])} ... {properties[-1]} ({len(properties)})"


def _entries(content: dict, indent: str) -> list[str]:
    """Lines of a nested record; {"value": v, "unit": u} is one quantity."""
    lines = []
    for key, value in content.items():
        label = f"{indent}{str(key).replace('_', ' ')}:"
        if isinstance(value, dict) and set(value) == {"value", "unit"}:
            lines.append(f"{label} {_plain(value['value'])} {value['unit']}")
        elif isinstance(value, dict):
            lines += [label, *_entries(value, indent + "  ")]
        else:
            lines.append(f"{label} {_plain(value)}")
    return lines


def _plain(value) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
