"""Direct learning beside scikit-learn and GPyTorch: same data, kernel, noise and start.

    pip install '.[peers]'
    python benchmarks/training_peers.py --sets methanol glycine

Kernel: RBF with a length scale for every feature, azimuths as they are, which is the kernel of the
published models. Every program starts from the length scales from which this package starts;
scikit-learn has its bounds as well. Noise is fixed to the same number: relative to the prefactor
here, relative to the variance of the targets in the peers. scikit-learn keeps the prior mean at the
average of the targets, the others learn it, which is why its error is a little higher.

Peers run as their documentation has it: GaussianProcessRegressor with its own L-BFGS-B to its own
convergence and no restarts; an ExactGP in float64 with Adam at a learning rate of 0.1, and with
L-BFGS and the strong Wolfe line search, all by Cholesky factors. `ratio` compares whole runs, each
to its own end. What the programs pass on the way is kept, and validated when the clock has stopped:
the last two columns tell when each first came within 1 % of the error at which this package ends.
"""

import copy
import json
import math
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace

import numpy as np
from published_sets import PublishedSet, load, median_run, options, use_threads
from scipy.optimize import minimize

from ase_fflux.learn.gp.likelihood import ConcentratedLikelihood
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.training import TrainingSettings, initial_theta, train

NOISE = 1e-10
SETTINGS = TrainingSettings(noise=NOISE, kernel="rbf", transfer=None)
TOLERANCE = 1.01
COLUMNS = (
    "set", "program", "optimiser", "seconds", "RMSE (kJ/mol)", "ratio",
    "seconds to 1.01 x RMSE of ase-fflux", "ratio of these",
)


@dataclass(frozen=True)
class Run:
    """States on the way, (seconds, state), and the energies (hartree) that a state predicts."""

    states: list[tuple[float, object]]
    predict: Callable[[object], np.ndarray]


def length_scales(data: PublishedSet) -> np.ndarray:
    """Starting length scales (F,): theta = 1 / (2 l^2)."""
    return 1.0 / np.sqrt(2.0 * initial_theta(data.features, SETTINGS.bounds, "rbf"))


@dataclass(frozen=True)
class RecordingLBFGS(LBFGS):
    """The default optimiser, which keeps (seconds, log theta) of its evaluations."""

    states: list = field(default_factory=list)

    def minimise(self, objective, *args, **kwargs):
        def value_and_gradient(log_theta):
            found = objective.value_and_gradient(log_theta)
            if np.isfinite(found[0]):
                self.states.append((time.perf_counter(), log_theta.copy()))
            return found

        recorded = SimpleNamespace(value_and_gradient=value_and_gradient)
        return super().minimise(recorded, *args, **kwargs)


def ase_fflux(data: PublishedSet, steps: int) -> Run:
    optimiser = RecordingLBFGS()
    start = time.perf_counter()
    found = train(data.features, data.targets, replace(SETTINGS, optimiser=optimiser))
    optimiser.states.append((time.perf_counter(), found.log_theta))
    likelihood = ConcentratedLikelihood(data.features, data.targets, NOISE, "rbf")
    return Run(
        [(at - start, log_theta) for at, log_theta in optimiser.states],
        lambda log_theta: likelihood.process(log_theta).predict(data.validation_features)[0],
    )


def scikit_learn(data: PublishedSet, steps: int) -> Run:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    states = []

    def optimiser(objective, theta, bounds):
        """What the library does by default, but it keeps the iterates."""
        found = minimize(
            objective, theta, method="L-BFGS-B", jac=True, bounds=bounds,
            callback=lambda x: states.append((time.perf_counter() - start, x.copy())),
        )
        return found.x, found.fun

    def regressor(kernel, optimizer):
        return GaussianProcessRegressor(
            kernel, alpha=NOISE, optimizer=optimizer, n_restarts_optimizer=0, normalize_y=True
        )

    def predict(theta):
        process = regressor(fitted.kernel_.clone_with_theta(theta), None)
        return process.fit(data.features, data.targets).predict(data.validation_features)

    low, high = SETTINGS.bounds
    scales = (1.0 / math.sqrt(2.0 * high), 1.0 / math.sqrt(2.0 * low))
    start = time.perf_counter()
    fitted = regressor(ConstantKernel(1.0) * RBF(length_scales(data), scales), optimiser)
    fitted.fit(data.features, data.targets)
    states.append((time.perf_counter() - start, fitted.kernel_.theta))
    return Run(states, predict)


def gpytorch_adam(data: PublishedSet, steps: int) -> Run:
    import torch

    def optimise(parameters, loss, record):
        optimiser = torch.optim.Adam(parameters, lr=0.1)
        for _ in range(steps):
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()
            record()

    return _gpytorch(data, optimise)


def gpytorch_lbfgs(data: PublishedSet, steps: int) -> Run:
    import torch

    def optimise(parameters, loss, record):
        optimiser = torch.optim.LBFGS(parameters, max_iter=steps, line_search_fn="strong_wolfe")

        def closure():
            optimiser.zero_grad()
            value = loss()
            value.backward()
            record()
            return value

        optimiser.step(closure)
        record()

    return _gpytorch(data, optimise)


