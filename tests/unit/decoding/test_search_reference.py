"""Compare the searches with those of transformers on a tiny MBart with the same weights."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from captioner.decoding import Hypothesis, beam_search, greedy_search
from captioner.decoding.torch_arrays import arrays_on
from captioner.model.transformer_decoder import TransformerDecoder

PAD, START, END, VOCAB, WIDTH, LONGEST, INPUTS = 0, 2, 3, 17, 16, 12, 60
SEEDS = (14, 22, 28)  # models whose sequences have many lengths, for every penalty


@cache
def mbart(seed: int):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.MBartConfig(
        vocab_size=VOCAB,
        d_model=WIDTH,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=2 * LONGEST,
        pad_token_id=PAD,
        bos_token_id=START,
        eos_token_id=END,
        decoder_start_token_id=START,
        forced_eos_token_id=None,
        scale_embedding=False,
        dropout=0.0,
    )
    model = transformers.MBartForConditionalGeneration(config).eval()
    decoder = model.model.decoder
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.ones_(parameter)
        else:
            torch.nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        # Sharp distributions that depend on position and memory, so that lengths vary.
        decoder.layer_norm.weight.fill_(3)
        decoder.layer_norm.bias.zero_()
        decoder.embed_positions.weight *= 2
        for layer in decoder.layers:
            layer.encoder_attn.out_proj.weight *= 2
    return model


@cache
@torch.no_grad()
def inputs(seed: int) -> tuple[Tensor, Tensor]:
    """Return token inputs of MBart's encoder and its outputs."""
    torch.manual_seed(seed)
    ids = torch.randint(4, VOCAB, (INPUTS, 6))
    return ids, mbart(seed).model.encoder(input_ids=ids).last_hidden_state


def transformers_search(
    seed: int, *, beams: int, penalty: float, early: bool | str
) -> tuple[list[list[list[int]]], list[float]]:
    out = mbart(seed).generate(
        input_ids=inputs(seed)[0],
        attention_mask=torch.ones_like(inputs(seed)[0]),
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=penalty,
        early_stopping=early,
        max_new_tokens=LONGEST,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    found = []
    for row in out.sequences[:, 1:].tolist():
        end = row.index(END) + 1 if END in row else LONGEST
        found.append(row[:end])
    rows = [found[i : i + beams] for i in range(0, len(found), beams)]
    return rows, out.sequences_scores.tolist() if beams > 1 else []


@torch.inference_mode()
def our_search(seed: int, *, beams: int, penalty: float, stop: str) -> list[list[Hypothesis]]:
    decoder = TransformerDecoder(
        VOCAB, width=WIDTH, heads=2, ffn=16, layers=2, max_length=LONGEST, pad=PAD
    ).eval()
    decoder.from_mbart(mbart(seed).model.decoder.state_dict())
    memory = inputs(seed)[1]
    cache = decoder.start(memory, INPUTS * beams, LONGEST)
    options = {"images": INPUTS, "bos": START, "eos": END, "max_length": LONGEST}
    options |= {"arrays": arrays_on("cpu")}
    if stop == "greedy":
        return greedy_search(lambda x: decoder.step(x, cache), **options)
    return beam_search(
        lambda x: decoder.step(x, cache),
        cache.reorder,
        beams=beams,
        length_penalty=penalty,
        stop=stop,
        **options,
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("stop", "early"), [("first", True), ("heuristic", False), ("exact", "never")]
)
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
def test_beam_search_matches_transformers(
    penalty: float, stop: str, early: bool | str, seed: int
) -> None:
    expected, scores = transformers_search(seed, beams=5, penalty=penalty, early=early)
    found = our_search(seed, beams=5, penalty=penalty, stop=stop)
    assert [[h.tokens for h in hypotheses] for hypotheses in found] == expected
    assert [h.score for hypotheses in found for h in hypotheses] == pytest.approx(scores, rel=1e-4)
    # The results vary in length and content, so that agreement is meaningful.
    best = [tuple(hypotheses[0].tokens) for hypotheses in found]
    assert len(set(map(len, best))) > 2
    assert len(set(best)) > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_greedy_search_matches_transformers(seed: int) -> None:
    expected, _ = transformers_search(seed, beams=1, penalty=1.0, early=False)
    for stop in ("greedy", "heuristic"):
        found = our_search(seed, beams=1, penalty=1.0, stop=stop)
        assert [[h.tokens for h in hypotheses] for hypotheses in found] == expected
