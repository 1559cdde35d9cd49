"""A gallery: an image and a signal in every code, as figures, animations and one page that shows them all."""

import math
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
from rich.console import Console

from experiments import config, exhibits
from experiments.codes import Codes, encode_images
from jsnn import augment, data, memory


class Gallery(NamedTuple):
    """A gallery that is ready to be drawn, and where."""

    settings: config.Gallery
    folder: Path
    codes: Codes

    def draw(self, console: Console) -> int:
        """Draw everything, and only then make the folder; returns the exit status, 0 done or 130 interrupted.

        Raises:
            OSError: if the folder cannot be written, or another command has made it meanwhile.
        """
        begin = time.monotonic()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{self.folder.name}-", dir=self.folder.parent) as temporary:
            here = Path(temporary) / "gallery"
            here.mkdir()
            try:
                exhibits.draw(self.settings, self.codes, here)
            except KeyboardInterrupt:
                console.print("stopped; nothing was written")
                return 130
            try:
                os.replace(here, self.folder)
            except OSError as error:
                raise FileExistsError(
                    f"{self.folder} was made by another command meanwhile: give another --workdir"
                ) from error
        count = len(list((self.folder / "figures").iterdir()))
        console.print(f"{count} figures in {time.monotonic() - begin:.1f} s")
        console.print(f"look at {self.folder / 'report.html'}")
        return 0


def prepare(settings: config.Gallery, folder: Path) -> Gallery:
    """Load the images and encode them, so that mistakes are found before anything is drawn.

    Raises:
        FileNotFoundError: if the data set is not there.
        MemoryError: if the spikes of the batch do not fit.
        ValueError: if the image or the pixel is not in it, or an encoder refuses a setting; it says which.
    """
    whole = data.load(settings.data, settings.split)
    if not isinstance(whole, data.Dataset):
        raise ValueError(f"data must name a set of images, and {settings.data!r} holds recordings")
    part = data.subset(whole, settings.subset)
    count = min(settings.batch_size, len(part))
    memory.check_fits(
        2 * settings.num_steps * count * math.prod(whole.images.shape[1:3]) * 4,  # spikes, and what draws them
        cure="take fewer num_steps or a smaller batch_size",
    )
    images = jnp.mean(augment.to_float(jnp.asarray(part.images[: settings.batch_size])), axis=-1)  # colours become grey
    names = part.class_names or list(map(str, range(part.num_classes)))
    labels = [names[label] for label in part.labels[: len(images)]]
    return Gallery(settings, folder, encode_images(settings, (len(whole), len(part)), images, labels))
