"""Pictures: bytes to what a network takes, and a network's labels to pictures.

`decode` → `prepare` → (the network) → `fit_labels` → `mask_png`, `overlay_png`, `class_shares`. Everything here is a
pure function of its arguments, so any number of threads may call it.
"""

from service.images.decoding import PictureLimits, decode
from service.images.drawing import ClassShare, class_shares, input_png, mask_png, overlay_png
from service.images.headers import Header, read_header
from service.images.preparation import Prepared, fit_labels, prepare

__all__ = [
    "ClassShare",
    "Header",
    "PictureLimits",
    "Prepared",
    "class_shares",
    "decode",
    "fit_labels",
    "input_png",
    "mask_png",
    "overlay_png",
    "prepare",
    "read_header",
]
