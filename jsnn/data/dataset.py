"""Images and their labels as plain arrays."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jsnn.arguments import check_parameters, checked


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images and their labels in memory.

    `images` [N, H, W, C] are uint8 in 0..255, or floating point; [N, H, W] gains a channel axis. `labels` [N]
    are integers from 0, kept as int32. `num_classes` 0 stands for one more than the largest label.

    Raises:
        ValueError: for another shape or type, no images at all, or labels outside 0..num_classes - 1.

    >>> Dataset(np.zeros((2, 8, 8), np.uint8), np.array([0, 3])).num_classes
    4
    """

    images: np.ndarray  # [N, H, W, C], uint8 or floating point
    labels: np.ndarray  # [N], int32
    name: str = "arrays"
    num_classes: int = 0
    class_names: tuple[str, ...] = ()  # empty where unknown

    def __post_init__(self) -> None:
        check_parameters(self)
        if not isinstance(self.class_names, tuple | list):
            raise TypeError(f"class_names must be a tuple of names, got {self.class_names!r}")
        if isinstance(self.images, jax.core.Tracer) or isinstance(self.labels, jax.core.Tracer):
            raise TypeError("images and labels must be known, got traced arrays: make a Dataset outside of jit")
        try:
            images, labels = np.asarray(self.images), np.asarray(self.labels)
        except (TypeError, ValueError) as error:
            raise TypeError(f"images and labels must be arrays of numbers: {error}") from error
        images = images[..., None] if images.ndim == 3 else images
        if images.ndim != 4:
            raise ValueError(f"images must have shape [N, H, W, C] or [N, H, W], got {images.shape}")
        if images.dtype != np.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(f"images must be uint8 (0..255) or floating point, got {images.dtype}: convert them")
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"labels must be integers of shape [N], got {labels.dtype} of shape {labels.shape}: "
                "one-hot labels become integers by labels.argmax(-1)"
            )
        if len(images) != len(labels):
            raise ValueError(f"images and labels must be as many, got {len(images)} and {len(labels)}")
        if len(images) == 0:
            raise ValueError(f"data set {self.name!r} holds no images")
        num_classes = self.num_classes or len(self.class_names) or int(labels.max()) + 1
        if labels.min() < 0 or labels.max() >= num_classes:
            raise ValueError(
                f"labels must lie in 0..{num_classes - 1}, got values from {labels.min()} to {labels.max()}"
            )
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", labels.astype(np.int32))
        object.__setattr__(self, "num_classes", num_classes)

    def __len__(self) -> int:
        return len(self.labels)


@checked
def subset(dataset: Dataset, factor: int) -> Dataset:
    """Every `factor`-th example, 1/factor of the data set; the number of classes stays.

    snnTorch's `utils.data_subset` takes as many, but as a block, the first of them: `load(name, "train[:6000]")`.

    Raises:
        ValueError: `factor` is not within 1..N.

    >>> import jsnn
    >>> digits = jsnn.data.load("digits", "train")
    >>> len(digits), len(subset(digits, 10))
    (1437, 144)
    """
    if not 1 <= factor <= len(dataset):
        raise ValueError(f"factor must lie in 1..{len(dataset)}, the number of examples, got {factor}")
    return dataclasses.replace(dataset, images=dataset.images[::factor], labels=dataset.labels[::factor])
