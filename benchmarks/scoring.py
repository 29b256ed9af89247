"""Compare the time of BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D with pycocoevalcap 1.2 in the same run.

    python benchmarks/scoring.py --pairs 5000

Candidates are captions of another image, or of the same image with words dropped; each image has
five references. Both libraries score the same tokens in alternation, and medians are compared.
"tokenize + score" starts from raw text with an empty cache and is compared with only the scoring of
pycocoevalcap, without its Java tokenizer. The agreement of the two tokenizers is measured as well.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from captioner.metrics import ptb_tokenizer, score_captions, tokenize  # noqa: E402

Candidates = dict[int, str]
References = dict[int, list[str]]
Scores = dict[str, float]


def read_texts(path: Path, *, pairs: int) -> tuple[Candidates, References]:
    """Return `pairs` images of Flickr8k.token.txt: a made-up candidate and five references each."""
    groups: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line:
            continue
        name, _, text = line.partition("\t")
        groups.setdefault(name.split("#")[0], []).append(text)
    if len(groups) < 2:
        raise SystemExit(f"{path}: expected lines of IMAGE#N<tab>CAPTION for at least 2 images")
    references = dict(enumerate(list(groups.values())[:pairs]))
    draw = random.Random(0)
    candidates = {}
    for i, own in references.items():
        words = [word for word in draw.choice(own).split() if draw.random() < 0.8]
        other = references[(i + 1) % len(references)][0]
        candidates[i] = " ".join(words) if draw.random() < 0.5 else other
    return candidates, references


def score_with_pycocoevalcap(candidates: Candidates, references: References) -> Scores:
    """Return the scores of tokenized texts by pycocoevalcap."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    results = {image: [text] for image, text in candidates.items()}
    with contextlib.redirect_stdout(io.StringIO()):
        bleu, _ = Bleu(4).compute_score(references, results)
    scores = {f"BLEU-{n}": value for n, value in enumerate(bleu, start=1)}
    scores["ROUGE-L"] = float(Rouge().compute_score(references, results)[0])
    scores["CIDEr-D"] = float(Cider().compute_score(references, results)[0])
    return scores


def compare_tokenizers(texts: list[str]) -> str:
    """Return the share of texts with the same tokens as in Java, as a line of the report."""
    if shutil.which("java") is None:
        return "texts with the tokens of Java: not measured (no java on the PATH)"
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    start = time.perf_counter()
    theirs = PTBTokenizer().tokenize({0: [{"caption": text} for text in texts]})[0]
    seconds = time.perf_counter() - start
    equal = sum(tokenize(a) == b.split() for a, b in zip(texts, theirs, strict=True))
    share = 100 * equal / len(texts)
    count = f"{equal} of {len(texts)} ({share:.3f} %)"
    return f"texts with the tokens of Java: {count}; Java took {seconds:.2f} s"


def measure(
    function: Callable[..., Scores], *arguments: object, **options: object
) -> tuple[float, Scores]:
    """Return the seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = function(*arguments, **options)
    return time.perf_counter() - start, result


def score_raw_text(candidates: Candidates, references: References) -> Scores:
    """Return the scores of raw text, tokenized with an empty cache."""
    ptb_tokenizer._cache.clear()
    return score_captions(candidates, references)


def compare(candidates: Candidates, references: References, *, rounds: int) -> None:
    """Run all three in alternation; print medians, ratios and the largest difference."""
    tokens = {image: " ".join(tokenize(text)) for image, text in candidates.items()}
    reference_tokens = {
        image: [" ".join(tokenize(text)) for text in texts] for image, texts in references.items()
    }
    seconds: dict[str, list[float]] = {"ours": [], "ours_raw": [], "theirs": []}
    for _ in range(rounds):
        elapsed, ours = measure(score_captions, tokens, reference_tokens, tokenized=True)
        seconds["ours"].append(elapsed)
        elapsed, theirs = measure(score_with_pycocoevalcap, tokens, reference_tokens)
        seconds["theirs"].append(elapsed)
        elapsed, raw = measure(score_raw_text, candidates, references)
        seconds["ours_raw"].append(elapsed)
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name in theirs:
        print(f"{name:8} {ours[name]:.12f}  pycocoevalcap {theirs[name]:.12f}")
    difference = max(abs(s[name] - theirs[name]) for name in theirs for s in (ours, raw))
    print(f"largest difference: {difference:.1e}")
    print(f"pycocoevalcap, score only:  {median['theirs']:.3f} s")
    for name, label in (("ours", "score only"), ("ours_raw", "tokenize + score")):
        ratio = median[name] / median["theirs"]
        print(f"captioner, {label}: {median[name]:.3f} s = {ratio:.3f} x pycocoevalcap")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT.parent / "shared/flickr8k/Flickr8k_text/Flickr8k.token.txt"
    parser.add_argument("--captions", type=Path, default=default, help="a Flickr8k.token.txt")
    parser.add_argument("--pairs", type=int, default=5000, help="images to score (5000)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (5)")
    arguments = parser.parse_args()
    if not arguments.captions.is_file():
        parser.error(f"{arguments.captions}: no such file; give --captions a Flickr8k.token.txt")
    if arguments.pairs < 2 or arguments.rounds < 1:
        parser.error("--pairs must be at least 2 and --rounds at least 1")
    try:
        import pycocoevalcap  # noqa: F401
    except ImportError:
        parser.error("the peer is missing: pip install pycocoevalcap==1.2")
    candidates, references = read_texts(arguments.captions, pairs=arguments.pairs)
    texts = [*candidates.values(), *(text for group in references.values() for text in group)]
    print(f"{len(candidates)} candidates, {len(texts) - len(candidates)} references")
    print(compare_tokenizers(texts))
    compare(candidates, references, rounds=arguments.rounds)


if __name__ == "__main__":
    main()
