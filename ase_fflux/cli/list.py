"""``fflux list``: the bundled models and what they are good for."""

import argparse

from ase_fflux.base.text import aligned
from ase_fflux.cli import options

_DESCRIPTION = """\
List the bundled models: what each was trained on and how wrong it is on geometries it has not seen.
"""

_EPILOG = """\
example:
  fflux list
  fflux list --json
  fflux info ethanol     all that is known of one of them

A model is good for one molecule (its name may stand in --model) near the minima that it knows, in
motion up to about the temperature that its labels were sampled at. Errors are root mean squares
on a trajectory of its own against the level it was trained on; those of wavenumbers and infrared
intensities are mean absolute errors at the minima. What that level itself is off from experiment
comes on top. Exit status: 0 done, 2 error.
"""

_RANKS = ("charges", "dipoles", "quadrupoles", "octupoles", "hexadecapoles")


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("list", description=_DESCRIPTION, epilog=_EPILOG)
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Print a table, or all of it as JSON."""
    models = bundled()
    args.summary = {"models": models}
    if not args.json:
        print("\n".join(table(models)))


def bundled() -> list[dict]:
    """`about` of each bundled model, without reading the models themselves."""
    from ase_fflux.formats.bundle import read_header
    from ase_fflux.formats.locate import bundled_models

    return [about(path, read_header(path)) for path in bundled_models().values()]


def about(path, header: dict) -> dict:
    """What a bundle's header says of its use, JSON-able, numbers and units apart.

    Parameters
    ----------
    path : Path
        Of the bundle.
    header : dict
        `ase_fflux.formats.bundle.read_header`.
    """
    from ase.formula import Formula

    provenance = header["provenance"]
    errors, labels = provenance.get("errors", {}), provenance.get("labels", {})
    sampling = provenance.get("settings", {}).get("sampling", {})
    known = {name.partition(":")[0] for name in errors if name.startswith("minimum ")}
    temperature = sampling.get("temperature")
    return {
        "name": path.stem,
        "path": str(path),
        "formula": Formula("".join(header["symbols"])).format("hill"),
        "symbols": header["symbols"],
        "charge": header.get("charge"),
        "level_of_theory": provenance.get("label_source"),
        "energies": provenance.get("energies"),
        "labels": {"total": sum(labels.values()), "by_origin": labels} if labels else None,
        "sampled_at": None if temperature is None else {"value": temperature, "unit": "K"},
        "minima": len(known) or None,
        "moments": _moments(header),
        "errors": errors,
        "command": provenance.get("command"),
        "versions": provenance.get("versions", {}),
    }


def _moments(header: dict) -> str | None:
    """Highest rank of which there is any moment."""
    names = {name for process in header["processes"] for name in process["properties"]}
    ranks = [int(name[1]) for name in names if name.startswith("q")]
    return _RANKS[max(ranks)] if ranks else None


_COLUMNS = (
    ("energy", "energy RMSE"), ("force", "force RMSE"), ("dipole", "dipole RMSE"),
    ("wavenumber", "wavenumber MAE"), ("IR", "IR intensity MAE"),
)
"""Head and name of errors after the minimum, of which the largest of all minima is shown."""


def table(models: list[dict]) -> list[str]:
    """Lines of `about` of each model."""
    if not models:
        return ["there are no bundled models in this installation"]
    units = {}
    rows = []
    for model in models:
        cells = []
        for head, ending in _COLUMNS:
            found = [
                error for name, error in model["errors"].items() if name.split(": ")[-1] == ending
            ]
            if found:
                units[head] = found[0]["unit"]
            cells.append(f"{max(e['value'] for e in found):.2g}" if found else "-")
        labels, at = model["labels"], model["sampled_at"]
        rows.append((
            model["name"], model["formula"], model["level_of_theory"] or "-",
            str(labels["total"]) if labels else "-", f"{at['value']:g} K" if at else "-",
            str(model["minima"] or "-"), model["moments"] or "none", *cells,
        ))
    heads = ("model", "formula", "level", "labels", "sampled at", "minima", "moments up to")
    errors = [f"{head}/({units[head]})" if head in units else head for head, _ in _COLUMNS]
    right = [3, 4, 5, *range(len(heads), len(heads) + len(errors))]
    lines = aligned([(*heads, *errors), *rows], right)
    told = sorted({(m["level_of_theory"], m["energies"]) for m in models if m["energies"]})
    return [
        *lines, "",
        "errors: root mean squares on a separate trajectory, of wavenumbers and IR intensities",
        "mean absolute ones at the worst minimum. Mirror images count as minima.",
        *(f"atomic energies of {level}: {what}" for level, what in told),
    ]
