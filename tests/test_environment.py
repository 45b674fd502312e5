"""All processors of one maker compute alike."""

import os
from pathlib import Path

import pytest

from pipeline import environment
from pipeline.environment import AVX2_VARIABLES

AVX512 = "fpu avx avx2 avx512f avx512dq"


@pytest.mark.parametrize(
    ("flags", "variables", "expected"),
    [
        (AVX512, {}, AVX2_VARIABLES),
        (AVX512, {"ATEN_CPU_CAPABILITY": "avx512"}, AVX2_VARIABLES | {"ATEN_CPU_CAPABILITY": "avx512"}),
        ("fpu avx avx2", {}, {}),
        (None, {}, {}),
    ],
    ids=["AVX-512", "AVX-512 requested by the user", "AVX2 alone", "no Linux"],
)
def test_avx512_is_used_only_where_the_user_requests_it(
    flags: str | None,
    variables: dict,
    expected: dict,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(environment, "CPU_INFO_FILE", tmp_path / "cpuinfo")
    monkeypatch.setattr(os, "environ", dict(variables))
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\nbogomips\t: 5200\n\n")
    environment.disable_avx512()
    assert os.environ == expected
