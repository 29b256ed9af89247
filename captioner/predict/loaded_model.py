"""A backend with the configuration of its checkpoint: the base of `Captioner`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from captioner.backends.base import Backend, Memory
from captioner.backends.model_inputs import ModelInput
from captioner.config import Config
from captioner.errors import CaptionerError, InputError
from captioner.generation.constraints import build_constraints
from captioner.images.transforms import PixelSpec
from captioner.predict.questions import AnswerOptions, ClosedSet
from captioner.predict.reading import encode_images
from captioner.predict.results import Encoded
from captioner.predict.texts import encode_question, encode_text
from captioner.tokenizer import Tokenizer

if TYPE_CHECKING:
    import torch

    from captioner.model.seq2seq import Seq2Seq
    from captioner.predict.loading import Origin

CACHED = 8
"""Closed answer sets and constraints that a captioner keeps."""
Model = TypeVar("Model", bound="LoadedModel")


class LoadedModel:
    """The state of a captioner: properties, caches, copies, memories of inputs."""

    def __init__(self, backend: Backend, config: Config) -> None:
        self.backend, self.config = backend, config
        self.tokenizer = backend.tokenizer
        """The tokenizer of the model."""
        self.model: Any = backend.models[0]
        """The torch module, or the sessions of ONNX Runtime; of an ensemble, the first."""
        self.max_length = backend.max_length
        """The largest number of tokens of a text, EOS included."""
        known = backend.answers
        closed = partial(ClosedSet, tokenizer=self.tokenizer, config=config, known=known)
        self._closed_set = lru_cache(CACHED)(closed)
        lowercase = config.data.lowercase
        build = partial(build_constraints, tokenizer=self.tokenizer, lowercase=lowercase)
        self._constraints = lru_cache(CACHED)(build)
        self._origin: Origin | None = None

    @classmethod
    def of_model(
        cls: type[Model],
        model: Seq2Seq,
        tokenizer: Tokenizer,
        config: Config,
        *,
        others: Sequence[tuple[Seq2Seq, Config]] = (),
        device: str | torch.device = "cpu",
        dtype: str = "float32",
        tta: int = 1,
        compile: bool = False,
    ) -> Model:
        """Return a captioner of a torch model in memory, which is changed in place.

        `others` are the other members of an ensemble. See `captioner.load` for the options.
        """
        from captioner.backends.torch_members import build_backend

        members = [(model, config), *others]
        backend = build_backend(
            members, tokenizer, device=device, dtype=dtype, tta=tta, compile=compile
        )
        return cls(backend, config)

    def __copy__(self: Model) -> Model:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled and packed modules cannot be copied; the checkpoint can be loaded again.
        if self._origin is None:
            raise CaptionerError(
                "this captioner was made of a model in memory and cannot be pickled or copied;"
                " save the model as a checkpoint and use captioner.load"
            )
        from captioner.predict.loading import load_again

        origin = self._origin
        return load_again, (origin.names, origin.options, origin.fingerprint())

    @property
    def view(self) -> tuple[tuple[int, int], bool] | None:
        """Height and width that images are resized to, and whether they are cropped for it.

        None if the model takes no images, or images of any size.
        """
        if not self.backend.specs:
            return None
        (spec,) = set(self.backend.specs)  # the members of an ensemble must agree
        return (spec.size, spec.resize == "crop") if isinstance(spec, PixelSpec) else None

    @property
    def audio_rate(self) -> int | None:
        """Samples per second of recordings; None if the model takes no recordings."""
        specs = (*self.backend.specs, *self.backend.audio_specs)
        rates = {spec.rate for spec in specs if not isinstance(spec, PixelSpec)}
        if len(rates) > 1:  # a server decodes a recording once for all members
            raise CaptionerError("the members of the ensemble take recordings of different rates")
        return next(iter(rates), None)

    @property
    def captions(self) -> bool:
        """Whether the model captions; False if it answers questions only."""
        return self.backend.captions

    @property
    def dtype(self) -> Any:
        """The type of the arithmetic: a `torch.dtype`, or a string with ONNX Runtime."""
        return self.backend.dtype

    def _answer_options(
        self, answers: Sequence[str] | None, num_answers: int, min_confidence: float,
        beam_size: int | None,
    ) -> AnswerOptions:  # fmt: skip
        self._check_questions()
        if isinstance(answers, str):
            raise CaptionerError(f"answers={answers!r}: expected a list of texts")
        closed = None if answers is None else self._closed_set(tuple(answers))
        return AnswerOptions.resolve(self.config, closed, num_answers, min_confidence, beam_size)

    def _classifies(self, question: str | None) -> bool:
        """Return whether there is a question, which the model classifies."""
        return question is not None and bool(self.backend.answers)

    def _check_captions(self) -> None:
        if not self.backend.captions:
            raise CaptionerError(
                "this model answers questions only; ask a question (--question, or in the request)"
            )

    def _check_questions(self) -> None:
        if self.config.model.question is None:
            raise CaptionerError(
                "this checkpoint captions only and cannot answer questions; use one that was"
                " trained with model.question, or a public model that answers questions"
            )

    def _memory(self, image: ModelInput | Encoded, question: str | None) -> tuple[Memory, float]:
        """Return the memory that a text is decoded from, and the temperature of its logits."""
        if question is None:
            self._check_captions()
        memory = self._encode(image).memory
        if question is None:
            return memory, 1.0
        self._check_questions()
        ids = encode_question(question, tokenizer=self.tokenizer, config=self.config)
        (fused,) = self.backend.encode_questions([memory], [ids], [0])
        return fused, self.config.answers.temperature

    def _encode(self, image: ModelInput | Encoded) -> Encoded:
        (encoded,) = encode_images(self.backend, [image])
        if isinstance(encoded, InputError):
            raise encoded
        return encoded

    def _encode_text(self, text: str) -> list[int]:
        lowercase, length = self.config.data.lowercase, self.max_length
        return encode_text(text, tokenizer=self.tokenizer, max_length=length, lowercase=lowercase)
