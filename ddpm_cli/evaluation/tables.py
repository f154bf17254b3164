"""Tables of finished evaluations and runs, which must have been measured in the same way."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import ConfigError
from ..text import printable
from .entries import Evaluated, Trained
from .protocol import COMPARED_ANYWAY, MEASURED_BY, UNKNOWN, comparable
from .settings import differing

BITS_BY = ("dataset", "split", "n", "seed", "images_sha256")
"""Must be equal for bits per dimension to be compared: the images, and the seed of the noise."""
KINDS: dict[str, tuple[str, ...]] = {
    "exact": (),
    "elbo": (),
    "iw_bound": ("importance_samples",),
    "elbo_gmm": (),
    "iw_bound_gmm": ("importance_samples",),
    "bound": ("steps", "terms", "clip"),
    "ode": ("ode_steps", "probes"),
}
"""The kinds of bits per dimension, each with the settings that must also be equal. Bounds are above the true value
(`_gmm`: with the mixture prior); the ODE's value is the likelihood of a different density."""
SAMPLES_BY = ("data", "split", "n", "n_real", "real_sha256")
"""Must be equal for evaluations of samples to share a table, whatever their metrics."""
FORMS = {"fd": "{:.3f}", "kd": "{:.4f}", "accuracy": "{:.2%}", "cross-entropy": "{:.4f}"}
PERCENTAGES = ("precision", "recall", "confidence", "seen as asked", "closer than", "classification accuracy")


class Table(NamedTuple):
    title: str
    columns: list[str]
    rows: list[list[str]]


def tables(entries: Sequence[Evaluated | Trained]) -> list[Table]:
    """Tables of bits per dimension, metrics of samples, accuracies and classifiers; empty ones are left out.

    Raises:
        ConfigError: values that were not measured in the same way.
    """
    evaluations = [e for e in entries if isinstance(e, Evaluated)]
    of_classifiers = [e for e in evaluations if "accuracy" in e.content]
    of_samples = [e for e in evaluations if e.figures and "accuracy" not in e.content]
    candidates = [
        _bits([e for e in evaluations if "bits_per_dim" in e.content]),
        _metrics(of_samples, "samples"),
        _metrics(of_classifiers, "accuracy"),
        _classifiers([e for e in entries if isinstance(e, Trained)]),
    ]
    return [table for table in candidates if table is not None]


def grouped(entries: Sequence[Evaluated | Trained]) -> tuple[list[list[Evaluated | Trained]], str]:
    """Groups of entries that can be compared, in the given order, and why the first two groups cannot be."""
    groups: list[list[Evaluated | Trained]] = []
    reason = ""
    for entry in entries:
        for group in groups:
            try:
                tables([*group, entry])
            except ConfigError as error:
                reason = reason or str(error)
            else:
                group.append(entry)
                break
        else:
            groups.append([entry])
    return groups, reason


def _same(one: Mapping[str, Any], other: Mapping[str, Any], names: tuple[str, str], fields: Sequence[str]) -> None:
    try:
        comparable(one, other, names, fields)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _bits(evaluations: Sequence[Evaluated]) -> Table | None:
    if not evaluations:
        return None
    first, rows, keys = evaluations[0], [], _settings(evaluations)
    for kind, settings in KINDS.items():
        with_kind = [e for e in evaluations if kind in e.content["bits_per_dim"]]
        for each in with_kind[1:]:
            one, other = (e.protocol.get("bpd", {}) for e in (with_kind[0], each))
            _same(one, other, (f"{kind} of {with_kind[0].name}", f"{kind} of {each.name}"), settings)
    for each in evaluations:
        _same(first.protocol, each.protocol, (first.name, each.name), BITS_BY)
        for kind in KINDS:
            if figure := each.content["bits_per_dim"].get(kind):
                error = "" if figure["error"] is None else f"{figure['error']:.4f}"
                model = str(each.protocol.get("model") or "")
                about = [each.name, model, *(each.settings.get(key, "") for key in keys), _step(each)]
                rows.append([*about, kind, f"{figure['mean']:.4f}", error, str(each.protocol["n"])])
    about_first = first.protocol
    title = f"bits/dim of {about_first['n']} {about_first['split']} images of {about_first['dataset']}"
    return Table(title, ["", "model", *keys, "step", "kind", "bits/dim", "standard error", "n"], rows)


def _step(evaluation: Evaluated) -> str:
    return str(evaluation.protocol.get("checkpoint_step", ""))


