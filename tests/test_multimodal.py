"""Pairs of an image and a sentence: the pairing, the inputs of the network, and the bytes by modality."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from torch import Tensor, nn

from bitq import models
from bitq.data.importers import import_set
from bitq.data.loader import Batches, evaluation_batches
from bitq.data.pairs import class_names, draw_sentences, draw_sentiments, pair
from bitq.data.registry import Variant, download, registered, variant
from bitq.data.sentences import encode, read_sentences, vocabulary_of
from bitq.data.store import ImageSet, open_set, status, write_set
from bitq.deploy.audit import audit_file
from bitq.deploy.export import export
from bitq.deploy.load import load
from bitq.deploy.verify import verify
from bitq.errors import DataError, UsageError
from bitq.grid.expand import expand
from bitq.measure.packed_file import evaluate_file
from bitq.quant.convert import convert, quantized_layers
from bitq.quant.registry import METHODS
from bitq.results.folder import folder_of, read
from bitq.run import Recipe
from tests.support import session, small_run

READERS = models.names(reads=True)
GEOMETRY = {"classes": 20, "width": 4, "channels": 1, "image_size": 16, "words": 12, "vocabulary": 64}
ROWS = [
    ("train", "A good film", 1), ("train", "a bad film", 0), ("train", "Good", 1), ("train", "bad bad", 0),
    ("train_dev", "a bad film", 0), ("train_dev", "very bad", 0), ("validation", "very good", 1),
]  # fmt: skip


def table(path: Path, rows: list[tuple[str, str, int]] = ROWS) -> Path:
    columns = dict(zip(("split", "text", "label"), map(list, zip(*rows, strict=True)), strict=True))
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return open_set(variant("fashion_sst2", "procedural"), tmp_path_factory.mktemp("data"))


def inputs(count: int = 4) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(count, 1, 16, 16, generator=draw).to(memory_format=torch.channels_last)
    return images, torch.randint(0, 64, (count, 12), generator=draw)


# --- the data -----------------------------------------------------------------------------------------------------


def test_test_sentences_that_are_also_in_training_are_left_out(tmp_path: Path) -> None:
    train, test = read_sentences(table(tmp_path / "s.parquet"))
    assert (train.texts, train.labels.tolist()) == (("A good film", "a bad film", "Good", "bad bad"), [1, 0, 1, 0])
    assert (test.texts, test.labels.tolist()) == (("very good", "very bad"), [1, 0])


def test_words_come_from_the_training_sentences_alone(tmp_path: Path) -> None:
    train, test = read_sentences(table(tmp_path / "s.parquet"))
    vocabulary = vocabulary_of(train.texts, 10)
    assert vocabulary == ("", "<unknown>", "bad", "a", "film", "good")
    assert encode(test.texts, vocabulary, 3).tolist() == [[1, 5, 0], [1, 2, 0]]


def test_every_pair_of_category_and_sentiment_is_equally_frequent() -> None:
    categories = (np.arange(400) % 10).astype(np.uint8)
    labels = 2 * categories + draw_sentiments(categories, "train")
    assert np.bincount(labels).tolist() == [20] * 20
    assert draw_sentiments(categories, "test").tolist() != draw_sentiments(categories, "train").tolist()


def test_no_sentence_is_used_twice_before_each_of_its_sentiment_is_used_once() -> None:
    sentiments, labels = np.arange(50) % 2, np.array([0, 1, 1, 0, 0, 1, 0])
    chosen = draw_sentences(sentiments, labels, "train")
    assert (labels[chosen] == sentiments).all()
    for sentiment, times in ((0, (6, 7)), (1, (8, 9))):
        used = np.bincount(chosen[sentiments == sentiment], minlength=7)[labels == sentiment]
        assert {int(count) for count in used} <= set(times)
    assert (draw_sentences(sentiments, labels, "train") == chosen).all()


def test_a_set_of_pairs_is_kept_with_its_words_and_checked_byte_by_byte(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x, y = draw.integers(0, 256, (40, 8, 8, 1), np.uint8), np.arange(40, dtype=np.uint8) % 10
    images = ImageSet(x, y, x, y, tuple("abcdefghij"), variant("fashion_mnist", "procedural"))
    size = {"name": "mine", "image_size": 8, "train": 40, "test": 40, "words": 3, "vocabulary": 6}
    whole = Variant.model_validate(variant("fashion_sst2").model_dump() | size | {"digest_kind": "archive"})
    arrays, vocabulary = pair(images, *read_sentences(table(tmp_path / "s.parquet")), whole)
    folder = write_set(whole, arrays, class_names(images.classes), tmp_path, vocabulary)
    stored = open_set(whole, tmp_path)
    assert stored.t_train is not None and stored.t_train.dtype == np.uint16 and stored.t_train.shape == (40, 3)
    assert stored.classes and stored.classes[:2] == ("a, negative", "a, positive")
    tokens = bytearray((folder / "t_test.npy").read_bytes())
    tokens[-1] ^= 1
    (folder / "t_test.npy").write_bytes(tokens)
    assert status(whole, tmp_path) == "damaged"
    with pytest.raises(DataError, match=r"t_test.npy is damaged .* `bitq data import fashion_sst2 FILE"):
        open_set(whole, tmp_path)


def test_what_pairs_are_made_of_is_said_where_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run `bitq data fetch fashion_mnist`, then `bitq data import fashion_sst2"):
        download("fashion_sst2")
    with pytest.raises(DataError, match="get it by `bitq data fetch fashion_mnist`"):
        import_set("fashion_sst2", table(tmp_path / "s.parquet"), data_dir=tmp_path)


@pytest.mark.parametrize(
    ("rows", "words"),
    [([row for row in ROWS if row[2]], "have the labels"), ([("train", "x", 3), *ROWS], "have the labels")],
)
def test_sentences_without_two_sentiments_are_refused(
    tmp_path: Path, rows: list[tuple[str, str, int]], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read_sentences(table(tmp_path / "s.parquet", rows))


def test_neither_half_of_a_procedural_pair_tells_the_label(pairs: ImageSet) -> None:
    # By construction: the sentiment is balanced within every category, and the category within every sentiment.
    assert pairs.t_train is not None
    assert set(np.bincount(pairs.y_train, minlength=20)) == {128}
    pleasant = ((pairs.t_train >= 10) & (pairs.t_train < 18)).any(1)
    unpleasant = ((pairs.t_train >= 2) & (pairs.t_train < 10)).any(1)
    assert (pleasant == (pairs.y_train % 2 == 1)).all() and (unpleasant == ~pleasant).all()


def test_an_image_its_sentence_and_its_label_stay_together(pairs: ImageSet) -> None:
    batches = Batches(pairs, Recipe(batch=64, augment="none", validation=0.1), 1, "cpu")
    assert pairs.t_train is not None
    known = {row.tobytes(): label for row, label in zip(pairs.t_train, pairs.y_train, strict=True)}
    seen = 0
    for x, y in [*((batch.x, batch.y) for batch in batches.epoch(0)), *batches.held_out]:
        assert isinstance(x, tuple)
        for tokens, label in zip(x[1].numpy().astype(np.uint16), y.tolist(), strict=True):
            assert known[tokens.tobytes()] % 2 == label % 2
        seen += len(y)
    assert seen == len(pairs.y_train)
    (first, _), *_ = evaluation_batches(pairs.x_test, pairs.y_test, "half", 9, "cpu", pairs.t_test)
    assert pairs.t_test is not None and (first[1].numpy() == pairs.t_test[:9]).all()


# --- the network --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "blanked"), [("fusion_text_only", 0), ("fusion_image_only", 1)])
def test_a_control_is_the_same_network_that_does_not_see_one_input(name: str, blanked: int) -> None:
    control, whole = (models.build(each, **GEOMETRY).eval() for each in (name, "gated_fusion"))
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in control.state_dict().items())
    one, other = inputs(), tuple(part.flip(0) for part in inputs())
    swapped = (other[0], one[1]) if blanked == 0 else (one[0], other[1])
    assert torch.equal(control(one), control(swapped)) and not torch.equal(whole(one), whole(swapped))


def test_the_length_of_the_padding_changes_nothing() -> None:
    images, tokens = inputs()
    model = models.build("gated_fusion", **GEOMETRY).eval()
    longer = nn.functional.pad(tokens, (0, 5))
    torch.testing.assert_close(model((images, longer)), model((images, tokens)))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_packs_and_reads_back_both_inputs(method: str, tmp_path: Path) -> None:
    model = convert(models.build("gated_fusion", **GEOMETRY), method).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    nn.functional.cross_entropy(model.train()(inputs(8)), torch.arange(8)).backward()
    optimizer.step()
    for layer in quantized_layers(model).values():
        with torch.no_grad():
            layer.quantizer.project_(layer.weight)
    export(model, {"model": "gated_fusion", "method": method, **GEOMETRY}, tmp_path / "m.safetensors")
    verify(model, tmp_path / "m.safetensors", inputs(), "bf16")
    packed = {layer.name for layer in audit_file(tmp_path / "m.safetensors").layers}
    assert not packed or packed == models.weight_layers(model).keys()  # the word vectors among them


def test_word_vectors_left_in_full_precision_are_counted_as_such(tmp_path: Path) -> None:
    model = convert(models.build("gated_fusion", **GEOMETRY), "twn", keep=("text.embedding",))
    export(
        model,
        {"model": "gated_fusion", "method": "twn", "keep": ["text.embedding"], **GEOMETRY},
        tmp_path / "m.safetensors",
    )
    found = audit_file(tmp_path / "m.safetensors")
    assert found.float_weights == 64 * 8 and 0 < found.coverage < 1


def test_each_modality_has_the_share_of_zeros_that_the_study_gives_it(tmp_path: Path) -> None:
    run = next(run for run in expand("multimodal", "smoke") if run.arm == "atq")
    model = convert(models.build(run.model, **GEOMETRY), run.method, run.settings)
    for name, layer in quantized_layers(model).items():
        share = {"image": 0.3, "text": 0.2}.get(name.partition(".")[0], 0.15)
        zeros, count = int((layer.quantizer(layer.weight) == 0).sum()), layer.weight.numel()
        assert abs(zeros - share * count) <= 1, name


def test_a_run_on_pairs_ends_with_the_accuracy_of_its_file(tmp_path: Path) -> None:
    run = small_run("atq", model="gated_fusion", dataset="fashion_sst2", mixup=0.0)
    assert session(tmp_path).train([run]) == 0
    folder = folder_of(run, tmp_path / "results")
    packed = read(folder).results.packed
    assert packed and evaluate_file(folder / "model.safetensors", None, None, "cpu")["accuracy"] == packed.accuracy
    assert load(folder / "model.safetensors")[1]["words"] == 12


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "gated_fusion", "dataset": "fashion_sst2", "mixup": 0.2}, "halfway between two sentences"),
        ({"model": "resnet18", "dataset": "fashion_sst2", "mixup": 0.0}, "resnet18 takes images alone; .*gated_fusion"),
        ({"model": "gated_fusion", "dataset": "mnist"}, "gated_fusion takes images with sentences; .*resnet18"),
    ],
)
def test_what_makes_no_sense_with_sentences_is_refused(
    tmp_path: Path, options: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert session(tmp_path).train([small_run("fp32", **options)]) == UsageError.exit_code
    assert re.search(words, capsys.readouterr().err)


def test_every_form_of_the_pairs_has_licence_and_citation() -> None:
    assert all(one.licence and one.citation for one in registered("fashion_sst2").values())
