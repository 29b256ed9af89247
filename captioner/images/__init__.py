"""Any image input (path, bytes, binary file, PIL image, array) -> a clean RGB image, or one error.

Clean: 8-bit RGB, upright (EXIF orientation applied), alpha composited on white, the first frame,
every row decoded, no metadata left. Deep greys are scaled to 8 bits, never clipped:
* 16 bits: 0..65535 -> 0..255 (12-bit TIFF: 0..4095).
* wider integers: 0..255 as they are, 0..65535 as 16 bits;
  floats: 0..1 times 255, 0..255 as they are; both may be overshot by a tenth, as resampling does.
* any other range: minimum..maximum stretched; but refused in an array (a normalised tensor?).
"""

from __future__ import annotations

from captioner.images.loader import load_image
from captioner.images.resize import center_box, fit, is_blank

__all__ = ["center_box", "fit", "is_blank", "load_image"]
