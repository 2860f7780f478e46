"""Kernels, loops and exchanges read from the text of compiled programs.

The texts are of two compiles, of Toys for one H100 and of 10,000 items for four TPU v5e as data=2,
model=2, from which most instructions are left out.
"""

from pathlib import Path

import pytest

from mqsa_jax.preflight.hlo import Collective, largest_arrays, step_profile

GPU, TPU = (Path(__file__).with_name(f"{name}_step.hlo").read_text() for name in ("gpu", "tpu"))


def test_kernels_and_loops_of_a_step_on_a_gpu():
    profile = step_profile(GPU)
    # Six in the step itself and four in each of its three loops; `searchsorted` knows its turns.
    assert (profile.kernels, profile.inner_loops, profile.host_loops) == (6 + 3 * 4, 3, 2)
    assert profile.collectives == ()


def test_exchanges_of_a_step_on_tpus():
    """Rows looked up, chunks of the softmax three times each, gradients of rows, gradients."""
    profile = step_profile(TPU, unknown_turns=3)
    assert (profile.kernels, profile.inner_loops) == (6 + 2 * 3, 2)
    gradients = 22 * 64 + 10 * 64 * 64 + 5000 * 64 + 50 * 64 + 3
    assert profile.collectives == (
        Collective("all-reduce", 4 * (23 * 50 + 1127) * 64, 2, 1),
        Collective("all-reduce", 4 * 2048, 2, 3),
        Collective("all-reduce", 4 * 2048, 2, 3),
        Collective("all-reduce", 4 * 512, 2, 3),
        Collective("all-reduce", 4 * 512, 2, 3),
        Collective("all-reduce", 4 * ((2277 + 1150 + 1127 + 1) * 64 + 2), 2, 1),
        Collective("all-reduce", 4 * gradients, 2, 1),
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "%a = (f32[4,8]{1,0}, f32[16,8]{1,0}) all-gather-start(%b), "
            "replica_groups=[2,4]<=[8], dimensions={0}",
            Collective("all-gather", 16 * 8 * 4, 4, 1),
        ),
        (
            "%a = bf16[4,8]{1,0} reduce-scatter(%b), replica_groups={{0,1,2,3}}, dimensions={0}",
            Collective("reduce-scatter", 4 * 4 * 8 * 2, 4, 1),
        ),
        (
            "%a = s32[10]{0} collective-permute(%b), source_target_pairs={{0,1},{1,0}}",
            Collective("collective-permute", 40, 2, 1),
        ),
    ],
)
def test_bytes_of_an_exchange(line, expected):
    text = f"""HloModule m

%body (p: s32[]) -> s32[] {{
  {line}
}}

ENTRY %main (p: s32[]) -> s32[] {{
  %w = s32[] while(%p), condition=%c, body=%body
}}
"""
    assert step_profile(text).collectives == (expected,)


def test_exchanges_within_a_fusion_count():
    text = """HloModule m

%async (p: f32[2]) -> f32[8] {
  %g = f32[8]{0} all-gather(%p), replica_groups={{0,1,2,3}}, dimensions={0}
}

%body (p: s32[]) -> s32[] {
  %f = f32[8]{0} fusion(%p), kind=kCustom, calls=%async
}

ENTRY %main (p: s32[]) -> s32[] {
  %w = s32[] while(%p), condition=%c, body=%body
}
"""
    profile = step_profile(text)
    assert (profile.kernels, profile.collectives) == (1, (Collective("all-gather", 32, 4, 1),))


def test_a_program_without_a_loop_is_told():
    with pytest.raises(ValueError, match="no loop over steps"):
        step_profile("ENTRY %main (p: s32[]) -> s32[] {\n}\n")
    with pytest.raises(ValueError, match="ENTRY"):
        step_profile("HloModule m\n")


def test_the_largest_arrays_come_first():
    (size, name, origin), *_ = largest_arrays(GPU, 3)
    assert (size, name) == (3464 * 11924 * 4, "f32[3464,11924]")
    assert "dot_general" in origin
