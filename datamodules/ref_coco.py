"""RefCOCO, RefCOCO+ and RefCOCOg: expressions about one object of an image."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from datamodules.dataset import VideoRecord, read_json
from datamodules.errors import BadSampleError
from datamodules.image_dataset import ImageDataset
from datamodules.json_fields import read_field, read_list
from datamodules.masks import MaskReader
from datamodules.polygons import polygons_to_rle
from datamodules.sampling import FrameSelection

#: name -> folder of its annotations, and its splits
_PARTITIONS = {
    "refcoco": ("refcoco-unc", ("train", "val", "testA", "testB")),
    "refcoco+": ("refcocoplus-unc", ("train", "val", "testA", "testB")),
    "refcocog": ("refcocog-umd", ("train", "val", "test")),
}


class RefCOCO(ImageDataset):
    """RefCOCO, RefCOCO+ (UNC's splits) and RefCOCOg (UMD's splits): 142K, 142K and 95K expressions about COCO's images.

    Every sentence is a record. The original ``refs(unc).p`` is a pickle, which is not opened; the annotations are
    SeqTR's JSON of the same content, from the folder "preprocessed json files" that its README links.

    Dataset format::

        root/annotations/{refcoco-unc,refcocoplus-unc,refcocog-umd}/instances.json
        root/images/mscoco/train2014/COCO_train2014_000000000072.jpg

    ``{split: [{"image_id": int, "height": int, "width": int, "expressions": [str], "mask": polygons or RLE}]}``.
    Polygons become masks as pycocotools does it.

    Args:
        root: folder of the dataset, SeqTR's ``data``.
        name: ``refcoco``, ``refcoco+`` or ``refcocog``.
        split: ``train``, ``val``, ``testA`` (people) or ``testB`` (other objects); of RefCOCOg ``train``, ``val`` or
            ``test``.
        selection: which frames make a sample; there is one.
        on_bad_sample: what to do with a sample that cannot be used.
        seed: source of every random choice, with epoch and index.

    Reference:
        Modeling Context in Referring Expressions (ECCV 2016), https://github.com/lichengunc/refer; Generation and
        Comprehension of Unambiguous Object Descriptions (CVPR 2016); SeqTR (ECCV 2022),
        https://github.com/seanzhuh/SeqTR
    """

    def __init__(
        self,
        root: str | Path,
        name: Literal["refcoco", "refcoco+", "refcocog"] = "refcoco",
        split: Literal["train", "val", "testA", "testB", "test"] = "train",
        selection: FrameSelection | None = None,
        on_bad_sample: Literal["error", "skip"] = "error",
        seed: int = 0,
    ) -> None:
        if name not in _PARTITIONS:
            raise ValueError(f"Expected `name` of RefCOCO to be of {list(_PARTITIONS)}, but got {name!r}")
        folder, splits = _PARTITIONS[name]
        if split not in splits:
            raise ValueError(f"Expected `split` of {name} to be of {list(splits)}, but got {split!r}")
        super().__init__(root, split, selection, None, on_bad_sample, seed)
        self.name = name
        self.instances_file = self.root / "annotations" / folder / "instances.json"

    @property
    def images(self) -> Path:
        """Folder of the images."""
        return self.root / "images" / "mscoco" / "train2014"

    @property
    def files(self) -> list[Path]:
        """Files and folders without which the dataset cannot be read."""
        return [self.images, self.instances_file]

    def records(self) -> Iterator[VideoRecord]:
        """Return every expression, image by image, within one in the order of the file.

        Raises:
            ValueError: if the file has another layout.
        """
        said: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for number, instance in enumerate(self._instances()):
            place = f"instance {number} of {self.split!r} in `{self.instances_file}`"
            image = f"COCO_train2014_{read_field(instance, 'image_id', int, place):012d}"
            for field, kind in (("height", int), ("width", int), ("mask", (list, dict))):
                read_field(instance, field, kind, place)
            said[image] += [(text, number) for text in read_list(instance, "expressions", str, place)]
        for image, expressions in said.items():
            for each, (text, number) in enumerate(expressions):
                yield self.record(image, each, text, annotation=number)

    def masks(self, record: VideoRecord) -> MaskReader:
        """Return the reader of the object's mask.

        Raises:
            BadSampleError: if it cannot be read, or does not fit the image.
        """
        instance = self._instances()[record.annotation]
        mask = instance["mask"]
        try:
            cell = polygons_to_rle(mask, (instance["height"], instance["width"])) if isinstance(mask, list) else mask
        except ValueError as error:
            where = f"`mask` of instance {record.annotation} of {self.split!r} in `{self.instances_file}`"
            raise BadSampleError(f"{record.key!r}, {where}: {error}", "malformed mask") from error
        return self.reader([[cell]], record)

    def _instances(self) -> list[Any]:
        return read_field(read_json(self.instances_file), self.split, list, f"`{self.instances_file}`")  # type: ignore[no-any-return]
