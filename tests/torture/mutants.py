"""The test of the tests: deliberate faults in what keeps runs safe, and the tests that must fail then.

`python -m tests.torture.mutants` prints a table. Each fault is made in a temporary copy of the tree, in which only the
named tests run, in a fork of a process that has already imported torch. Formulas have a list of their own:
`tests.diffusion.mutants`.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PARTS = ("ddpm_cli", "conf", "tests", "pyproject.toml")
"""What a copy of the tree has."""


class Fault(NamedTuple):
    """`old` occurs once in `file` and is replaced by `new`; `tests` are pytest's arguments, below tests/."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


CHECKPOINT, DIRECTORY, LOOP = "runs/checkpoint.py", "runs/directory.py", "training/loop.py"
STATE, MANIFEST, RETENTION = "training/state.py", "runs/manifest.py", "runs/retention.py"
SAVED = ("runs/test_checkpoint.py::test_a_save_syncs_and_renames_in_order",)
KILLED = ("runs/test_checkpoint.py::test_a_save_that_is_killed_at_any_call_leaves_a_valid_state",)
SYNCED = ("test_files.py::test_a_file_is_synced_then_renamed_then_its_folder_is_synced",)
FLIPS = ("runs/test_checkpoint.py::test_every_flip_of_a_manifest_is_found",)
NEWEST = ("runs/test_checkpoint.py::test_a_damaged_newest_falls_back_to_the_one_before",)
LEFTOVERS = ("runs/test_checkpoint.py::test_only_leftovers_of_a_killed_save_are_removed",)
RESTORED = ("training/test_state.py::test_all_that_changes_is_saved_and_restored",)
RESUMED = ("commands/test_train.py::test_four_steps_equal_two_steps_and_two_resumed_steps",)
RANDOM = ("training/test_plan.py::test_step_random_is_a_function_of_seed_and_step",)
ORDER = ("data/test_images.py::test_starting_at_k_equals_skipping_k_batches",)
CODE = ("test_build.py::test_a_checkpoint_cannot_name_other_code",)
FOREIGN = ("test_ours.py::test_no_command_touches_the_files_of_others",)
FIXED = ("commands/test_train.py::test_settings_that_cannot_change_on_resume",)
BEST = ("commands/test_train.py::test_best_by_keeps_the_best",)

