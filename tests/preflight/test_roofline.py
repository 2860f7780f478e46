"""Step times by hand, on a chip of round figures."""

import pytest

from mqsa_jax.errors import SettingError
from mqsa_jax.preflight.hlo import Collective
from mqsa_jax.preflight.roofline import encoder_flops, exchange_seconds, logit_flops, step_time
from mqsa_jax.preflight.targets import Chip, Target

RATES = dict(flops=1000.0, memory_bandwidth=100.0, link_bandwidth=10.0)
CHIP = Chip("round", "tpu", 16, **RATES, source="")
NUMBERS = dict(
    flops=500, logit_bytes=25, parameter_bytes=10, moment_bytes=60, exchanges=(), kernels=100
)


def test_arithmetic_and_memory():
    time = step_time(CHIP, **NUMBERS)
    assert time.arithmetic == 500 / 1000
    # Logits four times, parameters eight times, moments twice.
    assert time.memory == (4 * 25 + 8 * 10 + 2 * 60) / 100
    assert time.total == 3.0


def test_a_gpu_has_half_the_rate_and_pays_for_launches():
    chip = Chip("round", "cuda", 16, **RATES, source="")
    time = step_time(chip, **NUMBERS)
    assert time.arithmetic == 1.0
    assert time.launches == pytest.approx(100 * 4e-6)
    assert time.total == pytest.approx(3.0 + 4e-4)


def test_exchanges_go_by_rings():
    exchanges = [Collective("all-reduce", 100, 4, 1), Collective("all-gather", 100, 4, 2)]
    # 2 * 3/4 of 100 bytes, and twice 3/4 of 100.
    assert exchange_seconds(exchanges, CHIP) == (150 + 150) / 10
    assert exchange_seconds([Collective("all-reduce", 100, 0, 1)], CHIP) == 20
    assert exchange_seconds([Collective("all-reduce", 100, 1, 1)], CHIP) == 0


def test_flops():
    # 3 products of 7 rows, width 5, 11 items: 2 * 7 * 5 * 11 each.
    assert logit_flops(7, 5, 11) == 3 * 770
    # Per position and block: 10 products of 5 x 5, and of 3 rows of 4 weights in 2 branches.
    assert encoder_flops(7, 5, 4, 2) == 3 * 2 * 2 * 7 * (10 * 25 + 6 * 4 * 5)


@pytest.mark.parametrize(
    ("topology", "chips", "accelerator"),
    [
        ("v5e:2x2", 4, "v5litepod-4"),
        ("v5e:16x16", 256, "v5litepod-256"),
        ("v6e:16x16", 256, "v6e-256"),
        ("v5p:2x2x4", 16, "v5p-32"),
        ("h100", 1, None),
        ("8xh100", 8, None),
    ],
)
def test_topologies(topology, chips, accelerator):
    target = Target.of(topology)
    assert target.num_chips == chips
    assert target.environment().get("TPU_ACCELERATOR_TYPE") == accelerator


@pytest.mark.parametrize(
    "topology", ["", "v5e", "v5e:", "v5e:4", "v4:2x2", "0xh100", "h100:2x2", "v5e:0x2"]
)
def test_what_is_no_topology_is_told(topology):
    with pytest.raises(SettingError, match="like v5e:16x16"):
        Target.of(topology)
