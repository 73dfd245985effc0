"""A finished build as one HTML file: errors, learning curve, parity, minima, provenance."""

import json
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_fflux.assess.comparison import compare, levels_differ
from ase_fflux.assess.learning import LearningCurve
from ase_fflux.labels.label import Dataset
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.plots.page import Page
from ase_fflux.plots.parity import plot_parity
from ase_fflux.plots.training import plot_learning_curves

PAGE = "-report.html"
"""End of its name, after the bundle's without suffix."""


def write_page(
    file: Path, model: MoleculeModel, test: Dataset, minima: list[Atoms], reference: np.ndarray,
    predicted: np.ndarray, curve: LearningCurve | None, goal: float,
) -> None:
    """Write the page.

    Parameters
    ----------
    file : Path
    model : MoleculeModel
        With its provenance, errors among it.
    test : Dataset
        Labels that it has not learned from.
    minima : list of Atoms
        Of the label source.
    reference, predicted : (m,) arrays
        Their energies by the source and by the model, from that of the first on (kJ/mol).
    curve : LearningCurve, optional
    goal : float
        Force RMSE that is good enough (eV/Angstrom).
    """
    told = model.provenance
    page = Page(f"{model.name}: a model of {Atoms(model.symbols).symbols} at {test.method}")
    page.text(
        f"Trained on {sum(told['labels'].values())} labels of {told['label_source']} "
        f"({told['energies']}), tested on {len(test)} geometries that it has not seen."
    )
    page.heading("Errors")
    page.table(("quantity", "value", "unit"), [
        (name, f"{error['value']:.4g}", error["unit"]) for name, error in told["errors"].items()
    ])
    if curve is not None:
        page.heading("Learning curve")
        page.text(curve.advice(goal))
        if len(curve.labels) > 1:
            page.picture(
                lambda picture: plot_learning_curves(
                    {"force RMSE": (np.array(curve.labels), np.array(curve.force_rmse))}, picture,
                    title=model.name, unit="eV/A",
                ),
                "force RMSE on held-out geometries against the number of labels",
            )
    page.heading("Predicted and reference values of the test")
    comparison = compare(model, test)
    page.picture(
        lambda picture: plot_parity(
            comparison.quantities, picture, title=model.name, apart=levels_differ
        ),
        "predicted against reference values",
    )
    page.heading("Minima")
    rows = [
        (str(number), f"{true:.2f}", f"{found:.2f}")
        for number, (true, found) in enumerate(zip(reference, predicted, strict=True), 1)
    ]
    page.molecules(
        minima[0],
        [(f"minimum {number}", atoms.positions, None) for number, atoms in enumerate(minima, 1)],
        ("minimum", f"{told['label_source']}/(kJ/mol)", "model/(kJ/mol)"), rows,
    )
    page.heading("Provenance")
    page.lines(json.dumps(
        {name: value for name, value in told.items() if name != "errors"}, indent=2,
        ensure_ascii=False, default=str,
    ))
    page.write(file)
