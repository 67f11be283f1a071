"""Runs of zero epochs, schedules, and what data decides before the first step."""

from pathlib import Path

from bitq.results.folder import MODEL, folder_of, read
from tests.support import session, small_run


def test_a_run_of_zero_epochs_ships_its_start_as_it_is(tmp_path: Path) -> None:
    session(tmp_path).train([parent := small_run()])
    start = str(folder_of(parent, tmp_path / "results") / MODEL)
    run = small_run("fp32", start=start, epochs=0)
    assert session(tmp_path).train([run]) == 0
    one, other = (read(folder_of(each, tmp_path / "results")) for each in (parent, run))
    assert other.results.packed and one.results.packed and other.results.packed.correct == one.results.packed.correct
    assert other.history.test_accuracy == () and other.results.best_accuracy is None


def test_an_online_teacher_learns_beside_its_student(tmp_path: Path) -> None:
    run = small_run("twn", teacher="online")
    assert session(tmp_path).train([run]) == 0
    history = read(folder_of(run, tmp_path / "results")).history
    assert history.teacher_loss[-1] < history.teacher_loss[0]
