"""Deliberate faults in what keeps runs safe, and the tests that must fail then. See `mutants`."""

from typing import NamedTuple


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
TENSORS = "        write_atomically(first, write, path)\n"
SEALED = "        sealed = manifests.write(manifest_path, content)\n"
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
PLACE = ("test_build.py::test_a_checkpoint_names_only_what_conf_names_in_the_same_place",)
FOREIGN = ("test_ours.py::test_no_command_touches_the_files_of_others",)
FIXED = ("commands/test_train.py::test_settings_that_cannot_change_on_resume",)
LOST = ("runs/test_lost.py",)
BEST = ("runs/test_directory.py::test_the_best_checkpoint_stays",)

FAULTS = [
    # how files are written
    Fault("skip the sync of a file", "files.py", "os.fsync(file.fileno())", "file.fileno()", SYNCED),
    Fault(
        "skip the sync of a folder", "files.py", "        raise\n    sync_folder(path.parent)", "        raise", SYNCED
    ),
    Fault(
        "rename before the sync",
        "files.py",
        '            with temporary.open("rb+") as file:',
        '            temporary = temporary.replace(path)\n            with temporary.open("rb+") as file:',
        SYNCED,
    ),
    Fault(
        "a failed write leaves its temporary file",
        "files.py",
        "        temporary.unlink(missing_ok=True)\n        raise",
        "        raise",
        ("test_files.py::test_a_failed_write_leaves_the_old_file_and_nothing_else",),
    ),
    Fault(
        "JSON in place",
        "files.py",
        'write_atomically(path, lambda p: p.write_text(json.dumps(value, indent=2) + "\\n", encoding="utf-8"))',
        'path.write_text(json.dumps(value, indent=2) + "\\n", encoding="utf-8")',
        ("test_files.py::test_a_failed_write_leaves_the_old_file_and_nothing_else",),
    ),
    # how a checkpoint is written
    Fault(
        "manifest before tensors",
        CHECKPOINT,
        TENSORS + SEALED,
        f"        write(ahead := first.with_suffix('.x'))\n{SEALED}        ahead.replace(first)\n",
        KILLED,
    ),
    Fault(
        "tensors take their name before the manifest",
        CHECKPOINT,
        TENSORS + SEALED,
        f"{TENSORS}        give_name(first, path)\n{SEALED}{TENSORS}",
        KILLED,
    ),
    Fault(
        "the old manifest goes first",
        CHECKPOINT,
        TENSORS + SEALED,
        f"        path.with_suffix('.json').unlink(missing_ok=True)\n{TENSORS}{SEALED}",
        KILLED,
    ),
    Fault(
        "swap two renames",
        CHECKPOINT,
        "    give_name(first, path)\n    return",
        "    first.replace(path)\n    manifest_path.replace(manifest_path)\n    return",
        SAVED,
    ),
    Fault(
        "no sync after the last rename",
        CHECKPOINT,
        "        sync_folder(path.parent)\n    except",
        "    except",
        SAVED,
    ),
    Fault(
        "tensors are not synced",
        CHECKPOINT,
        "        write_atomically(first, write, path)\n",
        "        write(first)\n",
        SAVED,
    ),
    Fault(
        "prune before the manifest",
        DIRECTORY,
        "        saved = checkpoint.save(",
        "        retention.prune(self.checkpoints, state.step, keep_last - 1)\n        saved = checkpoint.save(",
        ("runs/test_directory.py::test_older_checkpoints_are_removed_after_the_new_one_is_valid",),
    ),
    Fault("the best one is pruned", RETENTION, "step != keep and", "step != -1 and", BEST),
    Fault("damaged ones are counted", DIRECTORY, "keep_last, best, self._skipped)", "keep_last, best)", LOST),
    Fault(
        "a run without checkpoints starts afresh", "runs/resume.py", "    elif was_saved(run_dir):", "    elif 0:", LOST
    ),
    Fault("no mark that a run has saved", DIRECTORY, "        mark_saved(self.folder)\n", "", LOST),
    Fault(
        "written through links",
        DIRECTORY,
        "        check_plain(self.folder,",
        "        print(self.folder,",
        ("hostile/test_links.py",),
    ),
    Fault("an older version undoes a newer one", CHECKPOINT, "if isinstance(error, NewerFormatError):", "if 0:", LOST),
    Fault(
        "a damaged list of files is believed",
        "ours.py",
        "content = read_sealed(path)",
        "import json; content = json.loads(path.read_text())",
        ("hostile/test_links.py",),
    ),
    Fault("the best step is not told", DIRECTORY, 'state.best.get("step") if best_by else None', "None", BEST),
    Fault(
        "pruning counts damaged ones",
        RETENTION,
        "if step <= newest)",
        "if step >= 0)",
        ("runs/test_checkpoint.py::test_prune_does_not_count_later_steps",),
    ),
    Fault(
        "half a checkpoint stays",
        CHECKPOINT,
        "        sync_folder(path.parent)\n    first.unlink(missing_ok=True)\n",
        "        sync_folder(path.parent)\n",
        LEFTOVERS,
    ),
    Fault(
        "tensors without their name are lost when their step is saved again",
        CHECKPOINT,
        "    if first.exists():\n        settle(first, path)\n",
        "",
        ("runs/test_storage.py::test_tensors_without_their_name_are_not_lost_when_the_step_is_saved_again",),
    ),
    Fault(
        "the .part files of others are removed",
        "files.py",
        'r"\\.(.+)\\.\\d+\\.part", leftover.name)',
        'r".(.*)", leftover.name)',
        LEFTOVERS,
    ),
    # what a checkpoint is worth
    Fault(
        "the manifest's digest is not checked", MANIFEST, "if kind > 1 and _digest(", "if kind > 9 and _digest(", FLIPS
    ),
    Fault(
        "the tensors' digest is not checked",
        CHECKPOINT,
        ' and digest(path) == content.get("sha256")',
        "",
        NEWEST,
    ),
    Fault(
        "a digest is optional",
        MANIFEST,
        ' or ("digest" in content) != (kind > 1)',
        "",
        ("runs/test_checkpoint.py::test_a_manifest_cannot_say_that_it_has_no_digest",),
    ),
    Fault(
        "a checkpoint under another step's name",
        CHECKPOINT,
        'name_of(manifest["step"]) != manifest_path.stem',
        "False",
        ("runs/test_checkpoint.py::test_a_checkpoint_under_the_name_of_another_step_is_damaged",),
    ),
    Fault(
        "a newer format is read",
        CHECKPOINT,
        'if manifest["format"] > FORMAT:',
        "if False:",
        ("runs/test_checkpoint.py::test_a_newer_format_is_refused",),
    ),
    Fault(
        "damaged checkpoints: from scratch in silence",
        CHECKPOINT,
        "    if problems:\n        raise",
        "    if False:\n        raise",
        ("runs/test_checkpoint.py::test_no_valid_checkpoint_is_an_error",),
    ),
    Fault(
        "lost manifests: from scratch in silence",
        CHECKPOINT,
        "if without_manifest(folder):",
        "if False:",
        ("runs/test_checkpoint.py::test_tensors_that_lost_their_manifest_never_train_from_scratch",),
    ),
    # what is saved and restored
    Fault(
        "a moment of the optimizer is dropped",
        STATE,
        "in memory.items():\n                tensor",
        "in list(memory.items())[:-1]:\n                tensor",
        RESTORED,
    ),
    Fault(
        "the average is dropped",
        STATE,
        "        if self.ema:\n            out |=",
        "        if False:\n            out |=",
        RESTORED,
    ),
    Fault("the average is not restored", STATE, 'with_prefix(tensors, "ema.") or with_prefix', "with_prefix", RESTORED),
    Fault(
        "statistics of t are dropped",
        STATE,
        "        if self.times:\n            out |=",
        "        if False:\n            out |=",
        RESTORED,
    ),
    Fault("the best value is dropped", STATE, '{"best": self.best,', '{"best": {},', RESTORED),
    Fault(
        "the sum of losses is dropped", STATE, '"period": self.period.saved(),', '"period": Period().saved(),', RESTORED
    ),
    Fault("what auto chose is dropped", STATE, '"chosen": self.chosen, ', '"chosen": {}, ', RESTORED),
    Fault(
        "the time is dropped",
        DIRECTORY,
        '"seconds": state.seconds,',
        '"seconds": 0.0,',
        ("commands/test_train.py::test_max_seconds_counts_all_sessions",),
    ),
    Fault(
        "the step is dropped",
        STATE,
        "self.step, self.seconds = checkpoint.step,",
        "self.step, self.seconds = 0,",
        RESTORED,
    ),
    Fault(
        "the average forgets its count",
        "training/ema.py",
        "self.decay.at(n))",
        "self.decay.at(self.__dict__.setdefault('past', __import__('itertools').count()).__next__()))",
        RESUMED,
    ),
    Fault(
        "the average forgets counts of batches",
        "training/ema.py",
        "average.copy_(count)",
        "pass",
        ("training/test_plan.py::test_the_average_includes_batch_norm_statistics",),
    ),
    # randomness
    Fault(
        "t from history",
        "training/randomness.py",
        "return torch.Generator(self.device).manual_seed(seed_of(*self.key, self.calls))",
        "return torch.default_generator",
        RANDOM,
    ),
    Fault("t without the step", "training/randomness.py", "self.key = (seed, step)", "self.key = (seed, 0)", RANDOM),
    Fault("dropout from history", LOOP, "    seed_step(seed, state.step, batch.x.device)\n", "", RESUMED),
    Fault("the order from history", "data/order.py", "for k in count(start):", "for k in count(0):", ORDER),
    Fault(
        "flips from history", "data/order.py", "_generator(seed, k, _FLIP)", "_generator(seed, k - start, _FLIP)", ORDER
    ),
    Fault(
        "noise by the part of a batch",
        "training/randomness.py",
        "torch.randn(self.total, *shape, generator=self._generator(), device=self.device)[self.rows]",
        "torch.randn(self.rows.stop - self.rows.start, *shape, generator=self._generator(), device=self.device)",
        ("training/test_plan.py::test_parts_of_a_batch_get_the_noise_of_the_whole",),
    ),
    Fault(
        "samples by the batch",
        "diffusion/noise.py",
        "manual_seed(seed % 2**63) for seed in seeds]",
        "manual_seed(i) for i, _ in enumerate(seeds)]",
        ("sampling/test_batching.py", "commands/test_sample.py", "-k", "batch"),
    ),
    # one folder, one run; whose files
    Fault(
        "the lock is ignored",
        "locks.py",
        "                self._lock.acquire()\n",
        "                pass\n",
        ("runs/test_directory.py::test_a_folder_is_used_by_one_run",),
    ),
    Fault(
        "a folder that was removed is written without its lock",
        DIRECTORY,
        "if self._lock is not None and not self._lock.in_place:",
        "if False:",
        ("runs/test_storage.py::test_a_run_that_takes_the_place_of_another",),
    ),
    Fault(
        "a disk without room is not refused",
        "training/room.py",
        "if usage.total and usage.free < needed:",
        "if False:",
        ("runs/test_storage.py::test_a_run_without_room_does_not_start",),
    ),
    Fault(
        "tensors are removed when their manifest cannot be read",
        CHECKPOINT,
        "    except (FileNotFoundError, ValueError):\n        return {}",
        "    except (OSError, ValueError):\n        return {}",
        ("runs/test_storage.py::test_a_manifest_that_cannot_be_read_costs_no_tensors",),
    ),
    Fault(
        "SIGTERM ends without a save",
        LOOP,
        "    save = any(status) or due",
        "    save = status.done or due",
        ("training/test_loop.py::test_a_signal_always_leads_to_a_save",),
    ),
    Fault(
        "SIGHUP is not handled",
        "signals.py",
        '"SIGTERM", "SIGHUP", ',
        '"SIGTERM", ',
        ("commands/test_interruptions.py::test_a_signal_saves_and_stops",),
    ),
    Fault("a foreign file is overwritten", "ours.py", "if name not in known and (", "if False and (", FOREIGN),
    Fault(
        "a foreign GIF is overwritten",
        "ours.py",
        "(path.is_file() and not is_signed(path))",
        "False",
        ("test_ours.py::test_single_files_of_others",),
    ),
    Fault(
        "rows beyond the checkpoint stay",
        "runs/logs.py",
        'and row["step"] <= step:',
        "and True:",
        ("commands/test_train.py::test_metrics_beyond_the_checkpoint_are_dropped",),
    ),
    Fault("resume=false adds to a run", "runs/resume.py", 'any(folder.glob("step_*"))', "False", FIXED),
    Fault(
        "another schedule resumes",
        "runs/resume.py",
        'FIXED = ("model", "schedule", "objective",',
        'FIXED = ("model", "objective",',
        FIXED,
    ),
    # data
    Fault(
        "a cache whatever the sizes",
        "data/cache_key.py",
        '"/".join(file.parts[depth:])), size, time)',
        '"/".join(file.parts[depth:])), 0, time)',
        ("data/test_cache.py::test_a_cache_is_for_files_of_the_same_size_and_time",),
    ),
    Fault(
        "held-out pictures by number",
        "data/facts.py",
        "hashes = [_fraction(name) for name in names]",
        "hashes = [_fraction(str(i)) for i, _ in enumerate(names)]",
        ("runs/test_identity.py::test_an_added_picture_moves_no_other",),
    ),
    Fault(
        "the order of classes is not compared",
        "runs/identity.py",
        "not isinstance(old, list) or old == new or",
        "not isinstance(old, list) or len(old) == len(new) or",
        ("runs/test_identity.py::test_classes_that_changed_are_refused_with_both_lists",),
    ),
    # a stranger's file
    Fault(
        "trust one more module",
        "build.py",
        "trust is None or path in shipped_targets(key)",
        "trust is None or package == 'torch' or path in shipped_targets(key)",
        PLACE,
    ),
    Fault(
        "trust what conf/ names elsewhere",
        "build.py",
        "path in shipped_targets(key)\n",
        "path.startswith('ddpm_cli.')\n",
        PLACE,
    ),
    Fault(
        "another package by a trusted path",
        "build.py",
        "(defined_in not in (trust or ()) or not isinstance(target, type))",
        "False",
        CODE,
    ),
    # numbers
    Fault(
        "NaN goes on",
        LOOP,
        " and not bool(loss.value.isfinite()):",
        " and False:",
        ("commands/test_errors.py::test_a_diverging_run_is_an_error",),
    ),
    Fault(
        "guidance away from the class",
        "diffusion/guidance.py",
        "x0_free + self.scale * (x0 - x0_free)",
        "x0_free - self.scale * (x0 - x0_free)",
        ("diffusion/test_guidance.py",),
    ),
    Fault(
        "alpha of another step",
        "diffusion/samplers/ddim.py",
        "x = alpha_s * prediction.x0",
        "x = alpha_t * prediction.x0",
        ("diffusion/test_samplers.py",),
    ),
    Fault(
        "parts of a batch are not weighed",
        LOOP,
        "weight = (rows.stop - rows.start) / size",
        "weight = 1.0",
        ("training/test_fast_path.py::test_micro_batches_add_up_to_the_batch",),
    ),
    Fault(
        "validation turns dropout off",
        LOOP,
        "                self.model.train()\n\n    def catch_up",
        "\n    def catch_up",
        ("commands/test_train.py::test_validation_and_samples_do_not_change_training",),
    ),
    Fault(
        "a damaged file has another exit code",
        "errors.py",
        "    code = 4\n",
        "    code = 1\n",
        ("commands/test_errors.py::test_missing_checkpoints",),
    ),
]
