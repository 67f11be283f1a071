"""The grid is data, its counts are promises, and a run is known by everything that decides its numbers."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bitq.errors import UsageError
from bitq.grid.adhoc import sweep
from bitq.grid.commands import command
from bitq.grid.describe import row
from bitq.grid.expand import build_run, expand
from bitq.grid.select import Selection, find_run, grid
from bitq.grid.study import Arm, Scale, scale, scales, studies, study
from bitq.paths import config_dir
from bitq.results.jobs import jobs_of
from bitq.run import Calibration, Parent, Recipe, Run

SCALES = ("full", "mini", "smoke")
LISTED = ("full", "smoke")  # scales that take the seeds that the studies list


@pytest.mark.parametrize("at", LISTED)
def test_the_153_are_153_with_their_parts(at: str) -> None:
    runs = expand("bitnet", at)
    assert len(runs) == 153
    assert [count for _, count in sorted(Counter(r.phase for r in runs).items())] == [18, 9, 18, 18, 72, 18]
    assert Counter(bool(r.distillation) for r in runs) == {False: 90, True: 63}
    assert {r.seed for r in runs} == {42, 123, 456}
    assert Counter(r.model for r in runs) == {"resnet18": 117, "resnet50": 36}


def test_the_extension_is_201_with_its_parts() -> None:
    runs = expand("bitnet-extended", "full")
    parts = Counter(r.phase for r in runs)
    assert len(runs) == 201 and sum(r.distillation is not None for r in runs) == 72
    assert list(parts.values()) == [105, 9, 18, 12, 18, 18, 9, 9, 3]


@pytest.mark.parametrize("name", studies())
def test_mini_gives_headline_arms_more_seeds_and_leaves_no_other_arm_out(name: str) -> None:
    counts, skipped = scale("mini").seeds, scale("mini").skip.get(name, ())
    assert counts and counts.headline > counts.others
    seeds: dict[tuple[str, str, str], list[int]] = {}
    for run in expand(name, "mini"):
        seeds.setdefault((run.data.dataset, run.model, run.arm), []).append(run.seed)
    listed = {(r.data.dataset, r.model, r.arm) for r in expand(name, "full") if r.phase not in skipped}
    assert seeds.keys() == listed
    headline = {(model, arm) for model, arms in study(name).headline.items() for arm in arms}
    for (_, model, arm), found in seeds.items():
        count = counts.headline if (model, arm) in headline else counts.others
        assert found == [42, 123, 456, 789, 1011][:count], (model, arm)


def test_the_headline_is_where_the_claims_are() -> None:
    five = {(r.model, r.arm) for r in expand("bitnet", "mini") if r.seed == 1011}
    assert five == {("resnet18", arm) for arm in ("fp32", "bitnet", "bitnet-keep_conv1", "fp32-kd", "bitnet-kd", "ttq")}
    assert not [run for run in expand("bitnet-extended", "mini") if run.phase == "n10"]


def test_distillation_has_arms_with_less_weight_on_the_teacher() -> None:
    runs = [r for r in expand("bitnet-extended", "full") if r.phase == "kd-alpha"]
    found = Counter((r.data.dataset, r.arm, r.distillation and r.distillation.alpha) for r in runs)
    arms = {"bitnet-kd-alpha01": 0.1, "bitnet-kd-alpha03": 0.3, "bitnet-kd-alpha05": 0.5}
    assert found == {(dataset, *arm): 3 for dataset in ("cifar10", "cifar100") for arm in arms.items()}
    others = {r.distillation.alpha for r in grid("full", ["bitnet"]) if r.distillation}
    assert others == {0.9} and {r.distillation.temperature for r in runs if r.distillation} == {4.0}


@pytest.mark.parametrize(("at", "precisions"), [("full", {"bf16", "fp16", "fp32"}), ("mini", {"fp32"})])
def test_the_precision_of_a_scale_yields_to_that_of_an_arm(at: str, precisions: set[str]) -> None:
    assert {run.precision for run in grid(at) if not run.tag.startswith("trained_")} == precisions - {"fp16"}
    for format in ("bf16", "fp16"):
        assert {run.precision for run in expand("precision", at) if run.tag == f"trained_{format}"} == {format}
    (run,) = sweep("smoke", {"model": ["resnet18"], "dataset": ["cifar10"], "method": ["fp32"], "precision": ["bf16"]})
    assert run.precision == "bf16"


def test_overrides_of_a_scale_are_merged_from_top_to_bottom_and_yield_to_the_arm() -> None:
    overrides = [
        {"datasets": ["mnist"], "variant": "procedural", "recipe": {"epochs": 8, "lr": 0.3}},
        {"models": ["resnet50"], "width": 8, "recipe": {"epochs": 4}},
        {"models": ["resnet50"], "datasets": ["mnist"], "recipe": {"lr": 0.2}},
        {"models": ["resnet50"], "datasets": ["mnist"], "phases": ["qat"], "recipe": {"epochs": 2}},
    ]
    at = Scale.model_validate(
        {
            "scale": "s",
            "summary": "s",
            "widths": {"resnet18": 16},
            "recipe": {"epochs": 12, "batch": 7},
            "overrides": overrides,
        }
    )
    assert at.size("cifar10", "resnet20", "p") == ("official", 16, {"epochs": 12, "batch": 7})  # its published width
    assert at.size("cifar10", "resnet18", "p") == ("official", 16, {"epochs": 12, "batch": 7})
    assert at.size("mnist", "resnet18", "p") == ("procedural", 16, {"epochs": 8, "batch": 7, "lr": 0.3})
    assert at.size("cifar10", "resnet50", "p") == ("official", 8, {"epochs": 4, "batch": 7})
    assert at.size("mnist", "resnet50", "p") == ("procedural", 8, {"epochs": 4, "batch": 7, "lr": 0.2})
    assert at.size("mnist", "resnet50", "qat").recipe["epochs"] == 2
    stepped = {"epochs": 40, "schedule": "step", "milestones": [20], "lr": 0.1}
    run = build_run(
        study="s", phase="p", scale=at, dataset="mnist", model="resnet50", seed=1, distillation=None, start=None,
        arm=Arm(method="fp32", recipe={"lr": 0.05}), base_recipe=stepped,
    )  # fmt: skip
    assert (run.width, run.data.variant, run.recipe.lr, run.recipe.batch) == (8, "procedural", 0.05, 7)
    assert (run.recipe.epochs, run.recipe.milestones) == (4, (2,))


def test_every_override_concerns_some_run() -> None:
    for at in SCALES:
        runs = grid(at)
        assert all(any(o.concerns(r.data.dataset, r.model, r.phase) for r in runs) for o in scale(at).overrides)
        places = {
            "datasets": {r.data.dataset for r in runs},
            "models": {r.model for r in runs},
            "phases": {r.phase for r in runs},
        }
        assert all(set(getattr(o, kind)) <= known for o in scale(at).overrides for kind, known in places.items())
        assert set(scale(at).variants) <= places["datasets"]


@pytest.mark.parametrize("at", SCALES)
def test_ids_hashes_and_folders_are_unique(at: str) -> None:
    runs = grid(at)
    for of in (lambda r: r.id, lambda r: r.hash, lambda r: r.path):
        assert len({of(r) for r in runs}) == len(runs)


@pytest.mark.parametrize("at", SCALES)
def test_parents_come_before_their_children_and_have_their_seed(at: str) -> None:
    seen: dict[str, str] = {}
    for run in grid(at):
        for parent in run.parents:
            assert seen[parent.id] == parent.hash
            assert parent.id.endswith(f"/s{run.seed}")
        seen[run.id] = run.hash


@pytest.mark.parametrize("at", SCALES)
def test_a_teacher_is_the_fp32_network_of_its_student_s_place_and_seed(at: str) -> None:
    students = [run for run in grid(at) if run.distillation and run.distillation.teacher]
    for run in students:
        assert run.distillation and run.distillation.teacher
        study = run.study if run.phase == "n10" else run.study.removesuffix("-extended")
        assert run.distillation.teacher.id == f"{study}/{run.data.dataset}/{run.model}/fp32/s{run.seed}"
    assert {run.study for run in students} == {"bitnet", "bitnet-extended", "atq"}


def test_ttq_as_published_starts_from_the_fp32_weights_of_its_own_seed() -> None:
    runs = [r for r in expand("bitnet-extended", "full") if r.phase == "ttq-published"]
    assert runs and all(
        r.keep == ("first", "last") and r.start and r.start.id.endswith(f"/fp32/s{r.seed}") for r in runs
    )


def test_one_batch_size_per_model_and_dataset() -> None:
    for at in SCALES:
        sizes = {(r.model, r.data.dataset, r.recipe.batch) for r in expand("bitnet", at)}
        assert len(sizes) == 6


def test_distilled_arms_have_the_mixup_of_their_twins() -> None:
    mixup = {(r.data.dataset, r.recipe.mixup) for r in expand("bitnet", "full")}
    assert mixup == {("cifar10", 0.2), ("cifar100", 0.0), ("tiny_imagenet", 0.2)}


def test_a_scale_changes_recipe_width_precision_and_data_variant_only() -> None:
    for full, smoke in zip(expand("bitnet", "full"), expand("bitnet", "smoke"), strict=True):
        changed = {"scale", "data", "width", "recipe", "precision", "distillation"}  # distillation: the parent's hash
        assert full.model_dump(exclude=changed) == smoke.model_dump(exclude=changed)
        assert full.id == smoke.id and full.hash != smoke.hash


@pytest.mark.parametrize("name", sorted(set(studies()) - {"bitnet-extended"}))  # an extension adds runs, no protocol
def test_every_deviation_has_a_reason(name: str) -> None:
    found = study(name).deviations
    assert found and all(d.what and d.original and d.here and d.why for d in found)


def test_every_key_of_an_arm_is_explained() -> None:
    text = (config_dir() / "README.md").read_text(encoding="utf-8")
    assert [key for key in Arm.model_fields if not re.search(rf"^\| `{key}[:`]", text, re.M)] == []


def test_every_file_of_the_configuration_is_explained() -> None:
    text = (config_dir() / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in config_dir().glob("*.yaml") if f"`{path.name}`" not in text] == []


OTHER_RUN = {
    "study": "mine", "phase": "x", "scale": "mini", "model": "resnet50", "width": 32, "stem": "imagenet",
    "norm": "layer", "method": "twn", "settings": {"threshold": 0.1}, "keep": ("conv1",), "distillation": None,
    "start": Parent(id="a/b/c/d/s1", hash="0"), "calibration": Calibration(), "precision": "fp32", "seed": 7,
    "tag": "x",
}  # fmt: skip
OTHER_RECIPE = {
    "epochs": 3, "batch": 64, "accumulate": 2, "optimizer": "adamw", "lr": 0.05, "momentum": 0.5, "nesterov": False,
    "weight_decay": 0.1, "schedule": "constant", "milestones": (1.0,), "gamma": 0.5, "warmup_epochs": 1.0,
    "min_lr": 0.01, "lr_every": "step", "clip_norm": 1.0, "mixup": 0.3, "label_smoothing": 0.2, "l1": 0.1,
    "augment": "none", "pad": 1, "normalisation": "half", "validation": 0.5,
}  # fmt: skip


def test_two_runs_that_differ_anywhere_differ_in_hash() -> None:
    run = next(run for run in expand("bitnet", "full") if run.distillation)
    changes: list[dict[str, Any]] = [{key: value} for key, value in OTHER_RUN.items()]
    changes += [{"recipe": run.recipe.model_copy(update={key: value})} for key, value in OTHER_RECIPE.items()]
    changes += [{"data": run.data.model_copy(update={"digest": "0"})}]
    assert {"data", "recipe", *OTHER_RUN} == set(Run.model_fields) and set(OTHER_RECIPE) == set(Recipe.model_fields)
    assert len({run.hash, *(run.model_copy(update=change).hash for change in changes)}) == 1 + len(changes)


@pytest.mark.parametrize("key", ["seed", "lr", "keep", "width", "settings", "variant", "alpha"])
def test_two_one_off_runs_that_differ_have_folders_of_their_own(key: str) -> None:
    one = {
        "model": ["resnet18"],
        "dataset": ["cifar10"],
        "method": ["ttq"],
        "teacher": ["bitnet/cifar10/resnet18/fp32/s42"],
    }
    other = {
        "seed": [7], "lr": [0.05], "keep": [("conv1",)], "width": [32], "settings": [{"threshold": 0.1}],
        "variant": ["cifar10-q5"], "alpha": [0.5],
    }  # fmt: skip
    (a,), (b,) = sweep("smoke", one), sweep("smoke", {**one, key: other[key]})
    assert a.path != b.path


PLACE = "adhoc/cifar10/resnet18"
TEACHER = "bitnet/cifar10/resnet18/fp32/s42"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "ttq/s42"),
        ({"lr": 0.05, "epochs": 3, "seed": 7}, "ttq-epochs3-lr0.05/s7"),
        ({"keep": ("conv1", "fc"), "width": 32, "precision": "bf16"}, "ttq-keep_conv1+fc-width32-bf16/s42"),
        ({"width": 8, "precision": "fp32", "epochs": 2, "variant": "procedural@640"}, "ttq/s42"),  # as at smoke anyway
        ({"variant": "cifar10-q5@5000", "nesterov": False}, "ttq-cifar10-q5@5000-no_nesterov/s42"),
        ({"settings": {"threshold": 0.1}, "augment": "none", "pad": 4}, "ttq-threshold0.1-augment_none-pad4/s42"),
        ({"teacher": TEACHER, "alpha": 0.5}, "ttq-kd-teacher_bitnet.fp32.s42-alpha0.5/s42"),
        ({"teacher": "online"}, "ttq-online_kd/s42"),
        ({"start": TEACHER, "epochs": 0, "calibration": {"fold": True}}, "ttq-fold-start_bitnet.fp32.s42-epochs0/s42"),
        ({"start": TEACHER, "calibration": {}}, "ttq-calibrated-start_bitnet.fp32.s42/s42"),
        (
            {"schedule": "step", "milestones": (1, 1.5), "l1": 1e-5, "warmup_epochs": 0},
            "ttq-schedule_step-milestones1+1.5-warmup_epochs0-l1_1e-05/s42",
        ),
    ],
)
def test_a_one_off_run_is_named_by_what_differs_from_the_defaults(options: dict[str, Any], name: str) -> None:
    chosen = {"model": "resnet18", "dataset": "cifar10", "method": "ttq", **options}
    (run,) = sweep("smoke", {key: [value] for key, value in chosen.items()})
    assert run.id == f"{PLACE}/{name}"


def arm_of(**options: Any) -> str:
    chosen = {"model": "resnet18", "dataset": "cifar10", "method": "ttq", **options}
    return sweep("smoke", {key: [value] for key, value in chosen.items()})[0].arm


def test_names_that_would_collide_get_a_hash() -> None:
    globs = [("layer?",), ("layer*",), ("layer/",), ("layer_",)]
    arms = [arm_of(keep=keep) for keep in globs[:3]]
    assert len(set(arms)) == 3 and all(re.fullmatch("ttq-keep_layer_-[0-9a-f]{8}", arm) for arm in arms)
    assert arm_of(keep=globs[0]) == arms[0]
    atq = {"method": "atq", "schedule": "constant"}
    assert arm_of(**atq) == "atq-schedule_constant"  # the recipe's
    assert arm_of(**atq, settings={"schedule": "linear"}) == "atq-atq.schedule_linear-schedule_constant"


def test_all_runs_of_a_sweep_have_names_of_their_own() -> None:
    options = {
        "model": ["resnet18"], "dataset": ["cifar10"], "method": ["ttq"], "lr": [0.1, 0.05, 0.005], "mixup": [0.0, 0.2],
        "settings": [{}, {"threshold": 0.05}, {"threshold": 1}, {"threshold": 1.0}], "keep": [(), ("fc",), ("f*",)],
        "teacher": ["online", TEACHER], "start": [TEACHER, TEACHER.replace("s42", "s123")], "epochs": [2, 20],
    }  # fmt: skip
    runs = sweep("smoke", options)
    assert len({run.id for run in runs}) == len(runs) == 3 * 2 * 4 * 3 * 2 * 2 * 2


def test_names_that_would_be_long_end_in_a_hash_that_the_seed_does_not_change() -> None:
    many = {
        "lr": 0.05, "epochs": 7, "momentum": 0.8, "weight_decay": 0.001, "warmup_epochs": 1.5, "min_lr": 0.001,
        "label_smoothing": 0.1, "mixup": 0.3, "clip_norm": 3.0, "augment": "randaug", "validation": 0.25,
    }  # fmt: skip
    long = arm_of(**many)
    assert len(long) <= 100 and re.search("-[0-9a-f]{8}$", long) and long.startswith("ttq-epochs7-")
    assert arm_of(**many, seed=7) == long != arm_of(**{**many, "validation": 0.5})
    with pytest.raises(UsageError, match="Name layers by a glob"):
        arm_of(keep=tuple(f"layer{n}.{m}.conv{k}" for n in range(1, 5) for m in (0, 1) for k in (1, 2)))


def test_what_is_misspelt_is_refused_with_what_is_near() -> None:
    for options, words in (
        ({"method": "tqt"}, "unknown method 'tqt'.*Did you mean 'ttq'"),
        ({"model": "resnet8"}, "unknown model 'resnet8'.*Did you mean 'resnet18'"),
        ({"norm": "layr"}, "unknown norm 'layr'; allowed: layer, none. Did you mean 'layer'"),
        ({"precision": "fp61"}, "unknown precision 'fp61'; allowed: bf16, fp16, fp32. Did you mean 'fp16'"),
        ({"optimizer": "sdg"}, "unknown optimizer 'sdg'; allowed: adam, adamw, sgd. Did you mean 'sgd'"),
        ({"keep": ("conv_1",)}, "unknown layer to keep 'conv_1'.*Did you mean 'conv1'"),
        ({"settings": {"treshold": 1}}, "no setting 'treshold'; allowed: threshold, unit. Did you mean 'threshold'"),
        ({"seed": 2**32}, f"--seed {2**32} was given; allowed: 0 to {2**32 - 1}"),
    ):
        with pytest.raises(UsageError, match=words):
            arm_of(**options)


def test_a_run_is_found_by_six_digits_of_its_hash() -> None:
    run = expand("bitnet", "full")[0]
    assert find_run(run.hash[:6], "full") == run == find_run(run.hash, "full")
    with pytest.raises(UsageError, match="at least 6 digits are needed"):
        find_run(run.hash[:5], "full")


def test_hashes_that_begin_alike_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitq.grid.select.HASH_DIGITS", 1)
    digit = Counter(run.hash[0] for run in grid("full")).most_common(1)[0][0]
    with pytest.raises(UsageError, match=f"'{digit}' begins the hashes of .* runs"):
        find_run(digit, "full")


def test_widths_are_those_of_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scales").mkdir()
    monkeypatch.setenv("BITQ_CONFIG", str(tmp_path))
    for name, widths, words in (
        ("typo", "{resnet8: 4}", "there is no network 'resnet8'; allowed: resnet18"),
        ("none", "{resnet18: 0}", "greater than 0"),
    ):
        (tmp_path / f"scales/{name}.yaml").write_text(f"scale: {name}\nsummary: s\nwidths: {widths}\n")
        with pytest.raises(UsageError, match=words):
            scale(name)


def test_a_configuration_that_is_not_there_is_no_empty_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITQ_CONFIG", str(tmp_path))
    with pytest.raises(UsageError, match=r"studies holds no .yaml file.*\$BITQ_CONFIG"):
        grid("full")
    for folder in ("studies", "scales"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "full.yaml").write_text("\n")
    with pytest.raises(UsageError, match=r"full.yaml is empty; write its keys"):
        study("full")


def test_a_file_is_known_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    places = [tmp_path / "a.safetensors", tmp_path / "sub" / "b.safetensors"]
    runs = []
    for place in places:
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"some weights")
        given = {"model": ["resnet18"], "dataset": ["cifar10"], "method": ["ttq"], "start": [str(place)]}
        runs += sweep("smoke", given)
    assert len({(run.hash, run.path) for run in runs}) == 1
    places[1].write_bytes(b"others")
    assert sweep("smoke", given)[0].hash != runs[0].hash


def test_the_hash_follows_the_parent() -> None:
    run = next(r for r in expand("bitnet", "full") if r.distillation)
    parent = run.distillation.teacher.model_copy(update={"hash": "0" * 64})  # type: ignore[union-attr]
    other = run.model_copy(update={"distillation": run.distillation.model_copy(update={"teacher": parent})})  # type: ignore[union-attr]
    assert other.hash != run.hash and other.id == run.id


def test_several_values_make_a_sweep() -> None:
    options = {
        "model": ["resnet18"],
        "dataset": ["cifar10"],
        "method": ["bitnet", "ttq"],
        "keep": [(), ("conv1",)],
        "seed": [1, 2, 3],
    }
    runs = sweep("smoke", options)
    assert len(runs) == len({r.hash for r in runs}) == 12


def test_rows_carry_the_promised_fields() -> None:
    fields = {"id", "hash", "study", "phase", "dataset", "model", "method", "keep", "teacher", "seed"}
    assert fields <= set(row(expand("bitnet", "full")[0]))


def test_each_run_has_its_own_command() -> None:
    commands = [command(r) for r in expand("bitnet", "full")]
    assert len(set(commands)) == 153 and all(c.startswith("bitq train bitnet/") for c in commands)


@pytest.mark.parametrize("at", SCALES)
def test_jobs_cover_the_grid_once_and_wait_for_teachers(at: str) -> None:
    runs = grid(at)
    jobs = jobs_of(runs)
    job_of = {name: job["name"] for job in jobs for name in job["runs"]}
    assert sum(len(job["runs"]) for job in jobs) == len(runs) == len(job_of)
    assert max(len(job["runs"]) for job in jobs) <= scale(at).batch_runs
    done: set[str] = set()
    for job in jobs:
        assert set(job["needs"]) <= done
        done.add(job["name"])
    for run in runs:
        job = next(j for j in jobs if j["name"] == job_of[run.id])
        assert all(job_of[p.id] in job["needs"] for p in run.parents)


def test_names_that_do_not_exist_are_refused_with_what_is_allowed() -> None:
    for call, words in (
        (lambda: grid("ful"), "Did you mean 'full'"),
        (lambda: grid("full", ["bitnett"]), "Did you mean 'bitnet'"),
        (lambda: Selection(seeds=[43]).of(expand("bitnet", "full")), "unknown seed 43; allowed: 123, 42, 456"),
        (
            lambda: find_run("bitnet/cifar10/resnet18/fp32/s43", "full"),
            "Did you mean 'bitnet/cifar10/resnet18/fp32/s42'",
        ),
        (lambda: sweep("full", {"model": ["resnet18"], "dataset": ["cifar10"]}), "a run needs --method"),
        (
            lambda: sweep("full", {"model": ["resnet18"], "dataset": ["cifar1"], "method": ["fp32"]}),
            "unknown data set 'cifar1'",
        ),
    ):
        with pytest.raises(UsageError, match=words.replace("(", r"\(")):
            call()


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"epochs": 5, "warmup_epochs": 5}, "warmup_epochs 5.0 must be less than epochs 5"),
        ({"lr": 0.1, "min_lr": 0.2}, "min_lr 0.2 must not exceed lr 0.1"),
        ({"batch": 10, "accumulate": 3}, "batch 10 must be a multiple of accumulate 3"),
        ({"schedule": "step"}, "needs milestones"),
        ({"epoch": 3}, "epoch"),
        ({"lr": 0}, "greater than 0"),
    ],
)
def test_nonsense_in_a_recipe_is_refused_early(recipe: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Recipe(**recipe)  # type: ignore[arg-type]


def test_a_study_that_breaks_its_promise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("studies", "scales"):
        (tmp_path / folder).mkdir()
    (tmp_path / "scales/smoke.yaml").write_text("scale: smoke\nsummary: s\nvariants: {mnist: procedural}\n")
    body = "study: s\ntitle: t\nruns: {n}\ndistilled: 0\ndatasets: {{mnist: {{}}}}\nphases:\n"
    block = "{models: [resnet18], datasets: [mnist], seeds: [1, 2], arms: [%s]}"
    phase = "  - {phase: a, title: t, runs: %s, blocks: [" + block + "]}\n"
    monkeypatch.setenv("BITQ_CONFIG", str(tmp_path))
    for name, text, words in (
        ("three", body.format(n=3) + phase % (3, "{method: fp32}"), "expands to 2 runs but promises 3"),
        ("total", body.format(n=3) + phase % (2, "{method: fp32}"), "2 runs, 0 of them distilled, but promises 3"),
        ("typo", body.format(n=2) + phase % (2, "{methd: fp32}"), "no key 'phases.0.blocks.0.arms.0.methd'"),
        (
            "orphan",
            body.format(n=2) + phase % (2, "{method: fp32, teacher: fp32/s9}"),
            "no run 's/mnist/resnet18/fp32/s9'",
        ),
        (
            "alone",
            body.format(n=2) + phase % (2, "{method: fp32, distillation: {alpha: 0.1}}"),
            "distillation {'alpha': 0.1} changes nothing without a teacher",
        ),
        (
            "alpha",
            body.format(n=4) + phase % (4, "{method: fp32}, {method: twn, teacher: fp32/s1, distillation: {alpha: 2}}"),
            "alpha",
        ),
        (
            "headline",
            "headline: {resnet18: [fp23]}\n" + body.format(n=2) + phase % (2, "{method: fp32}"),
            "unknown headline arm of study 's': 'resnet18/fp23'; allowed: resnet18/fp32",
        ),
        ("twins", body.format(n=4) + phase % (4, "{method: fp32}, {method: fp32, settings: {a: 1}}"), "share the id"),
    ):
        (tmp_path / f"studies/{name}.yaml").write_text(text)
        with pytest.raises(UsageError, match=words):
            expand(name, "smoke")


def test_a_choice_of_seeds_that_the_study_cannot_serve_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("studies", "scales"):
        (tmp_path / folder).mkdir()
    (tmp_path / "scales/few.yaml").write_text(
        "scale: few\nsummary: s\nvariants: {mnist: procedural}\nseeds: {headline: 3, others: 2}\n"
    )
    body = (
        "study: s\ntitle: t\nruns: 2\ndistilled: 0\ndatasets: {mnist: {}}\n%s\nphases:\n"
        "  - {phase: a, title: t, runs: %s, blocks: [{models: [resnet18], datasets: [mnist], seeds: %s, arms: [%s]}]}\n"
    )
    monkeypatch.setenv("BITQ_CONFIG", str(tmp_path))
    fp32, known = "{method: fp32}", "seeds: [1, 2, 3]"
    for name, values, words in (
        ("short", ("seeds: [1, 2]", 2, "[1, 2]", fp32), "asks for 3 seeds, but study 's' lists 2"),
        (
            "further",
            (known, 1, "[4]", fp32),
            r"phase a of study 's' has its own, 4; leave it out with skip: {s: \[a\]}",
        ),
        ("promise", (known, 3, "[1, 2]", fp32), "expands to 2 runs but promises 3"),
        (
            "orphan",
            (
                f"{known}\nheadline: {{resnet18: [fp32-kd]}}",
                4,
                "[1, 2]",
                f'{fp32}, {{method: fp32, teacher: "fp32/{{seed}}"}}',
            ),
            "no run 's/mnist/resnet18/fp32/s3' comes before it; give one that its phases list first, in a headline arm",
        ),
    ):
        (tmp_path / f"studies/{name}.yaml").write_text(body % values)
        with pytest.raises(UsageError, match=words):
            expand(name, "few")
    (tmp_path / "studies/plain.yaml").write_text(body % ("", 2, "[4, 5]", fp32))
    assert [run.seed for run in expand("plain", "few")] == [4, 5]  # it lists none to choose from


def test_grid_json_is_a_list_of_objects() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "bitq.cli", "grid", "--study", "bitnet", "--phase", "2", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert len(json.loads(out.stdout)) == 9


def test_all_scales_are_known() -> None:
    assert set(scales()) == set(SCALES)


def test_a_study_of_another_folder_is_read_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = "{models: [resnet18], datasets: [mnist], seeds: [1], arms: [{method: %s}]}"
    study = "study: s\ntitle: t\nruns: 1\ndistilled: 0\ndatasets: {mnist: {}}\nphases:\n"
    for method in ("fp32", "ttq"):
        for folder in ("studies", "scales"):
            (tmp_path / method / folder).mkdir(parents=True)
        phase = f"  - {{phase: a, title: t, runs: 1, blocks: [{block % method}]}}\n"
        (tmp_path / method / "studies/s.yaml").write_text(study + phase)
        (tmp_path / method / "scales/few.yaml").write_text("scale: few\nsummary: s\nvariants: {mnist: procedural}\n")
        monkeypatch.setenv("BITQ_CONFIG", str(tmp_path / method))
        assert [run.method for run in expand("s", "few")] == [method]
