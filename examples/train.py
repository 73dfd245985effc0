"""Label, train by transfer learning on energies alone and use a model from Python: water, a minute.

    python examples/train.py

The command line does the same in one line:

    fflux build examples/water.xyz -o water.fflux --energies-only --labels 200

`gradients.py` does it with total gradients.
"""

from pathlib import Path

from ase.io import read

from ase_fflux import FFLUX
from ase_fflux.assess.validate import held_out_errors, table
from ase_fflux.base.units import BOHR
from ase_fflux.formats import write_bundle
from ase_fflux.labels.folder import LabelFolder, LabelSettings
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.learn.gp.settings import TrainingSettings, Transfer
from ase_fflux.model.alf import choose_alf
from ase_fflux.training.jobs import run_jobs
from ase_fflux.training.molecule import molecule_jobs, molecule_model


def main():
    """Everything is kept in water-work, so a second run only prints."""
    folder = Path("water-work")
    water = read(Path(__file__).with_name("water.xyz"))
    labels = LabelFolder(folder, [water], GFN2(), LabelSettings(test_frames=100))
    dataset = labels.training(200)
    reference = labels.minima()[0].positions / BOHR
    alf = choose_alf(dataset.symbols, reference)

    # two sources of a fifth of the points, their mean relaxed on half of them and then on all
    settings = TrainingSettings(transfer=Transfer(fractions=(0.2, 0.5), sources=2))
    jobs = molecule_jobs(dataset, alf, settings, links=["equivalent"])
    # a dask.distributed.Client as executor spreads them over a cluster
    results = run_jobs(jobs, folder=folder / "models")
    for name, result in results.items():
        stages = ", ".join(f"{s.stage} ({s.points} points)" for s in result.steps)
        print(f"{name}: -ln L = {result.objective:.1f} after {stages}")

    model = molecule_model(dataset, "water", alf, reference, jobs, results)
    for quantity, value, unit in table(held_out_errors(model, labels.test()), []):
        print(f"{quantity}: {value:.3g} {unit}")
    bundle = folder / "water.fflux"
    if not bundle.exists():
        write_bundle(bundle, model)
    water.calc = FFLUX(str(bundle))
    print(f"energy: {water.get_potential_energy():.6f} eV")


if __name__ == "__main__":  # worker processes import this file
    main()
