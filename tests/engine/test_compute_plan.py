"""Which precision a machine computes in is a property of the machine, not of the moment."""

from pathlib import Path

import pytest
import torch

from compact_biomed.engine import plan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512f avx512_bf16\n",
            ("AuthenticAMD", {"fpu", "avx512f", "avx512_bf16"}),
        ),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", ("", {"fp", "asimd", "bf16"})),
        ("model name\t: unknown\n", ("", set())),
    ],
)
def test_vendor_and_flags_of_the_processor(tmp_path: Path, text: str, expected: tuple[str, set[str]]) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert plan.processor(str(tmp_path / "cpuinfo")) == expected
    assert plan.processor(str(tmp_path / "none")) == ("", set())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU decides otherwise")
@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("AuthenticAMD", {"avx512_bf16"}, True),
        ("AuthenticAMD", {"avx2"}, False),
        ("GenuineIntel", {"avx512_bf16"}, False),
        ("GenuineIntel", {"avx512_bf16", "amx_bf16"}, True),
        ("", {"bf16"}, True),
    ],
)
def test_known_flags_decide_without_a_timing(
    monkeypatch: pytest.MonkeyPatch, vendor: str, flags: set[str], expected: bool
) -> None:
    def timed(*_, **__):
        raise AssertionError("timed")

    monkeypatch.setattr(plan, "processor", lambda: (vendor, flags))
    monkeypatch.setattr(plan, "matmul_ceiling", timed)
    plan.bf16_is_faster.cache_clear()
    try:
        assert plan.bf16_is_faster() is expected
    finally:
        plan.bf16_is_faster.cache_clear()
