"""Ask Sightline as one asks Triton: `python examples/triton_client.py [HOST:PORT]`. Needs tritonclient[http]."""

import sys
from pathlib import Path

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

HERE = Path(__file__).resolve().parent


def main(address: str = "127.0.0.1:8000") -> None:
    """Send a picture as it is encoded, and then pixels. `address` is HOST:PORT, without http:// before it."""
    with InferenceServerClient(address.removeprefix("http://").rstrip("/")) as client:
        picture = InferInput("images", [1], "BYTES")
        picture.set_data_from_numpy(np.array([(HERE / "seven.png").read_bytes()], np.object_))
        probabilities = client.infer("digits", [picture]).as_numpy("probabilities")
        print("digits:", probabilities[0].argmax(), f"with probability {probabilities[0].max():.4f}")

        (shape,) = (each["shape"] for each in client.get_model_metadata("streets")["inputs"])
        grey = np.full((1, *shape[1:]), 128, np.uint8)
        pixels = InferInput("images", list(grey.shape), "UINT8")
        pixels.set_data_from_numpy(grey)
        labels = client.infer("streets", [pixels]).as_numpy("labels")
        print("streets:", labels.shape, labels.dtype)


if __name__ == "__main__":
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__)
        sys.exit()
    try:
        main(*sys.argv[1:2])
    except (OSError, InferenceServerException) as error:
        sys.exit(f"{' '.join(sys.argv[1:2]) or '127.0.0.1:8000'}: {error}")
