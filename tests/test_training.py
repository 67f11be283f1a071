"""Training keeps its promises: equal starts, equal batches, honest results, clear refusals."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from bitq.deploy.load import load
from bitq.errors import DataError, UsageError
from bitq.grid.select import find_run
from bitq.io import sha256_file
from bitq.machine import machine
from bitq.quant.registry import METHODS
from bitq.results.folder import MODEL, finished, folder_of, read, run_digest
from bitq.results.predictions import PREDICTIONS
from bitq.results.schema import RECORDS, SCHEMAS, schema_text
from bitq.run import Calibration, Distillation, Recipe
from bitq.train.images import open_data, training_batches
from bitq.train.loop import Training, train_step
from bitq.train.network import build_network, build_teacher
from bitq.train.objective import cross_entropy, distillation_term, loss_of
from bitq.train.optimizer import build_optimizer, undecayed
from bitq.train.schedule import lr_at
from tests.support import EACH_METHOD, session, small_run
from tests.synthetic import pretend

CPU = machine("cpu")


@pytest.mark.parametrize("method", EACH_METHOD)
def test_a_run_ends_with_the_accuracy_of_its_file(method: str, tmp_path: Path) -> None:
    run = small_run(method)
    assert session(tmp_path).train([run]) == 0
    done = read(folder_of(run, tmp_path / "results"))
    packed = done.results.packed
    assert packed and packed.accuracy == done.results.accuracy
    assert packed.file_bytes == (done.folder / MODEL).stat().st_size == sum(packed.parts.values())
    assert packed.sha256 == sha256_file(done.folder / MODEL)
    if packed.audit.layers:
        bits = packed.audit.bits_per_packed_weight
        assert packed.audit.coverage == 1 and bits and packed.compression > 0.4 * 32 / bits  # the rest is header and BN


def test_all_arms_of_a_seed_start_equal_and_see_equal_batches(tmp_path: Path) -> None:
    runs = [small_run("fp32"), small_run("bitnet"), small_run("ttq", keep=("conv1",)), small_run("twn", mixup=0.0)]
    weights, images = set(), set()
    for run in runs:
        model = build_network(run, CPU, tmp_path)
        weights.add(
            b"".join(
                p.detach().contiguous().numpy().tobytes() for n, p in model.named_parameters() if "quantizer" not in n
            )
        )
        batches = training_batches(open_data(run), run, CPU)
        images.add(b"".join(batch.y.numpy().tobytes() for batch in batches.epoch(1)))
    assert len(weights) == len(images) == 1


def test_another_seed_starts_elsewhere(tmp_path: Path) -> None:
    one, other = (build_network(small_run(seed=seed), CPU, tmp_path) for seed in (42, 43))
    assert not torch.equal(one.conv1.weight, other.conv1.weight)


def test_a_student_has_its_teacher_trained_first(tmp_path: Path) -> None:
    teacher = "bitnet/cifar10/resnet18/fp32/s42"
    run = small_run("bitnet", teacher=teacher, alpha=0.5)
    assert session(tmp_path).train([run]) == 0
    assert (tmp_path / "results/smoke" / teacher / MODEL).exists()
    history = read(folder_of(run, tmp_path / "results")).history
    assert len(history.soft_loss) == len(history.hard_loss) == 3
    for total, hard, soft in zip(history.train_loss, history.hard_loss, history.soft_loss, strict=True):
        assert total == pytest.approx(0.5 * hard + 0.5 * soft, rel=1e-5)


def test_a_lost_teacher_file_is_made_again(tmp_path: Path) -> None:
    teacher = tmp_path / "results/smoke/bitnet/cifar10/resnet18/fp32/s42" / MODEL
    session(tmp_path).train([small_run("bitnet", teacher="bitnet/cifar10/resnet18/fp32/s42")])
    before = sha256_file(teacher)
    teacher.unlink()
    assert session(tmp_path).train([small_run("twn", teacher="bitnet/cifar10/resnet18/fp32/s42")]) == 0
    assert sha256_file(teacher) == before


@pytest.mark.parametrize("where", ["bitq.train.session.fingerprint", "bitq.train.session.code_sha256"])
def test_a_lost_teacher_file_is_not_made_again_by_another_machine_or_engine(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = tmp_path / "results/smoke/bitnet/cifar10/resnet18/fp32/s42"
    session(tmp_path).train([small_run("bitnet", teacher="bitnet/cifar10/resnet18/fp32/s42")])
    (teacher / MODEL).unlink()
    before = run_digest(teacher)
    monkeypatch.setattr(where, lambda *_: "another")
    assert session(tmp_path).train([small_run("twn", teacher="bitnet/cifar10/resnet18/fp32/s42")]) == 65
    assert "another engine or kind of machine made it; copy the file into" in capsys.readouterr().err
    assert run_digest(teacher) == before


def test_a_run_trained_again_for_its_packed_file_keeps_its_records(tmp_path: Path) -> None:
    run = small_run()
    session(tmp_path).train([run])
    folder = folder_of(run, tmp_path / "results")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / MODEL).unlink()
    assert session(tmp_path, models=True).train([run]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_result_is_never_replaced_by_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_run()
    session(tmp_path).train([run])
    folder = folder_of(run, tmp_path / "results")
    (folder / MODEL).unlink()
    before = run_digest(folder)
    monkeypatch.setattr("bitq.train.loop.lr_at", lambda *_: 0.01)  # stands for a processor with other sums
    assert session(tmp_path, models=True).train([run]) == 65
    assert "the run came out different here" in capsys.readouterr().err
    assert run_digest(folder) == before and read(folder).results.packed


def test_a_run_can_start_from_trained_weights(tmp_path: Path) -> None:
    parent = small_run("fp32")
    session(tmp_path).train([parent])
    file = folder_of(parent, tmp_path / "results") / MODEL
    run = small_run("ttq", keep=("first", "last"), start=str(file))
    trained = load(file)[0]
    started = build_network(run, CPU, tmp_path).layer1[0].conv1
    weight = trained.layer1[0].conv1.weight
    assert torch.equal(started.weight, weight)
    kept = weight.abs()[weight.abs() > 0.05 * weight.abs().max()]
    assert started.quantizer.state_dict()["s0"].item() == pytest.approx(kept.mean().item())  # not that of a first draw
    session(tmp_path).train([ternary_run := small_run("ttq")])
    ternary = folder_of(ternary_run, tmp_path / "results") / MODEL
    with pytest.raises(UsageError, match="only weights of fp32 or twn can be its start"):
        build_network(small_run("twn", start=str(ternary)), CPU, tmp_path)
    with pytest.raises(
        UsageError, match="Ttq ships codes, which do not tell all that it trains; start from an fp32 run"
    ):
        build_network(small_run("ttq", start=str(ternary)), CPU, tmp_path)
    with pytest.raises(UsageError, match="only weights of ring_legacy can be its start"):
        build_network(small_run("ring_legacy", start=str(file)), CPU, tmp_path)


def test_a_start_or_teacher_of_another_shape_is_refused(tmp_path: Path) -> None:
    session(tmp_path).train([parent := small_run("fp32")])
    file = str(folder_of(parent, tmp_path / "results") / MODEL)
    for options, words in (
        ({"start": file, "width": 16}, "holds a network of width=8, but width=16 was asked for"),
        ({"start": file, "model": "resnet50"}, "model=resnet18, but model=resnet50 was asked for"),
        ({"start": file, "dataset": "cifar100"}, "classes=10, but classes=20 was asked for"),
    ):
        with pytest.raises(UsageError, match=words):
            build_network(small_run("ttq", **options), CPU, tmp_path)
    larger = small_run("ttq", teacher=file, variant="official")
    with pytest.raises(UsageError, match="image_size=16, but image_size=32 was asked for; give .* a teacher"):
        build_teacher(larger, CPU, tmp_path)


def test_a_start_of_the_same_method_has_the_same_settings_and_keeps_the_same_layers(tmp_path: Path) -> None:
    parent = small_run("ring_legacy", model="resnet20", keep=("last",), settings={"ring_size": 4})
    session(tmp_path).train([parent])
    start = {"model": "resnet20", "start": str(folder_of(parent, tmp_path / "results") / MODEL), "epochs": 0}

    def child(settings: dict[str, object], keep: tuple[str, ...] = ("fc",)) -> object:
        return build_network(small_run("ring_legacy", settings=settings, keep=keep, **start), CPU, tmp_path)

    assert child({"ring_size": 4, "snap": True})
    for settings, keep, words in (
        ({"ring_size": 8}, ("last",), "trained with ring_size=4, but the run has ring_size=8"),
        ({"ring_size": 4, "wave": "sin"}, ("last",), "give --setting wave=triangle, or start from an fp32 network"),
        ({"ring_size": 4}, (), "fc is quantized in the run, but its start keeps it .*: --keep last"),
    ):
        with pytest.raises(UsageError, match=words):
            child(settings, keep)


def test_a_diverged_run_is_a_result(tmp_path: Path) -> None:
    run = small_run("bitnet", optimizer="adamw", lr=99.0, precision="fp32", weight_decay=1e36)
    assert session(tmp_path).train([run]) == 0
    done = read(folder_of(run, tmp_path / "results"))
    assert done.results.status == "diverged" and done.results.diverged and done.results.packed is None
    assert session(tmp_path, strict=True).train([run]) == 71


def test_what_starts_from_a_diverged_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = find_run("atq/fashion_mnist/atq_cnn/atq-keep_conv-kd/s42", "smoke")
    for parent in run.parents:
        pretend(find_run(parent.id, "smoke"), tmp_path / "results", diverged_in=1)
    assert session(tmp_path).train([run]) == DataError.exit_code
    assert "which diverged and ships nothing to go on from" in capsys.readouterr().err


def test_finished_runs_are_skipped(tmp_path: Path) -> None:
    run = small_run()
    session(tmp_path).train([run])
    file = folder_of(run, tmp_path / "results") / "results.json"
    before = file.stat().st_mtime_ns
    assert session(tmp_path).train([run]) == 0 and file.stat().st_mtime_ns == before


def test_results_of_another_grid_are_never_overwritten(tmp_path: Path) -> None:
    run = small_run()
    session(tmp_path).train([run])
    other = run.model_copy(update={"width": 16})
    assert other.path == run.path
    with pytest.raises(DataError, match="holds results of another grid"):
        finished(other, tmp_path / "results")
    assert session(tmp_path).train([other]) == DataError.exit_code
    assert finished(run, tmp_path / "results")


@pytest.mark.parametrize("name", ["config.json", "results.json", "history.json", PREDICTIONS, MODEL])
def test_a_damaged_result_is_noticed(name: str, tmp_path: Path) -> None:
    run = small_run()
    session(tmp_path).train([run])
    file = folder_of(run, tmp_path / "results") / name
    content = file.read_bytes()
    two, three = (b"\2", b"\3") if name == PREDICTIONS else (b"2", b"3")
    for damaged in (content[: len(content) // 2], content.replace(two, three, 1)):
        file.write_bytes(damaged)
        with pytest.raises(DataError):
            finished(run, tmp_path / "results")


def test_one_failed_run_does_not_stop_the_others(tmp_path: Path) -> None:
    bad, good = small_run("bitnet", accumulate=2), small_run("twn")
    assert session(tmp_path).train([bad, good]) == UsageError.exit_code
    assert finished(good, tmp_path / "results")


def without_data(*_: object) -> None:
    pytest.fail("data were opened")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "bitnt"}, "unknown method 'bitnt'"),
        ({"model": "resnet81"}, "unknown model 'resnet81'"),
        ({"settings": {"thresh": 1}}, "has no setting 'thresh'"),
        ({"recipe": Recipe(batch=1)}, "give a batch of 2 or more"),
        ({"calibration": Calibration(bias_correction=True)}, "bias_correction changes biases"),
    ],
)
@pytest.mark.parametrize("teacher", [None, "bitnet/cifar10/resnet18/fp32/s42"])
def test_options_are_judged_before_data_are_opened_or_parents_trained(
    change: dict[str, object], words: str, teacher: str | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("bitq.train.session.open_data", without_data)
    run = small_run("twn", **({"teacher": teacher} if teacher else {})).model_copy(update=change)
    assert session(tmp_path).train([run]) == UsageError.exit_code
    assert words in capsys.readouterr().err


def test_micro_batches_are_refused_where_they_change_the_mathematics(tmp_path: Path) -> None:
    run = small_run(accumulate=2)
    with pytest.raises(UsageError, match="resnet18 normalises over the batch"):
        one_training(run, tmp_path)


def test_micro_batches_add_up_to_the_batch(tmp_path: Path) -> None:
    weights = []
    for parts in (1, 4):
        run = small_run(
            "bitnet", model="convnext", width=8, accumulate=parts, precision="fp32", optimizer="adamw", lr=1e-3
        )
        training = one_training(run, tmp_path)
        train_step(training, next(training.batches.epoch(0)))
        weights.append(torch.cat([p.detach().flatten() for p in training.model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=3e-4)


def one_training(run: object, folder: Path) -> Training:
    images = open_data(run)  # type: ignore[arg-type]
    batches = training_batches(images, run, CPU)  # type: ignore[arg-type]
    return Training(run, build_network(run, CPU, folder), batches, CPU, folder)  # type: ignore[arg-type]


def test_weight_decay_skips_the_scalars_of_quantizers_but_not_those_of_the_original(tmp_path: Path) -> None:
    for method, count in (("ttq", 42), ("ttq_legacy", 0), ("bitnet", 0)):
        run = small_run(method)
        model = build_network(run, CPU, tmp_path)
        assert len(undecayed(model)) == count
        groups = build_optimizer(model, run.recipe).param_groups
        assert sum(len(g["params"]) for g in groups if g["weight_decay"] == 0) == count
        assert sum(len(g["params"]) for g in groups) == len(list(model.parameters()))


def test_the_optimizers_state_lies_like_its_parameters(tmp_path: Path) -> None:
    training = one_training(small_run("bitnet"), tmp_path)
    batches = list(training.batches.epoch(0))
    train_step(training, batches[0])
    training.save()
    again = one_training(small_run("bitnet"), tmp_path)
    again.resume()
    for t in (training, again):
        t.step = 0
        train_step(t, batches[1])
    for one, other in zip(training.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other) and one.stride() == other.stride()


def test_learning_rate_of_the_published_schedule() -> None:
    recipe = Recipe(epochs=300, lr=0.1, warmup_epochs=5, min_lr=1e-5)
    rates = [lr_at(recipe, epoch, 7, 391) for epoch in range(300)]
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1]) and rates[5] == pytest.approx(0.1)
    assert rates[5:] == sorted(rates[5:], reverse=True) and rates[-1] == pytest.approx(1.28e-5, rel=1e-2)
    steps = Recipe(epochs=200, lr=0.1, schedule="step", milestones=(100, 150))
    assert [lr_at(steps, e, 0, 1) for e in (99, 100, 150)] == pytest.approx([0.1, 0.01, 0.001])
    fine = Recipe(epochs=2, lr=0.1, warmup_epochs=0.5, lr_every="step")
    assert lr_at(fine, 0, 0, 10) == pytest.approx(0.02) and lr_at(fine, 0, 4, 10) == pytest.approx(0.1)
    assert 0 < lr_at(fine, 1, 9, 10) < 0.002


def test_losses_equal_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 8, 5, generator=generator)
    y, y_mix = torch.arange(8) % 5, torch.arange(8) % 3
    log_p = student.log_softmax(1)

    def smoothed(labels: torch.Tensor) -> torch.Tensor:
        target = torch.full((8, 5), 0.1 / 5).scatter_(1, labels[:, None], 0.9 + 0.1 / 5)
        return -(target * log_p).sum(1).mean()

    mixed = cross_entropy(student, y, y_mix, torch.tensor(0.3, dtype=torch.float64), 0.1)
    torch.testing.assert_close(mixed, 0.3 * smoothed(y) + 0.7 * smoothed(y_mix))
    p, q = (teacher / 4).softmax(1), (student / 4).softmax(1)
    torch.testing.assert_close(distillation_term(student, teacher, 4.0), 16 * (p * (p / q).log()).sum(1).mean())
    kd = Distillation.model_construct(temperature=4.0, alpha=0.9)
    loss = loss_of(mixed, student, teacher, kd)
    torch.testing.assert_close(loss.total, 0.1 * mixed + 0.9 * distillation_term(student, teacher, 4.0))


def test_running_out_of_memory_exits_72(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("bitq.train.session.train", full)
    assert session(tmp_path).train([small_run()]) == 72
    assert "a smaller batch would be another run" in capsys.readouterr().err


def test_a_full_disk_exits_74_and_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        run = small_run("bitnet")
        assert session(disk).train([run]) == 74  # two checkpoints of 1.4 MB each do not fit beside a third
        assert not finished(run, disk / "results") and list((disk / "state" / run.hash).glob("*.safetensors"))
        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        assert session(disk).train([run]) == 0 and finished(run, disk / "results")
    finally:
        subprocess.run(["umount", str(disk)], check=False)


@pytest.mark.parametrize("name", RECORDS)
def test_shipped_schemas_are_those_of_the_records(name: str) -> None:
    assert (SCHEMAS / f"{name}.schema.json").read_text() == schema_text(name), "run python -m bitq.results.schema"


def test_the_four_files_are_valid_sorted_and_free_of_nan(tmp_path: Path) -> None:
    import jsonschema

    run = small_run("ttq", teacher="bitnet/cifar10/resnet18/fp32/s42")
    session(tmp_path).train([run])
    for name in RECORDS:
        text = (folder_of(run, tmp_path / "results") / f"{name}.json").read_text()
        value = json.loads(text)
        jsonschema.validate(value, json.loads(schema_text(name)))
        assert "NaN" not in text and text == json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("model", ["vgg16", "mobilenet_v2", "efficientnet_b0", "convnext", "resnet50"])
def test_every_model_takes_a_ternary_step_and_ships(model: str, tmp_path: Path) -> None:
    run = small_run("bitnet", model=model, variant="procedural@10", batch=10, epochs=1, warmup_epochs=0.0, width=8)
    assert session(tmp_path).train([run]) == 0
    done = finished(run, tmp_path / "results")
    assert done and done.results.packed and done.results.packed.audit.coverage == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_each_method_learns_the_procedural_set(method: str, tmp_path: Path) -> None:
    run = small_run(method, variant="procedural", epochs=15, mixup=0.0, label_smoothing=0.0)
    assert session(tmp_path).train([run]) == 0
    done = finished(run, tmp_path / "results")
    assert done and done.results.packed and done.results.packed.accuracy >= (90 if method == "fp32" else 80)
