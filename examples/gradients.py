"""Label, train on energies and gradients, and use a model with its error bars: methanol, a minute.

    python examples/gradients.py

The command line does the same in one line: fflux build methanol.xyz --labels 100
"""

from pathlib import Path

from ase.build import molecule

from ase_fflux import FFLUX
from ase_fflux.assess.validate import held_out_errors, table
from ase_fflux.base.units import BOHR
from ase_fflux.formats import write_bundle
from ase_fflux.labels.folder import LabelFolder, LabelSettings
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.training.joint import JointTrainer, JointTraining


def main():
    """Everything is kept in methanol-work, so a second run only prints."""
    folder = Path("methanol-work")
    methanol = molecule("CH3OH")
    labels = LabelFolder(folder, [methanol], GFN2(), LabelSettings(test_frames=100))
    reference = labels.minima()[0].positions / BOHR
    trainer = JointTrainer(labels.training(100), reference, JointTraining(), folder / "models")
    print(trainer.plan)
    for atoms in trainer.data.classes:
        print(f"atoms {atoms.atoms} share a process, {len(atoms.view_order)} images each")

    energies = trainer.solve(trainer.hyperparameters())
    model = trainer.model("methanol", energies, trainer.moments())
    for quantity, value, unit in table(held_out_errors(model, labels.test()), []):
        print(f"{quantity}: {value:.3g} {unit}")
    bundle = folder / "methanol.fflux"
    if not bundle.exists():
        write_bundle(bundle, model)
    methanol.calc = FFLUX(str(bundle))
    error = methanol.calc.get_uncertainty(methanol)
    energy = methanol.get_potential_energy()
    print(f"energy: {energy:.6f} eV, standard deviation {error.energy:.1e} eV")


if __name__ == "__main__":  # worker processes import this file
    main()
