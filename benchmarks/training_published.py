"""The sets published with FEREBUS: what its swarm search reached, and what is reached here.

    python benchmarks/training_published.py

Marginal likelihood with the published kernel (RBF) and nugget by direct learning; concentrated
likelihood with the default kernel by direct and by transfer learning. Medians on --threads threads.
"""

import json
from dataclasses import replace

from published_sets import load, median_run, options, use_threads

from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.gp.training import train

PUBLISHED = {
    "ammonia": (-3002.2721, 0.115, 8.3), "methanol": (-3546.6653, 0.579, 36.0),
    "glycine": (-12335.2498, 0.862, 1323.0),
}
"""-ln L, RMSE in kJ/mol and seconds of the swarm search (FEREBUS v7)."""

WIDE = TrainingSettings(noise=1e-10, bounds=(1e-8, 10.0), transfer=None)
PROTOCOLS = {
    "marginal, RBF, DL": replace(
        WIDE, objective="marginal", kernel="rbf", optimiser=LBFGS(tolerance=1e-8)
    ),
    "concentrated, DL": WIDE,
    "concentrated, TL": replace(WIDE, transfer=TrainingSettings().transfer),
}


def main() -> None:
    """Print the table."""
    parser = options(__doc__.splitlines()[0], list(PUBLISHED))
    args = parser.parse_args()
    use_threads(args.threads)
    rows = []
    print("| set | protocol | -ln L | RMSE kJ/mol | s |\n| --- | --- | --- | --- | --- |")
    for name in args.sets:
        data = load(name, args.data)
        value, error, seconds = PUBLISHED[name]
        size = " x ".join(map(str, data.features.shape))
        print(f"| {name} {size} | published: marginal, RBF, swarm | {value:.4f} | {error:.3f} "
              f"| {seconds:g} |")
        for label, settings in PROTOCOLS.items():
            train(data.features[:100], data.targets[:100], settings)  # compiles
            seconds, found = median_run(
                lambda s=settings, d=data: train(d.features, d.targets, s), args.repeat
            )
            error = data.rmse(found.process.predict(data.validation_features)[0])
            rows.append({
                "set": name, "protocol": label, "-ln L": found.objective, "RMSE kJ/mol": error,
                "s": seconds, "evaluations": found.evaluations,
            })
            cells = f"{found.objective:.4f} | {error:.3f} | {seconds:.2f}"
            print(f"| | {label} | {cells} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
