"""What a run shows while it trains: on a terminal, and in a log."""

import io
import re
import time

import pytest

from bitq.train.board import Board
from bitq.train.progress import Progress

TITLE = "bitnet/cifar10/resnet18/bitnet-keep_conv1-kd/s42"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, columns: int = 80, term: str = "xterm") -> str:
    """Two epochs of four steps of 100 images, a second each; evaluating takes 50 seconds."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", term)
    with Progress(TITLE, 2, 4, stream=stream) as progress:
        for epoch in range(2):
            progress.begin("training")
            for step in range(4):
                now[0] += 1
                progress.step(epoch, step + 1, 100)
            for _ in progress.watch("evaluating", range(5)):
                now[0] += 10
            progress.epoch(epoch, 1.25, 80.5)
        progress.begin("packing")
        progress.close("80.50 % from 174,000 bytes")
    return stream.getvalue()


def test_a_log_gets_one_plain_line_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(io.StringIO(), monkeypatch).splitlines() == [
        f"{TITLE}  epoch 1/2  loss 1.250  test 80.50 %  54 s left  100 images/s",
        f"{TITLE}  epoch 2/2  loss 1.250  test 80.50 %  0 s left  100 images/s",
        f"{TITLE}  80.50 % from 174,000 bytes",
    ]


def test_a_terminal_keeps_a_line_an_epoch_and_redraws_one_within_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (80, 30):
        text = shown(Terminal(), monkeypatch, columns)
        drawn = [part for line in text.split("\n") for part in CONTROL.split(line) if part]
        assert max(map(len, (part for part in drawn if part.startswith(("train", "eval", "pack"))))) <= columns
        for phase in ("training  0.2/2", "evaluating 60 %  1.0/2", "packing  2.0/2"):
            assert any(part.startswith(phase) for part in drawn)
        assert [part for part in drawn if part.startswith(("epoch", TITLE, "80.50"))] == [
            TITLE,
            "epoch 1/2  loss 1.250  test 80.50 %  54 s left  100 images/s",
            "epoch 2/2  loss 1.250  test 80.50 %  0 s left  100 images/s",
            "80.50 % from 174,000 bytes",
        ]
        assert text.count("\x1b[?25h") >= 1 and text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_terminal_that_cannot_redraw_gets_the_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(Terminal(), monkeypatch, term="dumb") == shown(io.StringIO(), monkeypatch)


def test_runs_side_by_side_are_one_table_on_a_terminal_and_plain_lines_in_a_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    said = [f"{TITLE}  epoch 1/2  loss 1.250  test 80.50 %\n", "bitq: a sentence\n", f"{TITLE}  80.50 % from 9 bytes\n"]
    texts = []
    for stream in (Terminal(), io.StringIO()):
        with Board(3, stream) as board:
            board.begin(TITLE)
            for line in said:
                board.hear(line)
            board.end(TITLE)
        texts.append(stream.getvalue())
    drawn, log = texts
    assert log == "".join(said)
    for part in (
        "0 of 3 runs over, 1 in training, 2 waiting",
        "epoch 1/2  loss 1.250",
        "1 of 3 runs over, 0 in training",
    ):
        assert part in drawn
    assert "80.50 % from 9 bytes" in drawn and "bitq: a sentence" in drawn
    assert max(len(part) for line in drawn.split("\n") for part in CONTROL.split(line)) <= 80
