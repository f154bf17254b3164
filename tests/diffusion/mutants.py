"""Mutation tests: changes of one sign, index or factor of a formula, and the tests that must fail then.

`python -m tests.diffusion.mutants` prints which mutants survive. Each runs in its own fork, so that torch is imported
only once.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Mutant(NamedTuple):
    """`old` occurs once in the module and is replaced by `new`; `tests` are pytest arguments relative to tests/."""

    module: str
    old: str
    new: str
    tests: tuple[str, ...]


TARGET = ("diffusion/test_target.py",)
ZERO_TO_ONE = ("diffusion/test_zero_to_one.py",)
SAMPLERS_END = ("diffusion/test_samplers.py", "-k", "noise_at_the_end")
SCHEDULE = ("diffusion/test_schedule.py", "diffusion/test_continuous.py")
FORWARD = ("diffusion/test_forward.py",)
TIMES = ("objectives/test_times.py",)
WEIGHT = ("objectives/test_weighting.py",)
LOSS = ("objectives/test_denoising.py",)
SAME = ("diffusion/test_samplers.py", "-k", "eta_1_is_the_ddpm_step")
EULER = ("diffusion/test_convergence.py", "-k", "falls_at_the_order and euler")
HEUN = ("diffusion/test_convergence.py", "-k", "falls_at_the_order and heun")
MULTISTEP = ("diffusion/test_convergence.py", "-k", "falls_at_the_order and dpmpp")
UNIPC = ("diffusion/test_convergence.py", "-k", "unipc_is_of_second_order")
CHURN = ("diffusion/test_convergence.py", "-k", "random_samplers and Euler")
SDE = ("diffusion/test_convergence.py", "-k", "random_samplers and DPMpp2MSDE")
GUIDANCE = ("diffusion/test_guidance.py",)
ORACLE = ("diffusion/test_oracle.py",)
LIKELIHOOD = ("diffusion/test_likelihood.py",)

MUTANTS = [
    Mutant("diffusion.target", "(x_t - sigma * out) / alpha, out)", "(x_t + sigma * out) / alpha, out)", TARGET),
    Mutant("diffusion.target", "return alpha * eps - sigma * x0", "return alpha * eps + sigma * x0", TARGET),
    Mutant("diffusion.target", "alpha * x_t - sigma * out, sigma", "alpha * x_t - alpha * out, sigma", TARGET),
    Mutant("diffusion.target", "(x_t + alpha * out) / whole", "(x_t + sigma * out) / whole", TARGET),
    Mutant("diffusion.target", "alpha * s**2 / n.square() * x_t", "alpha * s / n.square() * x_t", TARGET),
    Mutant("diffusion.target", "return (alpha / sigma).square()", "return alpha / sigma", TARGET),
    Mutant("diffusion.target", "eps=(x_t - alpha * x0) / sigma", "eps=self.eps", TARGET),
    Mutant(
        "diffusion.schedule", "torch.cumprod(1 - self.base_betas, 0)", "torch.cumprod(1 + self.base_betas, 0)", SCHEDULE
    ),
    Mutant("diffusion.schedule", "return t * self.steps - 1", "return t * self.steps", SCHEDULE),
    Mutant("diffusion.schedule", "(u * self.steps).floor() + 1)", "(u * self.steps).floor())", SCHEDULE),
    Mutant("diffusion.schedule", "root - root[-1]) * root[0]", "root - root[-1]) * root[1]", SCHEDULE),
    Mutant("diffusion.schedule", "self.shift**2 * (1 - abar)", "self.shift * (1 - abar)", SCHEDULE),
    Mutant("diffusion.spacing", "total - i * total / steps", "total - (i + 1) * total / steps", SCHEDULE),
    Mutant("diffusion.spacing", "high ** (1 / rho) + ramp", "low ** (1 / rho) + ramp", SCHEDULE),
    Mutant("diffusion.continuous", "clamp(min=1e-12)) / 4", "clamp(min=1e-12)) / 2", SCHEDULE),
    Mutant("diffusion.continuous", "(1 - t) / scale, self.shift * t / scale", "(1 - t) / scale, t / scale", SCHEDULE),
    Mutant("diffusion.posterior", "- alpha_ts**2 * sigma_s**2", "- alpha_ts * sigma_s**2", FORWARD),
    Mutant("diffusion.posterior", "alpha_s * beta / sigma_t**2", "alpha_t * beta / sigma_t**2", FORWARD),
    Mutant("diffusion.posterior", "ratio = sigma_s**2 / sigma_t**2", "ratio = sigma_s / sigma_t", FORWARD),
    Mutant("diffusion.denoiser", "return alpha * x0 + sigma * eps", "return alpha * x0 - sigma * eps", FORWARD),
    Mutant("diffusion.denoiser", "x_t * self.target.input_scale", "x_t / self.target.input_scale", LOSS),
    Mutant("objectives.classify", "(each if factor is None else each * factor)", "each", LOSS),
    Mutant("objectives.classify", "self.times if model.training else Uniform()", "self.times", LOSS),
    Mutant("objectives.denoising", "x_t = alpha * x0 + sigma * eps", "x_t = alpha * x0 - sigma * eps", LOSS),
    Mutant("objectives.denoising", "out.target.detach()", "out.target", LOSS),
    Mutant("objectives.denoising", "rng.uniform() < self.label_dropout", "rng.uniform() > self.label_dropout", LOSS),
    Mutant("objectives.weighting", "clamp(max=self.gamma) / gain", "clamp(min=self.gamma) / gain", WEIGHT),
    Mutant("objectives.weighting", "return (alpha / sigma).square()", "return (sigma / alpha).square()", WEIGHT),
    Mutant("objectives.weighting", "ratio / (self.k + ratio)", "1 / (self.k + ratio)", WEIGHT),
    Mutant("objectives.times", "root = self.moment.sqrt()", "root = self.moment", TIMES),
    Mutant("objectives.times", "1 / (p[bin_] * self.bins)", "p[bin_] * self.bins", TIMES),
    Mutant("diffusion.samplers.ddim", "alpha_s * prediction.x0 + rest", "alpha_t * prediction.x0 + rest", SAME),
    Mutant("diffusion.samplers.ddpm", "q.of_x_t * x + q.of_x0 *", "q.of_x0 * x + q.of_x_t *", SAME),
    Mutant("diffusion.samplers.ddpm", "s > 0 or self.noise_at_end", "s > 0", SAMPLERS_END),
    Mutant("diffusion.zero_to_one", "return (x_t + alpha) / 2", "return (x_t + 1) / 2", ZERO_TO_ONE),
    Mutant("diffusion.zero_to_one", "alpha, 2 * sigma", "alpha, 4 * sigma", ZERO_TO_ONE),
    Mutant("diffusion.zero_to_one", "noise / 2)", "noise)", ZERO_TO_ONE),
    Mutant("diffusion.samplers.euler", "+ sigma_s * prediction.eps", "- sigma_s * prediction.eps", EULER),
    Mutant("diffusion.samplers.heun", "(slope + second) / 2", "(slope + slope) / 2", HEUN),
    Mutant("diffusion.samplers.dpmpp_2m", "(x0 - before)", "(before - x0)", MULTISTEP),
    Mutant("diffusion.samplers.dpmpp_2m_sde", "sigma * fresh.sqrt()", "sigma * fresh", SDE),
    Mutant("diffusion.samplers.dpmpp_2m_sde", "fresh = 1 - decay.square()", "fresh = 1 - decay", SDE),
    Mutant("diffusion.samplers.unipc", "sigma_s / sigma_t * x - alpha_s", "sigma_s / sigma_t * x + alpha_s", UNIPC),
    Mutant("diffusion.samplers.unipc", "(x0 - last.x0) / r", "(x0 - last.x0) * r", UNIPC),
    Mutant("diffusion.samplers.churn", "** 2 - level**2)", "** 2 + level**2)", CHURN),
    Mutant("diffusion.guidance", "x0_free + self.scale * (x0 - x0_free)", "x0 + self.scale * (x0 - x0_free)", GUIDANCE),
    Mutant("diffusion.guidance", "- self.scale * sigma * gradient", "+ self.scale * sigma * gradient", GUIDANCE),
    Mutant("diffusion.guidance", "self.scale * sigma.square() * gradient", "self.scale * sigma * gradient", GUIDANCE),
    Mutant("diffusion.oracle", "a.square() * values.clamp(min=0)", "a * values.clamp(min=0)", ORACLE),
    Mutant("diffusion.oracle", "eps = -sigma.reshape(-1, 1)", "eps = sigma.reshape(-1, 1)", ORACLE),
    Mutant("diffusion.likelihood", "torch.exp(-log_p) - 1)", "torch.exp(-log_p))", LIKELIHOOD),
    Mutant("diffusion.likelihood", "HALF_BIN = 1 / 255", "HALF_BIN = 1 / 256", LIKELIHOOD),
    Mutant("diffusion.likelihood", "error = q.of_x0 * (x0", "error = q.of_x_t * (x0", LIKELIHOOD),
    Mutant("objectives.times", "(rng.index() + rng.uniform())", "(rng.index() - rng.uniform())", TIMES),
]


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, source: str):
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Imports the mutant in place of its module."""

    def __init__(self, mutant: Mutant):
        self.name = f"ddpm_cli.{mutant.module}"
        self.path = source_of(mutant)
        self.source = mutated(mutant)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        loader = _Loader(fullname, str(self.path), self.source)
        return importlib.util.spec_from_file_location(fullname, self.path, loader=loader)