FAULTS = [
    # how files are written
    Fault("skip the sync of a file", "files.py", "os.fsync(file.fileno())", "file.fileno()", SYNCED),
    Fault("skip the sync of a folder", "files.py", "        raise\n    sync_folder(path.parent)", "        raise", SYNCED),
    Fault(
        "rename before the sync", "files.py",
        '        with temporary.open("rb+") as file:\n            os.fsync(file.fileno())\n        replace(temporary, path)',
        '        replace(temporary, path)\n        with path.open("rb+") as file:\n            os.fsync(file.fileno())', SYNCED,
    ),
    Fault(
        "a failed write leaves its temporary file", "files.py", "        temporary.unlink(missing_ok=True)\n        raise",
        "        raise", ("test_files.py::test_a_failed_write_leaves_the_old_file_and_nothing_else",),
    ),
    Fault(
        "JSON in place", "files.py", 'write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=2) + "\\n", '
        'encoding="utf-8"))', 'path.write_text(json.dumps(value, indent=2) + "\\n", encoding="utf-8")',
        ("test_files.py::test_a_failed_write_leaves_the_old_file_and_nothing_else",),
    ),
    # how a checkpoint is written
    Fault(
        "manifest before tensors", CHECKPOINT,
        "        write_atomically(first, write)\n        sealed = manifests.write(manifest_path, content)",
        "        write(ahead := first.with_suffix('.ahead'))\n        sealed = manifests.write(manifest_path, content)\n"
        "        ahead.replace(first)", KILLED,
    ),
    Fault(
        "tensors take their name before the manifest", CHECKPOINT,
        "        write_atomically(first, write)\n        sealed = manifests.write(manifest_path, content)",
        "        write_atomically(first, write)\n        give_name(first, path)\n"
        "        sealed = manifests.write(manifest_path, content)\n        write_atomically(first, write)", KILLED,
    ),
    Fault(
        "swap two renames", CHECKPOINT,
        "        write_atomically(first, write)\n        sealed = manifests.write(manifest_path, content)",
        "        path.with_suffix('.json').unlink(missing_ok=True)\n        write_atomically(first, write)\n"
        "        sealed = manifests.write(manifest_path, content)", KILLED,
    ),
    Fault("no sync after the last rename", CHECKPOINT, "        sync_folder(path.parent)\n", "", SAVED),
    Fault(
        "tensors are not synced", CHECKPOINT, "        write_atomically(first, write)\n", "        write(first)\n", SAVED,
    ),
    Fault(
        "prune before the manifest", DIRECTORY,
        "        saved = checkpoint.save(self.checkpoints, state.step, state.tensors(), manifest)\n        retention.prune(",
        "        retention.prune(self.checkpoints, state.step, keep_last)\n"
        "        saved = checkpoint.save(self.checkpoints, state.step, state.tensors(), manifest)\n        retention.prune(",
        ("runs/test_directory.py::test_older_checkpoints_are_removed_after_the_new_one_is_valid",),
    ),
    Fault("the best one is pruned", RETENTION, "if step != keep:", "if step != -1:", BEST),
    Fault(
        "pruning counts damaged ones", RETENTION, "if step <= newest)", "if step >= 0)",
        ("runs/test_checkpoint.py::test_prune_does_not_count_later_steps",),
    ),
    Fault("half a checkpoint stays", RETENTION, "            first.unlink()", "            pass", LEFTOVERS),
    Fault(
        "the .part files of others are removed", "files.py", 'r"\\..+\\.\\d+\\.part", leftover.name) and leftover.is_file()',
        'r".*", leftover.name)', LEFTOVERS,
    ),
    # what a checkpoint is worth
    Fault("the manifest's digest is not checked", MANIFEST, "if kind > 1 and _digest(", "if kind > 9 and _digest(", FLIPS),
    Fault(
        "the tensors' digest is not checked", CHECKPOINT, ' and digest(path) == content.get("sha256")', "", NEWEST,
    ),
    Fault(
        "a digest is optional", MANIFEST, ' or ("digest" in content) != (kind > 1)', "",
        ("runs/test_checkpoint.py::test_a_manifest_cannot_say_that_it_has_no_digest",),
    ),
    Fault(
        "a checkpoint under another step's name", CHECKPOINT, 'name_of(manifest["step"]) != manifest_path.stem', "False",
        ("runs/test_checkpoint.py::test_a_checkpoint_under_the_name_of_another_step_is_damaged",),
    ),
    Fault(
        "a newer format is read", CHECKPOINT, 'if manifest["format"] > FORMAT:', "if False:",
        ("runs/test_checkpoint.py::test_a_newer_format_is_refused",),
    ),
    Fault(
        "damaged checkpoints: from scratch in silence", CHECKPOINT, "    if problems:\n        raise", "    if False:\n        raise",
        ("runs/test_checkpoint.py::test_no_valid_checkpoint_is_an_error",),
    ),
    Fault(
        "lost manifests: from scratch in silence", CHECKPOINT, 'any(folder.glob("step_*.safetensors"))', "False",
        ("runs/test_checkpoint.py::test_tensors_that_lost_their_manifest_never_train_from_scratch",),
    ),
    # what is saved and restored
    Fault("a moment of the optimizer is dropped", STATE, "in memory.items():\n                tensor", "in list(memory.items())[:-1]:\n                tensor", RESTORED),
    Fault("the average is dropped", STATE, "        if self.ema:\n            out |=", "        if False:\n            out |=", RESTORED),
    Fault("the average is not restored", STATE, 'with_prefix(tensors, "ema.") or with_prefix', "with_prefix", RESTORED),
    Fault("statistics of t are dropped", STATE, "        if self.times:\n            out |=", "        if False:\n            out |=", RESTORED),
    Fault("the best value is dropped", STATE, '{"best": self.best,', '{"best": {},', RESTORED),
    Fault("the sum of losses is dropped", STATE, '"period": self.period.saved(),', '"period": Period().saved(),', RESTORED),
    Fault("what auto chose is dropped", STATE, '"chosen": self.chosen}', '"chosen": {}}', RESTORED),
    Fault(
        "the time is dropped", DIRECTORY, '"seconds": state.seconds,', '"seconds": 0.0,',
        ("commands/test_train.py::test_max_seconds_counts_all_sessions",),
    ),
    Fault("the step is dropped", STATE, "self.step, self.seconds = checkpoint.step,", "self.step, self.seconds = 0,", RESTORED),
    Fault("the average forgets its count", "training/ema.py", "self.decay.at(n))", "self.decay.at(self.__dict__.setdefault('past', __import__('itertools').count()).__next__()))", RESUMED),
    Fault(
        "the average forgets counts of batches", "training/ema.py", "average.copy_(count)", "pass",
        ("training/test_plan.py::test_the_average_includes_batch_norm_statistics",),
    ),
    # randomness
    Fault(
        "t from history", "training/randomness.py",
        "def _generator(self) -> torch.Generator:\n        self.calls += 1\n        return torch.Generator(self.device).manual_seed(seed_of(*self.key, self.calls))",
        "def _generator(self, past: list[int] = [0]) -> torch.Generator:\n        past[0] += 1\n        return torch.Generator(self.device).manual_seed(past[0])",
        RANDOM,
    ),
    Fault("t without the step", "training/randomness.py", "self.key = (seed, step)", "self.key = (seed, 0)", RANDOM),
    Fault("dropout from history", LOOP, "    seed_step(seed, state.step, batch.x.device)\n", "", RESUMED),
    Fault("the order from history", "data/order.py", "for k in count(start):", "for k in count(0):", ORDER),
    Fault("flips from history", "data/order.py", "_generator(seed, k, _FLIP)", "_generator(seed, k - start, _FLIP)", ORDER),
    Fault(
        "noise by the part of a batch", "training/randomness.py",
        "torch.randn(self.total, *shape, generator=self._generator(), device=self.device)[self.rows]",
        "torch.randn(self.rows.stop - self.rows.start, *shape, generator=self._generator(), device=self.device)",
        ("training/test_plan.py::test_parts_of_a_batch_get_the_noise_of_the_whole",),
    ),
    Fault(
        "samples by the batch", "diffusion/noise.py", "manual_seed(seed % 2**63) for seed in seeds]", "manual_seed(i) for i, _ in enumerate(seeds)]",
        ("sampling/test_batching.py", "commands/test_sample.py", "-k", "batch"),
    ),
    # one folder, one run; whose files
    Fault(
        "the lock is ignored", DIRECTORY, "            self._lock.acquire()\n", "            pass\n",
        ("runs/test_directory.py::test_a_folder_is_used_by_one_run",),
    ),
    Fault(
        "SIGTERM ends without a save", LOOP, "    save = any(status) or due", "    save = status.done or due",
        ("training/test_loop.py::test_a_signal_always_leads_to_a_save",),
    ),
    Fault("SIGHUP is not handled", "signals.py", '"SIGTERM", "SIGHUP", ', '"SIGTERM", ', ("commands/test_interruptions.py::test_a_signal_saves_and_stops",)),
    Fault("a foreign file is overwritten", "ours.py", "if name not in known and (", "if False and (", FOREIGN),
    Fault("a foreign GIF is overwritten", "ours.py", "(path.is_file() and not is_signed(path))", "False", ("test_ours.py::test_single_files_of_others",)),
    Fault("rows beyond the checkpoint stay", DIRECTORY, 'and row["step"] <= step:', "and True:", ("commands/test_train.py::test_metrics_beyond_the_checkpoint_are_dropped",)),
    Fault("resume=false adds to a run", "runs/resume.py", 'any(folder.glob("step_*"))', "False", FIXED),
    Fault("another schedule resumes", "runs/resume.py", 'FIXED = ("model", "schedule", "objective",', 'FIXED = ("model", "objective",', FIXED),
    # data
    Fault("a cache whatever the sizes", "data/cache_key.py", '"/".join(file.parts[depth:])), size, time)', '"/".join(file.parts[depth:])), 0, time)', ("data/test_cache.py::test_changed_pictures_are_decoded_again_and_replace_the_old_cache",)),
    Fault("held-out pictures by number", "data/facts.py", "hashes = [_fraction(name) for name in names]", "hashes = [_fraction(str(i)) for i, _ in enumerate(names)]", ("runs/test_identity.py::test_an_added_picture_moves_no_other",)),
    Fault("the order of classes is not compared", "runs/identity.py", "not isinstance(old, list) or old == new or", "not isinstance(old, list) or len(old) == len(new) or", ("runs/test_identity.py::test_classes_that_changed_are_refused_with_both_lists",)),
    # a stranger's file
    Fault("trust one more module", "build.py", "trust is None or path in shipped_targets(key)", "trust is None or package == 'torch' or path in shipped_targets(key)", CODE),
    Fault("trust what conf/ names elsewhere", "build.py", "path in shipped_targets(key)\n", "path.startswith('ddpm_cli.')\n", CODE),
    Fault("another package by a trusted path", "build.py", "(defined_in not in (trust or ()) or not isinstance(target, type))", "False", ("test_build.py",)),
    # numbers
    Fault("NaN goes on", "training/meter.py", "if not math.isfinite(value):", "if False:", ("commands/test_errors.py::test_a_diverging_run_is_an_error",)),
    Fault("guidance away from the class", "diffusion/guidance.py", "x0_free + self.scale * (x0 - x0_free)", "x0_free - self.scale * (x0 - x0_free)", ("diffusion/test_guidance.py",)),
    Fault("alpha of another step", "diffusion/samplers/ddim.py", "x = alpha_s * prediction.x0", "x = alpha_t * prediction.x0", ("diffusion/test_samplers.py",)),
    Fault("parts of a batch are not weighed", LOOP, "weight = (rows.stop - rows.start) / size", "weight = 1.0", ("training/test_fast_path.py::test_micro_batches_add_up_to_the_batch",)),
    Fault("validation turns dropout off", LOOP, "                self.model.train()\n\n    def decide", "\n    def decide", ("commands/test_train.py::test_validation_and_samples_do_not_change_training",)),
    Fault("a damaged file has another exit code", "errors.py", "    code = 4\n", "    code = 1\n", ("commands/test_errors.py::test_missing_checkpoints",)),
]  # fmt: skip


