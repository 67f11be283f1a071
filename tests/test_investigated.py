"""Cases that were investigated name arms of the grid and records that are there."""

from bitq.grid.select import grid
from bitq.report.investigated import cases, tried


def test_every_case_is_about_arms_of_the_grid() -> None:
    arms = {f"{run.study}/{run.data.dataset}/{run.model}/{run.arm}" for run in grid("full")}
    assert not {arm for case in cases() for arm in case.arms} - arms


def test_every_further_run_has_its_record() -> None:
    assert {name for case in cases() for name in case.tried} == set(tried())
    assert all(len(record["file_sha256"]) == len(record["hash"]) == 64 for record in tried().values())
