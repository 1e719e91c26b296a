"""What an export says to whoever finds it."""

from collections.abc import Mapping
from typing import Any

from vaelab.exporters import onnxruntime_web

ONNX = """\
# {run} in ONNX

Encoder, decoder and likelihood of a variational autoencoder, made by vaelab {vaelab}. Images are float32
[batch, {channels}, {height}, {width}] in [0, 1], codes float32 [batch, {latent_dim}]; any batch size.

| graph | in | out |
| --- | --- | --- |
| encoder.onnx | x | mean, log_var: the posterior q(z\\|x) |
| decoder.onnx | z | image: the expected image; decoded: what the decoder returns, for the likelihood ({likelihood}) |
| likelihood.onnx | decoded, x | error: reconstruction error as the objective counts it, nats per image |

```python
import numpy as np
import onnxruntime

encoder, decoder = (onnxruntime.InferenceSession(f"{{name}}.onnx") for name in ("encoder", "decoder"))
x = np.zeros((1, {channels}, {height}, {width}), np.float32)  # your images, in [0, 1]
mean, log_var = encoder.run(["mean", "log_var"], {{"x": x}})
(reconstruction,) = decoder.run(["image"], {{"z": mean}})
z = np.random.default_rng(0).standard_normal((16, {latent_dim}), np.float32)
(samples,) = decoder.run(["image"], {{"z": z}})
```
"""

WEB = """\
# The latent space of {run}

A page on which one moves through the latent space of a variational autoencoder and watches it decode, made by vaelab
{vaelab}. It needs no server of its own and no Python: the networks run in the browser. It carries {count:,} of the
{total:,} training images: whoever can open it can see them.

## To look at it here

    python -m http.server --bind 127.0.0.1

in this folder, then open http://127.0.0.1:8000. Opened as a file from the disk it stays empty, for browsers load no
modules from there; `vaelab export RUN --to web --single-file` makes a page that opens from the disk.

## To host it

Put the folder on any host of static files. Every address in it is relative, so it may lie in any path; no special
headers are needed. `.wasm` should be sent as application/wasm, `.js` and `.mjs` must be sent as text/javascript, as
nearly every host does by itself. Compression (gzip or Brotli) takes the runtime from 14 to about 4 MB.

{runtime}

## What it holds

| part | bytes |
| --- | --- |
{sizes}

manifest.json lists every file with its size and SHA-256.
"""
CARRIED = "The runtime, {package} {version} (MIT licence), is in it: nothing is fetched from anywhere else."
LINKED = """\
The runtime, {package} {version} (MIT licence), is not in it: the page fetches it from {cdn} and checks it against its
SHA-256. To carry it along, export again where npm is, or with `--runtime FOLDER`."""


def write_onnx_readme(about: Mapping[str, str], image_shape: tuple[int, int, int]) -> str:
    """The README of a folder of graphs; ``about`` is what is in them."""
    channels, height, width = image_shape
    return ONNX.format(channels=channels, height=height, width=width, **about)


def write_web_readme(payload: Mapping[str, Any], files: Mapping[str, bytes], runtime: onnxruntime_web.Runtime) -> str:
    """The README of an exported page."""
    words = (CARRIED if runtime.files else LINKED).format(
        package=onnxruntime_web.PACKAGE, version=onnxruntime_web.VERSION, cdn=onnxruntime_web.CDN
    )
    sizes = "\n".join(f"| {part} | {size:,} |" for part, size in sum_parts(files).items())
    about = {key: payload[key] for key in ("run", "vaelab", "count", "total")}
    return WEB.format(runtime=words, sizes=sizes, **about)


def sum_parts(files: Mapping[str, bytes]) -> dict[str, int]:
    """Bytes of each part of an exported page."""
    kinds = {"page": "page", "runtime": "runtime", "model": "networks"}
    sums: dict[str, int] = {}
    for name, content in files.items():
        folder, _, file = name.rpartition("/")
        part = kinds.get(folder, "page")
        if file.endswith(".bin"):
            part = "images" if file == "images.bin" else "points"
        sums[part] = sums.get(part, 0) + len(content)
    return sums
