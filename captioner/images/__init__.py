"""Load images: any input (path, bytes, binary file, PIL image, array) to RGB, or one error type.

The result is 8-bit RGB and upright (EXIF orientation applied), with alpha composited on white. It
is the first frame, completely decoded, without metadata, or the largest preview in a RAW file. Gray
values of more than 8 bits are scaled, never clipped:

* 16-bit integers: 0..65535 to 0..255 (12-bit TIFF: 0..4095).
* Wider integers: 0..255 unchanged, 0..65535 like 16 bits. Floats: 0..1 times 255, 0..255
  unchanged; these may exceed the range by a tenth, as after resampling.
* Any other range: minimum..maximum to 0..255. In an array it is an error, because it is probably a
  normalized tensor.
"""

from __future__ import annotations

from captioner.images.loader import ImageInput, load_image
from captioner.images.resize import center_box, fit, is_blank

__all__ = ["ImageInput", "center_box", "fit", "is_blank", "load_image"]
