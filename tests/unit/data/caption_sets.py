"""Small data sets of captions, one per format, all with the same content."""

from __future__ import annotations

import json
from pathlib import Path

from data_files import pictures, write

from captioner.data import (
    Example,
)


def content(rows: list[Example]) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {row.image_id: (row.split, row.references) for row in rows}


# Image id -> split and captions; the id is the file name unless the format defines another.
CONTENT = {
    "a.jpg": ("train", ("A dog , running .", 'He says "hi" .')),
    "b.jpg": ("train", ("A cat on the left .",)),
    "c.jpg": ("val", ("Ein Bär \u2028 unter Bäumen 🐻",)),
}


def make_flickr8k(root: Path) -> None:
    lines = [f"{i}#{n}\t{text}\n" for i, (_, texts) in CONTENT.items() for n, text in texts_of(i)]
    write(root / "Flickr8k_text" / "Flickr8k.token.txt", "".join(lines))
    write(root / "Flickr8k_text" / "Flickr_8k.trainImages.txt", "a.jpg\nb.jpg\n")
    write(root / "Flickr8k_text" / "Flickr_8k.devImages.txt", "c.jpg")
    pictures(root / "Flicker8k_Dataset", *CONTENT)


def texts_of(image: str):
    return enumerate(CONTENT[image][1])


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def make_kaggle(root: Path) -> None:
    lines = [f"{i},{quoted(text)}\n" for i in CONTENT for _, text in texts_of(i)]
    write(root / "captions.txt", "image,caption\n" + "".join(lines))
    write(root / "Flickr_8k.trainImages.txt", "a.jpg\nb.jpg\n")
    write(root / "Flickr_8k.devImages.txt", "c.jpg\n")
    pictures(root / "Images" / "Images", *CONTENT)  # some archives unpack to nested folders


def make_karpathy(root: Path) -> None:
    splits = {"a.jpg": "train", "b.jpg": "restval", "c.jpg": "val"}
    images = [
        {"filename": i, "split": splits[i], "sentences": [{"raw": t} for _, t in texts_of(i)]}
        for i in CONTENT
    ]
    write(root / "dataset_flickr8k.json", {"images": images, "dataset": "flickr8k"})
    pictures(root / "images", *CONTENT)


def make_coco(root: Path) -> None:
    for split in ("train", "val"):
        names = [i for i in CONTENT if CONTENT[i][0] == split]
        document = {
            "info": {},
            "images": [{"id": i, "file_name": i} for i in names],
            "annotations": [
                {"id": f"{i}{n}", "image_id": i, "caption": text}
                for i in names
                for n, text in texts_of(i)
            ],
        }
        write(root / "annotations" / f"captions_{split}2014.json", document)
        pictures(root / f"{split}2014", *names)


def make_flickr30k(root: Path) -> None:
    lines = [f"{i}| {n}| {text}\n" for i in CONTENT for n, text in texts_of(i)]
    write(root / "results.csv", "image_name| comment_number| comment\n" + "".join(lines))
    write(root / "train.txt", "a\nb\n")  # names without suffix, as in Flickr30k Entities
    write(root / "val.txt", "c\n")
    pictures(root / "flickr30k_images" / "flickr30k_images", *CONTENT)


def make_jsonl(root: Path) -> None:
    rows = [
        {"image": f"p/{i}", "captions": t, "split": s, "id": i} for i, (s, t) in CONTENT.items()
    ]
    write(root / "own.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    pictures(root / "p", *CONTENT)


def make_csv(root: Path) -> None:
    lines = [f"{CONTENT[i][0]},{i},{quoted(t)}\r\n" for i in CONTENT for _, t in texts_of(i)]
    write(root / "own.csv", "\ufeffsplit,image,caption\r\n" + "".join(lines))
    pictures(root, *CONTENT)


def make_folder(root: Path) -> None:
    rows = [{"file_name": i, "text": list(t), "split": s} for i, (s, t) in CONTENT.items()]
    write(root / "metadata.jsonl", "\r\n".join(map(json.dumps, rows)))
    pictures(root, *CONTENT)


def names_by_split() -> dict[str, list[str]]:
    return {split: [i for i in CONTENT if CONTENT[i][0] == split] for split in ("train", "val")}


def make_vizwiz_captions(root: Path) -> None:
    for split, names in names_by_split().items():
        document = {
            "info": {},
            "images": [{"file_name": i, "id": i, "text_detected": True} for i in names],
            "annotations": [
                {"id": f"{i}{n}", "image_id": i, "caption": text}
                | {"is_rejected": False, "is_precanned": False}
                for i in names
                for n, text in texts_of(i)
            ],
        }
        write(root / "annotations" / f"{split}.json", document)
        pictures(root / split, *names)


def make_textcaps(root: Path) -> None:
    for split, names in names_by_split().items():
        rows = [
            {"image_id": i, "image_path": f"{split}/{i}", "image_name": Path(i).stem}
            | {"set_name": split, "caption_str": text, "reference_strs": list(CONTENT[i][1])}
            for i in names
            for _, text in texts_of(i)
        ]
        document = {"dataset_name": "textcaps", "dataset_version": 0.1, "data": rows}
        write(root / f"TextCaps_0.1_{split}.json", document)
        pictures(root / "train_images", *names)


def make_llava(root: Path) -> None:
    for split, names in names_by_split().items():
        rows = [
            {"id": "1", "image": i, "conversations": [turn("human", prompt), turn("gpt", text)]}
            for i in names
            for prompt, (_, text) in zip(PROMPTS, texts_of(i), strict=False)
        ]
        write(root / f"{split}.json", rows)
        pictures(root / "images", *names)


PROMPTS = ("Describe this image briefly.\n<image>", "<image>\nWhat is this photo about?")


def turn(speaker: str, text: str) -> dict[str, str]:
    return {"from": speaker, "value": text}


MAKERS = {
    "flickr8k": make_flickr8k,
    "flickr8k_csv": make_kaggle,
    "karpathy": make_karpathy,
    "coco": make_coco,
    "flickr30k": make_flickr30k,
    "vizwiz_captions": make_vizwiz_captions,
    "textcaps": make_textcaps,
    "llava": make_llava,
    "jsonl": make_jsonl,
    "csv": make_csv,
    "folder": make_folder,
}
