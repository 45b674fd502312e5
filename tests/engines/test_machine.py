"""What is shared out is not shared out twice; and one processor computes as another does."""

import os
from pathlib import Path

import pytest

from pipeline.engines import machine


@pytest.mark.parametrize("count", [1, 2, 3, 50])
@pytest.mark.parametrize("gpus", [[], ["0"], ["2", "5"]])
def test_no_place_takes_anothers_threads_nor_more_than_its_turn_of_the_gpus(
    monkeypatch: pytest.MonkeyPatch, count: int, gpus: list[str]
) -> None:
    monkeypatch.setattr(machine, "devices", lambda: gpus)
    monkeypatch.setattr(machine, "cores", lambda: 8)
    places = machine.worker_environments(count)
    assert len(places) == count
    assert sum(int(place["OMP_NUM_THREADS"]) for place in places) <= max(8, count)
    turns = [place.get("CUDA_VISIBLE_DEVICES") for place in places]
    assert {turns.count(gpu) for gpu in gpus} <= {count // max(1, len(gpus)), -(-count // max(1, len(gpus)))}
    assert set(turns) <= set(gpus or [None])
    assert machine.capacity() == (len(gpus) or 8)


@pytest.mark.parametrize(
    ("flags", "said", "expected"),
    [
        ("fpu avx avx2 avx512f avx512dq", {}, machine.WITHOUT_AVX512),
        ("fpu avx avx2", {}, {}),
        (None, {}, {}),
        (
            "fpu avx2 avx512f",
            {"ATEN_CPU_CAPABILITY": "avx512"},
            machine.WITHOUT_AVX512 | {"ATEN_CPU_CAPABILITY": "avx512"},
        ),
    ],
    ids=["AVX-512", "AVX2 alone", "no Linux", "who asks for it gets it"],
)
def test_avx512_is_left_alone_where_it_is(
    flags: str | None,
    said: dict[str, str],
    expected: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(os, "environ", dict(said))
    if flags is not None:
        machine.CPUINFO.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbogomips\t: 5200\n\n")
    machine.disable_avx512()
    assert os.environ == expected