def mutated(fault: Fault) -> str:
    """The file with the fault. Raises ValueError unless `old` occurs exactly once: a stale one would test nothing."""
    text = (ROOT / "ddpm_cli" / fault.file).read_text(encoding="utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.name}: the text occurs {text.count(fault.old)} times in {fault.file}")
    return text.replace(fault.old, fault.new)


class Row(NamedTuple):
    """code: pytest's exit code. 0 = the tests passed, 1 = one failed; others: they did not run."""

    fault: Fault | None
    tests: tuple[str, ...]
    code: int
    seconds: float

    @property
    def right(self) -> bool:
        return self.code == (1 if self.fault else 0)

    def __str__(self) -> str:
        failed = {0: "no", 1: "yes"}.get(self.code, f"did not run ({self.code})")
        name = self.fault.name if self.fault else "(unchanged)"
        return f"| {name} | {' '.join(self.tests)} | {failed} | {self.seconds:.1f} |"


def rows(faults: Sequence[Fault], at_once: int = 2) -> list[Row]:
    """Run the tests of each fault, and once those of all without a fault."""
    _import_slow()
    jobs: list[tuple[Fault | None, tuple[str, ...]]] = [(None, t) for t in dict.fromkeys(f.tests for f in faults)]
    jobs += [(fault, fault.tests) for fault in faults]
    running: dict[int, tuple[Fault | None, tuple[str, ...], float, Path]] = {}
    found: list[Row] = []
    while jobs or running:
        while jobs and len(running) < at_once:
            fault, tests = jobs.pop(0)
            folder = Path(tempfile.mkdtemp(prefix="ddpm-fault-"))
            running[_fork(fault, tests, folder)] = (fault, tests, time.monotonic(), folder)
        pid, status = os.wait()
        fault, tests, began, folder = running.pop(pid)
        found.append(Row(fault, tests, os.waitstatus_to_exitcode(status), time.monotonic() - began))
        shutil.rmtree(folder, ignore_errors=True)
        if fault is not None or not found[-1].right:
            say(str(found[-1]))
    return found


