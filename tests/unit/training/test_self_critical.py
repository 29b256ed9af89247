"""Sampling, the reward and the policy gradient of self-critical training."""

from __future__ import annotations

import pytest
import torch

from captioner.data import normalize_caption
from captioner.data.collate import decoder_input
from captioner.decoding import sample
from captioner.metrics import CiderD, bleu
from captioner.tokenizer import BOS, EOS, PAD, Tokenizer
from captioner.training.loss import CaptionReward, advantages, self_critical_loss

REFERENCES = [
    ["a brown dog runs on the grass", "a dog is running", "a dog with a ball in its mouth"],
    ["two people stand on a beach", "a man and a woman at the sea"],
    ["a child climbs a red ladder", "a girl on a ladder"],
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([t for texts in REFERENCES for t in texts] * 5, vocab_size=330)


def ids(tokenizer: Tokenizer, text: str, *, ended: bool = True, length: int = 30) -> list[int]:
    result = tokenizer.encode(text)[: None if ended else -1]
    return result + [PAD] * (length - len(result))


def test_samples_follow_the_distribution_and_stop_at_eos():
    torch.manual_seed(0)
    logits = torch.tensor([-9.0, -9, -9, 0.5, 1.0, 0.0])  # EOS is 3
    step = lambda tokens: logits.expand(*tokens.shape, 6)  # noqa: E731
    drawn = sample(step, torch.rand(6, 40, 100), bos=BOS, eos=EOS, pad=PAD)
    assert drawn.shape[:2] == (40, 100)
    assert drawn.shape[2] <= 6
    first = drawn[..., 0].flatten()
    frequencies = torch.bincount(first, minlength=6) / len(first)
    torch.testing.assert_close(frequencies, logits.softmax(0), atol=0.03, rtol=0)
    after = (drawn == EOS).cumsum(-1).roll(1, -1)
    after[..., 0] = 0
    assert (drawn[after > 0] == PAD).all()
    assert (drawn[after == 0] != PAD).all()


def test_samples_depend_on_the_draws():
    def draw(seed):
        torch.manual_seed(seed)
        step = lambda tokens: torch.zeros(*tokens.shape, 9)  # noqa: E731
        return sample(step, torch.rand(5, 3, 4), bos=BOS, eos=EOS, pad=PAD)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_baseline_is_the_mean_of_the_other_samples():
    rewards = torch.rand(3, 5, dtype=torch.float64)
    result = advantages(rewards, 5)
    for b in range(3):
        for k in range(5):
            others = [rewards[b, j] for j in range(5) if j != k]
            assert result[b, k] == pytest.approx(rewards[b, k] - sum(others) / 4)


def test_baseline_is_the_greedy_caption_if_there_is_one():
    rewards = torch.tensor([[0.5, 1.0, 0.75], [0.0, 0.25, 0.5]])
    assert advantages(rewards, 2).tolist() == [[-0.25, 0.25], [-0.5, -0.25]]


def test_bleu_4_is_added_with_its_weight(tokenizer):
    references = dict(enumerate(REFERENCES))
    texts = ["a brown dog runs on the grass", "a dog is running on a beach", "a man"]
    samples = torch.tensor([[ids(tokenizer, text) for text in texts]])
    plain, both = (CaptionReward(references, tokenizer, bleu=w)(samples, [0]) for w in (0, 0.5))
    ended = {i: [f"{text} </s>"] for i, text in enumerate(texts)}
    theirs = {i: [f"{t} </s>" for t in REFERENCES[0]] for i in ended}
    # Each candidate as a corpus of one text.
    expected = [bleu({i: ended[i][0]}, {i: theirs[i]}, tokenized=True).corpus[3] for i in ended]
    assert (both - plain)[0].tolist() == pytest.approx([0.5 * x for x in expected], abs=1e-6)
    message = CaptionReward(references, tokenizer, bleu=0.5).describe()
    assert "0.5 x BLEU-4" in message
    assert "3 training images" in message


def test_reward_is_cider_d_with_eos_as_a_word(tokenizer):
    reward = CaptionReward(dict(enumerate(REFERENCES)), tokenizer)
    texts = ["a brown dog runs on the grass", "a dog with a", "a man on a beach", "a red ladder"]
    samples = torch.tensor([[ids(tokenizer, t) for t in texts]] * 2)
    references = {i: [f"{t} </s>" for t in texts] for i, texts in enumerate(REFERENCES)}
    metric = CiderD(references, tokenized=True)
    for b, image in enumerate((0, 1)):
        expected = metric.score([[*t.split(), "</s>"] for t in texts], [image] * len(texts))
        assert reward(samples, [0, 1])[b].tolist() == pytest.approx(expected.tolist())


def test_incomplete_caption_has_a_lower_reward(tokenizer):
    reward = CaptionReward(dict(enumerate(REFERENCES)), tokenizer)
    ended = ids(tokenizer, "a dog is running")
    cut = ids(tokenizer, "a dog is running", ended=False)
    whole, broken = reward(torch.tensor([[ended, cut]]), [0])[0]
    assert whole > broken
    # Without EOS as a word, a dangling "with a" would have a higher reward than the caption that
    # ends before it, since both words are in the references.
    dangling = ids(tokenizer, "a dog is running with a", ended=False)
    assert reward(torch.tensor([[ended, dangling]]), [0])[0].argmax() == 0


def test_self_critical_loss_is_the_sum_of_advantage_times_log_probability():
    torch.manual_seed(0)
    samples = torch.tensor([[[4, 5, EOS], [4, EOS, PAD]], [[5, 5, 5], [EOS, PAD, PAD]]])
    rewards = torch.tensor([[1.0, 0.2], [0.0, 0.7]])
    places = samples != PAD
    logits = torch.randn(int(places.sum()), 7, requires_grad=True)
    loss = self_critical_loss(logits, samples, advantages(rewards, 2))
    table = torch.full((2, 2, 3, 7), 0.0)
    table[places] = logits.detach().log_softmax(-1)
    expected = 0.0
    for b in range(2):
        for k in range(2):
            advantage = rewards[b, k] - rewards[b, 1 - k]
            for t in range(3):
                if samples[b, k, t] != PAD:
                    expected -= advantage * table[b, k, t, samples[b, k, t]]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    # A step against the gradient raises the logits of the tokens of a better sample.
    assert logits.grad[0, 4] < 0
    assert logits.grad[3, 4] > 0


def test_decoder_input_is_the_shifted_sample():
    labels = torch.tensor([[[4, 5, EOS, PAD], [6, EOS, PAD, PAD]]])
    expected = torch.tensor([[[BOS, 4, 5, PAD], [BOS, 6, PAD, PAD]]])
    assert torch.equal(decoder_input(labels), expected)


def test_policy_learns_the_rewarded_caption(tokenizer):
    """A table of logits per image and position, trained on its own samples only."""
    torch.manual_seed(0)
    texts = [ids(tokenizer, normalize_caption(refs[0]), length=30) for refs in REFERENCES]
    reward = CaptionReward(dict(enumerate(REFERENCES)), tokenizer)
    table = torch.full((3, 30, len(tokenizer)), -6.0)
    for b, row in enumerate(texts):
        for t, i in enumerate(row):
            table[b, t, i if i != PAD else EOS] = 1.5
    table.requires_grad_()
    optimizer = torch.optim.Adam([table], lr=0.05)
    means = []
    for _ in range(60):
        place = iter(range(30))
        samples = sample(
            lambda tokens, place=place: table.detach()[:, next(place)][:, None].expand(-1, 8, -1),
            torch.rand(30, 3, 8),
            bos=BOS,
            eos=EOS,
            pad=PAD,
        )
        rewards = reward(samples, [0, 1, 2])
        spread = table[:, None, : samples.shape[2]].expand(-1, 8, -1, -1)
        gains = advantages(rewards, 8)
        loss = self_critical_loss(spread[samples != PAD], samples, gains)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        means.append(rewards.mean().item())
    assert sum(means[-10:]) > 1.5 * sum(means[:10])