def _gpytorch(data: PublishedSet, optimise: Callable) -> Run:
    import gpytorch
    import torch

    class Model(gpytorch.models.ExactGP):
        def __init__(self, x, y, likelihood):
            super().__init__(x, y, likelihood)
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(
                gpytorch.kernels.RBFKernel(ard_num_dims=x.shape[1])
            )

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(
                self.mean_module(x), self.covar_module(x)
            )

    states = []
    start = time.perf_counter()
    mean, deviation = data.targets.mean(), data.targets.std()
    x, y = torch.tensor(data.features), torch.tensor((data.targets - mean) / deviation)
    likelihood = gpytorch.likelihoods.GaussianLikelihood(
        noise_constraint=gpytorch.constraints.GreaterThan(0.0)
    )
    model = Model(x, y, likelihood).double()
    likelihood.noise = NOISE
    likelihood.raw_noise.requires_grad_(False)
    model.covar_module.outputscale = 1.0
    model.covar_module.base_kernel.lengthscale = torch.tensor(length_scales(data))
    marginal = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    # factorise the matrix at any size: conjugate gradients, the default above 800 points, do not
    # converge with so little noise
    exact = gpytorch.settings.max_cholesky_size(len(x) + 1)

    def record():
        states.append((time.perf_counter() - start, copy.deepcopy(model.state_dict())))

    def predict(state):
        model.load_state_dict(state)
        # through training mode, which drops the factors of the state before
        model.train()
        model.eval()
        with torch.no_grad(), exact:
            found = model(torch.tensor(data.validation_features)).mean.numpy()
        return mean + deviation * found

    model.train()
    with exact:
        free = [p for p in model.parameters() if p.requires_grad]
        optimise(free, lambda: -marginal(model(x), y), record)
    return Run(states, predict)


PROGRAMS = (
    ("ase-fflux", "L-BFGS, concentrated likelihood", ase_fflux),
    ("scikit-learn", "L-BFGS-B", scikit_learn),
    ("gpytorch", "Adam, {steps} steps", gpytorch_adam),
    ("gpytorch", "L-BFGS, at most {steps} steps", gpytorch_lbfgs),
)


def installed(program: str) -> bool:
    """Whether a peer is there; says what to do if not."""
    try:
        version(program)
    except PackageNotFoundError:
        print(f"{program} is not installed, skipped: pip install '.[peers]'")
        return False
    return True


def first_within(run: Run, data: PublishedSet, limit: float) -> float | None:
    """Seconds after which the validation error was first at or below a limit, None if never."""
    for seconds, state in run.states:
        if data.rmse(run.predict(state)) <= limit:
            return seconds
    return None


def compare(data: PublishedSet, programs: list, repeat: int, steps: int):
    """Rows of the table, one by one; the first is this package's."""
    small = replace(data, features=data.features[:60], targets=data.targets[:60])
    ours = None
    for program, optimiser, train_it in programs:
        train_it(small, 2)  # compiles, loads libraries and starts threads
        _, run = median_run(lambda: train_it(data, steps), repeat)  # noqa: B023
        seconds, last = run.states[-1]
        rmse = data.rmse(run.predict(last))
        limit = TOLERANCE * (ours["rmse"] if ours else rmse)
        reached = first_within(run, data, limit)
        row = {
            "set": f"{data.name} ({len(data.features)} x {data.features.shape[1]})",
            "program": program, "optimiser": optimiser.format(steps=steps),
            "seconds": seconds, "rmse": rmse, "ratio": None,
            "seconds_to_our_rmse": reached, "ratio_to_our_rmse": None,
        }
        ours = ours or row
        row["ratio"] = seconds / ours["seconds"]
        if reached is not None:
            row["ratio_to_our_rmse"] = reached / ours["seconds_to_our_rmse"]
        yield row


def main():
    parser = options(__doc__.splitlines()[0], ["methanol", "glycine"])
    parser.add_argument("--gpytorch-steps", type=int, default=100, metavar="N")
    chosen = parser.parse_args()
    use_threads(chosen.threads)
    # scikit-learn tells of every length scale at its bound, GPyTorch of every jitter
    warnings.filterwarnings("ignore", module="sklearn|linear_operator|gpytorch")
    sets = [load(name, chosen.data) for name in chosen.sets]
    programs = [entry for entry in PROGRAMS if entry[0] == "ase-fflux" or installed(entry[0])]
    peers = {program for program, *_ in programs[1:]} | {"numpy", "scipy"}
    if "gpytorch" in peers:
        import torch

        torch.set_num_threads(chosen.threads)
        peers.add("torch")
    machine = {
        "threads": chosen.threads, "repeat": chosen.repeat, "cores": os.cpu_count(),
        "load": os.getloadavg()[0], "python": platform.python_version(),
        "versions": {name: version(name) for name in sorted(peers)},
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()) + "\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    rows = []
    for data in sets:
        for row in compare(data, programs, chosen.repeat, chosen.gpytorch_steps):
            cells = (
                "never" if x is None else f"{x:.3g}" if isinstance(x, float) else x
                for x in row.values()
            )
            print(f"| {' | '.join(cells)} |", flush=True)
            rows.append(row)
            if chosen.json:
                chosen.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
