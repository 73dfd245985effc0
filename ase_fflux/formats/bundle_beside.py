"""What bundles of version 7 hold beside the processes of the atoms: second frames and terms."""

import numpy as np

from ase_fflux.formats.bundle_checks import CHECKED, require, rounding
from ase_fflux.formats.dialects import ROUNDING
from ase_fflux.model.alf import exchanged_axes
from ase_fflux.model.frames import features, n_features
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.molecule import ENERGY, MoleculeModel
from ase_fflux.model.shared import SecondFrames, SharedProcess
from ase_fflux.model.symmetry import Symmetry
from ase_fflux.model.terms import DistanceTerm, MoleculeTerm, TermProcess


def predicted_second(model: MoleculeModel, process: SecondFrames) -> np.ndarray:
    """What a second process predicts for its first atom at the first labels, (k,)."""
    first = process.atoms.atoms[0]
    gp = next(p.gp for p in model.second if p.atom == first)
    x = features(np.asarray(model.geometries)[:CHECKED], exchanged_axes(model.alf), first)
    return gp.predict(x)[0]


def read_beside(
    reader, symmetry: Symmetry, processes: tuple[SharedProcess, ...]
) -> tuple[tuple[TermProcess, ...], tuple[SecondFrames, ...]]:
    """Terms and second frames of a `BundleReader`, whose other processes are read."""
    if reader.header["version"] < 7:
        return (), ()
    terms = [_term(reader, t, entry, symmetry) for t, entry in enumerate(reader.header["terms"])]
    return tuple(terms), _second_frames(reader, symmetry, processes)


def check_beside(reader, model: MoleculeModel, processes: tuple[SecondFrames, ...]) -> None:
    """Raise the ModelError if what they predict is not what was stored with them."""
    for t, term in enumerate(model.terms):
        _check_term(reader, t, term)
    for g, second in enumerate(processes):
        _check_second(reader, g, model, second)


def _second_frames(
    reader, symmetry: Symmetry, processes: tuple[SharedProcess, ...]
) -> tuple[SecondFrames, ...]:
    """Second processes of the atoms, their kernels of the form of the first ones."""
    if not reader.header["second"]:
        return ()
    form = next(p.kernel.form for p in processes if ENERGY in p.properties)
    classes, entries = symmetry.classes(exchanged_axes(reader.alf)), reader.header["second"]
    require([tuple(entry["atoms"]) for entry in entries] == [c.atoms for c in classes],
            "the second frames are not of all classes of equivalent atoms")
    found = []
    for g, (atoms, entry) in enumerate(zip(classes, entries, strict=True)):
        theta = reader.array(f"second_{g}_theta", (n_features(reader.n_atoms),))
        require(bool((theta >= 0).all()) and np.array_equal(theta, theta[atoms.tie]),
                f"theta of second process {g} are wrong")
        variance = reader.not_negative(entry["variance"], f"variance of second process {g}")
        found.append(SecondFrames(atoms, Kernel.periodic_on_phi(theta, form), variance))
    return tuple(found)


def _check_second(reader, g: int, model: MoleculeModel, process: SecondFrames) -> None:
    """Predictions of second process g are those that were stored with it."""
    first = process.atoms.atoms[0]
    gp = next(p.gp for p in model.second if p.atom == first)
    found = predicted_second(model, process)
    off = np.abs(found - reader.array(f"second_{g}_check", found.shape)).max()
    require(off <= rounding(gp)[0], f"second process {g}: predictions stored with the "
            f"model are not reproduced (off by {off:.1e})")


def _term(reader, t: int, entry: dict, symmetry: Symmetry) -> TermProcess:
    """Term t, under all operations the same."""
    pairs, views, tie = (np.array(entry[name]) for name in ("pairs", "views", "tie"))
    wrong = f"term {t} is of no distances of the molecule"
    require(pairs.ndim == 3 and pairs.shape[2] == 2 and pairs.size > 0
            and pairs.dtype.kind == "i", wrong)
    c = pairs.shape[1]
    require(bool(((pairs >= 0) & (pairs < reader.n_atoms)).all())
            and bool((pairs[..., 0] != pairs[..., 1]).all()), wrong)
    require(views.ndim == 2 and views.dtype.kind == "i" and tie.dtype.kind == "i"
            and tie.shape == (c,) and np.array_equal(np.sort(views), [range(c)] * len(views)),
            f"the images of term {t} are wrong")

    def sets(members):
        images = np.sort(members, axis=-1)[:, views]
        return {tuple(map(tuple, image)) for member in images.tolist() for image in member}

    own = sets(pairs)
    require(all(sets(p[pairs]) == own for p in symmetry.permutations),
            f"term {t} does not have the symmetry of the molecule")
    theta = reader.array(f"term_{t}_theta", (c,))
    require(bool((theta > 0).all()) and all(
        np.array_equal(theta, theta[view]) for view in views
    ), f"theta of term {t} are wrong")
    require(type(entry["rational"]) is bool, f"the kernel of term {t} is wrong")
    return TermProcess(
        DistanceTerm(pairs, views, tie), theta,
        reader.not_negative(entry["variance"], f"variance of term {t}"), entry["rational"],
    )


def _check_term(reader, t: int, term: MoleculeTerm) -> None:
    """What term t adds to the first labels is what was stored with it."""
    found = term.energies(reader.geometries[:CHECKED])
    check = reader.array(f"term_{t}_check", found.shape)
    slopes = np.abs(np.asarray(term.gp.derivative_weights)[0]) @ (1 + 2 * term.gp.kernel.theta)
    size = np.abs(term.gp.weights).sum() + slopes.sum()
    bound = 10 * ROUNDING * (1 + size * term.pairs.shape[0] * len(term.view_column))
    off = np.abs(found - check).max()
    require(off <= bound, f"term {t}: predictions stored with the model are not reproduced "
            f"(off by {off:.1e})")
