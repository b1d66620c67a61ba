"""The sampler in one pass over the vocabulary, against the same written plainly over all logits at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unwritten_engine.diffusion.diffusion_gemma.step_rule import accept_tokens
from unwritten_engine.diffusion.sampler import TILE, OutputHead, SamplerOutput, TokenConstraints, sample

COUNT, HIDDEN = 12, 24
VOCABULARIES = [(1024, 128), (1000, 64), (1000, 1024), (70, 64), (63, 64), (4100, 512), (4100, None)]


def head(
    vocabulary: int, *, spread: float = 1.0, cap: float | None = 30.0, dtype: torch.dtype = torch.float32
) -> OutputHead:
    made = torch.Generator().manual_seed(vocabulary)
    weight = torch.randn(vocabulary, HIDDEN, generator=made) * spread
    return OutputHead(weight=weight.to(dtype), embeddings=weight.to(dtype), scale=HIDDEN**0.5, cap=cap)


def states(count: int = COUNT, seed: int = 1) -> Tensor:
    return torch.randn(count, HIDDEN, generator=torch.Generator().manual_seed(seed))


def temperatures(count: int = COUNT) -> Tensor:
    return torch.linspace(0.4, 1.3, count)


def chances(count: int = COUNT) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(2))


def plain_logits(
    hidden: Tensor, head: OutputHead, temperature: Tensor, limits: TokenConstraints | None = None
) -> Tensor:
    logits = hidden.double() @ head.weight.double().t()
    if head.cap is not None:
        logits = (logits / head.cap).tanh() * head.cap
    logits = logits / temperature.double()[:, None]
    return logits if limits is None else logits.masked_fill(~limits.masks[limits.mask_ids], -torch.inf)


def plain(
    hidden: Tensor,
    head: OutputHead,
    temperature: Tensor,
    chance: Tensor,
    limits: TokenConstraints | None = None,
    top: int | None = None,
) -> SamplerOutput:
    logits = plain_logits(hidden, head, temperature, limits)
    shares = logits.softmax(-1)
    passed = shares.cumsum(-1)
    kept = shares
    if top is not None:
        least = shares.topk(top, dim=-1).values[:, -1:]
        kept = torch.where(shares >= least, shares, 0.0)
        kept = kept / kept.sum(-1, keepdim=True)
    return SamplerOutput(
        best=logits.argmax(-1),
        sampled=torch.searchsorted(passed, chance.double()[:, None] * passed[:, -1:], right=True)[:, 0],
        entropy=torch.special.entr(shares).sum(-1).float(),
        soft_embeddings=(kept @ head.embeddings.double()).float() * head.scale,
    )


def check(found: SamplerOutput, wanted: SamplerOutput, *, near: float = 1e-4) -> None:
    assert torch.equal(found.best, wanted.best)
    assert torch.equal(found.sampled, wanted.sampled)
    torch.testing.assert_close(found.entropy, wanted.entropy, atol=near, rtol=near)
    torch.testing.assert_close(found.soft_embeddings, wanted.soft_embeddings, atol=near * 10, rtol=near)


@pytest.mark.parametrize(("vocabulary", "chunk"), VOCABULARIES)
@pytest.mark.parametrize("spread", [0.05, 1.0, 4.0])
def test_one_pass_equals_the_reference(vocabulary: int, chunk: int | None, spread: float) -> None:
    given = (states(), head(vocabulary, spread=spread), temperatures(), chances())
    check(sample(*given, chunk=chunk), plain(*given))


def test_bfloat16_weights_differ_by_their_rounding() -> None:
    rounded = head(4100, dtype=torch.bfloat16)
    hidden = states().bfloat16()
    found = sample(hidden, rounded, temperatures(), chances(), chunk=512)
    wanted = plain(hidden, rounded, temperatures(), chances())
    assert found.soft_embeddings.dtype == torch.bfloat16
    # A product of 24 numbers in bfloat16 is off by one part in 256.
    torch.testing.assert_close(found.entropy, wanted.entropy, atol=0.05, rtol=0.05)
    torch.testing.assert_close(found.soft_embeddings.float(), wanted.soft_embeddings, atol=0.6, rtol=0.1)
    logits = plain_logits(hidden, rounded, temperatures())
    gap = logits.max(-1).values - logits.gather(1, found.best[:, None])[:, 0]
    assert gap.max() < 0.2


@pytest.mark.parametrize("chunk", [64, 256, 2048])
def test_top_k_of_everything_is_the_whole_distribution(chunk: int) -> None:
    given = (states(), head(1000), temperatures(), chances())
    check(sample(*given, top_k=1000, chunk=chunk), plain(*given))


@pytest.mark.parametrize("top", [1, 7, 64, 300])
def test_the_likeliest_tokens_approximate_the_mean(top: int) -> None:
    given = (states(), head(1000), temperatures(), chances())
    check(sample(*given, top_k=top, chunk=128), plain(*given, top=top))


def test_the_error_of_truncation_falls_with_k() -> None:
    given = (states(64), head(4100), temperatures(64), chances(64))
    whole = sample(*given).soft_embeddings
    errors = [
        float((sample(*given, top_k=top).soft_embeddings - whole).norm() / whole.norm())
        for top in (1, 8, 64, 512, 4100)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.2 and errors[3] < 0.05 and errors[4] < 1e-5


def some_limits(vocabulary: int, count: int = COUNT) -> TokenConstraints:
    allowed = torch.ones(4, vocabulary, dtype=torch.bool)
    allowed[1] = False
    allowed[1, vocabulary // 2 : vocabulary // 2 + 10] = True
    allowed[2] = False
    allowed[2, -1] = True  # far behind the first chunk
    allowed[3, : vocabulary // 2] = False
    return TokenConstraints(torch.arange(count) % 4, allowed)


@pytest.mark.parametrize(("vocabulary", "chunk"), VOCABULARIES)
def test_only_allowed_tokens_are_drawn(vocabulary: int, chunk: int | None) -> None:
    given, limits = (states(), head(vocabulary), temperatures(), chances()), some_limits(vocabulary)
    found = sample(*given, constraints=limits, chunk=chunk)
    check(found, plain(*given, limits=limits))
    for token in (found.best, found.sampled):
        assert limits.masks[limits.mask_ids, token].all()
    assert found.entropy[limits.mask_ids == 2].abs().max() < 1e-6
    assert (found.sampled[limits.mask_ids == 2] == vocabulary - 1).all()


def test_many_positions_are_processed_in_tiles() -> None:
    count, table = 2 * TILE + 5, head(700)
    given = (states(count), table, temperatures(count), chances(count))
    limits = some_limits(700, count)
    check(sample(*given, constraints=limits), plain(*given, limits=limits))


def test_sampling_limits_hold_for_every_probability() -> None:
    chance = torch.cat([torch.linspace(0, 1 - 2**-24, 997), torch.tensor([0.0, 2**-24, 1 - 2**-24])])
    hidden = states(1).expand(1000, -1).contiguous()
    limits = TokenConstraints(torch.arange(1000) % 4, some_limits(1000).masks)
    found = sample(hidden, head(1000), torch.full((1000,), 0.7), chance, constraints=limits, chunk=64)
    assert limits.masks[limits.mask_ids, found.sampled].all()
    assert found.sampled.max() < 1000


def test_limits_and_truncation_combine() -> None:
    given, limits = (states(), head(1000), temperatures(), chances()), some_limits(1000)
    found = sample(*given, constraints=limits, top_k=5, chunk=128)
    only = limits.mask_ids == 2
    wanted = given[1].embeddings[-1] * given[1].scale
    torch.testing.assert_close(found.soft_embeddings[only], wanted.expand(int(only.sum()), -1), atol=1e-4, rtol=1e-4)


def test_draws_follow_the_distribution() -> None:
    draws = 60_000
    hidden, table = states(1), head(70)
    chance = torch.rand(draws, generator=torch.Generator().manual_seed(5))
    found = sample(hidden.expand(draws, -1).contiguous(), table, torch.full((draws,), 1.1), chance, chunk=64)
    expected = plain_logits(hidden, table, torch.tensor([1.1])).softmax(-1)[0] * draws
    counts = torch.bincount(found.sampled, minlength=70).double()
    large = expected > 5
    statistic = float(((counts - expected)[large] ** 2 / expected[large]).sum())
    free = int(large.sum())
    assert abs(statistic - free) < 4 * (2 * free) ** 0.5
    assert (counts - expected).abs().sum() / 2 / draws < 0.01  # the total variation


def test_extreme_logits_stop_at_the_cap() -> None:
    table = head(1000, spread=1000.0)
    given = (states() * 100, table, torch.full((COUNT,), 0.4), chances())
    found = sample(*given, chunk=128)
    wanted = plain(*given)
    assert found.entropy.isfinite().all() and found.soft_embeddings.isfinite().all()
    torch.testing.assert_close(found.entropy, wanted.entropy, atol=1e-3, rtol=1e-3)
    # Hundreds of tokens share the cap; the best is one of them, and in float32 the first.
    logits = plain_logits(*given[:3])
    assert (logits.gather(1, found.best[:, None])[:, 0] >= 30 / 0.4 - 1e-3).all()


def test_one_token_may_have_all_probability() -> None:
    table = head(1000)
    hidden = table.weight[700:701].clone()
    given = (hidden, table, torch.tensor([0.05]), torch.tensor([0.999]))
    found = sample(*given, chunk=64)
    assert found.best == found.sampled == 700
    assert 0 <= found.entropy < 1e-5
    torch.testing.assert_close(found.soft_embeddings[0], table.embeddings[700] * table.scale, atol=1e-3, rtol=1e-3)


def test_ties_choose_the_first() -> None:
    weight = torch.ones(300, HIDDEN)
    table = OutputHead(weight, weight, 1.0, 30.0)
    found = sample(torch.ones(1, HIDDEN), table, torch.ones(1), torch.tensor([0.5]), chunk=64)
    assert found.best == 0 and found.sampled == 150
    assert abs(float(found.entropy) - torch.log(torch.tensor(300.0))) < 1e-4


def published_rule(entropy: list[float], bound: float) -> list[bool]:
    """The most positions of lowest entropy whose sum, less the largest of them, does not pass the bound."""
    order = sorted(range(len(entropy)), key=lambda place: entropy[place])
    kept = [False] * len(entropy)
    for k in range(1, len(order) + 1):
        chosen = [entropy[place] for place in order[:k]]
        if sum(chosen) - max(chosen) > bound:
            break
        kept[order[k - 1]] = True
    return kept


@pytest.mark.parametrize("bound", [1e-6, 0.1, 3.0, 1e6])
def test_acceptance_follows_the_published_rule(bound: float) -> None:
    entropy = torch.rand(20, 32, generator=torch.Generator().manual_seed(3), dtype=torch.float64) ** 4 * 4
    found = accept_tokens(entropy, torch.full((20,), bound, dtype=torch.float64))
    assert found.tolist() == [published_rule(row, bound) for row in entropy.tolist()]
    assert found.any(-1).all()


def test_each_row_has_its_own_threshold() -> None:
    entropy = torch.tensor([[1.0, 0.2, 0.3], [1.0, 0.2, 0.3]])
    found = accept_tokens(entropy, torch.tensor([0.1, 0.25]))
    assert found.tolist() == [[False, True, False], [False, True, True]]


@pytest.mark.parametrize(("vocabulary", "chunk"), VOCABULARIES)
@pytest.mark.parametrize("spread", [0.05, 1.0, 4.0])
def test_a_head_may_have_no_cap(vocabulary: int, chunk: int | None, spread: float) -> None:
    given = (states(), head(vocabulary, spread=spread, cap=None), temperatures(), chances())
    check(sample(*given, chunk=chunk), plain(*given))
    limits = some_limits(vocabulary)
    check(sample(*given, constraints=limits, chunk=chunk), plain(*given, limits=limits))


def test_a_padded_table_is_given_as_slices() -> None:
    """The tokens behind the real vocabulary, which would have all probability, have none."""
    whole = head(1100, cap=None)
    whole.weight[1000:] *= 100
    table = OutputHead(whole.weight[:1000], whole.embeddings[:1000], 1.0, None)
    given = (states(200), table, temperatures(200), chances(200))
    for chunk in (64, 512, 2048):
        found = sample(*given, chunk=chunk)
        check(found, plain(*given))
        assert max(found.best.max(), found.sampled.max()) < 1000


def present_tokens(vocabulary: int, count: int = COUNT) -> Tensor:
    tokens = torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(3))
    tokens[:2] = torch.tensor([0, vocabulary - 1])
    return tokens


@pytest.mark.parametrize(("vocabulary", "chunk"), VOCABULARIES)
@pytest.mark.parametrize("cap", [30.0, None])
def test_the_probability_of_present_tokens(vocabulary: int, chunk: int | None, cap: float | None) -> None:
    given, limits = (states(), head(vocabulary, cap=cap), temperatures(), chances()), some_limits(vocabulary)
    present = present_tokens(vocabulary)
    for held in (None, limits):
        found = sample(*given, present=present, constraints=held, chunk=chunk)
        wanted = plain_logits(*given[:3], held).softmax(-1).gather(1, present[:, None])[:, 0]
        assert found.present_probability is not None
        torch.testing.assert_close(found.present_probability.double(), wanted, atol=1e-7, rtol=1e-4)
        check(found, sample(*given, constraints=held, chunk=chunk), near=0)
    allowed = limits.masks[limits.mask_ids, present]
    assert found.present_probability is not None
    assert not allowed.all() and (found.present_probability[~allowed] == 0).all()
    assert sample(*given).present_probability is None


def test_the_probability_of_present_tokens_in_tiles() -> None:
    count = TILE + 40
    given = (states(count), head(700), temperatures(count), chances(count))
    found = sample(*given, present=present_tokens(700, count)).present_probability
    wanted = plain_logits(*given[:3]).softmax(-1).gather(1, present_tokens(700, count)[:, None])[:, 0]
    assert found is not None
    torch.testing.assert_close(found.double(), wanted, atol=1e-7, rtol=1e-4)


def test_a_token_outside_of_the_vocabulary_has_no_probability() -> None:
    found = sample(states(3), head(70), temperatures(3), chances(3), present=torch.tensor([-1, 70, 5000]))
    assert found.present_probability is not None and (found.present_probability == 0).all()
