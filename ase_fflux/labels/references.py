"""Label sources by name, as on the command line."""

from ase import Atoms

from ase_fflux.base.errors import LabelError
from ase_fflux.labels.calculator_source import CalculatorSource, factory_of
from ase_fflux.labels.label import Label
from ase_fflux.labels.source import LabelSource

REFERENCES = "gfn2", "pyscf", "ase:MODULE:FACTORY"


def label_source(
    reference: str, *, charge: int = 0, spin: int | None = None, method: str | None = None,
    basis: str | None = None, partition: str | None = None, dispersion: str | None = None,
) -> LabelSource:
    """A label source.

    Parameters
    ----------
    reference : str
        ``gfn2`` for GFN2-xTB through tblite, ``pyscf`` for Kohn-Sham through PySCF, or
        ``ase:module:factory`` for any ASE calculator (`CalculatorSource`).
    charge : int
        Total charge (e).
    spin : int, optional
        Unpaired electrons.
    method, basis, partition, dispersion : str, optional
        Of PySCF: see `PySCF`, whose defaults hold.

    Raises
    ------
    LabelError
        Another reference, options that GFN2-xTB has not, and what the source raises.
    """
    given = {
        name: value for name, value in
        (("method", method), ("basis", basis), ("partition", partition), ("dispersion", dispersion))
        if value is not None
    }
    if (factory := factory_of(reference)) is not None:
        if charge or spin is not None or set(given) - {"method"}:
            raise LabelError(
                f"{reference}: charge, spin and everything else that the calculator needs are set "
                "by its factory: leave the options for them out"
            )
        return CalculatorSource(factory, method)
    if reference == "pyscf":
        from ase_fflux.labels.pyscf_source import PySCF

        return PySCF(charge, spin, **given)
    if reference != "gfn2":
        raise LabelError(f"no reference {reference!r}: use one of {', '.join(REFERENCES)}")
    if given:
        raise LabelError(
            f"GFN2-xTB has no {' or '.join(given)} to choose: use the reference pyscf"
        )
    from ase_fflux.labels.tblite_source import GFN2

    return GFN2(charge, spin)


def label(atoms: Atoms, reference: str = "pyscf", **options) -> Label:
    """Reference data of one geometry: total energy and gradient, atomic energies and moments.

    >>> from ase.build import molecule
    >>> found = label(molecule("H2O"), method="B3LYP", basis="6-31G", partition="hirshfeld")

    Parameters
    ----------
    atoms : Atoms
        A molecule in vacuum.
    reference : {"pyscf", "gfn2"}
        Where the data comes from.
    **options
        ``charge``, ``spin``, ``method``, ``basis``, ``partition`` and ``dispersion`` as in
        `label_source`.

    Returns
    -------
    Label
        In atomic units.

    Raises
    ------
    LabelError
        What cannot be labelled, in one line.
    """
    source = label_source(reference, **options)
    source.check(atoms)
    return source.label(atoms)
