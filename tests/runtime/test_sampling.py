"""sampler_steps: the order, what is left out, and the seed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsafe_common.chat import Sampling
from chatsafe_runtime.worker.sampling import (
    REPEAT_WINDOW_TOKENS,
    Draw,
    Greedy,
    LogitBias,
    MinP,
    Penalties,
    Temperature,
    TopK,
    TopP,
    TypicalP,
    UnknownToken,
    engine_seed,
    sampler_steps,
)


def test_everything_in_order() -> None:
    sampling = Sampling(
        temperature=0.7,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        typical_p=0.8,
        repeat_penalty=1.1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        seed=7,
        logit_bias=((3, -100.0),),
    )
    assert sampler_steps(sampling, 1000, 99) == (
        LogitBias(((3, -100.0),)),
        Penalties(REPEAT_WINDOW_TOKENS, 1.1, 0.0, 0.0),
        Penalties(99, 1.0, -0.5, 0.5),
        TopK(40),
        TypicalP(0.8),
        TopP(0.9),
        MinP(0.05),
        Temperature(0.7),
        Draw(7),
    )


def test_what_has_no_effect_is_left_out() -> None:
    off = Sampling(
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        min_p=0.0,
        typical_p=1.0,
        repeat_penalty=1.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        seed=1,
    )
    assert sampler_steps(off, 1000, 99) == (Draw(1),)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.0, top_k=40, seed=1),
        Sampling(top_p=0.0, temperature=1.5),
        Sampling(top_k=1),
    ],
)
def test_the_single_best_token(sampling: Sampling) -> None:
    assert sampler_steps(sampling, 1000, 99) == (Greedy(),)


def test_greedy_keeps_bias_and_penalties() -> None:
    sampling = Sampling(temperature=0.0, repeat_penalty=1.2, logit_bias=((1, 5.0),))
    assert sampler_steps(sampling, 10, 99) == (
        LogitBias(((1, 5.0),)),
        Penalties(REPEAT_WINDOW_TOKENS, 1.2, 0.0, 0.0),
        Greedy(),
    )


@pytest.mark.parametrize("token", [-1, 10])
def test_a_bias_of_an_unknown_token_is_refused(token: int) -> None:
    with pytest.raises(UnknownToken, match=f"token {token}, .* 0 to 9"):
        sampler_steps(Sampling(logit_bias=((token, 1.0),)), 10, 99)


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_seed_fits_and_stays_the_same(seed: int) -> None:
    assert 0 <= engine_seed(seed) < 0xFFFFFFFF
    assert engine_seed(seed) == engine_seed(seed)


def test_no_seed_is_drawn() -> None:
    assert len({engine_seed(None) for _ in range(8)}) > 1
    assert engine_seed(0xFFFFFFFF) != 0xFFFFFFFF