def source_of(mutant: Mutant) -> Path:
    return ROOT / "ddpm_cli" / f"{mutant.module.replace('.', '/')}.py"


def mutated(mutant: Mutant) -> str:
    """The mutated source. Raises ValueError unless `old` occurs exactly once: a stale mutant would test nothing."""
    text = source_of(mutant).read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.module}: {mutant.old!r} occurs {text.count(mutant.old)} times")
    return text.replace(mutant.old, mutant.new)


def child(mutant: Mutant | None, tests: Sequence[str]) -> int:
    """Run the tests on the mutant (None = the unchanged program), in the fork. Returns pytest's exit code."""
    import pytest

    if mutant is not None:
        sys.meta_path.insert(0, _Finder(mutant))
    arguments = [str(ROOT / "tests" / t) if t.endswith(".py") else t for t in tests]
    quick = ["-x", "-q", "-n0", "--assert=plain", "-p", "no:cacheprovider"]
    with tempfile.TemporaryDirectory() as folder:
        return int(pytest.main([*quick, f"--basetemp={folder}/t", *arguments]))


def fork(mutant: Mutant | None, tests: Sequence[str]) -> int:
    """Start a silent process that runs the tests. Returns its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        code = child(mutant, tests)
    finally:
        os._exit(code)


def survivors(mutants: Sequence[Mutant], at_once: int = 2) -> list[str]:
    """Mutants whose tests pass, and tests that fail on the unchanged program or do not run."""
    import hydra  # noqa: F401
    import pytest  # noqa: F401
    import torch

    torch.set_num_threads(1)
    jobs: list[tuple[Mutant | None, tuple[str, ...]]] = [(None, t) for t in dict.fromkeys(m.tests for m in mutants)]
    jobs += [(m, m.tests) for m in mutants]
    running: dict[int, tuple[Mutant | None, tuple[str, ...]]] = {}
    problems = []
    while jobs or running:
        while jobs and len(running) < at_once:
            job = jobs.pop(0)
            running[fork(*job)] = job
        pid, status = os.wait()
        mutant, tests = running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        if mutant is None and code != 0:
            problems.append(f"{' '.join(tests)}: fails on the unchanged program (pytest exit code {code})")
        if mutant is not None and code != 1:
            change = f"{mutant.old!r} -> {mutant.new!r}"
            problems.append(f"{mutant.module}: {change} survives {' '.join(tests)} (exit code {code})")
    return problems


if __name__ == "__main__":
    problems = survivors(MUTANTS)
    sys.stdout.write("".join(f"{line}\n" for line in problems) + f"{len(MUTANTS)} mutants, {len(problems)} survive\n")
    sys.exit(bool(problems))
