"""Several images on one sheet."""

from collections.abc import Sequence

from PIL import Image


def image_grid(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """An RGB sheet with the images row by row, without gaps; unused cells are black.

    Raises:
        ValueError: no images, images of several sizes, or fewer than one column.
    """
    if columns < 1:
        raise ValueError(f"columns is {columns}; give at least 1")
    if not images:
        raise ValueError("there are no images to show; give at least one")
    sizes = sorted({image.size for image in images})
    if len(sizes) > 1:
        raise ValueError(f"the images have sizes {sizes}; resize them to one size first")
    width, height = sizes[0]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height))
    for index, image in enumerate(images):
        sheet.paste(image.convert("RGB"), (index % columns * width, index // columns * height))
    return sheet