def _settings(entries: Sequence[Evaluated | Trained]) -> list[str]:
    """The keys in which the runs differ, besides the class of the model, which has a place of its own."""
    keys = differing([entry.settings for entry in entries]) if len(entries) > 1 else []
    return [key for key in keys if key != "model"]


def _metrics(evaluations: Sequence[Evaluated], what: str) -> Table | None:
    """A table with a row per metric and a column per evaluation."""
    if not evaluations:
        return None
    names = list(dict.fromkeys(name for e in evaluations for name in e.figures))
    for name in names:
        measured = [e for e in evaluations if name in e.figures]
        for other in measured[1:]:
            one = measured[0]
            protocols = one.figures[name]["protocol"], other.figures[name]["protocol"]
            _same(*protocols, (f"{name} of {one.name}", f"{name} of {other.name}"), MEASURED_BY)
    firsts = [next(iter(e.figures.values()))["protocol"] for e in evaluations]
    for each, protocol in zip(evaluations[1:], firsts[1:], strict=True):
        _same(firsts[0], protocol, (evaluations[0].name, each.name), SAMPLES_BY)
    about = firsts[0]
    counts = f"{about['n']} samples, {about['n_real']} " if what == "samples" else f"{about['n_real']} "
    title = f"{what}: {counts}{about['split']} images of {about['data']}"
    rows = [[name, *(_cell(name, e.figures.get(name)) for e in evaluations)] for name in names]
    return Table(title, ["", *(e.name for e in evaluations)], [*_differences(evaluations), *rows])


def _differences(evaluations: Sequence[Evaluated]) -> list[list[str]]:
    """Rows for the model and for the settings in which the evaluations differ."""
    firsts = [next(iter(e.figures.values()))["protocol"] for e in evaluations]
    rows = [["model", *(str(e.protocol.get("model") or UNKNOWN) for e in evaluations)]]
    rows += [[key, *(e.settings.get(key, "") for e in evaluations)] for key in _settings(evaluations)]
    for field in COMPARED_ANYWAY:
        rows.append([field.replace("_", " "), *(_named(field, p.get(field)) for p in firsts)])
    return [row for row in rows if len(set(row[1:])) > 1 or (row[0] == "model" and row[1] != UNKNOWN)]


def _named(field: str, value: Any) -> str:
    """A short text: a task, sampler or guidance by its name and main settings, a digest by its first digits."""
    if isinstance(value, Mapping):
        numbers = ("eta", "scale", "s_churn", "strength")
        extra = [f"{k}={value[k]:g}" for k in numbers if isinstance(value.get(k), int | float)]
        extra += [f"prior={value['prior']}"] if value.get("prior") else []
        extra += ["pixel_noise"] if value.get("pixel_noise") else []
        return " ".join([str(value.get("name", UNKNOWN)), *extra])
    if value is None:  # an autoencoder has no sampler
        return ""
    return str(value)[:8] if field == "checkpoint" else str(value)


def _cell(name: str, figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return ""
    form = FORMS.get(name, "{:.1%}" if name.startswith(PERCENTAGES) else "{:.3f}")
    spread = figure.get("spread")
    return form.format(figure["value"]) + ("" if spread is None else f" ± {form.format(spread)}")


def _classifiers(runs: Sequence[Trained]) -> Table | None:
    if not runs:
        return None
    first = runs[0]
    for each in runs[1:]:
        fields = sorted({*first.dataset, *each.dataset})
        _same(
            {f"dataset.{k}": v for k, v in first.dataset.items()} | {"objective.noisy": first.noisy},
            {f"dataset.{k}": v for k, v in each.dataset.items()} | {"objective.noisy": each.noisy},
            (first.name, each.name),
            [*(f"dataset.{k}" for k in fields), "objective.noisy"],
        )
    keys, rows = _settings(runs), []
    for r in runs:
        figures = [_percent(r.validation), _percent(r.test), f"{r.parameters:,}"]
        rows.append([r.name, r.model, *(r.settings.get(key, "") for key in keys), *figures])
    columns = ["", "model", *keys, "validation", "test", "parameters"]
    return Table(f"classifiers of {first.dataset.get('name')}", columns, rows)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def markdown(table: Table) -> str:
    """A heading and a Markdown table, with numbers aligned to the right."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(printable(c).replace("|", "\\|") for c in cells) + " |"

    rule = "|---|" + "---:|" * (len(table.columns) - 1)
    return "\n".join([f"## {printable(table.title)}", "", line(table.columns), rule, *map(line, table.rows), ""])