def _import_slow() -> None:
    import hydra  # noqa: F401
    import pytest  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch
    import torchvision  # noqa: F401

    torch.set_num_threads(1)


def _fork(fault: Fault | None, tests: Sequence[str], folder: Path) -> int:
    """Start a silent process that runs the tests in a copy of the tree. Returns its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        for number in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        code = _child(fault, tests, folder / "tree", folder / "t")
    finally:
        os._exit(code)


def _child(fault: Fault | None, tests: Sequence[str], tree: Path, scratch: Path) -> int:
    import pytest

    for part in PARTS:
        source = ROOT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (tree / part).parent.mkdir(parents=True, exist_ok=True)
        copy(source, tree / part)
    if fault is not None:
        (tree / "ddpm_cli" / fault.file).write_text(mutated(fault), encoding="utf-8")
    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    for name in [n for n in sys.modules if n.partition(".")[0] in ("ddpm_cli", "tests")]:
        del sys.modules[name]
    sys.path[:] = [str(tree), *(p for p in sys.path if p not in ("", str(ROOT)))]
    arguments = [str(tree / "tests" / t) if ".py" in t else t for t in tests]
    quick = ["-x", "-q", "-n0", "--assert=plain", "-p", "no:cacheprovider", f"--rootdir={tree}"]
    return int(pytest.main([*quick, f"--basetemp={scratch}", *arguments]))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(names: Sequence[str]) -> int:
    say("| fault | test | fails | seconds |\n| --- | --- | --- | --- |")
    table = rows([f for f in FAULTS if not names or any(n in f.name for n in names)])
    wrong = [row for row in table if not row.right]
    faults = sum(row.fault is not None for row in table)
    say(f"\n{faults} faults, {sum(row.fault is not None for row in wrong)} not caught, {len(wrong)} rows are wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
