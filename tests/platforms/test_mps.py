"""The program on a device without float64, which also refuses to compute with tensors that are elsewhere.

docs/platforms.md says what this stand-in for `mps` does not show.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ..conftest import TINY, Cli
from .mps import OnDevice, simulated

ROOT = Path(__file__).parents[2]
SAMPLERS = sorted(p.stem for p in (ROOT / "conf/sampler").glob("*.yaml") if p.stem != "run")
SMALL = ["trainer.steps=2", "sampler.steps=2"]
FEW = ["trainer.steps=2", "trainer.batch_size=4", "trainer.samples=2", "trainer.eval_images=4"]
DIFFUSION = [
    ["objective=epsilon"],
    ["objective=v", "optimizer=muon"],
    ["objective=v_stratified", "weighting=min_snr"],
    ["objective=x0", "schedule=linear", "times=importance"],
    ["objective=flow", "schedule=flow", "times=logit_normal", "sampler=euler"],
    ["objective=edm", "schedule=edm", "sampler=heun"],
    ["objective=epsilon", "objective.learned_variance=true", "sampler=ddpm", "sampler.variance=learned"],
]


@pytest.fixture(autouse=True)
def device() -> Iterator[None]:
    with simulated():
        yield


def done(cli: Cli, *words: str) -> None:
    result = cli(*words)
    assert result.code == 0, result.err


def there() -> torch.Tensor:
    return torch.ones(3, device="mps")


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: there().double(), TypeError, "float64"),
    (lambda: there().to(torch.float64), TypeError, "float64"),
    (lambda: torch.ones(3, dtype=torch.float64).to("mps"), TypeError, "float64"),
    (lambda: torch.ones(3, dtype=torch.float64, device="mps"), TypeError, "float64"),
    (lambda: torch.linspace(0, 1, 3, dtype=torch.float64, device="mps"), TypeError, "float64"),
    (lambda: torch.add(there().sum(), torch.ones((), dtype=torch.float64)), TypeError, "float64"),
    (lambda: there() + torch.ones(3), RuntimeError, "same device"),
    (lambda: torch.cat([there(), torch.ones(3)]), RuntimeError, "same device"),
    (lambda: torch.nn.Linear(3, 3)(there()), RuntimeError, "same device"),
    (lambda: torch.nn.Linear(3, 3).to("mps")(torch.ones(3)), RuntimeError, "same device"),
    (lambda: there() * torch.ones(3)[1], RuntimeError, "first number"),
    (lambda: there().numpy(), TypeError, "cpu()"),
    (lambda: torch.rand(3, device="mps", generator=torch.Generator()), RuntimeError, "generator"),
    (lambda: torch.rand(3, generator=torch.Generator("mps")), RuntimeError, "generator"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_is_refused(number: int) -> None:
    call, error, message = REFUSED[number]
    with pytest.raises(error, match=message):
        call()


def test_what_works() -> None:
    x = there()
    assert x.device.type == "mps" and (x + 1).device.type == "mps" and type(x.cpu()) is torch.Tensor
    assert (x * torch.tensor(2.0, dtype=torch.float64)).tolist() == [2, 2, 2]  # a number, whatever its format
    assert x.cpu().double().numpy().sum() == 3 and float(x.sum()) == 3
    network = torch.nn.Linear(3, 2).to("mps")
    assert isinstance(network.weight, OnDevice) and isinstance(network.weight, torch.nn.Parameter)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    before = network.weight.cpu().clone()
    network(x).square().sum().backward()
    assert network.weight.grad is not None and network.weight.grad.device.type == "mps"
    optimizer.step()
    assert not torch.equal(network.weight.cpu(), before)


@pytest.mark.filterwarnings("ignore:at..frobenius_norm is deprecated")  # torch calls it for classes of tensors
@pytest.mark.parametrize("choice", DIFFUSION, ids=lambda words: words[0])
def test_diffusion_models_train_and_sample(choice: list[str], cli: Cli) -> None:
    done(cli, "train", "run_dir=run", *choice, *SMALL, *TINY)
    done(cli, "sample", "ckpt=run", "n=2", "sampler.steps=2", *(w for w in choice if w.startswith("sampler")))


@pytest.mark.parametrize("model", ["vae_conv", "gmm", "preact_resnet"])
def test_other_models_train(model: str, cli: Cli) -> None:
    small = ["model.channels=8", "model.latent=4", "model.prior_components=2"] if model == "vae_conv" else []
    done(cli, "train", "run_dir=run", f"model={model}", *small, *FEW)
    if model != "preact_resnet":
        done(cli, "sample", "ckpt=run", "n=2")
    done(cli, "eval", "ckpt=run", "n=4", *(["bpd.importance_samples=2"] if model == "vae_conv" else []))


def test_a_run_resumes_and_gives_the_numbers_of_the_cpu(cli: Cli, tmp_path: Path) -> None:
    log = ["trainer.log_every=1", "trainer.sample_every=0", *TINY]
    done(cli, "train", "run_dir=a", "trainer.steps=2", *log)
    done(cli, "train", "run_dir=a", "trainer.steps=4", *log)
    done(cli, "train", "run_dir=b", "trainer.steps=4", "trainer.device=cpu", *log)
    losses = []
    for run in "ab":
        lines = (tmp_path / run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append([row["loss"] for row in map(json.loads, lines) if "loss" in row])
    assert len(losses[0]) == 4 and losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_every_sampler_animations_and_edits(cli: Cli) -> None:
    done(cli, "train", "run_dir=run", *SMALL, *TINY)
    for sampler in SAMPLERS:
        done(cli, "sample", "ckpt=run", f"sampler={sampler}", "sampler.steps=4", "n=2", f"out={sampler}")
    stochastic = (["sampler=ddim", "sampler.eta=1"], ["sampler=heun", "sampler.s_churn=3"])
    for words in (*stochastic, ["sampler.threshold=0.9"], ["sampler=unipc", "sampler.order=3"]):
        done(cli, "sample", "ckpt=run", *words, "sampler.steps=5", "n=2", "out=more")
    picture = "init=ddim/images/000000.png"
    for words in ([picture, "strength=0.5"], [picture, "mask=ddim/images/000001.png"], ["between=[0,1]", "label=3"]):
        done(cli, "sample", "ckpt=run", *words, "sampler.steps=4", "n=3", "out=edited")
    done(cli, "sample", "ckpt=run", "guidance=cfg", "guidance.scale=2", "label=3", "sampler.steps=2", "n=2", "out=cfg")
    done(cli, "gif", "ckpt=run", "n=2", "frames=3", "sampler.steps=3", "out=a.gif")


def test_likelihood_and_evaluation(cli: Cli) -> None:
    done(cli, "train", "run_dir=run", *SMALL, *TINY)
    done(cli, "train", "run_dir=classifier", "model=resnet", "model.channels=8", *FEW)
    for probes in (0, 1):
        bits = ["metrics=[bpd]", "bpd.ode_steps=2", "bpd.terms=4", f"bpd.probes={probes}"]
        done(cli, "eval", "ckpt=run", *bits, "n=4", f"out=bits{probes}")
    done(cli, "eval", "ckpt=run", "features=classifier", "n=8", "out=samples")
    done(cli, "eval", "ckpt=run", "features=classifier", "metrics=[cas]", "cas.steps=2", "n=8", "out=cas")
    guided = ["guidance=classifier", "guidance.classifier=classifier", "label=1"]
    done(cli, "sample", "ckpt=run", *guided, "sampler.steps=2", "n=2", "out=guided")
