"""Validation: caption every image once, over all ranks, and score."""

from __future__ import annotations

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.utils.data import DataLoader
from tqdm import tqdm

from captioner.config import DecodingConfig
from captioner.data import Report
from captioner.data.collate import collate
from captioner.data.dataset import CaptionDataset
from captioner.infer import search
from captioner.metrics import score_captions
from captioner.model.seq2seq import Seq2Seq
from captioner.tokenizer import Tokenizer
from captioner.training.setup import report_unreadable


def caption_dataset(
    model: Seq2Seq,
    dataset: CaptionDataset,
    *,
    tokenizer: Tokenizer,
    decoding: DecodingConfig,
    accelerator: Accelerator,
    report: Report,
    batch_size: int = 32,
) -> dict[int, str]:
    """Row number to caption, on every rank; images that cannot be read are left out, reported."""
    rank, world = accelerator.process_index, accelerator.num_processes
    # Rows are dealt out here, since a training sampler may leave out the last few.
    mine = list(range(rank, len(dataset), world))
    batches = [
        [(0, i) for i in mine[at : at + batch_size]] for at in range(0, len(mine), batch_size)
    ]
    model.eval()
    captions, unreadable = [], []
    loader = DataLoader(dataset, batch_sampler=batches, collate_fn=collate)
    for batch in tqdm(loader, desc="validation", leave=False, disable=rank != 0):
        unreadable.extend(batch.unreadable)
        if batch.images is None:
            continue
        with accelerator.autocast():
            found = search(model, batch.to(accelerator.device).images, decoding)
        texts = (tokenizer.decode(hypotheses[0].tokens) for hypotheses in found)
        captions.extend(zip(batch.indices, texts, strict=True))
    report_unreadable(gather_object(unreadable), dataset.rows, report)
    return dict(gather_object(captions))


def score_dataset(captions: dict[int, str], dataset: CaptionDataset) -> dict[str, float]:
    """The metrics of captions by row number against the data set's references."""
    references = dataset.rows["references"]
    return score_captions(captions, {i: references[i] for i in captions})
